"""What must outlive the process and the power: one table of records in an SQLite file.

Write-ahead log with synchronous=FULL: `save` returns when its transaction is on the disk, and a torn tail is cut off by
SQLite's own checksums. Each record carries a CRC-32 of its own, so that a bit that rotted is reported and never taken
for a vote or a grant. One process has the file at a time (exclusive locking, which also spares the shared-memory file).

A process that is killed between a write and its fsync leaves records that its next life sees, out of the kernel's
cache, and that a power cut would still take. SQLite does not sync what it finds; so it is synced here, before it is
opened.

A ballast file of 1 MiB lies beside it. When the disk is full, `release` gives its blocks back, so that a node can still
write down that it closed what it ran.
"""

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from truecl.core.contract import Put, Records, Save

SCHEMA = 1
BALLAST_BYTES = 1 << 20
WAL_BYTES = 4 << 20

FULL_CODES = frozenset({sqlite3.SQLITE_FULL})
DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class JournalFault(Exception):
    """The journal cannot be used; nothing that was to be saved may be taken for saved."""


class JournalFull(JournalFault):
    """The disk under the journal is full. The node steps aside; free some space and it comes back by itself."""


class JournalDamaged(JournalFault):
    """The journal is no journal of this cluster and release, or its content is damaged.

    A node must not go on without what it promised: it may have voted, or run an application. Take the node out of the
    cluster and in again (its state comes back from the others), or put back the file if it was moved by mistake.
    """


class JournalBusy(JournalFault):
    """Another process has the journal open: the same daemon runs already."""


class JournalFailed(JournalFault):
    """The disk refused (I/O error, read-only file system, no permission). Nothing can be said about the last save."""


class Journal:
    """The journal at `path` of one daemon of `cluster`. Opens it, or creates it; raises JournalFault.

    `clock` (seconds) only measures saves. `sync` is fsync(2).
    """

    def __init__(
        self, path: Path, cluster: str, clock: Callable[[], float], sync: Callable[[int], None] = os.fsync
    ) -> None:
        self.path = path
        self.saves = 0
        self.last_save = 0.0
        """Seconds that the last save took, fsync included."""
        self.slowest_save = 0.0
        self._clock = clock
        self._ballast = path.with_name(path.name + ".ballast")
        try:
            _sync_found(path, sync)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=0.0, cached_statements=16)
        except sqlite3.Error as error:
            raise _fault(error, path) from error
        except OSError as error:
            raise JournalFailed(f"{path}: {error}") from error
        try:
            self._prepare(cluster)
        except sqlite3.Error as error:
            self._database.close()
            raise _fault(error, path) from error
        except JournalFault:
            self._database.close()
            raise
        self.has_ballast = self._lay_ballast()
        """False: the disk has no room for it, which is worth a warning."""

    def load(self) -> Records:
        """All records, in order of their keys. Raises JournalDamaged for a record that is not what was written."""
        records: Records = {}
        try:
            rows = self._database.execute("SELECT bucket, key, value, crc FROM records ORDER BY bucket, key")
            for bucket, key, value, crc in rows:
                if not isinstance(value, bytes) or crc != _crc(bucket, key, value):
                    raise JournalDamaged(f"{self.path}: the record {bucket}/{key} is damaged")
                records.setdefault(bucket, {})[key] = value
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _fault(error, self.path) from error
        return records

    def save(self, saves: Iterable[Save]) -> None:
        """One transaction, on the disk when this returns. Raises JournalFault, and then nothing of it was written.

        (After JournalFailed even that is not known: the process must end and read again what is there.)
        """
        started = self._clock()
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            for each in saves:
                self._write(each)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            fault = _fault(error, self.path)
            with suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("ROLLBACK")
            raise fault from error
        self.saves += 1
        self.last_save = self._clock() - started
        self.slowest_save = max(self.slowest_save, self.last_save)

    def release(self) -> bool:
        """Give the ballast's blocks back to a full disk. False: there was none left."""
        self.has_ballast = False
        try:
            self._ballast.unlink()
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._database.close()

    def _write(self, save: Save) -> None:
        if isinstance(save, Put):
            self._database.execute(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)",
                (save.bucket, save.key, save.value, _crc(save.bucket, save.key, save.value)),
            )
            return
        conditions = "bucket = ?"
        values: list[int | str] = [save.bucket]
        for comparison, bound in ((" AND key >= ?", save.first), (" AND key <= ?", save.last)):
            if bound is not None:
                conditions += comparison
                values.append(bound)
        self._database.execute(f"DELETE FROM records WHERE {conditions}", values)

    def _prepare(self, cluster: str) -> None:
        database = self._database
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA synchronous = FULL")
        if database.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise JournalFailed(f"{self.path}: the file system cannot hold a write-ahead log")
        database.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        # Takes the lock before anything is read, so that a second process is told at once.
        database.execute("BEGIN IMMEDIATE")
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            self._create(cluster)
            return
        found = {str(name): str(value) for name, value in database.execute("SELECT name, value FROM meta")}
        database.execute("COMMIT")
        self._compare(found, cluster)

    def _create(self, cluster: str) -> None:
        database = self._database
        database.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        database.execute(
            "CREATE TABLE records (bucket TEXT, key, value BLOB, crc INTEGER, PRIMARY KEY (bucket, key)) WITHOUT ROWID"
        )
        database.executemany("INSERT INTO meta VALUES (?, ?)", [("schema", str(SCHEMA)), ("cluster", cluster)])
        database.execute("COMMIT")
        _sync_directory(self.path.parent)

    def _compare(self, found: dict[str, str], cluster: str) -> None:
        schema = found.get("schema", "")
        if not schema.isdecimal():
            raise JournalDamaged(f"{self.path}: is no journal of truecl")
        if int(schema) > SCHEMA:
            raise JournalDamaged(
                f"{self.path}: was written by a newer release (format {schema}, this release knows {SCHEMA}): "
                "install that release again"
            )
        if found.get("cluster") != cluster:
            raise JournalDamaged(
                f"{self.path}: belongs to cluster {found.get('cluster')!r}, this node to {cluster!r}: move it away "
                "if this node has really left that cluster"
            )

    def _lay_ballast(self) -> bool:
        try:
            descriptor = os.open(self._ballast, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return False
        try:
            if os.fstat(descriptor).st_blocks * 512 < BALLAST_BYTES:
                os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        except OSError:
            self.release()
            return False
        finally:
            os.close(descriptor)
        return True


def _crc(bucket: str, key: int | str, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(f"{bucket}\0{key!r}".encode()))


def _sync_found(path: Path, sync: Callable[[int], None]) -> None:
    """Make durable what an earlier life may have written and not synced: the write-ahead log, and that it is there."""
    for found, flags in ((path.with_name(path.name + "-wal"), 0), (path.parent, os.O_DIRECTORY)):
        try:
            descriptor = os.open(found, os.O_RDONLY | os.O_CLOEXEC | flags)
        except FileNotFoundError:
            continue
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fault(error: Exception, path: Path) -> JournalFault:
    """SQLite's error as one of ours."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    text = f"{path}: {error}"
    if primary in FULL_CODES:
        return JournalFull(f"{path}: the disk is full")
    if primary in DAMAGE_CODES or isinstance(error, UnicodeDecodeError):
        return JournalDamaged(text)
    if primary in BUSY_CODES:
        return JournalBusy(f"{path}: another process has it open")
    if primary == sqlite3.SQLITE_ERROR and "no such table" in str(error):
        return JournalDamaged(f"{path}: is no journal of truecl")
    return JournalFailed(text)
