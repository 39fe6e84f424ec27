"""Terms, roles and elections: the half of `Raft` that decides who leads.

Only the `_become_...` methods change the role, the term and the vote.
"""

from random import Random

import msgspec

from truecl.core.contract import Records, Send
from truecl.core.quorum import electors, may_lead
from truecl.core.raft import election
from truecl.core.raft.journal import BIRTH_INDEX, StoredSnapshot, Writer, birth, load
from truecl.core.raft.log import Log
from truecl.core.raft.step import TURNS, Role
from truecl.core.raft.tenure import Tenure
from truecl.model.config import Timing
from truecl.model.ids import Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import Entry, EntryKind, PreVote, PreVoteAnswer, RaftMessage, TimeoutNow, Vote, VoteAnswer

MAX_EARLY = 16
"""Requests that came too early and are kept; more than there can be voters."""


class Roles:
    """The state of one node, and its turns. To be used as `Raft`."""

    def __init__(
        self,
        me: NodeName,
        cluster: str,
        membership: Membership,
        records: Records,
        random: Random,
        timing: Timing,
    ) -> None:
        self.me = me
        self._random = random
        self._timing = timing
        self._writer = Writer()
        self._sends: list[Send] = []
        loaded = load(records, cluster, me)
        if loaded is None:
            loaded = birth(membership)
            self._writer.identity(cluster, me)
            self._writer.ballot(loaded.ballot.term, loaded.ballot.voted_for)
            self._writer.snapshot(loaded.snapshot)
        self.log = Log(loaded, self._writer)
        self.term: Term = loaded.ballot.term
        self.voted_for: NodeName | None = loaded.ballot.voted_for
        self.role = Role.FOLLOWER
        self.leader: NodeName | None = None
        self.applied: Index = self.log.snapshot.index
        """The last entry handed out to be applied."""
        self.acknowledged_at = 0.0
        """When this node last acknowledged any leader, itself included; after a restart, the start."""
        self.retired = False
        """It leads no more in this life, whatever its log says."""
        self.faults = 0
        """Messages that no correct node sends in this state; they change nothing."""
        self._install: StoredSnapshot | None = loaded.snapshot if loaded.snapshot.index > BIRTH_INDEX else None
        self._tenure: Tenure | None = None
        self._tally = election.Tally(self.log.membership)
        self._dead: dict[NodeName, None] = {}
        self._early: dict[NodeName, PreVote | Vote] = {}
        self._now = 0.0
        self._heard_at = 0.0
        self._patience = timing.election
        self._deadline = 0.0
        self._last_round = 0

    # ---- turns: nothing else writes role, term, voted_for, leader ---------------------------------------------------

    def _become_follower(self, term: Term, leader: NodeName | None) -> None:
        """`leader`: who is heard right now as the leader of `term`; None where nobody is known."""
        led = self.role is Role.LEADER
        self._turn(Role.FOLLOWER)
        if term != self.term:
            self._enter(term, None)
        self.leader = leader
        self._tenure = None
        if leader is not None:
            self._hear_leader()
        elif led:
            # Who decides alone need not wait for anybody: it stands again in the newer term at once.
            self._deadline = self._now if self.alone else self._now + self._patience

    def _become_pre_candidate(self) -> None:
        self._turn(Role.PRE_CANDIDATE)
        self.leader = None
        self._stand()
        self._tally.count(self.me, True, self.acknowledged_at)
        if self._tally.won:
            self._become_candidate(False)
            return
        log = self.log
        self._ask(PreVote(self.term, Term(self.term + 1), log.last_index, log.last_term))

    def _become_candidate(self, transfer: bool) -> None:
        self._turn(Role.CANDIDATE)
        self.leader = None
        self._enter(Term(self.term + 1), self.me)
        self._stand()
        self._tally.count(self.me, True, self.acknowledged_at)
        if self._tally.won:
            self._become_leader()
            return
        self._ask(Vote(self.term, self.log.last_index, self.log.last_term, transfer))

    def _become_leader(self) -> None:
        self._turn(Role.LEADER)
        self.leader = self.me
        self._early.clear()
        bound = self._tally.lease_bound
        tenure = Tenure(self.me, self.term, self.log, self._timing, bound, self._last_round, self._now)
        self._tenure = tenure
        self.log.append([self._first_entry()])
        self._begin_round(tenure, observers=True)

    def _first_entry(self) -> Entry:
        """Empty; but the first of all logs writes down the founding membership. So whoever knows more than how the log
        was born knows its membership: a founder that starts late may have been told of nodes that came since."""
        if not self.log.born:
            return Entry(self.term, EntryKind.MEMBERSHIP, msgspec.msgpack.encode(self.log.membership))
        return Entry(self.term, EntryKind.EMPTY, b"")

    def _turn(self, role: Role) -> None:
        if role not in TURNS[self.role]:
            raise AssertionError(f"no turn from {self.role} to {role}")
        self.role = role

    def _enter(self, term: Term, voted_for: NodeName | None) -> None:
        self.term, self.voted_for = term, voted_for
        self._writer.ballot(term, voted_for)
        self._draw_patience()

    # ---- of two voters ----------------------------------------------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Its latest appended membership excludes the other of two voters, or there is no other: it decides alone."""
        return electors(self.log.membership) == (self.me,)

    @property
    def may_lead(self) -> bool:
        return not self.retired and may_lead(self.log.membership, self.me)

    def _become_sole_leader(self, membership: Membership, payloads: tuple[bytes, ...]) -> None:
        """In a new term, by its own decree; the entry that says so is durable before anything else leaves this node."""
        self._become_follower(self.term, None)
        self._turn(Role.CANDIDATE)
        self._enter(Term(self.term + 1), self.me)
        entry = Entry(self.term, EntryKind.MEMBERSHIP, msgspec.msgpack.encode(membership))
        self.log.append([entry, *(Entry(self.term, EntryKind.COMMAND, payload) for payload in payloads)])
        self._tally = election.Tally(membership)
        self._tally.count(self.me, True, self.acknowledged_at)
        self._become_leader()

    # ---- what turns share -------------------------------------------------------------------------------------------

    def _begin_round(self, tenure: Tenure, observers: bool) -> int:
        """A leader acknowledges its own rounds when it begins them."""
        self.acknowledged_at = self._now
        self._last_round = tenure.begin_round(self._now, observers)
        return self._last_round

    def _stand(self) -> None:
        """Begins to count; who fails tries again at a time of its own."""
        self._tally = election.Tally(self.log.membership)
        wait = election.RETRY + (1 - election.RETRY) * self._random.random()
        self._deadline = self._now + wait * self._timing.election

    def _draw_patience(self) -> None:
        """How long this node waits for a leader: the randomness that splits few votes (the paper's section 5.2)."""
        self._patience = self._timing.election * (1 + self._random.random())

    def _hear_leader(self) -> None:
        self._heard_at = self._now
        self._deadline = self._now + self._patience
        if self._early:
            self._early.clear()

    def _in_lease(self) -> bool:
        """Whether a leader was heard, or leads here, too recently to vote against it."""
        if self.role is Role.LEADER:
            return True
        return self.leader is not None and self._now - self._heard_at < self._timing.election

    def _ask(self, message: PreVote | Vote) -> None:
        for voter in electors(self.log.membership):
            if voter != self.me:
                self._send(voter, message)

    def _send(self, node: NodeName, message: RaftMessage) -> None:
        self._sends.append(Send(node, message))

    # ---- being asked ------------------------------------------------------------------------------------------------

    def _on_request(self, node: NodeName, message: PreVote | Vote) -> bool:
        """Returns whether it was granted. A node votes even if its own log does not (yet) make it a voter: see
        `_is_current`.

        What an excluded node asks changes nothing at all, its term neither: this node decides without it.
        """
        if node == self.log.membership.excluded:
            return False
        asked = message.asked if isinstance(message, PreVote) else message.term
        handed_over = isinstance(message, Vote) and message.transfer
        restarted = node == self.leader  # it would not ask if it still led
        if asked > self.term and not handed_over and not restarted and self._in_lease():
            if self.role is Role.FOLLOWER and (node in self._early or len(self._early) < MAX_EARLY):
                self._early[node] = message
            return False
        if isinstance(message, PreVote):
            return self._on_pre_vote(node, message)
        return self._on_vote(node, message)

    def _on_pre_vote(self, node: NodeName, message: PreVote) -> bool:
        """Of two that stand at the same moment, the later in the succession gives way, so that one wins at once."""
        granted = message.asked > self.term and self._is_current(message)
        self._send(node, PreVoteAnswer(self.term, message.asked, granted))
        if granted and self.role is Role.PRE_CANDIDATE and election.precedes(self.log.membership, node, self.me):
            self._become_follower(self.term, None)
        if granted and self.role is Role.FOLLOWER:
            self._deadline = max(self._deadline, self._now + election.YIELD * self._timing.election)
        elif message.asked > self.term and not granted and self._is_only_choice():
            self._become_pre_candidate()
        return granted

    def _is_only_choice(self) -> bool:
        """Of two voters, the one whose log is ahead: the other, which stands, can never win."""
        both = electors(self.log.membership)
        return self.role is Role.FOLLOWER and len(both) == 2 and self.me in both and self.may_lead

    def _on_vote(self, node: NodeName, message: Vote) -> bool:
        if message.term > self.term:
            self._become_follower(message.term, None)
        free = self.voted_for is None and self.leader is None
        granted = message.term == self.term and (self.voted_for == node or free) and self._is_current(message)
        if granted and self.voted_for is None:
            self._enter(self.term, node)
        if granted and self.role is Role.FOLLOWER:
            self._deadline = self._now + self._patience
        self._send(node, VoteAnswer(self.term, granted, self._now - self.acknowledged_at))
        return granted

    def _is_current(self, message: PreVote | Vote) -> bool:
        """Whether the log of who asks is good enough for this node's vote.

        Who needs a vote that this node's own log does not give it yet has a log that is ahead: it holds the entry that
        made this node a voter. Else a founding member that never heard of any leader could win with the votes of new
        nodes, which know no more than it does. And who waits for the first snapshot is a voter nowhere.
        """
        log = self.log
        if self.me in log.membership.voters:
            return log.is_current(message.last_index, message.last_term)
        return log.last_index > 0 and (message.last_term, message.last_index) > (log.last_term, log.last_index)

    def _reconsider(self) -> bool:
        """Looks again at the requests that came too early; whether any of them was granted."""
        early = tuple(self._early.items())
        self._early.clear()
        granted = False
        for node, message in early:
            granted = self._on_request(node, message) or granted
        return granted

    # ---- being answered ---------------------------------------------------------------------------------------------

    def _on_pre_vote_answer(self, node: NodeName, message: PreVoteAnswer) -> None:
        if message.asked != self.term + 1:
            return
        self._tally.count(node, message.granted, self._now)
        if self._tally.won:
            self._become_candidate(False)
        elif self._tally.lost:
            self._become_follower(self.term, None)

    def _on_vote_answer(self, node: NodeName, message: VoteAnswer) -> None:
        # The voter's clock may be fast: its age counts less the drift, and never moves the bound ahead of now.
        age = max(0.0, message.age - self._timing.drift)
        self._tally.count(node, message.granted, self._now - age)
        if self._tally.won:
            self._become_leader()
        elif self._tally.lost:
            self._become_follower(self.term, None)

    def _on_timeout_now(self, node: NodeName, message: TimeoutNow) -> None:
        if node == self.leader and self.may_lead:
            self._become_candidate(True)
