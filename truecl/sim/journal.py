"""A daemon's journal on a simulated disk: what a power cut leaves of it."""

from truecl.core.contract import Drop, Put, Records, Save

RUN = "run."
"""Buckets that begin so are kept in the run directory: no fsync, and empty after a reboot."""


class Journal:
    """One daemon's durable records. `write` is the end of one transaction with its fsync: all of it or nothing.

    The run directory's buckets are files of their own: a crash may leave them newer than the rest, never older.

    A transaction that was cut short is there whole or not at all (SQLite's checksums cut a torn tail off). But one that
    was written and not yet synced when its daemon died is seen by the next life, out of the kernel's cache, and would
    still be lost with the power: whoever opens a journal syncs it first.
    """

    def __init__(self) -> None:
        self._records: Records = {}
        self._synced: Records | None = None
        """What a power cut would leave, while that is less."""
        self.ballast = True
        """A file beside it gives its blocks back to a full disk."""
        self.room = 0
        """Transactions that those still take."""

    def write_unsynced(self, saves: tuple[Save, ...]) -> None:
        """The daemon dies between the write and its fsync."""
        self._synced = copied(self._records)
        for save in saves:
            apply(self._records, save)

    def open(self) -> Records:
        """What a starting daemon finds, once that is certain to stay."""
        self._synced = None
        return self.read()

    def write_run(self, saves: tuple[Save, ...]) -> None:
        """Only what goes to the run directory."""
        self.write(tuple(save for save in saves if save.bucket.startswith(RUN)))

    def write(self, saves: tuple[Save, ...]) -> None:
        """An fsync takes everything that was written before with it."""
        self._synced = None
        for save in saves:
            apply(self._records, save)

    def flush(self) -> None:
        """Nothing waits to be written back."""

    def read(self) -> Records:
        """What is there now: a copy, keys in order."""
        return copied(self._records)

    def power_cut(self) -> None:
        """What was not synced is lost, and the run directory."""
        left = self._records if self._synced is None else self._synced
        self._records, self._synced = (
            {bucket: kept for bucket, kept in left.items() if not bucket.startswith(RUN)},
            None,
        )


class BelievingJournal(Journal):
    """A mutant: it is opened without a sync, and what is seen is taken for durable."""

    def open(self) -> Records:
        return self.read()


class UnsyncedJournal(Journal):
    """The mutant that skips fsync: what was written since the last `flush` is gone after a power cut."""

    def __init__(self) -> None:
        super().__init__()
        self._durable: Records = {}

    def flush(self) -> None:
        """The kernel wrote its dirty pages back, as it does now and then."""
        self._durable = copied(self._records)

    def power_cut(self) -> None:
        self._records = copied(self._durable)
        super().power_cut()


def apply(records: Records, save: Save) -> None:
    """Carry out one Put or Drop."""
    match save:
        case Put(bucket, key, value):
            records.setdefault(bucket, {})[key] = value
        case Drop(bucket, first, last):
            kept = records.get(bucket, {})
            for key in [each for each in kept if _within(each, first, last)]:
                del kept[key]


def _within(key: int | str, first: int | str | None, last: int | str | None) -> bool:
    return not (_less(key, first) or _less(last, key))


def _less(left: int | str | None, right: int | str | None) -> bool:
    """None is unbounded. Raises TypeError where a bucket mixes kinds of keys."""
    if left is None or right is None:
        return False
    if isinstance(left, int) and isinstance(right, int):
        return left < right
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    raise TypeError(f"keys of two kinds in one bucket: {left!r}, {right!r}")


def copied(records: Records) -> Records:
    """Keys in order, so that a daemon reads them as a real journal gives them."""
    result: Records = {}
    for bucket in sorted(records):
        kept = records[bucket]
        result[bucket] = {key: kept[key] for key in sorted(kept, key=_order)}
    return result


def _order(key: int | str) -> tuple[int, str]:
    return (key, "") if isinstance(key, int) else (0, key)
