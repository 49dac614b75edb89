#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the compiled library says about itself:
- only os_posix makes system calls on files, and os_posix_lock those that lock them;
- nothing prints, exits or aborts (assert() apart);
- every global symbol begins with tkv_, and the shared library exports tinykv.h and no more.
usage: check_symbols.py libtinykv.a libtinykv.so tinykv.h"""
import re
import subprocess
import sys

archive, shared, header = sys.argv[1:4]
FILE_CALLS = set("""open openat open64 openat64 creat close read write pread pwrite pread64 pwrite64
readv writev preadv pwritev fsync fdatasync sync_file_range msync ftruncate ftruncate64 truncate
fallocate fallocate64 posix_fallocate rename renameat unlink unlinkat remove mkdir mkdirat rmdir
opendir fdopendir readdir readdir64 closedir stat fstat lstat fstatat stat64 fstat64 statvfs fstatvfs
fstatvfs64 fstatfs fstatfs64 flock fcntl fcntl64 fopen fopen64 fdopen fread fwrite fclose fflush
posix_fadvise posix_fadvise64 getrandom clock_gettime""".split())
ENDS = set("""printf vprintf fprintf vfprintf puts putchar fputs fputc perror exit _exit abort
stdout stderr syslog""".split())
# Anonymous memory and a clock for sleeping, staying awake or giving way are no business of the
# files' table.
ALLOWED = {"worker": {"clock_gettime"}, "idle_poll": {"clock_gettime"},
           "give_way": {"clock_gettime"}, "os_posix_lock": {"flock", "fstat", "fstat64"}}

problems = []
cases = 0


def nm(*arguments):
    return subprocess.run(["nm", *arguments], check=True, capture_output=True, text=True).stdout


def check(condition, text):
    global cases
    cases += 1
    if not condition:
        problems.append(text)


for member in re.split(r"\n\n", nm(archive)):
    lines = member.strip().splitlines()
    if len(lines) < 2:
        continue
    name = re.sub(r"^.*?_?([a-z0-9_]+)\.c\.o:$", r"\1", lines[0])
    name = re.sub(r"^(lib|wal|compactor)_", "", name)
    undefined = {l.split()[-1] for l in lines[1:] if l.split()[-2] == "U"}
    defined = {l.split()[-1] for l in lines[1:] if l.split()[-2] in "TDBRV"}
    if name != "os_posix":
        calls = undefined & FILE_CALLS - ALLOWED.get(name, set())
        check(not calls, f"{lines[0]} makes system calls on files: {sorted(calls)}")
    check(not undefined & ENDS, f"{lines[0]} prints or ends the process: {undefined & ENDS}")
    foreign = {d for d in defined if not d.startswith("tkv_") and not d.startswith("__")}
    check(not foreign, f"{lines[0]} defines {sorted(foreign)}")

exported = {l.split()[-1] for l in nm("-D", "--defined-only", shared).splitlines()}
exported = {e for e in exported if not re.match(r"^(_init|_fini|__)", e)}
promised = set(re.findall(r"\b(tkv_\w+)\(", re.sub(r"/\*.*?\*/", "", open(header).read(), flags=re.S)))
promised -= {"tkv_bytes", "tkv_text", "tkv_event_fn", "tkv_finding_fn"}
check(promised <= exported, f"not exported: {sorted(promised - exported)}")
check(exported <= promised, f"exported, but not in the header: {sorted(exported - promised)}")

for problem in problems:
    print(problem)
print(f"{cases - len(problems)} passed, {len(problems)} failed")
sys.exit(1 if problems else 0)
