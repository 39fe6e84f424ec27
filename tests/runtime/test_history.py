"""The history's file: bounded, filtered, and never in the way."""

from pathlib import Path

import msgspec

from truecl.model.ids import AppName, NodeName
from truecl.model.report import EventRecord, Mark, Severity, Span
from truecl.runtime.history import History

DAY = 86400.0


def event(text: str, at: float = 0.0, uptime: float = 0.0, app: str | None = None) -> EventRecord:
    return EventRecord(at, uptime, NodeName("n1"), "reqd", Severity.LOG, text, AppName(app) if app else None)


def history(path: Path, wall: float = 50 * DAY, **bounds: float) -> History:
    return History(path, lambda: wall, lambda: 500.0, int(bounds.get("events", 1000)), bounds.get("age", 30 * DAY))


def texts(history: History, since: float = 0.0, limit: int = 100, app: AppName | None = None) -> list[str]:
    found = history.find(since, limit, app)
    assert found.reason == ""
    return [each.text for each in found.events]


def test_events_outlive_the_process_and_get_their_time_from_the_uptime(tmp_path: Path) -> None:
    first = history(tmp_path / "h.db")
    recorded = first.record([event("ten seconds ago", uptime=490.0), event("known", at=49 * DAY)])
    assert [each.at for each in recorded.events] == [50 * DAY - 10, 49 * DAY]
    first.close()
    assert texts(history(tmp_path / "h.db")) == ["known", "ten seconds ago"]


def test_events_of_one_moment_keep_their_order(tmp_path: Path) -> None:
    ticks = iter(range(100))
    kept = History(tmp_path / "h.db", lambda: 50 * DAY, lambda: 500.0 + next(ticks))
    kept.record([event(f"e{number}", uptime=490.0) for number in range(9)])
    assert texts(kept) == [f"e{number}" for number in range(9)]


def test_since_limit_and_app(tmp_path: Path) -> None:
    kept = history(tmp_path / "h.db")
    kept.record([event(f"e{number}", 49 * DAY + number, app="web" if number % 2 else None) for number in range(10)])
    assert texts(kept, limit=3) == ["e7", "e8", "e9"]
    assert texts(kept, since=49 * DAY + 8) == ["e8", "e9"]
    assert texts(kept, limit=2, app=AppName("web")) == ["e7", "e9"]


def test_number_and_age_are_bounded(tmp_path: Path) -> None:
    kept = history(tmp_path / "h.db", events=5)
    for number in range(12):
        kept.record([event(f"e{number}", 49 * DAY + number)])
    kept.close()
    assert texts(history(tmp_path / "h.db", events=5)) == ["e7", "e8", "e9", "e10", "e11"]
    later = history(tmp_path / "h.db", wall=79 * DAY + 10, events=5)
    assert texts(later) == ["e10", "e11"]


def test_a_file_that_is_damaged_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    path.write_bytes(b"no database at all" * 100)
    kept = history(path)
    refused = kept.record([event("lost")])
    assert refused.reason and [each.text for each in refused.events] == ["lost"]
    assert kept.record([event("kept")]).reason == ""
    assert texts(kept) == ["kept"]
    assert (tmp_path / "h.db.damaged").exists()


def test_a_directory_that_is_missing_is_a_reason_and_no_exception(tmp_path: Path) -> None:
    kept = history(tmp_path / "nowhere" / "h.db")
    assert "h.db" in kept.record([event("e")]).reason
    assert "h.db" in kept.find(0, 10).reason


def test_only_what_is_marked(tmp_path: Path) -> None:
    kept = history(tmp_path / "h.db")
    marked = msgspec.structs.replace(
        event("marked", 49 * DAY), mark=Mark("started", "n1", 3, 1.0, (Span("s", 1.0, 2.0),))
    )
    kept.record([marked, *(event(f"e{number}", 49 * DAY + 1 + number) for number in range(20)), marked])
    assert [each.text for each in kept.find(0.0, 5, marked=True).events] == ["marked", "marked"]
    assert kept.find(0.0, 1, marked=True).events == (marked,)
    assert texts(kept, limit=2) == ["e18", "e19"]


def test_a_wall_clock_that_is_set_back_or_forward_leaves_the_history_in_order(tmp_path: Path) -> None:
    """By the time that was told of each event; nothing is lost by a day more or less."""
    wall = [0.0]
    kept = History(tmp_path / "h.db", lambda: wall[0], lambda: 500.0, 1000, 30 * DAY)
    told = {"before": 50 * DAY, "set back": 49 * DAY, "set forward": 51 * DAY, "right again": 50 * DAY + 20}
    for text, wall[0] in told.items():
        kept.record([event(text, uptime=490.0)])
    times = [each.at for each in kept.find(0.0, 100).events]
    assert times == sorted(times)
    assert texts(kept) == ["set back", "before", "right again", "set forward"]
