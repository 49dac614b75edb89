#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Power cuts on real file systems.

    power_cuts.py --programs DIRECTORY [--cuts N] [--seed X] [--config NAME]
                  [--copy clone|stop] [--keep DIRECTORY]

Writers fill a store on a file system in a file. At random moments, in the middle of opening,
writing, checkpoints and compactions, the acknowledged positions are noted and then the image
is copied; the copy is mounted (the journal is replayed), the store in it is opened, and each
thread must be in a state that it went through, at or after all that was acknowledged as
durable. Life after life the writers go on with one of the copies, not yet recovered.

First, on each file system, writers that call unsynced writes durable must be caught.

The last line: cuts=N configurations=N lost=N violations=N seconds=S
"""
import argparse
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import time

from disks import CONFIGURATIONS, Disk, stopped
from mounts import SKIPPED, Failed, Unavailable, Workshop, has, run

POSITIONS_SIZE = 4096
CUTS_IN_A_LIFE_MAX = 5
MODES = ("always", "always", "always", "interval", "none")
SELF_TEST_CUTS = 20


class Tally:
    def __init__(self):
        self.cuts = self.lost = self.violations = self.reordered = self.opening = 0
        self.lives = self.steps = 0
        self.modes = dict.fromkeys(MODES, 0)


class Life:
    """Writers between the moment they open the store and the moment they are killed."""

    def __init__(self, trial, mode, claim=False):
        self.trial, self.mode = trial, mode
        trial.life += 1
        self.number, self.cuts = trial.life, 0
        self.board = trial.shop.path("board")
        with open(self.board, "wb") as file:
            file.truncate(POSITIONS_SIZE)
        with open(self.board, "rb") as file:
            self.page = mmap.mmap(file.fileno(), POSITIONS_SIZE, prot=mmap.PROT_READ)
        self.log = open(trial.shop.path("writer.log"), "w+b")
        self.writer = subprocess.Popen(
            [trial.program("lab-writer"), trial.shop.path("live", "store"), self.board,
             str(trial.seed), str(self.number), mode] + (["claim"] if claim else []),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def positions(self):
        return bytes(self.page[:POSITIONS_SIZE])

    def clock(self):
        return struct.unpack_from("<Q", self.page, 0)[0]

    def has_opened(self):
        return struct.unpack_from("<Q", self.page, 8)[0] != 0

    def check_alive(self):
        if self.writer.poll() is not None:
            self.log.seek(0)
            said = self.log.read().decode(errors="replace").strip()
            raise Failed(f"the writer ended by itself: {said}")

    def end(self):
        if self.writer.poll() is None:
            self.writer.kill()
        self.writer.wait()
        self.page.close()
        self.log.close()
        os.unlink(self.board)


class Trial:
    """One configuration."""

    def __init__(self, shop, configuration, arguments):
        self.shop, self.configuration, self.arguments = shop, configuration, arguments
        self.seed = arguments.seed
        self.rng = random.Random(f"{arguments.seed} {configuration.name}")
        self.life = 0
        self.tally = Tally()
        self.base = None
        self.disk = Disk(shop, configuration, arguments.copy)

    def program(self, name):
        return os.path.join(self.arguments.programs, name)

    def complain(self, life, what):
        self.tally.violations += 1
        print(f"VIOLATION on {self.configuration.name}, seed {self.seed}, life {life.number} "
              f"({life.mode}), cut {self.tally.cuts}: {what}", flush=True)

    # ---- One cut ------------------------------------------------------------------------

    def check(self, image, life, positions):
        """Mount the copy, recover, compare. Returns (lost, violation or None)."""
        before, found = self.shop.path("positions"), self.shop.path("found")
        with open(before, "wb") as file:
            file.write(positions)
        self.disk.mount_copy(image)
        try:
            done = run(self.program("lab-checker"), self.shop.path("copy", "store"),
                       life.board, before, str(self.seed), str(life.number), life.mode,
                       self.base or "-", found, check=False)
        finally:
            self.shop.unmount("copy")
        lost, what = 0, None
        for line in done.stdout.splitlines():
            if line.startswith("lost "):
                lost = int(line.split()[1])
            elif line.startswith("violation: ") and what is None:
                what = line[len("violation: "):]
        if what is None and (done.returncode != 0 or "checked" not in done.stdout):
            what = f"the checker ended with {done.returncode}: {done.stdout[-300:]}"
        return lost, what

    def keep(self, image, life, positions):
        directory = self.arguments.keep
        if directory:
            name = f"{self.configuration.name}-{life.number}-{self.tally.cuts}"
            os.makedirs(directory, exist_ok=True)
            run("cp", "--sparse=always", image, os.path.join(directory, name + ".img"))
            run("cp", "--sparse=always", life.board, os.path.join(directory, name + ".board"))
            with open(os.path.join(directory, name + ".positions"), "wb") as file:
                file.write(positions)
            if self.base:
                shutil.copy(self.base, os.path.join(directory, name + ".base"))

    def cut(self, life):
        """Returns the copy as the cut left it."""
        early = life.cuts == 0 and self.rng.random() < 0.6
        time.sleep(self.rng.uniform(0, 0.006 if early else 0.08))
        life.cuts += 1
        life.check_alive()
        self.tally.opening += not life.has_opened()
        image, positions, reordered = self.disk.cut("cut.img", life.writer, self.rng,
                                                    life.positions)
        self.tally.cuts += 1
        self.tally.reordered += reordered > 0
        pristine = self.disk.duplicate(image, "pristine.img")
        try:
            lost, what = self.check(image, life, positions)
        except Failed as failed:
            lost, what = 0, str(failed)
        os.unlink(image)
        self.tally.lost += lost
        if lost and not what:
            what = f"{lost} writes that were acknowledged as durable are lost"
        if what:
            self.complain(life, what)
            self.keep(pristine, life, positions)
        return pristine

    # ---- Lives --------------------------------------------------------------------------

    def live(self, cuts):
        life = Life(self, self.rng.choice(MODES))
        violations = self.tally.violations
        try:
            for _ in range(cuts):
                pristine = self.cut(life)
            life.check_alive()
        except Failed as failed:
            self.complain(life, failed)
        finally:
            self.tally.steps += life.clock() // 2
            life.end()
        self.tally.lives += 1
        self.tally.modes[life.mode] += cuts
        if violations == self.tally.violations:
            self.disk.adopt(pristine)
            self.base = self.shop.path("base")
            os.replace(self.shop.path("found"), self.base)
        return violations == self.tally.violations

    def self_test(self):
        """Writes that were not synced must be seen to be lost."""
        life = Life(self, "none", claim=True)
        try:
            for _ in range(SELF_TEST_CUTS):
                lost = self.cut_unsynced(life)
                if lost > 0:
                    return lost
        finally:
            life.end()
        raise Failed("writes that nobody synced were never lost: this lab proves nothing")

    def cut_unsynced(self, life):
        target = life.clock() + 400
        while life.clock() < target:
            life.check_alive()
            time.sleep(0.001)
        with stopped(life.writer):
            image, positions, _ = self.disk.cut("cut.img", life.writer, self.rng,
                                                life.positions)
        lost, what = self.check(image, life, positions)
        os.unlink(image)
        if what:
            raise Failed(what)
        return lost

    def start_over(self):
        """The self-test's store is not one to go on with."""
        self.shop.unmount("live")
        self.configuration.make(self.disk.live)
        self.disk.mount_live()

    def run(self, cuts):
        begun = time.monotonic()
        lost = 0
        try:
            lost = self.self_test()
            self.start_over()
            while self.tally.cuts < cuts:
                if not self.live(min(self.rng.randint(1, CUTS_IN_A_LIFE_MAX),
                                     cuts - self.tally.cuts)):
                    break
        except Failed as failed:
            self.tally.violations += 1
            print(f"FAILED on {self.configuration.name}, seed {self.seed}: {failed}")
        finally:
            self.disk.close()
        t = self.tally
        print(f"{self.configuration.name:12} cuts={t.cuts} opening={t.opening} "
              f"reordered={t.reordered} always={t.modes['always']} "
              f"interval={t.modes['interval']} none={t.modes['none']} lives={t.lives} "
              f"steps={t.steps} self-test-lost={lost} lost={t.lost} "
              f"violations={t.violations} seconds={time.monotonic() - begun:.0f}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description="power cuts on real file systems")
    parser.add_argument("--programs", required=True)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--config", choices=[c.name for c in CONFIGURATIONS])
    parser.add_argument("--copy", choices=["clone", "stop"],
                        default="clone" if has("mkfs.xfs") else "stop")
    parser.add_argument("--keep", help="where images of violations go")
    return parser.parse_args()


def run_all(shop, arguments):
    chosen = [c for c in CONFIGURATIONS if arguments.config in (None, c.name)]
    for configuration in [c for c in chosen if not c.is_available()]:
        print(f"{configuration.name:12} skipped: no {configuration.kind} on this machine")
        chosen.remove(configuration)
    chosen = chosen[:arguments.cuts]
    total, begun = Tally(), time.monotonic()
    for i, configuration in enumerate(chosen):
        trial = Trial(shop, configuration, arguments)
        trial.run(arguments.cuts * (i + 1) // len(chosen) - arguments.cuts * i // len(chosen))
        total.cuts += trial.tally.cuts
        total.lost += trial.tally.lost
        total.violations += trial.tally.violations
    print(f"cuts={total.cuts} configurations={len(chosen)} lost={total.lost} "
          f"violations={total.violations} seconds={time.monotonic() - begun:.0f}")
    return 1 if total.lost or total.violations or not chosen else 0


def main():
    arguments = parse_arguments()
    print(f"seed {arguments.seed}, copies by {arguments.copy}")
    try:
        with Workshop() as shop:
            return run_all(shop, arguments)
    except Unavailable as reason:
        print(f"skipped: {reason}")
        return SKIPPED


if __name__ == "__main__":
    sys.exit(main())
