"""What reqd's drivers and DRBD's handler do to simulated resources (truecl.sim.drbd), and programs that write there.

The handler is a process that the kernel starts, as root and apart from reqd. It asks this node's clusterd, again where
that is away, and looks at its token immediately before it answers: which generation is primary here, or is being made
so, and not given up yet.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from truecl.model.actions import (
    BuildWork,
    ReplicaConnect,
    ReplicaDown,
    ReplicaLook,
    ReplicaResult,
    ReplicaSever,
    ReplicaUp,
    StepDown,
    StepResult,
    StepUp,
    WorkDone,
)
from truecl.model.build import Seen
from truecl.model.config import Configuration
from truecl.model.ids import CLUSTERD, LOCKD, AppName, Generation, LinkName, NodeName, Term
from truecl.model.ledger import AnyCommand, Ledger, SetMirror
from truecl.model.mirror import Copy, CopyState, Mirror, MirrorVolume
from truecl.model.replica import Disk, ReplicaReport, Role
from truecl.model.step import Instance, Probe, replicated
from truecl.sim.drbd import VOLUME, Half, Resource
from truecl.wire.messages import AskPeerOutdated, PeerOutdated, Propose

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine
    from truecl.sim.process import Process

GO_ON = (4, 7)
_AGAIN = 0.3
"""Seconds after which a handler asks again: nobody answered, or the answer was no."""
_LOOK = 0.05
_PROMOTION = 3.0
"""Seconds that a promotion waits for its handler at the most."""
_WRITES = 8.0
"""Writes a second of a program."""
_BUILD = 0.2

ReplicaAction = ReplicaUp | ReplicaDown | ReplicaConnect | ReplicaLook | ReplicaSever


class SimulatedReplicas:
    """All nodes' resources. Methods that a mutant leaves a rule out of are small, and its own."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster, self._schedule = cluster, cluster.schedule
        self._random = Random(f"replicas {cluster.seed}")
        self._number = 0
        self.resources = {app.name: self._resource(cluster.configuration, app.name, app.nodes)
                          for app in cluster.configuration.apps if replicated(app)}  # fmt: skip

    def _resource(self, configuration: Configuration, app: AppName, nodes: tuple[NodeName, ...]) -> Resource:
        config = configuration.app(app)
        assert config is not None
        link = config.replication.link or LinkName(configuration.cluster.links[0].name)
        return Resource(self._cluster, app, nodes, link, self._froze)

    def half(self, machine: "Machine", app: AppName) -> Half | None:
        resource = self.resources.get(app)
        return resource.halves.get(machine.name) if resource is not None else None

    def powered_off(self, machine: "Machine") -> None:
        for resource in self.resources.values():
            if machine.name in resource.halves:
                resource.halves[machine.name].goes_with_the_power()

    # ---- it is built ------------------------------------------------------------------------------------------------

    def build(self, ledger: Callable[[], Ledger]) -> None:
        """As lha_buildapp would: the master's log learns of the resources as soon as it may. `ledger`: the newest."""
        for position, (app, resource) in enumerate(sorted(self.resources.items())):
            self._schedule.after(_BUILD, self._build, ledger, app, resource, position)

    def _build(self, ledger: Callable[[], Ledger], app: AppName, resource: Resource, position: int) -> None:
        if app in ledger().mirrors:
            return
        copies = {node: Copy(CopyState.CURRENT, ledger().index) for node in resource.halves}
        mirror = Mirror(7800 + position, (MirrorVolume(VOLUME, 0, position),), tuple(resource.halves), copies)
        commands: tuple[AnyCommand, ...] = (SetMirror(app, mirror),)
        for machine in self._cluster.machines.values():
            lockd = machine.processes.get(LOCKD)
            raft = getattr(lockd.core, "raft", None) if lockd is not None else None
            if raft is not None and raft.ready:
                machine.tell_as(CLUSTERD, LOCKD, Propose(-1, Term(raft.term), commands))
        self._schedule.after(_BUILD, self._build, ledger, app, resource, position)

    # ---- reqd's actions beneath instances ---------------------------------------------------------------------------

    def act(self, machine: "Machine", action: ReplicaAction, fails: bool) -> ReplicaResult | StepResult:
        """At the moment that it has its effect. `fails`: the tool says so, whatever it did."""
        app = _app_of(action)
        half, resource = self.half(machine, app), self.resources.get(app)
        if half is None or resource is None:
            return ReplicaResult(ReplicaReport(app, Role.DOWN), "no such resource")
        if isinstance(action, ReplicaSever):
            if not fails:
                self._sever(resource, half)
            return StepResult(Probe.UNKNOWN if half.suspended else Probe.INACTIVE, "failed" if fails else "")
        reason = "failed" if fails else ""
        if not fails or self._random.random() < 0.3:
            reason = self._change(resource, half, action) or reason
        return ReplicaResult(resource.report(half), reason)

    def _sever(self, resource: Resource, half: Half) -> None:
        rule = self._cluster.variant.replicas
        if rule == "resume without detaching" and half.suspended:
            half.token.over, half.looking = True, False
            resource.resume_io(half)
        elif rule != "sever nothing":
            resource.sever(half)

    def _change(self, resource: Resource, half: Half, action: ReplicaAction) -> str:
        match action:
            case ReplicaUp(connect=connect):
                if half.primary:
                    return "it is primary"
                resource.up(half)
                half.looking = half.looking or connect
            case ReplicaDown():
                if half.primary:
                    return "it is primary: an instance still runs on it"
                resource.down(half)
            case ReplicaConnect():
                half.looking = half.looking or half.present
        return ""

    def compare(self, machine: "Machine", action: BuildWork) -> WorkDone:
        half, resource = self.half(machine, action.app.name), self.resources.get(action.app.name)
        reason = resource.compare(half) if half is not None and resource is not None else "no such resource"
        return WorkDone(Seen(problems=(reason,) if reason else ()))

    # ---- the instance's step ----------------------------------------------------------------------------------------

    def promotes(self, process: "Process", action: StepUp, finish: Callable[[StepResult], None]) -> None:
        """Takes its time: the handler may have to be asked. `finish` is called once."""
        machine = process.machine
        half, resource = self.half(machine, action.instance.app), self.resources[action.instance.app]
        if half is None or not half.present:
            finish(StepResult(Probe.INACTIVE, "its replica is not up"))
            return
        if half.primary:
            half.token.generation, half.token.over = action.instance.generation, False
            self._active(machine, half, action.instance)
            finish(StepResult(Probe.ACTIVE))
            return
        half.token.generation, half.token.over = action.instance.generation, False
        if action.instance.alone:
            self._cluster.met("taken over alone")
            self._part(resource, half)
        until = self._schedule.now + min(action.timeout, _PROMOTION)
        self._promote(resource, half, action.instance, machine.boot, until, finish)

    def _part(self, resource: Resource, half: Half) -> None:
        """By force: no frozen primary is to meet it."""
        if self._cluster.variant.replicas == "promote without disconnect":
            return
        half.looking = False
        resource.close(half)

    def _promote(
        self,
        resource: Resource,
        half: Half,
        instance: Instance,
        boot: str,
        until: float,
        finish: Callable[[StepResult], None],
    ) -> None:
        machine = half.machine
        if machine.boot != boot or not machine.powered:
            return
        if machine.stalled:
            self._schedule.after(_LOOK, self._promote, resource, half, instance, boot, until, finish)
            return
        if not half.present or half.token.over or half.disk not in (Disk.UP_TO_DATE, Disk.CONSISTENT):
            half.token.over = True
            finish(StepResult(Probe.INACTIVE, f"its disk is {half.disk.value}"))
        elif self._schedule.now >= until:
            half.token.over = True
            finish(StepResult(Probe.INACTIVE, "no word on the peer in time"))
        elif half.session is not None and half.session.whole and not half.session.other(half).primary:
            resource.promote(half)
            self._active(machine, half, instance)
            finish(StepResult(Probe.ACTIVE))
        elif half.session is not None:  # it is not heard, or primary: in a moment it is known to be gone, or secondary
            self._schedule.after(_LOOK, self._promote, resource, half, instance, boot, until, finish)
        else:
            partings = half.partings

            def answered(code: int) -> None:
                if half.partings != partings or half.session is not None:
                    self._promote(resource, half, instance, boot, until, finish)
                elif code in GO_ON:
                    resource.promote_without_peer(half)
                    self._active(machine, half, instance)
                    finish(StepResult(Probe.ACTIVE))
                else:
                    half.token.over = True
                    half.outdated = half.outdated or code == 6
                    finish(StepResult(Probe.INACTIVE, f"refused: the handler answered {code}"))

            self._handler(half, instance.generation, boot, until, answered)

    def _active(self, machine: "Machine", half: Half, instance: Instance) -> None:
        machine.kernel.active[instance.app, f"replica {instance.app}"] = instance.generation

    def demote(self, machine: "Machine", action: StepDown) -> StepResult:
        app = action.instance.app
        half, resource = self.half(machine, app), self.resources[app]
        if half is not None and half.suspended:
            return StepResult(Probe.ACTIVE, "held open by what waits for its peer")
        if half is not None and half.primary:
            resource.demote(half)
        machine.kernel.active.pop((app, action.step.name), None)
        return StepResult(Probe.INACTIVE)

    def given_up(self, machine: "Machine") -> None:
        """The tools of an earlier life of reqd are ended: a promotion under way can succeed no more."""
        for resource in self.resources.values():
            half = resource.halves.get(machine.name)
            if half is not None and not half.primary:
                half.token.over = True

    def frozen(self, machine: "Machine", app: AppName) -> bool:
        """Does what waits for a write there not end, whoever kills it?"""
        half = self.half(machine, app)
        return half is not None and half.suspended and half.primary

    # ---- the handler ------------------------------------------------------------------------------------------------

    def _froze(self, half: Half) -> None:
        """The kernel starts its handler, and goes on only by its answer, or when its peer is there again."""
        partings, generation, resource = half.partings, half.token.generation, self._resource_of(half)

        def answered(code: int) -> None:
            if half.partings == partings and half.suspended and half.session is None and half.attached:
                if code in GO_ON:
                    resource.go_on(half)
                else:  # it waits on, and the node's guard asks again as long as the generation may run
                    self._schedule.after(_AGAIN, self._froze_still, half, partings, generation, answered)

        self._froze_still(half, partings, generation, answered)

    def _froze_still(self, half: Half, partings: int, generation: Generation, answered: Callable[[int], None]) -> None:
        if half.partings == partings and half.suspended and half.token.generation == generation:
            self._handler(half, generation, half.machine.boot, self._schedule.now + 3.0, answered)

    def _resource_of(self, half: Half) -> Resource:
        return next(each for each in self.resources.values() if half in each.halves.values())

    def _handler(
        self, half: Half, generation: Generation, boot: str, until: float, answered: Callable[[int], None]
    ) -> None:
        """One run of it. Says 1 where nobody said anything by `until`."""
        machine, app = half.machine, self._resource_of(half).app
        self._number += 1
        id = f"{machine.name}-peer-{self._number}"
        said: list[int] = []

        def end(code: int) -> None:
            if said or not machine.powered or machine.boot != boot:
                return
            if machine.stalled:
                self._schedule.after(_LOOK, end, code)
                return
            said.append(code)
            stands = self._schedule.now < until and self._stands(half, generation)
            self._cluster.met("handler: go on" if stands and code in GO_ON else "handler: no")
            answered(code if stands else 1)

        def read(message: Any) -> None:
            if isinstance(message, PeerOutdated) and message.id == id and message.generation == generation:
                self._schedule.after(0.005 + 0.1 * self._random.random(), end, message.code)

        def ask(turn: int) -> None:
            if said or not machine.powered or machine.boot != boot:
                return
            if self._schedule.now >= until:
                end(1)
                return
            machine.hang_up(f"{id}-{turn - 1}")
            machine.command(f"{id}-{turn}", CLUSTERD, AskPeerOutdated(id, app, generation), read)
            self._schedule.after(_AGAIN, ask, turn + 1)

        self._schedule.after(0.01 + 0.1 * self._random.random(), ask, 1)

    def _stands(self, half: Half, generation: Generation) -> bool:
        rule = self._cluster.variant.replicas
        stands = not half.token.over and half.token.generation == generation
        return stands or rule == "answer for what was given up"

    # ---- programs that write ----------------------------------------------------------------------------------------

    def writes(self, machine: "Machine", instance: Instance, step: str) -> None:
        """A program of it runs: it writes, as long as it does."""
        half = self.half(machine, instance.app)
        if half is not None:
            self._schedule.after(self._random.expovariate(_WRITES), self._write, machine, half, instance, step)

    def _write(self, machine: "Machine", half: Half, instance: Instance, step: str) -> None:
        kernel = machine.kernel
        if not machine.powered or kernel.active.get((instance.app, step)) != instance.generation:
            return
        if not machine.stalled and instance.app not in kernel.frozen and not half.parked:
            self.resources[instance.app].write(half)
        self._schedule.after(self._random.expovariate(_WRITES), self._write, machine, half, instance, step)


def _app_of(action: ReplicaAction) -> AppName:
    if isinstance(action, ReplicaSever):
        return action.instance.app
    return action.app if isinstance(action, ReplicaLook) else action.layout.resource
