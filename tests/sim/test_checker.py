"""The checker itself: what it takes for committed."""

from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import msgspec
import pytest

from truecl.core.contract import Output, Records, Told
from truecl.core.lockd import Lockd
from truecl.model.config import ClusterConfig, Configuration, NodeConfig
from truecl.model.ids import HBD, LOCKD, BootId, NodeName
from truecl.model.ledger import Batch, Excluded
from truecl.sim import checker
from truecl.sim.cluster import Violation
from truecl.sim.journal import Journal
from truecl.wire.messages import View

N1, N2 = NodeName("n1"), NodeName("n2")
CONFIGURATION = Configuration(
    cluster=ClusterConfig(name="c", links=(), nodes=tuple(NodeConfig(name=name, addresses={}) for name in (N1, N2)))
)


@dataclass
class Machine:
    name: NodeName = N1
    journals: dict[str, Journal] = field(default_factory=lambda: {LOCKD: Journal()})


@dataclass
class Life:
    """A lockd of two nodes that goes on alone."""

    machine: Machine
    life: int
    records: Records
    words: str
    now: float = 100.0

    def __post_init__(self) -> None:
        self.core = Lockd(self.machine.name, CONFIGURATION, self.records, Random(1), BootId("b"))
        self.save(self.core.start(self.now))

    def goes_on_alone(self) -> Output:
        self.core.raft.exclude(
            (msgspec.msgpack.encode(Batch((Excluded(self.core.raft.other or N2, (), self.words),))),), self.now
        )
        return self.core.handle(Told(HBD, View(())), self.now)

    def save(self, output: Output) -> None:
        journal = self.machine.journals[LOCKD]
        journal.write(output.save)
        journal.flush()


def looks(save_first: bool, then: NodeName = N1) -> checker.Log:
    """Two lives that each decide to go on alone, at the same index; the first dies before or after it is on disk."""
    log, machine = checker.Log(cast(Any, World())), Machine()
    first = Life(machine, 1, {}, "first")
    output = first.goes_on_alone()
    if save_first:
        first.save(output)
    log.look(cast(Any, first))
    machine = machine if then == N1 else Machine(then)
    second = Life(machine, 2, {} if save_first else machine.journals[LOCKD].read(), "second")
    second.save(second.goes_on_alone())
    log.look(cast(Any, second))
    return log


class World:
    def changed(self, before: object, after: object) -> None: ...


def test_what_one_decides_alone_counts_from_when_it_is_on_its_disk() -> None:
    assert looks(save_first=False).committed > 0


def test_once_there_it_never_changes() -> None:
    with pytest.raises(Violation, match="n1 has another committed entry"):
        looks(save_first=True)


def test_who_leads_alone_leads_from_when_that_is_on_its_disk() -> None:
    """Until then nobody has heard of it, and the other may be elected for the same term."""
    assert looks(save_first=False, then=N2).led > 1
    with pytest.raises(Violation, match="n1 and n2 both lead term"):
        looks(save_first=True, then=N2)
