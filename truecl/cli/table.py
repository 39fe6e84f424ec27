"""Tables as text: columns as wide as their widest cell, two blanks between, nothing else.

(tabulate would do it, and costs lha_stat more time to import than all the rest: docs/commands.md.)
"""

from collections.abc import Sequence
from textwrap import wrap

GAP = "  "
NARROWEST = 20
"""Columns that the last column keeps however narrow the terminal is."""


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), width: int | None = None
) -> str:
    """Lines without blanks at their ends. `right`: columns aligned to the right. `width`: of the terminal; the last
    column is folded to fit into it. None: nothing is folded."""
    cells = [[_clean(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    if width is not None:
        before = sum(widths[:-1]) + len(GAP) * (len(head) - 1)
        widths[-1] = min(widths[-1], max(NARROWEST, width - before))
    lines = []
    for row in cells:
        folded = wrap(row[-1], widths[-1], break_on_hyphens=False) or [""]
        for number, last in enumerate(folded):
            parts = [*(row[:-1] if number == 0 else [""] * (len(row) - 1)), last]
            aligned = [
                part.rjust(each) if column in right else part.ljust(each)
                for column, (part, each) in enumerate(zip(parts, widths, strict=True))
            ]
            lines.append(GAP.join(aligned).rstrip())
    return "\n".join(lines)


def _clean(cell: str) -> str:
    """One line, and nothing that moves a terminal's cursor."""
    return "".join(each if each.isprintable() else " " for each in cell)
