"""Every message there is, in one table a channel.

MESH: between the same daemon on two nodes. LOCAL: between the daemons and commands of one node. All are frozen tagged
tuples in msgpack; a field may be added at the end with a default, which older nodes ignore. A new message gets a new
format (frame.VERSIONS, and SINCE here): it is not sent where the session speaks an older one. Times are seconds;
`until` and the like are CLOCK_BOOTTIME of the node they are on and never cross nodes.
"""

from typing import Union

import msgspec

from truecl.model.actions import Power
from truecl.model.build import Question, Seen, Work
from truecl.model.config import Address, Configuration
from truecl.model.ids import AppName, BootId, DaemonName, Generation, Index, LinkName, NodeName, Term
from truecl.model.ledger import ALWAYS, AnyCommand, Format, Ledger, Proof
from truecl.model.membership import Membership
from truecl.model.replica import Layout, ReplicaReport
from truecl.model.report import EventRecord, InstanceReport, Progress, WatchdogReport
from truecl.model.standing import Stat, StepStatus, VolumeRow
from truecl.wire import raft


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of all messages."""


# ---- hbd between nodes (sealed datagrams) ---------------------------------------------------------------------------


class Heartbeat(Message, frozen=True):
    """On one link, to one peer. `hears_you`: this node heard that peer on this link within the detection time."""

    link: LinkName
    boot: BootId
    sequence: int
    hears_you: bool


class Goodbye(Message, frozen=True):
    """The sender's hbd stops in good order."""

    link: LinkName
    boot: BootId
    sequence: int


# ---- lockd between nodes --------------------------------------------------------------------------------------------


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


# ---- lockd on its node ----------------------------------------------------------------------------------------------


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


# ---- hbd on its node ------------------------------------------------------------------------------------------------


class Subscribe(Message, frozen=True):
    """Tell me the present state, and every change after it."""


class LinkView(msgspec.Struct, frozen=True, array_like=True):
    name: LinkName
    up: bool


class NodeView(msgspec.Struct, frozen=True, array_like=True):
    """One peer as this node's hbd sees it. `alive` False from the start until it is first heard."""

    node: NodeName
    boot: BootId | None
    alive: bool
    links: tuple[LinkView, ...]
    left: bool = False
    """It said goodbye."""
    heard: float = 0.0
    """Of one that fell silent: when the last of it came in, by this node's clock; 0 otherwise."""
    twin: bool = False
    """A second machine says that it is this node. It is not listened to."""


class View(Message, frozen=True):
    """hbd to subscribers: all peers, this node not among them."""

    nodes: tuple[NodeView, ...]


# ---- reqd and netd --------------------------------------------------------------------------------------------------


class ProbeAddress(Message, frozen=True):
    """Ask the network whether somebody already answers for this address; answered by AddressState."""

    app: AppName
    generation: Generation
    address: Address


class HoldAddress(Message, frozen=True):
    """Have this address, with kernel lifetimes, until the lease ends. Repeated orders are harmless.

    `check`: probe for a conflict first, unless ProbeAddress of this generation already found none; a duplicate refuses
    the order, or only warns where `takeover`.
    """

    app: AppName
    generation: Generation
    address: Address
    until: float
    check: bool = True
    takeover: bool = False
    number: int = 0
    """Of this order, at reqd; what netd says of the address repeats that of the latest."""


class ReleaseAddress(Message, frozen=True):
    """Take it down now; answered by AddressState with held False, and this number."""

    app: AppName
    generation: Generation
    address: str
    number: int = 0


class LeaseExtended(Message, frozen=True):
    """All addresses of the named generations may stay until then."""

    until: float
    generations: tuple[Generation, ...]


class AddressState(Message, frozen=True):
    app: AppName
    generation: Generation
    address: str
    held: bool
    conflict: str = ""
    """Hardware address of another owner that answered, '' for none."""
    reason: str = ""
    """Why it is not held although asked."""
    interface: str = ""
    probed: bool = False
    """This answers ProbeAddress, not HoldAddress or ReleaseAddress."""
    number: int = 0
    """The latest order on this address that netd knew of when it said so: what it says to an order to hold the address,
    or before a release reached it, does not tell that the address is gone."""


# ---- orders: clusterd to clusterd, clusterd to its reqd -------------------------------------------------------------


class Order(Message, frozen=True):
    """Start or stop one generation. Carries the master's term; a node refuses a lower one than it has seen."""

    verb: str
    """'start' or 'stop'."""
    app: AppName
    generation: Generation
    term: Term
    takeover: bool = False
    """The generation before was ended by a fence or 'expired', without its owner's word (see HoldAddress)."""
    proofs: tuple[Proof, ...] = ALWAYS
    """What may end the grant. A node whose own configuration accepts less, or whose watchdog is not so, does not
    start it."""
    watchdog: float = 0.0
    """Seconds, as in the grant."""
    addressed: bool = False
    """As in the grant; a node whose own configuration says otherwise does not start it."""
    alone: bool = False
    """As in the grant."""
    build: tuple[Format, ...] = ()
    """As in the grant: nothing but this is done."""
    built: dict[str, str] = {}
    """Volumes to the UUIDs of the file systems on them, as lha_buildapp recorded: no other is mounted."""


class OrderReplica(Message, frozen=True):
    """What a node's copy of an application's replicated resource is to be, beneath any instance. State-based: repeated
    until the node reports it. A node that has an older instance of the application open takes none."""

    verb: str
    """'up': there, and secondary; it need not look for its peer. 'connect': and it looks for its peer. 'down'."""
    app: AppName
    generation: Generation
    """The newest grant of the application: with this order nothing older can start on the node any more."""
    term: Term
    layout: Layout


class AskPeerOutdated(Message, frozen=True):
    """DRBD's fence-peer handler to its clusterd, and on to the master: may this node's copy go on without the peer's?
    Passed on again until PeerOutdated is there or who asked is gone; `id` is unique at its origin."""

    id: str
    app: AppName
    generation: Generation
    """Of the instance that is primary here, or is being promoted."""
    at: float = 0.0
    """By the wall clock, seconds since the epoch: for people."""


class PeerOutdated(Message, frozen=True):
    """What the handler is to exit with (SAFETY.md section 5): 4, the log calls the peer's copy outdated; 7, and the
    peer's node was fenced; 6, this node's own copy is not current; 1, neither."""

    id: str
    code: int
    reason: str
    generation: Generation
    """As asked: the token."""


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


class AskWork(Message, frozen=True):
    """Master's clusterd to a node's, on to its reqd: a part of lha_buildapp. Comes again until it is answered, under
    the same id, and is done once. A lower term than was heard of before is refused."""

    id: str
    term: Term
    app: AppName
    work: Work
    timeout: float = 30.0


class WorkAnswer(Message, frozen=True):
    """The way back."""

    id: str
    node: NodeName
    seen: Seen


class InstanceProgress(Message, frozen=True):
    """reqd to clusterd, on to the master: a step of an instance as it happened."""

    node: NodeName
    app: AppName
    generation: Generation
    progress: Progress


# ---- operations: commands to clusterd, clusterd to the master's clusterd --------------------------------------------


class Request(Message, frozen=True):
    """An operator's wish: verb 'start', 'stop' or 'move' for an application; with app '', 'off', 'on', 'reboot' or
    'confirm' (the operator vouches that it is off), 'standby', 'resume', 'add' or 'remove' for a node, or 'configure'
    for a version of the configuration that all nodes have by now; 'clear' for what failed, with the name of an
    application or a node in `app`. `id` is unique at its origin."""

    id: str
    verb: str
    app: AppName
    node: NodeName | None = None
    operator: str = ""
    seen: Index = Index(0)
    """For 'confirm': the log index that the operator looked at. What was granted later is not vouched for."""
    keep: bool = False
    """For 'standby': what runs there stays."""
    digest: str = ""
    """For 'configure': of that version."""
    build: "BuildWish | None" = None
    """For 'build'."""
    validated: bool = False
    """For 'start' and 'move': only what lha_buildapp found ready, and what is as it was then."""
    at: float = 0.0
    """Wall clock of the command, seconds since the epoch: for people alone."""


class BuildWish(msgspec.Struct, frozen=True):
    """Options of lha_buildapp; without any, it looks and records. `node` of the request is the one that it names."""

    create: bool = False
    """Make what is missing."""
    force: bool = False
    """Even in the place of what is there."""
    agreed: str = ""
    """The token of the question that the operator agreed to."""
    accept: bool = False
    """The copy of `node` is the one to go on with."""
    resolve: bool = False
    """After a split brain, the copy of `node` is kept, and the other thrown away."""
    replace: bool = False
    """The disk of `node` was lost, and there is a new one in its place."""
    verify: bool = False
    """Compare the copies."""
    grow: str = ""
    """This volume, to `size` bytes."""
    size: int = 0


class Reply(Message, frozen=True):
    """A line about the operation `id`, and its end when `code` is set (exit codes of DESIGN.md section 7)."""

    id: str
    progress: Progress | None = None
    code: int | None = None
    question: Question | None = None
    """With a code: nothing was done, for the operator has to agree first."""


# ---- reqd between nodes, and its commands ---------------------------------------------------------------------------


class Form(Message, frozen=True):
    """lha_form. `sync`: this node's configuration is brought to the others; without it a difference is refused."""

    sync: bool = False


class Dissolve(Message, frozen=True):
    """lha_dissolve. `force`: running applications are stopped first."""

    force: bool = False


class StartDaemons(Message, frozen=True):
    """reqd to reqd: start these and answer DaemonsUp; `formed` is remembered across reboots; `campaign`: stand for
    election."""

    number: int
    daemons: tuple[DaemonName, ...]
    formed: bool = False


class StopDaemons(Message, frozen=True):
    number: int
    daemons: tuple[DaemonName, ...]
    formed: bool = True
    """False: the cluster is dissolved, do not come back by yourself after a reboot."""
    removed: bool = False
    """The node is no part of the cluster any more, until a member starts its daemons again."""


class DaemonsUp(Message, frozen=True):
    """Which daemons answer on this node now; `reason` for those that should and do not."""

    number: int
    up: tuple[DaemonName, ...]
    reason: str = ""
    digest: str = ""
    """Of the configuration files as they are on this node now; '' when they have problems, which `reason` names."""
    formed: bool = False


class AskDaemons(Message, frozen=True):
    number: int


class TakeIn(Message, frozen=True):
    """Master's clusterd to its own reqd: have this node's daemons started, which is being added."""

    node: NodeName


class Dismiss(Message, frozen=True):
    """Master's clusterd to its own reqd: have this node's daemons stopped, which was removed."""

    node: NodeName


class AskPart(Message, frozen=True):
    """A command to its reqd: what part has this node in the cluster?"""


class Part(Message, frozen=True):
    formed: bool
    """Its daemons are to run."""
    removed: bool
    """A member said that it is no part of the cluster any more."""


# ---- reqd and its warm parent ---------------------------------------------------------------------------------------


class Fork(Message, frozen=True):
    """reqd to its parent. The parent reads the configuration anew if its files changed, and hands it to the child."""

    daemon: DaemonName


class Forked(Message, frozen=True):
    """It runs. `outdated`: from an older life of the parent, and of another version of truecl than the present one."""

    daemon: DaemonName
    pid: int
    outdated: bool = False


class Living(Message, frozen=True):
    """The warm parent's first word on every line: who lives. What is not named does not."""

    daemons: tuple[Forked, ...]


UNSEEN = 256
"""A status that no process has: this one was no child of the present parent, how it ended nobody saw."""


class Exited(Message, frozen=True):
    """A child or an adopted orphan ended. `status`: exit code, or minus the signal, or UNSEEN."""

    pid: int
    status: int
    daemon: DaemonName | None = None


class End(Message, frozen=True):
    """reqd to the warm parent: TERM this daemon, KILL it after `grace` seconds; 0: KILL it at once."""

    daemon: DaemonName
    grace: float = 1.0


class Ready(Message, frozen=True):
    """A daemon to reqd (over reqd's local socket): my sockets are bound and my core runs. reqd says it, with pid 0, to
    ask for it again: the host answers, not the core, as long as its loop turns."""

    daemon: DaemonName
    pid: int


# ---- syncd ----------------------------------------------------------------------------------------------------------


class AskDigest(Message, frozen=True):
    number: int


class Digest(Message, frozen=True):
    number: int
    digest: str
    """Of the files as they are on that node's disk now; '' when they cannot be read."""
    problems: tuple[str, ...] = ()
    files: dict[str, str] = {}
    """Name to SHA-256 of the text, hexadecimal."""
    active: str = ""
    """Digest of the version that its daemons were last given."""
    changed: str = ""
    """When the newest of the files was written, for people."""


class Stage(Message, frozen=True):
    """Keep these files beside the active ones; nothing changes yet."""

    number: int
    digest: str
    files: dict[str, str]


class Staged(Message, frozen=True):
    number: int
    digest: str
    reason: str = ""


class Activate(Message, frozen=True):
    number: int
    digest: str


class Activated(Message, frozen=True):
    number: int
    digest: str
    reason: str = ""


class Compare(Message, frozen=True):
    """reqd to syncd, once an `lha_form`: bring `nodes` to one version (`sync`), or say how they differ."""

    number: int
    nodes: tuple[NodeName, ...]
    sync: bool


class Compared(Message, frozen=True):
    number: int
    digest: str
    differing: dict[NodeName, str] = {}
    """Node to what is wrong there; empty: all run the version `digest`."""


class Bring(Message, frozen=True):
    """A command to syncd: bring the version `digest` to these nodes, in the place of `base`; answered by Reply. Nodes
    that do not answer are left behind: they follow when they are back."""

    base: str
    digest: str
    files: dict[str, str]
    nodes: tuple[NodeName, ...]


class Follow(Message, frozen=True):
    """clusterd to syncd: the log says that version `digest` is in force; get it from a node that has it."""

    digest: str


class AskVersion(Message, frozen=True):
    number: int
    digest: str


class Version(Message, frozen=True):
    """What AskVersion asks for; not answered by a node that does not have it."""

    number: int
    digest: str
    files: dict[str, str]


class RotateKeys(Message, frozen=True):
    """lha_node rotate-key to syncd. Answered with Reply."""


class TakeKeys(Message, frozen=True):
    """The key ring that a node is to have from now on. Secret: it shows nothing of it."""

    number: int
    text: str

    def __repr__(self) -> str:
        return f"TakeKeys({self.number}, ...)"


class KeysTaken(Message, frozen=True):
    """`reason`: why not; '': it has them."""

    number: int
    reason: str = ""


class NewConfiguration(Message, frozen=True):
    """syncd to subscribers. To hbd also when there is another key ring."""

    configuration: Configuration


# ---- statd ----------------------------------------------------------------------------------------------------------


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


class Note(Message, frozen=True):
    """Any daemon to statd: an event for the history."""

    event: EventRecord


class AskLog(Message, frozen=True):
    """lha_log. `follow`: go on with new events. `since`: wall clock seconds."""

    since: float = 0.0
    limit: int = 1000
    follow: bool = False
    app: AppName | None = None
    number: int = 0
    local: bool = False
    """Only this node's own events (asked by another statd)."""
    marked: bool = False
    """Only events with a mark, each node's own word of them and none sieved out: for a timeline."""


class ClockReading(msgspec.Struct, frozen=True, array_like=True):
    """`node`'s clock read `said` somewhen between `asked` and `heard` of the clock of `reader`."""

    reader: NodeName
    node: NodeName
    asked: float
    said: float
    heard: float


class LogLines(Message, frozen=True):
    number: int
    events: tuple[EventRecord, ...]
    last: bool = False
    missing: tuple[NodeName, ...] = ()
    """Nodes that did not answer."""
    clock: float = 0.0
    """A node's own clock as it answers another's statd."""
    readings: tuple[ClockReading, ...] = ()
    """To a command that asked for what is marked."""


class Decided(Message, frozen=True):
    """clusterd (master) to statd: it decided upon this, for as long as nothing else is told (`truecl.core.account`)."""

    term: Term
    uptime: float
    input: bytes
    """A PlanInput without its configuration."""
    digest: str
    """Of the configuration."""
    configuration: bytes = b""
    """Itself, where it is another one than before."""
    repeats: int = 0
    """How often the one before was decided upon in all; 0: there was none since statd was there."""


class Kept(msgspec.Struct, frozen=True):
    """What a master decided upon, and how often in a row."""

    at: float
    """Wall clock, seconds since the epoch; 0: not known yet."""
    uptime: float
    term: Term
    digest: str
    input: bytes
    repeats: int = 1


class AskInputs(Message, frozen=True):
    """lha_simulate: the latest `limit` inputs of any master, at or before `until` (wall clock; 0: now)."""

    limit: int = 1
    until: float = 0.0
    number: int = 0
    local: bool = False
    """Only what this node keeps (asked by another statd)."""


class Inputs(Message, frozen=True):
    """Oldest first. `master`: as this node knows it."""

    number: int
    inputs: tuple[Kept, ...] = ()
    configurations: dict[str, bytes] = {}
    """Digest to configuration, of all that the inputs name."""
    missing: tuple[NodeName, ...] = ()
    master: NodeName | None = None
    reason: str = ""
    """Why there are none, where the disk is to blame."""


class Refused(Message, frozen=True):
    """To a command or daemon whose message cannot be taken: bad content, no right, too many."""

    reason: str


MESH: dict[DaemonName, object] = {
    DaemonName("hbd"): Union[Heartbeat, Goodbye],
    DaemonName("lockd"): Union[raft.RaftMessage, raft.Letter, Renew, Renewed],
    DaemonName("reqd"): Union[StartDaemons, StopDaemons, DaemonsUp, AskDaemons, AskFences, FencesSeen],
    DaemonName("clusterd"): Union[
        Order,
        InstanceProgress,
        Request,
        Reply,
        OrderReplica,
        AskPeerOutdated,
        PeerOutdated,
        AskWork,
        WorkAnswer,
    ],
    DaemonName("syncd"): Union[
        AskDigest, Digest, Stage, Staged, Activate, Activated, AskVersion, Version, TakeKeys, KeysTaken
    ],
    DaemonName("statd"): Union[NodeStatus, AskStatus, Status, AskLog, LogLines, Notes, AskInputs, Inputs],
}
"""What may come from the same daemon on another node."""

LOCAL = Union[
    Propose, Proposed, Applied, Leadership, Members, Reshape, Nodes, Revoke, Campaign, StepDown, ConfirmOff, Confirmed,
    Renew, Renewed,
    Subscribe, View, ProbeAddress, HoldAddress, ReleaseAddress, LeaseExtended, AddressState,
    Order, OrderFenceOff, FenceResult, OrderPowerOn, PoweredOn, AskFences, FencesSeen,
    AskWork, WorkAnswer, InstanceProgress, Request, Reply, Form, Dissolve, TakeIn, Dismiss, AskPart, Part, Ready,
    Compare, Compared, Bring, Follow, NewConfiguration, RotateKeys,
    NodeStatus, AskStanding, Standing, AskStatus, Status, Note, Notes,
    AskLog, LogLines, Decided, AskInputs, Inputs, Refused,
    OrderReplica, AskPeerOutdated, PeerOutdated,
]  # fmt: skip
"""What may come over a local socket."""

PARENT = Union[Fork, Forked, Living, Exited, End]
"""Between reqd and the warm parent."""

SINCE: dict[type, int] = {
    TakeKeys: 2,
    KeysTaken: 2,
    RotateKeys: 2,
    OrderReplica: 2,
    AskPeerOutdated: 2,
    PeerOutdated: 2,
    AskWork: 2,
    WorkAnswer: 2,
    Revoke: 2,
}
"""From which format on there is such a message; what is not here was there from the first."""


def since(message: object) -> int:
    """The first format that has it."""
    return SINCE.get(type(message), 1)
