"""The node's events in an SQLite file: the latest MAX_EVENTS of the last MAX_AGE days.

Not a journal: nothing is decided by it (`truecl.runtime.shelf`).
"""

import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from truecl.core.chronicle import Found, Recorded
from truecl.model.ids import AppName
from truecl.model.report import EventRecord
from truecl.runtime.shelf import Shelf

MAX_EVENTS = 100_000
MAX_AGE = 30 * 86400.0
"""Seconds."""
TRIM_EVERY = 1000
"""Events between two trims."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, at REAL NOT NULL, app TEXT, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS event_at ON event (at, id);
CREATE INDEX IF NOT EXISTS event_app ON event (app, at, id);
"""


class History:
    """To be used by one thread at a time. Never raises: a reason in the result says what the disk refused.

    wall -- seconds since the epoch; boot -- CLOCK_BOOTTIME seconds. From both, an event that only knows its uptime gets
    its time for people; and `boot_id`, as without it a wall clock that was set looks like another boot.
    """

    def __init__(
        self,
        path: Path,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        max_events: int = MAX_EVENTS,
        max_age: float = MAX_AGE,
        boot_id: str = "",
    ) -> None:
        self._wall = wall
        self._boot = boot
        self._max_events = max_events
        self._max_age = max_age
        self._boot_id = boot_id
        self._since_trim = 0
        self._shelf = Shelf(path, _SCHEMA, self._trim)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(EventRecord)

    def record(self, events: Iterable[EventRecord]) -> Recorded:
        began = self._wall() - self._boot()  # read once: events of one moment keep their order
        stamped = tuple(
            event if event.at else msgspec.structs.replace(event, at=began + event.uptime, boot=self._boot_id)
            for event in events
        )
        rows = [(event.at, event.app, self._encoder.encode(event)) for event in stamped]
        try:
            database = self._shelf.open()
            with database:
                database.executemany("INSERT INTO event (at, app, record) VALUES (?, ?, ?)", rows)
                self._since_trim += len(rows)
                if self._since_trim >= min(TRIM_EVERY, self._max_events):
                    self._trim(database)
        except sqlite3.Error as error:
            return Recorded(stamped, self._shelf.failed(error))
        return Recorded(stamped)

    def find(self, since: float, limit: int, app: AppName | None = None, marked: bool = False) -> Found:
        """The latest `limit` at or after `since`, oldest first. `marked`: only those with a mark; the whole history is
        read for them at most."""
        where, values = ("at >= ?", [since]) if app is None else ("app = ? AND at >= ?", [app, since])
        query = f"SELECT record FROM event WHERE {where} ORDER BY at DESC, id DESC LIMIT ?"
        events: list[EventRecord] = []
        try:
            for (record,) in self._shelf.open().execute(query, [*values, self._max_events if marked else limit]):
                with suppress(msgspec.MsgspecError):
                    event = self._decoder.decode(record)
                    if event.mark is not None or not marked:
                        events.append(event)
                if len(events) >= limit:
                    break
        except sqlite3.Error as error:
            return Found((), self._shelf.failed(error))
        return Found(tuple(reversed(events[:limit])))

    def close(self) -> None:
        self._shelf.close()

    def _trim(self, database: sqlite3.Connection) -> None:
        self._since_trim = 0
        database.execute("DELETE FROM event WHERE at < ?", [self._wall() - self._max_age])
        database.execute(
            "DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?",
            [self._max_events],
        )
