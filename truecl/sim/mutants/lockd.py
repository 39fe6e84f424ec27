"""Leaves rules of leases out, as the leader keeps them."""

from math import inf

from truecl.core.leases import WATCHDOG_TIMES, Leases
from truecl.core.lockd import Lockd
from truecl.model.ids import LOCKD, NodeName
from truecl.model.ledger import Grant, Ledger
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead
from truecl.wire.messages import Renew, Revoke


class AnswersWithoutARound(Lockd):
    def _renew(self, message: Renew, now: float) -> None:
        super()._renew(message, now)
        self._answer(1 << 40)


class GivesTooEarly(Lockd):
    """Names in its answers, and tells the master, what is proposed and not committed."""

    def _proposed(self) -> Ledger:
        ledger = self.ledger
        if self.raft.ready:
            for entry in self.raft.not_applied():
                ledger = self._apply(ledger, entry.index, entry.term, self._batch(entry.payload))
        return ledger

    def _answer(self, completed_round: int) -> None:
        committed, self.ledger = self.ledger, self._proposed()
        super()._answer(completed_round)
        self.ledger = committed

    def _tell_news(self, now: float) -> None:
        committed, self.ledger = self.ledger, self._proposed()
        super()._tell_news(now)
        self.ledger = committed


class ForgetsMargins(Leases):
    def surely_over(self, node: NodeName, addressed: bool = False) -> float:
        return self._answered.get(node, self._bound) + max((each.lease for each in self._timings), default=inf)


class OneTimeout(Leases):
    def surely_reset(self, node: NodeName, timeout: float) -> float:
        return super().surely_reset(node, timeout / WATCHDOG_TIMES)


class TwoTimeouts(Leases):
    """Without the feed of the kernel, when the process that has the device open dies."""

    def surely_reset(self, node: NodeName, timeout: float) -> float:
        return super().surely_reset(node, 2 * timeout / WATCHDOG_TIMES)


class RenewsTheStuck(Lockd):
    def _revoke(self, message: Revoke, now: float) -> None:
        pass


class SeesNobodyOutlive(Lockd):
    def _see_who_outlives(self, overdue: tuple[Grant, ...]) -> None:
        pass


class CountsTheFirstAnswer(Leases):
    def completed(self, round: int) -> tuple[Renew, ...]:
        before = dict(self._answered)
        answers = super().completed(round)
        self._answered |= before
        return answers


def with_leases(kind: type[Leases]) -> type[Lockd]:
    class Other(Lockd):
        def _leases_of_term(self, now: float) -> Leases:
            leases = super()._leases_of_term(now)
            leases.__class__ = kind
            return leases

    return Other


def with_lockd(lockd: type[Lockd]) -> Assemble:
    return instead(LOCKD, lambda me, configuration, boot, records, random, now: lockd(
        me, configuration, records, random, boot))  # fmt: skip


MUTANTS = (
    Mutant("answer a lease without a round", "SAFETY.md 2", assemble=with_lockd(AnswersWithoutARound),
           adjust=faults.unfenced),
    Mutant("order and name what is not committed", "SAFETY.md 2", assemble=with_lockd(GivesTooEarly)),
    Mutant("count a lease from its first answer", "SAFETY.md 2", assemble=with_lockd(with_leases(CountsTheFirstAnswer)),
           adjust=faults.unfenced),
    Mutant("forget drift and stop allowance", "SAFETY.md 3", assemble=with_lockd(with_leases(ForgetsMargins)),
           adjust=faults.unfenced, nodes=3, budget=130),
    Mutant("accept one timeout of a watchdog", "SAFETY.md 3", assemble=with_lockd(with_leases(OneTimeout)),
           adjust=faults.watched, nodes=3, bad_day=30.0),
    Mutant("accept two timeouts of a watchdog", "SAFETY.md 3", assemble=with_lockd(with_leases(TwoTimeouts)),
           adjust=faults.watched, nodes=3, bad_day=30.0, seen_by="tests/model/test_watchdog.py"),
    Mutant("take a node for reset that is heard", "SAFETY.md 3", assemble=with_lockd(SeesNobodyOutlive),
           adjust=faults.toothless, nodes=3, bad_day=30.0),
    Mutant("renew a node that cannot stop", "SAFETY.md 2", assemble=with_lockd(RenewsTheStuck),
           adjust=faults.clinging, nodes=3, bad_day=30.0, seen_by="tests/sim/test_clinging.py"),
)  # fmt: skip
