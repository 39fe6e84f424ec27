"""A node's reqd asks the leader's lockd for its lease."""

from truecl.model.ids import AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.replica import ReplicaReport
from truecl.model.report import InstanceReport, WatchdogReport
from truecl.wire.messages.base import Message


class Renew(Message, frozen=True):
    """A node asks for its lease. The leader answers after a quorum round sent later than this arrived."""

    node: NodeName
    boot: BootId
    number: int
    """Counts up within a boot of the node's reqd; the answer echoes it."""
    instances: tuple[InstanceReport, ...]
    leaving: bool = False
    """The service there is being stopped: nothing new is to be placed on it."""
    watchdog: WatchdogReport | None = None
    """None: none is configured there."""
    level: int = 1
    """The node's lockd adds it: the newest level of the log that it knows."""
    replicas: tuple[ReplicaReport, ...] = ()
    """State alone, without the progress of a synchronisation."""


class Renewed(Message, frozen=True):
    """The lease is good for `lease` seconds from the moment request `number` was sent. What is not named is stopped."""

    node: NodeName
    boot: BootId
    number: int
    term: Term
    index: Index
    named: tuple[tuple[AppName, Generation], ...]
    lease: float
    """As the log says: no node counts with its own configuration."""
