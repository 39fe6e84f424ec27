"""What a node's kernel has of the applications since its boot: attached storage, mounts, processes, addresses."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from truecl.core.interfaces import Configured, Interface
from truecl.model.ids import AppName, Generation

if TYPE_CHECKING:
    from truecl.sim.process import Process

NETWORK = "10.9.0."
"""The network of the floating addresses; each node has an address of its own in it."""
INTERFACE = "eth0"

Key = tuple[AppName, str]
"""Application and step name."""


@dataclass
class Stuck:
    """A tool that even KILL does not end (a task in uninterruptible sleep), until true time `until`."""

    until: float
    key: Key
    process: "Process"
    """The life of reqd that ran it."""


@dataclass
class Address:
    expires: float
    """True time at which the kernel takes it down by itself."""
    prefix: int


@dataclass
class Kernel:
    """Goes with the power. Storage, file systems and programs are `active` under their generation."""

    number: int
    """The node's, for its own address."""
    active: dict[Key, Generation] = field(default_factory=dict)
    frozen: set[AppName] = field(default_factory=set)
    """Their programs are there and stand still."""
    addresses: dict[str, Address] = field(default_factory=dict)
    stuck: list[Stuck] = field(default_factory=list)
    watched: set[Key] = field(default_factory=set)
    """Programs whose end this life of reqd notices at once."""

    def interfaces(self) -> tuple[Interface, ...]:
        own = Configured(f"{NETWORK}{self.number}", 24, foreign=True)
        floating = [Configured(address, held.prefix, foreign=False) for address, held in sorted(self.addresses.items())]
        return (Interface(INTERFACE, True, True, (own, *floating)),)

    def blocked(self, key: Key, now: float) -> bool:
        """Is a tool for this step stuck, so that nobody can say what will be?"""
        return any(each.key == key and now < each.until for each in self.stuck)
