"""What is measured, what it must reach and what is aimed at; and the table and the JSON that come of it.

Durations are milliseconds, memory MB (10^6 bytes), processor time percent of one core.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """A figure is the better the smaller it is. None: nothing was asked of it, it explains another one."""

    key: str
    text: str
    unit: str = "ms"
    must: float | None = None
    aim: float | None = None


def _failovers() -> Iterator[Figure]:
    phases = ("detected", "elected", "fence ordered", "fenced", "granted")
    for nodes in (3, 4, 8):
        yield Figure(f"powercut{nodes}", f"power cut of owner and master, {nodes} nodes: outage", "ms", 1500, 500)
        for phase in phases:
            yield Figure(f"powercut{nodes} {phase}", f"  {phase} after", "ms")


FIGURES: tuple[Figure, ...] = (
    Figure("form4", "lha_form, 4 nodes", "ms", 2000, 1200),
    Figure("form4 cpu", "  processor time of one node for it", "ms"),
    Figure("form8", "lha_form, 8 nodes", "ms", 4000, 2000),
    Figure("form8 cpu", "  processor time of one node for it", "ms"),
    Figure("start", "lha_startapp", "ms"),
    Figure("start drivers", "  its drivers' own time", "ms"),
    Figure("start overhead", "  beyond its drivers' own time", "ms", 1000, 300),
    Figure("stop", "lha_stopapp", "ms", 1000, 300),
    Figure("dissolve", "lha_dissolve, 4 nodes", "ms", 1000, 300),
    Figure("stat", "lha_stat, 4 nodes", "ms", 120, 80),
    Figure("stat100", "lha_stat, 8 nodes and 100 applications", "ms", 200, None),
    Figure("start100", "  start of 100 applications, by lha_form", "ms"),
    *_failovers(),
    Figure("death", "kill -9 of the program: outage", "ms", 300, None),
    Figure("death start", "  the program's own start", "ms"),
    Figure("death overhead", "  outage beyond its own start", "ms", None, 100),
    Figure("linkcut outages", "cut of one of two links: outages", "", 0, 0),
    Figure("linkcut failovers", "  fail-overs and changes of master", "", 0, 0),
    Figure("linkcut longest", "  longest time between two answers", "ms"),
    Figure("move", "lha_moveapp", "ms", 1000, 300),
    Figure("move outage", "  outage", "ms", 1000, 300),
    Figure("pss", "all daemons of a node, proportional set size", "MB", 100, 60),
    Figure("pss alone", "  with nothing shared with other nodes", "MB"),
    Figure("cpu master", "idle, the master's node, over 30 s", "%", 2, 1),
    Figure("cpu other", "idle, another node, over 30 s", "%", 2, 1),
    Figure("cpu owner", "  while it runs the application", "%"),
    Figure("load failovers", "4 busy loops a core, 10 minutes: false fail-overs", "", 0, 0),
    Figure("load down", "  verdicts 'node is down'", "", 0, 0),
    Figure("load terms", "  changes of master", "", 0, 0),
    Figure("load longest", "  longest time between two answers", "ms"),
)

BY_KEY = {figure.key: figure for figure in FIGURES}


@dataclass(frozen=True)
class Series:
    """The runs of one figure. `at`: local date and time; `load`: the machine's load average when it was taken."""

    key: str
    values: tuple[float, ...]
    at: str
    load: float

    @property
    def figure(self) -> Figure:
        return BY_KEY[self.key]

    def judge(self, target: float | None) -> str:
        """'met' by every run, 'median' by half of them, 'missed', or '' where nothing was asked."""
        if target is None or not self.values:
            return ""
        if max(self.values) <= target:
            return "met"
        return "median" if median(self.values) <= target else "missed"

    def as_json(self) -> dict[str, object]:
        figure = self.figure
        return {
            "text": figure.text.strip(),
            "unit": figure.unit,
            "runs": len(self.values),
            "min": round(min(self.values), 2),
            "median": round(median(self.values), 2),
            "max": round(max(self.values), 2),
            "must": figure.must,
            "must_is": self.judge(figure.must),
            "aim": figure.aim,
            "aim_is": self.judge(figure.aim),
            "values": [round(value, 2) for value in self.values],
            "at": self.at,
            "load": self.load,
        }


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def table(series: Sequence[Series]) -> str:
    """In the order of FIGURES; 'met' is said by the slowest run, 'median' by half of the runs."""
    found = {each.key: each for each in series}
    rows = [("", "UNIT", "RUNS", "MIN", "MEDIAN", "MAX", "MUST", "", "AIM", "")]
    for figure in FIGURES:
        each = found.get(figure.key)
        if each is None:
            continue
        values = (number(min(each.values)), number(median(each.values)), number(max(each.values)))
        must, aim = number(figure.must), number(figure.aim)
        rows.append((figure.text, figure.unit, str(len(each.values)), *values, must, each.judge(figure.must), aim,
                     each.judge(figure.aim)))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = (0, 1, 7, 9)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
