"""What a mutant is, and how the cores are built with or without one."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from truecl.core import assemble
from truecl.core.contract import Core, Records
from truecl.core.lockd import Lockd
from truecl.core.reqd import Reqd
from truecl.model.config import Configuration
from truecl.model.ids import REQD, BootId, DaemonName, NodeName
from truecl.sim.cluster import Assemble
from truecl.sim.faults import Faults
from truecl.sim.process import PROPER, Variant


def production(
    daemon: DaemonName,
    me: NodeName,
    configuration: Configuration,
    boot: BootId,
    records: Records,
    random: Random,
    now: float,
) -> Core:
    """The cores that run in production."""
    core = assemble.build(daemon, me, configuration, boot, records, random, now)
    return _small(core, random)


def _small(core: Core, random: Random) -> Core:
    """Bounds that a day's few applications and entries would hardly ever reach."""
    if isinstance(core, Reqd):
        core.instances.turns.limit = random.randint(1, 3)
    elif isinstance(core, Lockd):
        core.compact_every, core.retained = random.choice((4, 30, 1000)), random.choice((0, 5, 1000))
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
    bad_day: float = 15.0
    """Seconds."""
    budget: int = 24
    """Seeds, from 0 on, within which it must be caught."""
    replicated: bool = False
    """On days with an application on replicated storage."""
    seen_by: str = ""
    """The test that sees it, where no budget of seeds does."""


def instead(daemon: DaemonName, build: Callable[..., Core], others: Assemble = production) -> Assemble:
    """The production cores (or `others`), but `daemon`'s from `build`, with the same arguments."""

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
            return _small(build(me, configuration, boot, records, random, now), random)
        return others(which, me, configuration, boot, records, random, now)

    return assembled


def with_part(name: str, kind: type, others: Assemble = production) -> Assemble:
    """reqd with another class of its part `name`, and the cores of `others`."""

    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Reqd(me, configuration, boot, records, now)
        getattr(core, name).__class__ = kind
        return core

    return instead(REQD, build, others)
