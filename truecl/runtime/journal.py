"""What must outlive the process and the power: one table of records in an SQLite file.

Write-ahead log with synchronous=FULL: `save` returns when its transaction is on the disk, and a torn tail is cut off by
SQLite's own checksums. One process has the file at a time (exclusive locking, which also spares the shared memory).

What rotted, was cut off or is a copy of an earlier time is reported, and never taken for a vote or a grant:

- Each record carries a CRC-32 of its own, and the file's structure is checked when it is loaded: no record gets lost.
- SQLite takes the write-ahead log for ended at the first bit of it that is wrong, without a word, and forgets what was
  saved after that. So each transaction counts the saves, and the count is written down a second time beside the file,
  without waiting for the disk: it may be behind after a loss of power, and is never ahead.

A process that is killed between a write and its fsync leaves records that its next life sees, out of the kernel's
cache, and that a power cut would still take. SQLite does not sync what it finds; so it is synced here, before it is
opened.

A ballast file of 1 MiB lies beside it. When the disk is full, `release` gives its blocks back, so that a node can still
write down that it closed what it ran.
"""

import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from truecl.core.contract import Put, Records, Save

SCHEMA = 1
BALLAST_BYTES = 1 << 20
_COUNT = ("", "saves")
"""Bucket and key of the record that counts the saves."""
_BESIDE = struct.Struct("<QI")
"""The count beside the file, and its CRC-32."""
HELP = "move it away, and take this node out of the cluster and in again (lha_node remove, then lha_node add)"
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


class JournalForeign(JournalDamaged):
    """It is whole, and that of another cluster, node or daemon, or of a newer release."""


class JournalBusy(JournalFault):
    """Another process has the journal open: the same daemon runs already."""


class JournalFailed(JournalFault):
    """The disk refused (I/O error, read-only file system, no permission). Nothing can be said about the last save."""


_never_closed: list[sqlite3.Connection] = []
"""Of damaged journals: SQLite would write what it takes for the whole into the file, and delete the rest, which may be
needed yet. Whoever is refused a journal ends, without closing anything."""


class Owner(NamedTuple):
    """Whose journal it is. Written into it when it is made."""

    cluster: str
    node: str
    daemon: str


class Journal:
    """The journal at `path` of a daemon, one `owner`'s: cluster, node, daemon. Opens it, or creates it; raises
    JournalFault.

    `clock` (seconds) only measures saves. `sync` is fsync(2).
    """

    def __init__(
        self, path: Path, owner: Owner, clock: Callable[[], float], sync: Callable[[int], None] = os.fsync
    ) -> None:
        self.path = path
        self.saves = 0
        self.last_save = 0.0
        """Seconds that the last save took, fsync included."""
        self.slowest_save = 0.0
        self._clock = clock
        self._ballast = path.with_name(path.name + ".ballast")
        self._beside = -1
        self._count = 0
        try:
            _sync_found(path, sync)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=0.0, cached_statements=16)
        except sqlite3.Error as error:
            raise _fault(error, path) from error
        except OSError as error:
            raise JournalFailed(f"{path}: {error}") from error
        try:
            expected = self._expected()
            self._prepare(owner, expected)
            self._count_saves(expected)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._refused(_fault(error, path)) from error
        except JournalFault as fault:
            raise self._refused(fault) from None
        self.has_ballast = self._lay_ballast()
        """False: the disk has no room for it, which is worth a warning."""

    def _refused(self, fault: JournalFault) -> JournalFault:
        if isinstance(fault, JournalDamaged) and not isinstance(fault, JournalForeign):
            _never_closed.append(self._database)
        else:
            self.close()
        return fault

    def load(self) -> Records:
        """All records, in order of their keys. Raises JournalDamaged for a record that is not what was written."""
        records: Records = {}
        try:
            for (problem,) in self._database.execute("PRAGMA integrity_check(1)"):
                if problem != "ok":
                    raise JournalDamaged(f"{self.path}: is damaged ({problem}): {HELP}")
            rows = self._database.execute("SELECT bucket, key, value, crc FROM records ORDER BY bucket, key")
            for bucket, key, value, crc in rows:
                if not isinstance(value, bytes) or crc != _crc(bucket, key, value):
                    raise JournalDamaged(f"{self.path}: the record {bucket}/{key} is damaged: {HELP}")
                if bucket:
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
            self._write(Put(*_COUNT, b"%d" % (self._count + 1)))
            database.execute("COMMIT")
        except sqlite3.Error as error:
            fault = _fault(error, self.path)
            with suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("ROLLBACK")
            raise fault from error
        self._count += 1
        self._write_beside()
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
        if self._beside >= 0:
            os.close(self._beside)
            self._beside = -1

    # ---- how many saves there are -----------------------------------------------------------------------------------

    def _expected(self) -> int:
        """How many were said to be there. Raises JournalFault."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        beside = self.path.with_name(self.path.name + ".count")
        try:
            self._beside = os.open(beside, flags, 0o600)
            known = os.pread(self._beside, _BESIDE.size, 0)
        except OSError as error:
            raise JournalFailed(f"{beside}: {error.strerror}") from error
        if not known.strip(b"\0"):  # it is new, or never came to the disk before a loss of power
            return 0
        expected, crc = _BESIDE.unpack(known) if len(known) == _BESIDE.size else (0, -1)
        if crc != zlib.crc32(known[:8]):
            raise JournalDamaged(f"{beside}: is damaged: {HELP}, and this file with it")
        return int(expected)

    def _count_saves(self, expected: int) -> None:
        """Are all of them there that were said to be?"""
        row = self._database.execute("SELECT value, crc FROM records WHERE bucket = ? AND key = ?", _COUNT).fetchone()
        if row is not None and (not isinstance(row[0], bytes) or row[1] != _crc(*_COUNT, row[0])):
            raise JournalDamaged(f"{self.path}: the count of its saves is damaged: {HELP}")
        self._count = int(row[0]) if row is not None else 0
        if expected > self._count:
            raise self._lost(expected)
        self._write_beside()

    def _lost(self, expected: int) -> JournalDamaged:
        lost = f"{expected - self._count} of {expected} saves are missing at its end"
        return JournalDamaged(f"{self.path}: {lost} (was it cut off, or is it a copy?): {HELP}")

    def _write_beside(self) -> None:
        count = self._count.to_bytes(8, "little")
        with suppress(OSError):  # of no full disk: its block is there since it was made. Behind is harmless
            os.pwrite(self._beside, _BESIDE.pack(self._count, zlib.crc32(count)), 0)

    # ---- small things -----------------------------------------------------------------------------------------------

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

    def _prepare(self, owner: Owner, expected: int) -> None:
        database = self._database
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA synchronous = FULL")
        if database.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise JournalFailed(f"{self.path}: the file system cannot hold a write-ahead log")
        database.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        # Takes the lock before anything is read, so that a second process is told at once.
        database.execute("BEGIN IMMEDIATE")
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            if expected:  # nothing of what is left of it may be overwritten
                raise self._lost(expected)
            self._create(owner)
            return
        found = {str(name): str(value) for name, value in database.execute("SELECT name, value FROM meta")}
        self._compare(found, owner)
        if "node" not in found:
            self._write_owner(owner)
        database.execute("COMMIT")

    def _create(self, owner: Owner) -> None:
        database = self._database
        database.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        database.execute(
            "CREATE TABLE records (bucket TEXT, key, value BLOB, crc INTEGER, PRIMARY KEY (bucket, key)) WITHOUT ROWID"
        )
        database.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        self._write_owner(owner)
        database.execute("COMMIT")
        _sync_directory(self.path.parent)

    def _write_owner(self, owner: Owner) -> None:
        self._database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", owner._asdict().items())

    def _compare(self, found: dict[str, str], owner: Owner) -> None:
        schema = found.get("schema", "")
        if not schema.isdecimal():
            raise JournalDamaged(f"{self.path}: is no journal of truecl")
        if int(schema) > SCHEMA:
            raise JournalForeign(
                f"{self.path}: was written by a newer release (format {schema}, this release knows {SCHEMA}): "
                "install that release again"
            )
        if found.get("cluster") != owner.cluster:
            raise JournalForeign(
                f"{self.path}: belongs to cluster {found.get('cluster')!r}, this node to {owner.cluster!r}: move it "
                "away if this node has really left that cluster"
            )
        # Older releases wrote down the cluster alone.
        whose = (found.get("node", owner.node), found.get("daemon", owner.daemon))
        if whose != (owner.node, owner.daemon):
            raise JournalForeign(
                f"{self.path}: is that of {whose[1]} on node {whose[0]!r}, not of {owner.daemon} on "
                f"{owner.node!r} (was it copied?): put this node's own back, or {HELP}"
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
