"""lockd on its node: what is proposed for the replicated log, and what the log says."""

from truecl.model.ids import AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.ledger import AnyCommand, Ledger
from truecl.model.membership import Membership
from truecl.model.replica import ReplicaReport
from truecl.model.report import InstanceReport, WatchdogReport
from truecl.wire.messages.base import Message


class Propose(Message, frozen=True):
    """Master's clusterd: append these commands in one entry, if `term` is still this lockd's own as leader."""

    number: int
    term: Term
    commands: tuple[AnyCommand, ...]


class Proposed(Message, frozen=True):
    """`index` None: refused, with the reason; otherwise appended there (Applied follows when committed)."""

    number: int
    index: Index | None
    reason: str = ""


class Applied(Message, frozen=True):
    """To subscribers, after each committed entry (or a snapshot): the state that it led to."""

    ledger: Ledger


class Leadership(Message, frozen=True):
    """To subscribers, on every change: who leads, and whether it is this lockd and ready to decide."""

    term: Term
    leader: NodeName | None
    ready: bool
    trouble: str = ""
    """One line for the operator: why, of two nodes, this one waits or goes on alone; '': nothing to say."""
    needed: bool = False
    """Of two nodes that live, the other can decide nothing without this one: before it leaves in good order, it waits a
    moment for that to end."""


class Nodes(Message, frozen=True):
    """Leader's lockd to its clusterd: what each node last said of itself, and when its lease surely ended."""

    reports: dict[NodeName, tuple[BootId, tuple[InstanceReport, ...]]]
    expired: tuple[NodeName, ...]
    """Nodes whose lease, drift and stop allowance are over."""
    leaving: tuple[NodeName, ...] = ()
    watchdogs: dict[NodeName, WatchdogReport] = {}
    """What each node said of its own, where one is configured."""
    reset: tuple[Generation, ...] = ()
    """Live generations whose node's watchdog has surely reset it: 'expired + watchdog' would be accepted now."""
    lapsed: tuple[Generation, ...] = ()
    """Live generations for which 'expired' would be accepted now."""
    level: int = 1
    """The newest level of the log that all its members have said they know."""
    replicas: dict[NodeName, tuple[ReplicaReport, ...]] = {}
    """In the same word as `reports`, so of the same boot."""
    unrenewed: tuple[NodeName, ...] = ()
    """Nodes that get no lease any more until they have closed what they own no longer, or cannot stop."""


class Members(Message, frozen=True):
    """To subscribers, on every change: who holds the log, by the latest appended entry on that."""

    membership: Membership
    settled: bool
    """It is committed."""
    caught_up: tuple[NodeName, ...] = ()
    """While leading: the observers that have all that is committed, and answer."""


class Reshape(Message, frozen=True):
    """Master's clusterd: change the membership, by one node; answered by Proposed, with the reason if not."""

    number: int
    term: Term
    membership: Membership


class Revoke(Message, frozen=True):
    """Master's clusterd: `node` cannot stop this generation, so renew it no more, if `term` is still this lockd's own
    as leader. Its guard then stops all that it has, and where that does not end its watchdog resets it."""

    term: Term
    node: NodeName
    app: AppName
    generation: Generation


class Campaign(Message, frozen=True):
    """reqd to lockd: this node ran lha_form, stand for election."""


class StepDown(Message, frozen=True):
    """reqd to lockd: hand leadership over before this node stops."""
