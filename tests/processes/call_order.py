#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The real process makes the file calls that the simulated disk saw, in that order.

    call_order.py CALL_ORDER [--verbose]

CALL_ORDER (call_order.c) does the same operations in both worlds. What strace saw is put into
the words of simdisk_trace() - create, mkdir, write, write-sync, sync, sync-dir, rename, unlink,
truncate, with names, offsets and sizes - and must be equal, line by line. Stores into a mapping
are no system calls; those lines are left out, so in the relaxed modes the log's contents are not
compared, everything around them is.

Exits with 77 where strace cannot be used.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

CALLS = "openat,mkdirat,pwrite64,fdatasync,fsync,renameat,renameat2,unlinkat,ftruncate," \
    "fallocate"
FD = r"(\d+)<([^>]*?)(?: \(deleted\))?>"


class Normaliser:
    """Lines of strace -y in, lines of simdisk_trace() out."""

    def __init__(self, store, existing):
        self.store = store
        self.sizes = dict(existing)  # of the files that there are
        self.synchronous = set()  # descriptors
        self.lines = []

    def name(self, path):
        return os.path.basename(path)

    def directory(self, path):
        return "" if path == self.store else " " + os.path.basename(path)

    def grow(self, name, end):
        self.sizes[name] = max(self.sizes.get(name, 0), end)

    def openat(self, text):
        match = re.match(r'openat\([^"]*"([^"]*)", ([A-Z_|0-9]+).*\) = ' + FD, text)
        if not match or "O_DIRECTORY" in match[2]:
            return
        name, flags, fd = match[1], match[2], match[3]
        self.synchronous.discard(fd)
        if "O_DSYNC" in flags:
            self.synchronous.add(fd)
        if "O_CREAT" in flags and name not in self.sizes:
            self.lines.append(f"create {name}")
        elif "O_TRUNC" in flags and self.sizes.get(name, 0) > 0:
            self.lines.append(f"truncate {name} 0")
        else:
            return
        self.sizes[name] = 0

    def pwrite64(self, text):
        match = re.match(r"pwrite64\(" + FD + r".*, (\d+), (\d+)\) = (\d+)$", text)
        if match:
            name, offset, size = self.name(match[2]), int(match[4]), int(match[5])
            word = "write-sync" if match[1] in self.synchronous else "write"
            self.lines.append(f"{word} {name} {offset} {size}")
            self.grow(name, offset + size)

    def fdatasync(self, text):
        match = re.match(r"fdatasync\(" + FD + r"\) += 0", text)
        if match:
            self.lines.append(f"sync {self.name(match[2])}")

    def fsync(self, text):
        match = re.match(r"fsync\(" + FD + r"\) += 0", text)
        if match:
            self.lines.append(f"sync-dir{self.directory(match[2])}")

    def renameat(self, text):
        match = re.match(r'renameat2?\([^"]*"([^"]*)", [^"]*"([^"]*)".*\) = 0', text)
        if match:
            self.lines.append(f"rename {match[1]} {match[2]}")
            self.sizes[match[2]] = self.sizes.pop(match[1], 0)

    renameat2 = renameat

    def unlinkat(self, text):
        match = re.match(r'unlinkat\([^"]*"([^"]*)".*\) = 0', text)
        if match:
            self.lines.append(f"unlink {match[1]}")
            self.sizes.pop(match[1], None)

    def mkdirat(self, text):
        match = re.match(r'mkdirat\([^"]*"([^"]*)".*\) = 0', text)
        if match:
            self.lines.append(f"mkdir {match[1]}")

    def ftruncate(self, text):
        match = re.match(r"ftruncate\(" + FD + r", (\d+)\) += 0", text)
        if match and self.sizes.get(self.name(match[2])) is not None:
            name, size = self.name(match[2]), int(match[3])
            self.lines.append(f"truncate {name} {size}")
            self.sizes[name] = size

    def fallocate(self, text):
        match = re.match(r"fallocate\(" + FD + r", 0, 0, (\d+)\) += 0", text)
        if match:
            name, size = self.name(match[2]), int(match[3])
            self.lines.append(f"allocate {name} {size}")
            self.grow(name, size)

    def take(self, line):
        text = re.sub(r"^\d+ +", "", line.rstrip("\n"))
        call = text.split("(", 1)[0]
        if self.store in text and call in CALLS.split(","):
            getattr(self, call)(text)


def strace(program, mode, phase, store, trace):
    return subprocess.run(
        ["strace", "-f", "-y", "-s", "0", "-o", trace, "-e", "trace=" + CALLS,
         program, "real", mode, phase, store], capture_output=True, text=True, check=False)


def real_trace(program, mode, work):
    store, trace = os.path.join(work, "store"), os.path.join(work, "trace")
    os.mkdir(store)
    normaliser = Normaliser(store, {})
    for phase in ("write", "recover"):
        result = strace(program, mode, phase, store, trace)
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        with open(trace, encoding="utf-8", errors="replace") as file:
            for line in file:
                normaliser.take(line)
    shutil.rmtree(store)
    return normaliser.lines


def simulated_trace(program, mode):
    result = subprocess.run([program, "simulated", mode], capture_output=True, text=True,
                            check=True)
    return [line for line in result.stdout.splitlines() if not line.startswith("store ")]


def compare(program, mode, work, verbose):
    real, simulated = real_trace(program, mode, work), simulated_trace(program, mode)
    if verbose:
        print("\n".join(real))
    for number, pair in enumerate(zip(real, simulated)):
        if pair[0] != pair[1]:
            print(f"{mode}: call {number}: real \"{pair[0]}\", simulated \"{pair[1]}\"")
            return False
    if len(real) != len(simulated) or not real:
        print(f"{mode}: {len(real)} real calls, {len(simulated)} simulated ones")
        return False
    print(f"{mode}: {len(real)} calls, equal")
    return True


def takes_direct_writes(work):
    try:
        os.close(os.open(os.path.join(work, "probe"),
                         os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC))
        return True
    except OSError:
        return False


def main():
    program = os.path.abspath(sys.argv[1])
    work = os.path.realpath(tempfile.mkdtemp(prefix="tinykv-order-"))
    good = bad = 0
    try:
        probe = subprocess.run(["strace", "-o", os.devnull, "/bin/true"], check=False,
                               capture_output=True)
        if probe.returncode != 0:
            raise FileNotFoundError(probe.stderr.decode())
        modes = ["always", "no-direct", "interval", "none"]
        if not takes_direct_writes(work):
            modes.remove("always")
        for mode in modes:
            equal = compare(program, mode, work, "--verbose" in sys.argv)
            good, bad = good + equal, bad + (not equal)
    except FileNotFoundError as reason:
        print("skipped: strace cannot be used:", reason)
        return 77
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{good} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
