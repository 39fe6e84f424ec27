"""What lha_buildapp asks of a node, and what the node answers: values alone.

A node looks at and makes what its own configuration says of the application; what is asked names only which part. Names
of things are an operator's: 'volume data', 'metadata data', 'script /usr/local/sbin/x', 'tool mkfs.ext4'.
"""

from enum import StrEnum
from typing import Union

import msgspec

from truecl.model.ids import AppName
from truecl.model.replica import Layout

MAX_SCRIPT = 16 << 20
"""Bytes of a script whose checksum is kept."""


class Look(msgspec.Struct, frozen=True, tag="look"):
    """What does this node have of the application? Nothing is written; what lies under its replica may be activated for
    the look."""

    layout: Layout | None = None
    """Of its replica, once that is assigned: without one, nothing is said of DRBD's metadata."""
    quick: bool = False
    """Scripts alone: all that lha_startapp wants to know."""


class Make(msgspec.Struct, frozen=True, tag="make"):
    """Make what is missing of these volumes. What is there is left as it is, unless `agreed` names it."""

    volumes: tuple[str, ...]
    agreed: dict[str, str] = {}
    """'volume data' to what was found where it is to be made, which the operator agreed to lose."""
    sizes: dict[str, int] = {}
    """Bytes that volumes must have at the least, where others have more than the configuration says: they grew."""


class Initialise(msgspec.Struct, frozen=True, tag="initialise"):
    """Write DRBD's metadata for these volumes of the replica: where nothing is, or what `agreed` names."""

    layout: Layout
    volumes: tuple[str, ...]
    identifier: str = ""
    """Of the data's generation, 16 hexadecimal digits: this copy is up to date, and equal to every other with the same
    identifier. '': it holds nothing yet, and will be synchronised from another."""
    agreed: dict[str, str] = {}
    """The same, 'metadata data'."""
    equal: bool = False
    """All copies begin so: nothing that stands on this node's volumes may stay, for it would never be sent."""


class GrowStage(StrEnum):
    TRY = "try"
    """Would there be room? Nothing is changed: a volume that grew on one node alone is of no use."""
    GROW = "grow"
    NOTE = "note"
    """After its replica has grown too: have DRBD's tools note where its metadata are now. What they noted before would
    have them attach older ones, if what lies beneath ever grows once more without them."""


class Grow(msgspec.Struct, frozen=True, tag="grow"):
    """What the volume lies on, up to `size` bytes; nothing else. What is larger stays."""

    volume: str
    size: int
    stage: GrowStage = GrowStage.GROW


class Spread(msgspec.Struct, frozen=True, tag="spread"):
    """On the owner, after the volume grew on all nodes: its replica, then its file system, which stays mounted."""

    volume: str
    layout: Layout | None = None


class Adopt(msgspec.Struct, frozen=True, tag="adopt"):
    """This node's copy is the one to go on with, the operator says: have DRBD call it up to date."""

    layout: Layout


class Discard(msgspec.Struct, frozen=True, tag="discard"):
    """This node's copy is the one to be thrown away, the operator says: it is synchronised anew from the other."""

    layout: Layout


class Reconcile(msgspec.Struct, frozen=True, tag="reconcile"):
    """The other copy was thrown away, so this node's replica may look for its peer again after a split brain."""

    layout: Layout


class Verify(msgspec.Struct, frozen=True, tag="verify"):
    """On the owner: begin to compare the copies, block by block. Where that ends at once, the answer's facts have
    'verified APP' and what differs (`verified_fact`)."""

    layout: Layout


class Resync(msgspec.Struct, frozen=True, tag="resync"):
    """On the other node: leave the owner in good order, so that it brings what differs when the two meet again. Asked
    only of nodes that know it: from level 4 of the log on."""

    layout: Layout


Work = Union[Look, Make, Initialise, Grow, Spread, Adopt, Discard, Reconcile, Verify, Resync]


class Seen(msgspec.Struct, frozen=True):
    """A node's answer to any of these."""

    problems: tuple[str, ...] = ()
    """What keeps it from running the application, or from doing what it was asked; what helps."""
    warnings: tuple[str, ...] = ()
    facts: dict[str, str] = {}
    """What must be the same on all nodes: 'script /x' to its checksum, 'volume data' to its size in bytes, 'tool
    mkfs.ext4' to its version."""
    missing: dict[str, str] = {}
    """What --create can make: 'volume data' to 'logical volume vg/data of 1.0 GiB', 'metadata data' to 'metadata of
    DRBD'."""
    data: dict[str, str] = {}
    """What was found in a place that is to be written to: 'metadata data' to 'ext4 5c5f…'."""
    identifiers: dict[str, str] = {}
    """Volumes that have DRBD's metadata, to the identifier of their data's generation: 16 hexadecimal digits."""
    done: tuple[str, ...] = ()
    """What was made, for people."""
    apart: str = ""
    """What this copy has that the other does not, where it was written without it: how much."""


_VERIFIED = "verified "


def verified_fact(app: AppName, differing: dict[str, int]) -> dict[str, str]:
    """What a comparison found that has ended: volumes that differ, and how many bytes of each."""
    return {_VERIFIED + app: " ".join(f"{name}={size}" for name, size in differing.items())}


def verified_in(seen: Seen) -> dict[AppName, dict[str, int]]:
    """The other way round: each application whose copies were compared."""
    return {
        AppName(name.removeprefix(_VERIFIED)): _sizes(value)
        for name, value in seen.facts.items()
        if name.startswith(_VERIFIED)
    }


def _sizes(text: str) -> dict[str, int]:
    pairs = [each.rpartition("=") for each in text.split()]
    return {name: int(size) for name, _, size in pairs if size.isdigit()}


class Question(msgspec.Struct, frozen=True):
    """What an operator has to agree to before it is done."""

    lines: tuple[str, ...]
    token: str
    """Names exactly what was shown. Agreed to, it comes back with the same command."""
