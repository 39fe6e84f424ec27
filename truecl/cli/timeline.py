"""A failover or a move as text: a table of its phases with a bar of when each one went on."""

import time
from collections.abc import Callable

from truecl.cli.output import printable
from truecl.cli.table import table
from truecl.core.timeline import Phase, Timeline

WIDTH = 80
BAR = 34
"""Columns of the bar where the terminal has them."""
LEAST_BAR = 10
LONGEST_NODE = 16
_MARGIN = 2


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def title(timeline: Timeline, local: Callable[[float], time.struct_time] = time.localtime) -> str:
    """`web: failover n1 -> n2, 2026/11/22 17:08:00.294, 512 ms: n1 was lost`."""
    stamp = f"{time.strftime('%Y/%m/%d %H:%M:%S', local(timeline.at))}.{int(timeline.at * 1000) % 1000:03d}"
    way = f"{timeline.app}: {timeline.kind} {_short(timeline.origin)} -> {_short(timeline.target)}"
    return f"{way}, {stamp}, {milliseconds(timeline.total)} ms{'' if timeline.finished else ' so far'}"


def how_sure(timeline: Timeline) -> str:
    """What times of different nodes are worth against each other."""
    if len(timeline.clocks) < 2:
        return ""
    if timeline.uncertainty is None:
        unsure = ", ".join(node for node, how in timeline.clocks.items() if how == "wall")
        return f"clocks: {unsure} only by its wall clock; between nodes times may be off by its error"
    if timeline.uncertainty == 0.0:
        return ""
    return f"clocks: between nodes to within {_span(timeline.uncertainty)}"


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds:.1f} s"


def shown(
    timeline: Timeline, width: int | None = None, local: Callable[[float], time.struct_time] = time.localtime
) -> str:
    """Lines that fit into `width` columns (None: WIDTH), but for names that do not."""
    width = WIDTH if width is None else width
    phases = timeline.phases
    nodes = [_short(phase.node) for phase in phases]
    before = max(map(len, ["Phase", *(phase.name for phase in phases)])) + max(map(len, ["Node", *nodes])) + 2 * 6 + 8
    columns = max(LEAST_BAR, min(BAR, width - before - _MARGIN))
    rows = [
        (phase.name, node, milliseconds(phase.at), milliseconds(phase.took), bar(phase, timeline.total, columns))
        for phase, node in zip(phases, nodes, strict=True)
    ]
    scale = f"|0{f'{milliseconds(timeline.total)} ms|'.rjust(columns)}"
    lines = [title(timeline, local), *_folded(timeline.cause, width), *_folded(how_sure(timeline), width)]
    lines += ["", *table(("Phase", "Node", "At ms", "Took", scale), rows, right=(2, 3)).splitlines()]
    notes = [f"{phase.name}: {phase.detail}" for phase in phases if phase.detail]
    lines += [line for note in notes for line in _folded(note, width)]
    if not timeline.finished:
        lines += _folded(f"{timeline.app} has not answered on {timeline.target} as far as the history tells", width)
    return "\n".join(printable(line).rstrip() for line in lines)


def bar(phase: Phase, total: float, columns: int) -> str:
    """From when the phase before it ended until its own moment, one column at the least."""
    if total <= 0.0:
        return "|"
    end = min(columns, round(phase.at / total * columns))
    begin = min(round((phase.at - phase.took) / total * columns), max(0, columns - 1))
    # The table takes leading blanks away: the frame keeps them.
    return "|" + " " * begin + ("#" * max(1, end - begin) if phase.took else ":")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NODE else name[: LONGEST_NODE - 1] + "…"


def _folded(text: str, width: int) -> list[str]:
    from textwrap import wrap

    return [f"  {line}" for line in wrap(text, max(20, width - 2))]
