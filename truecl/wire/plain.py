"""The language of operator commands: JSON, for which they need nothing but the standard library."""

from typing import Any

import msgspec

from truecl.wire.codec import BadMessage, Codec
from truecl.wire.frame import brief
from truecl.wire.messages import LOCAL

PLAIN = Codec(LOCAL, json=True)
"""The messages of LOCAL as daemons read them from commands and write them to commands."""


def plain(message: Any) -> Any:
    """A message as a command without msgspec has it: an array, its name first."""
    return msgspec.to_builtins(message)


def typed(value: Any) -> Any:
    """The message that such an array is. Raises BadMessage."""
    try:
        return msgspec.convert(value, LOCAL)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadMessage(f"no message of this channel: {brief(error)}") from error
