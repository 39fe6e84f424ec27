"""What runs on this node: one `InstanceMachine` an application, and what reqd remembers of each durably.

Records: bucket 'instances' holds each application's newest generation, durable before its first step and before it is
reported closed; 'run.instances' its phase ("7 running"), which a restart of reqd needs and a reboot makes void.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from truecl.core.contract import Records
from truecl.core.floating import FloatingAddresses
from truecl.core.happenings import Happening, in_instance
from truecl.core.instance import InstanceMachine
from truecl.core.lease import Lease
from truecl.core.outbox import Outbox
from truecl.core.turns import Turns
from truecl.model.actions import Action, StepDown, StepProbe, StepResult, StepUp
from truecl.model.config import Address, AppConfig
from truecl.model.ids import CLUSTERD, NO_GENERATION, REQD, STATD, AppName, BootId, Generation, NodeName
from truecl.model.ledger import Format
from truecl.model.report import InstanceReport, Phase, Progress, Severity
from truecl.model.standing import StepStatus
from truecl.model.step import Probe, Step, StepKind
from truecl.wire.messages import InstanceProgress, InstanceStatus, Note


class InstanceRecord(msgspec.Struct, frozen=True):
    """Bucket 'instances', key: application."""

    generation: Generation
    boot: BootId
    open: bool
    config: AppConfig
    failed: bool = False
    reason: str = ""
    watchdog: float = 0.0
    """Seconds: its grant leans on a watchdog of at most this timeout."""
    alone: bool = False
    build: tuple[Format, ...] = ()
    """As in its grant."""
    built: dict[str, str] = {}
    """As in its order."""


class Instances:
    """Mutable; a part of reqd's core. `now` is set by it before each event."""

    def __init__(self, me: NodeName, boot: BootId, records: Records, lease: Lease, out: Outbox, now: float) -> None:
        self.me, self.boot, self.now = me, boot, now
        self.records = {
            AppName(str(app)): msgspec.msgpack.decode(value, type=InstanceRecord)
            for app, value in records.get("instances", {}).items()
        }
        self.machines: dict[AppName, InstanceMachine] = {}
        self.turns = Turns(out, self._begun_late)
        self.floating = FloatingAddresses(out, now)
        self._lease, self._out = lease, out
        self._phases = {str(app): phase_of(value) for app, value in records.get("run.instances", {}).items()}
        self._saved_phases: dict[AppName, tuple[Generation, Phase]] = {}

    # ---- what there is ----------------------------------------------------------------------------------------------

    def any_open(self) -> bool:
        return any(machine.open for machine in self.machines.values())

    def open_machine(self, app: AppName) -> InstanceMachine | None:
        """The one of this application of which something may exist here."""
        machine = self.machines.get(app)
        return machine if machine is not None and machine.open else None

    def newest(self, app: AppName) -> Generation:
        """The newest generation that was seen here."""
        record = self.records.get(app)
        return record.generation if record is not None else NO_GENERATION

    def reports(self) -> tuple[InstanceReport, ...]:
        """State-based and idempotent: every renewal carries the whole table."""
        lines = []
        for app, record in sorted(self.records.items()):
            machine = self.machines.get(app)
            if machine is not None and machine.generation == record.generation:
                lines.append(machine.report())
            else:
                lines.append(InstanceReport(app, record.generation, Phase.CLOSED, record.failed, record.reason))
        return tuple(lines)

    def statuses(self) -> tuple[InstanceStatus, ...]:
        return tuple(_status_of(machine) for _, machine in sorted(self.machines.items()))

    # ---- records ----------------------------------------------------------------------------------------------------

    def remember(self, app: AppName, record: InstanceRecord) -> None:
        self.records[app] = record
        self._out.put("instances", app, msgspec.msgpack.encode(record))

    def record_phases(self) -> bool:
        """Make what changed durable, before any report of it leaves. Did anything?"""
        changed = False
        for app, machine in sorted(self.machines.items()):
            if self._saved_phases.get(app) == (machine.generation, machine.phase):
                continue
            changed = True
            self._saved_phases[app] = machine.generation, machine.phase
            self._out.put("run.instances", app, f"{machine.generation} {machine.phase}".encode())
            self.note(in_instance(self.me, machine))
            if not machine.open:
                self.remember(app, InstanceRecord(machine.generation, self.boot, False, machine.config, machine.failed,
                                                  machine.reason))  # fmt: skip
        return changed

    # ---- machines ---------------------------------------------------------------------------------------------------

    def begin(
        self,
        config: AppConfig,
        generation: Generation,
        build: tuple[Format, ...] = (),
        built: Mapping[str, str] = MappingProxyType({}),
    ) -> InstanceMachine:
        """A machine for this generation, in place of an older one that is closed."""
        app = config.name

        def say(progress: Progress) -> None:
            self._out.tell(CLUSTERD, InstanceProgress(self.me, app, generation, progress))
            if progress.severity is not Severity.LOG:
                self.note(Happening(REQD, progress.severity, f"application '{app}': {progress.text}", app))

        machine = InstanceMachine(
            config, generation, lambda action: self._ask(action, app), say, self.me, withdraw=self.turns.withdraw,
            build=build, built=built,
        )  # fmt: skip
        self.machines[app] = machine
        return machine

    def take_up(self, old_lease: float, now: float) -> None:
        """At this daemon's start: what the records call open. `old_lease`: when the lease of its earlier life ends."""
        for app, record in sorted(self.records.items()):
            if record.open:
                self._take_up(app, record, old_lease, now)

    def _take_up(self, app: AppName, record: InstanceRecord, old_lease: float, now: float) -> None:
        machine = self.begin(record.config, record.generation, record.build, record.built)
        machine.alone = record.alone
        generation, phase = self._phases.get(app, (NO_GENERATION, Phase.CLOSED))
        if record.boot != self.boot:
            machine.clear(now, "the node was rebooted")
            return
        machine.leftover = True
        self._lease.end = max(self._lease.end, old_lease)
        self._lease.named[app] = record.generation
        if not self._lease.holds(now):
            machine.clear(now, "reqd was away longer than the lease")
        elif generation == record.generation and phase in (Phase.STARTING, Phase.RUNNING):
            machine.resume(phase, now)
        else:
            # A stop once begun is finished. Without a word on this generation: it may have been one never started here.
            machine.clear(now, "stopping")

    def _ask(self, action: Action, app: AppName) -> int:
        """Where a machine's action goes: addresses to netd, the rest to the drivers."""
        if isinstance(action, StepUp | StepDown | StepProbe) and isinstance(action.step.spec, Address):
            takeover = self.machines[app].takeover
            return self.floating.ask(action, action.step.spec, self._lease.end, takeover, self.now)
        return self.turns.ask(action, self.now)

    def _begun_late(self, step: StepUp | StepDown, waited: float) -> None:
        """The time that an instance waits for its turn is none of its own."""
        machine = self.machines.get(step.instance.app)
        if machine is not None and machine.generation == step.instance.generation:
            machine.deadline += waited

    # ---- events -----------------------------------------------------------------------------------------------------

    def died(self, app: AppName, generation: Generation, step: str, reason: str, now: float) -> None:
        machine = self.machines.get(app)
        if machine is not None and machine.generation == generation:
            machine.died(step, reason, now)

    def step_done(self, id: int, result: StepResult, now: float) -> None:
        self.turns.done(id, now)
        for machine in self.machines.values():
            if machine.done(id, result, now):
                return

    def wake(self, now: float) -> None:
        for machine in list(self.machines.values()):
            machine.wake(now)
        self.turns.wake(now)
        self.floating.wake(now)

    @property
    def wake_at(self) -> float | None:
        machines = [machine.wake_at for machine in self.machines.values()]
        times = [time for time in (*machines, self.turns.wake_at, self.floating.wake_at) if time is not None]
        return min(times, default=None)

    def note(self, happening: Happening | None) -> None:
        """For statd's history."""
        if happening is not None:
            self._out.tell(STATD, Note(happening.noted(self.me, self.now)))


def phase_of(value: bytes) -> tuple[Generation, Phase]:
    """A record of 'run.instances'; (0, CLOSED), which says nothing of any generation, for one that cannot be read."""
    generation, _, phase = value.decode(errors="replace").partition(" ")
    try:
        return Generation(int(generation)), Phase(phase)
    except ValueError:
        return NO_GENERATION, Phase.CLOSED


def _status_of(machine: InstanceMachine) -> InstanceStatus:
    steps = tuple(_step_status_of(machine, step) for step in machine.steps)
    return InstanceStatus(
        machine.config.name, machine.generation, machine.phase.value, steps, machine.reason, machine.failed
    )


def _step_status_of(machine: InstanceMachine, step: Step) -> StepStatus:
    """What is frozen is not looked at, so its facts are from before; its addresses went down with the lease."""
    result = machine.facts.get(step.name)
    if result is not None and machine.phase is Phase.FROZEN and step.kind is StepKind.ADDRESS:
        result = StepResult(Probe.INACTIVE)
    if result is None:
        return StepStatus(step.name, step.kind.value, "")
    return StepStatus(step.name, step.kind.value, result.probe.value, result.facts)
