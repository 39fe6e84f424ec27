"""Frames on a byte stream: a 4-byte big-endian length, then so many bytes. Plain Python, quick to import.

Nothing here does I/O. A `Framer` is fed whatever the transport gave and hands back whole frames. What comes from
outside can only raise a `ProtocolFault`, after which the connection is to be closed: nobody can find the next frame in
a stream that lied about a length.
"""

VERSIONS = (1, 2)
"""The oldest and the newest format that this code speaks (docs/upgrade.md)."""
LENGTH_BYTES = 4
MAX_FRAME = 1 << 20
"""Bytes of one payload, the length not counted."""
MAX_HELLO = 2048
"""The same until the two sides have greeted each other."""


class ProtocolFault(Exception):
    """The other side broke the protocol: close the connection. The text is one line for the operator."""


class FrameTooLarge(ProtocolFault):
    """A frame is longer than the limit of its channel."""


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


def brief(error: BaseException, longest: int = 200) -> str:
    """An error's text as one bounded, printable line."""
    text = str(error) or type(error).__name__
    return "".join(each if each.isprintable() else "?" for each in text[:longest])
