"""What exists only while a node leads: its followers' progress, the rounds, a transfer under way.

A Tenure changes nothing but itself: it fills a list of messages and answers questions; `Raft` decides.
"""

from truecl.core.contract import Send
from truecl.core.quorum import quorum_reached
from truecl.core.raft.log import Log
from truecl.core.raft.progress import Flow, Progress
from truecl.model.config import Timing
from truecl.model.ids import Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import MAX_PAYLOAD, Append, AppendAnswer, Entry, SnapshotAnswer, SnapshotPart, TimeoutNow

PART_PATIENCE = 0.5
"""Fraction of the election timeout after which an unanswered part of a snapshot is sent again."""

PACE = 0.3
"""Heartbeats are as far apart as the renewals that their rounds answer, but no further than this fraction of the
election timeout. (Who lives is hbd's matter.)"""


class Tenure:
    def __init__(
        self, me: NodeName, term: Term, log: Log, timing: Timing, lease_bound: float, last_round: int, now: float
    ) -> None:
        self._me = me
        self._log = log
        self._timing = timing
        self._pace = min(timing.renewal, timing.election * PACE)
        self._now = now
        self._membership: Membership | None = None
        self._peers: dict[NodeName, Progress] = {}
        self._round_to_voters = self._round_to_all = False
        self._first_round = last_round
        self.term = term
        self.lease_bound = lease_bound
        self.term_start = Index(log.last_index + 1)
        """Of the empty entry that the caller appends now."""
        self.round = last_round
        self.heartbeat_at = now
        self._committed = log.commit
        """At the latest heartbeat."""
        self.transfer_to: NodeName | None = None
        self.transfer_until = 0.0
        self._transfer_sent = False
        self._join(now)

    # ---- rounds -----------------------------------------------------------------------------------------------------

    def begin_round(self, now: float, observers: bool) -> int:
        """Everything sent from here on carries the new number; `flush` sends it even where there is nothing new."""
        self._now = now
        self.round += 1
        self._round_to_voters = True
        if observers:
            self._round_to_all = True
            self.heartbeat_at = now + self._pace
            self._committed = self._log.commit
        return self.round

    @property
    def round_acknowledged(self) -> int:
        """The latest round that a quorum of the latest appended membership acknowledged; 0: none of this tenure."""
        rounds = {node: peer.round for node, peer in self._peers.items()}
        rounds[self._me] = self.round
        reached = quorum_reached(self._log.membership, rounds, 0)
        return reached if reached > self._first_round else 0

    def heard_at(self, now: float) -> float:
        """Since when at the latest a quorum has been silent."""
        heard = {node: peer.heard_at for node, peer in self._peers.items()}
        heard[self._me] = now
        return quorum_reached(self._log.membership, heard, 0.0)

    # ---- commitment -------------------------------------------------------------------------------------------------

    def committable(self) -> Index:
        """The last entry that is committed by counting: on a quorum, and of this term (the paper's section 5.4.2)."""
        stored: dict[NodeName, int] = {node: peer.match for node, peer in self._peers.items()}
        stored[self._me] = self._log.last_index
        index = Index(quorum_reached(self._log.membership, stored, 0))
        return index if index >= self.term_start else self._log.commit

    # ---- answers ----------------------------------------------------------------------------------------------------

    def on_append_answer(self, node: NodeName, answer: AppendAnswer, now: float) -> bool:
        """Returns whether the answer makes sense."""
        peer = self._peers.get(node)
        if peer is None:
            return True
        log = self._log
        if answer.index > log.last_index or answer.index < 0 or answer.round > self.round:
            return False
        peer.heard_at = now
        if answer.round > peer.round:
            peer.round = answer.round
        if answer.accepted:
            peer.accepted(answer.index, log.first)
        else:
            peer.rejected(answer.index, log.hint(answer.hint_index, answer.hint_term, Index(log.first - 1)))
        return True

    def on_snapshot_answer(self, node: NodeName, answer: SnapshotAnswer, now: float) -> bool:
        peer = self._peers.get(node)
        if peer is None:
            return True
        peer.heard_at = now
        snapshot = peer.snapshot
        if snapshot is None or snapshot.index != answer.index:
            return True
        if not 0 <= answer.offset <= len(snapshot.data):
            return False
        if answer.offset > peer.snapshot_offset:
            peer.part_sent_at = float("-inf")
        # Less than what was sent: it lost the parts. Only patience resends, or doubled answers would multiply.
        peer.snapshot_offset = answer.offset
        return True

    # ---- what to send -----------------------------------------------------------------------------------------------

    def flush(self, now: float, sends: list[Send]) -> None:
        """Everything that is due to anybody."""
        self._now = now
        if self._membership is not self._log.membership:
            self._join(now)
        for node, peer in self._peers.items():
            due = self._round_to_all or (self._round_to_voters and node in self._log.membership.voters)
            self._feed(peer, due, sends)
        self._round_to_voters = self._round_to_all = False
        if self.transfer_to is not None and not self._transfer_sent:
            peer = self._peers[self.transfer_to]
            if peer.match == self._log.last_index:
                self._transfer_sent = True
                sends.append(Send(peer.node, TimeoutNow(self.term)))

    def _feed(self, peer: Progress, due: bool, sends: list[Send]) -> None:
        log = self._log
        last, sent = self._last_for(peer), False
        if peer.flow is not Flow.SNAPSHOT and peer.next <= last and self._compacted(peer):
            peer.begin_snapshot(log.snapshot)
            peer.part_sent_at = float("-inf")
        while peer.next <= last and peer.may_send:
            previous_term = log.term_at(Index(peer.next - 1))
            assert previous_term is not None, "otherwise it is fed a snapshot"
            entries = log.batch(peer.next)[: last + 1 - peer.next]
            sends.append(self._append(peer, Index(peer.next - 1), previous_term, entries))
            size = sum([len(entry.payload) for entry in entries])
            peer.sent(Index(peer.next - 1 + len(entries)), size)
            sent = True
        if peer.flow is Flow.SNAPSHOT:
            self._feed_snapshot(peer, sends)
        if sent or not (due or (peer.flow is Flow.REPLICATE and peer.commit_sent < log.commit)):
            return
        previous = Index(peer.next - 1)
        known = log.term_at(previous)
        if known is None or peer.flow is Flow.SNAPSHOT:
            previous, known = Index(0), Term(0)
        sends.append(self._append(peer, previous, known, ()))

    def _compacted(self, peer: Progress) -> bool:
        """Whether this log does not have any more what the peer needs next: a probe of that, if it was lost, will never
        be answered."""
        return peer.next < self._log.first or self._log.term_at(Index(peer.next - 1)) is None

    def _last_for(self, peer: Progress) -> Index:
        """The last entry that it may get now. A voter that is to be one no more learns so when that is committed: until
        then others may need its vote, for a log that does not have that entry."""
        at, leaving = self._log.leaving
        return Index(at - 1) if peer.node in leaving else self._log.last_index

    def _append(self, peer: Progress, previous: Index, previous_term: Term, entries: tuple[Entry, ...]) -> Send:
        peer.commit_sent = self._log.commit
        return Send(peer.node, Append(self.term, previous, previous_term, entries, self._log.commit, self.round))

    def _feed_snapshot(self, peer: Progress, sends: list[Send]) -> None:
        snapshot = peer.snapshot
        if snapshot is None or self._now - peer.part_sent_at < PART_PATIENCE * self._timing.election:
            return
        peer.part_sent_at = self._now
        offset = peer.snapshot_offset
        data = snapshot.data[offset : offset + MAX_PAYLOAD]
        part = SnapshotPart(
            self.term, snapshot.index, snapshot.term, snapshot.membership, len(snapshot.data), offset, data
        )
        sends.append(Send(peer.node, part))

    # ---- transfer ---------------------------------------------------------------------------------------------------

    def begin_transfer(self, to: NodeName, now: float) -> None:
        self.transfer_to = to
        self.transfer_until = now + self._timing.election
        self._transfer_sent = False

    def end_transfer(self) -> None:
        self.transfer_to = None

    # ---- membership -------------------------------------------------------------------------------------------------

    def _join(self, now: float) -> None:
        """Follows the latest appended membership: who is new is probed from the end of the log."""
        self._membership = self._log.membership
        old = self._peers
        self._peers = {}
        for node in self._membership.nodes:
            if node != self._me:
                self._peers[node] = old.get(node) or Progress(node, self.term_start, now)
        if self.transfer_to not in self._peers:
            self.end_transfer()

    def has_caught_up(self, node: NodeName, now: float) -> bool:
        """It answers, and has what was committed at the latest heartbeat: it will not hold up a commit for long."""
        peer = self._peers.get(node)
        if peer is None or peer.flow is not Flow.REPLICATE:
            return False
        return peer.match >= self._committed and now - peer.heard_at < self._timing.election

    def describe(self) -> tuple[Progress, ...]:
        """For status and tests; not to be changed."""
        return tuple(self._peers.values())
