# SPDX-License-Identifier: MIT
"""File systems to cut the power of, and how their images are copied at one instant.

A copy must be the disk as it was at one moment. Two ways:

  clone   The image lies on an xfs of its own, and FICLONE copies it while the workload runs:
          the clone takes the file's lock, so every write to the disk is in it or not. A cut
          may fall into any system call.
  stop    Without mkfs.xfs: the writers are stopped, the file is copied, and the copy counts
          only if the loop device wrote nothing meanwhile.

What was written to the disk but not yet flushed may survive a cut or not, in any subset. Where
two clones were taken without a flush in between, a reordered cut takes pages from both. (Not
sectors: a superblock of ext4 that is torn within its page cannot be mounted.)
"""
import contextlib
import fcntl
import os
import signal

from mounts import Failed, has, run

FICLONE = 0x40049409
PAGE_SIZE = 4096
CHUNK_SIZE = 1 << 20
REORDER_TRIES = 16
COPY_ARGUMENTS = {"clone": ["--reflink=always"], "stop": ["--sparse=always"]}


class Configuration:
    def __init__(self, name, kind="ext4", size_mb=64, mkfs=(), mount=(), fsck=None, clone=()):
        self.name, self.kind, self.size_mb = name, kind, size_mb
        self.mkfs, self.mount, self.fsck = mkfs, mount, fsck
        self.clone_mount = clone  # more options when the original is mounted too

    def is_available(self):
        with open("/proc/filesystems", encoding="ascii") as table:
            known = self.kind in table.read().split()
        return known and has(f"mkfs.{self.kind}")

    def make(self, image):
        quiet = ("-q", "-F") if self.kind.startswith("ext") else ("-q", "-f")
        blocks = ("-b", "4096") if self.kind.startswith("ext") else ()
        run(f"mkfs.{self.kind}", *quiet, *blocks, *self.mkfs, image)


CONFIGURATIONS = [
    Configuration("ordered", mount=("data=ordered",)),
    Configuration("writeback", mount=("data=writeback",)),
    Configuration("journal", mount=("data=journal",)),
    # Without a journal nothing makes the group descriptors' count of unused inodes durable. An
    # e2fsck that finds and trusts it takes blocks of inodes beyond it for free ones, and writes
    # over files that were synced: the features with that count are left out.
    Configuration("no-journal", mkfs=("-O", "^has_journal,^metadata_csum,^uninit_bg"),
                  fsck=("e2fsck", "-fy")),
    Configuration("nodelalloc", mount=("nodelalloc",)),
    Configuration("1k-blocks", mkfs=("-b", "1024")),
    Configuration("commit-1", mount=("commit=1",)),
    Configuration("commit-1000", mount=("commit=1000",)),
    Configuration("xfs", kind="xfs", size_mb=320, clone=("nouuid",)),
    Configuration("btrfs", kind="btrfs", size_mb=192),
]


def writes_and_flushes(device):
    """Counters of a block device: writes done, requests in flight, flushes done."""
    with open(f"/sys/block/{device}/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.read().split()]
    return fields[4], fields[8], fields[15] if len(fields) > 15 else None


def mix(path, newer, rng):
    """Take some of the pages that differ from the newer image. Returns how many."""
    taken = 0
    with open(path, "r+b", buffering=0) as file, open(newer, "rb", buffering=0) as other:
        at = 0
        while left := file.read(CHUNK_SIZE):
            right = other.read(CHUNK_SIZE)
            if left != right:
                changed = bytearray(left)
                for begin in range(0, len(left), PAGE_SIZE):
                    end = begin + PAGE_SIZE
                    if left[begin:end] != right[begin:end] and rng.random() < 0.5:
                        changed[begin:end] = right[begin:end]
                        taken += 1
                os.pwrite(file.fileno(), changed, at)
            at += len(left)
    return taken


@contextlib.contextmanager
def stopped(process):
    process.send_signal(signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class Disk:
    """One image, mounted as "live", and its copies."""

    def __init__(self, shop, configuration, method):
        self.shop, self.configuration, self.method = shop, configuration, method
        self.folder = "outer" if method == "clone" else "images"
        if method == "clone":
            outer = shop.image("outer.img", 4096)
            run("mkfs.xfs", "-q", "-m", "reflink=1", outer)
            shop.mount(outer, self.folder, "discard", kind="xfs")
        else:
            os.makedirs(shop.path(self.folder), exist_ok=True)
        self.live = shop.image(os.path.join(self.folder, "live.img"), configuration.size_mb)
        configuration.make(self.live)
        self.mount_live()

    def mount_live(self):
        self.shop.mount(self.live, "live", *self.configuration.mount,
                        kind=self.configuration.kind)
        self.device = self.shop.device("live")

    def copy_to(self, path):
        with open(self.live, "rb") as source, open(path, "wb") as target:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())

    def clone_pair(self, path, newer):
        """Two clones. True: between them the disk took writes and no flush ended, so that a
        cut may leave any of those writes or none."""
        writes, _, flushes = writes_and_flushes(self.device)
        self.copy_to(path)
        self.copy_to(newer)
        later_writes, _, later_flushes = writes_and_flushes(self.device)
        return flushes is not None and later_writes > writes and later_flushes == flushes

    def clone(self, path, rng, positions):
        tries = REORDER_TRIES if rng.random() < 0.5 else 0
        newer = path + ".newer"
        for _ in range(tries):
            before = positions()
            may_mix = self.clone_pair(path, newer)
            taken = mix(path, newer, rng) if may_mix else 0
            os.unlink(newer)
            if taken > 0:
                return before, taken
        before = positions()
        self.copy_to(path)
        return before, 0

    def stop_and_copy(self, path, writer, positions):
        with stopped(writer):
            before = positions()
            for _ in range(100):
                counters = writes_and_flushes(self.device)
                run("cp", "--sparse=always", self.live, path)
                if counters[1] == 0 and writes_and_flushes(self.device) == counters:
                    return before, 0
        raise Failed("the disk was never quiet")

    def cut(self, name, writer, rng, positions):
        """The disk as it is now, in an image of its own, and what positions() said just
        before. Returns (path, positions, reordered pages)."""
        path = self.shop.path(self.folder, name)
        if self.method == "clone":
            return path, *self.clone(path, rng, positions)
        return path, *self.stop_and_copy(path, writer, positions)

    def duplicate(self, path, name):
        """A copy of a copy."""
        other = self.shop.path(self.folder, name)
        run("cp", *COPY_ARGUMENTS[self.method], path, other)
        return other

    def repair(self, image):
        if self.configuration.fsck:
            done = run(*self.configuration.fsck, image, check=False)
            if done.returncode > 2:
                raise Failed(f"{self.configuration.fsck[0]}: {done.stdout[-300:]}")

    def mount_copy(self, image):
        self.repair(image)
        return self.shop.mount(image, "copy", *self.configuration.mount,
                               *self.configuration.clone_mount, kind=self.configuration.kind)

    def adopt(self, image):
        """Go on with this copy as the disk."""
        self.shop.unmount("live")
        os.replace(image, self.live)
        self.repair(self.live)
        self.mount_live()

    def close(self):
        self.shop.clear()
