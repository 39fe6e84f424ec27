"""One floating address on its way up, held, and down: its phases, and what netd asks of the kernel and the network."""

from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

import msgspec

from truecl.core.announce import Announcements
from truecl.model.ids import AppName, Generation
from truecl.wire.messages import HoldAddress, ReleaseAddress

LAPSED = "the lease is over"
"""netd's and the drivers' reason, where reqd may know of a longer lease by now."""

# ---- what is asked of the drivers -----------------------------------------------------------------------------------


class NetAction(msgspec.Struct, frozen=True):
    """Base. All are idempotent."""


class Configure(NetAction, frozen=True):
    """Have the address, or renew its kernel lifetime. Result: Outcome.

    The driver reads the clock right before (nothing is configured once `until` has passed; the lifetime is the rest
    rounded up, plus `margin`) and right after: an RTM_NEWADDR creates an address that is gone, so when the time has
    run out meanwhile it is deleted again and the outcome says so.
    """

    address: str
    prefix: int
    interface: str
    until: float
    margin: int


class Remove(NetAction, frozen=True):
    """Delete it wherever this node has it with a lifetime, and look. Result: Outcome; '' only if it is nowhere.

    `interface`: only there; '' for everywhere.
    """

    address: str
    interface: str = ""


class AskConflict(NetAction, frozen=True):
    """Ask the network, twice within 100 ms, whether somebody else has the address. Result: Conflict."""

    address: str
    interface: str


class Announce(NetAction, frozen=True):
    """One gratuitous ARP request, or one unsolicited neighbour advertisement. Result: Outcome."""

    address: str
    interface: str


class Warn(NetAction, frozen=True):
    """A line for the daemon's log. Result: Outcome."""

    text: str


class Outcome(msgspec.Struct, frozen=True):
    """`reason` is '' exactly when it was done."""

    reason: str = ""


class Conflict(msgspec.Struct, frozen=True):
    """`mac`: hardware address that answered, '' for none. `reason`: why it could not be asked."""

    mac: str = ""
    reason: str = ""


# ---- phases ---------------------------------------------------------------------------------------------------------


class Phase(StrEnum):
    PROBING = "probing"
    """The network is being asked for another owner."""
    TAKING = "taking"
    HELD = "held"
    RENEWING = "renewing"
    RESTORING = "restoring"
    """It vanished, or moves to another interface, and is being configured again."""
    LOST = "lost"
    """Could not be configured again; tried anew until the lease ends."""
    WITHDRAWN = "withdrawn"
    """No longer wanted, while an order to configure it is under way."""
    DROPPING = "dropping"
    STUCK = "stuck"
    """Could not be removed; tried again, and its kernel lifetime is not renewed."""
    GONE = "gone"


class Sign(StrEnum):
    CLEAR = "clear"
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"
    DUE = "due"
    """Its time has come: to be renewed, or tried again."""
    VANISHED = "vanished"
    """It is not where it was, or should be elsewhere."""
    UNWANTED = "unwanted"
    """Released, or the lease is over."""


TRANSITIONS: dict[tuple[Phase, Sign], Phase] = {
    (Phase.PROBING, Sign.CLEAR): Phase.TAKING,
    (Phase.PROBING, Sign.REFUSED): Phase.GONE,
    (Phase.PROBING, Sign.UNWANTED): Phase.GONE,
    (Phase.TAKING, Sign.DONE): Phase.HELD,
    # An order that failed may have had its effect: only a removal that was looked at proves otherwise.
    (Phase.TAKING, Sign.FAILED): Phase.DROPPING,
    (Phase.TAKING, Sign.UNWANTED): Phase.WITHDRAWN,
    (Phase.HELD, Sign.DUE): Phase.RENEWING,
    (Phase.HELD, Sign.VANISHED): Phase.RESTORING,
    (Phase.HELD, Sign.FAILED): Phase.LOST,
    (Phase.HELD, Sign.UNWANTED): Phase.DROPPING,
    (Phase.RENEWING, Sign.DONE): Phase.HELD,
    (Phase.RENEWING, Sign.FAILED): Phase.LOST,
    (Phase.RENEWING, Sign.UNWANTED): Phase.WITHDRAWN,
    (Phase.RESTORING, Sign.DONE): Phase.HELD,
    (Phase.RESTORING, Sign.FAILED): Phase.LOST,
    (Phase.RESTORING, Sign.UNWANTED): Phase.WITHDRAWN,
    (Phase.LOST, Sign.DUE): Phase.RESTORING,
    (Phase.LOST, Sign.UNWANTED): Phase.DROPPING,
    (Phase.WITHDRAWN, Sign.DONE): Phase.DROPPING,
    (Phase.WITHDRAWN, Sign.FAILED): Phase.DROPPING,
    (Phase.DROPPING, Sign.DONE): Phase.GONE,
    (Phase.DROPPING, Sign.FAILED): Phase.STUCK,
    (Phase.STUCK, Sign.DUE): Phase.DROPPING,
}
"""A pair that is not here changes nothing."""

WANTED = (Phase.PROBING, Phase.TAKING, Phase.HELD, Phase.RENEWING, Phase.RESTORING, Phase.LOST)
"""Phases that the end of the lease ends."""


def step(phase: Phase, sign: Sign) -> Phase:
    return TRANSITIONS.get((phase, sign), phase)


@dataclass(slots=True)
class Hold:
    """What netd knows of one address. Times are CLOCK_BOOTTIME, seconds."""

    address: str
    """Canonical."""
    spelled: str
    """As the order spelled it; answers say the same."""
    app: AppName
    generation: Generation
    until: float
    phase: Phase
    interface: str
    prefix: int
    order: HoldAddress | None
    """None: it was only to be removed."""
    number: int
    """Of the latest order that counts for it."""
    action: int = 0
    """The id of the action under way."""
    renewed: float = float("-inf")
    """When it was last ordered to be configured."""
    extended: bool = False
    """The lease is longer than the kernel knows."""
    vanished: bool = False
    """It vanished while being renewed: once more."""
    retry: float = 0.0
    """In LOST and STUCK: when to try again."""
    reason: str = ""
    """Why it is going down, or could not come up."""
    conflict: str = ""
    leaving: str = ""
    """The interface that it moves away from."""
    announced: bool = False
    """Held and said so to reqd."""
    successor: HoldAddress | None = None
    """An order that came while it was going down."""
    owed: list[ReleaseAddress] = field(default_factory=list)
    """Releases of later generations that came while it was going down; answered when it is gone."""
    announcements: Announcements = field(default_factory=Announcements)


def lifetime(until: float, now: float, margin: int) -> int:
    """Whole seconds of kernel lifetime for a lease that ends at `until`; 0 when it is over."""
    rest = until - now
    return ceil(rest) + margin if rest > 0 else 0
