"""Messages as bytes: in each frame one value of a tagged union, in msgpack or JSON.

What comes from outside can only raise a `ProtocolFault`.
"""

from typing import Any

import msgspec

from truecl.wire.frame import MAX_FRAME, ProtocolFault, brief, frame


class BadMessage(ProtocolFault):
    """A frame is no message of its channel."""


class Codec:
    """Messages of one channel. `union` is a tagged union of msgspec structs, such as `truecl.wire.messages.LOCAL`.

    json -- where a side reads with the standard library alone.
    """

    def __init__(self, union: object, limit: int = MAX_FRAME, json: bool = False) -> None:
        self.limit = limit
        language = msgspec.json if json else msgspec.msgpack
        self._encoder: msgspec.json.Encoder | msgspec.msgpack.Encoder = language.Encoder()
        self._decoder: msgspec.json.Decoder[Any] | msgspec.msgpack.Decoder[Any] = language.Decoder(union)

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
