"""The log of one node: its snapshot, the entries after it (and some before it, for slow followers), what is committed.

Every change is handed to the journal's Writer in the same call, so memory and disk cannot tell different stories.
"""

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from truecl.core.raft.journal import BIRTH_INDEX, Loaded, StoredSnapshot, Writer
from truecl.model.ids import Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, Entry, EntryKind

RETAINED_ENTRIES = 1000
RETAINED_BYTES = 1024 * 1024
"""Bounds of what is kept below a snapshot: a follower that lags by less is caught up without one."""


def _term(entry: Entry) -> Term:
    return entry.term


class CommittedConflict(Exception):
    """Another node's log contradicts what this node knows to be committed.

    This cannot happen while every journal is intact: one of them was lost, copied or changed from outside. This node
    stops before it spreads. Compare `lha_stat` of all nodes, and do not start it with another journal.
    """


class Log:
    """Indexes run from `first` to `last_index`; `first` is at most snapshot.index + 1."""

    def __init__(self, loaded: Loaded, writer: Writer) -> None:
        self._writer = writer
        self._entries = loaded.entries
        self._memberships: list[tuple[Index, Membership]] = []
        self.snapshot = loaded.snapshot
        self.first = loaded.first
        self.commit = loaded.snapshot.index
        self.bytes_after_snapshot = 0
        """Payload bytes of the entries after the snapshot."""
        for index, entry in enumerate(self._entries, self.first):
            if index > self.snapshot.index:
                self._note(Index(index), entry)

    @property
    def last_index(self) -> Index:
        return Index(self.first + len(self._entries) - 1)

    @property
    def last_term(self) -> Term:
        return self._entries[-1].term if self._entries else self.snapshot.term

    @property
    def membership(self) -> Membership:
        """The latest *appended* one: it is in force before it is committed."""
        return self._memberships[-1][1] if self._memberships else self.snapshot.membership

    @property
    def born(self) -> bool:
        """Whether any leader wrote into it."""
        return self.last_index > BIRTH_INDEX

    @property
    def settled(self) -> bool:
        """Whether the membership in force is committed."""
        return not self._memberships or self._memberships[-1][0] <= self.commit

    @property
    def leaving(self) -> tuple[Index, tuple[NodeName, ...]]:
        """The voters that the membership in force, not committed yet, makes voters no more; and where it stands."""
        if self.settled:
            return self.last_index, ()
        at, membership = self._memberships[-1]
        before = self.membership_at(Index(at - 1))
        return at, tuple(voter for voter in before.voters if voter not in membership.voters)

    def membership_at(self, index: Index) -> Membership:
        """In force once entry `index` (not before the snapshot) is applied."""
        found = self.snapshot.membership
        for at, membership in self._memberships:
            if at <= index:
                found = membership
        return found

    def term_at(self, index: Index) -> Term | None:
        """None: not in this log, or no longer. The place before the first entry of all has term 0."""
        place = index - self.first
        if 0 <= place < len(self._entries):
            return self._entries[place].term
        if index == self.snapshot.index:
            return self.snapshot.term
        return Term(0) if index == 0 else None

    def entry(self, index: Index) -> Entry:
        """Raises IndexError for an index that is not in `first`..`last_index`."""
        if index < self.first:
            raise IndexError(index)
        return self._entries[index - self.first]

    def batch(self, start: Index) -> tuple[Entry, ...]:
        """Entries from `start` on, as many as one message takes and at least one if there is any."""
        place = start - self.first
        stop = min(len(self._entries), place + MAX_BATCH_ENTRIES)
        size = 0
        for end in range(place, stop):
            size += len(self._entries[end].payload)
            if size > MAX_BATCH_BYTES and end > place:
                return tuple(self._entries[place:end])
        return tuple(self._entries[place:stop])

    def is_current(self, last_index: Index, last_term: Term) -> bool:
        """Whether a log that ends so is at least as complete as this one (the paper's section 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def hint(self, index: Index, term: Term, floor: Index) -> Index:
        """The last place from `floor` to `index` whose term is at most `term`: no later one matches a log with that.

        It skips a whole term at a time instead of one entry (the paper's section 5.3, last paragraphs). `floor` itself
        is not looked at.
        """
        low = max(0, floor + 1 - self.first)
        high = min(index, self.last_index) + 1 - self.first
        if high <= low:
            return floor
        place = bisect_right(self._entries, term, low, high, key=_term)
        return floor if place == low else Index(self.first + place - 1)

    def uncommitted_bytes(self) -> int:
        """Payload bytes of the entries that wait for a quorum."""
        return sum([len(entry.payload) for entry in self._entries[self.commit + 1 - self.first :]])

    def append(self, entries: Sequence[Entry]) -> None:
        index = self.last_index
        for entry in entries:
            index = Index(index + 1)
            self._entries.append(entry)
            self._writer.entry(index, entry)
            self._note(index, entry)

    def merge(self, previous: Index, entries: Sequence[Entry]) -> Index:
        """Takes a leader's entries after `previous`, which is in this log; returns the index of the last of them.

        What is there already stays; from the first conflict on, this log gives way. Raises CommittedConflict.
        """
        index = previous
        for place, entry in enumerate(entries):
            index = Index(index + 1)
            known = self.term_at(index)
            if known == entry.term:
                continue
            if known is not None:
                self._truncate(index)
            self.append(entries[place:])
            return Index(previous + len(entries))
        return index

    def compact(self, upto: Index, data: bytes, retain: int = RETAINED_ENTRIES) -> None:
        """Puts a snapshot of the state after `upto` (committed, after the last snapshot) in the entries' place.

        At most `retain` entries and RETAINED_BYTES stay below it. Raises ValueError.
        """
        term = self.term_at(upto)
        if term is None or not self.snapshot.index < upto <= self.commit:
            raise ValueError(f"no snapshot at {upto}: the last is at {self.snapshot.index}, committed is {self.commit}")
        for index in range(self.snapshot.index + 1, upto + 1):
            self.bytes_after_snapshot -= len(self._entries[index - self.first].payload)
        self.snapshot = StoredSnapshot(upto, term, self.membership_at(upto), data)
        self._memberships = [(at, membership) for at, membership in self._memberships if at > upto]
        self._writer.snapshot(self.snapshot)
        first, size = upto + 1, 0
        while first > self.first and upto + 1 - first < retain:
            size += len(self._entries[first - 1 - self.first].payload)
            if size > RETAINED_BYTES:
                break
            first -= 1
        if first > self.first:
            del self._entries[: first - self.first]
            self.first = Index(first)
            self._writer.drop_entries(None, Index(first - 1))

    def install(self, snapshot: StoredSnapshot) -> None:
        """Takes a leader's snapshot, which is ahead of what is committed here.

        Entries after it stay only if this log has the snapshot's own last entry: otherwise they are of another history.
        """
        if snapshot.index <= self.commit:
            raise CommittedConflict(f"snapshot at {snapshot.index}, committed is {self.commit}")
        if self.term_at(snapshot.index) == snapshot.term:
            dropped = snapshot.index - self.first + 1
            self._writer.drop_entries(None, snapshot.index)
            del self._entries[:dropped]
        else:
            self._writer.drop_entries(None, None)
            self._entries.clear()
        self.first = Index(snapshot.index + 1)
        self.snapshot = snapshot
        self.commit = snapshot.index
        self._writer.snapshot(snapshot)
        self._memberships = []
        self.bytes_after_snapshot = 0
        for index, entry in enumerate(self._entries, self.first):
            self._note(Index(index), entry)

    def _truncate(self, first: Index) -> None:
        if first <= self.commit:
            raise CommittedConflict(f"entry {first} would be replaced, committed is {self.commit}")
        for entry in self._entries[first - self.first :]:
            self.bytes_after_snapshot -= len(entry.payload)
        del self._entries[first - self.first :]
        self._writer.drop_entries(first, None)
        self._memberships = [(at, membership) for at, membership in self._memberships if at < first]

    def _note(self, index: Index, entry: Entry) -> None:
        self.bytes_after_snapshot += len(entry.payload)
        if entry.kind is EntryKind.MEMBERSHIP:
            self._memberships.append((index, msgspec.msgpack.decode(entry.payload, type=Membership)))
