#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mutation testing of the recovery core: each mutant (mutate.py) is compiled and linked alone
(altered_build.py) and must fail one of the checks, which run from cheap to dear. A mutant whose
object code is that of the original, or that survivors.md explains, is equivalent.

    mutants.py BUILD [--file F]... [--match TEXT]... [--seconds S] [--seed X] [--jobs N] [--every]

With --seconds, mutants are drawn at random with the seed until the time is up; without, all are
tried. --match leaves those whose description contains one of the texts. --every tries those of survivors.md as well. Survivors are printed as they would stand in
survivors.md. The last line is `mutants=N killed=N equivalent=N survived=N percent=P`, where P is
the share of those killed that are not equivalent."""
import argparse
import collections
import concurrent.futures
import hashlib
import os
import queue
import random
import re
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "seeded_bugs"))
from altered_build import AlteredBuild, run_check  # noqa: E402
from mutate import mutants  # noqa: E402

CORE = ["wal/commit.c", "wal/lead.c", "wal/group.c", "wal/replay.c", "wal/ring.c", "wal/wal.c", "wal/grow.c",
        "lib/recover.c", "lib/recover_state.c", "lib/recover_files.c", "lib/manifest.c", "lib/manifest_file.c", "lib/flush.c",
        "lib/checkpoint_state.c", "lib/checkpoint.c", "compactor/copy.c", "compactor/pick.c", "compactor/tombstones.c",
        "compactor/worker.c", "lib/reclaim.c", "lib/condemned.c", "lib/survivors.c",
        "lib/retire.c", "lib/removed.c", "lib/judge.c"]
UNITS = {"wal/group.c": ["test_group", "test_replay"],
         "wal/replay.c": ["test_replay", "test_log"],
         "wal/ring.c": ["test_ring", "test_log"],
         "wal/wal.c": ["test_wal", "test_wal_commit", "test_wal_writers", "test_log"],
         "wal/grow.c": ["test_wal", "test_log", "test_checkpoint", "test_log_room"],
         "wal/commit.c": ["test_wal_commit", "test_wal", "test_wal_writers", "test_log"],
         "wal/lead.c": ["test_wal_commit", "test_wal", "test_wal_writers", "test_log"],
         "lib/recover.c": ["test_recover", "test_recover_headers", "test_recover_growing", "test_recover_log",
                           "test_recover_damaged"],
         "lib/recover_state.c": ["test_recover_log", "test_recover_headers", "test_recover", "test_recover_growing",
                                 "test_recover_damaged"],
         "lib/recover_files.c": ["test_recover_growing", "test_recover_headers", "test_recover", "test_recover_damaged",
                                 "test_survivors"],
         "lib/survivors.c": ["test_survivors"],
         "lib/retire.c": ["test_retire", "test_survivors"],
         "lib/removed.c": ["test_removed", "test_retire"],
         "lib/reclaim.c": ["test_survivors"],
         "lib/condemned.c": ["test_survivors"],
         "lib/flush.c": ["test_flush_ahead", "test_pieces"],
         "lib/checkpoint_state.c": ["test_survivors"],
         "lib/checkpoint.c": ["test_survivors"],
         "lib/manifest.c": ["test_manifest"],
         "lib/manifest_file.c": ["test_manifest"],
         "lib/record.c": ["test_record"],
         "lib/hint.c": ["test_hint"],
         "lib/hint_writer.c": ["test_hint"],
         "compactor/pick.c": ["test_compactor"],
         "compactor/tombstones.c": ["test_compactor", "test_copy"],
         "compactor/copy.c": ["test_compactor", "test_copy"],
         "compactor/worker.c": ["test_compactor"]}
STORES = ["test_found", "test_guards", "test_reads", "test_checkpoint", "test_reclaim", "test_reclaim_deletes",
          "test_reclaim_failures", "test_reclaim_poison", "test_removed", "test_refusals", "test_corners",
          "test_store", "test_store_life", "test_store_space", "test_store_failures",
          "test_store_real -threads -100_mb"]
FAULTS = ["faults --scenario " + name for name in
          ("create", "open_several_files", "open_killed", "checkpoint_new_files", "log_grows", "compact_tombstones",
           "compact_dirty")]
CRASH = "test_crash --processes 1 --states 1200 --only "
WORKLOADS = ["always_mixed", "none_mixed", "none_churn", "always_churn", "always_expiring", "always_large",
             "creation", "interval_mixed", "none_growth", "none_crash_chain", "always_compressed"]
THREADS = ["test_store_real threads"]
THREADED = {"wal/commit.c", "wal/lead.c", "wal/wal.c", "compactor/worker.c", "lib/reclaim.c", "lib/condemned.c",
            "lib/survivors.c"}


def parse(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--file", action="append", default=[])
    parser.add_argument("--match", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", action="store_true")
    return parser.parse_args(arguments)


def checks_for(build, file):
    wanted = UNITS.get(file, []) + STORES + [CRASH + name for name in WORKLOADS] + FAULTS
    if file in THREADED:
        wanted += THREADS
    return [check for check in wanted if check.split()[0] in build.programs]


def explained():
    """file -> the mutants that survivors.md explains, as describe() has them."""
    found, file = collections.defaultdict(set), None
    with open(os.path.join(HERE, "survivors.md"), encoding="utf-8") as text:
        for line in text:
            if line.startswith("## "):
                file = line[3:].strip()
            elif line.startswith("- ") and file:
                found[file].add(line[2:].strip())
    return found


class Laboratory:
    """One build directory, places to work in, and how long each check takes without a mutant."""

    def __init__(self, build, files, jobs):
        self.build = build
        self.places = queue.Queue()
        self.originals = {}
        self.scratch = tempfile.TemporaryDirectory(prefix="tinykv-mutants-")
        for job in range(jobs):
            self.places.put(os.path.join(self.scratch.name, f"{job}"))
            os.mkdir(os.path.join(self.scratch.name, f"{job}"))
        self.limits = {}
        for check in sorted({check for file in files for check in checks_for(build, file)}):
            program, *words = check.split()
            begun = time.monotonic()
            outcome, output = run_check(build.program(program), words, 300)
            if outcome != "passed":
                sys.exit(f"{check}: {outcome} without a mutant\n{output[-2000:]}")
            self.limits[check] = 15 + 6 * (time.monotonic() - begun)

    def compile(self, file, text, place):
        altered_object, _ = self.build.compile(file, text, place, ["-g0"])
        if altered_object is None:
            return None, None
        with open(altered_object, "rb") as content:
            code = content.read().replace(place.encode(), b"")
        return altered_object, hashlib.sha256(code).digest()

    def judge(self, file, mutant, place):
        """(outcome, by whom, digest of the object code)."""
        line = f'#line 1 "{file}"\n'
        if (file, place) not in self.originals:  # object code can hold the path
            with open(os.path.join(ROOT, file), encoding="utf-8") as source:
                _, self.originals[file, place] = self.compile(file, line + source.read(), place)
        altered_object, digest = self.compile(file, line + mutant.text, place)
        if altered_object is None:
            return "invalid", None, None
        if digest == self.originals[file, place]:
            return "same", None, digest
        programs = {}
        for check in checks_for(self.build, file):
            program, *words = check.split()
            if program not in programs:
                programs[program] = self.build.link(program, altered_object)
            outcome, _ = run_check(programs[program], words, self.limits[check])
            if outcome != "passed":
                return "killed", f"{outcome} {check}", digest
        return "survived", None, digest

    def try_one(self, file, mutant):
        place = self.places.get()
        try:
            return self.judge(file, mutant, place)
        finally:
            self.places.put(place)


def draw(files, settings):
    """(file, mutant) in the order in which they are tried."""
    known = explained()
    drawn = []
    for file in files:
        with open(os.path.join(ROOT, file), encoding="utf-8") as source:
            for mutant in mutants(source.read()):
                if settings.match and not any(text in mutant.describe() for text in settings.match):
                    continue
                drawn.append((file, mutant, mutant.describe() in known[file] and not settings.every))
    random.Random(settings.seed).shuffle(drawn)
    return drawn


def run(laboratory, drawn, settings):
    """Yields (file, mutant, outcome, by whom, digest)."""
    until = time.monotonic() + settings.seconds
    waiting = iter(drawn)
    with concurrent.futures.ThreadPoolExecutor(settings.jobs) as pool:
        running = {}
        while True:
            while len(running) < settings.jobs and time.monotonic() < until:
                file, mutant, is_known = next(waiting, (None, None, None))
                if file is None:
                    break
                if is_known:
                    yield file, mutant, "explained", None, None
                    continue
                running[pool.submit(laboratory.try_one, file, mutant)] = (file, mutant)
            if not running:
                return
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                file, mutant = running.pop(future)
                yield file, mutant, *future.result()


def report(counts, name):
    equivalent = counts["same"] + counts["explained"]
    judged = counts["killed"] + counts["survived"]
    return (f"{name}mutants={judged + equivalent} killed={counts['killed']} equivalent={equivalent} "
            f"survived={counts['survived']} percent={100 * counts['killed'] / max(1, judged):.1f}")


def main():
    settings = parse(sys.argv[1:])
    build = AlteredBuild(ROOT, os.path.abspath(settings.build))
    files = settings.file or CORE
    laboratory = Laboratory(build, files, settings.jobs)
    drawn = draw(files, settings)
    total, by_file, killers, seen = collections.Counter(), collections.defaultdict(collections.Counter), \
        collections.Counter(), set()
    begun = time.monotonic()
    for file, mutant, outcome, by_whom, digest in run(laboratory, drawn, settings):
        if digest is not None and (file, digest) in seen and outcome != "same":
            continue  # the same object code as another mutant: counted once
        seen.add((file, digest))
        if outcome == "invalid":
            continue
        total[outcome] += 1
        by_file[file][outcome] += 1
        if by_whom is not None:
            killers[re.sub(r" --processes 1 --states \d+ --only", "", by_whom)] += 1
        if outcome == "survived":
            print(f"## {file}\n- {mutant.describe()}\n  line {mutant.line}", flush=True)
    print()
    for check, count in killers.most_common():
        print(f"{count:5} {check}")
    for file in sorted(by_file):
        print(report(by_file[file], f"{file}: "))
    print(f"drawn from {len(drawn)}, seed {settings.seed}, {time.monotonic() - begun:.0f} s")
    print(report(total, ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
