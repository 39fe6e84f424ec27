"""statd: what is, of every node and application."""

import msgspec

from truecl.model.ids import AppName, BootId, DaemonName, Generation, NodeName, Term
from truecl.model.ledger import Ledger
from truecl.model.replica import ReplicaReport
from truecl.model.report import WatchdogReport
from truecl.model.standing import Stat, StepStatus, VolumeRow
from truecl.wire.messages.base import Message


class InstanceStatus(msgspec.Struct, frozen=True):
    app: AppName
    generation: Generation
    phase: str
    steps: tuple[StepStatus, ...] = ()
    reason: str = ""
    failed: bool = False
    """See `InstanceReport`."""


class NodeStatus(Message, frozen=True):
    """reqd to its statd each second and on change; statd to the master's statd."""

    node: NodeName
    boot: BootId
    daemons: dict[DaemonName, str]
    """Daemon to 'up', or why not."""
    instances: tuple[InstanceStatus, ...]
    lease_left: float = 0.0
    watchdog: WatchdogReport | None = None
    release: str = ""
    """Of truecl, as it runs there."""
    replicas: tuple[ReplicaReport, ...] = ()


class AskStanding(Message, frozen=True):
    """lha_stat; steps only of the one application or node that is named."""

    app: AppName | None = None
    node: NodeName | None = None


class Standing(Message, frozen=True):
    """The answer to AskStanding."""

    stat: Stat


class AskStatus(Message, frozen=True):
    """The same, for whoever wants to know how it came to be: another statd, a benchmark."""

    app: AppName | None = None
    node: NodeName | None = None
    number: int = 0


class AppNote(msgspec.Struct, frozen=True):
    """Master's word on why an application is not as wanted, and which command helps."""

    app: AppName
    text: str


class HeldNode(msgspec.Struct, frozen=True):
    """A node that comes and goes, and gets nothing new until then (CLOCK_BOOTTIME of the master's node)."""

    node: NodeName
    until: float


class Notes(Message, frozen=True):
    """clusterd (master) to statd: a line for each application that is not as wanted, and which nodes are held down."""

    notes: tuple[AppNote, ...]
    held: tuple[HeldNode, ...] = ()


class Status(Message, frozen=True):
    """The answer to AskStatus: what is, as far as `answered_by` knows."""

    cluster: str
    master: NodeName | None
    term: Term
    answered_by: NodeName
    nodes: dict[NodeName, str]
    """Node to UP, DOWN, UNKNOWN…, in the configuration's order."""
    ledger: Ledger
    reports: dict[NodeName, NodeStatus]
    notes: dict[AppName, str]
    apps: dict[AppName, tuple[NodeName, ...]] = {}
    """Configured applications and where each may run."""
    number: int = 0
    state: str = "UP"
    """UP, NO MASTER (voters enough, none elected yet) or NO QUORUM."""
    silent: tuple[NodeName, ...] = ()
    """Nodes that hbd hears and whose statd has not reported to the master for long."""
    here: NodeName = NodeName("")
    """The node on which the question was asked, whoever answered it."""
    trouble: str = ""
    """Of two nodes: why the one that answers waits for the other, or goes on alone; '': nothing to say."""
    roles: dict[NodeName, str] = {}
    """voter, observer or witness."""
    held: dict[NodeName, float] = {}
    """Nodes that come and go, and for how many seconds they get nothing new."""
    refused: dict[NodeName, str] = {}
    """Nodes with whom no session can be, and why."""
    twins: tuple[NodeName, ...] = ()
    """Nodes of whose name there is a second machine (`NodeView.twin`)."""
    volumes: dict[AppName, tuple[VolumeRow, ...]] = {}
    invalid: dict[AppName, str] = {}
    """Why an application is not as lha_buildapp found it; '': it is."""
