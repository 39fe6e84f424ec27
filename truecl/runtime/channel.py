"""One connection of a local socket: frames in both directions, bounded in both. Whoever does not read is dropped."""

import socket
from typing import Any, Protocol, cast

from twisted.internet import protocol
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from truecl.runtime.clock import Call, Reactor
from truecl.wire.codec import Codec
from truecl.wire.frame import MAX_FRAME, MAX_HELLO, Framer, ProtocolFault, brief
from truecl.wire.plain import PLAIN
from truecl.wire.session import LOCAL_HELLO, Refusal

HELLO_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
"""Seconds for which the other side may leave a full buffer unread."""
MAX_UNREAD = 4 << 20
"""Bytes that may wait for a side that does not read."""


class _Transport(Protocol):
    """What is used of Twisted's Unix transports."""

    def getHandle(self) -> socket.socket: ...
    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def registerProducer(self, producer: object, streaming: bool) -> None: ...


class End(Protocol):
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

    def __init__(self, end: End, reactor: Reactor) -> None:
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
