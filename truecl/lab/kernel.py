"""System calls that Python 3.11 does not offer, by their names in the manual. All raise OSError."""

import ctypes
import os
import signal
from collections.abc import Collection

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 4096, 8192, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER = 0, 1, 2, 3

# Numbers since 2019 are the same on every architecture.
_FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 430, 431, 432, 442
_FINIT_MODULE = {"x86_64": 313}
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    _check(_libc.setns(fd, flags), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    data = options.encode() or None
    _check(_libc.mount(source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data), target)


def unmount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(target.encode(), flags), target)


def pivot_root(new: str, old: str) -> None:
    _check(_libc.pivot_root(new.encode(), old.encode()), new)


def become_subreaper() -> None:
    """Orphans among this process's descendants become its children."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def die_with_parent() -> None:
    """SIGKILL for this process when the thread that forked it ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def keep_capabilities(kept: Collection[int]) -> None:
    """Of this process's next program; none can be won back."""
    number = 0
    while number in kept or _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1  # up to the last that the kernel knows
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def load_module(path: str) -> None:
    """A kernel module's file; the modules that it leans on must be there."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syscall(_FINIT_MODULE[os.uname().machine], fd, b"", 0), path)
    finally:
        os.close(fd)


def make_read_only(target: str, below: bool = True) -> None:
    """The mount at `target` and those below it (mount_setattr, Linux 5.12)."""
    _set_mount(target, _MOUNT_ATTR_RDONLY, 0, _AT_RECURSIVE if below else 0)


def make_writable(target: str) -> None:
    """The mount at `target` alone."""
    _set_mount(target, 0, _MOUNT_ATTR_RDONLY, 0)


def _set_mount(target: str, attributes: int, cleared: int, flags: int) -> None:
    change = (ctypes.c_uint64 * 4)(attributes, cleared, 0, 0)
    where = (_MOUNT_SETATTR, _AT_FDCWD, target.encode(), flags)
    _check(_libc.syscall(*where, ctypes.byref(change), ctypes.sizeof(change)), target)


def detached_mount(kind: str, device: str) -> int:
    """Mount `device` nowhere; returns a descriptor of the mount. A device mounted already gives the same superblock."""
    context = _check(_libc.syscall(_FSOPEN, kind.encode(), 1), kind)
    try:
        source = (_FSCONFIG, context, _FSCONFIG_SET_STRING, b"source", device.encode(), 0)
        _check(_libc.syscall(*source), device)
        _check(_libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), device)
        return _check(_libc.syscall(_FSMOUNT, context, 1, 0), device)
    finally:
        os.close(context)
