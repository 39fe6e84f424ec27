"""The quorum: one pure function over (membership of the log, who answered), for votes, commits and lease rounds alike.

A majority of the voters. A witness is a voter like the others here: it only never runs applications. Two nodes are a
majority only together; that one of them may go on alone after an *exclusion* of the other (a log entry, SAFETY.md
section 1) follows, as a field of Membership that this module alone reads.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

from truecl.model.ids import NodeName
from truecl.model.membership import Membership

T = TypeVar("T", int, float)


def has_quorum(membership: Membership, answered: Collection[NodeName]) -> bool:
    """Whether those that answered can decide. Names that are no voters do not count; without voters nobody decides."""
    count = 0
    for voter in membership.voters:
        if voter in answered:
            count += 1
    return count * 2 > len(membership.voters)


def quorum_reached(membership: Membership, values: Mapping[NodeName, T], default: T) -> T:
    """The greatest value that a quorum has reached: of entries stored, rounds answered, or times heard.

    `default` stands for a voter without a value, and is the answer where there are no voters. That this is the
    greatest v for which `has_quorum` holds over the voters whose value is at least v, is tested against just that.
    """
    voters = membership.voters
    if not voters:
        return default
    ordered = sorted([values.get(voter, default) for voter in voters])
    return ordered[(len(ordered) - 1) // 2]
