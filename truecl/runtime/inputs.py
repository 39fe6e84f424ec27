"""What this node decided upon as master, in an SQLite file: the latest MAX_INPUTS within MAX_BYTES."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from truecl.core.minutes import MAX_INPUTS, FoundInputs
from truecl.model.ids import Term
from truecl.runtime.shelf import Shelf
from truecl.wire.messages import Kept

MAX_BYTES = 16 << 20
"""Of inputs and configurations; the file is somewhat larger."""
TRIM_EVERY = 50

_SCHEMA = """
CREATE TABLE IF NOT EXISTS configuration (digest TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS input (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, uptime REAL NOT NULL, term INTEGER NOT NULL, digest TEXT NOT NULL,
    repeats INTEGER NOT NULL, record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS input_at ON input (at);
"""
_TOO_MANY = """
DELETE FROM input WHERE id <= (SELECT max(id) FROM input) - ? OR id IN (
    SELECT id FROM (SELECT id, sum(length(record) + 100) OVER (ORDER BY id DESC) AS bytes FROM input) WHERE bytes > ?
)
"""


class KeptInputs:
    """To be used by one thread at a time. Never raises: a reason in the result says what the disk refused.

    wall -- seconds since the epoch; boot -- CLOCK_BOOTTIME seconds.
    """

    def __init__(
        self,
        path: Path,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        max_inputs: int = MAX_INPUTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._wall, self._boot = wall, boot
        self._max_inputs, self._max_bytes = max_inputs, max_bytes
        self._since_trim = 0
        self._shelf = Shelf(path, _SCHEMA, self._trim)

    def keep(self, inputs: Sequence[Kept], configurations: Mapping[str, bytes], repeats: int) -> FoundInputs:
        began = self._wall() - self._boot()
        rows = [(each.at or began + each.uptime, each.uptime, each.term, each.digest, each.repeats, each.input)
                for each in inputs]  # fmt: skip
        try:
            database = self._shelf.open()
            with database:
                if repeats:
                    database.execute("UPDATE input SET repeats = ? WHERE id = (SELECT max(id) FROM input)", [repeats])
                database.executemany("INSERT OR REPLACE INTO configuration VALUES (?, ?)", configurations.items())
                database.executemany(
                    "INSERT INTO input (at, uptime, term, digest, repeats, record) VALUES (?, ?, ?, ?, ?, ?)", rows
                )
                self._since_trim += len(rows)
                if self._since_trim >= min(TRIM_EVERY, self._max_inputs):
                    self._trim(database)
        except sqlite3.Error as error:
            return FoundInputs(reason=self._shelf.failed(error))
        return FoundInputs()

    def find(self, limit: int, until: float = 0.0) -> FoundInputs:
        """The latest `limit` at or before `until` (0: now), oldest first."""
        query = "SELECT at, uptime, term, digest, record, repeats FROM input WHERE at <= ? ORDER BY id DESC LIMIT ?"
        try:
            database = self._shelf.open()
            rows = database.execute(query, [until or float("inf"), limit]).fetchall()
            known = dict(database.execute("SELECT digest, record FROM configuration"))
        except sqlite3.Error as error:
            return FoundInputs(reason=self._shelf.failed(error))
        inputs = tuple(Kept(at, uptime, Term(term), digest, record, repeats)
                       for at, uptime, term, digest, record, repeats in reversed(rows))  # fmt: skip
        return FoundInputs(inputs, {each.digest: known[each.digest] for each in inputs if each.digest in known})

    def close(self) -> None:
        self._shelf.close()

    def _trim(self, database: sqlite3.Connection) -> None:
        self._since_trim = 0
        database.execute(_TOO_MANY, [self._max_inputs, self._max_bytes])
        database.execute("DELETE FROM configuration WHERE digest NOT IN (SELECT digest FROM input)")
