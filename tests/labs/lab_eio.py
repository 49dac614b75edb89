# SPDX-License-Identifier: MIT
"""Stores on disks that fail: nothing acknowledged is lost, nothing is answered wrong, and a
store that cannot write any more can be read."""
import os

from disks import CONFIGURATIONS
from failing_disk import FailingDisk, MountedDisk, shut_down
from held_store import CORRUPT, IO, NO_SPACE, OK, POISONED, HeldStore, expect
from mounts import Unavailable, run

KEPT = 500        # keys that are safely on the disk before it fails
MANY = 20000      # more keys than any of these disks takes
VALUE_SIZE = 1500


# ---- The lab itself -----------------------------------------------------------------------


def the_kernel_forgets_a_failed_sync(shop, _shell):
    """What makes a second fsync worthless; without it the labs below would prove little."""
    disk = FailingDisk(shop, 300)
    disk.begin_to_fail()
    answers = []
    fd = os.open(shop.path("live", "file"), os.O_CREAT | os.O_RDWR)
    os.write(fd, os.urandom(4 << 20))
    for _ in range(4):
        try:
            os.fsync(fd)
            answers.append("OK")
        except OSError as error:
            answers.append(os.strerror(error.errno))
    os.close(fd)
    expect(answers[0] != "OK", "this disk fails", str(answers))
    return "; ".join(answers)


# ---- Failing writes -----------------------------------------------------------------------


def open_with_keys(disk, shell, mode, read):
    store = HeldStore(shell, disk.shop.path("live", "store"))
    expect((answer := store.open(mode, read)).status == OK, "a store is created", answer)
    expect((answer := store.put(1, KEPT, 1, VALUE_SIZE)).status == OK, "keys fit", answer)
    expect((answer := store.simple("checkpoint")).status == OK, "a checkpoint", answer)
    return store


def fail(store):
    """Write until the disk fails. A device may say ENOSPC, and for a file that can be written
    again that is a full disk; any sync that cannot be repeated poisons."""
    answer = store.put(KEPT + 1, MANY, 1, VALUE_SIZE)
    expect(answer.status in (IO, POISONED, NO_SPACE), "a failing disk is noticed", answer)
    if store.simple("poisoned").number != OK:
        expect_poisoned(store)
    expect(store.check(all_readable=False) == 0, "a store that cannot write can be read")
    return answer.number


def expect_poisoned(store):
    known = {key: set(store.model.maybe.get(key, ())) for key in (1, 2, 3)}
    for again in (store.put(1, 1, 2, VALUE_SIZE), store.delete(1, 1),
                  store.batch(1, 3, 2, VALUE_SIZE), store.simple("sync"),
                  store.simple("checkpoint")):
        expect(again.status == POISONED, "a poisoned store stays poisoned", again)
    store.model.maybe.update(known)  # these were refused before anything was done


def read_what_is_left(store, read, kind="ext4"):
    """On the broken disk, changing nothing."""
    answer = store.open("always", read, "read-only")
    if kind == "btrfs" and answer.status == IO:
        return  # it does not even list a directory any more
    expect(answer.status == OK, "a broken disk's store opens read-only", answer)
    store.check(all_readable=False)
    expect((answer := store.simple("close")).status == OK, "closing a reader", answer)


def try_on_broken_disk(store, read):
    answer = store.open("always", read)
    if answer.status == OK:
        expect(store.check() == 0, "what opened has every key")
        store.simple("close")
    else:
        expect(answer.status == IO, "a broken disk is an I/O error", answer)
    return answer.status == OK


def expect_intact(store, read, all_readable=True):
    answer = store.open("always", read)
    if answer.status == CORRUPT and not all_readable:
        return KEPT
    expect(answer.status == OK, "the store opens again", answer)
    unreadable = store.check(all_readable)
    if all_readable:
        expect((answer := store.simple("verify")).status == OK, "nothing is damaged", answer)
        store.settle()
        expect((answer := store.put(9, 200, 3, VALUE_SIZE)).status == OK, "it is as new", answer)
    expect((answer := store.simple("close")).status == OK or not all_readable, "close", answer)
    return unreadable


def failing_disk(shop, shell, room_kb, read="mmap", kind="ext4", only_data_fails=True):
    disk = FailingDisk(shop, room_kb, kind=kind, only_data_fails=only_data_fails)
    with open_with_keys(disk, shell, "always", read) as store:
        disk.begin_to_fail()
        written = fail(store)
        store.simple("close")
        read_what_is_left(store, read, kind)
        opened = try_on_broken_disk(store, read)
        disk.heal()
        disk.mount_again()
        expect_intact(store, read)
    return f"{written} keys, {'opened' if opened else 'refused'} while broken"


def a_failing_disk_loses_nothing_acknowledged(shop, shell):
    said = []
    for room_kb in (200, 700, 1500, 3000, 6000):
        for read in ("mmap", "pread"):
            said.append(failing_disk(shop, shell, room_kb, read))
            shop.clear()
    return f"{len(said)} disks: " + said[0]


def a_disk_that_fails_anywhere_loses_nothing_acknowledged(shop, shell):
    said = []
    for room_kb in (200, 500, 1000, 2000, 4000):
        said.append(failing_disk(shop, shell, room_kb, only_data_fails=False))
        shop.clear()
    return f"{len(said)} disks: " + said[0]


def failing_kind(shop, shell, kind):
    if not any(c.kind == kind and c.is_available() for c in CONFIGURATIONS):
        raise Unavailable(f"no {kind} on this machine")
    said = []
    for room_kb in (500, 2000, 5000):
        said.append(failing_disk(shop, shell, room_kb, kind=kind, only_data_fails=False))
        shop.clear()
    return "; ".join(said)


def a_failing_xfs_loses_nothing_acknowledged(shop, shell):
    return failing_kind(shop, shell, "xfs")


def a_failing_btrfs_loses_nothing_acknowledged(shop, shell):
    return failing_kind(shop, shell, "btrfs")


def one_failing_disk_loses_nothing_acknowledged(shop, shell):
    return failing_disk(shop, shell, 1000)


def a_disk_that_failed_for_a_moment_is_not_trusted(shop, shell):
    """Healed while the store is open: the sync that failed would succeed now, and would say
    nothing about the pages that the kernel has given up."""
    poisoned = 0
    for room_kb in (700, 1000, 1300, 3000):
        disk = FailingDisk(shop, room_kb)
        with open_with_keys(disk, shell, "always", "mmap") as store:
            disk.begin_to_fail()
            fail(store)
            disk.heal()
            if store.simple("poisoned").number != OK:
                poisoned += 1
                expect_poisoned(store)
            else:
                store.put(KEPT + 1, 1000, 2, VALUE_SIZE)
                store.simple("checkpoint")
            store.simple("close")
            disk.mount_again()
            expect_intact(store, "mmap")
        shop.clear()
    return f"{poisoned} of 4 poisoned"


def what_a_failing_disk_served_after_reopening_stays(shop, shell):
    """Opened again in the same boot, over a page cache that knows more than the disk: what
    that opening served must be there when the cache is gone."""
    said = []
    for room_kb in (200, 500, 900, 1300):
        disk = FailingDisk(shop, room_kb, "errors=continue", only_data_fails=True)
        with open_with_keys(disk, shell, "always", "mmap") as store:
            disk.begin_to_fail()
            fail(store)
            store.simple("close")
            disk.heal()
            answer = store.open()
            if answer.status == OK:
                store.settle()
                store.simple("close")
            said.append("opened" if answer.status == OK else "refused")
            disk.mount_again()
            expect_intact(store, "mmap")
        shop.clear()
    return ", ".join(said)


def a_disk_that_lies_is_found_out(shop, shell):
    """Writes that were reported done and are not there: an error, or a refusal to open."""
    unreadable = 0
    for room_kb in range(200, 2000, 150):
        disk = FailingDisk(shop, room_kb, lies=True)
        with open_with_keys(disk, shell, "always", "mmap") as store:
            disk.begin_to_fail()
            fail(store)
            store.simple("close")
            disk.heal()
            if store.open().status == OK:
                store.check(all_readable=False)
                store.simple("close")
            disk.mount_again()
            unreadable += expect_intact(store, "mmap", all_readable=False)
        shop.clear()
    return f"{unreadable} keys known to be damaged"


def a_disk_that_reports_late_damages_but_never_lies(shop, shell):
    """data=journal: the sync succeeds in the journal, and the write to the data's own place
    fails after that. No program can know; the reads must."""
    unreadable = 0
    for room_kb in (300, 1000, 2500):
        disk = FailingDisk(shop, room_kb, "data=journal")
        with open_with_keys(disk, shell, "always", "mmap") as store:
            disk.begin_to_fail()
            fail(store)
            store.simple("close")
            try_on_broken_disk(store, "mmap")
            disk.heal()
            disk.mount_again()
            unreadable += expect_intact(store, "mmap", all_readable=False)
        shop.clear()
    return f"{unreadable} keys known to be damaged"


def relaxed_modes_keep_a_prefix_and_what_was_synced(shop, shell):
    kept = []
    for mode in ("interval", "none"):
        for room_kb in (300, 2500):
            disk = FailingDisk(shop, room_kb)
            with open_with_keys(disk, shell, mode, "mmap") as store:
                disk.begin_to_fail()
                answer = store.put(KEPT + 1, MANY, 1, VALUE_SIZE)
                expect(answer.status in (IO, POISONED), "it is an I/O error", answer)
                store.simple("close")
                disk.heal()
                disk.mount_again()
                expect((again := store.open()).status == OK, "the store opens again", again)
                found, failed = store.scan()
                expect(not failed, "every key can be read", str(failed))
                expect(sorted(found) == list(range(1, len(found) + 1)), "there is no hole")
                expect(KEPT <= len(found) <= KEPT + answer.number + 1, "a prefix", len(found))
                kept.append(f"{len(found)} of {KEPT + answer.number}")
            shop.clear()
    return ", ".join(kept)


# ---- The file system turns against its files ----------------------------------------------


def an_emergency_read_only_poisons_and_is_read(shop, shell):
    image = shop.image("disk.img", 64)
    run("mkfs.ext4", "-q", "-F", image)
    shop.mount(image, "live", "errors=remount-ro")
    trigger = f"/sys/fs/ext4/{shop.device('live')}/trigger_fs_error"
    if not os.path.exists(trigger):
        raise Unavailable("this kernel's ext4 has no trigger_fs_error")
    disk = MountedDisk(shop, image)
    with open_with_keys(disk, shell, "always", "mmap") as store:
        with open(trigger, "w", encoding="ascii") as file:
            file.write("lab")
        written = fail(store)
        expect(store.simple("poisoned").number != OK, "the store is poisoned")
        store.simple("close")
        read_what_is_left(store, "mmap")
        expect((answer := store.open()).status == IO, "nothing opens for writing", answer)
        disk.mount_again()
        expect_intact(store, "mmap")
    return f"{written} keys after the error"


def a_device_that_is_gone_poisons_and_comes_back_whole(shop, shell):
    """EXT4_IOC_SHUTDOWN: from one call to the next everything is EIO."""
    said = []
    for mode in ("always", "interval"):
        image = shop.image("disk.img", 64)
        run("mkfs.ext4", "-q", "-F", image)
        shop.mount(image, "live")
        disk = MountedDisk(shop, image)
        with open_with_keys(disk, shell, mode, "pread") as store:
            more = store.put(KEPT + 1, 200, 1, VALUE_SIZE)
            expect(more.status == OK, "a healthy disk", more)
            store.simple("sync")
            shut_down(shop.path("live"))
            answer = store.put(KEPT + 201, 10000, 1, VALUE_SIZE)
            expect(answer.status in (IO, POISONED), "it is an I/O error", answer)
            if mode == "interval":  # acknowledged, and nothing that the mode promises
                for key in range(KEPT + 201, KEPT + 201 + answer.number):
                    store.model.unknown(key, None)
            said.append(f"{store.check(all_readable=False)} unreadable")
            store.simple("close")
            disk.mount_again()
            expect_intact(store, "pread")
        shop.clear()
    return ", ".join(said)


LABS = [
    the_kernel_forgets_a_failed_sync,
    a_failing_disk_loses_nothing_acknowledged,
    a_disk_that_fails_anywhere_loses_nothing_acknowledged,
    a_failing_xfs_loses_nothing_acknowledged,
    a_failing_btrfs_loses_nothing_acknowledged,
    a_disk_that_failed_for_a_moment_is_not_trusted,
    what_a_failing_disk_served_after_reopening_stays,
    a_disk_that_lies_is_found_out,
    a_disk_that_reports_late_damages_but_never_lies,
    relaxed_modes_keep_a_prefix_and_what_was_synced,
    an_emergency_read_only_poisons_and_is_read,
    a_device_that_is_gone_poisons_and_comes_back_whole,
]
QUICK_LABS = [
    the_kernel_forgets_a_failed_sync,
    one_failing_disk_loses_nothing_acknowledged,
    a_disk_that_failed_for_a_moment_is_not_trusted,
    an_emergency_read_only_poisons_and_is_read,
    a_device_that_is_gone_poisons_and_comes_back_whole,
]
