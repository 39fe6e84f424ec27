"""Following a leader: its entries and its snapshot come in. A part of `Raft`."""

import msgspec

from truecl.core.raft.journal import BIRTH_INDEX, StoredSnapshot
from truecl.core.raft.log import CommittedConflict
from truecl.core.raft.roles import Roles
from truecl.model.ids import Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import (
    MAX_BATCH_ENTRIES,
    MAX_PAYLOAD,
    MAX_SNAPSHOT,
    Append,
    AppendAnswer,
    EntryKind,
    SnapshotAnswer,
    SnapshotPart,
)


class _Incoming:
    """A snapshot of which parts have arrived."""

    __slots__ = ("term", "index", "index_term", "size", "data")

    def __init__(self, part: SnapshotPart) -> None:
        self.term, self.index, self.index_term, self.size = part.term, part.index, part.index_term, part.size
        self.data = bytearray()

    def fits(self, part: SnapshotPart) -> bool:
        mine = (self.term, self.index, self.index_term, self.size)
        return mine == (part.term, part.index, part.index_term, part.size)


class Following(Roles):
    """To be used as `Raft`. Its handlers of messages raise CommittedConflict."""

    _incoming: _Incoming | None = None

    def _acknowledge(self, node: NodeName) -> bool:
        """Whether `node` leads this term as far as this node knows; if so it counts as heard and acknowledged."""
        if self.leader == node:
            self._hear_leader()
        elif self.leader is None:
            self._become_follower(self.term, node)
        else:
            self.faults += 1
            return False
        self.acknowledged_at = self._now
        return True

    def _on_append(self, node: NodeName, message: Append) -> None:
        if not _sound(message):
            self.faults += 1
            return
        if not self._acknowledge(node):
            return
        log = self.log
        previous, previous_term, entries = message.previous_index, message.previous_term, message.entries
        known = log.commit - previous
        if known > 0:
            # What is committed here is in every leader's log: only what comes after it can be news.
            previous, previous_term, entries = log.commit, Term(0), entries[known:]
        elif log.term_at(previous) != previous_term:
            if previous == log.commit:
                raise CommittedConflict(f"the leader {node} has entry {previous} of term {previous_term}")
            hint = log.hint(previous, previous_term, log.commit)
            hint_term = log.term_at(hint)
            assert hint_term is not None
            self._send(node, AppendAnswer(self.term, message.round, False, previous, hint, hint_term))
            return
        last = log.merge(previous, entries) if entries else previous
        if message.commit > log.commit:
            log.commit = max(log.commit, min(message.commit, last))
        self._send(node, AppendAnswer(self.term, message.round, True, last, last, Term(0)))

    def _on_snapshot_part(self, node: NodeName, message: SnapshotPart) -> None:
        if message.size > MAX_SNAPSHOT or not 0 <= message.index_term <= message.term or message.index < 1:
            self.faults += 1
            return
        if not self._acknowledge(node):
            return
        if message.index <= self.log.commit:
            self._incoming = None
            self._accept(node, self.log.commit)
            return
        incoming = self._incoming
        if message.offset == 0 and (incoming is None or not incoming.fits(message)):
            incoming = self._incoming = _Incoming(message)
        if incoming is None or not incoming.fits(message):
            self._send(node, SnapshotAnswer(self.term, message.index, 0))
            return
        if message.offset == len(incoming.data):
            incoming.data += message.data
        if len(incoming.data) > incoming.size:
            self._incoming = None
            self.faults += 1
            return
        if len(incoming.data) < incoming.size:
            self._send(node, SnapshotAnswer(self.term, message.index, len(incoming.data)))
            return
        self._incoming = None
        snapshot = StoredSnapshot(message.index, message.index_term, message.membership, bytes(incoming.data))
        self.log.install(snapshot)
        self.applied = message.index
        self._install = snapshot if snapshot.index > BIRTH_INDEX else None
        self._accept(node, message.index)

    def _accept(self, node: NodeName, index: Index) -> None:
        self._send(node, AppendAnswer(self.term, 0, True, index, index, Term(0)))


def _sound(message: Append) -> bool:
    """What every leader keeps to: bounds, and terms that rise up to its own."""
    if message.previous_index < 0 or message.round < 0 or len(message.entries) > MAX_BATCH_ENTRIES:
        return False
    term = message.previous_term
    for entry in message.entries:
        if entry.term < term or len(entry.payload) > MAX_PAYLOAD:
            return False
        term = entry.term
        if entry.kind is EntryKind.MEMBERSHIP:
            try:
                msgspec.msgpack.decode(entry.payload, type=Membership)
            except (msgspec.MsgspecError, ValueError):
                return False
    return term <= message.term
