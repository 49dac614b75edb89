#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Labs: stores on file systems that really fail, fill up, or cannot be written.

    labs.py --programs DIRECTORY [--quick] [--only WORD]

Each lab is a function named for its promise; it returns a note, or raises Failed. One line for
each, and at the end: labs=N passed=N failed=N skipped=N
"""
import argparse
import os
import sys
import time

import lab_eio
import lab_full
import lab_media
from mounts import SKIPPED, Failed, Unavailable, Workshop

MODULES = (lab_eio, lab_full, lab_media)


def run_lab(lab, shop, shell, counts):
    begun = time.monotonic()
    try:
        result, note = "passed", lab(shop, shell)
    except Unavailable as reason:
        result, note = "skipped", reason
    except Failed as failed:
        result, note = "failed", failed
    finally:
        shop.clear()
    counts[result] += 1
    print(f"{result:7} {lab.__name__} ({time.monotonic() - begun:.1f} s): {note}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="stores on file systems that fail")
    parser.add_argument("--programs", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="labs whose name contains this")
    arguments = parser.parse_args()
    shell = os.path.abspath(os.path.join(arguments.programs, "lab-shell"))
    labs = [lab for module in MODULES
            for lab in (module.QUICK_LABS if arguments.quick else module.LABS)
            if arguments.only in lab.__name__]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    try:
        with Workshop() as shop:
            for lab in labs:
                run_lab(lab, shop, shell, counts)
    except Unavailable as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    print(f"labs={len(labs)} " + " ".join(f"{name}={n}" for name, n in counts.items()))
    return 1 if counts["failed"] or not labs else 0


if __name__ == "__main__":
    sys.exit(main())
