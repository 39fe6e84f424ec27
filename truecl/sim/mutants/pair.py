"""Leaves rules of two nodes out (SAFETY.md section 1)."""

from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from truecl.core.contract import Core, Records
from truecl.core.duel import Duel
from truecl.core.lockd import Lockd
from truecl.core.pair import Pair
from truecl.core.quorum import electors
from truecl.core.raft import Raft
from truecl.core.raft.log import Log
from truecl.model.config import Configuration
from truecl.model.ids import LOCKD, BootId, NodeName, Term
from truecl.model.membership import Membership
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead
from truecl.wire.messages import Confirmed, ConfirmOff, FenceResult, NodeView
from truecl.wire.raft import Letter, PreVote, RaftMessage, Vote

# ---- who may exclude ------------------------------------------------------------------------------------------------


class NeedsNoCurrency(Pair):
    def tend(self, now: float, leaving: bool | None) -> float | None:
        self.current = True
        return super().tend(now, leaving)


class ReadsOldLetters(Pair):
    def received(self, node: NodeName, message: Letter | RaftMessage, now: float) -> None:
        if isinstance(message, Letter):
            message = replace(message, to=self.life)
        super().received(node, message, now)


class BelievesAnyWord(Pair):
    """The operator's, of a node that cannot know."""

    def vouch(self, word: ConfirmOff, now: float) -> Confirmed:
        self.current = True
        return super().vouch(word, now)


class BelievesAnyFence(Duel):
    def fenced(self, result: FenceResult, now: float) -> None:
        super().fenced(replace(result, off=True), now)


class NeverVoids(Pair):
    def heard(self, node: NodeName, now: float) -> None: ...

    def seen(self, view: tuple[NodeView, ...], now: float) -> None:
        heard = self._hbd_hears
        self._hbd_hears = True
        super().seen(view, now)
        if not any(each.node == self.raft.other for each in view):
            self._hbd_hears = heard


class LeavingLeads(Raft):
    """About to be excluded, it stands and fences as if it stayed."""

    @property
    def may_lead(self) -> bool:
        return self.me in electors(self.log.membership)


# ---- exclusion and inclusion ----------------------------------------------------------------------------------------


class ExcludesInTheSameTerm(Raft):
    def _become_sole_leader(self, membership: Membership, payloads: tuple[bytes, ...]) -> None:
        self.term = Term(self.term - 1)
        super()._become_sole_leader(membership, payloads)


class StartsAlone(Raft):
    """Whatever its log says."""

    def start(self, now: float) -> None:
        super().start(now)
        if self.other is not None and self.may_lead and not self.alone:
            self.exclude((), now)


class HeedsTheExcluded(Raft):
    def _on_request(self, node: NodeName, message: PreVote | Vote) -> bool:
        if node != self.log.membership.excluded:
            return super()._on_request(node, message)
        return self._on_pre_vote(node, message) if isinstance(message, PreVote) else self._on_vote(node, message)


class IncludesTooEarly(Raft):
    @property
    def caught_up(self) -> bool:
        return self.ready and self.log.membership.excluded is not None


class InForceOnceCommitted(Log):
    """The inclusion alone."""

    @property
    def membership(self) -> Membership:
        latest = super().membership
        if self.settled or latest.excluded is not None:
            return latest
        before = self._memberships[-2][1] if len(self._memberships) > 1 else self.snapshot.membership
        return before if before.excluded is not None else latest


class LetsGoAtOnce(Raft):
    """Without the entry that both have."""

    def let_go(self, now: float) -> None:
        self._now = now
        if self.ready and self.other is not None and self.log.membership.excluded is None:
            self._change(replace(self.log.membership, excluded=self.other))


class VotesOnlyAsAVoter(Raft):
    def _on_request(self, node: NodeName, message: PreVote | Vote) -> bool:
        return self.me in electors(self.log.membership) and super()._on_request(node, message)


# ---- the table ------------------------------------------------------------------------------------------------------


def changed(change: Callable[[Lockd], None]) -> Assemble:
    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Lockd(me, configuration, records, random, boot)
        change(core)
        return core

    return instead(LOCKD, build)


def with_pair(pair: type[Pair]) -> Assemble:
    return changed(lambda core: setattr(core.pair, "__class__", pair))


def with_duel(duel: type[Duel]) -> Assemble:
    return changed(lambda core: setattr(core.pair.duel, "__class__", duel))


def with_raft(raft: type[Raft]) -> Assemble:
    return changed(lambda core: setattr(core.raft, "__class__", raft))


def with_log(log: type[Log]) -> Assemble:
    return changed(lambda core: setattr(core.raft.log, "__class__", log))


SEARCH, DUEL, PAIR = "tests/model/test_two_nodes.py", "tests/core/test_duel.py", "tests/core/test_pair.py"
"""What it takes for both to go on alone is a dozen events in one order: the search finds that sooner than a seed."""


def _mutant(name: str, assemble: Assemble, seen_by: str = "") -> Mutant:
    return Mutant(
        name, "SAFETY.md 1", assemble=assemble, adjust=faults.duels, nodes=2, bad_day=40.0, seen_by=seen_by
    )  # fmt: skip


MUTANTS = (
    _mutant("exclude without being current", with_pair(NeedsNoCurrency)),
    _mutant("exclude in the same term", with_raft(ExcludesInTheSameTerm)),
    _mutant("start alone without the entry", with_raft(StartsAlone)),
    _mutant("need the included once that is committed", with_log(InForceOnceCommitted)),
    _mutant("take letters to an earlier life for one's own", with_pair(ReadsOldLetters), SEARCH),
    _mutant("exclude on a word that was overtaken", with_pair(NeverVoids), SEARCH),
    _mutant("include before it has caught up", with_raft(IncludesTooEarly), SEARCH),
    _mutant("stand and fence while leaving", with_raft(LeavingLeads), SEARCH),
    _mutant("let go at once", with_raft(LetsGoAtOnce), SEARCH),
    _mutant("exclude on any fence", with_duel(BelievesAnyFence), DUEL),
    _mutant("take the operator's word without being current", with_pair(BelievesAnyWord), PAIR),
    _mutant("heed the excluded", with_raft(HeedsTheExcluded), PAIR),
    _mutant("vote only as a voter", with_raft(VotesOnlyAsAVoter), PAIR),
)
