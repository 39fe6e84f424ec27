"""The line between reqd and the warm parent: messages of `truecl.wire.messages.PARENT` over RUN/truecld.sock.

The parent listens, and takes nobody but the reqd that it started or found. It may die at any time: reqd goes on with
all it has and dials until there is another one, which begins by saying who lives (`Living`). What is sent in between is
lost: `truecl.core.supervisor` asks again for what it still wants.
"""

import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.python.failure import Failure

from truecl.core.contract import Event, Told
from truecl.core.supervisor import PARENT as NAME
from truecl.runtime.clock import Reactor
from truecl.runtime.log import Level, Log
from truecl.runtime.rights import credentials_of
from truecl.wire.codec import Codec
from truecl.wire.frame import Framer, ProtocolFault, brief
from truecl.wire.messages import PARENT

RETRY = 0.05
"""Seconds between two tries; one that finds nobody costs some microseconds."""
MAX_WAITING = 8192
"""Messages that may wait for a reqd that does not read."""


def parent_socket(run: Path) -> Path:
    return run / "truecld.sock"


class ParentLink:
    """reqd's end. Each message is fed as Told of the parent."""

    def __init__(self, run: Path, log: Log) -> None:
        self._path = parent_socket(run)
        self._log = log
        self._codec = Codec(PARENT)
        self._line: _Line | None = None
        self._missed = False

    def start(self, reactor: Reactor, feed: Callable[[Event], None]) -> None:
        """Until the process ends."""
        self._reactor = reactor
        self._feed = feed
        self._dial()

    def send(self, message: Any) -> None:
        """Never waits. Lost when there is no parent, or one that does not listen."""
        if self._line is not None:
            self._line.send(self._codec.encode(message))

    def kill(self) -> None:
        """By the descriptor of its process that was got with the connection: nobody else can be hit."""
        if self._line is not None:
            self._line.kill()

    def heard(self, payload: bytes) -> None:
        """Raises ProtocolFault."""
        self._feed(Told(NAME, self._codec.decode(payload)))

    def lost(self, why: str) -> None:
        if self._line is None:
            return
        line, self._line = self._line, None
        self._reactor.removeReader(line)
        line.close()
        self._missed = True
        said = f"the warm parent is gone ({why}): a daemon that dies now waits for the next one"
        self._log.seldom("parent", Level.WARNING, said)
        self._reactor.callLater(RETRY, self._dial)

    def _dial(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            connection.connect(str(self._path))
            pid, uid, _ = credentials_of(connection)
            process = os.pidfd_open(pid) if uid == os.geteuid() else -1
        except OSError:
            process = -1
        if process < 0:
            connection.close()
            self._reactor.callLater(RETRY, self._dial)
            return
        self._line = _Line(self, connection, process)
        self._reactor.addReader(self._line)
        if self._missed:
            self._log.info("there is a warm parent again")


class _Line:
    """One connection of it. `process`: the parent's pidfd."""

    def __init__(self, link: ParentLink, connection: socket.socket, process: int) -> None:
        self._link = link
        self._socket = connection
        self._process = process
        self._framer = Framer()

    def send(self, frame: bytes) -> None:
        try:
            sent = self._socket.send(frame, socket.MSG_NOSIGNAL)
        except OSError as error:
            self._link.lost(error.strerror or str(error))
            return
        if sent < len(frame):
            self._link.lost("it does not listen")

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        self._socket.close()
        os.close(self._process)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "parent"

    def doRead(self) -> None:
        try:
            data = self._socket.recv(65536)
            payloads = self._framer.feed(data)
            for payload in payloads:
                self._link.heard(payload)
        except BlockingIOError:
            return
        except OSError as error:
            self._link.lost(error.strerror or str(error))
            return
        except ProtocolFault as fault:
            self._link.lost(brief(fault))
            return
        if not data:
            self._link.lost("its end is closed")

    def connectionLost(self, reason: Failure) -> None:
        self._link.lost("the reactor has stopped")


class ReqdLine:
    """The parent's end: no reactor, it is told what `poll` saw. Raises OSError when it cannot listen.

    `obey` takes each message, `greet` is called when reqd has connected, `broken` when it speaks nonsense or does not
    read.
    """

    def __init__(
        self,
        run: Path,
        poll: "select.poll",
        log: Log,
        *,
        obey: Callable[[Any], None],
        greet: Callable[[], None],
        broken: Callable[[str], None],
    ) -> None:
        self._poll, self._log = poll, log
        self._obey, self._greet, self._broken = obey, greet, broken
        self._codec = Codec(PARENT)
        self._framer = Framer()
        self._waiting: deque[bytes] = deque()
        self._connection: socket.socket | None = None
        path = parent_socket(run)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._listener = socket.socket(socket.AF_UNIX, kind)
        self._listener.bind(str(fresh))
        fresh.chmod(0o600)
        self._listener.listen(8)
        fresh.replace(path)
        poll.register(self._listener, select.POLLIN)

    def happened(self, descriptor: int, events: int, reqd: int | None) -> None:
        """What `poll` reported. `reqd`: its process id."""
        if descriptor == self._listener.fileno():
            self._accept(reqd)
        elif self._connection is not None and descriptor == self._connection.fileno():
            if events & select.POLLOUT:
                self._flush()
            if events & ~select.POLLOUT:
                self._listen()

    def tell(self, message: Any) -> None:
        """Lost when reqd is not connected: the next greeting says how things are."""
        if self._connection is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            self.hang_up()
            self._broken("does not listen")
            return
        self._waiting.append(self._codec.encode(message))
        self._flush()

    def hang_up(self) -> None:
        if self._connection is not None:
            self._poll.unregister(self._connection)
            self._connection.close()
            self._connection = None
        self._waiting.clear()
        self._framer = Framer()

    def _accept(self, reqd: int | None) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        pid, uid, _ = credentials_of(connection)
        if pid != reqd or uid != os.geteuid():
            self._log.warning(f"process {pid} of user id {uid} is not this node's reqd, and is sent away")
            connection.close()
            return
        self.hang_up()
        connection.setblocking(False)
        self._connection = connection
        self._poll.register(connection, select.POLLIN)
        self._greet()

    def _listen(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            data = connection.recv(65536)
            messages = [self._codec.decode(payload) for payload in self._framer.feed(data)]
        except BlockingIOError:
            return
        except OSError:
            data, messages = b"", []
        except ProtocolFault as fault:
            self.hang_up()
            self._broken(f"speaks nonsense: {brief(fault)}")
            return
        for message in messages:
            self._obey(message)
        if not data and self._connection is connection:
            self.hang_up()

    def _flush(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            while self._waiting:
                sent = connection.send(self._waiting[0], socket.MSG_NOSIGNAL)
                if sent == len(self._waiting[0]):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = self._waiting[0][sent:]
        except BlockingIOError:
            pass
        except OSError:  # its end is closed: `_listen` sees it next
            self._waiting.clear()
        self._poll.modify(connection, select.POLLIN | (select.POLLOUT if self._waiting else 0))
