"""A daemon's log: `2026-11-22T03:04:05.678Z node hbd[71] WARNING text`, one line an event, bounded in every direction.

For people and for support, never read by a program. Lines have a greatest length, a burst and a rate; files rotate by
size and only so many are kept. A log that cannot be written (disk full) never stops a daemon. No message content, key
or password is handed to it.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, cast

from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner

from truecl.runtime.clock import Clock

MAX_LINE = 2000
MAX_FILE = 4 << 20
KEPT_FILES = 3
BURST = 200
RATE = 20.0
"""Lines a second once the burst is used up."""
MAX_SELDOM = 256


class Level(IntEnum):
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class LogFile:
    """Appends lines to `path`; at `limit` bytes it becomes NAME.1, NAME.1 becomes NAME.2 and so on."""

    def __init__(self, path: Path, limit: int = MAX_FILE, kept: int = KEPT_FILES) -> None:
        self.path = path
        self._limit = limit
        self._kept = kept
        self._descriptor = -1
        self._size = 0
        self._open()

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        if self._size + len(data) > self._limit:
            self._rotate()
        self._size += os.write(self._descriptor, data)

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o640)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def _rotate(self) -> None:
        try:
            for number in range(self._kept - 1, 0, -1):
                older = self.path.with_name(f"{self.path.name}.{number}")
                newer = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
                if newer.exists():
                    newer.replace(older)
            self._open()
        except OSError:
            os.ftruncate(self._descriptor, 0)
        self._size = os.fstat(self._descriptor).st_size


class Log:
    """Where one daemon says what it does. `sink` takes whole lines as bytes and may raise OSError."""

    def __init__(
        self,
        node: str,
        daemon: str,
        sink: Callable[[bytes], object],
        clock: Clock,
        least: Level = Level.INFO,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.node = node
        self.daemon = daemon
        self.least = least
        self.lost = 0
        """Lines that were not written: too many, or the disk would not."""
        self._sink = sink
        self._clock = clock
        self._wall = wall
        self._budget = float(BURST)
        self._since = clock.now()
        self._untold = 0
        self._seldom: dict[str, tuple[float, int]] = {}

    def debug(self, text: str) -> None:
        self.write(Level.DEBUG, text)

    def info(self, text: str) -> None:
        self.write(Level.INFO, text)

    def warning(self, text: str) -> None:
        self.write(Level.WARNING, text)

    def error(self, text: str) -> None:
        self.write(Level.ERROR, text)

    def write(self, level: Level, text: str) -> None:
        if level < self.least:
            return
        now = self._clock.now()
        self._budget = min(float(BURST), self._budget + (now - self._since) * RATE)
        self._since = now
        if self._budget < 1.0:
            self.lost += 1
            self._untold += 1
            return
        self._budget -= 1.0
        if self._untold:
            untold, self._untold = self._untold, 0
            self._put(Level.WARNING, f"{untold} lines left out, more than {RATE:g} a second")
        self._put(level, text)

    def seldom(self, key: str, level: Level, text: str, every: float = 10.0) -> None:
        """At most once in `every` seconds for the same `key`; the next line says how many were left out."""
        now = self._clock.now()
        last, left_out = self._seldom.get(key, (None, 0))
        if last is not None and now - last < every:
            self._seldom[key] = (last, left_out + 1)
            return
        if len(self._seldom) >= MAX_SELDOM and key not in self._seldom:
            del self._seldom[next(iter(self._seldom))]
        self._seldom[key] = (now, 0)
        self.write(level, f"{text} (and {left_out} times more)" if left_out else text)

    def _put(self, level: Level, text: str) -> None:
        time = self._wall().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text[:MAX_LINE])
        line = f"{time}Z {self.node} {self.daemon}[{os.getpid()}] {level.name} {shown}\n"
        try:
            self._sink(line.encode(errors="backslashreplace"))
        except OSError:
            self.lost += 1


def to_stderr(line: bytes) -> None:
    """The sink of a daemon in the foreground."""
    with suppress(ValueError):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()


def take_twisted(log: Log) -> None:
    """What Twisted reports by itself goes to this log: errors that nobody handled, with where they happened."""

    def observe(event: dict[str, Any]) -> None:
        level = event.get("log_level")
        if level not in (LogLevel.error, LogLevel.critical):
            return
        failure = event.get("log_failure")
        where = ""
        if failure is not None:
            frames = failure.getTracebackObject()
            steps = []
            while frames is not None:
                code = frames.tb_frame.f_code
                steps.append(f"{Path(code.co_filename).name}:{frames.tb_lineno}")
                frames = frames.tb_next
            where = f": {failure.type.__name__}: {failure.getErrorMessage()} at {' '.join(steps[-6:])}"
        log.error(f"not handled: {formatEvent(event)}{where}")

    globalLogBeginner.beginLoggingTo([cast(ILogObserver, observe)], redirectStandardIO=False)
