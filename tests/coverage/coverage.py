#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Branch coverage of the library, file by file, held to what is promised:

  core   wal/, compactor/, recovery and manifest: every branch outcome, but those that
         exceptions.txt gives a reason for;
  other  the rest of lib/: at least 95 %.

usage: coverage.py BUILD_DIRECTORY [--uncovered [FILE]]
Closes with: branches=N covered=N excepted=N uncovered=N core_percent=P other_percent=P"""
import json
import os
import subprocess
import sys

OTHER_PERCENT = 95.0
CORE = ("wal/", "compactor/", "lib/recover", "lib/manifest")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def is_core(name):
    return name.startswith(CORE)


def read_report(build):
    command = ["gcovr", "--root", ROOT, "--object-directory", build, "--json", "-",
               "--exclude-unreachable-branches", "--gcov-ignore-parse-errors",
               "--filter", os.path.join(ROOT, "(lib|wal|compactor)/.*"), build]
    return json.loads(subprocess.run(command, check=True, cwd=ROOT, capture_output=True).stdout)


def function_at(functions, line):
    before = [f for f in functions if f["lineno"] <= line]
    return max(before, key=lambda f: f["lineno"])["name"] if before else ""


class Place:
    """A line with branches: how many outcomes, how many of them were taken."""

    def __init__(self, name, function, number, text, outcomes, taken):
        self.name, self.function, self.number, self.text = name, function, number, text
        self.outcomes, self.taken, self.excepted = outcomes, taken, 0

    def missing(self):
        return self.outcomes - self.taken - self.excepted


def places_of(entry):
    with open(os.path.join(ROOT, entry["file"]), encoding="utf-8") as file:
        source = file.read().split("\n")
    for line in entry["lines"]:
        branches = line["branches"]
        if not branches or line.get("gcovr/noncode"):
            continue
        number = line["line_number"]
        yield Place(entry["file"], function_at(entry["functions"], number), number,
                    source[number - 1].strip(), len(branches), sum(b["count"] > 0 for b in branches))


def read_exceptions():
    with open(os.path.join(HERE, "exceptions.txt"), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                fields = [field.strip() for field in line.split(" | ")]
                if len(fields) != 5 or not fields[4]:
                    sys.exit(f"exceptions.txt:{number}: not five fields with a reason")
                yield number, fields


def except_places(places):
    """Returns what is wrong with the exceptions."""
    problems = []
    for number, (name, function, count, text, _) in read_exceptions():
        found = [p for p in places if (p.name, p.function, p.text) == (name, function, text)]
        if len(found) != 1:
            problems.append(f"exceptions.txt:{number}: {len(found)} such lines in {name}")
        elif found[0].missing() != int(count):
            problems.append(f"exceptions.txt:{number}: {found[0].missing()} outcomes are not taken")
        else:
            found[0].excepted = int(count)
    return problems


def percent(places):
    wanted = sum(p.outcomes - p.excepted for p in places)
    return 100.0 if wanted == 0 else 100.0 * sum(p.taken for p in places) / wanted


def print_table(report, places):
    print(f"{'file':28} {'lines':>6} {'run':>7} {'branches':>9} {'taken':>7} {'excepted':>9} {'left':>5}")
    for entry in sorted(report["files"], key=lambda e: (not is_core(e["file"]), e["file"])):
        own = [p for p in places if p.name == entry["file"]]
        lines = [line for line in entry["lines"] if not line.get("gcovr/noncode")]
        run = sum(line["count"] > 0 for line in lines)
        print(f"{entry['file']:28} {len(lines):6} {100 * run / max(1, len(lines)):6.1f}%"
              f" {sum(p.outcomes for p in own):9} {percent(own):6.1f}%"
              f" {sum(p.excepted for p in own):9} {sum(p.missing() for p in own):5}")


def print_uncovered(places, only):
    for p in places:
        if p.missing() > 0 and only in p.name:
            print(f"{p.name}:{p.number}: {p.function}: {p.missing()} of {p.outcomes}: {p.text}")


def main():
    build = os.path.abspath(sys.argv[1])
    report = read_report(build)
    report["files"] = [e for e in report["files"] if e["file"].endswith((".c", ".h"))]
    places = [p for entry in report["files"] for p in places_of(entry)]
    problems = except_places(places)
    core = [p for p in places if is_core(p.name)]
    other = [p for p in places if not is_core(p.name)]
    if "--uncovered" in sys.argv[2:]:
        after = sys.argv[sys.argv.index("--uncovered") + 1:]
        print_uncovered(places, after[0] if after else "")
    print_table(report, places)
    print_uncovered(core, "")
    print("\n".join(problems), end="\n" if problems else "")
    print(f"branches={sum(p.outcomes for p in places)} covered={sum(p.taken for p in places)}"
          f" excepted={sum(p.excepted for p in places)} uncovered={sum(p.missing() for p in places)}"
          f" core_percent={percent(core):.2f} other_percent={percent(other):.2f}")
    sys.exit(problems != [] or percent(core) < 100.0 or percent(other) < OTHER_PERCENT)


if __name__ == "__main__":
    main()
