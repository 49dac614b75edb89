# SPDX-License-Identifier: MIT
"""A place for file systems in files, in a mount namespace of its own: whatever happens to the
process, its mounts, loop devices and images go with it."""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile

SKIPPED = 77
os.environ["PATH"] += ":/usr/sbin:/sbin"  # where root's tools are
CLONE_NEWNS = 0x00020000
MS_PRIVATE_EVERYWHERE = 0x4000 | 1 << 18


class Unavailable(Exception):
    """This machine cannot do it; the text says why."""


class Failed(Exception):
    """A promise was not kept."""


def run(*command, check=True):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}: "
                     f"{done.stdout.strip()[-300:]}")
    return done


def has(tool):
    return shutil.which(tool) is not None


def leave_on_signals():
    def leave(number, _frame):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)


class Workshop:
    """A directory on a tmpfs that nobody else sees. `with Workshop() as shop: ...`"""

    def __init__(self, size_mb=6000):
        self.size_mb = size_mb
        self.directory = None
        self.limits = {}  # of loop devices: file -> what was in it

    def __enter__(self):
        leave_on_signals()
        if os.geteuid() != 0:
            raise Unavailable("mounting needs root")
        if not has("mkfs.ext4") or not has("mount"):
            raise Unavailable("mkfs.ext4 and mount are needed")
        libc = ctypes.CDLL(None, use_errno=True)
        if (libc.unshare(CLONE_NEWNS) != 0 or
                libc.mount(b"none", b"/", None, MS_PRIVATE_EVERYWHERE, None) != 0):
            raise Unavailable(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
        self.directory = tempfile.mkdtemp(prefix="tinykv-labs-")
        try:
            run("mount", "-t", "tmpfs", "-o", f"size={self.size_mb}m", "none", self.directory)
            self.probe()
        except Failed as failed:
            self.__exit__()
            raise Unavailable(f"no loop mounts: {failed}") from failed
        return self

    def probe(self):
        image = self.image("probe.img", 4)
        run("mkfs.ext4", "-q", "-F", image)
        self.mount(image, "probe")
        self.unmount("probe")
        os.unlink(image)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def image(self, name, size_mb):
        """A sparse file."""
        path = self.path(name)
        with open(path, "wb") as file:
            file.truncate(size_mb << 20)
        return path

    def mount(self, source, name, *options, kind=None):
        point = self.path(name)
        os.makedirs(point, exist_ok=True)
        kinds = ["-t", kind] if kind else []
        run("mount", *kinds, "-o", ",".join(("loop",) + options), source, point)
        return point

    def unmount(self, name, check=True):
        return run("umount", self.path(name), check=check)

    def device(self, name):
        """The loop device behind a mount."""
        point = self.path(name)
        with open("/proc/self/mountinfo", encoding="ascii", errors="replace") as table:
            for line in table:
                if line.split()[4] == point:
                    return os.path.basename(line.split(" - ")[1].split()[1])
        raise Failed(f"{point} is not mounted")

    def limit_requests(self, name, size_kb):
        """What the device behind a mount is asked for at once. It outlives the mount."""
        path = f"/sys/block/{self.device(name)}/queue/max_sectors_kb"
        try:
            with open(path, "r+", encoding="ascii") as file:
                self.limits.setdefault(path, file.read().strip())
                file.write(str(size_kb))
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error

    def restore_limits(self):
        while self.limits:
            path, value = self.limits.popitem()
            with open(path, "w", encoding="ascii") as file:
                file.write(value)

    def __exit__(self, *_):
        self.unmount_all()
        run("umount", "-l", self.directory, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def unmount_all(self):
        self.restore_limits()
        for point in self.mounted():
            if point != self.directory:
                run("umount", "-l", point, check=False)

    def mounted(self):
        """Mount points of this workshop, the inner ones first."""
        with open("/proc/self/mountinfo", encoding="ascii", errors="replace") as table:
            points = [line.split()[4] for line in table]
        inside = [p for p in points if p == self.directory or p.startswith(self.directory + "/")]
        return reversed(inside)

    def clear(self):
        """Unmount everything and remove everything."""
        self.unmount_all()
        for name in os.listdir(self.directory):
            path = self.path(name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
