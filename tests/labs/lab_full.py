# SPDX-License-Identifier: MIT
"""Disks that are full: by the store itself, by somebody else, to the last byte, without inodes.
A full disk fails the one write and nothing else; room heals it without anybody's help."""
import os
import time

from disks import CONFIGURATIONS
from held_store import (IO, NO_SPACE, OK, HeldStore, contents, expect,
                        expect_nothing_that_counts_taken)
from mounts import Unavailable, run

SIZE_MB = 24
VALUE_SIZE = 1500
MANY = 100000
SMALL_SIZE = 16
SMALL_MANY = 1000000
HEALS_WITHIN_S = 60  # far above what it takes


# ---- Disks --------------------------------------------------------------------------------


def small_disk(shop, kind="ext4", size_mb=SIZE_MB, mkfs=()):
    """Mounted as "live". Nothing is reserved for root."""
    if kind == "tmpfs":
        point = shop.path("live")
        os.makedirs(point)
        run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "none", point)
        return point
    known = [c for c in CONFIGURATIONS if c.kind == kind]
    if not known[0].is_available():
        raise Unavailable(f"no {kind} on this machine")
    if kind != "ext4":
        size_mb = max(size_mb, known[0].size_mb)
    image = shop.image("disk.img", size_mb)
    quiet = ("-q", "-F", "-b", "4096", "-m", "0") if kind == "ext4" else ("-q", "-f")
    run(f"mkfs.{kind}", *quiet, *mkfs, image)
    return shop.mount(image, "live", kind=kind)


def fill_completely(point):
    """Somebody else takes every block. Returns the file."""
    path = os.path.join(point, "ballast")
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    for size in (1 << 20, 1 << 16, 4096, 1):
        try:
            while True:
                os.write(fd, b"\xa5" * size)
        except OSError:
            pass
        try:
            os.fsync(fd)
        except OSError:
            pass
    os.close(fd)
    return path


def open_new(shop, shell, mode="always"):
    store = HeldStore(shell, shop.path("live", "store"))
    expect((answer := store.open(mode)).status == OK, "a store is created", answer)
    return store


def fill_by_puts(store, first=1):
    """Returns the first key that did not fit."""
    answer = store.put(first, MANY, 1, VALUE_SIZE)
    expect(answer.status == NO_SPACE, "a full disk is TKV_NO_SPACE", answer)
    expect(store.simple("poisoned").number == OK, "a full disk does not poison")
    return first + answer.number


def expect_to_heal(store, key):
    """Writes go on by themselves: nothing is asked of the store but another put."""
    until = time.monotonic() + HEALS_WITHIN_S
    while (answer := store.put(key, 20, 2, VALUE_SIZE)).status == NO_SPACE:
        expect(time.monotonic() < until, "a disk with room takes writes again", answer)
        time.sleep(0.05)
    expect(answer.status == OK, "writes go on", answer)


def expect_same_after_reopening(store):
    expect((answer := store.simple("verify")).status == OK, "nothing is damaged", answer)
    expect((answer := store.simple("close")).status == OK, "the store closes", answer)
    expect((answer := store.open()).status == OK, "the store opens again", answer)
    store.check()
    expect((answer := store.simple("verify")).status == OK, "nothing is damaged", answer)
    expect((answer := store.simple("close")).status == OK, "the store closes", answer)


# ---- Full by the store itself ----------------------------------------------------------------


def fill_and_recover(shop, shell, kind, mode, rounds):
    small_disk(shop, kind)
    with open_new(shop, shell, mode) as store:
        for _ in range(rounds):
            end = fill_by_puts(store)
            store.check()
            answer = store.delete(1, (end - 1) // 2)
            expect(answer.status == OK, "deletes go on when the disk is full", answer)
            store.check()
            expect((answer := store.simple("compact")).status == OK, "compaction", answer)
            expect_to_heal(store, 1)
            store.check()
        expect_same_after_reopening(store)
    shop.clear()
    return end - 1


def a_full_disk_reads_deletes_compacts_and_goes_on(shop, shell):
    return ", ".join(f"{kind} {mode} {fill_and_recover(shop, shell, kind, mode, 4)} keys"
                     for kind in ("ext4", "tmpfs") for mode in ("always", "interval", "none"))


def a_full_xfs_goes_on(shop, shell):
    return f"{fill_and_recover(shop, shell, 'xfs', 'always', 2)} keys"


def a_full_btrfs_goes_on(shop, shell):
    return f"{fill_and_recover(shop, shell, 'btrfs', 'always', 1)} keys"


def a_full_ext4_goes_on(shop, shell):
    return f"{fill_and_recover(shop, shell, 'ext4', 'always', 1)} keys"


def delete_small_records(shop, shell, kind, mode):
    """A delete of one takes as much room as it makes garbage, and its hint as much again."""
    small_disk(shop, kind, size_mb=16)
    with open_new(shop, shell, mode) as store:
        answer = store.put(1, SMALL_MANY, 1, SMALL_SIZE)
        expect(answer.status == NO_SPACE, "a full disk is TKV_NO_SPACE", answer)
        for key in range(1, answer.number, 16):
            gone = store.delete(key, 8)
            expect(gone.status == OK, "deletes go on when the disk is full", gone)
        store.check()
        expect((closed := store.simple("close")).status == OK, "the store closes", closed)
        expect((opened := store.open(mode)).status == OK, "the store opens again", opened)
        expect((done := store.simple("compact")).status == OK, "compaction", done)
        expect_to_heal(store, 1)
        expect_same_after_reopening(store)
    shop.clear()
    return answer.number


def deletes_of_small_records_find_room_on_a_full_disk(shop, shell):
    return ", ".join(f"{kind} {mode} {delete_small_records(shop, shell, kind, mode)} keys"
                     for kind in ("ext4", "tmpfs") for mode in ("always", "none"))


# ---- Full by somebody else -------------------------------------------------------------------


def survive_ballast(shop, shell, kind, mode):
    point = small_disk(shop, kind)
    with open_new(shop, shell, mode) as store:
        expect(store.put(1, 3000, 1, VALUE_SIZE).status == OK, "there is room at first")
        ballast = fill_completely(point)
        answer = store.put(3001, MANY, 1, VALUE_SIZE)
        expect(answer.status == NO_SPACE, "a full disk is TKV_NO_SPACE", answer)
        store.check()
        answer = store.delete(1, 2000)
        expect(answer.status in (OK, NO_SPACE), "a delete works or is refused", answer)
        store.simple("compact")
        store.check()
        expect(store.simple("poisoned").number == OK, "a full disk does not poison")
        os.unlink(ballast)
        expect_to_heal(store, 1)
        expect_same_after_reopening(store)
    shop.clear()
    return answer.number


def a_disk_filled_by_another_is_read_and_heals(shop, shell):
    return ", ".join(f"{kind} {mode}: {survive_ballast(shop, shell, kind, mode)} deletes done"
                     for kind in ("ext4", "tmpfs") for mode in ("always", "none"))


def an_ext4_filled_by_another_is_read_and_heals(shop, shell):
    return f"{survive_ballast(shop, shell, 'ext4', 'always')} deletes done"


# ---- Opening on a full disk --------------------------------------------------------------------


def open_when_full(shop, shell, kind, killed):
    """Returns whether it opened."""
    point = small_disk(shop, kind)
    store = open_new(shop, shell)
    expect(store.put(1, 3000, 1, VALUE_SIZE).status == OK, "there is room at first")
    expect(store.put(2900, 200, 2, VALUE_SIZE).status == OK, "there is room at first")
    if not killed:
        expect(store.simple("close").status == OK, "the store closes")
    store.kill()
    ballast = fill_completely(point)
    with HeldStore(shell, store.directory, store.model) as again:
        before = contents(store.directory)
        answer = again.open()
        if answer.status == OK:
            again.check()
            again.simple("close")
        else:
            # Where blocks are never written in place, a full disk refuses the log's own.
            expect(answer.status == NO_SPACE or (kind, answer.status) == ("btrfs", IO),
                   "opening fails with TKV_NO_SPACE", answer)
            expect_nothing_that_counts_taken(before, contents(store.directory))
            reader = again.open(access="read-only")
            expect(reader.status == OK, "it can be opened read-only", reader)
            again.check()
            again.simple("close")
        os.unlink(ballast)
        expect((now := again.open()).status == OK, "with room it opens", now)
        again.check()
        expect_to_heal(again, 5000)
        expect_same_after_reopening(again)
    shop.clear()
    return answer.status == OK


def a_full_disk_opens_or_nothing_that_counts_is_taken(shop, shell):
    said = []
    for kind in ("ext4", "tmpfs", "btrfs"):
        for killed in (False, True):
            opened = open_when_full(shop, shell, kind, killed)
            said.append(f"{kind} {'killed' if killed else 'closed'}: "
                        f"{'opened' if opened else 'refused'}")
    return ", ".join(said)


def a_full_ext4_opens_or_nothing_that_counts_is_taken(shop, shell):
    return "opened" if open_when_full(shop, shell, "ext4", True) else "refused"


def a_store_that_is_created_on_a_full_disk_fails_cleanly(shop, shell):
    said = []
    for kind in ("ext4", "tmpfs"):
        point = small_disk(shop, kind)
        os.makedirs(shop.path("live", "store"))
        ballast = fill_completely(point)
        with HeldStore(shell, shop.path("live", "store")) as store:
            answer = store.open()
            expect(answer.status == NO_SPACE, "creation is refused", answer)
            said.append(f"left: {' '.join(sorted(os.listdir(store.directory))) or 'nothing'}")
            os.unlink(ballast)
            expect((answer := store.open()).status == OK, "with room it is created", answer)
            expect(store.put(1, 100, 1, VALUE_SIZE).status == OK, "and takes writes")
            expect_same_after_reopening(store)
        shop.clear()
    return ", ".join(said)


# ---- Inodes -------------------------------------------------------------------------------------


def a_directory_without_inodes_is_read_and_heals(shop, shell):
    point = small_disk(shop, mkfs=("-N", "32"))
    others = shop.path("live", "others")
    os.makedirs(others)
    with open_new(shop, shell) as store:
        expect(store.put(1, 500, 1, VALUE_SIZE).status == OK, "there is room at first")
        taken = take_inodes(others)
        expect(taken > 0, "inodes can be used up")
        answer = store.put(501, MANY, 1, VALUE_SIZE)
        expect(answer.status == NO_SPACE, "no inode is TKV_NO_SPACE", answer)
        store.check()
        expect(store.simple("poisoned").number == OK, "that does not poison")
        for name in os.listdir(others):
            os.unlink(os.path.join(others, name))
        expect(os.statvfs(point).f_ffree > 0, "inodes are free again")
        expect_to_heal(store, 1)
        expect_same_after_reopening(store)
    return f"{answer.number} keys went into the log and the open files"


def take_inodes(directory):
    taken = 0
    try:
        while True:
            with open(os.path.join(directory, str(taken)), "wb"):
                taken += 1
    except OSError:
        return taken


LABS = [
    a_full_disk_reads_deletes_compacts_and_goes_on,
    deletes_of_small_records_find_room_on_a_full_disk,
    a_full_xfs_goes_on,
    a_full_btrfs_goes_on,
    a_disk_filled_by_another_is_read_and_heals,
    a_full_disk_opens_or_nothing_that_counts_is_taken,
    a_store_that_is_created_on_a_full_disk_fails_cleanly,
    a_directory_without_inodes_is_read_and_heals,
]
QUICK_LABS = [
    a_full_ext4_goes_on,
    an_ext4_filled_by_another_is_read_and_heals,
    a_full_ext4_opens_or_nothing_that_counts_is_taken,
    a_store_that_is_created_on_a_full_disk_fails_cleanly,
    a_directory_without_inodes_is_read_and_heals,
]
