"""A node's copy of an application's replicated resource: what its file is made of, and what the kernel says of it."""

from enum import StrEnum

import msgspec

from truecl.model.config import Backing
from truecl.model.ids import AppName, Generation, Index, NodeName


class LayoutHost(msgspec.Struct, frozen=True):
    node: NodeName
    address: str
    """Numeric, of the link that carries the replication."""


class LayoutVolume(msgspec.Struct, frozen=True):
    name: str
    number: int
    minor: int
    backing: Backing
    """What lies beneath, the same on every node."""


class Layout(msgspec.Struct, frozen=True):
    """All that a node's resource file is made of: configuration and ledger put together by the master."""

    resource: AppName
    port: int
    hosts: tuple[LayoutHost, ...]
    volumes: tuple[LayoutVolume, ...]
    rate: int = 0
    """Most bytes a second of a resynchronisation; 0: DRBD's own choice."""


class Role(StrEnum):
    """Of a resource on this node. DOWN: it is not there. UNKNOWN: that could not be told."""

    DOWN = "down"
    SECONDARY = "secondary"
    PRIMARY = "primary"
    UNKNOWN = "unknown"


class Link(StrEnum):
    """The connection to the peer, of all volumes together. DRBD's many words for it become these."""

    STANDALONE = "standalone"
    """Not even tried."""
    CONNECTING = "connecting"
    CONNECTED = "connected"
    SYNC_SOURCE = "sync source"
    SYNC_TARGET = "sync target"
    VERIFYING = "verifying"
    UNKNOWN = "unknown"


class Disk(StrEnum):
    """A volume's disk, or the worst of several. The order is from the best to the worst."""

    UP_TO_DATE = "up to date"
    CONSISTENT = "consistent"
    OUTDATED = "outdated"
    INCONSISTENT = "inconsistent"
    FAILED = "failed"
    DISKLESS = "diskless"
    UNKNOWN = "unknown"


class VolumeReport(msgspec.Struct, frozen=True, array_like=True):
    """One volume, as the kernel says."""

    name: str
    disk: Disk
    peer: Disk = Disk.UNKNOWN
    done: float = 100.0
    """Percent of a synchronisation or verification under way."""
    rate: int = 0
    """Bytes a second of it."""
    left: float = 0.0
    """Seconds until its end, as DRBD reckons."""
    behind: int = 0
    """Bytes that are out of sync."""


class ReplicaReport(msgspec.Struct, frozen=True, array_like=True):
    """The resource on one node. Reported with the lease, so the master's planner sees it; state, never history."""

    app: AppName
    role: Role
    link: Link = Link.UNKNOWN
    suspended: bool = False
    """Its I/O is: nothing is acknowledged."""
    volumes: tuple[VolumeReport, ...] = ()
    split: bool = False
    """DRBD refused to connect: both copies were written without the other."""
    trouble: str = ""
    """What could not be done, for people; '' if all went well."""
    generation: Generation = Generation(0)
    """Of the instance of it that is open on this node; else of the grant whose order on this replica it took last, so
    that nothing older can start here any more. Drivers leave this and `mark` to reqd's core."""
    mark: Index = Index(0)
    """Log index of the newest mark of a copy of it that this node knew of before it looked: only what was seen after a
    mark may clear it."""

    @property
    def disk(self) -> Disk:
        """The worst of its volumes."""
        return _worst(tuple(volume.disk for volume in self.volumes))

    @property
    def peer(self) -> Disk:
        """The worst of the peer's volumes, as this node sees them."""
        return _worst(tuple(volume.peer for volume in self.volumes))


_ORDER = tuple(Disk)


def _worst(disks: tuple[Disk, ...]) -> Disk:
    return max(disks, key=_ORDER.index, default=Disk.UNKNOWN)
