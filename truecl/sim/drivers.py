"""The drivers of reqd and netd on simulated kernels: slow, failing, hanging, and honest in what they probe.

What is taken for granted of the real ones: a result is final. A tool that was given up either did its work by then or
never will; one that not even KILL ends is *stuck*, and until it ends its step probes as UNKNOWN. When reqd dies,
its tools are over (done or not) before the next reqd decides anything.
"""

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

from truecl.core.contract import Do
from truecl.core.hold import Announce, AskConflict, Configure, Conflict, Outcome, Remove, Warn
from truecl.core.interfaces import Interfaces
from truecl.model.actions import (
    ConfigurationRead,
    FenceOff,
    FenceOutcome,
    KillGroup,
    ProgramDied,
    ReadConfiguration,
    StepDown,
    StepProbe,
    StepResult,
    StepUp,
)
from truecl.model.ids import NETD, REQD, DaemonName, NodeName
from truecl.model.step import Instance, Probe, Step, StepKind
from truecl.sim.kernel import Address, Kernel, Key, Stuck
from truecl.sim.process import Process

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine

_PAUSED = 0.02
"""How often a tool of a paused node looks whether it may go on."""


class Witness(Protocol):
    """Sees what happens in the world (truecl.sim.checker)."""

    def starting(self, machine: "Machine", instance: Instance, step: Step) -> None:
        """The first moment of an order to bring a step up."""

    def activated(self, machine: "Machine", key: Key, step: Step) -> None: ...

    def address_up(self, machine: "Machine", address: str) -> None: ...

    def address_until(self, machine: "Machine", address: str, lifetime: int) -> None:
        """Configured or renewed, with this kernel lifetime (seconds)."""


class _Work:
    """One action under way. `effect` happens once, at the latest when the work is over."""

    __slots__ = ("effect", "over", "process")

    def __init__(self, process: Process, effect: Callable[[], Any]) -> None:
        self.process = process
        self.effect: Callable[[], Any] | None = effect
        self.over = False


class SimulatedDrivers:
    """All nodes' drivers."""

    def __init__(self, cluster: "Cluster", witness: Witness) -> None:
        self._cluster = cluster
        self._random = cluster.random
        self._schedule = cluster.schedule
        self._witness = witness
        self._works: dict[tuple[NodeName, DaemonName], list[_Work]] = {}
        faults = cluster.faults
        self._slow_fence = {
            name: faults.fence_slow_length if self._random.random() < faults.fence_slow else 0.3
            for name in cluster.names
        }

    # ---- power and life ---------------------------------------------------------------------------------------------

    def powered_on(self, machine: "Machine") -> None:
        machine.kernel = Kernel(self._cluster.names.index(machine.name) + 1)

    def powered_off(self, machine: "Machine") -> None:
        machine.kernel = Kernel(machine.kernel.number)
        for key in [each for each in self._works if each[0] == machine.name]:
            for work in self._works.pop(key):
                work.effect, work.over = None, True

    def started(self, process: Process) -> None:
        machine = process.machine
        self._settle(machine, process.daemon)
        if process.daemon == NETD:
            self._schedule.after(0.001, self._look, machine, process)
        elif process.daemon == REQD:
            machine.kernel.watched.clear()

    def died(self, process: Process) -> None:
        """Its tools go on by themselves or die with it: `started` settles what they did."""

    def _settle(self, machine: "Machine", daemon: DaemonName) -> None:
        for work in self._works.pop((machine.name, daemon), []):
            if work.effect is not None and not work.over and self._random.random() < 0.5:
                work.effect()
            work.effect, work.over = None, True

    def _look(self, machine: "Machine", process: Process) -> None:
        if process.alive:
            machine.noted(NETD, Interfaces(machine.kernel.interfaces()))

    # ---- actions ----------------------------------------------------------------------------------------------------

    def perform(self, process: Process, order: Do) -> None:
        action = order.action
        if isinstance(action, StepUp):
            self._witness.starting(process.machine, action.instance, action.step)
        match action:
            case StepUp() | StepDown():
                self._step(process, order.id, action)
            case StepProbe():
                self._work(process, order.id, self._time(), lambda: self._probed(process, action))
            case KillGroup():
                self._work(process, order.id, self._time(), lambda: self._kill_group(process, action.instance))
            case FenceOff():
                self._fence(process, order.id, action.node)
            case ReadConfiguration():
                self._work(process, order.id, 0.01, lambda: ConfigurationRead(self._cluster.configuration))
            case Configure():
                self._configure(process, order.id, action)
            case Remove():
                self._work(process, order.id, 0.0003, lambda: self._remove(process.machine, action.address))
            case AskConflict():
                self._work(process, order.id, 0.1, lambda: self._conflict(process.machine, action.address))
            case Announce() | Warn():
                self._work(process, order.id, 0.0001, Outcome)
            case _:
                raise TypeError(f"{process} asks for what no driver knows: {action!r}")

    def _time(self) -> float:
        return self._random.expovariate(1.0) * self._cluster.faults.driver_time + 0.0005

    def _work(self, process: Process, number: int, seconds: float, effect: Callable[[], Any]) -> None:
        """Have the effect after `seconds` (later on a paused node) and answer with what it returns."""
        work = _Work(process, effect)
        works = self._works.setdefault((process.machine.name, process.daemon), [])
        works.append(work)
        if len(works) > 64:
            works[:] = [each for each in works if not each.over]
        self._schedule.after(seconds, self._finish, work, number)

    def _finish(self, work: _Work, number: int) -> None:
        if work.over or work.effect is None or not work.process.machine.powered:
            return
        if work.process.machine.stalled:
            self._schedule.after(_PAUSED, self._finish, work, number)
            return
        effect, work.effect, work.over = work.effect, None, True
        result = effect()
        if work.process.alive:
            work.process.machine.done(work.process, number, result)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def _step(self, process: Process, number: int, action: StepUp | StepDown) -> None:
        faults, draw = self._cluster.faults, self._random.random
        change = self._up if isinstance(action, StepUp) else self._down
        machine = process.machine
        key = (action.instance.app, action.step.name)
        if draw() < faults.driver_hangs:
            effect = draw() < 0.5
            if draw() < 0.5:
                stuck = Stuck(self._schedule.now + action.timeout + self._random.expovariate(1.0) * 5.0, key)
                machine.kernel.stuck.append(stuck)
                self._schedule.at(stuck.until, self._unstick, machine, machine.boot, stuck, action, effect)
                effect = False

            def give_up() -> StepResult:
                if effect:
                    change(machine, action)
                return StepResult(Probe.UNKNOWN, "gave no answer in time")

            self._work(process, number, action.timeout, give_up)
        elif draw() < faults.driver_fails:
            effect = draw() < 0.3

            def fail() -> StepResult:
                if effect:
                    change(machine, action)
                return StepResult(self._truth(machine, key), "failed")

            self._work(process, number, self._time(), fail)
        else:
            self._work(process, number, self._time(), lambda: change(machine, action))

    def _unstick(self, machine: "Machine", boot: str, stuck: Stuck, action: StepUp | StepDown, effect: bool) -> None:
        """The system call came back after all: what it was asked for happens now, or failed."""
        if not machine.powered or machine.boot != boot:
            return
        machine.kernel.stuck = [each for each in machine.kernel.stuck if each is not stuck]
        if effect:
            (self._up if isinstance(action, StepUp) else self._down)(machine, action)

    def _truth(self, machine: "Machine", key: Key) -> Probe:
        if machine.kernel.blocked(key, self._schedule.now):
            return Probe.UNKNOWN
        return Probe.ACTIVE if key in machine.kernel.active else Probe.INACTIVE

    def _up(self, machine: "Machine", action: Any) -> StepResult:
        kernel, step = machine.kernel, action.step
        key = (action.instance.app, step.name)
        if kernel.blocked(key, self._schedule.now):
            return StepResult(Probe.UNKNOWN, "an earlier tool is stuck")
        if step.over is not None and not self._attached(machine, action.instance, step):
            return StepResult(Probe.INACTIVE, "its device is not there")
        if key not in kernel.active:
            kernel.active[key] = action.instance.generation
            self._witness.activated(machine, key, step)
        kernel.active[key] = action.instance.generation
        if step.kind is StepKind.PROGRAM:
            kernel.watched.add(key)
            rate = self._cluster.faults.program_dies
            if rate > 0.0:
                self._schedule.after(
                    self._random.expovariate(rate), self._program_dies, machine, machine.boot, action.instance, step
                )
        return StepResult(Probe.ACTIVE)

    def _attached(self, machine: "Machine", instance: Instance, step: Step) -> bool:
        app = self._cluster.configuration.app(instance.app)
        names = [volume.name for volume in app.volumes if volume.storage == step.over] if app is not None else []
        return any((instance.app, f"volume {name}") in machine.kernel.active for name in names)

    def _down(self, machine: "Machine", action: Any) -> StepResult:
        kernel, step, app = machine.kernel, action.step, action.instance.app
        key = (app, step.name)
        if kernel.blocked(key, self._schedule.now):
            return StepResult(Probe.UNKNOWN, "an earlier tool is stuck")
        above = {StepKind.STORAGE: ("file system ", "program "), StepKind.FILESYSTEM: ("program ",)}.get(step.kind, ())
        for other_app, name in kernel.active:
            if other_app == app and name.startswith(above) and key in kernel.active:
                return StepResult(Probe.ACTIVE, f"in use by {name}")
        kernel.active.pop(key, None)
        return StepResult(Probe.INACTIVE)

    def _probed(self, process: Process, action: StepProbe) -> StepResult:
        if self._random.random() < self._cluster.faults.probe_fails:
            return StepResult(Probe.UNKNOWN, "the probe failed")
        return StepResult(self._truth(process.machine, (action.instance.app, action.step.name)))

    def _kill_group(self, process: Process, instance: Instance) -> StepResult:
        kernel = process.machine.kernel
        if self._random.random() < self._cluster.faults.driver_fails:
            return StepResult(Probe.ACTIVE, "a task does not end")
        for key in [each for each in kernel.active if each[0] == instance.app and each[1].startswith("program ")]:
            if kernel.blocked(key, self._schedule.now):
                return StepResult(Probe.UNKNOWN, "a task does not end")
            del kernel.active[key]
        return StepResult(Probe.INACTIVE)

    def _program_dies(self, machine: "Machine", boot: str, instance: Instance, step: Step) -> None:
        key = (instance.app, step.name)
        kernel = machine.kernel
        if not machine.powered or machine.boot != boot or kernel.active.get(key) != instance.generation:
            return
        if self._cluster.faults.program_dies == 0.0:
            return
        del kernel.active[key]
        if key in kernel.watched:
            machine.noted(REQD, ProgramDied(instance, step.name, "killed by signal 11"))

    # ---- addresses --------------------------------------------------------------------------------------------------

    def _configure(self, process: Process, number: int, action: Configure) -> None:
        """The clock is read before and after, and the node may be paused in between."""
        machine = process.machine
        before = machine.clock()
        if before >= action.until:
            self._work(process, number, 0.0001, lambda: Outcome("the lease is over"))
            return
        lifetime = ceil(action.until - before) + action.margin

        def add() -> Outcome:
            if self._random.random() < self._cluster.faults.driver_fails:
                return Outcome("netlink: no buffer space")
            late = self._random.random() * 0.4
            held = Address(self._schedule.now + lifetime + late, action.prefix)
            new = action.address not in machine.kernel.addresses
            machine.kernel.addresses[action.address] = held
            self._schedule.at(held.expires, self._expire, machine, action.address, held)
            self._witness.address_until(machine, action.address, lifetime)
            if new:
                self._witness.address_up(machine, action.address)
                self._schedule.after(0.0005, self._tell_interfaces, machine)
            if machine.clock() >= action.until:
                del machine.kernel.addresses[action.address]
                return Outcome("the lease ended meanwhile")
            return Outcome()

        self._work(process, number, 0.00005, add)

    def _expire(self, machine: "Machine", address: str, held: Address) -> None:
        if machine.kernel.addresses.get(address) is held:
            del machine.kernel.addresses[address]
            self._tell_interfaces(machine)

    def _tell_interfaces(self, machine: "Machine") -> None:
        if machine.powered:
            machine.noted(NETD, Interfaces(machine.kernel.interfaces()))

    def _remove(self, machine: "Machine", address: str) -> Outcome:
        if self._random.random() < self._cluster.faults.driver_fails:
            return Outcome("netlink: device busy")
        if machine.kernel.addresses.pop(address, None) is not None:
            self._schedule.after(0.0005, self._tell_interfaces, machine)
        return Outcome()

    def _conflict(self, machine: "Machine", address: str) -> Conflict:
        if self._random.random() < self._cluster.faults.conflicts:
            return Conflict(mac="02:00:00:00:00:99")
        link = self._cluster.network.links[0]
        for other in self._cluster.machines.values():
            if other is machine or not other.powered or address not in other.kernel.addresses:
                continue
            network = self._cluster.network
            if network.open(machine.name, other.name, link) and network.open(other.name, machine.name, link):
                return Conflict(mac=f"02:00:00:00:00:{other.kernel.number:02}")
        return Conflict()

    # ---- fences -----------------------------------------------------------------------------------------------------

    def _fence(self, process: Process, number: int, target: NodeName) -> None:
        """The device does not lie: 'off' means that the power was off after the order came in."""
        victim = self._cluster.machines[target]
        seconds = self._random.random() * self._slow_fence[target] + 0.05
        refuses = self._random.random() < self._cluster.faults.fence_refuses
        effect = not refuses or self._random.random() < 0.3

        def off() -> None:
            if effect and victim.powered:
                self._cluster.power_cut(victim)

        def off_and_say() -> FenceOutcome:
            off()
            return say()

        def say() -> FenceOutcome:
            return FenceOutcome(False, "the device does not answer") if refuses else FenceOutcome(True)

        if self._random.random() < self._cluster.faults.fence_late:
            self._schedule.after(seconds, off)
            self._work(process, number, seconds + self._random.random() * self._cluster.faults.fence_late_length, say)
        else:
            self._work(process, number, seconds, off_and_say)
