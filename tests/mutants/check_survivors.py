#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every mutant that survivors.md explains is one that mutate.py still makes of its file, so that
no explanation outlives the code that it is about. Names those that are not; 1 if there are any."""
import os
import sys

from mutants import ROOT, explained, mutants


def made_of(file):
    path = os.path.join(ROOT, file)
    if not os.path.exists(path):
        return set()
    with open(path, encoding="utf-8") as source:
        return {mutant.describe() for mutant in mutants(source.read())}


def main():
    stale = [(file, line) for file, lines in explained().items() for line in sorted(lines - made_of(file))]
    for file, line in stale:
        print(f"tests/mutants/survivors.md: nothing in {file} is {line}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
