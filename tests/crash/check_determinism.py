#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The crash enumeration follows from its seed: two runs print the same, the hash over all calls
and all derived disks included; another seed does not."""
import re
import subprocess
import sys


def run(seed, processes):
    """All that is printed, without the time it took."""
    result = subprocess.run(
        [sys.argv[1], "--states", "4000", "--seed", str(seed), "--processes", str(processes)],
        stdout=subprocess.PIPE, check=True, text=True)
    return re.sub(r" seconds=[0-9.]+\n$", "\n", result.stdout)


failed = 0
for processes in (1, 3):
    first, again, other = run(5, processes), run(5, processes), run(6, processes)
    traces = [re.findall(r"trace=([0-9a-f]{16})", text) for text in (first, again, other)]
    good = first == again and len(traces[0]) == 1 and traces[0] != traces[2]
    print(f"{processes} processes: trace {traces[0]}, {traces[1]}; another seed {traces[2]}")
    failed += not good
print(f"{2 - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
