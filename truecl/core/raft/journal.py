"""What the log keeps on disk: how records are written, and how they are checked when they are read back.

    raft.meta      'identity' -> Identity, 'ballot' -> Ballot
    raft.log       index      -> Entry
    raft.snapshot  index      -> StoredSnapshot (one record; the older one goes in the same transaction)

A journal is born with a snapshot at index 1 of term 1: the initial membership and an empty state. So every log of the
cluster begins alike, and a node that joined later with an empty journal gets the membership as it gets any snapshot.
"""

from typing import TypeVar

import msgspec

from truecl.core.contract import Drop, Put, Records, Save
from truecl.model.ids import Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import Entry, EntryKind

META, LOG, SNAPSHOT = "raft.meta", "raft.log", "raft.snapshot"
IDENTITY, BALLOT = "identity", "ballot"

T = TypeVar("T")

BIRTH_INDEX, BIRTH_TERM = Index(1), Term(1)


class JournalDamaged(Exception):
    """The journal of the replicated log cannot be trusted: records are missing, out of order or unreadable.

    This node refuses to vote with it. If the other nodes are well, move the journal away and add the node anew
    (lha_node remove, then lha_node add): it then gets everything from them. Never copy a journal from another node.
    """


class ForeignJournal(Exception):
    """The journal belongs to another cluster or to another node.

    It was copied, or the cluster or the node was renamed. Two nodes with one journal could vote twice. Put this node's
    own journal back, or move this one away and add the node anew (lha_node remove, then lha_node add).
    """


class Identity(msgspec.Struct, frozen=True, array_like=True):
    cluster: str
    node: NodeName


class Ballot(msgspec.Struct, frozen=True, array_like=True):
    """The newest term that this node has seen, and whom it voted for in it."""

    term: Term
    voted_for: NodeName | None


class StoredSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """The state machine after entry `index`, whose term is `term`, and the membership then in force."""

    index: Index
    term: Term
    membership: Membership
    data: bytes


class Loaded(msgspec.Struct, frozen=True):
    """A journal that passed all checks."""

    ballot: Ballot
    snapshot: StoredSnapshot
    first: Index
    """Index of the first of `entries`; at most snapshot.index + 1, so that nothing is missing between."""
    entries: list[Entry]


def birth(membership: Membership) -> Loaded:
    """What the journal of a founding member holds; an empty membership: one that waits for a snapshot."""
    if not membership.nodes:
        return Loaded(Ballot(Term(0), None), StoredSnapshot(Index(0), Term(0), membership, b""), Index(1), [])
    snapshot = StoredSnapshot(BIRTH_INDEX, BIRTH_TERM, membership, b"")
    return Loaded(Ballot(BIRTH_TERM, None), snapshot, Index(BIRTH_INDEX + 1), [])


def load(records: Records, cluster: str, node: NodeName) -> Loaded | None:
    """None: there is nothing yet. Raises JournalDamaged, ForeignJournal."""
    meta = records.get(META, {})
    if not any(records.get(bucket) for bucket in (META, LOG, SNAPSHOT)):
        return None
    identity = _decode(meta.get(IDENTITY), Identity, "identity")
    if identity != Identity(cluster, node):
        raise ForeignJournal(
            f"the journal is that of node {identity.node!r} of cluster {identity.cluster!r}, "
            f"this is node {node!r} of cluster {cluster!r}"
        )
    ballot = _decode(meta.get(BALLOT), Ballot, "ballot")
    snapshot = _load_snapshot(records)
    first, entries = _load_entries(records, snapshot)
    newest = entries[-1].term if entries else snapshot.term
    if newest > ballot.term:
        raise JournalDamaged(f"the log reaches term {newest}, the ballot only term {ballot.term}")
    return Loaded(ballot, snapshot, first, entries)


def _load_snapshot(records: Records) -> StoredSnapshot:
    stored = records.get(SNAPSHOT, {})
    if len(stored) != 1:
        raise JournalDamaged(f"{len(stored)} snapshots, there must be exactly one")
    ((key, value),) = stored.items()
    snapshot = _decode(value, StoredSnapshot, f"snapshot {key}")
    if snapshot.index != key or snapshot.index < 0 or snapshot.term < 0:
        raise JournalDamaged(f"snapshot {key} says it is snapshot {snapshot.index} of term {snapshot.term}")
    return snapshot


def _load_entries(records: Records, snapshot: StoredSnapshot) -> tuple[Index, list[Entry]]:
    stored = records.get(LOG, {})
    keys = [key for key in stored if isinstance(key, int)]
    if len(keys) != len(stored):
        raise JournalDamaged("an entry of the log has no number")
    if not keys:
        return Index(snapshot.index + 1), []
    keys.sort()
    if not 1 <= keys[0] <= snapshot.index + 1:
        raise JournalDamaged(f"the log begins at entry {keys[0]}, the snapshot ends at {snapshot.index}")
    entries: list[Entry] = []
    term = Term(0)
    for expected, key in enumerate(keys, keys[0]):
        if key != expected:
            raise JournalDamaged(f"entry {expected} is missing, entry {key} is there")
        entry = _decode(stored[key], Entry, f"entry {key}")
        if entry.term < term:
            raise JournalDamaged(f"entry {key} is of term {entry.term}, the one before it of term {term}")
        if entry.kind is EntryKind.MEMBERSHIP:
            _decode(entry.payload, Membership, f"membership of entry {key}")
        term = entry.term
        if key == snapshot.index and term != snapshot.term:
            raise JournalDamaged(f"entry {key} is of term {term}, the snapshot there of term {snapshot.term}")
        if key > snapshot.index and term < snapshot.term:
            raise JournalDamaged(f"entry {key} is of term {term}, the snapshot before it of term {snapshot.term}")
        entries.append(entry)
    if keys[-1] < snapshot.index:
        raise JournalDamaged(f"the log ends at entry {keys[-1]}, before its snapshot at {snapshot.index}")
    return Index(keys[0]), entries


def _decode(data: bytes | None, kind: type[T], what: str) -> T:
    if data is None:
        raise JournalDamaged(f"the {what} is missing")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise JournalDamaged(f"the {what} cannot be read: {error}") from error


class Writer:
    """Collects what must be durable before anything of this step leaves the node."""

    def __init__(self) -> None:
        self._saves: list[Save] = []
        self._encode = msgspec.msgpack.Encoder().encode

    def identity(self, cluster: str, node: NodeName) -> None:
        self._saves.append(Put(META, IDENTITY, self._encode(Identity(cluster, node))))

    def ballot(self, term: Term, voted_for: NodeName | None) -> None:
        self._saves.append(Put(META, BALLOT, self._encode(Ballot(term, voted_for))))

    def entry(self, index: Index, entry: Entry) -> None:
        self._saves.append(Put(LOG, index, self._encode(entry)))

    def drop_entries(self, first: Index | None, last: Index | None) -> None:
        self._saves.append(Drop(LOG, first, last))

    def snapshot(self, snapshot: StoredSnapshot) -> None:
        self._saves.append(Put(SNAPSHOT, snapshot.index, self._encode(snapshot)))
        if snapshot.index > 0:
            self._saves.append(Drop(SNAPSHOT, None, snapshot.index - 1))

    def take(self) -> tuple[Save, ...]:
        if not self._saves:
            return ()
        saves = tuple(self._saves)
        self._saves.clear()
        return saves
