"""Unmount what another mount namespace has a copy of.

A service with mounts of its own, a container, a virtual machine's cage: whoever makes a mount namespace gets a copy of
every mount there is, and may keep it when the original is gone. The file system lives on in it, and is written.
"""

import ctypes
import errno
import os
from pathlib import Path

from truecl.drivers import holders

_CLONE_NEWNS = 0x00020000
_UMOUNT_NOFOLLOW = 8


def unmount(proc: Path, pid: int, device: str) -> bytes:
    """Runs in a child: enter the namespace and the root of a process, and unmount `device` ('MAJOR:MINOR') there, the
    last mounted first, never lazily. The points where it was. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = proc / str(pid)
    points = [mount.point for mount in holders.mounts((process / "mountinfo").read_text()) if mount.device == device]
    namespace = os.open(process / "ns" / "mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = os.open(process / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _check(libc.setns(namespace, _CLONE_NEWNS), "setns")
    os.fchdir(root)
    os.chroot(".")
    for point in reversed(points):
        _check(libc.umount2(os.fsencode(point), _UMOUNT_NOFOLLOW), point)
    return ", ".join(points).encode(errors="surrogateescape")


def _check(result: int, what: str) -> None:
    number = ctypes.get_errno()
    # EINVAL: it is no mount point any more, as others saw to the same.
    if result != 0 and (number != errno.EINVAL or what == "setns"):
        raise OSError(number, os.strerror(number), what)
