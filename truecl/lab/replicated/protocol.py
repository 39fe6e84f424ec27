"""As much of PostgreSQL's protocol (version 3.0) as a client needs that sends plain SQL and is trusted. No I/O.

A message is a kind (one byte), a length (four bytes, big-endian, itself included) and the rest; the first one of a
client has no kind.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

VERSION = 3 << 16
AUTHENTICATION, READY, ROW, COMPLETE, ERROR = b"R", b"Z", b"D", b"C", b"E"
QUERY, END = b"Q", b"X"
TRUSTED = 0
"""Of an authentication message: nothing more is asked."""
MOST = 1 << 24
"""Bytes of a message; more is no answer of the servers here."""


class Refused(Exception):
    """The server's word, or that it speaks something else."""


def greeting(user: str, database: str) -> bytes:
    words = b"".join(word.encode() + b"\0" for word in ("user", user, "database", database)) + b"\0"
    return struct.pack("!II", 8 + len(words), VERSION) + words


def query(sql: str) -> bytes:
    """One message; several statements in it are one transaction."""
    text = sql.encode() + b"\0"
    return QUERY + struct.pack("!I", 4 + len(text)) + text


def farewell() -> bytes:
    return END + struct.pack("!I", 4)


@dataclass
class Answer:
    """What came since the last question (or the greeting)."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    complete: bool = False
    """The statement was carried out, and what it committed is committed."""
    ready: bool = False
    """The next question may be asked."""


class Conversation:
    """The server's side, out of the bytes that come."""

    def __init__(self) -> None:
        self._buffer = b""
        self.answer = Answer()

    def asked(self) -> None:
        self.answer = Answer()

    def feed(self, data: bytes) -> Answer:
        """The answer as far as it is known. Raises Refused."""
        self._buffer += data
        for kind, body in self._messages():
            if kind == AUTHENTICATION and struct.unpack_from("!I", body)[0] != TRUSTED:
                raise Refused("the server wants a password")
            if kind == ERROR:
                raise Refused(_words(body))
            if kind == ROW:
                self.answer.rows.append(tuple(_columns(body)))
            self.answer.complete |= kind == COMPLETE
            self.answer.ready |= kind == READY
        return self.answer

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        while len(self._buffer) >= 5:
            length = 1 + struct.unpack_from("!I", self._buffer, 1)[0]
            if not 5 <= length <= MOST:
                raise Refused("this is not PostgreSQL's protocol")
            if len(self._buffer) < length:
                return
            kind, body, self._buffer = self._buffer[:1], self._buffer[5:length], self._buffer[length:]
            yield kind, body


def _words(body: bytes) -> str:
    """The message of an error: fields of a letter and a text each."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    return fields.get(b"M", "an error without words")


def _columns(body: bytes) -> Iterator[str]:
    place = 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        length = struct.unpack_from("!i", body, place)[0]
        place += 4
        yield body[place : place + length].decode("utf-8", "replace") if length >= 0 else ""
        place += max(0, length)
