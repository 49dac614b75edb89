# SPDX-License-Identifier: MIT
"""Media that cannot be written: a store is read there, closed or killed, and nothing is asked
of the medium but reading."""
import hashlib
import os

from held_store import IO, OK, READ_ONLY, HeldStore, expect
from mounts import Unavailable, has, run

VALUE_SIZE = 700


def make_store(shell, directory, ends):
    """`ends`: closed, or killed, with a log to replay."""
    store = HeldStore(shell, directory)
    expect((answer := store.open()).status == OK, "a store is created", answer)
    expect(store.put(1, 1000, 1, VALUE_SIZE).status == OK, "keys fit")
    expect(store.simple("checkpoint").status == OK, "a checkpoint")
    expect(store.put(900, 200, 2, VALUE_SIZE).status == OK, "keys fit")
    expect(store.delete(1, 100).status == OK, "a delete")
    expect(store.batch(2000, 10, 3, VALUE_SIZE).status == OK, "a batch")
    if ends == "closed":
        expect(store.simple("close").status == OK, "the store closes")
    store.kill()
    return store.model


def read_and_try_to_write(shell, directory, model, read):
    with HeldStore(shell, directory, model) as store:
        answer = store.open(read=read)
        expect(answer.status in (IO, READ_ONLY), "it cannot be opened for writing", answer)
        answer = store.open(read=read, access="read-only")
        expect(answer.status == OK, "it can be opened for reading", answer)
        store.check()
        expect((answer := store.simple("verify")).status == OK, "nothing is damaged", answer)
        for refused in (store.put(1, 1, 9, VALUE_SIZE), store.delete(500, 1),
                        store.batch(1, 2, 9, VALUE_SIZE), store.simple("compact")):
            expect(refused.status == READ_ONLY, "it cannot be written", refused)
        expect((answer := store.simple("close")).status == OK, "it closes", answer)


def two_readers_at_once(shell, directory, model):
    with HeldStore(shell, directory, model) as one, HeldStore(shell, directory, model) as two:
        for store in (one, two):
            answer = store.open(access="read-only")
            expect(answer.status == OK, "any number of processes can read", answer)
        one.check()
        two.check()


def read_medium(shop, shell, image, kind, model, *options):
    before = digest(image)
    for read in ("mmap", "pread"):
        shop.mount(image, "live", "ro", *options, kind=kind)
        read_and_try_to_write(shell, shop.path("live", "store"), model, read)
        two_readers_at_once(shell, shop.path("live", "store"), model)
        shop.unmount("live")
    expect(digest(image) == before, "not a byte of the medium changed")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


# ---- Media --------------------------------------------------------------------------------


def a_store_on_a_read_only_mount_is_read(shop, shell):
    for ends in ("closed", "killed"):
        image = shop.image("disk.img", 24)
        run("mkfs.ext4", "-q", "-F", "-b", "4096", image)
        shop.mount(image, "live")
        model = make_store(shell, shop.path("live", "store"), ends)
        shop.unmount("live")
        read_medium(shop, shell, image, "ext4", model, "noload")
        shop.clear()
    return "closed, killed"


def a_writable_disk_mounted_read_only_later_is_read(shop, shell):
    image = shop.image("disk.img", 24)
    run("mkfs.ext4", "-q", "-F", "-b", "4096", image)
    shop.mount(image, "live")
    model = make_store(shell, shop.path("live", "store"), "killed")
    run("mount", "-o", "remount,ro", shop.path("live"))
    read_and_try_to_write(shell, shop.path("live", "store"), model, "mmap")
    run("mount", "-o", "remount,rw", shop.path("live"))
    with HeldStore(shell, shop.path("live", "store"), model) as store:
        expect((answer := store.open()).status == OK, "writable again, it opens", answer)
        store.check()
        expect(store.put(1, 10, 5, VALUE_SIZE).status == OK, "and takes writes")
        expect(store.simple("close").status == OK, "and closes")


def packed(shop, shell, kind, tool, *options):
    if not has(tool):
        raise Unavailable(f"no {tool} on this machine")
    with open("/proc/filesystems", encoding="ascii") as table:
        if kind not in table.read().split():
            raise Unavailable(f"no {kind} in this kernel")
    for ends in ("closed", "killed"):
        source, image = shop.path("source"), shop.path("packed.img")
        os.makedirs(source)
        model = make_store(shell, os.path.join(source, "store"), ends)
        arguments = (source, image) if kind == "squashfs" else (image, source)
        run(tool, *arguments, *options)
        read_medium(shop, shell, image, kind, model)
        shop.clear()
    return "closed, killed"


def a_store_on_squashfs_is_read(shop, shell):
    return packed(shop, shell, "squashfs", "mksquashfs", "-quiet", "-no-progress")


def a_store_on_erofs_is_read(shop, shell):
    return packed(shop, shell, "erofs", "mkfs.erofs")


LABS = [
    a_store_on_a_read_only_mount_is_read,
    a_writable_disk_mounted_read_only_later_is_read,
    a_store_on_squashfs_is_read,
    a_store_on_erofs_is_read,
]
QUICK_LABS = LABS
