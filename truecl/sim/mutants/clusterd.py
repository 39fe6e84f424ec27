"""Leaves rules of the master out."""

from msgspec.structs import replace

from truecl.core.clusterd import Clusterd
from truecl.model.ids import CLUSTERD
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead
from truecl.wire.messages import FenceResult


class BelievesAnyFence(Clusterd):
    def _fenced(self, message: FenceResult) -> None:
        super()._fenced(replace(message, off=True))


def with_clusterd(clusterd: type[Clusterd]) -> Assemble:
    return instead(CLUSTERD, lambda me, configuration, *_: clusterd(me, configuration))


MUTANTS = (
    Mutant("believe any fence", "SAFETY.md 3", assemble=with_clusterd(BelievesAnyFence), adjust=faults.failing,
           budget=60),
)  # fmt: skip
