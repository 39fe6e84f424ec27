"""lha_node add and remove."""

from collections.abc import Iterable
from typing import NamedTuple

from truecl.commands.node import USAGE, Ended, Node, Steps
from truecl.model.ids import LinkName, NodeName

TIMEOUT = 300.0
"""Seconds: somebody has to carry the bundle to the new node."""


class NewNode(NamedTuple):
    """What the operator says of it."""

    name: NodeName
    addresses: dict[LinkName, str]
    observer: bool = False
    witness: bool = False


def parse_addresses(texts: Iterable[str]) -> dict[LinkName, str]:
    """`LINK=ADDRESS` each. Raises Ended."""
    found: dict[LinkName, str] = {}
    for text in texts:
        link, equals, address = text.partition("=")
        if not equals or not link or not address or link in found:
            raise Ended(USAGE, f"--address {text!r}: expected LINK=ADDRESS, once for each link")
        found[LinkName(link)] = address
    return found


def add(node: Node, wanted: NewNode, timeout: float, wait: bool) -> Steps:
    raise NotImplementedError
    yield


def remove(node: Node, name: NodeName, timeout: float, wait: bool) -> Steps:
    raise NotImplementedError
    yield
