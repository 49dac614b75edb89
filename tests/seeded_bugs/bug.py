#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A seeded bug: one mistake that a change to the engine could make, and the check that must
catch it. bugs/NAME.bug has fields `name: value`, then the text to replace and what it becomes,
each line as it stands in the source, closed by `-- end`:

    title: what the mistake is
    source: lib/checkpoint.c
    check: test_crash --only always_mixed --states 4000
    seconds: 30

    -- text
        return status == TKV_OK ? tkv_flush_sync(store, target->file, err) : status;
    -- bug
        return TKV_OK;
    -- end

The text must stand in the source exactly once; else whoever uses the bug fails, so that it
cannot outlive the code that it is about.

    bug.py source NAME           which file it alters (for meson.build)
    bug.py alter NAME OUTPUT     write the altered copy (for meson.build)
    bug.py check                 every bug's text still stands in its source exactly once
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FIELDS = {"title", "source", "check", "seconds"}


class Bug:
    def __init__(self, name):
        self.name = name
        path = os.path.join(HERE, "bugs", name + ".bug")
        with open(path, encoding="utf-8") as file:
            head, text, bug, rest = re.fullmatch(
                r"(.*?)^-- text\n(.*?)^-- bug\n(.*?)^-- end\n(.*)", file.read(), re.S | re.M).groups()
        fields = dict(re.findall(r"^(\w+): (.+)$", head, re.M))
        if set(fields) != FIELDS or rest or text == bug:
            raise ValueError(f"{path}: needs exactly {sorted(FIELDS)} and one replacement")
        self.title, self.source, self.check = fields["title"], fields["source"], fields["check"]
        self.seconds = int(fields["seconds"])
        self.text, self.bug = text, bug

    def altered(self):
        """The altered source; a #line directive keeps messages about the true places."""
        with open(os.path.join(ROOT, self.source), encoding="utf-8") as file:
            source = file.read()
        if source.count(self.text) != 1:
            raise ValueError(f"{self.name}: its text stands in {self.source} "
                             f"{source.count(self.text)} times, not once")
        return f'#line 1 "{self.source}"\n' + source.replace(self.text, self.bug)


def all_bugs():
    names = sorted(name[:-4] for name in os.listdir(os.path.join(HERE, "bugs")) if name.endswith(".bug"))
    return [Bug(name) for name in names]


def main(arguments):
    if arguments[:1] == ["source"]:
        print(Bug(arguments[1]).source)
    elif arguments[:1] == ["alter"]:
        with open(arguments[2], "w", encoding="utf-8") as file:
            file.write(Bug(arguments[1]).altered())
    elif arguments == ["check"]:
        failed = 0
        for bug in all_bugs():
            try:
                bug.altered()
            except ValueError as error:
                print(error)
                failed += 1
        print(f"{len(all_bugs()) - failed} passed, {failed} failed")
        return 1 if failed else 0
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
