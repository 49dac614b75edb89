#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The shipped command under system calls that fail.

    strace_sweep.py TINYKV SHORT_IO [--sample N] [--seed X] [--verbose]

For each step of a scenario (create, overwrite, delete, compact, recover, read), for each system
call that touches a file, for each way in which it can go wrong and for each of its occurrences:
run the command with that one call failing (strace --inject), or killed there; then look, without
strace. What must hold each time:

  - the exit code is one that docs/cli.md gives for this, and no signal but an injected one;
  - every line that was acknowledged is in the store, and batches are there whole or not at all;
  - success means that everything is there, and never comes after a sync that failed;
  - the store can be opened, written and verified afterwards.

SHORT_IO is the library that makes reads and writes short (short_io.c): what strace cannot do, as
it replaces a call instead of shortening it.

Exits with 77 where strace cannot be used. --sample takes so many injections, chosen by the seed,
instead of all. The last line is "injections=N violations=N seconds=S".
"""
import argparse
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

NO_VALUE = "retval=0"  # a write that takes nothing, a read that finds the end
ERRORS = {
    "write": ["EIO", "ENOSPC", "EINTR"],
    "pwrite64": ["EIO", "ENOSPC", "EDQUOT", "EINTR", NO_VALUE],
    "fdatasync": ["EIO", "ENOSPC", "EINTR"],
    "fsync": ["EIO", "ENOSPC", "EINTR"],
    "close": ["EIO"],  # and the descriptor stays open, which only the process's end undoes
    "openat": ["EMFILE", "ENFILE", "EIO", "ENOSPC", "EINTR"],
    "renameat": ["EIO", "ENOSPC"],
    "unlinkat": ["EIO", "EROFS"],
    "ftruncate": ["EIO", "ENOSPC", "EINTR"],
    "fallocate": ["EIO", "ENOSPC", "EOPNOTSUPP", "EINTR"],
    "mmap": ["ENOMEM", "ENODEV"],
    "pread64": ["EIO", "EINTR", NO_VALUE],
    "mkdir": ["ENOSPC", "EIO"],
    "flock": ["EINTR", "ENOLCK"],
    "getdents64": ["EIO"],
    "fstatfs": ["EIO"],
    "getrandom": ["EIO"],
}
CALLS = ",".join(ERRORS)
# A command that never fails for want of one more try must not be asked for ever.
STICKY = {"EIO", "ENOSPC", "EMFILE", "ENOMEM"}

Injection = collections.namedtuple("Injection", "step call how when")


class Skip(Exception):
    pass


# ---- The scenario -------------------------------------------------------------------------------


def lines_of(count, word, size):
    return [(f"key {i:03}", f"{word} {i} " + word[0] * size) for i in range(count)]


FIRST = lines_of(24, "first", 700)
SECOND = lines_of(40, "second", 2000) + [("a large one", "L" * 300000)]


def text_of(pairs):
    return "".join(f"{key}\t{value}\n" for key, value in pairs)


class Step:
    """One command, the store it starts from, and the states that it may leave behind."""

    def __init__(self, name, arguments, before, after, pairs=(), batch=0):
        self.name = name
        self.arguments = arguments  # LINES stands for a file with `pairs`
        self.before = before
        self.after = after
        self.pairs = pairs
        self.batch = batch

    def states(self, acknowledged, code):
        """What may be in the store, each a dictionary."""
        if code == 0:
            return [self.after]
        if not self.batch:
            return [self.before, self.after]
        ends = [n for n in range(0, len(self.pairs), self.batch) if n >= acknowledged]
        return [{**self.before, **dict(self.pairs[:n])} for n in ends + [len(self.pairs)]]


def scenario():
    first, second = dict(FIRST), {**dict(FIRST), **dict(SECOND)}
    gone = ["key 001", "key 005", "key 017"]
    rest = {k: v for k, v in second.items() if k not in gone}
    load = ["load", "--ack", "--batch"]
    return [
        Step("create", load + ["3", "LINES"], {}, first, FIRST, 3),
        Step("overwrite", load + ["4", "LINES"], first, second, SECOND, 4),
        Step("relaxed", load + ["4", "--durability", "none", "LINES"], first, second, SECOND, 4),
        Step("delete", ["del"] + gone, second, rest),
        Step("compact", ["compact"], rest, rest),
        Step("recover", ["set", "last", "word"], second, {**second, "last": "word"}),
        Step("dump", ["dump", "/dev/null"], second, second),
        Step("verify", ["verify"], second, second),
    ]


# ---- Running ------------------------------------------------------------------------------------


class Sweep:
    def __init__(self, options):
        self.tinykv = os.path.abspath(options.tinykv)
        self.short_io = os.path.abspath(options.short_io)
        self.options = options
        self.work = tempfile.mkdtemp(prefix="tinykv-strace-")
        self.trace = os.path.join(self.work, "trace")
        self.store = os.path.join(self.work, "store")
        self.steps = {}
        self.done = self.violations = 0

    def run(self, arguments, prefix=(), environment=None):
        return subprocess.run(
            [*prefix, self.tinykv, "-d", self.store, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=120, check=False, env={**os.environ, **(environment or {})})

    def arguments_of(self, step):
        return [self.lines_path(step) if a == "LINES" else a for a in step.arguments]

    def lines_path(self, step):
        return os.path.join(self.work, step.name + ".lines")

    def strace(self, step, *inject):
        return self.run(self.arguments_of(step),
                        ["strace", "-f", "-o", self.trace, "-e", "trace=" + CALLS, *inject])

    def must(self, arguments, prefix=()):
        result = self.run(arguments, prefix)
        if result.returncode != 0:
            raise RuntimeError(f"{arguments}: {result.stderr.decode()}")

    def put_snapshot(self, step):
        shutil.rmtree(self.store, ignore_errors=True)
        if step.before:
            shutil.copytree(os.path.join(self.work, "from-" + step.name), self.store)

    def keep_snapshot(self, step):
        shutil.copytree(self.store, os.path.join(self.work, "from-" + step.name))

    def prepare(self):
        """The store that each step starts from."""
        for step in scenario():
            self.steps[step.name] = step
            if step.pairs:
                with open(self.lines_path(step), "w", encoding="ascii") as file:
                    file.write(text_of(step.pairs))
        steps = self.steps
        self.must(self.arguments_of(steps["create"]))
        self.keep_snapshot(steps["overwrite"])
        self.keep_snapshot(steps["relaxed"])
        # Killed when it tells that it is done: everything is in the log only.
        killed = self.strace(steps["overwrite"], "-e", "trace=write", "-e",
                             "inject=write:signal=KILL:when=12")
        if killed.returncode != -9:
            raise Skip("strace cannot kill: " + killed.stderr.decode())
        for name in ("recover", "dump", "verify"):
            self.keep_snapshot(steps[name])
        if self.state() != steps["recover"].before:
            raise RuntimeError("the store to recover is not the one expected")
        # Whoever writes next recovers it; what is closed then is the same, in data files.
        self.must(["set", "key 000", steps["recover"].before["key 000"]])
        self.keep_snapshot(steps["delete"])
        self.must(self.arguments_of(steps["delete"]))
        self.keep_snapshot(steps["compact"])

    # ---- Looking --------------------------------------------------------------------------------

    def state(self):
        """The keys and values of the store, or None with what was said instead."""
        result = self.run(["list", "--values"])
        if result.returncode == 5 and b"there is no store" in result.stderr:
            return {}
        if result.returncode != 0:
            return None
        pairs = (line.split("\t", 1) for line in result.stdout.decode().splitlines())
        return dict(pairs)

    def look(self, step, code, acknowledged):
        """What is wrong with the store; nothing is an empty text."""
        state = self.state()
        allowed = step.states(acknowledged, code)
        if state is None:
            return "the store cannot be read"
        if state not in allowed:
            return f"the store is not as after {acknowledged} lines or later, whole batches"
        if self.run(["set", "probe", "1"]).returncode != 0:
            return "the store cannot be written"
        if self.state() != {**state, "probe": "1"}:
            return "a later write changed more than its key"
        result = self.run(["verify"])
        return "" if result.returncode == 0 else "verify: " + result.stdout.decode()

    @staticmethod
    def acknowledged(result):
        acks = re.findall(rb"^ack (\d+)\n", result.stdout, re.M)
        return int(acks[-1]) if acks else 0

    def judge(self, step, result, what, killed, allowed_codes):
        code = result.returncode
        wrong = ""
        if not (killed and code == -9) and code not in allowed_codes:
            wrong = f"exit code {code}: {result.stderr.decode()[-200:]}"
        self.done += 1
        wrong = wrong or self.look(step, code, self.acknowledged(result))
        if wrong:
            self.violations += 1
            print(f"violation: {step.name}: {what}: {wrong}", flush=True)
        elif self.options.verbose:
            print(f"{step.name}: {what}: exit code {code}", flush=True)

    # ---- Injections -----------------------------------------------------------------------------

    def occurrences(self, step):
        """For each call the first and the last number that belong to the store."""
        self.put_snapshot(step)
        result = self.strace(step)
        if result.returncode != 0:
            raise Skip("strace cannot be used: " + result.stderr.decode()[-200:])
        counts, first = collections.Counter(), {}
        began = False
        main = None
        with open(self.trace, encoding="utf-8", errors="replace") as file:
            for line in file:
                match = re.match(r"(\d+) +([a-z0-9]+)\(", line)
                if not match:
                    continue
                main = main or match[1]
                if not began and self.store in line:
                    began = True
                    first = {call: counts[(main, call)] for call in ERRORS}
                counts[(match[1], match[2])] += 1
        last = collections.Counter()
        for (_, call), count in counts.items():
            last[call] = max(last[call], count)
        return {call: (first.get(call, 0) + 1, last[call]) for call in ERRORS}

    def injections(self):
        every = []
        for step in self.steps.values():
            for call, (first, last) in self.occurrences(step).items():
                for n in range(first, last + 1):
                    hows = ["error=" + e if e != NO_VALUE else e for e in ERRORS[call]]
                    every += [Injection(step.name, call, how, f"{n}") for how in hows]
                    every += [Injection(step.name, call, "error=" + e, f"{n}+")
                              for e in ERRORS[call] if e in STICKY]
                    every.append(Injection(step.name, call, "signal=KILL", f"{n}"))
        return every

    def inject(self, injection):
        step = self.steps[injection.step]
        self.put_snapshot(step)
        inject = f"inject={injection.call}:{injection.how}:when={injection.when}"
        result = self.strace(step, "-e", inject)
        with open(self.trace, encoding="utf-8", errors="replace") as file:
            trace = file.read()
        killed = injection.how == "signal=KILL"
        if "(INJECTED)" not in trace and "killed by SIGKILL" not in trace:
            return  # this time a thread made fewer calls
        codes = {0, 5}
        if injection.call in ("fdatasync", "fsync") and not killed:
            codes = {5}  # nobody knows what is on disk then: that is no success
        if injection.call == "pread64" and injection.how == NO_VALUE:
            codes.add(3)  # a file that ends early is damaged, as far as a reader can tell
        if step.name == "verify":
            codes.add(3)  # what cannot be read is a finding
        self.judge(step, result, inject, killed, codes)

    def short_io_runs(self):
        for step in self.steps.values():
            for seed in range(1, 4):
                self.put_snapshot(step)
                result = self.run(self.arguments_of(step), environment={
                    "LD_PRELOAD": self.short_io, "SHORT_IO_SEED": str(seed)})
                self.judge(step, result, f"short reads and writes, seed {seed}", False, {0})

    def all(self):
        self.prepare()
        every = self.injections()
        total = len(every)
        if self.options.sample:
            chosen = random.Random(self.options.seed)
            every = chosen.sample(every, min(self.options.sample, total))
        for injection in every:
            self.inject(injection)
        self.short_io_runs()
        print(f"seed={self.options.seed} possible={total}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tinykv")
    parser.add_argument("short_io")
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    if shutil.which("strace") is None:
        print("skipped: strace is not installed")
        return 77
    sweep = Sweep(options)
    try:
        sweep.all()
    except Skip as reason:
        print("skipped:", reason)
        return 77
    finally:
        shutil.rmtree(sweep.work, ignore_errors=True)
    print(f"{int(sweep.violations == 0)} passed, {int(sweep.violations != 0)} failed")
    print(f"injections={sweep.done} violations={sweep.violations} "
          f"seconds={time.monotonic() - began:.1f}")
    return 1 if sweep.violations else 0


if __name__ == "__main__":
    sys.exit(main())
