"""Records outlive the process; a full disk, a damaged or a foreign file is told apart and never taken for success."""

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from truecl.core.contract import Drop, Put, Records, Save
from truecl.runtime.journal import (
    BALLAST_BYTES,
    Journal,
    JournalBusy,
    JournalDamaged,
    JournalFailed,
    JournalFull,
    Owner,
)


def journal(directory: Path, cluster: str = "prod") -> Journal:
    return Journal(directory / "lockd.db", Owner(cluster, "n1", "lockd"), time.perf_counter)


def apply(records: Records, save: Save) -> None:
    """What a save means, the slow and plain way."""
    bucket = records.setdefault(save.bucket, {})
    if isinstance(save, Put):
        bucket[save.key] = save.value
        return
    ordered: list[Any] = list(bucket)
    for key in ordered:
        if (save.first is None or key >= save.first) and (save.last is None or key <= save.last):
            del bucket[key]


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
SAVES = st.one_of(
    st.builds(Put, st.just("log"), NUMBERS, st.binary(max_size=20)),
    st.builds(Put, st.just("names"), WORDS, st.binary(max_size=20)),
    st.builds(Drop, st.just("log"), st.none() | NUMBERS, st.none() | NUMBERS),
    st.builds(Drop, st.just("names"), st.none() | WORDS, st.none() | WORDS),
)


@given(st.lists(st.lists(SAVES, max_size=5), max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_new_process_finds_what_was_saved_in_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Save]]
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    expected: Records = {}
    for batch in batches:
        opened = journal(directory)
        opened.save(batch)
        opened.close()
        for save in batch:
            apply(expected, save)
    opened = journal(directory)
    found = opened.load()
    opened.close()
    assert found == {bucket: kept for bucket, kept in expected.items() if kept}
    keys: list[Any]
    for keys in map(list, found.values()):
        assert keys == sorted(keys)


def test_what_was_saved_is_there_after_a_crash(tmp_path: Path) -> None:
    writer = journal(tmp_path)
    writer.save([Put("log", 1, b"one")])
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("lockd.db", "lockd.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    wal = copy / "lockd.db-wal"
    wal.write_bytes(wal.read_bytes() + b"a torn tail" * 400)
    survivor = journal(copy)
    assert survivor.load() == {"log": {1: b"one"}}
    survivor.close()
    writer.close()


def test_a_second_process_is_told_at_once(tmp_path: Path) -> None:
    first = journal(tmp_path)
    with pytest.raises(JournalBusy):
        journal(tmp_path)
    first.close()
    journal(tmp_path).close()


def test_another_cluster_and_a_newer_release_are_refused(tmp_path: Path) -> None:
    journal(tmp_path).close()
    with pytest.raises(JournalDamaged, match="belongs to cluster 'prod', this node to 'test'"):
        journal(tmp_path, "test")
    with sqlite3.connect(tmp_path / "lockd.db") as database:
        database.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    database.close()
    with pytest.raises(JournalDamaged, match="newer release"):
        journal(tmp_path)


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lockd.db").write_bytes(b"root:x:0:0:root:/root:/bin/bash\n" * 100)
    with pytest.raises(JournalDamaged):
        journal(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    with sqlite3.connect(other / "lockd.db") as database:
        database.execute("CREATE TABLE songs (name TEXT)")
    database.close()
    with pytest.raises(JournalDamaged, match="no journal of truecl"):
        journal(other)


def test_no_directory_is_a_failure_in_words(tmp_path: Path) -> None:
    with pytest.raises(JournalFailed, match="unable to open"):
        journal(tmp_path / "missing")


@pytest.mark.parametrize("change", ["value = x'00'", "key = 2", "bucket = 'other'", "value = 'text'", "crc = NULL"])
def test_a_changed_record_is_damage(tmp_path: Path, change: str) -> None:
    opened = journal(tmp_path)
    opened.save([Put("log", 1, b"one")])
    opened.close()
    with sqlite3.connect(tmp_path / "lockd.db") as database:
        database.execute(f"UPDATE records SET {change} WHERE bucket = 'log'")
    database.close()
    reopened = journal(tmp_path)
    with pytest.raises(JournalDamaged, match="is damaged"):
        reopened.load()
    reopened.close()


def test_another_node_s_and_another_daemon_s_are_refused(tmp_path: Path) -> None:
    journal(tmp_path).close()
    for owner in (Owner("prod", "n2", "lockd"), Owner("prod", "n1", "reqd")):
        with pytest.raises(JournalDamaged, match="is that of lockd on node 'n1'.*was it copied"):
            Journal(tmp_path / "lockd.db", owner, time.perf_counter)


def test_a_journal_of_a_release_that_wrote_down_no_owner_gets_one(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.save([Put("log", 1, b"one")])
    opened.close()
    with sqlite3.connect(tmp_path / "lockd.db") as database:
        database.execute("DELETE FROM meta WHERE name IN ('node', 'daemon')")
    database.close()
    upgraded = journal(tmp_path)
    assert upgraded.load() == {"log": {1: b"one"}}
    upgraded.close()
    with pytest.raises(JournalDamaged, match="is that of lockd on node 'n1'"):
        Journal(tmp_path / "lockd.db", Owner("prod", "n2", "lockd"), time.perf_counter)


FILES = ("lockd.db", "lockd.db-wal", "lockd.db.count")
SAVED = [Put("log", number, bytes([number]) * 200) for number in range(30)]


def killed(directory: Path) -> dict[str, bytes]:
    """What is there of a journal whose process was killed, some of it in the file and some in the write-ahead log."""
    writer = journal(directory)
    for each in SAVED[:20]:
        writer.save([each])
    writer._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for each in SAVED[20:]:
        writer.save([each])
    left = {name: (directory / name).read_bytes() for name in FILES}
    writer.close()
    return left


def found(directory: Path, left: dict[str, bytes]) -> Records | None:
    """None: it was refused as damaged."""
    directory.mkdir()
    for name, data in left.items():
        (directory / name).write_bytes(data)
    try:
        opened = journal(directory)
    except JournalDamaged:
        return None
    try:
        return opened.load()
    except JournalDamaged:
        return None
    finally:
        opened.close()


def test_a_flipped_bit_is_damage_or_harmless_wherever_it_is(tmp_path: Path) -> None:
    """In the write-ahead log SQLite takes it for the end, and what was saved after it for never saved."""
    left, whole = killed(tmp_path), {"log": {each.key: each.value for each in SAVED}}
    assert found(tmp_path / "whole", left) == whole
    refused = dict.fromkeys(FILES, 0)
    for name, data in left.items():
        for number in range(16):
            position = min(len(data) * number // 16 + number, len(data) - 1)
            flipped = data[:position] + bytes([data[position] ^ (1 << number % 8)]) + data[position + 1 :]
            outcome = found(tmp_path / f"{name} {number}", left | {name: flipped})
            assert outcome in (None, whole), (name, position)
            refused[name] += outcome is None
    assert refused["lockd.db-wal"] == refused["lockd.db.count"] == 16


@pytest.mark.parametrize("name", ["lockd.db", "lockd.db-wal"])
def test_a_file_that_was_cut_off_is_damage(tmp_path: Path, name: str) -> None:
    """But for pages that the write-ahead log has anew."""
    left, whole = killed(tmp_path), {"log": {each.key: each.value for each in SAVED}}
    for share in (0.0, 0.3, 0.9, 0.999):
        cut = left[name][: int(len(left[name]) * share)]
        outcome = found(tmp_path / f"{name} {share}", left | {name: cut})
        assert outcome is None or (name == "lockd.db" and share >= 0.9 and outcome == whole), share


def test_a_refused_journal_is_left_as_it_was(tmp_path: Path) -> None:
    """Also one that looks empty: all of it stood in the write-ahead log. With the bit as it was, all is there again."""
    directory = tmp_path / "all in the log"
    directory.mkdir()
    writer = journal(directory)
    for each in SAVED:
        writer.save([each])
    left = {name: (directory / name).read_bytes() for name in FILES}
    writer.close()
    rotten = tmp_path / "rotten"
    log = left["lockd.db-wal"]
    assert found(rotten, left | {"lockd.db-wal": log[:1056] + bytes([log[1056] ^ 1]) + log[1057:]}) is None
    assert (rotten / "lockd.db-wal").read_bytes()[1057:] == log[1057:]
    mended = {name: (rotten / name).read_bytes() for name in FILES}
    mended["lockd.db-wal"] = log
    assert found(tmp_path / "mended", mended) == {"log": {each.key: each.value for each in SAVED}}


def test_a_copy_of_an_earlier_time_is_damage(tmp_path: Path) -> None:
    before, later = tmp_path / "before", tmp_path / "later"
    before.mkdir()
    later.mkdir()
    writer = journal(before)
    writer.save(SAVED[:5])
    left = {name: (before / name).read_bytes() for name in FILES}
    writer.save(SAVED[5:])
    count = (before / "lockd.db.count").read_bytes()
    writer.close()
    assert found(tmp_path / "all", left) is not None, "a copy of everything is not seen through: do not restore one"
    assert found(tmp_path / "files", left | {"lockd.db.count": count}) is None


@pytest.mark.parametrize("count", [b"", b"\0" * 12])
def test_a_count_that_never_came_to_the_disk_is_no_damage(tmp_path: Path, count: bytes) -> None:
    """After a loss of power: it is not waited for."""
    left = killed(tmp_path)
    assert found(tmp_path / "lost", left | {"lockd.db.count": count}) is not None
    older = killed_count(tmp_path / "older")
    assert found(tmp_path / "behind", left | {"lockd.db.count": older}) is not None


def killed_count(directory: Path) -> bytes:
    directory.mkdir()
    writer = journal(directory)
    writer.save(SAVED[:1])
    writer.close()
    return (directory / "lockd.db.count").read_bytes()


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.save([Put("log", 1, b"one")])
    with pytest.raises(OverflowError):
        opened.save([Put("log", 2, b"two"), Put("log", 2**64, b"too large for a key")])
    opened.close()
    reopened = journal(tmp_path)
    assert reopened.load() == {"log": {1: b"one"}}
    reopened.close()


def test_saves_are_measured(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.save([Put("log", 1, b"one")])
    assert opened.saves == 1
    assert 0 < opened.last_save <= opened.slowest_save
    opened.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        # Lazily: a test that failed has its journal still open.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.root
def test_a_full_disk_is_told_and_the_ballast_is_enough_to_close(small_disk: Path) -> None:
    opened = journal(small_disk)
    assert opened.has_ballast
    assert (small_disk / "lockd.db.ballast").stat().st_size == BALLAST_BYTES
    saved = 0
    with pytest.raises(JournalFull):
        for saved in range(10_000):
            opened.save([Put("log", saved, b"x" * 10_000)])
    assert opened.release()
    for number in range(20):
        opened.save([Put("closed", number, b"closing record")])
    assert not opened.release()
    opened.close()
    reopened = journal(small_disk)
    assert not reopened.has_ballast
    records = reopened.load()
    assert list(records["log"]) == list(range(saved))
    assert list(records["closed"]) == list(range(20))
    reopened.close()


def test_what_an_earlier_life_left_is_synced_before_it_is_read(tmp_path: Path) -> None:
    """It may have been killed between the write and the fsync; a vote that is seen must not be lost with the power."""
    earlier = journal(tmp_path)
    earlier.save([Put("log", 1, b"a")])  # not closed: a close would move it out of the write-ahead log
    left = tmp_path / "left"
    left.mkdir()
    for name in ("lockd.db", "lockd.db-wal"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    synced = []

    def sync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    opened = Journal(left / "lockd.db", Owner("prod", "n1", "lockd"), time.perf_counter, sync)
    assert synced == [str(left / "lockd.db-wal"), str(left)]
    assert opened.load() == {"log": {1: b"a"}}
