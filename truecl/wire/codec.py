"""Frames and messages as bytes: a 4-byte big-endian length, then one msgpack value of a tagged union.

Nothing here does I/O. A `Framer` is fed whatever the transport gave and hands back whole frames; a `Codec` turns a
frame into a message of the one union that its channel allows. What comes from outside can only raise a `ProtocolFault`,
after which the connection is to be closed: nobody can find the next frame in a stream that lied about a length.
"""

from typing import Any

import msgspec

LENGTH_BYTES = 4
MAX_FRAME = 1 << 20
"""Bytes of one payload, the length not counted."""


class ProtocolFault(Exception):
    """The other side broke the protocol: close the connection. The text is one line for the operator."""


class FrameTooLarge(ProtocolFault):
    """A frame is longer than the limit of its channel."""


class BadMessage(ProtocolFault):
    """A frame is no message of its channel."""


def frame(payload: bytes, limit: int = MAX_FRAME) -> bytes:
    """One frame. Raises FrameTooLarge when the payload exceeds `limit` bytes."""
    if len(payload) > limit:
        raise FrameTooLarge(f"a message of {len(payload)} bytes exceeds the limit of {limit} bytes")
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class Framer:
    """Cuts a byte stream into frames. Holds at most one incomplete frame and what was last fed."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        """May be changed between frames; counts for every frame that was not yet taken."""
        self._buffer = bytearray()

    def put(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> bytes | None:
        """The next whole frame's payload, None when more bytes are needed.

        Raises FrameTooLarge as soon as a length says so, before the payload is there; again at every later call.
        """
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if length > self.limit:
            raise FrameTooLarge(f"a frame of {length} bytes exceeds the limit of {self.limit} bytes")
        end = LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[LENGTH_BYTES:end])
        del self._buffer[:end]
        return payload

    def feed(self, data: bytes) -> list[bytes]:
        """`put`, then all that `take` gives. Frames before a bad one in the same bytes are lost with it."""
        self.put(data)
        frames = []
        while (payload := self.take()) is not None:
            frames.append(payload)
        return frames

    @property
    def waiting(self) -> int:
        """Bytes held back until their frame is whole."""
        return len(self._buffer)


class Codec:
    """Messages of one channel. `union` is a tagged union of msgspec structs, such as `truecl.wire.messages.LOCAL`."""

    def __init__(self, union: object, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(union)

    def encode(self, message: Any) -> bytes:
        """A whole frame. Raises FrameTooLarge: that is this side's own fault, and nothing may be sent."""
        return frame(self._encoder.encode(message), self.limit)

    def pack(self, message: Any) -> bytes:
        """Without the length: for datagrams and journals."""
        return self._encoder.encode(message)

    def decode(self, payload: bytes) -> Any:
        """Raises BadMessage for anything that is not exactly one message of the union."""
        try:
            return self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            raise BadMessage(f"{len(payload)} bytes that are no message of this channel: {brief(error)}") from error


def brief(error: BaseException, longest: int = 200) -> str:
    """An error's text as one bounded, printable line."""
    text = str(error) or type(error).__name__
    return "".join(each if each.isprintable() else "?" for each in text[:longest])
