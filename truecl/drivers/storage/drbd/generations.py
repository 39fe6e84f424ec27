"""DRBD's own account of a copy's past: its generation identifiers, and what two copies' say of each other.

What the log says goes before all of this; it is for the operator, and where the log knows nothing yet.
"""

from dataclasses import dataclass
from enum import StrEnum

_JUST_CREATED = 4
_PRIMARY_BIT = 1
"""Set while it is primary; no part of the name."""


@dataclass(frozen=True, slots=True)
class Generations:
    """One volume's, on one node."""

    current: int
    bitmap: int
    """Where its own way parted from its peer's; 0: it has not."""
    history: tuple[int, ...]
    consistent: bool
    up_to_date: bool
    crashed_primary: bool
    """It was primary when its node died, and has not met its peer since."""

    @property
    def new(self) -> bool:
        """It never held anything."""
        return self.current == _JUST_CREATED


class Relation(StrEnum):
    """Of one copy to another."""

    NEW = "both are new"
    EQUAL = "of the same generation"
    AHEAD = "newer than the other"
    BEHIND = "older than the other"
    SPLIT = "both were written without the other"
    UNRELATED = "they never had anything in common"


def relation(own: Generations, other: Generations) -> Relation:
    """As DRBD itself compares them (drbd_uuid_compare)."""
    if own.new or other.new:
        return Relation.NEW if own.new and other.new else Relation.BEHIND if own.new else Relation.AHEAD
    if own.current == other.current:
        return Relation.EQUAL
    if own.current in (other.bitmap, *other.history):
        return Relation.BEHIND
    if other.current in (own.bitmap, *own.history):
        return Relation.AHEAD
    past = {each for each in (own.bitmap, *own.history) if each}
    return Relation.SPLIT if past & {other.bitmap, *other.history} else Relation.UNRELATED


def generations(text: str) -> tuple[Generations, ...]:
    """`drbdadm get-gi`: a line a volume (8.4), or a volume's peer (9)."""
    return tuple(each for line in text.splitlines() if (each := _line(line.split()[-1] if line.split() else "")))


def _line(line: str) -> Generations | None:
    fields = line.split(":")
    if len(fields) < 11:
        return None
    try:
        numbers = [int(field, 16) & ~_PRIMARY_BIT for field in fields[:4]]
    except ValueError:
        return None
    flags = [field == "1" for field in fields[4:11]]
    return Generations(numbers[0], numbers[1], tuple(filter(None, numbers[2:])), flags[0], flags[1], flags[6])
