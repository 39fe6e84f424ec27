"""Guards that can be left out, one at a time, to prove that the checks would see it.

A mutant is another host (`Variant`), or another function that builds the cores: the production one with one method
overridden in a subclass. The cores know nothing of either.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from truecl.core import assemble
from truecl.core.contract import Core, Records
from truecl.model.config import Configuration
from truecl.model.ids import STATD, SYNCD, BootId, DaemonName, NodeName
from truecl.sim.cluster import Assemble
from truecl.sim.journal import UnsyncedJournal
from truecl.sim.process import PROPER, Variant
from truecl.sim.scenario import Quiet


def production(
    daemon: DaemonName,
    me: NodeName,
    configuration: Configuration,
    boot: BootId,
    records: Records,
    random: Random,
    now: float,
) -> Core:
    """The cores that run in production, but for the two that only report and copy files."""
    if daemon in (STATD, SYNCD):
        return Quiet()
    return assemble.build(daemon, me, configuration, boot, records, random, now)


@dataclass(frozen=True)
class Mutant:
    """`breaks`: the rule that it leaves out (SAFETY.md's section)."""

    name: str
    breaks: str
    variant: Variant = PROPER
    assemble: Assemble = production


def _instead(daemon: DaemonName, build: Callable[..., Core]) -> Assemble:
    """The production cores, but `daemon`'s from `build`, with the same arguments."""

    def assembled(
        which: DaemonName,
        me: NodeName,
        configuration: Configuration,
        boot: BootId,
        records: Records,
        random: Random,
        now: float,
    ) -> Core:
        if which == daemon:
            return build(me, configuration, boot, records, random, now)
        return production(which, me, configuration, boot, records, random, now)

    return assembled


MUTANTS = (
    Mutant("send before save", "DESIGN.md 5", Variant(order=("send", "save", "do", "tell"))),
    Mutant("do and tell before save", "DESIGN.md 5", Variant(order=("do", "tell", "save", "send"))),
    Mutant("skip fsync", "DESIGN.md 5", Variant(journal=UnsyncedJournal, flush=5.0)),
)
