"""Another timing is activated while the cluster runs: it reaches each node in its own time, and each daemon as it can.

A daemon that starts reads what its node has by then; the others are told by syncd, which is not simulated.
"""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from truecl.core.contract import Told
from truecl.model.config import Configuration
from truecl.model.ids import CLUSTERD, HBD, LOCKD, REQD, SYNCD, NodeName
from truecl.wire.messages import NewConfiguration

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine

LEASES = (0.66, 1.0, 3.0)
ALLOWANCES = (0.4, 1.0, 5.0)


def narrowed(configuration: Configuration, names: list[NodeName]) -> Configuration:
    """With these nodes alone."""
    nodes = tuple(node for node in configuration.cluster.nodes if node.name in names)
    apps = tuple(replace(app, nodes=tuple(node for node in app.nodes if node in names)) for app in configuration.apps)
    return replace(configuration, cluster=replace(configuration.cluster, nodes=nodes), apps=apps)


class Reconfiguration:
    """What the operator activates, and the way of it to the nodes."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._newest = next(iter(cluster.machines.values())).configuration
        self._number = 0
        self._has: dict[str, int] = {}

    def activate(self) -> None:
        """Draw another lease and stop allowance; clocks part as they did, and the watchdogs' law holds."""
        random, first = self._cluster.random, self._cluster.configuration.cluster.timing
        lease = random.choice(LEASES)
        timing = replace(
            first,
            lease=lease,
            drift=first.drift / first.lease * lease,
            stop_allowance=random.choice([each for each in ALLOWANCES if each <= first.stop_allowance]),
        )
        self._number += 1
        cluster = replace(self._newest.cluster, timing=timing)
        self._newest = replace(self._newest, cluster=cluster, digest=f"simulated-{self._number}")
        self._cluster.note("operator", f"ACTIVATES lease {lease:g} s, allowance {timing.stop_allowance:g} s")
        for name in self._names():
            machine = self._cluster.machines[name]
            delay = random.expovariate(1.0) * random.choice((0.01, 1.0, 5.0))
            self._cluster.schedule.after(delay, self._arrive, machine, self._number, self._newest)

    def nodes(self, names: list[NodeName]) -> None:
        """Other nodes than before, as the command brings it to those that are in by then."""
        self._number += 1
        timing, digest = self._newest.cluster.timing, f"simulated-{self._number}"
        fresh = narrowed(self._cluster.configuration, names)
        self._newest = replace(fresh, cluster=replace(fresh.cluster, timing=timing), digest=digest)
        for name in names:
            delay = self._cluster.random.expovariate(1.0) * self._cluster.random.choice((0.01, 0.1, 2.0))
            self._cluster.schedule.after(delay, self._arrive, self._cluster.machines[name], self._number, self._newest)

    def bring(self, machine: "Machine") -> None:
        """The newest, at once."""
        self._arrive(machine, self._number, self._newest)

    def end(self) -> None:
        """Every node has the newest."""
        for name in self._names():
            self._arrive(self._cluster.machines[name], self._number, self._newest)

    def _names(self) -> list[NodeName]:
        return [node.name for node in self._newest.cluster.nodes]

    def _arrive(self, machine: "Machine", number: int, configuration: Configuration) -> None:
        if number <= self._has.get(machine.name, 0):
            return
        self._has[machine.name] = number
        machine.configuration = configuration
        for daemon in (REQD, CLUSTERD, LOCKD, HBD):
            process = machine.processes.get(daemon)
            if process is not None:
                process.deliver(Told(SYNCD, NewConfiguration(configuration)))
