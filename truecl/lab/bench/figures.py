"""What is measured, what it must reach and what is aimed at; and the table and the JSON that come of it.

Durations are milliseconds, memory MB (10^6 bytes), processor time percent of one core.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from truecl.cli.table import table as aligned


@dataclass(frozen=True)
class Figure:
    """A figure is the better the smaller it is. None: nothing was asked of it, it explains another one."""

    key: str
    text: str
    unit: str = "ms"
    must: float | None = None
    aim: float | None = None


_STEPS = ("granted", "storage", "file systems", "addresses", "program")
_FENCED = ("last sign of life", "detected", "elected", "fence ordered", "fenced", *_STEPS)
_EXPIRED = ("last sign of life", "detected", "elected", "lease expired", *_STEPS)


def _failover(key: str, text: str, must: float, aim: float, phases: tuple[str, ...]) -> Iterator[Figure]:
    yield Figure(key, f"{text}: outage", "ms", must, aim)
    for phase in phases:
        yield Figure(f"{key} {phase}", f"  {phase} after", "ms")


def _failovers() -> Iterator[Figure]:
    """With a fence device and storage, or, `expired`, with neither. The profile `fast` has half the time."""
    for nodes in (2, 3, 4, 8):
        text = f"power cut of owner and master, {nodes} nodes"
        yield from _failover(f"powercut{nodes}", text, 1000, 500, _FENCED)
    for suffix, part in (("", 1.0), (" fast", 0.5)):
        profile = ", profile fast" if suffix else ""
        if suffix:
            text = f"power cut of owner and master, 3 nodes{profile}"
            yield from _failover(f"powercut3{suffix}", text, 1000 * part, 500 * part, _FENCED)
        text = f"owner and master cut off, 3 nodes{profile}"
        yield from _failover(f"cutoff{suffix}", text, 1500 * part, 800 * part, _FENCED)
        text = f"power cut, 3 nodes, address-only, on 'expired'{profile}"
        yield from _failover(f"expired{suffix}", text, 1000 * part, 1000 * part, _EXPIRED)
        text = f"cut off, 3 nodes, address-only, on 'expired'{profile}"
        yield from _failover(f"expired cutoff{suffix}", text, 1500 * part, 1000 * part, _EXPIRED)
        yield Figure(f"expired cutoff{suffix} stopped", "  the old owner had stopped after", "ms")
        yield Figure(f"expired cutoff{suffix} begun", "  the new owner began after", "ms")
        yield Figure(
            f"reelection{suffix}", f"power cut of the master alone{profile}: elected after", "ms", 400, 400 * part
        )
        yield Figure(f"reelection{suffix} longest", "  longest time between two answers of what ran elsewhere", "ms")

    yield Figure("paused", "all of the owner's processes frozen for 10 s, address-only: outage", "ms")
    yield Figure("paused address", "  its kernel took the address down after", "ms")
    yield Figure("paused woken", "  awake again, its instance was gone after", "ms", 200, None)


def _footprint(suffix: str, profile: str) -> Iterator[Figure]:
    must = (100.0, 60.0, 2.0, 1.0) if not suffix else (None,) * 4
    yield Figure(f"pss{suffix}", f"all daemons of a node, proportional set size{profile}", "MB", must[0], must[1])
    yield Figure(f"pss alone{suffix}", "  with nothing shared with other nodes", "MB")
    yield Figure(f"cpu master{suffix}", f"idle, the master's node, over 30 s{profile}", "%", must[2], must[3])
    yield Figure(f"cpu other{suffix}", f"idle, another node, over 30 s{profile}", "%", must[2], must[3])
    yield Figure(f"cpu owner{suffix}", "  while it runs the application", "%")


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
    *_footprint("", ""),
    *_footprint(" fast", ", profile fast"),
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
    return aligned(rows[0], rows[1:], right=(2, 3, 4, 5, 6, 8))
