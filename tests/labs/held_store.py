# SPDX-License-Identifier: MIT
"""A store that a lab holds open in another process, and what must be in it."""
import collections
import os
import subprocess

from mounts import Failed

OK, NOT_FOUND, INVALID, TOO_BIG, NO_MEMORY, NO_SPACE, IO, CORRUPT, BUSY, READ_ONLY, POISONED, \
    FORKED, UNSUPPORTED = range(13)
NAMES = ("OK NOT_FOUND INVALID TOO_BIG NO_MEMORY NO_SPACE IO CORRUPT BUSY READ_ONLY POISONED "
         "FORKED UNSUPPORTED").split()

Answer = collections.namedtuple("Answer", "status number message")


def expect(condition, promise, answer=""):
    if not condition:
        shown = (f"{NAMES[answer.status]}: {answer.message}"
                 if isinstance(answer, Answer) else answer)
        raise Failed(f"not true: {promise} ({shown})")


class Model:
    """What was acknowledged, and for the keys whose last write failed, what it may have left."""

    def __init__(self):
        self.keys = {}    # key -> version
        self.maybe = {}   # key -> versions that it may have instead; None: absent

    def put(self, key, version):
        self.keys[key] = version
        self.maybe.pop(key, None)

    def delete(self, key):
        self.keys.pop(key, None)
        self.maybe.pop(key, None)

    def unknown(self, key, version):
        self.maybe.setdefault(key, set()).add(version)

    def allowed(self, key):
        return {self.keys.get(key)} | self.maybe.get(key, set())

    def settle(self, found):
        """What was unknown is known now."""
        self.keys, self.maybe = dict(found), {}


class HeldStore:
    """Every call also keeps the model up to date."""

    def __init__(self, program, directory, model=None):
        self.directory = directory
        self.model = model or Model()
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, *words):
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.read_answer(words)

    def read_line(self, words):
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"the process of the store ended with {self.process.wait()} "
                         f"at: {' '.join(map(str, words))}")
        if line.startswith("wrong"):
            raise Failed(f"a read returned bytes that nobody wrote: {line.strip()}")
        return line.strip()

    def read_answer(self, words):
        status, number, message = self.read_line(words).split(" ", 2)
        return Answer(int(status), int(number), message)

    # ---- Commands ---------------------------------------------------------------------

    def open(self, mode="always", read="mmap", access="read-write"):
        return self.ask("open", self.directory, mode, read, access)

    def put(self, key, count, version, size):
        answer = self.ask("put", key, count, version, size)
        for i in range(answer.number):
            self.model.put(key + i, version)
        if answer.status in (IO, POISONED):
            self.model.unknown(key + answer.number, version)
        return answer

    def batch(self, key, count, version, size):
        answer = self.ask("batch", key, count, version, size)
        for i in range(count):
            if answer.status == OK:
                self.model.put(key + i, version)
            elif answer.status in (IO, POISONED):
                self.model.unknown(key + i, version)
        return answer

    def delete(self, key, count):
        answer = self.ask("delete", key, count)
        for i in range(answer.number):
            self.model.delete(key + i)
        if answer.status in (IO, POISONED):
            self.model.unknown(key + answer.number, None)
        return answer

    def scan(self):
        """{key: version}, {key: status of the failed read}"""
        found, failed = {}, {}
        self.process.stdin.write("scan\n")
        self.process.stdin.flush()
        while (line := self.read_line(["scan"])) != ".":
            if " " not in line or line.count(" ") > 1:
                raise Failed(f"scan: {line}")
            key, version = (int(word) for word in line.split())
            if key in found or key in failed:
                raise Failed(f"key {key} appears twice")
            if version < 0:
                failed[key] = -version
            else:
                found[key] = version
        answer = self.read_answer(["scan"])
        expect(answer.status == OK, "a store can be read from end to end", answer)
        return found, failed

    def check(self, all_readable=True):
        """Every key holds what the model says. Returns how many could not be read."""
        found, failed = self.scan()
        expect(not failed or not all_readable, "every key can be read", f"{failed}")
        for key in set(found) | set(failed) | set(self.model.keys):
            allowed = self.model.allowed(key)
            if key in failed:
                expect(allowed != {None}, f"key {key} is absent", "there, but unreadable")
                continue
            expect(found.get(key) in allowed,
                   f"key {key} holds version {' or '.join(map(str, allowed))}",
                   f"it holds {found.get(key)}")
        return len(failed)

    def settle(self):
        """After a recovery: check, and take what was found for certain."""
        self.check()
        self.model.settle(self.scan()[0])

    def simple(self, what):
        return self.ask(what)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


def contents(directory):
    """Every byte of a directory: {path: bytes}."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = file.read()
    return found


def expect_nothing_that_counts_taken(before, after):
    """The log and the manifest are untouched. A data file may have lost or gained bytes at its
    end, where nothing counts, and nothing before. Gained ones begin where its records end: what
    was padded to a whole block, but not in a checkpoint when the process died, is written once
    more with the records that follow in the log. One that no manifest lists may be gone with its
    hint, since the log has its records, and MANIFEST.tmp may be begun again. That no listed one
    is gone, a reader has to tell, which refuses to open without it."""
    for name, old in before.items():
        new = after.get(name)
        is_data = name.endswith(".data")
        if name == "MANIFEST.tmp" or new is None and name.endswith((".data", ".hint")):
            continue
        expect(new is not None, f"{name} is still there")
        shared = min(len(old.rstrip(b"\0")), len(new))
        expect(old == new or is_data and old[:shared] == new[:shared], f"{name} is as it was")
