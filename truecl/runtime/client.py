"""A command's way to a daemon of its own node: a plain blocking socket, no Twisted, quick to import.

(No pathlib either: with the urllib and ipaddress that it brings, it is a tenth of what a command needs to start.)
"""

import os
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from truecl.model.ids import DaemonName
from truecl.wire.codec import MAX_FRAME, Codec, Framer, ProtocolFault, brief
from truecl.wire.messages import LOCAL
from truecl.wire.session import LOCAL_HELLO, MAX_HELLO, LocalHello, LocalWelcome, Refusal

RUN = "/run/truecl"
HELLO_TIMEOUT = 5.0


class NoDaemon(Exception):
    """There is no daemon to talk to, or it went away. Exit code 3."""

    exit_code = 3


class NotAllowed(Exception):
    """The daemon refuses this user. Exit code 1."""

    exit_code = 1


class NoAnswer(Exception):
    """The daemon took the request and did not answer in time. Exit code 4."""

    exit_code = 4


class Conversation:
    """One connection to `daemon` of this node, as the command `who`. Raises NoDaemon, NotAllowed or NoAnswer."""

    def __init__(self, daemon: DaemonName, who: str, run: str | os.PathLike[str] = RUN) -> None:
        self._daemon = daemon
        self._codec = Codec(LOCAL)
        self._framer = Framer(MAX_HELLO)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect(f"{os.fspath(run)}/{daemon}.sock", who)
        except (NoDaemon, NotAllowed, NoAnswer):
            self._socket.close()
            raise

    def send(self, message: Any) -> None:
        """Raises NoDaemon when it went away, FrameTooLarge for a request over 1 MiB."""
        try:
            self._socket.sendall(self._codec.encode(message))
        except OSError as error:
            raise NoDaemon(f"{self._daemon} went away: {error.strerror}") from error

    def receive(self, timeout: float | None) -> Any:
        """The next message within `timeout` seconds; None: whenever. Raises NoAnswer, or NoDaemon at the end."""
        payload = self._payload(timeout)
        try:
            return self._codec.decode(payload)
        except ProtocolFault as fault:
            raise NoDaemon(f"{self._daemon} answers in a language of another release: {brief(fault)}") from fault

    def replies(self, silence: float | None) -> Iterator[Any]:
        """All that comes, until the daemon closes. Raises NoAnswer after `silence` seconds without any."""
        while True:
            yield self.receive(silence)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self, path: str, who: str) -> None:
        try:
            self._socket.settimeout(HELLO_TIMEOUT)
            self._socket.connect(path)
            self._socket.sendall(LOCAL_HELLO.encode(LocalHello(who, "command")))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoDaemon(f"{self._daemon} is not running on this node (nobody answers at {path})") from error
        except PermissionError as error:
            raise NotAllowed(f"you may not use {path}: be root, or a member of group truecl to look") from error
        except (BrokenPipeError, ConnectionResetError):
            # Refused before it was greeted; the reason waits to be read.
            pass
        except OSError as error:
            raise NoDaemon(f"{self._daemon} does not answer at {path}: {error.strerror or error}") from error
        answer = self._hello(HELLO_TIMEOUT)
        if isinstance(answer, Refusal):
            raise NotAllowed(f"{self._daemon} refuses: {brief(ValueError(answer.reason))}")
        if not isinstance(answer, LocalWelcome):
            raise NoDaemon(f"{self._daemon} answered something else than a welcome")
        self._framer.limit = MAX_FRAME

    def _hello(self, timeout: float) -> Any:
        payload = self._payload(timeout)
        try:
            return LOCAL_HELLO.decode(payload)
        except ProtocolFault as fault:
            raise NoDaemon(f"{self._daemon} answers in a language of another release: {brief(fault)}") from fault

    def _payload(self, timeout: float | None) -> bytes:
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while (payload := self._framer.take()) is None:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
                data = self._socket.recv(65536)
                if not data:
                    raise NoDaemon(f"{self._daemon} closed the connection")
                self._framer.put(data)
        except TimeoutError as error:
            raise NoAnswer(f"{self._daemon} did not answer within {timeout:g} s") from error
        except OSError as error:
            raise NoDaemon(f"{self._daemon} went away: {error.strerror}") from error
        except ProtocolFault as fault:
            raise NoDaemon(f"{self._daemon} answers in a language of another release: {brief(fault)}") from fault
        return payload


def ask(
    daemon: DaemonName, request: Any, timeout: float | None, who: str, run: str | os.PathLike[str] = RUN
) -> Iterator[Any]:
    """Sends `request` and gives each reply as it comes; closes when the iterator is done with or thrown away.

    `timeout`: the longest silence in seconds. Raises NoDaemon (also when the daemon goes away), NotAllowed, NoAnswer.
    """
    with Conversation(daemon, who, run) as conversation:
        conversation.send(request)
        yield from conversation.replies(timeout)
