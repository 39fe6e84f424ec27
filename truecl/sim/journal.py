"""A daemon's journal on a simulated disk: what a power cut leaves of it."""

from truecl.core.contract import Drop, Put, Records, Save

RUN = "run."
"""Buckets that begin so are kept in the run directory: no fsync, and empty after a reboot."""


class Journal:
    """One daemon's durable records. `write` is the end of one transaction with its fsync: all of it or nothing.

    The run directory's buckets are files of their own: a crash may leave them newer than the rest, never older.
    """

    def __init__(self) -> None:
        self._records: Records = {}

    def write_run(self, saves: tuple[Save, ...]) -> None:
        """Only what goes to the run directory."""
        self.write(tuple(save for save in saves if save.bucket.startswith(RUN)))

    def write(self, saves: tuple[Save, ...]) -> None:
        for save in saves:
            apply(self._records, save)

    def flush(self) -> None:
        """Nothing waits to be written back."""

    def read(self) -> Records:
        """What a starting daemon finds: a copy, keys in order."""
        return copied(self._records)

    def power_cut(self) -> None:
        """Everything written was synced, so nothing is lost but the run directory."""
        self._records = {bucket: kept for bucket, kept in self._records.items() if not bucket.startswith(RUN)}


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
