"""Loop devices by ioctl (linux/loop.h): attach, detach, and what the kernel says of each.

Loop devices are one pool for the whole machine, so every node of every lab sees all of them under /sys/block.
"""

import contextlib
import fcntl
import os
import struct

from truecl.lab.cgroups import read

LOOP_CLR_FD = 0x4C01
LOOP_GET_STATUS64 = 0x4C05
LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_REMOVE = 0x4C81
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_AUTOCLEAR = 4
LOOP_MAJOR = 7
_INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")
"""struct loop_info64: device, inode, rdevice, offset, sizelimit, number, two of encryption, flags, names, key, init."""


def device(number: int) -> str:
    """Path of a loop device, made if /dev lacks it (a container's /dev is not devtmpfs)."""
    path = f"/dev/loop{number}"
    if not os.path.exists(path):
        with contextlib.suppress(FileExistsError):
            os.mknod(path, 0o600 | 0o060000, os.makedev(LOOP_MAJOR, number))
    return path


def attach(image: str) -> tuple[int, int]:
    """Attach `image` to a free loop device that frees itself on its last close.

    Returns its number and a descriptor that keeps it; close that once the device is mounted. Raises OSError.
    """
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    name = os.fsencode(image)[:63]
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR, name, b"", b"", 0, 0)
    try:
        for attempt in range(64):
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            # EBUSY, ENXIO: somebody else took (or removed) it since we asked.
            try:
                loop = os.open(device(number), os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                if attempt == 63:
                    raise
                continue
            try:
                fcntl.ioctl(loop, LOOP_CONFIGURE, struct.pack("=II", backing, 0) + info + bytes(64))
                return number, loop
            except OSError:
                os.close(loop)
                if attempt == 63:
                    raise
    finally:
        os.close(backing)
        os.close(control)
    raise AssertionError("unreachable: the last attempt raises")


def detach(number: int) -> None:
    """Ask the kernel to free the device; it does when the last user is gone. A free one is no error."""
    with contextlib.suppress(OSError):
        fd = os.open(device(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, LOOP_CLR_FD)
        finally:
            os.close(fd)


def attached() -> dict[int, str]:
    """Number and backing file of every attached loop device.

    The kernel writes the path as the opener's mount namespace has it: one that is gone leaves only the tail.
    """
    found: dict[int, str] = {}
    for name in sorted(os.listdir("/sys/block")):
        if name.startswith("loop") and name[4:].isdigit():
            with contextlib.suppress(OSError):
                found[int(name[4:])] = read(f"/sys/block/{name}/loop/backing_file").rstrip("\n")
    return found


def sequence(number: int) -> str:
    """The kernel's serial number of this attachment: another one after the device was freed and taken again; ''
    for a free device."""
    try:
        read(f"/sys/block/loop{number}/loop/backing_file")
        return read(f"/sys/block/loop{number}/diskseq").strip()
    except OSError:
        return ""


def backing_device(number: int) -> tuple[int, int] | None:
    """(major, minor) of the file system that the backing file is on; None for a free device."""
    try:
        fd = os.open(device(number), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        lo_device = _INFO.unpack(fcntl.ioctl(fd, LOOP_GET_STATUS64, bytes(_INFO.size)))[0]
    except OSError:
        return None
    finally:
        os.close(fd)
    return os.major(lo_device), os.minor(lo_device)


def numbers() -> set[int]:
    """All loop devices that the kernel has, attached or not."""
    return {int(name[4:]) for name in os.listdir("/sys/block") if name.startswith("loop") and name[4:].isdigit()}


def discard(number: int) -> None:
    """Remove a free loop device from the kernel; one in use stays."""
    with contextlib.suppress(OSError):
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(control, LOOP_CTL_REMOVE, number)
        finally:
            os.close(control)
