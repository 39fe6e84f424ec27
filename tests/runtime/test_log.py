"""Logs are bounded in every direction and cannot be forged by what is logged."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from truecl.runtime.log import BURST, MAX_LINE, Level, Log, LogFile


class Still:
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


def new_log(lines: list[bytes], clock: Still) -> Log:
    return Log("n1", "hbd", lines.append, clock, wall=lambda: datetime(2026, 11, 22, 3, 4, 5, 678900, UTC))


def test_a_line() -> None:
    lines: list[bytes] = []
    new_log(lines, Still()).warning("node n2 is gone")
    [line] = lines
    assert line.startswith(b"2026-11-22T03:04:05.678Z n1 hbd[")
    assert line.endswith(b"] WARNING node n2 is gone\n")


def test_a_text_stays_one_bounded_line() -> None:
    lines: list[bytes] = []
    new_log(lines, Still()).info("a\nb\x1b[2J" + "x" * 10_000)
    assert lines[0].count(b"\n") == 1
    assert b"a\\x0ab\\x1b[2J" in lines[0]
    assert len(lines[0]) < MAX_LINE + 100


def test_the_rate_is_bounded_and_the_gap_is_told() -> None:
    lines: list[bytes] = []
    clock = Still()
    log = new_log(lines, clock)
    for number in range(BURST + 50):
        log.info(str(number))
    assert len(lines) == BURST
    assert log.lost == 50
    clock.at = 60.0
    log.info("again")
    assert [line.split(b"] ")[1] for line in lines[BURST:]] == [
        b"WARNING 50 lines left out, more than 20 a second\n",
        b"INFO again\n",
    ]


def test_seldom_says_how_many_were_left_out() -> None:
    lines: list[bytes] = []
    clock = Still()
    log = new_log(lines, clock)
    for key in ("a", "a", "b", "a"):
        log.seldom(key, Level.INFO, key)
    clock.at = 11.0
    log.seldom("a", Level.INFO, "a")
    assert [line.split(b"INFO ")[1] for line in lines] == [b"a\n", b"b\n", b"a (and 2 times more)\n"]


def test_files_rotate_and_only_so_many_are_kept(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "hbd.log", limit=100, kept=3)
    for number in range(40):
        file.write(b"%029d\n" % number)
    file.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["hbd.log", "hbd.log.1", "hbd.log.2"]
    kept = b"".join((tmp_path / name).read_bytes() for name in ("hbd.log.2", "hbd.log.1", "hbd.log"))
    assert [int(line) for line in kept.split()] == list(range(33, 40))


def test_a_log_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hbd.log").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        LogFile(tmp_path / "hbd.log")


def test_a_disk_that_will_not_write_stops_nobody() -> None:
    def refuse(line: bytes) -> None:
        raise OSError(28, "No space left on device")

    log = Log("n1", "hbd", refuse, Still())
    log.error("lost")
    assert log.lost == 1
