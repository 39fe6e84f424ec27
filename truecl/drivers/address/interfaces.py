"""This node's interfaces as `truecl.core.interfaces` speaks of them: read over netlink, kept up to date by its events.

Not netifaces: it knows neither carrier nor flags of an address, and has no events, so all would be read twice.
"""

from collections.abc import Callable

from truecl.core.interfaces import Configured, Interface, Interfaces
from truecl.drivers.address.netlink import AddressRecord, Change, LinkRecord, Monitor, Netlink

MAX_READS = 64
"""Of the events' socket per wake-up."""


def read(netlink: Netlink) -> Interfaces:
    """All interfaces as they are. Raises OSError."""
    return assemble(netlink.links(), netlink.addresses())


def assemble(links: list[LinkRecord], addresses: list[AddressRecord]) -> Interfaces:
    """In the kernel's order; an address of an interface that came between the two dumps is left for the next event."""
    return Interfaces(
        tuple(
            Interface(
                link.name,
                link.up,
                link.carrier,
                tuple(
                    Configured(each.address, each.prefix, not each.ours)
                    for each in addresses
                    if each.index == link.index
                ),
            )
            for link in links
        )
    )


class Watcher:
    """Tells of every change. `changed` gets the whole picture, `lost` the reason when it cannot be read.

    A renewal is an event as well, twice a second for every address: one that says nothing new costs no dump.
    """

    def __init__(
        self,
        netlink: Netlink,
        monitor: Monitor,
        changed: Callable[[Interfaces], None],
        failed: Callable[[str], None],
    ) -> None:
        self._netlink = netlink
        self._monitor = monitor
        self._changed = changed
        self._failed = failed
        self._links: list[LinkRecord] = []
        self._addresses: list[AddressRecord] = []
        self._known: set[tuple[int, str, int, bool]] = set()
        self._told = Interfaces(())

    def fileno(self) -> int:
        return self._monitor.fileno()

    def start(self) -> Interfaces:
        """The first picture. Raises OSError."""
        self._told = self._look()
        return self._told

    def readable(self) -> None:
        """Call when the monitor's descriptor is readable."""
        news = False
        try:
            for _ in range(MAX_READS):
                changes = self._monitor.read()
                if changes is not None and not changes:
                    break
                news = news or changes is None or any(self._is_news(each) for each in changes)
            picture = self._look() if news else self._told
        except OSError as error:
            self._failed(f"the kernel's interfaces cannot be read: {error.strerror}")
            return
        if picture != self._told:
            self._told = picture
            self._changed(picture)

    def macs(self) -> list[bytes]:
        """Hardware addresses of this node, as last seen."""
        return [link.mac for link in self._links]

    def _is_news(self, change: Change) -> bool:
        record = change.record
        if isinstance(record, LinkRecord):
            return change.gone or record not in self._links
        known = (record.index, record.address, record.prefix, record.ours) in self._known
        return change.gone == known

    def _look(self) -> Interfaces:
        self._links, self._addresses = self._netlink.links(), self._netlink.addresses()
        self._known = {(each.index, each.address, each.prefix, not each.ours) for each in self._addresses}
        return assemble(self._links, self._addresses)
