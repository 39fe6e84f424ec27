"""What `lha_stat` shows, and what it prints as JSON: fields are only ever added."""

import msgspec

from truecl.model.ids import AppName, DaemonName, NodeName
from truecl.model.replica import VolumeReport


class StepStatus(msgspec.Struct, frozen=True):
    name: str
    kind: str
    state: str
    facts: dict[str, str] = {}
    """For people: 'device', 'size' (bytes), 'used' (percent), 'pid' …"""


class WatchdogRow(msgspec.Struct, frozen=True):
    """`truecl.model.report.WatchdogReport`, with its fields' names."""

    armed: bool
    timeout: float
    survives_pause: bool
    required: bool
    text: str


class NodeRow(msgspec.Struct, frozen=True):
    name: NodeName
    status: str
    """UP, DOWN, FENCING, FENCED or UNKNOWN."""
    apps: int
    """Applications granted to it."""
    master: bool
    reported: bool
    """Its statd's word is fresh and known to who answered."""
    silent: bool
    """hbd hears it, and its statd should have reported long ago."""
    daemons: dict[DaemonName, str]
    """'up', or why not."""
    lease_left: float
    """Seconds, at the time of its report."""
    watchdog: WatchdogRow | None
    """None: none is configured, or the node has not reported."""
    role: str = "voter"
    """voter, observer or witness."""
    standby: str = ""
    """'drain' or 'keep' (what runs there stays), '': it is in use."""
    standby_by: str = ""
    """The operator who set it aside."""
    losses: int = 0
    """How often it was lost since it was last well for an hour."""
    held: float = 0.0
    """Seconds for which it gets nothing new, for it comes and goes."""
    release: str = ""
    """Of truecl, as it runs there; '': not reported."""
    boot: str = ""
    """Its present boot; '': not reported."""
    refused: str = ""
    """Why no session with it can be: the formats that both sides speak."""
    twin: bool = False
    """A second machine says that it is this node, and is not listened to."""


class FailureRow(msgspec.Struct, frozen=True):
    """Where an application failed; it is not tried there again until that is cleared."""

    node: NodeName
    generation: int
    reason: str


class CopyRow(msgspec.Struct, frozen=True):
    """One node's copy of an application's replicated data: what the log says of it, and what its kernel does."""

    node: NodeName
    state: str
    """current, outdated, syncing or inconsistent, by the log."""
    since: float
    """Wall clock, seconds since the epoch; 0: not known."""
    role: str = ""
    """down, secondary, primary or unknown; '': the node has not reported."""
    link: str = ""
    """standalone, connecting, connected, sync source, sync target, verifying or unknown."""
    disk: str = ""
    """up to date, consistent, outdated, inconsistent, failed, diskless or unknown: the worst of its volumes."""
    done: float = 100.0
    """Percent of a synchronisation or comparison under way, of the volume that has the most to go."""
    rate: int = 0
    """Bytes a second of it, of all volumes together."""
    left: float = 0.0
    """Seconds until its end, as DRBD reckons."""
    behind: int = 0
    """Bytes that are out of sync with the peer."""
    suspended: bool = False
    split: bool = False
    """DRBD refuses to connect: both copies were written without the other."""
    trouble: str = ""
    volumes: tuple[VolumeReport, ...] = ()


class VerifiedRow(msgspec.Struct, frozen=True):
    """The last comparison of an application's copies that went to its end."""

    at: float
    """Wall clock, seconds since the epoch; 0: not known."""
    node: NodeName
    """The owner then."""
    differing: dict[str, int] = {}
    """Volumes whose copies were not equal, to the bytes that differed."""


class VolumeRow(msgspec.Struct, frozen=True):
    """A volume as the configuration has it, and the file system on it."""

    name: str
    kind: str
    """DRBD, LVM, disk or file."""
    place: str
    """What it lies on, or is: 'testvg/test1', a device, an image."""
    mount: str = ""
    type: str = ""


class AppRow(msgspec.Struct, frozen=True):
    name: AppName
    status: str
    """UP, STARTING, STOPPING, BUILDING, DOWN, WAITING, FAILED, NEEDS FENCE or UNKNOWN."""
    node: NodeName | None
    failovers: int
    note: str
    wanted: str
    generation: int
    """0: it has no grant."""
    nodes: tuple[NodeName, ...]
    """Where it may run."""
    configured: bool
    steps: tuple[StepStatus, ...]
    """Only of the one application or node that was asked for, and of what has a grant."""
    failures: tuple[FailureRow, ...] = ()
    copies: tuple[CopyRow, ...] = ()
    """Where its data is replicated."""
    volumes: tuple[VolumeRow, ...] = ()
    storage: str = ""
    """Kinds of volumes, and how many of each: 'DRBD1', 'LVM2,file1'; '' for none."""
    validated: bool = False
    """It is as lha_buildapp found it."""
    invalid: str = ""
    """Why not, and what helps."""
    valid_nodes: tuple[NodeName, ...] = ()
    """Which were found ready then."""
    verified: VerifiedRow | None = None
    """None: its copies were never compared, or it has none."""


class Stat(msgspec.Struct, frozen=True):
    cluster: str
    state: str
    """UP, NO MASTER or NO QUORUM."""
    master: NodeName | None
    term: int
    answered_by: NodeName
    complete: bool
    """The master's own word. False: only what the answering node knows by itself."""
    nodes: tuple[NodeRow, ...]
    apps: tuple[AppRow, ...]
    nodes_up: int
    nodes_total: int
    trouble: str = ""
    """Of two nodes: why the one that answers waits for the other, or goes on alone."""
    level: int = 1
    """Of the log: which commands it may hold."""
