"""Who holds the replicated log, as a value that travels in its snapshots, its entries and its messages."""

import msgspec

from truecl.model.ids import NodeName

MAX_VOTERS = 7
"""DESIGN.md section 2: more would make every commit slower and no cluster safer."""


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """The configuration of the log. Names are unique across both; the order of `voters` is the order of succession."""

    voters: tuple[NodeName, ...] = ()
    observers: tuple[NodeName, ...] = ()
    """They receive every entry, never vote and never count (the learners of the Raft literature)."""
    excluded: NodeName | None = None
    """Of exactly two voters the one that is surely off, or was and has not caught up yet: it follows the log like an
    observer, and the other decides alone (SAFETY.md section 1). `truecl.core.quorum` says what follows from it."""
    together: bool = False
    """Two voters, of which neither may exclude the other: their number changes, or has just changed."""
    leaving: NodeName | None = None
    """Of exactly two voters the one that is about to be excluded because it leaves in good order. It still counts, and
    neither stands for election nor excludes the other any more: so the other may exclude it once both have this."""

    def __post_init__(self) -> None:
        if len(self.voters) > MAX_VOTERS:
            raise ValueError(f"{len(self.voters)} voters, {MAX_VOTERS} are the most")
        if len({*self.voters, *self.observers}) != len(self.voters) + len(self.observers):
            raise ValueError("a node is named twice")
        if self.excluded is not None and (len(self.voters) != 2 or self.excluded not in self.voters):
            raise ValueError(f"{self.excluded} cannot be excluded: only one of exactly two voters can")
        if self.together and (len(self.voters) != 2 or self.excluded is not None):
            raise ValueError("only two voters of which none is excluded can be bound to decide together")
        bound = len(self.voters) != 2 or self.excluded is not None or self.together
        if self.leaving is not None and (bound or self.leaving not in self.voters):
            raise ValueError(f"{self.leaving} cannot be let go: only one of two voters that may exclude each other can")

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        return self.voters + self.observers
