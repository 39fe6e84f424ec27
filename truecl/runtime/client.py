"""A command's way to a daemon of its own node: a blocking socket and JSON, quick to import.

A message is the array that `truecl.wire.messages` lays down for it, with its name first: `["Form", true]`. (No msgspec,
which takes longer to import than all the rest of a command, and no pathlib, which is a tenth of it.)
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from truecl.model.ids import DaemonName
from truecl.wire.frame import MAX_FRAME, MAX_HELLO, VERSIONS, Framer, ProtocolFault, brief, frame

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
        self._framer = Framer(MAX_HELLO)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect(f"{os.fspath(run)}/{daemon}.sock", who)
        except (NoDaemon, NotAllowed, NoAnswer):
            self._socket.close()
            raise

    def send(self, message: list[Any]) -> None:
        """Raises NoDaemon when it went away, FrameTooLarge for a request over 1 MiB."""
        try:
            self._socket.sendall(_encoded(message))
        except OSError as error:
            raise NoDaemon(f"{self._daemon} went away: {error.strerror}") from error

    def receive(self, timeout: float | None) -> list[Any]:
        """The next message within `timeout` seconds; None: whenever. Raises NoAnswer, or NoDaemon at the end."""
        match self._value(timeout):
            case [str(name), *fields]:
                return [name, *fields]
            case {"type": "refusal", "reason": str(reason)}:
                raise NoDaemon(f"{self._daemon} refuses: {brief(ValueError(reason))}")
        raise NoDaemon(f"{self._daemon} answers in a language of another release")

    def replies(self, silence: float | None) -> Iterator[list[Any]]:
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
            self._socket.sendall(_encoded(_hello(who)))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoDaemon(f"{self._daemon} is not running on this node (nobody answers at {path})") from error
        except PermissionError as error:
            raise NotAllowed(f"you may not use {path}: be root, or a member of group truecl to look") from error
        except (BrokenPipeError, ConnectionResetError):
            # Refused before it was greeted; the reason waits to be read.
            pass
        except OSError as error:
            raise NoDaemon(f"{self._daemon} does not answer at {path}: {error.strerror or error}") from error
        match self._value(HELLO_TIMEOUT):
            case {"type": "local-welcome"}:
                self._framer.limit = MAX_FRAME
            case {"type": "refusal", "reason": str(reason)}:
                raise NotAllowed(f"{self._daemon} refuses: {brief(ValueError(reason))}")
            case _:
                raise NoDaemon(f"{self._daemon} answered something else than a welcome")

    def _value(self, timeout: float | None) -> Any:
        payload = self._payload(timeout)
        try:
            return json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise NoDaemon(f"{self._daemon} answers in a language of another release: {brief(error)}") from error

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


def _hello(who: str) -> dict[str, Any]:
    """`truecl.wire.session.LocalHello`."""
    return {"type": "local-hello", "who": who, "kind": "command", "lowest": VERSIONS[0], "highest": VERSIONS[1]}


def _encoded(value: Any) -> bytes:
    return frame(json.dumps(value, separators=(",", ":")).encode())


def ask(
    daemon: DaemonName, request: list[Any], timeout: float | None, who: str, run: str | os.PathLike[str] = RUN
) -> Iterator[list[Any]]:
    """Sends `request` and gives each reply as it comes; closes when the iterator is done with or thrown away.

    `timeout`: the longest silence in seconds. Raises NoDaemon (also when the daemon goes away), NotAllowed, NoAnswer.
    """
    with Conversation(daemon, who, run) as conversation:
        conversation.send(request)
        yield from conversation.replies(timeout)
