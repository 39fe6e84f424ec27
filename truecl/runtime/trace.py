"""What a clusterd asks of the log and is told of it, for checks from outside: `truecl.lab.traces` reads it.

Kept only where the log directory has a directory `trace` when the daemon starts, which truecl never makes, and where
the daemon's user may write. One file for each life of the daemon, of records: time (CLOCK_BOOTTIME, seconds, as a
double), length, message. A record is there before the message leaves, and when one came, before anything comes of it.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from truecl.core.contract import Event, Told
from truecl.model.ids import LOCKD
from truecl.wire.codec import Codec
from truecl.wire.messages import LOCAL, Applied, Propose, Proposed

MAX_BYTES = 32 << 20
_HEAD = struct.Struct(">dI")
_CODEC = Codec(LOCAL)


class Incomplete(Exception):
    """A trace that ends before its daemon did: nothing can be concluded from it."""


class Trace:
    """Never raises, and never stops the daemon: what cannot be kept ends the trace, with a line in the log."""

    def __init__(
        self, directory: Path, daemon: str, now: Callable[[], float], complain: Callable[[str], None],
        limit: int = MAX_BYTES,
    ) -> None:  # fmt: skip
        self._now, self._complain, self._left = now, complain, limit
        self._path = directory / f"{daemon}.{now():.6f}"
        self._file: int | None = None
        """Opened for the first record, by the user that the daemon runs as then. -1: there will be no more."""

    def heard(self, event: Event) -> None:
        if isinstance(event, Told) and event.who == LOCKD and isinstance(event.message, Proposed | Applied):
            self._keep(event.message)

    def tells(self, message: Any) -> None:
        if isinstance(message, Propose):
            self._keep(message)

    def _keep(self, message: Any) -> None:
        if self._file is None:
            self._file = self._open()
        if self._file < 0:
            return
        packed = _CODEC.pack(message)
        record = _HEAD.pack(self._now(), len(packed)) + packed
        self._left -= len(record)
        if self._left < 0:
            self._end(self._file, "it is full")
            return
        try:
            os.write(self._file, record)
        except OSError as error:
            self._end(self._file, str(error.strerror))

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as error:
            self._complain(f"no trace in {self._path}: {error.strerror}")
            return -1

    def _end(self, file: int, why: str) -> None:
        """An empty record is the last one."""
        self._complain(f"the trace ends: {why}")
        self._file = -1
        with suppress(OSError):  # then what comes next is missing, and the log says so
            os.write(file, _HEAD.pack(self._now(), 0))
        os.close(file)


def read(path: Path) -> Iterator[tuple[float, Any]]:
    """When, and the message. What a daemon that was killed wrote last may be cut off. Raises OSError, Incomplete."""
    data, place = path.read_bytes(), 0
    while place + _HEAD.size <= len(data):
        at, length = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        if not length:
            raise Incomplete(f"{path}: it ended before its daemon did")
        if place + length <= len(data):
            yield at, _CODEC.decode(data[place : place + length])
        place += length
