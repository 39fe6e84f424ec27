"""The sockets between the daemons and commands of one node: RUN/DAEMON.sock.

The kernel says who connects (SO_PEERCRED): root and user truecl act, members of group truecl may look, others are
refused with a reason. Only root and user truecl may be a daemon. After the hello (truecl/wire/session.py) both sides
send messages of `truecl.wire.messages.LOCAL`, with a command in JSON (truecl/wire/plain.py). The core sees one bus:
Joined, Left and Told name the other side, whoever of the two dialled. Whoever does not read what it is told is dropped.
"""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from twisted.internet import protocol
from twisted.internet.interfaces import IAddress, IConnector, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from truecl.core.contract import Event, Joined, Left, Told
from truecl.model.ids import DAEMONS, DaemonName
from truecl.runtime.clock import Call, Reactor
from truecl.runtime.log import Level, Log
from truecl.wire.codec import Codec
from truecl.wire.frame import MAX_FRAME, MAX_HELLO, VERSIONS, Framer, FrameTooLarge, ProtocolFault, brief
from truecl.wire.plain import PLAIN
from truecl.wire.session import LOCAL_HELLO, LocalHello, LocalWelcome, Refusal, SessionRefused, agreed_version, apart

HELLO_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
"""Seconds for which the other side may leave a full buffer unread."""
MAX_UNREAD = 4 << 20
"""Bytes that may wait for a side that does not read."""
MAX_CONNECTIONS = 128
MAX_ACCEPTED = 16
"""At one turn of the reactor."""
MAX_LOOKING = 32
"""Connections of users that may only look."""
FIRST_RETRY = 0.02
LAST_RETRY = 0.5
SO_PEERGROUPS = 59
"""Supplementary groups of the other side (socket(7), Linux 4.13)."""


def socket_path(run: Path, daemon: DaemonName) -> Path:
    return run / f"{daemon}.sock"


@dataclass(frozen=True)
class Rights:
    """Who may do what on this node."""

    acting: frozenset[int]
    """User ids."""
    looking: int | None
    """A group's id; None: there is no such group."""

    @classmethod
    def of_system(cls, user: str = "truecl", group: str = "truecl") -> "Rights":
        """Root, and `user` and `group` where they exist."""
        acting = {0}
        looking = None
        with suppress(KeyError):
            acting.add(pwd.getpwnam(user).pw_uid)
        with suppress(KeyError):
            looking = grp.getgrnam(group).gr_gid
        return cls(frozenset(acting), looking)

    def may_act(self, uid: int) -> bool:
        return uid in self.acting

    def may_look(self, uid: int, groups: frozenset[int]) -> bool:
        return uid in self.acting or (self.looking is not None and self.looking in groups)


def credentials_of(connection: socket.socket) -> tuple[int, int, frozenset[int]]:
    """The other side's process id, user id and all group ids, as the kernel noted them when it connected."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    groups = {gid}
    try:
        more = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
        groups.update(struct.unpack(f"{len(more) // 4}I", more))
    except OSError:
        # More than 256 groups: what the user database says then.
        with suppress(KeyError):
            account = pwd.getpwuid(uid)
            groups.update(os.getgrouplist(account.pw_name, account.pw_gid))
    return pid, uid, frozenset(groups)


class _Transport(Protocol):
    """What is used of Twisted's Unix transports."""

    def getHandle(self) -> socket.socket: ...
    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def registerProducer(self, producer: object, streaming: bool) -> None: ...


class _End(Protocol):
    """Whom a channel belongs to: the server, or a client."""

    def connected(self, channel: "Channel") -> None: ...
    def greeted(self, channel: "Channel", message: Any) -> None:
        """Raises ProtocolFault to refuse."""

    def told(self, channel: "Channel", payload: bytes) -> None:
        """Raises ProtocolFault for what is no message."""

    def closed(self, channel: "Channel", why: str) -> None: ...


@implementer(IPushProducer)
class Channel(protocol.Protocol):
    """One connection: frames in both directions, bounded in both."""

    def __init__(self, end: _End, reactor: Reactor) -> None:
        self.who = ""
        """The other side's name on the bus, once it is open."""
        self.root = False
        self.uid = -1
        self.codec = PLAIN
        """The other side's language, once it is open."""
        self._end = end
        self._reactor = reactor
        self._framer = Framer(MAX_HELLO)
        self._deadline: Call | None = None
        self._paused = False
        self._unread = 0
        self._over = False
        self._gone = False

    @property
    def raw(self) -> socket.socket:
        return self._socket.getHandle()

    def open(self, who: str, root: bool, codec: Codec) -> None:
        """The hello is done."""
        self.who = who
        self.root = root
        self.codec = codec
        self._framer.limit = MAX_FRAME
        self._cancel()

    def write(self, frame: bytes) -> None:
        if self._over:
            return
        if self._paused:
            self._unread += len(frame)
            if self._unread > MAX_UNREAD:
                self.drop(f"does not read: {self._unread} bytes wait")
                return
        self._socket.write(frame)

    def drop(self, why: str) -> None:
        """At once. The end's `closed` is called before this returns."""
        if not self._over:
            self._finish(why)
            self._abort()

    def refuse(self, why: str) -> None:
        """Says why, then closes."""
        if self._over:
            return
        self._finish(why)
        self._socket.write(LOCAL_HELLO.encode(Refusal(why)))
        self._socket.loseConnection()
        self._reactor.callLater(1.0, self._abort)

    # ---- called by Twisted ------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self._deadline = self._reactor.callLater(HELLO_TIMEOUT, self._late, "did not say hello")
        self._socket.registerProducer(self, True)
        self._end.connected(self)

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._framer.put(data)
        try:
            while not self._over and (payload := self._framer.take()) is not None:
                if self.who:
                    self._end.told(self, payload)
                else:
                    self._end.greeted(self, LOCAL_HELLO.decode(payload))
        except ProtocolFault as fault:
            self.refuse(brief(fault))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._gone = True
        if not self._over:
            self._finish("")

    def pauseProducing(self) -> None:
        self._paused = True
        if self._deadline is None:
            self._deadline = self._reactor.callLater(READ_TIMEOUT, self._late, "does not read")

    def resumeProducing(self) -> None:
        self._paused = False
        self._unread = 0
        if self.who:
            self._cancel()

    def stopProducing(self) -> None:
        self._paused = True

    # ---- inside -----------------------------------------------------------------------------------------------------

    @property
    def _socket(self) -> _Transport:
        return cast(_Transport, self.transport)

    def _late(self, why: str) -> None:
        self._deadline = None
        self.drop(why)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _finish(self, why: str) -> None:
        self._over = True
        self._cancel()
        self._end.closed(self, why)

    def _abort(self) -> None:
        if not self._gone:
            self._socket.abortConnection()


class LocalServer:
    """RUN/DAEMON.sock of one daemon. `feed` takes Joined, Left and Told; `codec`: between daemons, of LOCAL."""

    def __init__(
        self,
        run: Path,
        daemon: DaemonName,
        *,
        rights: Rights,
        codec: Codec,
        feed: Callable[[Event], None],
        reactor: Reactor,
        log: Log,
    ) -> None:
        self.path = socket_path(run, daemon)
        self._daemon = daemon
        self._rights = rights
        self._codec = codec
        self._feed = feed
        self._reactor = reactor
        self._log = log
        self._listener: _Listener | None = None
        self._channels: dict[Channel, None] = {}
        self._named: dict[str, Channel] = {}
        self._commands = 0

    def listen(self) -> None:
        """Puts the socket in the place of one that a former life left. Raises OSError."""
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            listener.bind(str(fresh))
            fresh.chmod(0o660)
            if self._rights.looking is not None:
                os.chown(fresh, -1, self._rights.looking)
            listener.listen(64)
            fresh.replace(self.path)
        except OSError:
            listener.close()
            raise
        self._listener = _Listener(listener, self._accept)
        self._reactor.addReader(self._listener)

    def tell(self, who: str, message: Any) -> bool:
        """False: nobody of that name is joined here."""
        channel = self._named.get(who)
        if channel is None:
            return False
        _write(channel, message, self._log)
        return True

    def stop(self) -> None:
        """No event is fed any more."""
        self._named.clear()
        for channel in list(self._channels):
            channel.drop("this daemon stops")
        if self._listener is not None:
            listener, self._listener = self._listener, None
            self._reactor.removeReader(listener)
            listener.close()

    def connected(self, channel: Channel) -> None:
        _, uid, groups = credentials_of(channel.raw)
        channel.uid = uid
        channel.root = self._rights.may_act(uid)
        if not self._rights.may_look(uid, groups):
            channel.refuse(f"user id {uid} is neither root nor in group truecl")
        elif not channel.root and sum(1 for each in self._channels if not each.root) > MAX_LOOKING:
            channel.refuse("too many users look already")

    def greeted(self, channel: Channel, message: Any) -> None:
        if not isinstance(message, LocalHello):
            raise SessionRefused("no hello")
        version = agreed_version(VERSIONS, (message.lowest, message.highest))
        if version is None:
            raise SessionRefused(apart(message.who, (message.lowest, message.highest), self._daemon, VERSIONS))
        if message.kind == "daemon":
            if message.who not in DAEMONS:
                raise SessionRefused(f"{brief(ValueError(message.who))!r} is no daemon of truecl")
            if not channel.root:
                raise SessionRefused(f"user id {channel.uid} cannot be a daemon")
            who = message.who
            if (before := self._named.get(who)) is not None:
                before.drop("the same daemon came again")
        else:
            self._commands += 1
            who = f"command-{self._commands}"
        channel.open(who, channel.root, self._codec if message.kind == "daemon" else PLAIN)
        self._named[who] = channel
        channel.write(LOCAL_HELLO.encode(LocalWelcome(self._daemon, who, version)))
        self._feed(Joined(who, channel.root))

    def told(self, channel: Channel, payload: bytes) -> None:
        self._feed(Told(channel.who, channel.codec.decode(payload)))

    def closed(self, channel: Channel, why: str) -> None:
        self._channels.pop(channel, None)
        name = channel.who or f"a client of user id {channel.uid}"
        if why:
            self._log.seldom(f"closed {channel.uid} {why[:40]}", Level.WARNING, f"connection of {name} closed: {why}")
        if channel.who and self._named.get(channel.who) is channel:
            del self._named[channel.who]
            self._feed(Left(channel.who))

    def _accept(self, connection: socket.socket | None, problem: str) -> None:
        """`connection` None: the kernel gives none, for the reason `problem`."""
        if connection is None:
            self._log.seldom("accept", Level.WARNING, f"no connection can be taken at {self.path}: {problem}")
            return
        with connection:
            if len(self._channels) >= MAX_CONNECTIONS:
                self._log.seldom("full", Level.WARNING, f"more than {MAX_CONNECTIONS} connections at {self.path}")
                return
            channel = Channel(self, self._reactor)
            self._channels[channel] = None
            connection.setblocking(False)
            try:
                self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, _OneChannel(channel))
            except OSError:
                # It has gone already.
                self._channels.pop(channel, None)


class LocalClient:
    """This daemon (`own`) as a client of another of this node; it is joined under that one's name."""

    def __init__(
        self,
        run: Path,
        own: DaemonName,
        server: DaemonName,
        *,
        rights: Rights,
        codec: Codec,
        feed: Callable[[Event], None],
        reactor: Reactor,
        log: Log,
    ) -> None:
        self.server = server
        self._path = socket_path(run, server)
        self._own = own
        self._rights = rights
        self._codec = codec
        self._feed = feed
        self._reactor = reactor
        self._log = log
        self._channel: Channel | None = None
        self._connector: Any = None
        self._retry: Call | None = None
        self._delay = FIRST_RETRY
        self._stopped = False

    def start(self) -> None:
        """Connects, and again whenever the connection ends."""
        self._retry = None
        channel = Channel(self, self._reactor)
        self._connector = self._reactor.connectUNIX(str(self._path), _ClientFactory(self, channel), 1.0)

    def tell(self, message: Any) -> bool:
        """False: not joined."""
        channel = self._channel
        if channel is None:
            return False
        _write(channel, message, self._log)
        return True

    def stop(self) -> None:
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connector is not None:
            self._connector.disconnect()

    def connected(self, channel: Channel) -> None:
        _, uid, _ = credentials_of(channel.raw)
        if not self._rights.may_act(uid):
            channel.drop(f"{self._path} is served by user id {uid}, neither root nor truecl")
            return
        channel.write(LOCAL_HELLO.encode(LocalHello(self._own, "daemon")))

    def greeted(self, channel: Channel, message: Any) -> None:
        if isinstance(message, Refusal):
            raise SessionRefused(f"{self.server} refused: {brief(SessionRefused(message.reason))}")
        if not isinstance(message, LocalWelcome) or message.daemon != self.server:
            raise SessionRefused(f"no welcome of {self.server}")
        channel.open(self.server, True, self._codec)
        self._channel = channel
        self._delay = FIRST_RETRY
        self._feed(Joined(self.server))

    def told(self, channel: Channel, payload: bytes) -> None:
        self._feed(Told(self.server, channel.codec.decode(payload)))

    def closed(self, channel: Channel, why: str) -> None:
        if why:
            self._log.seldom(f"{self.server}: {why[:40]}", Level.WARNING, f"connection with {self.server}: {why}")
        if self._channel is channel:
            self._channel = None
            if not self._stopped:
                self._feed(Left(self.server))
        self.later()

    def later(self) -> None:
        """Tries again after a while that grows to LAST_RETRY."""
        if self._stopped or self._retry is not None:
            return
        self._retry = self._reactor.callLater(self._delay, self.start)
        self._delay = min(LAST_RETRY, self._delay * 1.5)


class LocalBus:
    """All of this node that a daemon can tell: who connected to its own socket, and whose socket it connected to."""

    def __init__(self, server: LocalServer | None, clients: Mapping[DaemonName, LocalClient]) -> None:
        self._server = server
        self._clients = {str(name): client for name, client in clients.items()}

    def start(self) -> None:
        """Raises OSError when the own socket cannot be made."""
        if self._server is not None:
            self._server.listen()
        for client in self._clients.values():
            client.start()

    def tell(self, who: str, message: Any) -> None:
        """Lost if nobody of that name is joined."""
        client = self._clients.get(who)
        if client is not None and client.tell(message):
            return
        if self._server is not None:
            self._server.tell(who, message)

    def stop(self) -> None:
        for client in self._clients.values():
            client.stop()
        if self._server is not None:
            self._server.stop()


class _Listener:
    """Accepts. (Twisted's own Unix port opens the socket's mode to everybody for a moment.)"""

    def __init__(self, listener: socket.socket, accepted: Callable[[socket.socket | None, str], None]) -> None:
        self._socket = listener
        self._accepted = accepted

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "local socket"

    def doRead(self) -> None:
        for _ in range(MAX_ACCEPTED):
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._accepted(None, error.strerror or str(error))
                return
            self._accepted(connection, "")

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()


class _OneChannel(protocol.Factory):
    noisy = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        return self._channel


class _ClientFactory(protocol.ClientFactory):
    noisy = False

    def __init__(self, client: LocalClient, channel: Channel) -> None:
        self._client = client
        self._channel = channel

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        return self._channel

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._client.later()


def _write(channel: Channel, message: Any, log: Log) -> None:
    try:
        channel.write(channel.codec.encode(message))
    except FrameTooLarge as fault:
        log.error(f"{type(message).__name__} for {channel.who} is not sent: {fault}")
