"""The messages of the replicated log, between lockd and lockd.

Any of them may be lost, delayed, doubled or reordered: each carries the term, and what else makes a late one harmless.
Names after Ongaro and Ousterhout 2014 (Append: AppendEntries, SnapshotPart: InstallSnapshot) and Ongaro's thesis of the
same year (pre-vote 9.6, leadership transfer 3.10).
"""

from enum import IntEnum
from typing import Union

import msgspec

from truecl.model.ids import BootId, Index, Term
from truecl.model.membership import Membership

MAX_PAYLOAD = 256 * 1024
"""Bytes of one entry's payload, and of one part of a snapshot."""

MAX_BATCH_ENTRIES = 1024
MAX_BATCH_BYTES = 384 * 1024
"""Bounds of one Append: with the frame around it, it stays below the 512 KiB that a session lets through."""

MAX_SNAPSHOT = 64 * 1024 * 1024
"""Bytes of one snapshot."""


class EntryKind(IntEnum):
    COMMAND = 0
    """`payload` is for the state machine."""
    EMPTY = 1
    """What a leader begins its term with, so that it learns what is committed (the paper's section 8)."""
    MEMBERSHIP = 2
    """`payload` is a Membership in msgpack, in force from the moment it is appended and durable."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of the log; its index is its place."""

    term: Term
    kind: EntryKind
    payload: bytes


class PreVote(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Would you vote for me in term `asked`? Changes nothing at either end."""

    term: Term
    asked: Term
    last_index: Index
    last_term: Term


class PreVoteAnswer(msgspec.Struct, frozen=True, tag=True, array_like=True):
    term: Term
    """The voter's own."""
    asked: Term
    granted: bool


class Vote(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Vote for me in `term`."""

    term: Term
    last_index: Index
    last_term: Term
    transfer: bool
    """The leader itself asked for this election, so its lease with the voters does not stand against it."""


class VoteAnswer(msgspec.Struct, frozen=True, tag=True, array_like=True):
    term: Term
    granted: bool
    age: float
    """Seconds since the voter last acknowledged any leader (SAFETY.md section 2), by its own clock."""


class Append(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The leader's entries after `previous_index`, or none; every Append is a heartbeat of round `round`.

    `previous_index` 0 fits every log: a heartbeat that asks nothing about it.
    """

    term: Term
    previous_index: Index
    previous_term: Term
    entries: tuple[Entry, ...]
    commit: Index
    round: int


class AppendAnswer(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Acknowledges the leader of `term` and its round, whether or not the entries fitted.

    accepted: the logs are equal up to `index`. Otherwise the entry at `index` (the leader's `previous_index`) was
    missing or of another term, and no entry after `hint_index`, whose term is `hint_term`, can match.
    """

    term: Term
    round: int
    accepted: bool
    index: Index
    hint_index: Index
    hint_term: Term


class SnapshotPart(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Bytes `offset`... of the snapshot at `index`; the receiver keeps the parts until it has `size` bytes."""

    term: Term
    index: Index
    index_term: Term
    membership: Membership
    size: int
    offset: int
    data: bytes


class SnapshotAnswer(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The receiver has the first `offset` bytes. A whole, installed snapshot is answered by an AppendAnswer."""

    term: Term
    index: Index
    offset: int


class TimeoutNow(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The leader hands over: begin an election at once."""

    term: Term


RaftMessage = Union[
    PreVote, PreVoteAnswer, Vote, VoteAnswer, Append, AppendAnswer, SnapshotPart, SnapshotAnswer, TimeoutNow
]


class Letter(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What two voters put every message in (SAFETY.md section 1): who wrote it to whom, each in which life.

    A life begins with each start of a lockd; one that was written to an earlier life acknowledges nobody now.
    """

    life: BootId
    """Of the sender's lockd."""
    to: BootId
    """The receiver's, as far as the sender has heard of it; '' before that."""
    counts: bool
    """The sender's latest appended membership counts the receiver as an elector."""
    message: RaftMessage
