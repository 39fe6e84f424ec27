"""One node of the replicated log: terms, roles, elections, replication (Ongaro and Ousterhout 2014).

    FOLLOWER ---------> PRE_CANDIDATE   no leader for an election timeout, or hbd says that it is dead
    FOLLOWER ---------> CANDIDATE       the leader hands over (TimeoutNow)
    PRE_CANDIDATE ----> CANDIDATE       a quorum would vote for it
    CANDIDATE --------> LEADER          a quorum voted for it
    any --------------> FOLLOWER        a leader or a higher term appears; an election is lost; a leader hears no quorum

`Raft` is pure: the methods change its state and gather what must be done; `take()` hands that out as a Step, once after
each event. It is embedded in the core of lockd, which carries the Step on in the contract's order: saves, then sends,
then the rest.

Voters do not vote against a leader that they heard within an election timeout, so no node that merely lost its link can
depose one. Two things lift that: the leader hands over, or this node's own hbd declares the leader dead. A request that
comes too early is kept and looked at again then.

Leases (SAFETY.md section 2): `acknowledged_at` is when this node last acknowledged any leader; its age travels in the
real vote, and the winner takes the latest among those counted as its `lease_bound`.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from truecl.core.contract import Records
from truecl.core.quorum import may_lead
from truecl.core.raft import election
from truecl.core.raft.changes import Changes
from truecl.core.raft.log import RETAINED_ENTRIES
from truecl.core.raft.step import Change, Committed, Role, Snapshot, Step
from truecl.core.raft.tenure import Tenure
from truecl.model.config import Timing
from truecl.model.ids import Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import (
    MAX_PAYLOAD,
    MAX_SNAPSHOT,
    Append,
    AppendAnswer,
    Entry,
    EntryKind,
    PreVote,
    PreVoteAnswer,
    RaftMessage,
    SnapshotAnswer,
    SnapshotPart,
    TimeoutNow,
    Vote,
    VoteAnswer,
)

MAX_UNCOMMITTED = 1024
MAX_UNCOMMITTED_BYTES = 8 * 1024 * 1024
"""A leader takes no more proposals while so much waits for a quorum."""


class Raft(Changes):
    """One node of the log of cluster `cluster`.

    `membership` counts only where `records` are empty: the founding members all pass the same one; a node that is added
    later passes Membership(), and gets the real one from the leader. Of `timing` it uses election (the least time
    without a leader before a follower stands, the random one is up to twice that), heartbeat and drift.
    Raises JournalDamaged, ForeignJournal; `receive` raises CommittedConflict.
    """

    def __init__(
        self,
        me: NodeName,
        cluster: str,
        membership: Membership,
        records: Records,
        random: Random,
        timing: Timing,
    ) -> None:
        super().__init__(me, cluster, membership, records, random, timing)
        self._round_told = 0
        self._told = (self.role, self.term, self.leader)

    # ---- for the user: what is --------------------------------------------------------------------------------------

    @property
    def membership(self) -> Membership:
        """The latest appended one."""
        return self.log.membership

    @property
    def lease_bound(self) -> float | None:
        """While leading: no lease of an earlier leader counts from later than this moment; otherwise None."""
        return self._tenure.lease_bound if self._tenure is not None else None

    @property
    def next_round(self) -> int:
        """While leading: the number of the round that begins next; otherwise 0."""
        return self._tenure.round + 1 if self._tenure is not None else 0

    @property
    def transferring(self) -> bool:
        """Leads, and is handing over."""
        return self._tenure is not None and self._tenure.transfer_to is not None

    # ---- for the user: what happens ---------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Once, before anything else."""
        self._now = self._heard_at = self.acknowledged_at = now
        self._draw_patience()
        self._deadline = now + self._patience
        if self.alone:
            self.campaign(now)

    def receive(self, node: NodeName, message: RaftMessage, now: float) -> None:
        """Raises CommittedConflict."""
        self._now = now
        self._dead.pop(node, None)
        if isinstance(message, (PreVote, Vote)):
            self._on_request(node, message)
            return
        if message.term > self.term:
            leads = isinstance(message, (Append, SnapshotPart, TimeoutNow))
            self._become_follower(message.term, node if leads else None)
        elif message.term < self.term and not isinstance(message, PreVoteAnswer):
            if isinstance(message, (Append, SnapshotPart)):
                # A leader of the past learns so that it is one, or it would wait for this node for ever.
                self._send(node, AppendAnswer(self.term, 0, False, Index(0), Index(0), Term(0)))
            return
        answer = TABLE[self.role].get(type(message))
        if answer is None:
            self.faults += 1
            return
        answer(self, node, message)

    def wake(self, now: float) -> None:
        """The timer, which only wakes: the clock decides."""
        self._now = now
        if self._tenure is not None:
            self._lead(self._tenure)
            return
        if self._early and not self._in_lease():
            self._reconsider()
        if now >= self._deadline and self._tenure is None:
            self.campaign(now)

    def propose(self, payloads: tuple[bytes, ...], now: float) -> Index | None:
        """Appends commands, at consecutive indexes; returns the first one's.

        None: this node does not lead, hands over, or too much waits for a quorum already. That an index was returned
        does not mean that it will be committed: only `Committed` with the same term says so. Raises ValueError for a
        payload above MAX_PAYLOAD, and for more at once than may ever wait.
        """
        self._now = now
        size = sum(map(len, payloads))
        if max(map(len, payloads), default=0) > MAX_PAYLOAD:
            raise ValueError(f"a payload of more than {MAX_PAYLOAD} bytes")
        if len(payloads) > MAX_UNCOMMITTED or size > MAX_UNCOMMITTED_BYTES:
            raise ValueError(f"{len(payloads)} payloads of {size} bytes at once")
        tenure, log = self._tenure, self.log
        if tenure is None or tenure.transfer_to is not None or not payloads:
            return None
        if log.last_index - log.commit + len(payloads) > MAX_UNCOMMITTED:
            return None
        if log.uncommitted_bytes() + size > MAX_UNCOMMITTED_BYTES:
            return None
        first = Index(log.last_index + 1)
        log.append([Entry(self.term, EntryKind.COMMAND, payload) for payload in payloads])
        return first

    def start_round(self, now: float) -> int:
        """Asks all voters whether this node still leads; `Step.completed_round` says when a quorum answered.

        Returns the round's number (they rise during the life of this object), 0 where this node does not lead. A round
        that was not completed when the leadership ends never is.
        """
        self._now = now
        if self._tenure is None:
            return 0
        return self._begin_round(self._tenure, observers=False)

    def campaign(self, now: float) -> None:
        """Stands for election, with a pre-vote; nothing if this node leads already or may not."""
        self._now = now
        if self._tenure is not None:
            return
        if self.may_lead:
            self._become_pre_candidate()
        else:
            self._deadline = now + self._patience

    def transfer(self, to: NodeName, now: float) -> bool:
        """Hands the leadership over to another voter, once it has everything; given up after an election timeout.

        False: this node does not lead, or `to` is nobody else that may.
        """
        self._now = now
        if self._tenure is None or to == self.me or not may_lead(self.log.membership, to):
            return False
        self._tenure.begin_transfer(to, now)
        return True

    def retire(self, now: float) -> None:
        """Lead no more, and never stand again in this life."""
        self._now = now
        self.retired = True
        self._become_follower(self.term, None)

    def peer_died(self, node: NodeName, now: float) -> None:
        """hbd's verdict. If that was the leader, the voters follow one another in standing for election."""
        self._now = now
        if node == self.me:
            return
        self._dead[node] = None
        expected = self.leader if self.leader is not None else self.voted_for
        if self.role is not Role.FOLLOWER or node != expected:
            return
        self._become_follower(self.term, None)
        if self._reconsider() or not self.may_lead:
            return
        place = election.rank(self.log.membership, self.me, self._dead)
        wait = place * election.STAGGER * (1 + self._random.random() / 2)
        self._deadline = min(self._deadline, now + wait * self._timing.election)
        if place == 0:
            self.campaign(now)

    def peer_lives(self, node: NodeName, now: float) -> None:
        """hbd sees it again."""
        self._now = now
        self._dead.pop(node, None)

    def compact(self, upto: Index, data: bytes, retain: int = RETAINED_ENTRIES) -> None:
        """`data` is the state machine after entry `upto`, which was handed out: the log before it may go.

        About `retain` entries stay for followers that lag a little. Raises ValueError.
        """
        if upto > self.applied:
            raise ValueError(f"no snapshot at {upto}: applied is {self.applied}")
        if len(data) > MAX_SNAPSHOT:
            raise ValueError(f"a snapshot of {len(data)} bytes, {MAX_SNAPSHOT} are the most")
        self.log.compact(upto, data, retain)

    def take(self) -> Step:
        """Everything that came of the events since the last take()."""
        completed = 0
        if self._tenure is not None:
            self._advance_commit(self._tenure)
            self._tenure.flush(self._now, self._sends)
            reached = self._tenure.round_acknowledged
            if reached > self._round_told:
                self._round_told = completed = reached
        sends = tuple(self._sends)
        self._sends.clear()
        snapshot = None
        if self._install is not None:
            snapshot = Snapshot(self._install.index, self._install.term, self._install.data)
            self._install = None
        committed = self._hand_out()
        state = (self.role, self.term, self.leader)
        change = None
        if state != self._told:
            self._told = state
            change = Change(*state)
        return Step(self._writer.take(), sends, snapshot, committed, change, completed, self._wake_at())

    def _hand_out(self) -> tuple[Committed, ...]:
        if self.applied >= self.log.commit:
            return ()
        committed = self._commands(self.log.commit)
        self.applied = self.log.commit
        return committed

    def _commands(self, upto: Index) -> tuple[Committed, ...]:
        """After those that were handed out."""
        commands = []
        for number in range(self.applied + 1, upto + 1):
            entry = self.log.entry(Index(number))
            if entry.kind is EntryKind.COMMAND:
                commands.append(Committed(Index(number), entry.term, entry.payload))
        return tuple(commands)

    def not_applied(self) -> tuple[Committed, ...]:
        """The commands of this log that were not handed out, committed or not. Another leader may replace them."""
        return self._commands(self.log.last_index)

    def _wake_at(self) -> float | None:
        if self._tenure is not None:
            return self._tenure.heartbeat_at
        if self._early:
            return min(self._deadline, self._heard_at + self._timing.election)
        return self._deadline if self.may_lead else None

    # ---- leading ----------------------------------------------------------------------------------------------------

    def _lead(self, tenure: Tenure) -> None:
        now = self._now
        if now - tenure.heard_at(now) >= self._timing.election:
            self._become_follower(self.term, None)
            return
        if tenure.transfer_to is not None and now >= tenure.transfer_until:
            tenure.end_transfer()
        if now >= tenure.heartbeat_at:
            self._begin_round(tenure, observers=True)

    def _advance_commit(self, tenure: Tenure) -> None:
        index = tenure.committable()
        if index > self.log.commit:
            self.log.commit = index

    def _on_append_answer(self, node: NodeName, message: AppendAnswer) -> None:
        if self._tenure is not None and not self._tenure.on_append_answer(node, message, self._now):
            self.faults += 1

    def _on_snapshot_answer(self, node: NodeName, message: SnapshotAnswer) -> None:
        if self._tenure is not None and not self._tenure.on_snapshot_answer(node, message, self._now):
            self.faults += 1

    def _on_answer_to_the_past(self, node: NodeName, message: AppendAnswer | SnapshotAnswer) -> None:
        """Of one that led this same term until it heard no quorum: whoever answers now takes it for the leader still,
        and would wait for as long as this node does. (Of a newer term it is a refusal; there it voted for nobody.)"""
        if self.leader is None and self.voted_for == self.me:
            self.campaign(self._now)

    def _ignore(self, node: NodeName, message: RaftMessage) -> None:
        """Late: it answers what this node was in this same term."""


_Answer = Callable[[Raft, NodeName, Any], None]

_FOLLOW: dict[type, _Answer] = {Append: Raft._on_append, SnapshotPart: Raft._on_snapshot_part}
_LATE_ELECTION: dict[type, _Answer] = {PreVoteAnswer: Raft._ignore, VoteAnswer: Raft._ignore}
_LATE_TENURE: dict[type, _Answer] = {AppendAnswer: Raft._ignore, SnapshotAnswer: Raft._ignore}

TABLE: dict[Role, dict[type, _Answer]] = {
    Role.FOLLOWER: {
        **_FOLLOW,
        **_LATE_ELECTION,
        AppendAnswer: Raft._on_answer_to_the_past,
        SnapshotAnswer: Raft._on_answer_to_the_past,
        TimeoutNow: Raft._on_timeout_now,
    },
    Role.PRE_CANDIDATE: {
        **_FOLLOW,
        **_LATE_ELECTION,
        **_LATE_TENURE,
        PreVoteAnswer: Raft._on_pre_vote_answer,
        TimeoutNow: Raft._ignore,
    },
    Role.CANDIDATE: {**_FOLLOW, **_LATE_ELECTION, VoteAnswer: Raft._on_vote_answer},
    Role.LEADER: {
        **_LATE_ELECTION,
        AppendAnswer: Raft._on_append_answer,
        SnapshotAnswer: Raft._on_snapshot_answer,
    },
}
"""Messages of the own term, by role. What is missing is a protocol fault: a second leader of one term, an answer to an
Append in a term that this node never led. PreVote and Vote have rules of their own in every role (Roles._on_request).
"""
