#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Count the instructions of fixed workloads with callgrind and hold them to a baseline.

    check_instructions.py PROGRAM BASELINE COMPILER [--record]

Fails when a workload takes more than LIMIT of what the baseline says. The same compiler and
libraries give the same code, so a baseline of another compiler says nothing: then nothing is
compared, and the reason is printed. --record writes a new baseline.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

LIMIT = 1.03
OPERATIONS = {
    'put': 20000, 'overwrite': 20000, 'delete': 20000, 'get': 20000, 'get_missing': 20000,
    'multi_get': 20000, 'replay': 2500, 'compaction': 20000,
}


def count(program, workload):
    directory = tempfile.mkdtemp(dir='/dev/shm' if os.path.isdir('/dev/shm') else None)
    try:
        run = subprocess.run(
            ['valgrind', '--tool=callgrind', '--toggle-collect=measured*',
             '--callgrind-out-file=/dev/null', program, workload, directory + '/store'],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False)
    finally:
        shutil.rmtree(directory)
    found = re.findall(r'Collected : (\d+)', run.stderr)
    if run.returncode != 0 or not found:
        sys.exit(f'{workload}: {run.stderr}')
    return int(found[-1])


def main():
    program, baseline_path, compiler = sys.argv[1:4]
    record = '--record' in sys.argv[4:]
    if shutil.which('valgrind') is None:
        print('skipped: valgrind is not installed')
        sys.exit(77)
    counts = {workload: count(program, workload) for workload in OPERATIONS}
    if record:
        with open(baseline_path, 'w', encoding='utf-8') as file:
            json.dump({'compiler': compiler, 'instructions': counts}, file, indent=2)
            file.write('\n')
    with open(baseline_path, encoding='utf-8') as file:
        baseline = json.load(file)
    if baseline['compiler'] != compiler:
        print(f'skipped: the baseline is of {baseline["compiler"]}, this is {compiler}')
        sys.exit(77)
    slower = 0
    for workload, instructions in counts.items():
        before = baseline['instructions'][workload]
        print(f'{workload:12} {instructions:12} instructions {instructions / before * 100 - 100:+6.2f} %'
              f'   {instructions / OPERATIONS[workload]:8.1f} each')
        slower += instructions > before * LIMIT
    print(f'{len(counts) - slower} passed, {slower} failed')
    sys.exit(slower > 0)


main()
