"""What the benchmark makes of its numbers: verdicts, the table, the kept file, the phases of a fail-over."""

import json
from pathlib import Path

import pytest

from tests.core.story import N1, N2, N3, failover
from truecl.lab.bench.cases import CASES
from truecl.lab.bench.failovers import phases
from truecl.lab.bench.figures import BY_KEY, FIGURES, Series, table
from truecl.lab.bench.processes import _file_pages
from truecl.lab.bench.run import chosen, save
from truecl.lab.errors import LabError


def _series(key: str, *values: float) -> Series:
    return Series(key, values, "2026-01-01 00:00:00", 0.5)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((1000.0, 1100.0, 1200.0), "met"), ((1000.0, 1100.0, 1201.0), "median"), ((1000.0, 1300.0, 1400.0), "missed")],
)
def test_a_target_is_met_only_by_every_run(values: tuple[float, ...], verdict: str) -> None:
    series = _series("form4", *values)
    assert series.judge(series.figure.aim) == verdict


def test_nothing_asked_is_neither_met_nor_missed() -> None:
    assert _series("start drivers", 1.0).judge(None) == ""


def test_every_figure_has_one_key() -> None:
    assert len(BY_KEY) == len(FIGURES)


def test_the_table_keeps_the_order_of_the_figures() -> None:
    lines = table([_series("pss", 90.0), _series("form4", 900.0)]).splitlines()
    assert lines[1].startswith("lha_form, 4 nodes") and lines[2].startswith("all daemons of a node")
    assert lines[2].split()[-4:] == ["100", "met", "60", "missed"]


def test_figures_that_were_not_measured_stay(tmp_path: Path) -> None:
    keep = tmp_path / "bench" / "latest.json"
    save([_series("form4", 900.0, 1000.0), _series("stat", 70.0)], keep)
    save([_series("stat", 60.0)], keep)
    figures = json.loads(keep.read_text())["figures"]
    assert figures["form4"]["median"] == 950.0
    assert figures["stat"]["max"] == 60.0


def test_what_takes_minutes_runs_only_when_it_is_named() -> None:
    assert "load" not in [case.name for case in chosen([])]
    assert [case.name for case in chosen(["load"])] == ["load"]
    with pytest.raises(LabError, match="no measurement 'nonsense'"):
        chosen(["nonsense"])


def test_cases_have_names_of_their_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_phases_are_those_of_the_timeline_by_the_one_clock_of_a_lab() -> None:
    events = failover(uptimes=dict.fromkeys((N1, N2, N3), 0.0)).events
    assert [(phase, round(at, 3)) for phase, at in phases(events, N1)] == [
        ("last sign of life", 10.0), ("detected", 10.3), ("elected", 10.33), ("fence ordered", 10.35),
        ("fenced", 10.4), ("granted", 10.41), ("storage", 10.44), ("file systems", 10.47), ("addresses", 10.48),
        ("program", 10.54), ("answered", 10.54),
    ]  # fmt: skip
    assert phases(events, N2) == []


def test_private_copies_of_a_file_are_not_counted_as_the_file() -> None:
    smaps = """\
7f0000000000-7f0000002000 r-xp 00001000 fe:00 12   /usr/lib/libx.so
Rss:                 100 kB
Anonymous:             8 kB
VmFlags: rd ex mr mw me
7f0000003000-7f0000004000 rw-p 00000000 00:00 0
Rss:                 400 kB
Anonymous:           400 kB
"""
    assert list(_file_pages(smaps).values()) == [92.0]
