"""The quorum: one pure function over (membership of the log, who answered), for votes, commits and lease rounds alike.

A majority of the electors: of the voters, or of two voters the one that is left after the *exclusion* of the other
(SAFETY.md section 1). A witness is a voter like the others here: it only never runs applications.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

from truecl.model.ids import NodeName
from truecl.model.membership import Membership

T = TypeVar("T", int, float)


def electors(membership: Membership) -> tuple[NodeName, ...]:
    """The voters that count, in the order of succession: all but an excluded one."""
    if membership.excluded is None:
        return membership.voters
    return tuple(voter for voter in membership.voters if voter != membership.excluded)


def may_lead(membership: Membership, node: NodeName) -> bool:
    """Whether it may stand for election, or exclude the other of two voters: an elector that is not leaving."""
    return node in electors(membership) and node != membership.leaving


def has_quorum(membership: Membership, answered: Collection[NodeName]) -> bool:
    """Whether those that answered can decide. Names that are no electors do not count; without any nobody decides."""
    needed = electors(membership)
    count = 0
    for voter in needed:
        if voter in answered:
            count += 1
    return count * 2 > len(needed)


def quorum_reached(membership: Membership, values: Mapping[NodeName, T], default: T) -> T:
    """The greatest value that a quorum has reached: of entries stored, rounds answered, or times heard.

    `default` stands for an elector without a value, and is the answer where there are none. That this is the
    greatest v for which `has_quorum` holds over the electors whose value is at least v, is tested against just that.
    """
    needed = electors(membership)
    if not needed:
        return default
    ordered = sorted([values.get(voter, default) for voter in needed])
    return ordered[(len(ordered) - 1) // 2]
