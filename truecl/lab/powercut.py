"""A power cut: the node stops between two instructions, and what it had not synced is lost.

Killing the processes alone would not do: the last unmount writes everything back. So the order is
1. network ports down and the node's group frozen: nothing runs, nothing is answered;
2. FS_IOC_SHUTDOWN with NOLOGFLUSH on every file system of the node on a loop device: what has not reached the image yet
   never will (ext4 and xfs, one number: EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN);
3. kill, and wait until the group is empty;
4. wait until the node's loop devices are free: only then can nothing write to an image any more.

What reached an image file stays, as it stays on a disk. Imports little, for the power switch.
"""

import contextlib
import fcntl
import os
import socket
import struct
import time

from truecl.lab import cgroups, loops
from truecl.lab.paths import Paths

FS_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
FREEZE_TIMEOUT = 0.5
"""Seconds. A task in D does not freeze; the cut goes on without it, as power would."""
DEFAULT_TIMEOUT = 10.0


class CutFailed(Exception):
    """The node is not off: the text says what is left of it."""


class Mount:
    """One line of /proc/PID/mountinfo."""

    def __init__(self, pid: int, line: str) -> None:
        before, _, after = line.partition(" - ")
        words = before.split()
        major, _, minor = words[2].partition(":")
        self.pid = pid
        self.device = (int(major), int(minor))
        self.point = words[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        self.type = after.split()[0]


def mounts_of(pid: int) -> list[Mount]:
    """Mounts in the namespace of a process; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            return [Mount(pid, line) for line in lines]
    except OSError:
        return []


def node_mounts(group: str) -> list[Mount]:
    """Mounts of every mount namespace that a process of the node lives in, the newest first."""
    namespaces: dict[str, int] = {}
    for pid in cgroups.members(group):
        with contextlib.suppress(OSError):
            namespaces.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), pid)
    # A process on its way in (or out) may still stand in the machine's own namespace.
    namespaces.pop(os.readlink("/proc/self/ns/mnt"), None)
    return [mount for pid in namespaces.values() for mount in reversed(mounts_of(pid))]


def node_loops(paths: Paths, node: str, mounts: list[Mount]) -> set[int]:
    """The loop devices that belong to a node.

    Its own image; images in the shared directory, by the path (`Paths.shared_inside`); and images on any file system
    that only the node has: its memory file systems, and, again and again, those on a loop device found already.
    """
    outside = {mount.device for mount in mounts_of(os.getpid())}
    own = {mount.device for mount in mounts if mount.device not in outside}
    attached = loops.attached()
    inside, image = paths.shared_inside(node) + "/", paths.image(node)
    found = {mount.device[1] for mount in mounts if mount.device[0] == loops.LOOP_MAJOR and mount.device in own}
    found |= {n for n, file in attached.items() if file.startswith(inside) or file.removesuffix(" (deleted)") == image}
    while True:
        on = own | {(loops.LOOP_MAJOR, number) for number in found}
        more = {n for n in attached if n not in found and loops.backing_device(n) in on}
        if not more:
            return found
        found |= more


def shut_down(number: int, mounts: list[Mount]) -> None:
    """Cut the file system on a loop device off from it. Raises CutFailed when there is one and it cannot be."""
    device = (loops.LOOP_MAJOR, number)
    for mount in mounts:
        if mount.device == device and _shutdown_at(f"/proc/{mount.pid}/root{mount.point}", device):
            return
    for kind in ("ext4", "xfs"):
        if os.path.exists(f"/sys/fs/{kind}/loop{number}"):
            _shutdown_hidden(kind, number)


def _shutdown_at(directory: str, device: tuple[int, int]) -> bool:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if (os.major(status.st_dev), os.minor(status.st_dev)) != device:
            return False  # something else is mounted over it
        fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("=I", NOLOGFLUSH))
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _shutdown_hidden(kind: str, number: int) -> None:
    """For a superblock that no mount shows (unmounted lazily, covered by another): reach it by one more mount of it."""
    from truecl.lab import kernel  # ctypes: only where it is needed

    try:
        fd = kernel.detached_mount(kind, loops.device(number))
    except OSError as problem:
        raise CutFailed(f"cannot reach the {kind} file system on loop{number}: {problem}") from None
    try:
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            fcntl.ioctl(root, FS_IOC_SHUTDOWN, struct.pack("=I", NOLOGFLUSH))
        finally:
            os.close(root)
    finally:
        os.close(fd)


def ports_down(names: list[str]) -> None:
    """Take the node's switch ports down: a kernel without power answers no ARP either. In the switch's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name in names:
            request = struct.pack("16sH14x", name.encode(), 0)
            try:
                flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
                fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags & ~IFF_UP))
            except OSError:
                continue  # gone with the node's namespace already


def free_loops(found: dict[int, str], deadline: float) -> list[int]:
    """Detach, and wait until the kernel says that each is free; returns those that are not by `deadline`.

    `found` maps numbers to attachments (`loops.sequence`). Each is asked once, as a device that became free may be
    another node's the next moment; one still in use frees itself when its last user goes.
    """
    for number, sequence in found.items():
        if loops.sequence(number) == sequence:
            loops.detach(number)
    pause = 0.0005
    while True:
        left = [number for number, sequence in found.items() if loops.sequence(number) == sequence]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def cut(paths: Paths, node: str, mount_point: str, in_switch: bool, timeout: float = DEFAULT_TIMEOUT) -> None:
    """Cut the power of a node; returns when it is off: no process, no file system, no loop device left.

    `in_switch`: this process is in the switch's network namespace, so that the node's ports are within its reach.
    An interrupted cut is completed by the next. Raises CutFailed after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    group = paths.node_group(mount_point, node)
    found = _remembered(paths, node)
    if cgroups.event(group, "populated"):
        cgroups.write(f"{group}/cgroup.freeze", "1")
        if in_switch:
            ports_down(_words(paths.ports_file(node)))
        cgroups.wait_event(group, "frozen", True, FREEZE_TIMEOUT)
        mounts = node_mounts(group)
        found |= {number: loops.sequence(number) for number in node_loops(paths, node, mounts)}
        _remember(paths, node, found)
        for number in sorted(found, reverse=True):
            shut_down(number, mounts)
        cgroups.kill(group)
        if not cgroups.wait_event(group, "populated", False, deadline - time.monotonic()):
            raise CutFailed(f"{node}: processes {cgroups.members(group)} do not die")
    else:
        found |= {number: loops.sequence(number) for number in node_loops(paths, node, [])}
    left = free_loops(found, deadline)
    if left:
        raise CutFailed(f"{node}: still in use: " + ", ".join(f"/dev/loop{number}" for number in left))
    with contextlib.suppress(OSError):
        cgroups.thaw(group)
    _remember(paths, node, {})


def _words(path: str) -> list[str]:
    try:
        return cgroups.read(path).split()
    except OSError:
        return []


def _remembered(paths: Paths, node: str) -> dict[int, str]:
    pairs = (word.partition(":") for word in _words(paths.loops_file(node)))
    return {int(number): sequence for number, _, sequence in pairs if loops.sequence(int(number)) == sequence}


def _remember(paths: Paths, node: str, found: dict[int, str]) -> None:
    with open(paths.loops_file(node), "w", encoding="utf-8") as file:
        file.write(" ".join(f"{number}:{sequence}" for number, sequence in sorted(found.items())))
