"""Toy cores to prove the simulator with: what they do wrong under a mutant host must be seen."""

from random import Random
from typing import Any

from truecl.core.contract import (
    Connected,
    Core,
    Disconnected,
    Event,
    Output,
    Put,
    Received,
    Records,
    Send,
    Woke,
)
from truecl.model.config import ClusterConfig, Configuration, LinkConfig, NodeConfig
from truecl.model.ids import LOCKD, BootId, DaemonName, LinkName, NodeName
from truecl.sim.chaos import Chaos
from truecl.sim.cluster import Check, Cluster, Plan, Story, Violation
from truecl.sim.faults import CALM, Faults
from truecl.sim.machine import Machine
from truecl.sim.process import PROPER, Process, Variant

PLAN = Plan(daemons=(LOCKD,), mesh=(LOCKD,))


def configuration(nodes: int = 3, links: int = 2) -> Configuration:
    names = [LinkName(f"link{number}") for number in range(1, links + 1)]
    return Configuration(
        cluster=ClusterConfig(
            name="toys",
            links=tuple(LinkConfig(name=name) for name in names),
            nodes=tuple(
                NodeConfig(name=NodeName(f"n{number}"), addresses=dict.fromkeys(names, f"10.0.0.{number}"))
                for number in range(1, nodes + 1)
            ),
        )
    )


class Promises:
    """Promises a value for each number, once: saves it, then tells all others, every 50 ms."""

    def __init__(self, me: NodeName, others: list[NodeName], records: Records, random: Random) -> None:
        self.me = me
        self.others = others
        self.random = random
        self.number = max((int(key) for key in records.get("promised", {})), default=0)
        self.promised: list[tuple[NodeName, int, int]] = []
        self.up: set[NodeName] = set()

    def start(self, now: float) -> Output:
        return Output(wake_at=now + 0.05)

    def handle(self, event: Event, now: float) -> Output:
        match event:
            case Connected(node):
                self.up.add(node)
            case Disconnected(node):
                self.up.discard(node)
            case Received(node, message):
                self.promised.append((node, *message))
            case Woke():
                self.number += 1
                value = self.random.getrandbits(32)
                return Output(
                    save=(Put("promised", self.number, b"%d" % value),),
                    send=tuple(Send(node, (self.number, value)) for node in self.others),
                    wake_at=now + 0.05,
                )
        return Output(wake_at=now + 0.05)


class OneValueEach:
    """Nobody may hear two values for one number of one node."""

    def __init__(self) -> None:
        self.heard: dict[tuple[NodeName, int], int] = {}

    def started(self, process: Process, output: Output) -> None: ...

    def powered_off(self, machine: Machine) -> None: ...

    def handled(self, process: Process, event: Event, output: Output) -> None:
        if isinstance(event, Received):
            number, value = event.message
            if self.heard.setdefault((event.node, number), value) != value:
                raise Violation(f"{event.node} broke its promise {number}")


def promises(
    daemon: DaemonName,
    me: NodeName,
    config: Configuration,
    boot: BootId,
    records: Records,
    random: Random,
    now: float,
) -> Core:
    others = [node.name for node in config.cluster.nodes if node.name != me]
    return Promises(me, others, records, random)


def cluster(
    seed: int,
    faults: Faults = CALM,
    variant: Variant = PROPER,
    nodes: int = 3,
    assemble: Any = promises,
    checks: tuple[Check, ...] = (),
    story: Story | None = None,
    plan: Plan = PLAN,
) -> Cluster:
    made = Cluster(configuration(nodes), plan, assemble, seed, faults, variant, story)
    made.checks.extend(checks)
    for machine in made.machines.values():
        machine.power_on()
    return made


def bad_day(made: Cluster, seconds: float) -> None:
    chaos = Chaos(made)
    chaos.begin()
    made.schedule.run(made.schedule.now + seconds)
    chaos.end()
