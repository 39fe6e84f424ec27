"""Replicated storage (DRBD): one resource an application, with all its volumes; who has which copy of it.

The log says what each copy is worth (`Mirror.copies`); the kernel's own 'UpToDate' proves nothing, since a node that
was away does not know what it missed (SAFETY.md section 5). The resource's name is the application's.
"""

from enum import StrEnum

import msgspec

from truecl.model.ids import Index, NodeName


class CopyState(StrEnum):
    """What a node's copy of all volumes is worth."""

    CURRENT = "current"
    """It has every write that was acknowledged: it may be promoted."""
    OUTDATED = "outdated"
    """Consistent, and older than another: the state of a moment that is past."""
    SYNCING = "syncing"
    """Being brought up to date: inconsistent meanwhile."""
    INCONSISTENT = "inconsistent"
    """Parts of it are newer than others, or it never held anything."""


class Copy(msgspec.Struct, frozen=True):
    """One node's copy, as the log knows it."""

    state: CopyState
    index: Index
    """Log index of the mark that said so. A later mark names it (compare and set)."""
    at: float = 0.0
    """Since when it is in this state, by the wall clock of who proposed that, seconds since the epoch (0: not known):
    for people alone."""


class MirrorVolume(msgspec.Struct, frozen=True):
    """Assigned once, when the application is built: a number within the resource, and the device's minor."""

    name: str
    number: int
    minor: int


class Mirror(msgspec.Struct, frozen=True):
    """The resource of one application, in the ledger."""

    port: int
    """TCP, the same on both nodes."""
    volumes: tuple[MirrorVolume, ...]
    nodes: tuple[NodeName, ...]
    """Those that hold a copy: the application's nodes."""
    copies: dict[NodeName, Copy] = {}
