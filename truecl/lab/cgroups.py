"""The cgroup v2 subtree of a lab: one group per node, so that a node can be frozen and killed whole.

Imports little: the power switch (`truecl.lab.power`) must be up at once.
"""

import contextlib
import os
import select
import time


def read(path: str) -> str:
    """Text of a small kernel file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode()
    finally:
        os.close(fd)


def write(path: str, text: str) -> None:
    """Write a small kernel file in one call, as the kernel wants it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def mount_point() -> str:
    """Where cgroup v2 is mounted: /sys/fs/cgroup, or below it on a machine that has v1 as well.

    Raises FileNotFoundError when there is none.
    """
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                return before.split()[4]
    raise FileNotFoundError("no cgroup v2 file system is mounted")


def event(group: str, key: str) -> bool:
    """`populated` or `frozen` out of cgroup.events; a group that is gone has neither."""
    try:
        return f"{key} 1" in read(f"{group}/cgroup.events").splitlines()
    except (FileNotFoundError, OSError):
        return False


def wait_event(group: str, key: str, value: bool, timeout: float) -> bool:
    """Wait until `key` of cgroup.events is `value`; False when `timeout` seconds pass first."""
    deadline = time.monotonic() + timeout
    try:
        fd = os.open(f"{group}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return not value
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while True:
            # The read arms the notification, so a change between read and poll is not missed.
            state = f"{key} 1" in os.pread(fd, 4096, 0).decode().splitlines()
            left = deadline - time.monotonic()
            if state is value or left <= 0:
                return state is value
            poll.poll(min(left, 0.1) * 1000)
    finally:
        os.close(fd)


def freeze(group: str, timeout: float) -> bool:
    """Freeze every process of the group; False when some are not stopped in time (tasks in D)."""
    write(f"{group}/cgroup.freeze", "1")
    return wait_event(group, "frozen", True, timeout)


def thaw(group: str) -> None:
    write(f"{group}/cgroup.freeze", "0")


def frozen(group: str) -> bool:
    """Whether the group was told to freeze."""
    return read(f"{group}/cgroup.freeze").strip() == "1"


def kill(group: str) -> None:
    """SIGKILL to every process of the group and below, frozen or not. Raises OSError."""
    write(f"{group}/cgroup.kill", "1")


def members(group: str) -> list[int]:
    """Processes of the group and of all below it, as this PID namespace numbers them."""
    found: list[int] = []
    for directory, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            found += [int(word) for word in read(f"{directory}/cgroup.procs").split()]
    return sorted(set(found))


def remove(group: str, timeout: float = 2.0) -> None:
    """Remove an empty group and all below it. Raises OSError when it is still in use after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    for directory, _, _ in os.walk(group, topdown=False):
        while True:
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:
                # A killed process leaves its group a moment after `populated 0`.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
