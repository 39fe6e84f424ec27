"""Steps of applications on simulated kernels: storage, file systems and programs that come up, fail, hang and go."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from truecl.model.actions import FreezeGroup, ProgramDied, StepDown, StepProbe, StepResult, StepUp
from truecl.model.ids import REQD
from truecl.model.step import Instance, Probe, ReplicaSpec, ReplicaVolume, Step, StepKind
from truecl.sim.kernel import Key, Stuck
from truecl.sim.process import Process
from truecl.sim.replicas import SimulatedReplicas

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.drivers import Witness
    from truecl.sim.machine import Machine


_LONGEST_HANG = 20.0
"""Seconds after which a tool that hangs is given up, whatever time it has: a day has no more."""


class Steps:
    """All nodes'. `work` has an effect after some seconds and answers with what it returns; `time` draws how many."""

    def __init__(
        self,
        cluster: "Cluster",
        witness: "Witness",
        replicas: SimulatedReplicas,
        work: Callable[..., None],
        time: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._random = cluster.random
        self._schedule = cluster.schedule
        self._witness = witness
        self._replicas = replicas
        self._work = work
        self._time = time

    def step(self, process: Process, number: int, action: StepUp | StepDown) -> None:
        faults, draw = self._cluster.faults, self._random.random
        change = self._up if isinstance(action, StepUp) else self._down
        up = process.decided if isinstance(action, StepUp) else None
        machine, timeout = process.machine, min(action.timeout, _LONGEST_HANG)
        key = (action.instance.app, action.step.name)
        if draw() < faults.driver_hangs:
            effect = draw() < 0.5
            self._cluster.met("driver hangs")
            if draw() < 0.5:
                self._cluster.met("tool stuck")
                until = self._schedule.now + timeout + self._random.expovariate(1.0) * 5.0
                stuck = Stuck(until, key, process)
                machine.kernel.stuck.append(stuck)
                self._schedule.at(stuck.until, self._unstick, machine, machine.boot, stuck, action, effect)
                effect = False

            def give_up() -> StepResult:
                if effect:
                    change(machine, action)
                return StepResult(Probe.UNKNOWN, "gave no answer in time")

            self._work(process, number, timeout, give_up, True, up)
        elif draw() < faults.driver_fails:
            effect = draw() < 0.3
            self._cluster.met("driver fails")

            def fail() -> StepResult:
                if effect:
                    change(machine, action)
                return StepResult(self._truth(machine, key), "failed")

            self._work(process, number, self._time(), fail, True, up)
        else:
            self._work(process, number, self._time(), lambda: change(machine, action), True, up)

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
            if step.kind is StepKind.PROGRAM:
                self._replicas.writes(machine, action.instance, step.name)
        kernel.active[key] = action.instance.generation
        if step.kind is StepKind.FORMAT:
            self._cluster.met("lha_buildapp: looked at a file system")
        if step.kind is StepKind.PROGRAM:
            kernel.watched.add(key)
            rate = self._cluster.faults.program_dies
            if rate > 0.0:
                self._schedule.after(
                    self._random.expovariate(rate), self._program_dies, machine, machine.boot, action.instance, step
                )
        return StepResult(Probe.ACTIVE)

    def _attached(self, machine: "Machine", instance: Instance, step: Step) -> bool:
        if isinstance(step.over, ReplicaVolume):
            return (instance.app, f"replica {instance.app}") in machine.kernel.active
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
        if isinstance(step.spec, ReplicaSpec):
            return self._replicas.demote(machine, action)
        if step.kind is StepKind.FILESYSTEM and key in kernel.active and self._replicas.frozen(machine, app):
            return StepResult(Probe.UNKNOWN, "it waits for a frozen device")
        kernel.active.pop(key, None)
        return StepResult(Probe.INACTIVE)

    def probed(self, process: Process, action: StepProbe) -> StepResult:
        if self._random.random() < self._cluster.faults.probe_fails:
            self._cluster.met("probe fails")
            return StepResult(Probe.UNKNOWN, "the probe failed")
        return StepResult(self._truth(process.machine, (action.instance.app, action.step.name)))

    def kill_group(self, process: Process, instance: Instance) -> StepResult:
        kernel = process.machine.kernel
        if self._random.random() < self._cluster.faults.driver_fails or self._replicas.frozen(
            process.machine, instance.app
        ):
            return StepResult(Probe.ACTIVE, "a task does not end")
        for key in [each for each in kernel.active if each[0] == instance.app and each[1].startswith("program ")]:
            if kernel.blocked(key, self._schedule.now):
                return StepResult(Probe.UNKNOWN, "a task does not end")
            del kernel.active[key]
        kernel.frozen.discard(instance.app)
        return StepResult(Probe.INACTIVE)

    def freeze(self, process: Process, action: FreezeGroup) -> StepResult:
        kernel, app = process.machine.kernel, action.instance.app
        if self._random.random() < self._cluster.faults.driver_fails:
            return StepResult(Probe.UNKNOWN, "a task waits for a device")
        if action.frozen:
            kernel.frozen.add(app)
            return StepResult(Probe.INACTIVE)
        kernel.frozen.discard(app)
        return StepResult(Probe.ACTIVE)

    def _program_dies(self, machine: "Machine", boot: str, instance: Instance, step: Step) -> None:
        key = (instance.app, step.name)
        kernel = machine.kernel
        if not machine.powered or machine.boot != boot or kernel.active.get(key) != instance.generation:
            return
        if self._cluster.faults.program_dies == 0.0:
            return
        self._cluster.met("program dies")
        del kernel.active[key]
        if key in kernel.watched:
            machine.noted(REQD, ProgramDied(instance, step.name, "killed by signal 11"))
