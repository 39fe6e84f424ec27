"""Copies of an application's replicated storage: orders, and the question whether one may go on alone."""

from truecl.model.ids import AppName, Generation, Term
from truecl.model.replica import Layout
from truecl.wire.messages.base import Message


class OrderReplica(Message, frozen=True):
    """What a node's copy of an application's replicated resource is to be, beneath any instance. State-based: repeated
    until the node reports it. A node that has an older instance of the application open takes none."""

    verb: str
    """'up': there, and secondary; it need not look for its peer. 'connect': and it looks for its peer. 'down'."""
    app: AppName
    generation: Generation
    """The newest grant of the application: with this order nothing older can start on the node any more."""
    term: Term
    layout: Layout


class AskPeerOutdated(Message, frozen=True):
    """DRBD's fence-peer handler to its clusterd, and on to the master: may this node's copy go on without the peer's?
    Passed on again until PeerOutdated is there or who asked is gone; `id` is unique at its origin."""

    id: str
    app: AppName
    generation: Generation
    """Of the instance that is primary here, or is being promoted."""
    at: float = 0.0
    """By the wall clock, seconds since the epoch: for people."""


class PeerOutdated(Message, frozen=True):
    """What the handler is to exit with (SAFETY.md section 5): 4, the log calls the peer's copy outdated; 7, and the
    peer's node was fenced; 6, this node's own copy is not current; 1, neither."""

    id: str
    code: int
    reason: str
    generation: Generation
    """As asked: the token."""
