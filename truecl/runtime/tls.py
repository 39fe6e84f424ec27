"""One TLS 1.3 connection between the same daemon of two nodes: handshake, hello, then messages.

Both sides show a certificate of the cluster's authority, which both check; the hello (truecl/wire/session.py) ties the
node's name to it. Everything is bounded: the time until the hello is done, the size of a frame, the time that a side
may go without reading.
"""

import socket
from functools import lru_cache
from typing import Any, Protocol, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.internet import protocol
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IPushProducer,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from truecl.model.ids import LinkName, NodeName
from truecl.runtime.clock import Call, Timers
from truecl.runtime.credentials import Credentials
from truecl.wire.frame import ProtocolFault, brief
from truecl.wire.session import Hello, Role, Session, State

HELLO_TIMEOUT = 5.0
"""Seconds from the connection to the end of the hello."""
READ_TIMEOUT = 5.0
"""Seconds for which the other side may leave a full buffer unread while it does take some."""
USER_TIMEOUT = 3000
"""Milliseconds for which the kernel keeps sending what is not acknowledged, or to a peer whose window is closed."""


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Context:
    """The node's certificate and its authority, read once: making this costs a thousand times what using it does."""

    def __init__(self, credentials: Credentials) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        # pyOpenSSL takes cryptography's own objects since 24.3; its type stubs do not know.
        own: Any = x509.load_pem_x509_certificate(credentials.cert_pem)
        key: Any = serialization.load_pem_private_key(credentials.key_pem, password=None)
        context.use_certificate(own)
        context.use_privatekey(key)
        context.check_privatekey()
        store = context.get_cert_store()
        if store is None:
            raise SSL.Error("no certificate store")
        store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, credentials.ca_pem))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        context.set_verify_depth(1)
        # Connections live for days: no tickets, which would double the handshake's messages.
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self._context = context

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        return connection

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return connection


@lru_cache(maxsize=1)
def context_of(credentials: Credentials) -> Context:
    """The one Context of these credentials. Made by the warm parent, its children share it; each connection draws its
    random numbers after the fork, from a generator that OpenSSL seeds anew there."""
    return Context(credentials)


class Transport(Protocol):
    """What is used of Twisted's TLSMemoryBIOProtocol."""

    transport: Any

    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def registerProducer(self, producer: object, streaming: bool) -> None: ...
    def getPeerCertificate(self) -> crypto.X509 | None: ...


class Owner(Protocol):
    """Whom a connection belongs to."""

    @property
    def timers(self) -> Timers: ...

    def session(self, connection: "Connection", certificate: str) -> Session: ...
    def opened(self, connection: "Connection", hello: Hello) -> None: ...
    def received(self, connection: "Connection", payload: bytes) -> None:
        """Raises ProtocolFault for what is no message."""

    def writable(self, connection: "Connection") -> None: ...
    def closed(self, connection: "Connection", why: str) -> None:
        """Exactly once. `why` is one line for the log."""


@implementer(IHandshakeListener, IPushProducer)
class Connection(protocol.Protocol):
    """`node` is whom a client dialled, and for a server who it turned out to be once open."""

    def __init__(self, owner: Owner, role: Role, link: LinkName, address: str, node: NodeName | None = None) -> None:
        self.role = role
        self.link = link
        self.address = address
        """The other side's, as text."""
        self.node = node
        self.boot = ""
        self.paused = False
        """The other side does not read; what is written now would pile up."""
        self.at_fault = False
        """The other side broke the protocol."""
        self.fault: ProtocolFault | None = None
        """How."""
        self._owner = owner
        self._session: Session | None = None
        self._deadline: Call | None = None
        self._over = False
        """`closed` was called."""
        self._gone = False
        """There is no transport any more."""

    @property
    def is_open(self) -> bool:
        return not self._over and self._session is not None and self._session.state is State.OPEN

    @property
    def version(self) -> int:
        """The format that both sides speak; 0 before it is open."""
        return self._session.version if self._session is not None else 0

    def write(self, frame: bytes) -> None:
        if not self._over:
            self._tls.write(frame)

    def drop(self, why: str) -> None:
        """At once, without waiting for what was not yet sent. The owner's `closed` is called before this returns."""
        if self._over:
            return
        self._finish(why)
        self._abort()

    # ---- called by Twisted ------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self._set_options()
        self._deadline = self._owner.timers.callLater(HELLO_TIMEOUT, self._late)
        self._tls.registerProducer(self, True)

    def handshakeCompleted(self) -> None:
        if self._over:
            return
        certificate = self._tls.getPeerCertificate()
        name = ""
        if certificate is not None:
            names = certificate.to_cryptography().subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            name = str(names[0].value) if len(names) == 1 else ""
        self._session = self._owner.session(self, name)
        if self.role is Role.CLIENT:
            self._tls.write(self._session.greet())

    def dataReceived(self, data: bytes) -> None:
        session = self._session
        if session is None or self._over:
            return
        try:
            session.put(data)
            while not self._over and (taken := session.take()) is not None:
                if isinstance(taken, Hello):
                    self._greeted(session, taken)
                else:
                    self._owner.received(self, taken)
        except ProtocolFault as fault:
            self.fault = fault
            self._refuse(session, brief(fault))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._gone = True
        if not self._over:
            self._finish(_words(reason))

    def pauseProducing(self) -> None:
        self.paused = True
        if self._deadline is None:
            self._deadline = self._owner.timers.callLater(READ_TIMEOUT, self._unread)

    def resumeProducing(self) -> None:
        self.paused = False
        if self.is_open:
            self._cancel()
            self._owner.writable(self)

    def stopProducing(self) -> None:
        self.paused = True

    # ---- inside -----------------------------------------------------------------------------------------------------

    @property
    def _tls(self) -> Transport:
        return cast(Transport, self.transport)

    def _greeted(self, session: Session, hello: Hello) -> None:
        self._cancel()
        self.node = NodeName(hello.node)
        self.boot = hello.boot
        if self.role is Role.SERVER:
            self._tls.write(session.answer())
        self._owner.opened(self, hello)

    def _refuse(self, session: Session, why: str) -> None:
        """A server that has not yet opened says why; then the connection ends."""
        self.at_fault = True
        if self.role is Role.SERVER and session.peer is None:
            self._finish(why)
            self._tls.write(session.refusal(why))
            self._tls.loseConnection()
            self._owner.timers.callLater(1.0, self._abort)
        else:
            self.drop(why)

    def _abort(self) -> None:
        if not self._gone:
            self._tls.abortConnection()

    def _late(self) -> None:
        self._deadline = None
        self.drop(f"did not finish its hello within {HELLO_TIMEOUT:g} s")

    def _unread(self) -> None:
        self._deadline = None
        self.drop(f"did not read for {READ_TIMEOUT:g} s")

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _finish(self, why: str) -> None:
        self._over = True
        self._cancel()
        self._owner.closed(self, why)

    def _set_options(self) -> None:
        raw: socket.socket = self._tls.transport.getHandle()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)


def _words(reason: Failure) -> str:
    """Why a connection ended, as one line. OpenSSL gives its reasons as a list of triples."""
    error = reason.value
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        reasons = [str(each[-1]) for each in error.args[0] if isinstance(each, tuple) and each]
        return brief(SSL.Error(f"TLS: {', '.join(reasons) or 'failed'}"))
    return brief(error) if error is not None else "closed"
