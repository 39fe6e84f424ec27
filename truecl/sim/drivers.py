"""The drivers of reqd and netd on simulated kernels: slow, failing, hanging, and honest in what they probe.

What is taken for granted of the real ones: a result is final. A tool that was given up either did its work by then or
never will; one that not even KILL ends is *stuck*, and until it ends its step probes as UNKNOWN. When reqd dies, its
tools go on at their own pace beside the next reqd, until that has them ended (`EndTools`): killed, each has done its
work by then or never will.
"""

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

from truecl.core.contract import Do
from truecl.core.hold import LAPSED, Announce, AskConflict, Configure, Conflict, Outcome, Remove, Warn
from truecl.core.interfaces import Interfaces
from truecl.core.reqd import Reqd
from truecl.core.turns import SLOW
from truecl.core.watchdog import SOFTDOG
from truecl.model.actions import (
    ArmWatchdog,
    AskDevice,
    BuildWork,
    ConfigurationRead,
    DisarmWatchdog,
    EndTools,
    FeedWatchdog,
    FenceOutcome,
    FreezeGroup,
    KillGroup,
    KillParent,
    Leave,
    Power,
    ReadConfiguration,
    ReplicaConnect,
    ReplicaDown,
    ReplicaLook,
    ReplicaSever,
    ReplicaUp,
    StepDown,
    StepProbe,
    StepResult,
    StepUp,
    WatchdogTrouble,
    WorkDone,
)
from truecl.model.build import Seen, Verify
from truecl.model.config import WATCHDOG_FEED, NodeConfig
from truecl.model.ids import NETD, REQD, DaemonName, NodeName
from truecl.model.step import Instance, Probe, ReplicaSpec, Step
from truecl.sim.clerks import Clerks
from truecl.sim.cluster import Violation
from truecl.sim.kernel import Address, Kernel, Key
from truecl.sim.process import Process
from truecl.sim.replicas import ReplicaAction, SimulatedReplicas
from truecl.sim.steps import Steps
from truecl.sim.watchdog import Device

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine

WATCHDOGS = (("Simulated Hardware", "", True), (SOFTDOG, "", False), ("Virtual Device", "KVM", False))
"""Identity, what says that the machine is virtual, and whether its clock runs while the machine stands still."""
DECLARED = ("Declared Device", "KVM", True)
"""Where the operator says that it survives a pause, and is right: then CLOCK_BOOTTIME counts the pause as well."""
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
    """One action under way. `effect` happens once, at the latest when the work is over. `tool`: by a process of its
    own, which outlives the daemon. `up`: when it began to bring a step up, true time; None: it does something else."""

    __slots__ = ("effect", "over", "process", "tool", "up")

    def __init__(self, process: Process, effect: Callable[[], Any], tool: bool, up: float | None) -> None:
        self.process = process
        self.tool = tool
        self.up = up
        self.effect: Callable[[], Any] | None = effect
        self.over = False


class SimulatedDrivers:
    """All nodes' drivers."""

    def __init__(self, cluster: "Cluster", witness: Witness) -> None:
        self._cluster = cluster
        self._random = cluster.random
        self._schedule = cluster.schedule
        self._witness = witness
        self._clerks = Clerks(cluster)
        self.replicas = SimulatedReplicas(cluster)
        self._steps = Steps(cluster, witness, self.replicas, self._work, self._time)
        self._works: dict[tuple[NodeName, DaemonName], list[_Work]] = {}
        faults = cluster.faults
        self._feeds: dict[NodeName, set[str]] = {}
        """Which of the two power feeds of each node are on."""
        self._slow_fence = {
            name: faults.fence_slow_length if self._random.random() < faults.fence_slow else 0.3
            for name in cluster.names
        }
        self._watchdogs = {node.name: self._drawn(node) for node in cluster.configuration.cluster.nodes}

    def _drawn(self, node: NodeConfig) -> tuple[str, str, bool]:
        """Its watchdog."""
        if node.watchdog.watchdog_survives_pause:
            return DECLARED
        if self._random.random() >= self._cluster.faults.virtual:
            return WATCHDOGS[0]
        return self._random.choice(WATCHDOGS[1:])

    def primaries(self) -> list["Machine"]:
        resources = self.replicas.resources.values()
        return [
            half.machine
            for resource in resources
            for half in resource.halves.values()
            if half.primary and half.machine.powered
        ]

    # ---- power and life ---------------------------------------------------------------------------------------------

    def powered_on(self, machine: "Machine") -> None:
        """Whoever switched it on saw to both of its feeds."""
        self._feeds[machine.name] = {"a", "b"}
        machine.kernel = Kernel(self._cluster.names.index(machine.name) + 1)
        machine.virtual = self._watchdogs[machine.name] is not WATCHDOGS[0]
        required = self._cluster.configuration.cluster.node(machine.name).watchdog.use == "required"
        if required or self._random.random() >= self._cluster.faults.no_watchdog:
            toothless = self._cluster.faults.toothless > 0.0 and self._random.random() < self._cluster.faults.toothless
            machine.watchdog = Device(machine, *self._watchdogs[machine.name], toothless)
        else:
            self._cluster.met("boot without a watchdog")

    def powered_off(self, machine: "Machine") -> None:
        machine.kernel = Kernel(machine.kernel.number)
        self.replicas.powered_off(machine)
        for key in [each for each in self._works if each[0] == machine.name]:
            for work in self._works.pop(key):
                work.effect, work.over = None, True

    def started(self, process: Process) -> None:
        machine = process.machine
        if process.daemon == NETD:
            self._schedule.after(0.001, self._look, machine, process)
        elif process.daemon == REQD:
            machine.kernel.watched.clear()

    def died(self, process: Process) -> None:
        """What it did by itself is done or not. Its tools go on."""
        self._settle(process.machine, process.daemon, lambda work: not work.tool)

    def woke(self, machine: "Machine", seconds: float) -> None:
        """The kernel's timers go on where they were."""
        for address, held in machine.kernel.addresses.items():
            held.expires += seconds
            self._schedule.at(held.expires, self._expire, machine, address, held)

    def _settle(self, machine: "Machine", daemon: DaemonName, chosen: Callable[[_Work], bool]) -> None:
        """These are over: each has had its effect by now, or has none any more."""
        works = self._works.get((machine.name, daemon), [])
        for work in [each for each in works if chosen(each)]:
            if work.effect is not None and not work.over and self._random.random() < 0.5:
                work.effect()
            work.effect, work.over = None, True
            works.remove(work)

    def _look(self, machine: "Machine", process: Process) -> None:
        if process.alive:
            machine.noted(NETD, Interfaces(machine.kernel.interfaces()))

    # ---- actions ----------------------------------------------------------------------------------------------------

    def perform(self, process: Process, order: Do) -> None:
        action = order.action
        if isinstance(action, StepUp):
            self._witness.starting(process.machine, action.instance, action.step)
        match action:
            case StepUp() if isinstance(action.step.spec, ReplicaSpec):
                self._promote(process, order.id, action)
            case ReplicaUp() | ReplicaDown() | ReplicaConnect() | ReplicaLook() | ReplicaSever():
                self._replica(process, order.id, action)
            case StepUp() | StepDown():
                if isinstance(action, StepUp):
                    self._take_turns(process, process.decided)
                self._steps.step(process, order.id, action)
            case StepProbe():
                self._work(process, order.id, self._time(), lambda: self._steps.probed(process, action))
            case KillGroup():
                self._kill(process, order.id, action, self._schedule.now + action.timeout)
            case FreezeGroup():
                self._work(process, order.id, self._time(), lambda: self._steps.freeze(process, action))
            case EndTools():
                self._work(process, order.id, self._time(), lambda: self._end_tools(process))
            case AskDevice():
                self._fence(process, order.id, action)
            case ArmWatchdog() | FeedWatchdog():
                self._watch(process, order.id, action)
            case DisarmWatchdog():
                if process.machine.watchdog is not None:
                    process.machine.watchdog.disarm()
            case Leave():
                self._cluster.supervision.left(process.machine)
            case KillParent():
                self._cluster.supervision.parent_killed(process.machine)
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
            case BuildWork(work=Verify()):
                self._work(process, order.id, self._time(), lambda: self.replicas.compare(process.machine, action))
            case BuildWork():
                self._work(process, order.id, self._time(), lambda: WorkDone(Seen(facts={"volume data": "1"})))
            case _:
                self._work(process, order.id, 0.002, lambda: self._clerks.work(process.machine, action))

    def _time(self) -> float:
        return self._random.expovariate(1.0) * self._cluster.faults.driver_time + 0.0005

    def _work(
        self,
        process: Process,
        number: int,
        seconds: float,
        effect: Callable[[], Any],
        tool: bool = False,
        up: float | None = None,
    ) -> None:
        """Have the effect after `seconds` (later on a paused node) and answer with what it returns."""
        work = _Work(process, effect, tool, up)
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

    # ---- replicated storage -----------------------------------------------------------------------------------------

    def _replica(self, process: Process, number: int, action: ReplicaAction) -> None:
        """A look costs little, and fails as a probe does; the others are tools."""
        faults, looks = self._cluster.faults, isinstance(action, ReplicaLook)
        fails = self._random.random() < (faults.probe_fails if looks else faults.driver_fails)
        hangs = not looks and self._random.random() < faults.driver_hangs
        seconds = 0.002 if looks else action.timeout if hangs else self._time()
        machine = process.machine
        self._work(process, number, seconds, lambda: self.replicas.act(machine, action, fails or hangs), not looks)

    def _promote(self, process: Process, number: int, action: StepUp) -> None:
        faults, machine = self._cluster.faults, process.machine
        self._take_turns(process, process.decided)
        if self._random.random() < faults.driver_hangs:
            result = StepResult(Probe.UNKNOWN, "gave no answer in time")
            self._work(process, number, action.timeout, lambda: result, True)
            return
        fails = self._random.random() < faults.driver_fails

        def finish(result: StepResult) -> None:
            if process.alive:
                machine.done(process, number, StepResult(result.probe, "failed") if fails else result)

        self._schedule.after(self._time(), self._begin_promotion, process, action, finish)

    def _begin_promotion(self, process: Process, action: StepUp, finish: Callable[[StepResult], None]) -> None:
        machine = process.machine
        if not process.alive or not machine.powered:
            return
        if machine.stalled:
            self._schedule.after(_PAUSED, self._begin_promotion, process, action, finish)
            return
        self._witness.activated(machine, (action.instance.app, action.step.name), action.step)
        self.replicas.promotes(process, action, finish)

    def _kill(self, process: Process, number: int, action: KillGroup, until: float) -> None:
        """What waits for a frozen device does not end, until that fails it."""
        if self.replicas.frozen(process.machine, action.instance.app) and self._schedule.now < until:
            self._schedule.after(_PAUSED, self._kill, process, number, action, until)
        else:
            self._work(process, number, self._time(), lambda: self._steps.kill_group(process, action.instance))

    # ---- turns and tools --------------------------------------------------------------------------------------------

    def _take_turns(self, process: Process, now: float) -> None:
        """No more steps are brought up at a time than reqd's limit, but for slow ones (truecl.core.turns)."""
        if not isinstance(process.core, Reqd):
            return
        works = self._works.get((process.machine.name, process.daemon), [])
        young = [each for each in works if each.up is not None and not each.over and now - each.up < SLOW * 0.9]
        if len([each for each in young if each.process is process]) >= process.core.instances.turns.limit:
            raise Violation(f"{process} begins more than {process.core.instances.turns.limit} steps at a time")

    def _end_tools(self, process: Process) -> StepResult:
        """Those of earlier lives die, but for the ones that are stuck."""
        machine = process.machine
        self._settle(machine, REQD, lambda work: work.process is not process)
        self.replicas.given_up(machine)
        if any(each.process is not process for each in machine.kernel.stuck):
            return StepResult(Probe.UNKNOWN, "a tool of an earlier life does not end")
        return StepResult(Probe.INACTIVE)

    # ---- the watchdog -----------------------------------------------------------------------------------------------

    def _watch(self, process: Process, number: int, action: ArmWatchdog | FeedWatchdog) -> None:
        """A system call of reqd itself. It comes when this process goes on, and never when it died before."""
        machine = process.machine
        if machine.before_feed is not None and isinstance(action, FeedWatchdog) and _last_of_lease(process):
            held, machine.before_feed = machine.before_feed, None
            held(lambda: self._call(process, number, action))
        else:
            self._schedule.after(0.0001, self._call_when_running, process, number, action)

    def _call_when_running(self, process: Process, number: int, action: ArmWatchdog | FeedWatchdog) -> None:
        if process.alive and (process.held or process.machine.stalled):
            self._schedule.after(_PAUSED, self._call_when_running, process, number, action)
        else:
            self._call(process, number, action)

    def _call(self, process: Process, number: int, action: ArmWatchdog | FeedWatchdog) -> None:
        machine, device = process.machine, process.machine.watchdog
        if not process.alive:
            return
        if device is None:
            result: Any = WatchdogTrouble("there is no such device")
        elif isinstance(action, ArmWatchdog):
            result = device.arm(process, float(action.timeout))
        else:
            result = device.feed(process)
        machine.done(process, number, result)

    # ---- addresses --------------------------------------------------------------------------------------------------

    def _configure(self, process: Process, number: int, action: Configure) -> None:
        """The clock is read before and after, and the node may be paused in between."""
        machine = process.machine
        before = machine.clock()
        if before >= action.until:
            self._work(process, number, 0.0001, lambda: Outcome(LAPSED))
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
        due = machine.suspended is None and self._schedule.now >= held.expires
        if due and machine.kernel.addresses.get(address) is held:
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
        if self._cluster.stranger(address, self._schedule.now):
            self._cluster.met("address of a stranger")
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

    def _fence(self, process: Process, number: int, action: AskDevice) -> None:
        """A device does not lie: 'off' means that what it feeds was off after the order came in. One without a `feed`
        cuts all power; those with one leave the node running while another feed is on."""
        victim = self._cluster.machines[action.node]
        feed = action.device.parameters.get("feed")
        seconds = self._random.random() * self._slow_fence[action.node] + 0.05
        refuses = self._random.random() < self._cluster.faults.fence_refuses
        effect = not refuses or self._random.random() < 0.3
        if refuses:
            self._cluster.met("fence refuses and cuts" if effect else "fence refuses")

        def switch() -> None:
            if effect and action.wanted is Power.OFF:
                self._cut(victim, feed)
            elif effect and action.wanted is Power.ON:
                self._cluster.power_on(victim)

        def say() -> FenceOutcome:
            if refuses:
                return FenceOutcome(False, "the device does not answer")
            if action.wanted is not Power.UNKNOWN:
                return FenceOutcome(True, "", action.wanted)
            fed = victim.powered and (feed is None or feed in self._feeds[victim.name])
            return FenceOutcome(True, "", Power.ON if fed else Power.OFF)

        def switch_and_say() -> FenceOutcome:
            switch()
            return say()

        if self._random.random() < self._cluster.faults.fence_late:
            self._schedule.after(seconds, switch)
            self._work(process, number, seconds + self._random.random() * self._cluster.faults.fence_late_length, say)
        else:
            self._work(process, number, seconds, switch_and_say)

    def _cut(self, victim: "Machine", feed: str | None) -> None:
        feeds = self._feeds[victim.name]
        if feed is not None:
            feeds.discard(feed)
        if victim.powered and (feed is None or not feeds):
            self._cluster.power_cut(victim)


def _last_of_lease(process: Process) -> bool:
    """Is the feed that it decided on the last before its lease ends?"""
    core = process.core
    return isinstance(core, Reqd) and 0.0 < core._lease.end - process.machine.clock() <= WATCHDOG_FEED
