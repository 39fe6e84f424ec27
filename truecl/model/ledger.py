"""What the replicated log says: values of the ledger and the commands that change it.

The commands are the log's payloads; `truecl.core.ledger.apply` is their one meaning. Every command states what it takes
for granted (the generation it ends, the grant it follows), so that one which was overtaken changes nothing.
"""

from enum import StrEnum
from typing import Union

import msgspec

from truecl.model.ids import NO_GENERATION, AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.mirror import CopyState, Mirror


class Proof(StrEnum):
    """Why a generation can do no more harm (SAFETY.md section 3)."""

    RELEASED = "released"
    FENCED = "fenced"
    EXPIRED_WATCHDOG = "expired+watchdog"
    EXPIRED = "expired"
    VOUCHED = "vouched"


ALWAYS = (Proof.RELEASED, Proof.FENCED, Proof.VOUCHED)
"""Proofs that rest on no clock: good for everything."""


class Wanted(StrEnum):
    """What the operator asked for."""

    STOPPED = "stopped"
    RUNNING = "running"


class Grant(msgspec.Struct, frozen=True):
    """The right to run one application on one node, from this log index on until it is ended by a proof."""

    node: NodeName
    generation: Generation
    proofs: tuple[Proof, ...] = ALWAYS
    """What may end it: decided when it was given, by what was to be started. The node starts nothing that needs
    more."""
    watchdog: float = 0.0
    """With EXPIRED_WATCHDOG: the node starts it only under a watchdog of at most this timeout, seconds."""
    addressed: bool = False
    """With EXPIRED: nothing but floating addresses leads to it, so that it waits for `address_allowance` alone."""
    alone: bool = False
    """With this very entry all other copies of its data became outdated: it is promoted without them."""
    build: "tuple[Format, ...]" = ()
    """Not empty: lha_buildapp's own generation. Its storage is brought up, these file systems are found or made, and it
    is stopped again; nothing else of the application starts."""


class Ended(msgspec.Struct, frozen=True):
    """How the last generation of an application ended."""

    node: NodeName
    generation: Generation
    proof: Proof
    reason: str = ""


class Failure(msgspec.Struct, frozen=True):
    """A generation that could not be started, or died too often, on this node; the node is avoided until cleared."""

    node: NodeName
    generation: Generation
    reason: str


class AppState(msgspec.Struct, frozen=True):
    """One application in the ledger."""

    wanted: Wanted = Wanted.STOPPED
    preferred: NodeName | None = None
    """Where the operator asked for it; None: the configuration's order."""
    move: bool = False
    """The operator asked to move it to `preferred`; the next grant fulfils that."""
    grant: Grant | None = None
    ended: Ended | None = None
    failures: tuple[Failure, ...] = ()
    failovers: int = 0
    """Grants that followed a node's loss or an instance's failure since the operator's last start."""


class Fence(msgspec.Struct, frozen=True):
    """A fence order of one node. It ends only the generations it names."""

    node: NodeName
    index: Index
    """Log index of the order: its own fencing token."""
    generations: tuple[Generation, ...]
    confirmed: bool = False
    vouched: str = ""
    """The operator who said that the node is off, in place of a device; '': a device confirmed."""


class Watchdog(msgspec.Struct, frozen=True):
    """A node's armed watchdog, as its reqd reported it in that boot."""

    boot: BootId
    timeout: float
    """Seconds, read back from the device."""
    survives_pause: bool
    """Its clock runs while the node is stopped, so that it counts in a proof."""


class Standby(msgspec.Struct, frozen=True):
    """An operator set the node aside: it keeps its vote, and nothing new is placed there."""

    operator: str
    keep: bool = False
    """What runs there stays; otherwise it moves away where another node will do."""


class Presence(StrEnum):
    """Of a node that was lost before."""

    AWAY = "away"
    HELD = "held"
    """Back, and given nothing new for a while."""
    BACK = "back"


class Losses(msgspec.Struct, frozen=True):
    """How often a node was lost since it was last well for long."""

    count: int
    presence: Presence


class Lock(msgspec.Struct, frozen=True):
    """An operator's lock, held while one operation on `name` goes on."""

    holder: str
    token: Index
    """Log index that granted it; only rises for one name."""
    term: Term
    """The term of the master that serves it: a new master's first entry frees the locks of older terms."""


class LeaseTiming(msgspec.Struct, frozen=True):
    """What a lease and the proofs that follow its end are reckoned with, seconds. See `config.Timing`."""

    lease: float
    drift: float
    stop_allowance: float
    address_allowance: float = 0.0


class Format(msgspec.Struct, frozen=True, array_like=True):
    """A file system that a build's generation is to find, or to make. What is there afterwards: its UUID, 'none', or
    'other ' and what else."""

    volume: str
    type: str
    uuid: str
    """Which it gets if it is made."""
    make: bool = False
    """Make it, if there is nothing."""
    agreed: str = ""
    """What else was found there, which the operator agreed to lose: made in its place."""


class Build(msgspec.Struct, frozen=True):
    """lha_buildapp found an application's nodes equal and ready, or made them so."""

    digest: str
    """Of the application's configuration as it was then."""
    nodes: tuple[NodeName, ...]
    """Those that were found so."""
    facts: dict[str, str] = {}
    """What was compared and must stay: 'script /usr/local/sbin/x' to its checksum, 'file system data' to its UUID, and
    of which parts of its configuration `digest` is made: 'programs' to their own digest…"""
    at: float = 0.0
    """Seconds since the epoch, for people."""


class Verified(msgspec.Struct, frozen=True):
    """The last comparison of an application's copies that went to its end."""

    node: NodeName
    """The owner, with whose copy the other was compared."""
    differing: dict[str, int]
    """Volumes whose copies were not equal, to the bytes that differed."""
    index: Index
    """Log index of this record."""
    at: float = 0.0
    """When it ended, by the wall clock of who proposed that, seconds since the epoch (0: not known). The next one is
    due by it; no proof leans on it."""


class Ledger(msgspec.Struct, frozen=True):
    """The whole replicated state. Maps are small: one entry an application or a node."""

    apps: dict[AppName, AppState] = {}
    fences: dict[NodeName, Fence] = {}
    locks: dict[str, Lock] = {}
    boots: dict[NodeName, BootId] = {}
    """Each node's boot as the master last recorded it."""
    watchdogs: dict[NodeName, Watchdog] = {}
    """Armed ones; of a node that is not here nothing is known."""
    digest: str = ""
    """Of the configuration that the cluster runs with."""
    former: tuple[str, ...] = ()
    """Digests of the configurations before that, the latest first: a node that holds one of them is behind."""
    level: int = 1
    """The commands that the log may hold (LEVELS): all members have said that they know them. It only rises."""
    standby: dict[NodeName, Standby] = {}
    losses: dict[NodeName, Losses] = {}
    """Nodes that were lost, until they have been well for long."""
    timings: tuple[LeaseTiming, ...] = ()
    """The first is in force: leases are given with it. Leases of the others may still hold, and every proof is
    reckoned with the longest. Empty before the first `Configure`: no lease is given."""
    configured: Index = Index(0)
    """Log index of the latest `Configure`."""
    mirrors: dict[AppName, Mirror] = {}
    """Replicated resources, and what each copy is worth."""
    builds: dict[AppName, Build] = {}
    verified: dict[AppName, Verified] = {}
    index: Index = Index(0)
    """Last log index applied."""
    term: Term = Term(0)


# ---- commands -------------------------------------------------------------------------------------------------------


class Command(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of what the log carries."""


class SetWanted(Command, frozen=True):
    """The operator's word. Starting clears the application's failures."""

    app: AppName
    wanted: Wanted
    preferred: NodeName | None = None
    move: bool = False


class EndGrant(Command, frozen=True):
    """Applied only while `generation` is the application's live grant, and, for FENCED and VOUCHED, confirmed so."""

    app: AppName
    generation: Generation
    proof: Proof
    reason: str = ""
    failed: bool = False
    """The generation failed at its node: remember that and avoid the node."""


class GiveGrant(Command, frozen=True):
    """Applied only when the application has no live grant and its last generation was `after`."""

    app: AppName
    node: NodeName
    after: Generation = NO_GENERATION
    failover: bool = False
    proofs: tuple[Proof, ...] = ALWAYS
    """EXPIRED_WATCHDOG is left out where the log knows no watchdog of the node that counts."""
    addressed: bool = False
    alone: bool = False
    """Where the application has a mirror: a takeover, which marks all other copies outdated. Level 3."""
    build: tuple[Format, ...] = ()
    """As in the grant. Such a one is given only of what is not wanted to run. Level 3."""
    at: float = 0.0
    """With `alone`: since when the other copies are outdated, as in `MarkCopy`."""


class OrderFence(Command, frozen=True):
    """Recorded before the device is asked. Replaces an older order for that node."""

    node: NodeName
    generations: tuple[Generation, ...]


class ConfirmFence(Command, frozen=True):
    """The device said 'off', verified, or the operator `vouched` said so. Ends nothing but what the order `index`
    named."""

    node: NodeName
    index: Index
    vouched: str = ""


class Excluded(Command, frozen=True):
    """Follows the exclusion of `node`: the fence that allowed it, order and confirmation in one.

    Without a quorum no order could be committed before the device was asked; `generations` is what was known to be
    granted to the node then, and was on this node's disk before the device was asked (docs/decisions/0005).
    """

    node: NodeName
    generations: tuple[Generation, ...]
    vouched: str = ""


class CancelFence(Command, frozen=True):
    """The node came back by itself, or the device failed for good; the order `index` proves nothing any more."""

    node: NodeName
    index: Index


class TakeLock(Command, frozen=True):
    name: str
    holder: str


class FreeLock(Command, frozen=True):
    name: str
    token: Index


class RecordBoot(Command, frozen=True):
    node: NodeName
    boot: BootId


class RecordWatchdog(Command, frozen=True):
    """What the node's reqd says of its watchdog; None: it has none that is armed."""

    node: NodeName
    watchdog: Watchdog | None


class Configure(Command, frozen=True):
    """A new configuration is in force (the text itself is kept by syncd on every node), and the timing of leases with
    it. Changes nothing while `MAX_TIMINGS` others may still be counted with."""

    digest: str
    timing: LeaseTiming


class SettleTiming(Command, frozen=True):
    """No lease that was given with an older timing than that of the `Configure` at `index` can hold any more, and what
    follows the end of one is over."""

    index: Index


class RaiseLevel(Command, frozen=True):
    """Every member of the log has said that it knows the commands of this level. One that knew fewer could not apply
    them, and would have to stop."""

    level: int


class SetStandby(Command, frozen=True):
    """The operator's word; None: the node is used again."""

    node: NodeName
    standby: Standby | None


class RecordLosses(Command, frozen=True):
    """Applied only while the ledger says `before` of the node; None: nothing is remembered of it."""

    node: NodeName
    before: Losses | None
    after: Losses | None


class ClearFailures(Command, frozen=True):
    """The operator's word: this application's failures are repaired, on this node; None: every one."""

    app: AppName | None
    node: NodeName | None


class SetMirror(Command, frozen=True):
    """Its layout, assigned when it is built; copies that the ledger has of its nodes are kept. None: it has none any
    more."""

    app: AppName
    mirror: Mirror | None
    """Its `copies` are those of nodes that had none before."""


class MarkCopy(Command, frozen=True):
    """What the copy of `node` is worth from now on: the word of who holds the grant `generation`.

    Applied only while that is the live grant, and the ledger's mark of this copy is the one at index `before`.
    """

    app: AppName
    node: NodeName
    state: CopyState
    generation: Generation
    before: Index
    at: float = 0.0


class AcceptCopy(Command, frozen=True):
    """The operator's word that this node's copy is the one to go on with; no other is current any more. Applied only
    without a live grant."""

    app: AppName
    node: NodeName
    operator: str
    at: float = 0.0


class RecordBuild(Command, frozen=True):
    """None: what is there was changed, or taken away."""

    app: AppName
    build: Build | None


class RecordVerified(Command, frozen=True):
    """The copies were compared, all of them, by the holder of the grant `generation`. Applied only while that is the
    live grant. `differing` None: what was recorded is of no use any more, for there are no copies."""

    app: AppName
    generation: Generation
    differing: dict[str, int] | None
    at: float = 0.0


AnyCommand = Union[
    SetWanted, EndGrant, GiveGrant, OrderFence, ConfirmFence, Excluded, CancelFence,
    TakeLock, FreeLock, RecordBoot, RecordWatchdog, Configure, SettleTiming,
    RaiseLevel, SetStandby, RecordLosses, ClearFailures,
    SetMirror, MarkCopy, AcceptCopy, RecordBuild, RecordVerified,
]  # fmt: skip

LEVELS: dict[type[Command], int] = {
    SetWanted: 1, EndGrant: 1, GiveGrant: 1, OrderFence: 1, ConfirmFence: 1, Excluded: 1, CancelFence: 1,
    TakeLock: 1, FreeLock: 1, RecordBoot: 1, RecordWatchdog: 1, Configure: 1, SettleTiming: 1,
    RaiseLevel: 2, SetStandby: 2, RecordLosses: 2, ClearFailures: 2,
    SetMirror: 3, MarkCopy: 3, AcceptCopy: 3, RecordBuild: 3,
    RecordVerified: 4,
}  # fmt: skip
"""From which level of the log on each command may stand in it (docs/upgrade.md). What a command of an older level means
never changes, nor does what it writes into the ledger: nodes of two releases apply the same log."""
LEVEL = 4
"""The newest that this release knows."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """One log entry: commands applied in order, all at its index."""

    commands: tuple[AnyCommand, ...]
