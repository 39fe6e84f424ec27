"""The sockets between the daemons and commands of one node: RUN/DAEMON.sock.

Who has no rights (truecl/runtime/rights.py) is refused with a reason; only root and user truecl may be a daemon. After
the hello (truecl/wire/session.py) both sides send messages of `truecl.wire.messages.LOCAL`, with a command in JSON
(truecl/wire/plain.py). The core sees one bus: Joined, Left and Told name the other side, whoever of the two dialled.
"""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import protocol
from twisted.internet.interfaces import IAddress, IConnector
from twisted.python.failure import Failure

from truecl.core.contract import Event, Joined, Left, Told
from truecl.model.ids import DAEMONS, DaemonName
from truecl.runtime.channel import Channel
from truecl.runtime.clock import Call, Reactor
from truecl.runtime.log import Level, Log
from truecl.runtime.rights import Rights, credentials_of
from truecl.wire.codec import Codec
from truecl.wire.frame import VERSIONS, FrameTooLarge, brief
from truecl.wire.plain import PLAIN
from truecl.wire.session import LOCAL_HELLO, LocalHello, LocalWelcome, Refusal, SessionRefused, agreed_version, apart

MAX_CONNECTIONS = 128
MAX_ACCEPTED = 16
"""At one turn of the reactor."""
MAX_LOOKING = 32
"""Connections of users that may only look."""
FIRST_RETRY = 0.02
LAST_RETRY = 0.5


def socket_path(run: Path, daemon: DaemonName) -> Path:
    return run / f"{daemon}.sock"


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
