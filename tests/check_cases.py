#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/failure-cases.md keeps its word: it has each number from 1 to 206 once, in order; every
test that it names is in the tree; and it counts its own rows right.

    check_cases.py [TABLE]              run in the source tree

A test is written as `program: name`, or as `program` where one run has no names.
"""
import collections
import glob
import re
import sys

LAST_CASE = 206
STATES = ("covered", "partly", "design", "waiting", "text", "open")
ROW = re.compile(r"\| *(\d+) *\|[^|]*\|[^|]*\| *(\w+) *\|([^|]*)\|$")
REFERENCE = re.compile(r"([a-z]\w*)(?:: (\S+))?$")

# Programs whose names are not those of TEST(name): in which files, and how a name looks there.
NAMED_OTHERWISE = {
    "test_crash": ("tests/crash/workload.c tests/crash/settings.h",
                   r'\.name = "(\w+)"|\b(P\d)\b'),
    "test_damage": ("tests/damage/test_damage.c tests/damage/wound.c", r'[{ ]"(\w[\w-]*)"[,}]'),
    "faults": ("tests/faults/scenarios_*.c tests/faults/fault.c", r'[{ ]"([\w-]+)",'),
    "power_cuts": ("tests/labs/disks.py", r'Configuration\("([\w-]+)"'),
    "labs": ("tests/labs/lab_*.py", r"^    (\w+),$"),
    "strace_sweep": ("tests/processes/strace_sweep.py", r'Step\("(\w+)"'),
    "test_cli": ("tests/cli/test_cli.sh", r"^(\w+)\(\) \{$"),
}
# Those whose names are names of files.
NAMED_BY_FILES = {
    "fuzz": r"tests/fuzz/target_(\w+)\.c",
    "seeded_bugs": r"tests/seeded_bugs/bugs/(\w+)\.bug",
}
SOURCES = [path for pattern in ("tests/*.*", "tests/*/*.*") for path in glob.glob(pattern)]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def names_of(program):
    """None: there is no such program."""
    if program in NAMED_BY_FILES:
        matches = (re.fullmatch(NAMED_BY_FILES[program], path)
                   for path in SOURCES + glob.glob("tests/seeded_bugs/bugs/*"))
        return {match[1] for match in matches if match}
    if program in NAMED_OTHERWISE:
        patterns, name = NAMED_OTHERWISE[program]
        text = "\n".join(read(path) for pattern in patterns.split() for path in glob.glob(pattern))
        found = re.findall(name, text, re.M)
        return {"".join(groups) if isinstance(groups, tuple) else groups for groups in found}
    files = [path for path in SOURCES if re.fullmatch(rf".*/{program}\.(c|py|sh)", path)]
    if not files:
        return None
    return set(re.findall(r"^TEST\((\w+)\)", read(files[0]), re.M))


def check_reference(reference, known):
    match = REFERENCE.match(reference)
    if not match:
        return f"`{reference}` is not written as `program: name`"
    program, name = match.groups()
    if program not in known:
        known[program] = names_of(program)
    if known[program] is None:
        return f"there is no program {program}"
    if name is not None and name not in known[program]:
        return f"{program} has no test {name}"
    return None


def check_rows(text, problems):
    """Returns how many rows there are of each state."""
    counts, known, expected = collections.Counter(), {}, 1
    for number, line in enumerate(text.splitlines(), 1):
        if not re.match(r"\| *\d", line):
            continue
        row = ROW.match(line)
        if not row:
            problems.append(f"line {number} is no row of five columns")
            continue
        case, state, tests = int(row[1]), row[2], row[3]
        if case != expected:
            problems.append(f"line {number} has case {case} where {expected} should be")
        expected = case + 1
        counts[state] += 1
        references = re.findall(r"`([^`]*)`", tests)
        wrong = [check_reference(reference, known) for reference in references]
        problems.extend(f"case {case}: {what}" for what in wrong if what)
        if state not in STATES:
            problems.append(f"case {case}: {state} is none of {', '.join(STATES)}")
        if state in ("covered", "partly") and not references:
            problems.append(f"case {case} is {state} by no test")
    if expected != LAST_CASE + 1:
        problems.append(f"the last case is {expected - 1}, not {LAST_CASE}")
    return counts


def main():
    text = read(sys.argv[1] if len(sys.argv) > 1 else "docs/failure-cases.md")
    problems = []
    counts = check_rows(text, problems)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES)
    if summary not in " ".join(text.split()):
        problems.append(f"the summary should say: {summary}")
    for problem in problems:
        print(problem)
    print(f"{sum(counts.values())} cases: {summary}; {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
