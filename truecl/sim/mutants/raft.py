"""Leaves rules of the replicated log out."""

from random import Random

from msgspec.structs import replace

from truecl.core.contract import Core, Records
from truecl.core.lockd import Lockd
from truecl.core.raft import Raft, Role
from truecl.core.raft.election import Tally
from truecl.core.raft.tenure import Tenure
from truecl.model.config import Configuration
from truecl.model.ids import LOCKD, BootId, Index, NodeName, Term
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead
from truecl.wire.raft import PreVote, RaftMessage, Vote, VoteAnswer


class Eager(Raft):
    """Pre-votes leave candidates of one term hardly a chance to meet."""

    def _become_pre_candidate(self) -> None:
        super()._become_pre_candidate()
        if self.role is Role.PRE_CANDIDATE:
            self._become_candidate(False)


class VotesTwice(Eager):
    def _on_vote(self, node: NodeName, message: Vote) -> bool:
        self.voted_for = None
        return super()._on_vote(node, message)


class CountsStaleVotes(Eager):
    def receive(self, node: NodeName, message: RaftMessage, now: float) -> None:
        if isinstance(message, VoteAnswer) and message.term < self.term:
            message = replace(message, term=self.term)
        super().receive(node, message, now)


class AnyLogWillDo(Raft):
    def _on_pre_vote(self, node: NodeName, message: PreVote) -> bool:
        return super()._on_pre_vote(node, replace(message, last_term=Term(1 << 40), last_index=Index(1 << 40)))

    def _on_vote(self, node: NodeName, message: Vote) -> bool:
        return super()._on_vote(node, replace(message, last_term=Term(1 << 40), last_index=Index(1 << 40)))


class CommitsAlone(Raft):
    def _advance_commit(self, tenure: Tenure) -> None:
        self.log.commit = self.log.last_index


class ForgetsOthersLeases(Raft):
    def _on_vote_answer(self, node: NodeName, message: VoteAnswer) -> None:
        super()._on_vote_answer(node, replace(message, age=1e6))

    def _become_leader(self) -> None:
        super()._become_leader()
        if self._tenure is not None:
            self._tenure.lease_bound = self._now - 1e6


class NeverWaits(Raft):
    @property
    def ready(self) -> bool:
        return self._tenure is not None


class ForgetsAtRestart(Raft):
    def start(self, now: float) -> None:
        super().start(now)
        self.acknowledged_at = now - 1e6


class ForgetsInANewTerm(Raft):
    def _enter(self, term: Term, voted_for: NodeName | None) -> None:
        super()._enter(term, voted_for)
        self.acknowledged_at = self._now - 1e6


class SaysItInThePreVote(Raft):
    """The age that a voter sends is that of its pre-vote, whatever it has acknowledged since."""

    _then: float | None = None

    def _on_pre_vote(self, node: NodeName, message: PreVote) -> bool:
        self._then = self.acknowledged_at
        return super()._on_pre_vote(node, message)

    def _on_vote(self, node: NodeName, message: Vote) -> bool:
        kept = self.acknowledged_at
        self.acknowledged_at = kept if self._then is None else self._then
        granted = super()._on_vote(node, message)
        self.acknowledged_at = kept
        return granted


class OwnRoundsDoNotCount(Raft):
    def _begin_round(self, tenure: Tenure, observers: bool) -> int:
        before = self.acknowledged_at
        number = super()._begin_round(tenure, observers)
        self.acknowledged_at = before
        return number


class _EarliestTally(Tally):
    @property
    def lease_bound(self) -> float:
        return min(self._granted.values())


class TakesTheEarliest(Raft):
    def _stand(self) -> None:
        super()._stand()
        self._tally.__class__ = _EarliestTally


def with_raft(raft: type[Raft]) -> Assemble:
    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Lockd(me, configuration, records, random, boot)
        core.raft.__class__ = raft
        return core

    return instead(LOCKD, build)


def without_memory(
    me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random, now: float
) -> Core:
    """The last node votes like the others and keeps nothing, like a witness without a disk."""
    kept = {} if me == configuration.cluster.nodes[-1].name else records
    return Lockd(me, configuration, kept, random, boot)


MUTANTS = (
    Mutant("vote twice in a term", "SAFETY.md 1", assemble=with_raft(VotesTwice), adjust=faults.elections, budget=60),
    Mutant("count a stale vote", "SAFETY.md 1", assemble=with_raft(CountsStaleVotes), adjust=faults.straying,
           nodes=3, budget=60),
    Mutant("vote for any log", "SAFETY.md 1", assemble=with_raft(AnyLogWillDo), adjust=faults.elections),
    Mutant("commit alone", "SAFETY.md 1", assemble=with_raft(CommitsAlone)),
    Mutant("lead before an entry of the own term", "SAFETY.md 2", assemble=with_raft(NeverWaits),
           adjust=faults.elections, nodes=3, seen_by="tests/model/test_revocation.py"),
    Mutant("forget leases of earlier leaders", "SAFETY.md 2", assemble=with_raft(ForgetsOthersLeases),
           adjust=faults.unfenced),
    Mutant("forget acknowledged leases at a restart", "SAFETY.md 2", assemble=with_raft(ForgetsAtRestart),
           adjust=faults.forgetful,
           nodes=3, budget=70),
    Mutant("forget acknowledged leases in a new term", "SAFETY.md 2", assemble=with_raft(ForgetsInANewTerm),
           adjust=faults.unfenced),
    Mutant("send the age of the pre-vote", "SAFETY.md 2", assemble=with_raft(SaysItInThePreVote),
           adjust=faults.elections, nodes=3, seen_by="tests/core/raft/test_raft.py"),
    Mutant("a voter that keeps nothing", "SAFETY.md 1", assemble=instead(LOCKD, without_memory),
           adjust=faults.elections, nodes=3),
    Mutant("forget the own rounds", "SAFETY.md 2", assemble=with_raft(OwnRoundsDoNotCount), adjust=faults.unfenced,
           seen_by="tests/core/raft/test_raft.py"),
    Mutant("take the earliest acknowledgement", "SAFETY.md 2", assemble=with_raft(TakesTheEarliest),
           adjust=faults.forgetful,
           nodes=3),
)  # fmt: skip
