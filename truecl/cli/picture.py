"""Failovers and moves as a picture: SVG, nodes as lanes, a bar for each phase with a flag that names it.

Flags hang below their bar, text to the right of the pole. Placed from right to left, each one row below all that it
would run into: so no text meets another one, and no pole crosses a text.
"""

from collections.abc import Sequence
from itertools import cycle

from truecl.cli.timeline import how_sure, milliseconds, title
from truecl.core.timeline import Phase, Timeline

WIDTH = 1100.0
LEFT, RIGHT = 110.0, 250.0
"""Margins: for the nodes' names, and for the flags of the last phases."""
LETTER = 6.5
"""Width of a letter at 11 pixels, rather too much than too little."""
BAR, FLAG, GAP = 18.0, 16.0, 14.0
"""Heights of a bar and of a row of flags; between lanes, and between two flags."""
HEAD, AXIS, FOOT = 62.0, 24.0, 16.0
TICKS = 10
LONGEST_NODE = 14
COLOURS = {
    "last sign of life": "#7f1d1d", "suspected": "#dc2626", "elected": "#7c3aed",
    "fence ordered": "#f59e0b", "fence confirmed": "#d97706", "lease expired": "#d97706",
    "watchdog reset": "#d97706",
    "asked": "#475569", "failed": "#dc2626", "stop begun": "#94a3b8", "released": "#64748b",
    "granted": "#2563eb", "start begun": "#60a5fa",
    "storage": "#0f766e", "file systems": "#0d9488", "addresses": "#14b8a6", "program": "#16a34a",
    "answered": "#166534",
}  # fmt: skip
OTHER = "#94a3b8"


def drawn(timelines: Sequence[Timeline]) -> str:
    """One below the other, as one SVG document."""
    parts, top = [], 0.0
    for timeline in timelines:
        panel, height = _panel(timeline, top)
        parts += panel
        top += height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0f}" height="{top:.0f}" '
        f'viewBox="0 0 {WIDTH:.0f} {top:.0f}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">'
    )
    ground = f'<rect width="{WIDTH:.0f}" height="{top:.0f}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def _panel(timeline: Timeline, top: float) -> tuple[list[str], float]:
    """Its elements, and its height."""
    lanes = list(dict.fromkeys([timeline.origin, *(phase.node for phase in timeline.phases), timeline.target]))
    scale = (WIDTH - LEFT - RIGHT) / (timeline.total or 1.0)
    begin = top + HEAD + AXIS
    bodies: list[str] = []
    y = begin
    for lane in lanes:
        body, height = _lane(timeline, lane, y, scale)
        bodies += body
        y += height
    end = y
    about = "; ".join(each for each in (timeline.cause, how_sure(timeline)) if each)
    head = [
        _text(16, top + 26, title(timeline), size=15, weight="bold"),
        _text(16, top + 46, about[:150], colour="#475569"),
    ]
    return head + _axis(timeline.total, scale, begin, end) + bodies, end + FOOT - top


def _axis(total: float, scale: float, begin: float, end: float) -> list[str]:
    step = _step(total)
    marks = []
    for number in range(int(total / step) + 1 if total else 1):
        x = LEFT + number * step * scale
        marks.append(f'<path d="M{x:.1f} {begin - 6:.1f}V{end:.1f}" stroke="#e2e8f0"/>')
        marks.append(_text(x, begin - 10, f"{milliseconds(number * step)} ms", colour="#64748b", anchor="middle"))
    return marks


def _step(total: float) -> float:
    """Seconds between two ticks: 1, 2 or 5 of a power of ten, TICKS of them at most."""
    step, factors = 0.001, cycle((2.0, 2.5, 2.0))
    while total / step > TICKS:
        step *= next(factors)
    return step


def _lane(timeline: Timeline, lane: str, y: float, scale: float) -> tuple[list[str], float]:
    mine = [phase for phase in timeline.phases if phase.node == lane]
    name = lane if len(lane) <= LONGEST_NODE else lane[: LONGEST_NODE - 1] + "…"
    middle = y + BAR / 2
    parts = [
        _text(16, middle + 4, name, weight="bold", size=12),
        f'<path d="M{LEFT:.1f} {middle:.1f}H{LEFT + timeline.total * scale:.1f}" stroke="#cbd5e1"/>',
    ]
    flags = [(LEFT + phase.at * scale, _words(phase)) for phase in mine]
    rows = _rows(flags)
    for phase, (x, words), row in zip(mine, flags, rows, strict=True):
        colour = COLOURS.get(phase.name, OTHER)
        wide = max(2.0, phase.took * scale)
        foot = y + BAR + (row + 1) * FLAG
        parts += [
            f'<rect x="{x - wide:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{BAR:.1f}" fill="{colour}">'
            f"<title>{escape(_words(phase))}</title></rect>",
            f'<path d="M{x:.1f} {y + BAR:.1f}V{foot - 1:.1f}" stroke="{colour}"/>',
            _text(x + 4, foot - 2, words),
        ]
    return parts, BAR + (max(rows, default=-1) + 1) * FLAG + GAP


def _words(phase: Phase) -> str:
    return f"{phase.name} +{milliseconds(phase.took)}" if phase.took else phase.name


def _rows(flags: Sequence[tuple[float, str]]) -> list[int]:
    """Of each flag (x of its pole, text), in the order of x."""
    rows: list[int] = [0] * len(flags)
    for place in reversed(range(len(flags))):
        x, words = flags[place]
        reach = x + 4 + LETTER * len(words) + GAP / 2
        met = [rows[other] for other in range(place + 1, len(flags)) if flags[other][0] < reach]
        rows[place] = max(met, default=-1) + 1
    return rows


def _text(
    x: float, y: float, words: str, colour: str = "#0f172a", size: int = 11, weight: str = "", anchor: str = ""
) -> str:
    more = f' font-weight="{weight}"' if weight else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    plain = "".join(each if each.isprintable() else " " for each in words)
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}"{more}>{escape(plain)}</text>'


def escape(text: str) -> str:
    """As XML wants it. (The library's own costs lha_log more time to import than all the rest.)"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
