"""The configuration as typed values. `truecl.config` reads them from YAML; defaults live here and nowhere else.

All durations are seconds (float), all sizes bytes (int). Values are plain and frozen, so that they travel in
messages and journals as they are.
"""

from typing import ClassVar, Literal, Union

import msgspec

from truecl.model.ids import AppName, LinkName, NodeName
from truecl.model.ledger import ALWAYS, Proof
from truecl.model.membership import MAX_VOTERS


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all configuration values."""


class Timing(Value, frozen=True):
    """cluster.yaml `timing:`. The law between these is checked by `truecl.config.law`; docs/timing.md explains it."""

    heartbeat: float = 0.1
    detection: float = 0.3
    election: float = 1.0
    """Raft's own fallback timeout; hbd's verdict starts an election at once."""
    lease: float = 0.75
    renewal: float = 0.22
    drift: float = 0.03
    """The most by which two nodes' clocks may run apart over one lease."""
    stop_allowance: float = 5.0
    """From the end of the lease to the last step of a forced stop, on a node that is not paused."""
    address_allowance: float = 0.1
    """The same, to the removal of the floating addresses alone: all that 'expired' waits for where nothing but they
    lead to an application (`truecl.model.step.addressed`)."""


Profile = Literal["normal", "fast"]

PROFILES: dict[Profile, Timing] = {
    "normal": Timing(),
    "fast": Timing(
        heartbeat=0.05,
        detection=0.15,
        election=0.5,
        lease=0.375,
        renewal=0.11,
        drift=0.015,
        stop_allowance=2.5,
        address_allowance=0.05,
    ),
}
"""What stands where `timing:` says nothing else. docs/timing.md says what `fast` costs."""


class LinkConfig(Value, frozen=True):
    """One heartbeat and message path between all nodes: its name and each node's address on it (on NodeConfig)."""

    name: LinkName


class FenceConfig(Value, frozen=True):
    """A fence device of one node: an agent of the fence-agents interface, run on the master."""

    agent: str
    """Absolute path or name of a program in the system's path."""
    parameters: dict[str, str] = {}
    secrets: dict[str, str] = {}
    """Parameter to the absolute path of a file that holds its value; read on the node that asks the device."""
    timeout: float = 20.0
    """For 'off' or 'on' and the questions for the status that verify it, together."""
    verify: bool = True
    """Ask for `status` after `off` and believe nothing but 'off'."""
    retries: int = 0
    """More attempts at the device's level before the next level is tried."""
    delay: float = 0.0
    """Before the level is tried first: a head start for the node, where two may fence each other."""


FenceLevel = tuple[FenceConfig, ...]
"""Devices that must all confirm: the power feeds of a node with two power supplies, say."""


MAX_FENCING = 900.0
"""Seconds that all levels of a node may take together."""


def level_time(level: FenceLevel) -> float:
    """Seconds until a level has failed at the latest: its devices are asked at the same time, all of them again for
    each retry."""
    attempts = 1 + max(device.retries for device in level)
    return max(device.delay for device in level) + attempts * max(device.timeout for device in level)


def worst_time(levels: tuple[FenceLevel, ...]) -> float:
    """Seconds until every level has failed at the latest."""
    return sum(level_time(level) for level in levels if level)


class WatchdogConfig(Value, frozen=True):
    """A node's watchdog device: resets the node when reqd no longer feeds it."""

    use: Literal["off", "automatic", "required"] = "off"
    """`automatic`: without the device applications run all the same; `required`: then none starts on this node."""
    device: str = "/dev/watchdog"
    timeout: float = 10.0
    """Whole seconds, as the device takes them; what counts is what it says when it is asked afterwards."""
    watchdog_survives_pause: bool = False
    """The operator's word that its clock runs on while the node is stopped: for a virtual machine, or softdog."""


WATCHDOG_FEED = 0.5
"""Seconds between two feeds of a watchdog."""


class NodeConfig(Value, frozen=True):
    name: NodeName
    addresses: dict[LinkName, str]
    """Link name to this node's numeric IPv4 or IPv6 address on it."""
    fence: tuple[FenceLevel, ...] = ()
    """Its levels, tried in this order until one switched it off; empty: it cannot be fenced."""
    witness: bool = False
    """Votes, never runs an application."""
    observer: bool = False
    """Never votes: it follows the log, and runs applications."""
    watchdog: WatchdogConfig = WatchdogConfig()
    fence_delay: float | None = None
    """Seconds of silence for which the other of two nodes waits before it has this one fenced, so that of two which
    cannot hear each other this one wins. None: `ClusterConfig.fence_delay` decides."""


class Ports(Value, frozen=True):
    """TCP ports (TLS) of the daemons that speak between nodes; hbd's is UDP."""

    reqd: int = 7420
    lockd: int = 7421
    syncd: int = 7422
    statd: int = 7423
    clusterd: int = 7424
    hbd: int = 7425
    drbd: int = 7789
    """The first of those of replicated applications: each has one of its own, from here on."""


DUEL_MARGIN = 1.0
"""Seconds, at the least, by which the default `fence_delay` exceeds the other device's worst time: two nodes that lose
each other do not notice at the same moment."""


class ClusterConfig(Value, frozen=True):
    """cluster.yaml."""

    name: str
    links: tuple[LinkConfig, ...]
    nodes: tuple[NodeConfig, ...]
    profile: Profile = "normal"
    """Which durations `timing` was read upon; of no further use."""
    timing: Timing = Timing()
    ports: Ports = Ports()
    on_quorum_loss: Literal["stop", "freeze"] = "stop"
    """What a node does with an application that runs when its lease ends."""

    def node(self, name: NodeName) -> NodeConfig:
        """Raises KeyError for a name that is no node of this cluster."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def fence_delay(self, name: NodeName) -> float:
        """Of two nodes: how long the other waits before it has `name` fenced. Unless the operator chose, the first of
        them is waited for, longer than it takes to switch the other off (the law is in docs/timing.md)."""
        node = self.node(name)
        if node.fence_delay is not None:
            return node.fence_delay
        if len(self.voters) != 2 or name != self.voters[0]:
            return 0.0
        other = self.node(self.voters[1])
        if not other.fence or other.fence_delay:
            return 0.0
        return worst_time(other.fence) + max(DUEL_MARGIN, 2 * self.timing.detection)

    @property
    def voters(self) -> tuple[NodeName, ...]:
        """The first seven nodes that may vote, witnesses before others, in the file's order."""
        return self.voters_without(None)

    def voters_without(self, gone: NodeName | None) -> tuple[NodeName, ...]:
        """The voters, if the node `gone` were not there."""
        able = [node for node in self.nodes if not node.observer and node.name != gone]
        chosen = {node.name for node in sorted(able, key=lambda node: not node.witness)[:MAX_VOTERS]}
        return tuple(node.name for node in self.nodes if node.name in chosen)


# ---- steps of an application: each is brought up in order and taken down in reverse ---------------------------------


# `proofs` of a step's type: which of them show that a step of this kind can do no more harm on its old node
# (docs/safety.md). What an application accepts is what all its steps accept (`truecl.model.step.accepted`).


class FileStorage(Value, frozen=True, tag="file", tag_field="kind"):
    """A raw image attached to a loop device. `device` of the attached image is found by probing, never stored."""

    proofs: ClassVar[tuple[Proof, ...]] = (*ALWAYS, Proof.EXPIRED_WATCHDOG)
    image: str
    """Absolute path of the image."""


class DiskStorage(Value, frozen=True, tag="disk", tag_field="kind"):
    """A block device that all of its nodes see (a shared LUN), or that lies under a replica on each."""

    proofs: ClassVar[tuple[Proof, ...]] = (*ALWAYS, Proof.EXPIRED_WATCHDOG)
    device: str
    """Absolute path, one that names the same disk after every boot (/dev/disk/by-id/...)."""


class LvmStorage(Value, frozen=True, tag="lvm", tag_field="kind"):
    """A logical volume. Nothing activates it but truecl."""

    proofs: ClassVar[tuple[Proof, ...]] = (*ALWAYS, Proof.EXPIRED_WATCHDOG)
    group: str
    volume: str
    size: int = 0
    """Bytes with which it is made, and which it must have at the least; 0: it must be there."""
    physical: tuple[str, ...] = ()
    """Absolute paths of the devices that its volume group may be made of; empty: the group must be there."""


Backing = Union[FileStorage, DiskStorage, LvmStorage]

COPIES = 2
"""Of a replicated volume, each on a node of its own."""


class DrbdStorage(Value, frozen=True, tag="drbd", tag_field="kind"):
    """A volume of the application's replicated resource (`truecl.model.mirror`): each of its nodes has a copy.

    'Expired' is enough: a takeover cuts the connection first, and what the old owner writes afterwards it cannot
    acknowledge (SAFETY.md section 5).
    """

    proofs: ClassVar[tuple[Proof, ...]] = tuple(Proof)
    on: Backing


class NoStorage(Value, frozen=True, tag="none", tag_field="kind"):
    """An application without storage of its own."""

    proofs: ClassVar[tuple[Proof, ...]] = tuple(Proof)


Storage = Union[FileStorage, DiskStorage, LvmStorage, DrbdStorage, NoStorage]


class FileSystem(Value, frozen=True, tag="filesystem", tag_field="kind"):
    proofs: ClassVar[tuple[Proof, ...]] = (*ALWAYS, Proof.EXPIRED_WATCHDOG)
    type: Literal["ext3", "ext4", "xfs"]
    mount: str
    """Absolute mount point; created if missing."""
    volume: str = ""
    """Name of the volume it lives on (a key of AppConfig.volumes); '' when there is just one."""
    options: tuple[str, ...] = ()
    fsck: Literal["never", "preen", "always"] = "preen"
    """Before a mount: never; `preen` what can be repaired safely, refuse otherwise; `always` a full check."""


class Address(Value, frozen=True, tag="address", tag_field="kind"):
    """A floating address."""

    proofs: ClassVar[tuple[Proof, ...]] = tuple(Proof)
    address: str
    """Numeric IPv4 or IPv6 address."""
    prefix: int | None = None
    """None: a host address (/32, /128), or that of the interface's own network where it has none there."""
    interface: str = ""
    """'' : the interface that has an address in the same network."""
    conflict: Literal["refuse", "warn"] = "refuse"
    """What a duplicate found before a start (ARP/ND probe) leads to."""


class Monitor(Value, frozen=True):
    """A command asked again and again: exit 0 is well, anything else (or its timeout) is a failure."""

    command: tuple[str, ...]
    interval: float = 5.0
    timeout: float = 5.0
    failures: int = 2
    """So many in a row count as the program's death."""


class Program(Value, frozen=True, tag="program", tag_field="kind"):
    """Either `run`, a foreground process that reqd supervises, or `start` and `stop` commands."""

    proofs: ClassVar[tuple[Proof, ...]] = tuple(Proof)
    name: str
    run: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    monitor: Monitor | None = None
    user: str = "root"
    directory: str = "/"
    environment: dict[str, str] = {}
    start_timeout: float = 60.0
    """For `start` to return; a `run` process counts as started once it lived `settle`."""
    settle: float = 0.05
    stop_timeout: float = 10.0
    """TERM (or the `stop` command), and KILL after this."""
    restarts: int = 3
    """Deaths on one node within `restart_window` before the application moves on."""
    restart_window: float = 60.0


class Volume(Value, frozen=True):
    name: str
    storage: Storage


class Replication(Value, frozen=True, omit_defaults=True):
    """How the volumes of type drbd are kept equal."""

    # Without its defaults in what a node records, a release that lacks the newer keys reads that where none is used.

    link: LinkName = LinkName("")
    """Which link carries it; '': the first."""
    rate: int = 0
    """Most bytes a second of a resynchronisation; 0: DRBD's own choice."""
    disk_failure: Literal["stay", "move"] = "stay"
    """What an owner does whose own disk failed: it can go on with the other node's."""
    verify: float = 0.0
    """Seconds after which the copies are compared again, block by block; 0: only when an operator asks."""
    verify_between: tuple[int, int] | None = None
    """Minutes of the day, by the master's local time, between which that may begin. From the later to the earlier one:
    over midnight."""


class AppConfig(Value, frozen=True):
    """conf/apps/NAME.yaml."""

    name: AppName
    nodes: tuple[NodeName, ...]
    """Where it may run, the preferred first."""
    volumes: tuple[Volume, ...] = ()
    filesystems: tuple[FileSystem, ...] = ()
    addresses: tuple[Address, ...] = ()
    programs: tuple[Program, ...] = ()
    replication: Replication = Replication()
    autostart: bool = False
    start_timeout: float = 60.0
    stop_timeout: float = 60.0


class Configuration(Value, frozen=True):
    """Everything that syncd keeps equal on all nodes."""

    cluster: ClusterConfig
    apps: tuple[AppConfig, ...] = ()
    digest: str = ""
    """SHA-256 over the files' names and texts, hexadecimal."""

    def app(self, name: AppName) -> AppConfig | None:
        for app in self.apps:
            if app.name == name:
                return app
        return None
