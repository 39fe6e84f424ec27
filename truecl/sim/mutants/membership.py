"""Leaves rules of membership changes out (`truecl.core.raft.reshape`, Ongaro's thesis 4.1)."""

from truecl.core.raft import Raft
from truecl.core.raft.log import RETAINED_ENTRIES, Log
from truecl.core.raft.tenure import Tenure
from truecl.model.ids import Index, NodeName
from truecl.model.membership import Membership
from truecl.sim import faults
from truecl.sim.mutants.build import Mutant
from truecl.sim.mutants.raft import with_raft


class _AlwaysSettled(Log):
    @property
    def settled(self) -> bool:
        return True


class TwoAtOnce(Raft):
    def start(self, now: float) -> None:
        self.log.__class__ = _AlwaysSettled
        super().start(now)


class TooEarly(Raft):
    @property
    def ready(self) -> bool:
        return self._tenure is not None


class _Committed(Log):
    @property
    def membership(self) -> Membership:
        return self.membership_at(self.commit)


class ByTheCommitted(Raft):
    def start(self, now: float) -> None:
        self.log.__class__ = _Committed
        super().start(now)


class _Forgetful(Log):
    def compact(self, upto: Index, data: bytes, retain: int = RETAINED_ENTRIES) -> None:
        self._memberships = [(at, membership) for at, membership in self._memberships if at > upto]
        super().compact(upto, data, retain)


class ForgetsWithTheEntries(Raft):
    """Its snapshots carry the membership that it began with."""

    def start(self, now: float) -> None:
        self.log.__class__ = _Forgetful
        super().start(now)


class AnyObserverWillDo(Raft):
    def has_caught_up(self, node: NodeName) -> bool:
        return self._tenure is not None


class _CountsObservers(Tenure):
    def committable(self) -> Index:
        membership = self._log.membership
        stored = sorted([self._log.last_index, *(peer.match for peer in self._peers.values())], reverse=True)
        index = stored[min(len(membership.voters) // 2, len(stored) - 1)]
        return Index(index) if index >= self.term_start else self._log.commit


class CountsWhoLeft(Raft):
    def _become_leader(self) -> None:
        super()._become_leader()
        assert self._tenure is not None, "it leads"
        self._tenure.__class__ = _CountsObservers


MUTANTS = (
    Mutant("two changes of the membership at once", "SAFETY.md 1", assemble=with_raft(TwoAtOnce),
           adjust=faults.growing),
    Mutant("change the membership before an entry of the own term", "SAFETY.md 1", assemble=with_raft(TooEarly),
           adjust=faults.growing),
    Mutant("go by the committed membership", "SAFETY.md 1", assemble=with_raft(ByTheCommitted), adjust=faults.growing),
    Mutant("compact the membership away", "SAFETY.md 1", assemble=with_raft(ForgetsWithTheEntries),
           adjust=faults.growing),
    Mutant("make voters of whom has not caught up", "SAFETY.md 1", assemble=with_raft(AnyObserverWillDo),
           adjust=faults.growing),
    Mutant("count who votes no more", "SAFETY.md 1", assemble=with_raft(CountsWhoLeft), adjust=faults.growing),
)  # fmt: skip
