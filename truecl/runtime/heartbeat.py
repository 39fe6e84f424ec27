"""hbd's datagrams: one UDP socket on each of this node's link addresses, every datagram sealed.

No Twisted transport: at rest hbd does nothing but this, so each layer would show in what an idle node costs. A datagram
that cannot be sent is lost like any other, whatever the reason; the detector on the other side says what that means.
What does not open, is not for this node or comes over another link than it says is counted and never shown to the core.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from twisted.python.failure import Failure

from truecl.core.contract import Event, Received
from truecl.model.config import ClusterConfig
from truecl.model.ids import LinkName, NodeName
from truecl.runtime.log import Level, Log
from truecl.wire.codec import Codec
from truecl.wire.frame import ProtocolFault
from truecl.wire.messages import Goodbye, Heartbeat
from truecl.wire.seal import MAX_DATAGRAM, Seal

SO_PRIORITY = 6
"""The highest that needs no privilege: network control."""
TOS_NETWORK_CONTROL = 0xC0
"""DSCP CS6."""
IP_FREEBIND, IPV6_FREEBIND = 15, 78
"""Bind to an address that the interface does not have yet (ip(7), ipv6(7))."""
RECEIVE_BUFFER = 256 * 1024
MAX_READS = 64
"""Datagrams read from one socket before others get their turn."""


class Datagram(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed. Sender and receiver are part of it, so that none can be turned around or told to another."""

    sender: NodeName
    receiver: NodeName
    message: Heartbeat | Goodbye


class CannotListen(Exception):
    """A link address cannot be bound: the text says which and why."""


@dataclass(slots=True)
class Counts:
    """Datagrams since the start."""

    received: int = 0
    sent: int = 0
    broken: int = 0
    """Did not open, or were not meant for this node and link."""
    unsent: int = 0


class HeartbeatMesh:
    """`host.Mesh` of hbd. `feed` takes Received. Raises CannotListen from `open`, ValueError for bad addresses."""

    def __init__(
        self,
        node: NodeName,
        cluster: ClusterConfig,
        seal: Seal,
        feed: Callable[[Event], None],
        log: Log,
    ) -> None:
        self.counts = Counts()
        self._node = node
        self._cluster = cluster
        self._seal = seal
        self._feed = feed
        self._log = log
        self._codec = Codec(Datagram)
        self._ports: dict[LinkName, _Port] = {}
        self._targets: dict[tuple[NodeName, LinkName], tuple[str, int]] = {}
        self.reconfigure(cluster)

    def reconfigure(self, cluster: ClusterConfig) -> None:
        """Other nodes than before. This node's own addresses, and the port, stay until the daemon starts again."""
        port = self._cluster.ports.hbd
        self._targets = {
            (other.name, link): (address, port)
            for other in cluster.nodes
            for link, address in other.addresses.items()
            if other.name != self._node
        }

    def open(self) -> None:
        """Binds the sockets. Datagrams wait in them until `start`."""
        for link, address in self._cluster.node(self._node).addresses.items():
            try:
                self._ports[link] = _Port(self, link, _bound(address, self._cluster.ports.hbd))
            except OSError as error:
                self.close()
                raise CannotListen(
                    f"heartbeats on link {link}: cannot bind UDP {address} port {self._cluster.ports.hbd}:"
                    f" {error.strerror}"
                ) from error

    def start(self, add_reader: Callable[[Any], object]) -> None:
        for port in self._ports.values():
            add_reader(port)

    def close(self) -> None:
        """Call after the reactor has let go of the readers."""
        for port in self._ports.values():
            port.socket.close()

    @property
    def readers(self) -> Iterable[Any]:
        return tuple(self._ports.values())

    def send(self, node: NodeName, message: Heartbeat | Goodbye) -> None:
        port = self._ports.get(message.link)
        target = self._targets.get((node, message.link))
        if port is None or target is None:
            self.counts.unsent += 1
            return
        datagram = self._seal.seal(self._codec.pack(Datagram(self._node, node, message)))
        try:
            port.socket.sendto(datagram, target)
            self.counts.sent += 1
        except OSError as error:
            self.counts.unsent += 1
            text = f"heartbeat to {node} over link {message.link} is not sent: {error.strerror}"
            self._log.seldom(f"send {node} {message.link}", Level.WARNING, text)

    def drain(self) -> None:
        """Take what waits in the sockets now: before anybody is judged by his silence."""
        for port in self._ports.values():
            port.doRead()

    def taken(self, link: LinkName, datagram: bytes, source: Any) -> None:
        try:
            opened: Datagram = self._codec.decode(self._seal.open(datagram))
        except ProtocolFault as fault:
            self._broken(link, source, str(fault))
            return
        if opened.receiver != self._node or opened.message.link != link:
            self._broken(link, source, f"meant for {opened.receiver} on link {opened.message.link}")
            return
        self.counts.received += 1
        self._feed(Received(opened.sender, opened.message))

    def failed(self, link: LinkName, error: OSError) -> None:
        self._log.seldom(f"receive {link}", Level.WARNING, f"link {link}: {error.strerror}")

    def _broken(self, link: LinkName, source: Any, why: str) -> None:
        self.counts.broken += 1
        text = f"datagram from {source[0]} on link {link} refused: {why} ({self.counts.broken} in all)"
        self._log.seldom(f"broken {link}", Level.WARNING, text)


class _Port:
    """One socket, an IReadDescriptor."""

    def __init__(self, mesh: HeartbeatMesh, link: LinkName, bound: socket.socket) -> None:
        self.socket = bound
        self._mesh = mesh
        self._link = link

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return f"link {self._link}"

    def doRead(self) -> None:
        for _ in range(MAX_READS):
            try:
                datagram, source = self.socket.recvfrom(MAX_DATAGRAM + 1)
            except BlockingIOError:
                return
            except OSError as error:
                # What the network said of a datagram sent earlier (an ICMP error) comes out here.
                self._mesh.failed(self._link, error)
                return
            self._mesh.taken(self._link, datagram, source)

    def connectionLost(self, reason: Failure) -> None:
        return None


def _bound(address: str, port: int) -> socket.socket:
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if version == 4:
            bound.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS_NETWORK_CONTROL)
            bound.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS_NETWORK_CONTROL)
            bound.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        # After IP_TOS, which sets a priority of its own.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, SO_PRIORITY)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound
