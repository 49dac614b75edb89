#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Arrows point down: a file includes only headers of its own layer or of one below. The layers
are the lists in meson.build, from the ground up. Also: one header includes uthash, for the files
of the index, and no file but os_posix.c makes system calls on files, os_posix_lock.c's flock() apart."""
import os
import re
import sys

text = open("meson.build", encoding="utf-8").read()
LAYERS = ["ground", "bytes", "siblings", "compactor", "engine"]
layer_of = {"tinykv": -1, "bytes": -1, "list": -1, "lock": -1, "usage": -1, "error": 0, "store": 4,
            "recovery": 4, "wal_private": 2, "index_line": 2, "hint_format": 2}
for number, name in enumerate(LAYERS):
    for path in re.findall(r"'([^']+\.c)'", re.search(rf"^{name} = files\((.*?)\)", text, re.S | re.M).group(1)):
        layer_of.setdefault(os.path.basename(path)[:-2], number)

problems = []
for directory in ("lib", "wal", "compactor"):
    for file in sorted(name for name in os.listdir(directory) if name.endswith((".c", ".h"))):
        path = os.path.join(directory, file)
        source = open(path, encoding="utf-8").read()
        source = re.sub(r"/\*.*?\*/", "", source, flags=re.S)
        own = layer_of.get(file[:-2])
        if own is None:
            problems.append(f"{path}: in no layer of meson.build")
            continue
        for header in re.findall(r'#include "([^"]+)\.h"', source):
            if layer_of.get(header, 99) > own:
                problems.append(f"{path}: includes {header}.h of a higher layer")
            if directory == "compactor" and header == "store":
                problems.append(f"{path}: the compactor never includes the store")
        if "<uthash.h>" in source and path != "lib/index_table.h":
            problems.append(f"{path}: only lib/index_table.h includes uthash.h")
        if re.search(r'"index_(table|line)\.h"', source) and not re.fullmatch(r"lib/index\w*\.[ch]", path):
            problems.append(f"{path}: only lib/index* include index_table.h and index_line.h")
        if file not in ("os_posix.c", "os_posix_lock.c") and re.search(
                r"[^_\w>.](open|openat|pread|pwrite|fsync|fdatasync|ftruncate|fallocate|unlink|rename|flock|fopen)\s*\(", source):
            problems.append(f"{path}: a system call on a file outside os_posix.c")
        if re.search(r"[^_\w](printf|puts|fprintf|exit|abort)\s*\(", source) and file not in ("os_posix.c",):
            problems.append(f"{path}: prints or ends the process")
print("\n".join(problems) or "layers hold")
sys.exit(1 if problems else 0)
