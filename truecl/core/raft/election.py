"""Elections: counting votes, and who goes first when the leader is dead."""

from collections.abc import Collection

from truecl.core.quorum import electors, has_quorum
from truecl.model.ids import NodeName
from truecl.model.membership import Membership

STAGGER = 0.02
"""Fraction of the election timeout between one successor and the next after hbd's verdict."""

YIELD = 0.1
"""Fraction of the election timeout by which a node stands back that would vote for another."""

RETRY = 0.25
"""Fraction of the election timeout before which nobody tries again who just failed."""


class Tally:
    """The answers to one candidate, its own included; the first answer of each voter counts."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._granted: dict[NodeName, float] = {}
        self._refused: dict[NodeName, None] = {}

    def count(self, node: NodeName, granted: bool, acknowledged: float) -> None:
        """`acknowledged`: when, at the latest, that voter last acknowledged a leader (in real votes)."""
        if node in self._granted or node in self._refused or node not in electors(self._membership):
            return
        if granted:
            self._granted[node] = acknowledged
        else:
            self._refused[node] = None

    @property
    def won(self) -> bool:
        return has_quorum(self._membership, self._granted)

    @property
    def lost(self) -> bool:
        """Whether those that have not refused are too few to win."""
        left = [voter for voter in electors(self._membership) if voter not in self._refused]
        return not has_quorum(self._membership, left)

    @property
    def lease_bound(self) -> float:
        """The latest acknowledgement of any leader by a voter that was counted (SAFETY.md section 2).

        Whoever completed a quorum round before has in this quorum at least one voter that acknowledged it.
        """
        return max(self._granted.values())


def rank(membership: Membership, me: NodeName, dead: Collection[NodeName]) -> int:
    """This voter's place in the succession: how many living voters go first."""
    living = [voter for voter in electors(membership) if voter not in dead]
    return living.index(me)


def precedes(membership: Membership, node: NodeName, me: NodeName) -> bool:
    """Whether `node` is a voter before `me` in the succession."""
    for voter in electors(membership):
        if voter in (node, me):
            return voter == node
    return False
