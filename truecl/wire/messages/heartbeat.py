"""hbd: what goes over the links, and what its subscribers see of the peers."""

import msgspec

from truecl.model.ids import BootId, LinkName, NodeName
from truecl.wire.messages.base import Message


class Heartbeat(Message, frozen=True):
    """On one link, to one peer. `hears_you`: this node heard that peer on this link within the detection time."""

    link: LinkName
    boot: BootId
    sequence: int
    hears_you: bool


class Goodbye(Message, frozen=True):
    """The sender's hbd stops in good order."""

    link: LinkName
    boot: BootId
    sequence: int


class LinkView(msgspec.Struct, frozen=True, array_like=True):
    name: LinkName
    up: bool


class NodeView(msgspec.Struct, frozen=True, array_like=True):
    """One peer as this node's hbd sees it. `alive` False from the start until it is first heard."""

    node: NodeName
    boot: BootId | None
    alive: bool
    links: tuple[LinkView, ...]
    left: bool = False
    """It said goodbye."""
    heard: float = 0.0
    """Of one that fell silent: when the last of it came in, by this node's clock; 0 otherwise."""
    twin: bool = False
    """A second machine says that it is this node. It is not listened to."""


class View(Message, frozen=True):
    """hbd to subscribers: all peers, this node not among them."""

    nodes: tuple[NodeView, ...]
