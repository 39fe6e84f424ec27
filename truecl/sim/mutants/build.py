"""What a mutant is, and how the cores are built with or without one."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from truecl.core import assemble
from truecl.core.contract import Core, Records
from truecl.core.reqd import Reqd
from truecl.model.config import Configuration
from truecl.model.ids import REQD, STATD, SYNCD, BootId, DaemonName, NodeName
from truecl.sim.cluster import Assemble
from truecl.sim.faults import Faults
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
    core = assemble.build(daemon, me, configuration, boot, records, random, now)
    return _few_turns(core, random)


def _few_turns(core: Core, random: Random) -> Core:
    """Three applications would hardly ever wait for one another."""
    if isinstance(core, Reqd):
        core.instances.turns.limit = random.randint(1, 3)
    return core


@dataclass(frozen=True)
class Mutant:
    """`breaks`: the rule that it leaves out (SAFETY.md's section)."""

    name: str
    breaks: str
    variant: Variant = PROPER
    assemble: Assemble = production
    adjust: Callable[[Faults], Faults] | None = None
    """Aims the faults at the gap that the mutant opens."""
    nodes: int | None = None
    """In clusters of this size; None: drawn."""


def instead(daemon: DaemonName, build: Callable[..., Core]) -> Assemble:
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
            return _few_turns(build(me, configuration, boot, records, random, now), random)
        return production(which, me, configuration, boot, records, random, now)

    return assembled


def with_part(name: str, kind: type) -> Assemble:
    """reqd with another class of its part `name`."""

    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Reqd(me, configuration, boot, records, now)
        getattr(core, name).__class__ = kind
        return core

    return instead(REQD, build)
