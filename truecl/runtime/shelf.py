"""An SQLite file of things that nothing is decided by: written without waiting for the disk each time.

A file that is damaged is put aside and begun anew.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BUSY = 2.0
"""Seconds to wait for another reader or writer."""


class Shelf:
    """To be used by one thread at a time. `trim`: called with each newly opened database."""

    def __init__(self, path: Path, schema: str, trim: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self._schema = schema
        self._trim = trim
        self._database: sqlite3.Connection | None = None

    def open(self) -> sqlite3.Connection:
        """Raises sqlite3.Error: tell `failed` of it."""
        if self._database is None:
            # The host hands one action after the other to a thread, not always the same.
            database = sqlite3.connect(self.path, timeout=BUSY, check_same_thread=False)
            try:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=NORMAL")
                database.executescript(self._schema)
                with database:
                    self._trim(database)
            except sqlite3.Error:
                database.close()
                raise
            self._database = database
        return self._database

    def failed(self, error: sqlite3.Error) -> str:
        """What to say of it. The next call begins anew; what is no database any more is put aside first."""
        self.close()
        if error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            with suppress(OSError):
                self.path.replace(self.path.with_name(self.path.name + ".damaged"))
                for suffix in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return f"{self.path}: {error}"

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
