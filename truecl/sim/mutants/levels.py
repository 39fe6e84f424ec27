"""Clusters in the middle of an upgrade, and rules of the log's level left out (docs/upgrade.md)."""

from random import Random

from truecl.core.contract import Core, Records
from truecl.core.lockd import Lockd
from truecl.model.config import Configuration
from truecl.model.ids import LOCKD, BootId, NodeName
from truecl.model.ledger import LEVEL
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead


def mixed(lockd: type[Lockd] = Lockd) -> Assemble:
    """Every other node's lockd is of an older release in the node's first boot, and upgraded from then on."""

    def build(
        me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random, now: float
    ) -> Core:
        names = [node.name for node in configuration.cluster.nodes]
        first = boot.rpartition("-")[2] == "1"
        level = 1 if first and names.index(me) % 2 else LEVEL
        return lockd(me, configuration, records, random, boot, level=level)

    return instead(LOCKD, build)


class RaisesTooEarly(Lockd):
    """As soon as the leader's own release knows more."""

    def _common_level(self) -> int:
        return self._level


class ForgetsTheSilent(Lockd):
    """Whoever has said nothing to this leader is not asked."""

    def _common_level(self) -> int:
        return min(self._reports.levels.values(), default=1)


MUTANTS = (
    Mutant("raise the log's level too early", "docs/upgrade.md", assemble=mixed(RaisesTooEarly), adjust=faults.gaps),
    Mutant("raise the log's level past a silent member", "docs/upgrade.md", assemble=mixed(ForgetsTheSilent),
           adjust=faults.gaps, budget=70),
)  # fmt: skip
