"""Who runs: a file in the run directory for each daemon, locked by the process that is it.

POSIX record locks (fcntl(2)), not flock: the kernel says which process holds one, a fork does not inherit it, and it
goes with its process however that ends. It would also go when the process closes any other descriptor of the file, so
nobody opens the file of a lock he holds a second time.
"""

import fcntl
import os
import select
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FLOCK = "@hhqqi4x"
"""struct flock of 64-bit Linux: type, whence, start, length, process id."""
_LOOKS = 5
MAX_NOTE = 64


class Taken(Exception):
    """Somebody else holds the lock."""

    def __init__(self, owner: int) -> None:
        super().__init__(f"held by process {owner}")
        self.owner = owner


@dataclass(frozen=True)
class Holder:
    """A living process that holds a lock. `pidfd` means it alone, also when its number is given out again."""

    pid: int
    pidfd: int
    note: str
    """What it said of itself when it took the lock."""

    def ended(self) -> bool:
        return ended(self.pidfd)


def take(path: Path, note: str, patience: float) -> int:
    """Locks `path` for the life of this process; waits `patience` seconds for a former one. Raises Taken, OSError."""
    end = time.monotonic() + patience
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while not _try(descriptor):
            if time.monotonic() >= end:
                raise Taken(_owner(descriptor) or 0)
            time.sleep(0.01)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{note}\n".encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def holder(path: Path) -> Holder | None:
    """Who holds the lock; None: nobody. The caller closes `pidfd`. Raises OSError.

    The kernel names a process before the pidfd is opened and the same one after it, and the pidfd's process lives still
    after that. So the second name was the pidfd's process: a number means one process at a time, and this one had it
    from the opening on.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        for _ in range(_LOOKS):
            pid = _owner(descriptor)
            if pid is None:
                return None
            pidfd = -1
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                if _owner(descriptor) == pid and not ended(pidfd):
                    return Holder(pid, pidfd, os.pread(descriptor, MAX_NOTE, 0).decode("utf-8", "replace").strip())
                os.close(pidfd)
    finally:
        os.close(descriptor)
    return None


def ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _try(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # fcntl(2): either, by system
        return False
    return True


def _owner(descriptor: int) -> int | None:
    """None: nobody, or a process outside this pid namespace."""
    question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None
