"""The hello between the same daemon of two nodes, before any message: who speaks, for which cluster, in which version.

The connection is TLS with certificates of the cluster's own CA already, so the bytes come from *a* node of *some*
cluster that has this CA's key. The hello adds which node and daemon, and ties the node's name to its certificate.

    client                                server
      | -- Hello ---------------------------> |   checked: protocol, version, cluster, node = certificate, daemon
      | <-------------- Hello or Refusal ---- |   the same, and that it is the node that was dialled
      | <======== messages both ways =======> |

The server's hello answers the client's, so a client that is OPEN knows that the server took it, certificate included
(in TLS 1.3 a client's own handshake is over before the server has looked at its certificate). States and what leads
from one to the next are a table; what the table lacks is a fault and changes nothing. Nothing here does I/O.

The hello on a node's own sockets is here too: there the kernel says who speaks (SO_PEERCRED), so a name is enough. It
is JSON, since commands read nothing else.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, Union

import msgspec

from truecl.model.ids import BootId, DaemonName, NodeName
from truecl.wire.codec import BadMessage, Codec
from truecl.wire.frame import MAX_FRAME, MAX_HELLO, VERSIONS, Framer, ProtocolFault, brief

PROTOCOL = "truecl"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Version = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    protocol: Name
    lowest: Version
    highest: Version
    cluster: Name
    node: Name
    daemon: Name
    boot: Name


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Why the server does not want this client; it closes after it. `lowest`, `highest`: what it speaks itself; 0: it
    does not say."""

    reason: Annotated[str, msgspec.Meta(max_length=512)]
    lowest: Version = 0
    highest: Version = 0


class LocalHello(msgspec.Struct, frozen=True, tag="local-hello"):
    """First frame on a local socket. `who`: a daemon's name, or for a command what it is, for the log."""

    who: Name
    kind: Literal["daemon", "command"]
    lowest: Version = VERSIONS[0]
    highest: Version = VERSIONS[1]


class LocalWelcome(msgspec.Struct, frozen=True, tag="local-welcome"):
    """`who` is the name under which the client is known from now on, `daemon` who answers."""

    daemon: Name
    who: Name
    version: Version


HELLO = Codec(Union[Hello, Refusal], MAX_HELLO)
LOCAL_HELLO = Codec(Union[LocalHello, LocalWelcome, Refusal], MAX_HELLO, json=True)


class SessionRefused(ProtocolFault):
    """The hello named something that cannot be: the text says what, in words for the operator."""


class NoCommonFormat(SessionRefused):
    """The formats of both sides do not meet. `node`: whose certificate the other side has."""

    def __init__(self, node: str, theirs: tuple[int, int], own: tuple[int, int]) -> None:
        super().__init__(apart(node, theirs, "this node", own))
        self.node = NodeName(node)


class WrongUse(Exception):
    """This side's own code asked the session for something that its state does not allow. A defect, not an input."""


class Role(StrEnum):
    CLIENT = "client"
    SERVER = "server"


class State(StrEnum):
    FRESH = "fresh"
    """Client that has not yet said hello."""
    GREETING = "greeting"
    """Client that waits for the answer."""
    WAITING = "waiting"
    """Server that waits for the client's hello."""
    OPEN = "open"
    CLOSED = "closed"


class Input(StrEnum):
    GREET = "greet"
    ACCEPT = "accept"
    REFUSE = "refuse"
    MESSAGE = "message"
    CLOSE = "close"


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.FRESH, Input.GREET): State.GREETING,
    (State.GREETING, Input.ACCEPT): State.OPEN,
    (State.GREETING, Input.REFUSE): State.CLOSED,
    (State.WAITING, Input.ACCEPT): State.OPEN,
    (State.WAITING, Input.REFUSE): State.CLOSED,
    (State.OPEN, Input.MESSAGE): State.OPEN,
    (State.FRESH, Input.CLOSE): State.CLOSED,
    (State.GREETING, Input.CLOSE): State.CLOSED,
    (State.WAITING, Input.CLOSE): State.CLOSED,
    (State.OPEN, Input.CLOSE): State.CLOSED,
    (State.CLOSED, Input.CLOSE): State.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this side is."""

    cluster: str
    node: NodeName
    daemon: DaemonName
    boot: BootId
    versions: tuple[int, int] = VERSIONS

    def hello(self) -> Hello:
        lowest, highest = self.versions
        return Hello(PROTOCOL, lowest, highest, self.cluster, self.node, self.daemon, self.boot)


def agreed_version(own: tuple[int, int], other: tuple[int, int]) -> int | None:
    """The highest that both speak, None when the ranges do not meet."""
    version = min(own[1], other[1])
    return version if version >= max(own[0], other[0]) else None


def apart(one: str, theirs: tuple[int, int], here: str, own: tuple[int, int]) -> str:
    """What to say, and what helps, when the formats of two sides do not meet."""
    older = one if theirs[1] < own[0] else here
    return f"{one} speaks formats {theirs[0]} to {theirs[1]}, {here} {own[0]} to {own[1]}: upgrade {older}"


class Session:
    """One side of one connection. `certificate`: the common name in the other side's verified certificate.

    `expected`: the node that was dialled; None for a server, which takes any of `members`.
    """

    def __init__(
        self,
        role: Role,
        own: Identity,
        members: Collection[NodeName],
        certificate: str,
        expected: NodeName | None = None,
    ) -> None:
        self.role = role
        self.state = State.FRESH if role is Role.CLIENT else State.WAITING
        self.peer: Hello | None = None
        """The other side's hello, once OPEN."""
        self.version = 0
        """Agreed, once OPEN."""
        self._own = own
        self._members = frozenset(members)
        self._certificate = certificate
        self._expected = expected
        self._framer = Framer(MAX_HELLO)

    def greet(self) -> bytes:
        """A client's first bytes. Raises WrongUse for a server, or twice."""
        self._advance(Input.GREET)
        return HELLO.encode(self._own.hello())

    def answer(self) -> bytes:
        """A server's hello, to be sent right after it became OPEN."""
        if self.role is not Role.SERVER or self.state is not State.OPEN:
            raise WrongUse(f"a {self.role} that is {self.state} has no answer to give")
        return HELLO.encode(self._own.hello())

    def put(self, data: bytes) -> None:
        """Bytes of the other side; `take` says what they are."""
        if self.state is not State.CLOSED:
            self._framer.put(data)

    def take(self) -> Hello | bytes | None:
        """The other side's Hello once, then payloads for the daemon's own codec, None when more bytes are needed.

        Raises SessionRefused, FrameTooLarge or BadMessage; the session is then CLOSED.
        """
        if self.state is State.CLOSED:
            return None
        try:
            payload = self._framer.take()
            if payload is None:
                return None
            if self.state is State.OPEN:
                self._advance(Input.MESSAGE)
                return payload
            return self._greeted(payload)
        except ProtocolFault:
            self.close()
            raise

    def close(self) -> None:
        self._advance(Input.CLOSE)
        self._framer = Framer(0)

    def refusal(self, reason: str) -> bytes:
        """What a server sends before it closes."""
        return HELLO.encode(Refusal(reason[:200], *self._own.versions))

    def _greeted(self, payload: bytes) -> Hello:
        if self.state is State.FRESH:
            raise SessionRefused("spoke before it was greeted")
        message = HELLO.decode(payload)
        if isinstance(message, Refusal):
            if self.role is Role.SERVER:
                raise SessionRefused("a client opened with a refusal")
            self._advance(Input.REFUSE)
            theirs = message.lowest, message.highest
            if message.highest and agreed_version(self._own.versions, theirs) is None:
                raise NoCommonFormat(self._expected or self._certificate, theirs, self._own.versions)
            shown = brief(SessionRefused(message.reason))
            raise SessionRefused(f"{self._expected or 'the other node'} refused this node: {shown}")
        if not isinstance(message, Hello):
            raise BadMessage("no hello")
        self.version = self._check(message)
        self.peer = message
        self._advance(Input.ACCEPT)
        self._framer.limit = MAX_FRAME
        return message

    def _check(self, hello: Hello) -> int:
        """The agreed version. Raises SessionRefused with the first thing that is wrong, the broadest first."""
        own = self._own
        if hello.protocol != PROTOCOL:
            raise SessionRefused(f"speaks {hello.protocol!r}, not {PROTOCOL!r}")
        version = agreed_version(own.versions, (hello.lowest, hello.highest))
        if version is None:
            raise NoCommonFormat(self._certificate, (hello.lowest, hello.highest), own.versions)
        if hello.cluster != own.cluster:
            raise SessionRefused(f"belongs to cluster {hello.cluster!r}, this node to {own.cluster!r}")
        if hello.node != self._certificate:
            raise SessionRefused(f"calls itself {hello.node!r} with the certificate of {self._certificate!r}")
        if hello.node == own.node:
            raise SessionRefused(f"calls itself {hello.node!r}, which is this node's own name")
        if hello.node not in self._members:
            raise SessionRefused(f"{hello.node!r} is not a node of this cluster's configuration")
        if self._expected is not None and hello.node != self._expected:
            raise SessionRefused(f"{hello.node!r} answered at an address of {self._expected!r}")
        if hello.daemon != own.daemon:
            raise SessionRefused(f"is {hello.daemon!r}, at the port of {own.daemon!r}")
        return version

    def _advance(self, given: Input) -> None:
        after = TRANSITIONS.get((self.state, given))
        if after is None:
            raise WrongUse(f"{given} in state {self.state}")
        self.state = after
