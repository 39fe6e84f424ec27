"""Switching nodes off and on, asking their fence devices, and the operator's word in their place."""

import msgspec

from truecl.model.actions import Power
from truecl.model.ids import Index, NodeName
from truecl.wire.messages.base import Message


class OrderFenceOff(Message, frozen=True):
    """Switch this node off and verify: from the master's clusterd to its own reqd (order `index` is committed), or from
    the lockd of one of two nodes, which counts its orders itself. The answer goes to who asked."""

    node: NodeName
    index: Index


class FenceResult(Message, frozen=True):
    """`over` False: a level failed, the next one is being tried."""

    node: NodeName
    index: Index
    off: bool
    reason: str = ""
    level: int = 0
    """Which of the node's levels confirmed, from 0."""
    over: bool = True


class OrderPowerOn(Message, frozen=True):
    """Master's clusterd to its own reqd: switch this node on again, trying the level `first` before the others."""

    node: NodeName
    first: int = 0


class PoweredOn(Message, frozen=True):
    node: NodeName
    on: bool
    reason: str = ""


class AskFences(Message, frozen=True):
    """lha_fence to its reqd, and reqd to reqd: what do the fence devices of `node` say to `asker`? Nothing is cut."""

    number: int
    asker: NodeName
    node: NodeName


class FenceView(msgspec.Struct, frozen=True, array_like=True):
    """One device as one node sees it."""

    level: int
    agent: str
    power: Power
    reason: str = ""
    """Why `power` is unknown."""


class FencesSeen(Message, frozen=True):
    number: int
    asker: NodeName
    node: NodeName
    devices: tuple[FenceView, ...]


class ConfirmOff(Message, frozen=True):
    """lha_fence to lockd, in a cluster of two nodes: the operator's word that `node` is off, in place of its device's.

    `alone`: and `node` did not run alone since this one last did, and will not be started until it can reach this one.
    Needed where this node cannot know that itself. `seen`: as Confirmed said when the operator looked; the word ends
    nothing newer. None: no word yet, only the question whether it would be taken. Answered by Confirmed.
    """

    node: NodeName
    operator: str
    seen: Index | None = None
    alone: bool = False


class Confirmed(Message, frozen=True):
    """`taken`: this node goes on without the other. Otherwise `reason` says why not, '' where nothing stands against
    the word but that it was not given; `say_more`: only with `alone`."""

    taken: bool
    reason: str = ""
    say_more: bool = False
    seen: Index = Index(0)
    """How far this log goes, whether or not that is committed."""
    pair: bool = True
    """False: this is no cluster of two voters; its master takes that word."""
