"""What the log says to its user: its role, and the Step that each event leads to."""

from dataclasses import dataclass
from enum import StrEnum

from truecl.core.contract import Save, Send
from truecl.model.ids import Index, NodeName, Term


class Role(StrEnum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


TURNS: dict[Role, tuple[Role, ...]] = {
    Role.FOLLOWER: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE),
    Role.PRE_CANDIDATE: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE),
    Role.CANDIDATE: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.LEADER),
    Role.LEADER: (Role.FOLLOWER,),
}
"""Every turn that there is; only the `_become_...` methods take one."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A command to apply. Indexes rise, with gaps where the log holds entries of its own."""

    index: Index
    term: Term
    payload: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state machine after entry `index`, to be put in the place of what there is."""

    index: Index
    term: Term
    data: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """The role, the term or the known leader is another than at the last take()."""

    role: Role
    term: Term
    leader: NodeName | None


@dataclass(frozen=True, slots=True)
class Step:
    """What one event leads to, to be carried out in this order: saves (durably), sends, snapshot, committed, rest."""

    saves: tuple[Save, ...]
    sends: tuple[Send, ...]
    snapshot: Snapshot | None
    committed: tuple[Committed, ...]
    change: Change | None
    completed_round: int
    """This round and all before it are acknowledged by a quorum as of now; 0: no news."""
    wake_at: float | None
