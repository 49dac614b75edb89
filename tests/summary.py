#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Close a test run with one line, "N passed, N failed": the sum over all programs of what each
said itself; a program that said nothing counts as one."""
import json
import re
import sys

passed = failed = skipped = 0
for line in open(sys.argv[1], encoding="utf-8"):
    program = json.loads(line)
    said = re.findall(r"^(\d+) passed, (\d+) failed", program.get("stdout", ""), re.M)
    good = sum(int(p) for p, _ in said)
    bad = sum(int(f) for _, f in said)
    if program["result"] == "SKIP":
        skipped += 1
        continue
    if program["result"] != "OK":
        bad = max(bad, 1)
        print("failed:", program["name"])
    passed += good if said else (program["result"] == "OK")
    failed += bad
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(1 if failed else 0)
