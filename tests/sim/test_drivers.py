"""The simulated kernels and drivers: what a power cut ends, what hangs, and what lifetimes end by themselves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.sim import toys
from truecl.core.contract import Do, Done, Event, Output, Woke
from truecl.core.hold import Configure
from truecl.model.actions import StepResult, StepUp
from truecl.model.config import FileStorage
from truecl.model.ids import LOCKD, AppName, Generation, NodeName
from truecl.model.step import Instance, Probe, Step, StepKind
from truecl.sim.cluster import Cluster
from truecl.sim.drivers import SimulatedDrivers
from truecl.sim.faults import CALM, Faults
from truecl.sim.kernel import Key
from truecl.sim.machine import Machine

N1 = NodeName("n1")
VOLUME = Step("volume data", StepKind.STORAGE, FileStorage(image="/images/db.img"))
UP = StepUp(Instance(AppName("db"), Generation(3)), VOLUME, 5.0)


class Asks:
    """Asks its drivers for one thing, once."""

    def __init__(self, action: Any) -> None:
        self.action = action
        self.results: list[Any] = []

    def start(self, now: float) -> Output:
        return Output(wake_at=now + 0.1)

    def handle(self, event: Event, now: float) -> Output:
        if isinstance(event, Done):
            self.results.append(event.result)
        action = self.action(now) if callable(self.action) else self.action
        return Output(do=(Do(1, action),)) if isinstance(event, Woke) and action is not None else Output()


class Nobody:
    def starting(self, machine: Machine, instance: Instance, step: Step) -> None: ...

    def activated(self, machine: Machine, key: Key, step: Step) -> None: ...

    def address_up(self, machine: Machine, address: str) -> None: ...

    def address_until(self, machine: Machine, address: str, lifetime: int) -> None: ...


def _asking(action: Any, faults: Faults = CALM) -> tuple[Cluster, Machine, Asks]:
    made = Cluster(toys.configuration(1), toys.PLAN, lambda *_: Asks(action), 1, faults)
    made.drivers = SimulatedDrivers(made, Nobody())
    machine = made.machines[N1]
    machine.power_on()
    made.schedule.run(until=0.15)
    core = machine.processes[LOCKD].core
    assert isinstance(core, Asks)
    return made, machine, core


def test_a_step_comes_up_and_says_so() -> None:
    made, machine, core = _asking(UP)
    made.schedule.run(until=2.0)
    assert core.results == [StepResult(Probe.ACTIVE)]
    assert ("db", "volume data") in machine.kernel.active


def _only_first_asks() -> Callable[..., Asks]:
    lives = iter((UP, None))
    return lambda *_: Asks(next(lives))


def test_a_power_cut_ends_what_hangs() -> None:
    """Nothing that a tool of an earlier boot was about to do happens in the next one."""
    for seed in range(20):
        made = Cluster(toys.configuration(1), toys.PLAN, _only_first_asks(), seed, replace(CALM, driver_hangs=1.0))
        made.drivers = SimulatedDrivers(made, Nobody())
        machine = made.machines[N1]
        machine.power_on()
        made.schedule.run(until=1.0)
        machine.power_off()
        machine.power_on()
        made.schedule.run(until=60.0)
        assert machine.kernel.active == {}


def test_a_hanging_step_is_answered_in_time_and_nothing_is_known_of_it() -> None:
    made, _, core = _asking(UP, replace(CALM, driver_hangs=1.0))
    made.schedule.run(until=4.0)
    assert core.results == []
    made.schedule.run(until=5.5)
    assert [result.probe for result in core.results] == [Probe.UNKNOWN]


def test_a_floating_address_goes_by_itself_even_while_the_node_stands_still() -> None:
    made, machine, _ = _asking(lambda now: Configure("10.9.0.100", 32, "eth0", now + 1.0, 1))
    made.schedule.run(until=0.5)
    assert "10.9.0.100" in machine.kernel.addresses
    machine.stall()
    made.schedule.run(until=3.5)
    assert machine.kernel.addresses == {}
