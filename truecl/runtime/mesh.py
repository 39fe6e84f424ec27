"""The sessions of one daemon with the same daemon on the other nodes.

Every daemon listens on each of its node's link addresses. Whoever has something to send dials, lazily; a connection
that exists serves both directions, so a pair of nodes has one, or two when both dialled at once. Messages may be lost
(the contract of `Send`): what waits while no connection can take it is bounded in number, bytes and age. A message that
the other side's release does not know counts among the lost.

hbd's view decides between the links: a link that goes down takes its connections with it, so that the next message
goes over another link at once and not after TCP's timeouts; a link that comes up is dialled without waiting.
"""

import ipaddress
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from twisted.internet import protocol
from twisted.internet.interfaces import IAddress, IConnector
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from truecl.core.contract import Connected, Disconnected, Event, Received, Rejected
from truecl.model.ids import BootId, LinkName, NodeName
from truecl.runtime.clock import Call, Clock, Reactor, Timers
from truecl.runtime.log import Level, Log
from truecl.runtime.tls import Connection, Context
from truecl.wire.codec import Codec
from truecl.wire.frame import FrameTooLarge, brief
from truecl.wire.messages import since
from truecl.wire.session import Hello, Identity, NoCommonFormat, Role, Session

CONNECT_TIMEOUT = 1.0
FIRST_RETRY = 0.05
LAST_RETRY = 1.0
MAX_CONNECTIONS = 2
"""For each peer."""
MAX_QUEUED = 256
MAX_QUEUED_BYTES = 4 << 20
MAX_AGE = 2.0
"""Seconds after which a message that still waits is dropped: its sender has long sent a newer one."""
MAX_UNKNOWN = 64
"""Accepted connections that have not finished their hello."""
MAX_FORMER = 64
"""Addresses of nodes that are none any more, which are heard out so far that they are told so."""
MAX_UNKNOWN_EACH = 16
"""The same, from one address."""
IP_FREEBIND = 15
"""Listen on an address that the interface does not have yet (ip(7))."""


class AddressTaken(Exception):
    """The daemon cannot listen where the configuration says: its text says where and why."""


@dataclass
class Peer:
    """One other node: how it can be reached, and what waits for it."""

    node: NodeName
    addresses: dict[LinkName, str]
    up: dict[LinkName, bool] = field(default_factory=dict)
    """hbd's word; a link that is not named counts as up."""
    boot: BootId | None = None
    """hbd's word: which one is alive; None: none is, or it has not said."""
    connections: list[Connection] = field(default_factory=list)
    """Open ones, the oldest first."""
    queue: deque["_Waiting"] = field(default_factory=deque)
    queued: int = 0
    """Bytes in `queue`."""
    dropped: int = 0
    dial: "_Dialler | None" = None
    failures: int = 0
    """Dials in a row that opened nothing."""
    retry: Call | None = None
    rejected: str = ""
    """Why no session can be, as it was last told."""

    def put(self, waiting: "_Waiting") -> None:
        self.queue.append(waiting)
        self.queued += len(waiting.frame)
        while len(self.queue) > MAX_QUEUED or self.queued > MAX_QUEUED_BYTES:
            self.lose()

    def lose(self) -> None:
        self.queued -= len(self.queue.popleft().frame)
        self.dropped += 1

    def expire(self, now: float) -> None:
        while self.queue and now - self.queue[0].at > MAX_AGE:
            self.lose()


@dataclass(frozen=True, slots=True)
class _Waiting:
    at: float
    frame: bytes
    version: int
    """The first format that has such a message."""


class Mesh:
    """`own`: this daemon; `addresses`: this node's, by link, the preferred link first; `peers`: the other nodes'.

    `feed` takes the events Connected, Disconnected, Rejected and Received; `codec` is that of `MESH[daemon]`; `since`
    says which format first has a message.
    """

    def __init__(
        self,
        own: Identity,
        addresses: Mapping[LinkName, str],
        peers: Mapping[NodeName, Mapping[LinkName, str]],
        port: int,
        *,
        context: Context,
        codec: Codec,
        feed: Callable[[Event], None],
        reactor: Reactor,
        clock: Clock,
        random: Random,
        log: Log,
        since: Callable[[Any], int] = since,
    ) -> None:
        self.timers: Timers = reactor
        self.refused = 0
        """Connections that ended before their hello was done."""
        self._own = own
        self._addresses = dict(addresses)
        self._peers: dict[NodeName, Peer] = {}
        self._port = port
        self._codec = codec
        self._feed = feed
        self._reactor = reactor
        self._clock = clock
        self._random = random
        self._log = log
        self._since = since
        self._ports: list[Any] = []
        self._unknown: dict[Connection, str] = {}
        self._stopped = False
        wrapping: Any = TLSMemoryBIOFactory
        nobody = protocol.Factory()
        self._wrapping = {
            Role.CLIENT: wrapping(context, True, nobody, reactor),
            Role.SERVER: wrapping(context, False, nobody, reactor),
        }
        self._known: dict[str, None] = {}
        self.reconfigure(peers)

    def reconfigure(self, peers: Mapping[NodeName, Mapping[LinkName, str]]) -> None:
        """These are the other nodes from now on. Who is not among them any more is hung up on, and not answered."""
        wanted = {node: dict(theirs) for node, theirs in peers.items() if node != self._own.node}
        for node, peer in list(self._peers.items()):
            if wanted.get(node) != peer.addresses:
                self._forget(peer, "it is no node of this cluster any more" if node not in wanted else "it moves")
        for node, theirs in wanted.items():
            if node not in self._peers:
                self._peers[node] = Peer(node, theirs)
        present = [_plain(address) for peer in self._peers.values() for address in peer.addresses.values()]
        former = [address for address in self._known if address not in present]
        self._known = dict.fromkeys([*former[-MAX_FORMER:], *present])

    def _forget(self, peer: Peer, why: str) -> None:
        peer.queue.clear()
        peer.queued = 0
        self._give_up_dial(peer)
        if peer.retry is not None:
            peer.retry.cancel()
            peer.retry = None
        for connection in list(peer.connections):
            connection.drop(why)
        del self._peers[peer.node]

    def listen(self) -> None:
        """On every own link address. Raises AddressTaken; then nothing listens."""
        for link, address in self._addresses.items():
            try:
                listener = _listener(address, self._port)
            except OSError as error:
                self.stop()
                raise AddressTaken(
                    f"{self._own.daemon} cannot listen at {address} port {self._port}: {error.strerror}"
                ) from error
            with listener:
                factory = _Acceptor(self, link)
                self._ports.append(self._reactor.adoptStreamPort(listener.fileno(), listener.family, factory))

    def send(self, node: NodeName, message: Any) -> None:
        """Now, or as soon as a connection can take it; lost if that takes longer than MAX_AGE."""
        peer = self._peers.get(node)
        if peer is None or self._stopped:
            self._log.seldom(f"send {node}", Level.WARNING, f"nothing can be sent to {node!r}, which is no other node")
            return
        try:
            frame = self._codec.encode(message)
        except FrameTooLarge as fault:
            self._log.error(f"{type(message).__name__} for {node} is not sent: {fault}")
            return
        waiting = _Waiting(self._clock.now(), frame, self._since(message))
        connection = self._usable(peer)
        if connection is not None and not peer.queue:
            self._write(peer, connection, waiting)
            return
        peer.put(waiting)
        self._flush(peer)

    def links(self, node: NodeName, up: Mapping[LinkName, bool], boot: BootId | None = None) -> None:
        """hbd's view of the links to `node`. A link that is not named counts as up. `boot`: the one that is alive; who
        says of another that it is this node is refused."""
        peer = self._peers.get(node)
        if peer is None:
            return
        peer.boot = boot
        before, peer.up = peer.up, dict(up)
        for connection in [each for each in peer.connections if not peer.up.get(each.link, True)]:
            connection.drop(f"hbd says that link {connection.link} is down")
        if peer.dial is not None and not peer.up.get(peer.dial.link, True):
            self._give_up_dial(peer)
        if any(is_up and not before.get(link, True) for link, is_up in up.items()):
            peer.failures = 0
            if peer.retry is not None:
                peer.retry.cancel()
                peer.retry = None
        self._flush(peer)

    def dropped(self, node: NodeName) -> int:
        """How many messages to `node` were given up."""
        return self._peers[node].dropped

    def connected(self, node: NodeName) -> tuple[LinkName, ...]:
        """The links of the open connections to `node`."""
        return tuple(each.link for each in self._peers[node].connections)

    def stop(self) -> None:
        """Closes everything; no event is fed any more."""
        self._stopped = True
        while self._ports:
            self._ports.pop().stopListening()
        for peer in self._peers.values():
            self._give_up_dial(peer)
            if peer.retry is not None:
                peer.retry.cancel()
                peer.retry = None
            for connection in list(peer.connections):
                connection.drop("this daemon stops")
        for connection in list(self._unknown):
            connection.drop("this daemon stops")

    # ---- dialling ---------------------------------------------------------------------------------------------------

    def _usable(self, peer: Peer) -> Connection | None:
        for link in self._addresses:
            for connection in peer.connections:
                if connection.link == link and not connection.paused:
                    return connection
        return None

    def _flush(self, peer: Peer) -> None:
        """Sends what waits, or sees to it that somebody dials."""
        peer.expire(self._clock.now())
        while peer.queue:
            connection = self._usable(peer)
            if connection is None:
                if not peer.connections:
                    self._dial(peer)
                return
            waiting = peer.queue.popleft()
            peer.queued -= len(waiting.frame)
            self._write(peer, connection, waiting)

    def _write(self, peer: Peer, connection: Connection, waiting: _Waiting) -> None:
        if waiting.version <= connection.version:
            connection.write(waiting.frame)
            return
        peer.dropped += 1
        text = f"{peer.node} speaks format {connection.version}; a message of format {waiting.version} is left out"
        self._log.seldom(f"format {peer.node}", Level.INFO, text, every=60.0)

    def _dial(self, peer: Peer) -> None:
        if self._stopped or peer.dial is not None or peer.retry is not None:
            return
        common = [link for link in self._addresses if link in peer.addresses]
        live = [link for link in common if peer.up.get(link, True)] or common
        if not live:
            return
        link = live[peer.failures % len(live)]
        peer.dial = dial = _Dialler(self, peer, link)
        dial.connector = self._reactor.connectTCP(
            peer.addresses[link], self._port, dial, CONNECT_TIMEOUT, (self._addresses[link], 0)
        )

    def dial_ended(self, dial: "_Dialler", why: str) -> None:
        """It opened nothing. The other links are tried at once, all of them again after a while."""
        peer, link = dial.peer, dial.link
        if peer.dial is not dial:
            return
        peer.dial = None
        peer.failures += 1
        peer.expire(self._clock.now())
        if not peer.queue or peer.connections or self._stopped:
            return
        text = f"{peer.node} cannot be reached at {peer.addresses[link]} (link {link}): {why}"
        self._log.seldom(f"dial {peer.node} {link}", Level.INFO, text, every=60.0)
        live = sum(1 for each in self._addresses if each in peer.addresses and peer.up.get(each, True)) or 1
        rounds, within = divmod(peer.failures, live)
        delay = 0.0
        if within == 0:
            delay = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(rounds - 1, 10)) * self._random.uniform(0.5, 1.0)
        peer.retry = self._reactor.callLater(delay, self._dial_again, peer)

    def _dial_again(self, peer: Peer) -> None:
        peer.retry = None
        self._flush(peer)

    def _give_up_dial(self, peer: Peer) -> None:
        dial, peer.dial = peer.dial, None
        if dial is None:
            return
        if dial.connection is not None:
            dial.connection.drop("given up")
        elif dial.connector is not None:
            dial.connector.stopConnecting()

    # ---- called by connections (truecl.runtime.tls.Owner) -----------------------------------------------------------

    def accept(self, link: LinkName, address: str) -> Connection | None:
        """None: nobody that this node knows or ever knew, or too many at once."""
        if _plain(address) not in self._known:
            self._refusal(address, "not a link address of any node of this cluster")
            return None
        same = sum(1 for each in self._unknown.values() if each == address)
        if len(self._unknown) >= MAX_UNKNOWN or same >= MAX_UNKNOWN_EACH:
            self._refusal(address, "too many connections that did not finish their hello")
            return None
        connection = Connection(self, Role.SERVER, link, address)
        self._unknown[connection] = address
        return connection

    def session(self, connection: Connection, certificate: str) -> Session:
        return Session(connection.role, self._own, self._peers, certificate, connection.node)

    def opened(self, connection: Connection, hello: Hello) -> None:
        self._unknown.pop(connection, None)
        peer = self._peers.get(NodeName(hello.node))
        if peer is None:
            connection.drop("it is no node of this cluster any more")
            return
        if peer.boot not in (None, hello.boot):
            why = f"{peer.node} is alive, and this is another machine of that name, or another boot of it"
            self._refusal(connection.address, why)
            connection.drop(why)
            return
        if connection.role is Role.CLIENT:
            peer.dial = None
        peer.failures, peer.rejected = 0, ""
        first = not peer.connections
        for old in [each for each in peer.connections if each.boot != hello.boot]:
            old.drop("its node has booted again")
        peer.connections.append(connection)
        for surplus in peer.connections[:-MAX_CONNECTIONS]:
            surplus.drop("there are newer connections")
        self._log.debug(f"connected with {peer.node} over link {connection.link} ({connection.role})")
        if first and not self._stopped:
            self._feed(Connected(peer.node))
        self._flush(peer)

    def received(self, connection: Connection, payload: bytes) -> None:
        message = self._codec.decode(payload)
        if connection.node is not None and not self._stopped:
            self._feed(Received(connection.node, message))

    def writable(self, connection: Connection) -> None:
        if connection.node is not None:
            self._flush(self._peers[connection.node])

    def closed(self, connection: Connection, why: str) -> None:
        if isinstance(connection.fault, NoCommonFormat):
            self._reject(connection.fault)
        if self._unknown.pop(connection, None) is not None:
            self._refusal(connection.address, why)
            return
        peer = self._peers.get(connection.node) if connection.node is not None else None
        if peer is None:
            return
        if connection not in peer.connections:
            if peer.dial is not None and peer.dial.connection is connection:
                self.dial_ended(peer.dial, why)
            return
        peer.connections.remove(connection)
        level = Level.WARNING if connection.at_fault else Level.INFO
        text = f"connection with {peer.node} over link {connection.link} ended: {why}"
        self._log.seldom(f"lost {peer.node} {level}", level, text)
        if not peer.connections and not self._stopped:
            self._feed(Disconnected(peer.node))
            self._flush(peer)

    def _reject(self, fault: NoCommonFormat) -> None:
        peer = self._peers.get(fault.node)
        if peer is not None and peer.rejected != str(fault) and not self._stopped:
            peer.rejected = str(fault)
            self._feed(Rejected(peer.node, str(fault)))

    def _refusal(self, address: str, why: str) -> None:
        self.refused += 1
        if not self._stopped:
            self._log.seldom(f"refused {address}", Level.WARNING, f"connection from {address} refused: {why}")

    def wrap(self, connection: Connection) -> TLSMemoryBIOProtocol:
        """Without the factory's own protocol, which holds every write back for a turn of the reactor to gather more."""
        wrapping: Any = TLSMemoryBIOProtocol
        wrapped: TLSMemoryBIOProtocol = wrapping(self._wrapping[connection.role], connection)
        return wrapped


class _Acceptor(protocol.Factory):
    noisy = False

    def __init__(self, mesh: Mesh, link: LinkName) -> None:
        self._mesh = mesh
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:
        connection = self._mesh.accept(self._link, str(getattr(addr, "host", "")))
        return None if connection is None else self._mesh.wrap(connection)


class _Dialler(protocol.ClientFactory):
    """One attempt over one link."""

    noisy = False

    def __init__(self, mesh: Mesh, peer: Peer, link: LinkName) -> None:
        self.peer = peer
        self.link = link
        self.connector: Any = None
        self.connection: Connection | None = None
        self._mesh = mesh

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol:
        address = self.peer.addresses[self.link]
        self.connection = Connection(self._mesh, Role.CLIENT, self.link, address, self.peer.node)
        return self._mesh.wrap(self.connection)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        error = reason.value
        self._mesh.dial_ended(self, brief(error) if error is not None else "failed")


def _listener(address: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    version = ipaddress.ip_address(address.partition("%")[0]).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        numeric = address.encode()  # of text, Python would make an internationalised name first
        listener.bind(socket.getaddrinfo(numeric, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0][4])
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    return listener


def _plain(address: str) -> str:
    """One spelling for each address; '' for what is none."""
    try:
        return str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return ""
