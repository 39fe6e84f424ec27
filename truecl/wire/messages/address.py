"""reqd and netd: floating addresses."""

from truecl.model.config import Address
from truecl.model.ids import AppName, Generation
from truecl.wire.messages.base import Message


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
