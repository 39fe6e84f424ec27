"""What every message is, and what every daemon takes."""

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of all messages."""


class Subscribe(Message, frozen=True):
    """Tell me the present state, and every change after it."""


class Refused(Message, frozen=True):
    """To a command or daemon whose message cannot be taken: bad content, no right, too many."""

    reason: str
