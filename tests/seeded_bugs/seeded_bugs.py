#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tests of the tests: every seeded bug (bug.py) is caught by the check that it names, in the
time that it names, and that check passes without the bug.

    seeded_bugs.py BUILD [--only NAME] [--jobs N]

BUILD is a directory that has been built. Each bug's check is linked with the altered file
(altered_build.py). The last line is `caught=N of N seconds=S`."""
import argparse
import concurrent.futures
import os
import shutil
import sys
import tempfile
import time

import bug as bugs
from altered_build import AlteredBuild, run_check

CLEAN_SECONDS = 120  # a check that passes may take longer than one that stops at the bug


def parse(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args(arguments)


def try_clean(build, check):
    """None, or why the check says nothing about a bug: it fails without one."""
    program, *words = check.split()
    outcome, output = run_check(build.program(program), words, CLEAN_SECONDS)
    return None if outcome == "passed" else f"{outcome} without the bug\n{output[-2000:]}"


def try_bug(build, bug):
    """None when the bug is caught, or why not."""
    program, *words = bug.check.split()
    place = tempfile.mkdtemp(prefix="tinykv-bug-")
    try:
        altered_object, why = build.compile(bug.source, bug.altered(), place)
        if altered_object is None:
            return "it does not compile\n" + why
        outcome, _ = run_check(build.link(program, altered_object), words, bug.seconds)
        return None if outcome == "failed" else f"{bug.check}: {outcome}"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def timed(function, *arguments):
    begun = time.monotonic()
    return function(*arguments), time.monotonic() - begun


def main():
    settings = parse(sys.argv[1:])
    begun = time.monotonic()
    chosen = [bug for bug in bugs.all_bugs() if settings.only in bug.name]
    build = AlteredBuild(bugs.ROOT, os.path.abspath(settings.build))
    caught = 0
    with concurrent.futures.ThreadPoolExecutor(settings.jobs) as pool:
        clean = {check: pool.submit(try_clean, build, check) for check in sorted({bug.check for bug in chosen})}
        tries = [(bug, pool.submit(timed, try_bug, build, bug)) for bug in chosen]
        for bug, future in tries:
            why, seconds = future.result()
            why = why or clean[bug.check].result()
            caught += why is None
            print(f"{'caught' if why is None else 'MISSED':7} {seconds:5.1f} s  {bug.name}: {bug.title}"
                  f"  [{bug.check}]" + (f"\n{why}" if why else ""), flush=True)
    print(f"caught={caught} of {len(chosen)} seconds={time.monotonic() - begun:.0f}")
    return 0 if caught == len(chosen) > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
