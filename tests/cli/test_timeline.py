"""lha_log --timeline as the operator sees it. The goldens are in testdata; `--rewrite` writes them anew."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.cli.told import SILENT, Told, golden
from tests.core.story import N2, N3, UPTIMES, WALL, failover, move
from truecl.cli.log import main
from truecl.cli.picture import LETTER, drawn
from truecl.cli.timeline import bar, shown
from truecl.core.clocks import Clocks
from truecl.core.timeline import Phase, Timeline, timelines
from truecl.model.ids import NodeName
from truecl.wire.messages import AskLog, ClockReading, LogLines, Refused

pytestmark = pytest.mark.usefixtures("utc")
READING = ClockReading(N3, N2, UPTIMES[N3] + 60.0, UPTIMES[N2] + 60.001, UPTIMES[N3] + 60.002)
CASES = {"failover": failover(), "monitored": failover(monitor=True), "move": move(failover())}


def answer(case: str) -> LogLines:
    return LogLines(0, tuple(CASES[case].events), True, (NodeName("n1"),), 0.0, (READING,))


@pytest.mark.parametrize("case", CASES)
def test_looks(case: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    told = Told(statd=[[answer(case)]])
    assert main(["--timeline", "-n", "2"], told) == 0
    assert told.sent == [AskLog(limit=1000, marked=True)]
    shown = capsys.readouterr()
    assert shown.err == "lha_log: WARN n1 did not answer; their events are missing\n"
    assert all(line == line.rstrip() and len(line) <= 80 for line in shown.out.splitlines())
    golden(f"timeline_{case}.txt", shown.out, request)


def test_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    file = tmp_path / "failover.svg"
    assert main(["--timeline", "-n", "2", "--svg", str(file)], Told(statd=[[answer("move")]])) == 0
    golden("timeline.svg", file.read_text(), request)
    assert main(["--timeline", "--svg", "/nowhere/x.svg"], Told(statd=[[answer("move")]])) == 1
    assert "/nowhere/x.svg cannot be written" in capsys.readouterr().err


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--timeline", "--json", "-n", "5"], Told(statd=[[answer("move")]])) == 0
    missing, latest, before = map(json.loads, capsys.readouterr().out.splitlines())
    assert missing == {"missing": ["n1"]}
    assert (latest["kind"], before["kind"], before["phases"][1]["name"]) == ("move", "failover", "suspected")


@pytest.mark.parametrize(
    ("arguments", "replies", "code", "text"),
    [
        (["--timeline"], [LogLines(0, (), True)], 1, "no failover or move in the history"),
        (["--timeline", "-A", "db"], [LogLines(0, (), True)], 1, "no failover or move of 'db'"),
        (["--timeline", "-f"], [], 2, "does not go with --follow"),
        (["--svg", "x.svg"], [], 2, "--svg goes with --timeline"),
        (["--timeline"], [SILENT], 4, "did not answer"),
        (["--timeline"], [Refused("too many lha_log")], 1, "too many lha_log"),
    ],
)
def test_what_it_cannot_show_it_says(
    arguments: list[str], replies: list[object], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, Told(statd=[replies])) == code
    assert text in capsys.readouterr().err


def crowded(count: int) -> Timeline:
    """Many phases at nearly the same moment, on nodes with names of every length."""
    names = ("n1", "a-node-with-a-name-that-is-far-too-long-for-any-lane", "<&>")
    phases = tuple(
        Phase(f"phase number {number}", names[number % 3], number * 0.001 + (number > 7), 0.001 + (number == 8))
        for number in range(count)
    )
    (like,) = timelines(failover().events, Clocks(failover().events))
    return Timeline(
        like.app, "failover", "why", names[0], names[1], 7, WALL, 0.0, phases[-1].at, phases, None,
        {"n1": "wall", "n2": "same"}, False,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 3, 12, 40])
def test_no_text_of_the_picture_lies_upon_another_or_outside(count: int) -> None:
    picture = ElementTree.fromstring(drawn([crowded(count), crowded(3)]))
    width, height = float(picture.get("width", "0")), float(picture.get("height", "0"))
    boxes = []
    for text in picture.iter("{http://www.w3.org/2000/svg}text"):
        size = int(text.get("font-size", "11"))
        x, y, wide = float(text.get("x", "0")), float(text.get("y", "0")), LETTER * len(text.text or "") * size / 11
        x -= wide / 2 if text.get("text-anchor") == "middle" else 0.0
        boxes.append((x, y - size, x + wide, y, text.text))
        assert x >= 0 and y <= height and x + wide <= width, text.text
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_nothing_of_the_table_is_folded(width: int) -> None:
    lines = shown(crowded(40), width).splitlines()
    assert sum("phase number" in line for line in lines) == 40
    if width >= 80:
        assert max(map(len, lines)) <= width


def test_a_bar_is_where_its_phase_is() -> None:
    assert bar(Phase("a", "n1", 0.5, 0.25), 1.0, 20) == "|" + " " * 5 + "#" * 5
    assert bar(Phase("a", "n1", 1.0, 0.001), 1.0, 20) == "|" + " " * 19 + "#"
    assert bar(Phase("a", "n1", 0.0, 0.0), 0.0, 20) == "|"
