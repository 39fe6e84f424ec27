"""The file of what was decided upon: bounded in number and bytes, and never in the way."""

from pathlib import Path

from truecl.core.minutes import MAX_INPUTS
from truecl.model.ids import Term
from truecl.runtime.inputs import TRIM_EVERY, KeptInputs
from truecl.wire.messages import Kept


def one(uptime: float, digest: str = "d1", size: int = 10) -> Kept:
    return Kept(0.0, uptime, Term(2), digest, b"x" * size)


def opened(path: Path, most: int = 1000, size: int = 1 << 20) -> KeptInputs:
    return KeptInputs(path, lambda: 5000.0, lambda: 500.0, most, size)


def uptimes(kept: KeptInputs, limit: int = 100, until: float = 0.0) -> list[float]:
    return [each.uptime for each in kept.find(limit, until).inputs]


def test_what_is_kept_outlives_the_process_with_its_time_and_configuration(tmp_path: Path) -> None:
    first = opened(tmp_path / "i.db")
    assert first.keep([one(490.0), one(495.0)], {"d1": b"text"}, 0).reason == ""
    first.close()
    found = opened(tmp_path / "i.db").find(10)
    assert [(each.at, each.repeats, each.input) for each in found.inputs] == [
        (4990.0, 1, b"x" * 10),
        (4995.0, 1, b"x" * 10),
    ]
    assert found.configurations == {"d1": b"text"}


def test_how_often_is_noted_at_the_one_before(tmp_path: Path) -> None:
    kept = opened(tmp_path / "i.db")
    kept.keep([one(1.0)], {}, 0)
    kept.keep([one(2.0)], {}, 7)
    assert [each.repeats for each in kept.find(10).inputs] == [7, 1]


def test_until_and_limit(tmp_path: Path) -> None:
    kept = opened(tmp_path / "i.db")
    kept.keep([one(float(number)) for number in range(10)], {}, 0)
    assert uptimes(kept, 2) == [8.0, 9.0]
    assert uptimes(kept, 2, until=4503.5) == [2.0, 3.0]


def test_number_and_bytes_are_bounded_and_configurations_go_with_their_inputs(tmp_path: Path) -> None:
    kept = opened(tmp_path / "i.db", most=5)
    for number in range(12):
        kept.keep([one(float(number), f"d{number}")], {f"d{number}": b"c"}, 0)
    kept.close()
    again = opened(tmp_path / "i.db", most=5)
    assert uptimes(again) == [7.0, 8.0, 9.0, 10.0, 11.0]
    assert len(again.find(100).configurations) == 5
    again.close()
    assert uptimes(opened(tmp_path / "i.db", size=250)) == [10.0, 11.0]


def test_a_thousand_are_kept_where_nobody_says_otherwise(tmp_path: Path) -> None:
    kept = KeptInputs(tmp_path / "i.db")
    for first in range(0, MAX_INPUTS + 200, TRIM_EVERY):
        kept.keep([one(float(number)) for number in range(first, first + TRIM_EVERY)], {}, 0)
    assert uptimes(kept, 5000) == [float(number) for number in range(200, MAX_INPUTS + 200)]


def test_a_damaged_file_is_put_aside_and_a_missing_directory_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "i.db").write_bytes(b"no database at all" * 100)
    kept = opened(tmp_path / "i.db")
    assert kept.keep([one(1.0)], {}, 0).reason
    assert kept.keep([one(1.0)], {}, 0).reason == "" and uptimes(kept) == [1.0]
    assert (tmp_path / "i.db.damaged").exists()
    nowhere = opened(tmp_path / "nowhere" / "i.db")
    assert "i.db" in nowhere.keep([one(1.0)], {}, 0).reason and "i.db" in nowhere.find(1).reason
