"""This node's network interfaces as values, and which of them carries a floating address."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

from truecl.model.config import Address

AnyAddress = IPv4Address | IPv6Address


class Configured(msgspec.Struct, frozen=True):
    """An address that an interface has."""

    address: str
    prefix: int
    foreign: bool
    """The node's own, or somebody else's; False: configured by netd, this one or one before it."""


class Interface(msgspec.Struct, frozen=True):
    name: str
    up: bool
    """Administratively."""
    carrier: bool
    addresses: tuple[Configured, ...] = ()


class Interfaces(msgspec.Struct, frozen=True, tag=True):
    """`contract.Noted`: all interfaces as they are now. The first is noted before any order is taken."""

    all: tuple[Interface, ...]


class Place(msgspec.Struct, frozen=True):
    """Where an address goes. `warning` is '' if all is as it should be."""

    interface: str
    prefix: int
    warning: str = ""


def canonical(address: str) -> str:
    """One spelling for each address. Raises ValueError."""
    return str(ip_address(address))


def place(wanted: Address, interfaces: tuple[Interface, ...]) -> Place | str:
    """The interface and prefix for a floating address, or why there is none.

    A host prefix (/32, /128) where the interface has an address of its own in that network: with the network's prefix,
    a floating address that was added first would take the node's own one with it when it goes. Ties between interfaces
    end at: has carrier, the narrower network, the name.
    """
    target = ip_address(wanted.address)
    host = target.max_prefixlen
    if wanted.interface:
        named = next((each for each in interfaces if each.name == wanted.interface), None)
        if named is None:
            return f"this node has no interface {wanted.interface}"
        if not named.up:
            return f"interface {wanted.interface} is down"
        if _own_network(target, named) is not None:
            return Place(named.name, host)
        prefix = host if wanted.prefix is None else wanted.prefix
        text = f"{named.name} has no address of its own in the network of {target}; it gets /{prefix}"
        return Place(named.name, prefix, text)
    fitting = []
    for each in interfaces:
        width = _own_network(target, each) if each.up else None
        if width is not None:
            fitting.append((not each.carrier, -width, each.name))
    if not fitting:
        return f"no interface that is up has an address in the network of {target}; name one with 'interface:'"
    return Place(min(fitting)[2], host)


def _own_network(target: AnyAddress, interface: Interface) -> int | None:
    """The longest prefix of a network that the interface belongs to and that holds the target."""
    widths = []
    for each in interface.addresses:
        own = ip_address(each.address)
        is_host = each.prefix == own.max_prefixlen
        if own.version != target.version or is_host or own == target:
            continue
        if target in ip_network(f"{own}/{each.prefix}", strict=False):
            widths.append(each.prefix)
    return max(widths, default=None)


def where(address: str, interfaces: tuple[Interface, ...]) -> tuple[str, Configured] | None:
    """The interface that has this address now, if one has it."""
    target = ip_address(address)
    for interface in interfaces:
        for each in interface.addresses:
            if ip_address(each.address) == target:
                return interface.name, each
    return None


def usable(name: str, interfaces: tuple[Interface, ...]) -> bool:
    """Is the interface there, up, and with carrier?"""
    return any(each.name == name and each.up and each.carrier for each in interfaces)
