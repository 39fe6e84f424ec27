"""What runs over a connection between `truecl.lab.vm.remote` (outside) and `truecl.lab.vm.agent` (in the node).

Frames: a kind (one byte), a length (four bytes, big-endian), the data. The first is the request, in JSON.
"""

import struct

AGENT_PORT = 7
"""Of the agent, on the management link."""
FENCE_PORT = 8
"""Of the way to the power switch, at the outer end of the management link."""
REQUEST, INPUT, WINDOW = b"q", b"i", b"w"
"""To the node. Input without data is the end of input; a window is 'ROWS COLUMNS'."""
OUTPUT, ERRORS, EXIT = b"o", b"e", b"x"
"""From the node. The exit code is in digits."""
MOST = 1 << 20
"""Bytes of a frame's data."""
PIECE = 1 << 16
"""Bytes read at once."""
_HEAD = struct.Struct("!cI")


class Broken(Exception):
    """The other side said what it must not, or left in the middle."""


def pack(kind: bytes, data: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(data)) + data


class Frames:
    """Bytes as they come; frames as they are whole."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Raises Broken at a frame that is too long."""
        self._buffer += data
        found = []
        while len(self._buffer) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._buffer)
            if length > MOST:
                raise Broken(f"a frame of {length} bytes")
            end = _HEAD.size + length
            if len(self._buffer) < end:
                break
            found.append((kind, self._buffer[_HEAD.size : end]))
            self._buffer = self._buffer[end:]
        return found
