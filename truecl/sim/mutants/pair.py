"""Leaves rules of two nodes out (SAFETY.md section 1)."""

from random import Random

from msgspec.structs import replace

from truecl.core.contract import Core, Records
from truecl.core.lockd import Lockd
from truecl.core.pair import Pair
from truecl.core.raft import Raft
from truecl.model.config import Configuration
from truecl.model.ids import LOCKD, BootId, NodeName
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead
from truecl.sim.mutants.raft import with_raft
from truecl.wire.messages import FenceResult


class NeedsNoCurrency(Pair):
    def tend(self, now: float) -> float | None:
        self.current = True
        return super().tend(now)


class BelievesAnyFence(Pair):
    def fenced(self, result: FenceResult, now: float) -> None:
        super().fenced(replace(result, off=True), now)


class IncludesTooEarly(Raft):
    @property
    def caught_up(self) -> bool:
        return self.ready and self.log.membership.excluded is not None


def with_pair(pair: type[Pair]) -> Assemble:
    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Lockd(me, configuration, records, random, boot)
        core.pair.__class__ = pair
        return core

    return instead(LOCKD, build)


def _mutant(name: str, assemble: Assemble) -> Mutant:
    return Mutant(name, "SAFETY.md 1", assemble=assemble, adjust=faults.duels, nodes=2)


MUTANTS = (
    _mutant("exclude without being current", with_pair(NeedsNoCurrency)),
    _mutant("exclude on any fence", with_pair(BelievesAnyFence)),
    _mutant("include before it has caught up", with_raft(IncludesTooEarly)),
)
