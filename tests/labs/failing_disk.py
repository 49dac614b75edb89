# SPDX-License-Identifier: MIT
"""Disks that fail: a sparse image on a tmpfs that is too small for it. What the file system
below writes to a hole of the image then fails in the block layer, as on a broken device: real
write-back errors, a sync that succeeds after one that failed, a real emergency read-only.

The loop driver takes a write that the tmpfs did in part for one that it did in full. A device
that is asked for one page at a time is therefore honest, and one that is asked for more at once
lies: what it says is on disk is not. Both are wanted here."""
import fcntl
import os

from mounts import Failed, Unavailable, run

EXT4_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_WITHOUT_FLUSH = 2
BLOCK_SIZE = 4096
MKFS = {
    "ext4": ("-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("-f",),
    "btrfs": ("-f",),
}


class FailingDisk:
    """A file system whose device takes only `room_kb` more of new data after begin_to_fail()."""

    def __init__(self, shop, room_kb, *options, kind="ext4", only_data_fails=True, lies=False):
        self.shop, self.options, self.room_kb, self.lies = shop, options, room_kb, lies
        self.kind = kind
        self.small = shop.path("small")
        os.makedirs(self.small)
        run("mount", "-t", "tmpfs", "-o", "size=100m", "none", self.small)
        self.image = shop.image("small/disk.img", 64 if kind == "ext4" else 320)
        run(f"mkfs.{kind}", "-q", *MKFS[kind], self.image)
        if only_data_fails:
            self.fill_metadata()
        self.mount()

    def mount(self):
        self.shop.mount(self.image, "live", *self.options, kind=self.kind)
        if not self.lies:
            self.shop.limit_requests("live", BLOCK_SIZE // 1024)

    def fill_metadata(self):
        """The file system's own blocks become real."""
        with open(self.image, "r+b", buffering=0) as file:
            first = 6 << 20
            os.pwrite(file.fileno(), os.pread(file.fileno(), first, 0), 0)
            listed = run("debugfs", "-R", "blocks <8>", self.image).stdout.splitlines()[-1]
            for block in (int(word) for word in listed.split()):
                at = block * BLOCK_SIZE
                os.pwrite(file.fileno(), os.pread(file.fileno(), BLOCK_SIZE, at), at)

    def begin_to_fail(self):
        run("sync", "-f", self.shop.path("live"))
        used = os.statvfs(self.small)
        used_kb = (used.f_blocks - used.f_bfree) * used.f_frsize // 1024
        run("mount", "-o", f"remount,size={used_kb + self.room_kb}k", self.small)

    def heal(self):
        run("mount", "-o", "remount,size=100m", self.small)

    def mount_again(self):
        self.shop.unmount("live", check=False)
        if self.kind == "ext4":
            check_ext4(self.image)
        self.mount()


def check_ext4(image):
    done = run("e2fsck", "-fy", image, check=False)
    if done.returncode > 2:
        raise Failed(f"e2fsck: {done.stdout[-300:]}")


class MountedDisk:
    """An ordinary image."""

    def __init__(self, shop, image):
        self.shop, self.image = shop, image

    def mount_again(self):
        self.shop.unmount("live")
        check_ext4(self.image)
        self.shop.mount(self.image, "live")


def shut_down(point):
    fd = os.open(point, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, SHUTDOWN_WITHOUT_FLUSH.to_bytes(4, "little"))
    except OSError as error:
        raise Unavailable(f"EXT4_IOC_SHUTDOWN: {error.strerror}") from error
    finally:
        os.close(fd)
