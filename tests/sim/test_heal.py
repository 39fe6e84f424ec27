"""After every heal addresses are announced again: what was said while the network was cut never came across."""

from random import Random

import pytest
from msgspec.structs import replace

from truecl.core.announce import BURST, ROUND_AFTER
from truecl.core.contract import Event, Output
from truecl.core.hold import Announce
from truecl.core.lockd import Lockd
from truecl.model.ids import LOCKD, NETD, AppName, NodeName
from truecl.sim import scenario
from truecl.sim.checker import World
from truecl.sim.cluster import Cluster
from truecl.sim.drivers import SimulatedDrivers
from truecl.sim.faults import CALM
from truecl.sim.machine import Machine
from truecl.sim.mutants.build import production
from truecl.sim.process import Process
from truecl.sim.supervision import WarmParent


class Announced:
    """When each node's netd announced something."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.at: dict[NodeName, list[float]] = {name: [] for name in cluster.names}

    def started(self, process: Process, output: Output) -> None: ...

    def powered_off(self, machine: Machine) -> None: ...

    def handled(self, process: Process, event: Event, output: Output) -> None:
        if process.daemon == NETD:
            times = [self._cluster.schedule.now for do in output.do if isinstance(do.action, Announce)]
            self.at[process.machine.name] += times


@pytest.mark.parametrize("seed", range(8))
def test_two_nodes_whose_cut_has_healed_have_a_leader_again_at_once(seed: int) -> None:
    """Not after the patience of both: a second or two. What was said meanwhile comes up to a second late (TCP)."""
    configuration = scenario.configuration(Random("heal"), 2)
    unfenced = tuple(replace(node, fence=()) for node in configuration.cluster.nodes)
    configuration = replace(configuration, cluster=replace(configuration.cluster, nodes=unfenced))
    cluster = Cluster(configuration, scenario.PLAN, production, seed, CALM)
    world = World(cluster)
    cluster.supervision, cluster.drivers, cluster.checks = (
        WarmParent(cluster),
        SimulatedDrivers(cluster, world),
        [world],
    )
    scenario.formed(cluster)
    for machine in cluster.machines.values():
        machine.power_on()
    schedule, network = cluster.schedule, cluster.network
    schedule.run(5.0)
    for link in configuration.cluster.links:
        network.cut(NodeName("n1"), NodeName("n2"), link.name)
        network.cut(NodeName("n2"), NodeName("n1"), link.name)
    schedule.run(5.0 + 1.6 * configuration.cluster.timing.election)
    assert not leaders(cluster)
    network.heal_all()
    schedule.run(schedule.now + 0.95)
    assert len(leaders(cluster)) == 1


def leaders(cluster: Cluster) -> list[NodeName]:
    cores = {name: machine.processes[LOCKD].core for name, machine in cluster.machines.items()}
    return [name for name, core in cores.items() if isinstance(core, Lockd) and core.raft.ready]


def test_whoever_holds_an_address_announces_it_after_a_cut_has_healed() -> None:
    cluster = Cluster(scenario.configuration(Random("heal"), 3), scenario.PLAN, production, 1, CALM)
    world, announced = World(cluster), Announced(cluster)
    cluster.supervision, cluster.drivers = WarmParent(cluster), SimulatedDrivers(cluster, world)
    cluster.checks = [world, announced]
    scenario.formed(cluster)
    for machine in cluster.machines.values():
        machine.power_on()
    operators = scenario.Operators(cluster)
    operators._ask_until_taken("start", AppName("web"))  # it has no storage, and nobody needs to be fenced for it
    schedule, network = cluster.schedule, cluster.network
    schedule.run(3.0)
    owners = {name for name, machine in cluster.machines.items() if machine.kernel.addresses}
    (alone, *_) = [name for name in cluster.names if name not in owners]
    schedule.run(4.0 + 2 * ROUND_AFTER)
    links = [link.name for link in cluster.configuration.cluster.links]
    ways = [(one, other) for one in cluster.names for other in cluster.names if alone in (one, other) and one != other]
    for source, target in ways:
        for link in links:
            network.cut(source, target, link)
    schedule.run(schedule.now + 2 * ROUND_AFTER)
    assert {name for name, machine in cluster.machines.items() if machine.kernel.addresses} == owners
    healed = schedule.now
    network.heal_all()
    schedule.run(healed + 2.0)
    for name in owners:
        assert len([at for at in announced.at[name] if at > healed]) >= BURST, name
        assert not [at for at in announced.at[name] if healed - ROUND_AFTER < at <= healed], "nothing before"
