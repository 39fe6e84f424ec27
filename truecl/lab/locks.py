"""Locks between the lab's commands: flock on files, held by one process at a time or shared."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: str, shared: bool = False, remove: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, made with its directory when missing; with `remove` it is gone afterwards."""
    while True:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the directory went between the two lines
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            if Path(path).stat().st_ino == os.fstat(fd).st_ino:
                break
        except FileNotFoundError:
            pass
        os.close(fd)  # its holder removed it while we waited
    try:
        yield
    finally:
        if remove:
            Path(path).unlink(missing_ok=True)
        os.close(fd)
