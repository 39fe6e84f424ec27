"""A node's /var/lib/truecl from outside: full, or so slow that it stands still again and again.

A slow disk is made by freezing the file system (FIFREEZE) for some milliseconds at a time: writes and fsync wait
meanwhile. Of the kernel's other ways, this needs neither the device mapper nor an I/O controller.
"""

import contextlib
import errno
import fcntl
import os
import threading
from pathlib import Path

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
FILLED = "filled"
BETWEEN = 0.03
"""Seconds in which it works, between two times that it does not."""


def place(pid: int) -> Path:
    """The node's directory as the machine sees it, by the node's PID 1."""
    return Path(f"/proc/{pid}/root/var/lib/truecl")


def fill(directory: Path) -> None:
    """Not a block is left. Raises OSError for any other trouble than that."""
    with (directory / FILLED).open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as full:
                if full.errno != errno.ENOSPC:
                    raise


def make_room(directory: Path) -> None:
    """Harmless when the node is gone, with what had not reached its image."""
    with contextlib.suppress(OSError):
        (directory / FILLED).unlink()


class SlowDisk(threading.Thread):
    """Frozen for `slowness` seconds, again and again, until `end`."""

    def __init__(self, directory: Path, slowness: float) -> None:
        super().__init__(daemon=True)
        self._directory, self._slowness = directory, slowness
        self._over = threading.Event()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the node was switched off
            fd = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while not self._over.is_set():
                    self._stand_still(fd)
                    self._over.wait(BETWEEN)
            finally:
                os.close(fd)

    def _stand_still(self, fd: int) -> None:
        fcntl.ioctl(fd, FIFREEZE, 0)
        try:
            self._over.wait(self._slowness)
        finally:
            fcntl.ioctl(fd, FITHAW, 0)

    def end(self) -> None:
        self._over.set()
        self.join()
