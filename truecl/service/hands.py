"""reqd's actions on the real machine: each goes to the driver of its kind, and always ends in a typed result."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from truecl.drivers.build.worker import Worker
from truecl.drivers.contract import Driver, StepFailed
from truecl.drivers.fence.driver import FenceDriver
from truecl.drivers.program.cgroup import Groups
from truecl.drivers.storage.drbd.replicas import Replicas
from truecl.drivers.tools import Tools
from truecl.drivers.watchdog.driver import WatchdogDriver
from truecl.model.actions import (
    AnyAction,
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
    ReadConfiguration,
    ReplicaConnect,
    ReplicaDown,
    ReplicaLook,
    ReplicaResult,
    ReplicaSever,
    ReplicaUp,
    StepDown,
    StepProbe,
    StepResult,
    StepUp,
    WatchdogFed,
    WatchdogTrouble,
    WorkDone,
)
from truecl.model.build import Seen
from truecl.model.ids import AppName
from truecl.model.replica import ReplicaReport, Role
from truecl.model.step import Probe, StepKind
from truecl.runtime.loop import TwistedLoop
from truecl.runtime.runner import OWNER, ProcessRunner

T = TypeVar("T")
AnyReplicaAction = ReplicaUp | ReplicaDown | ReplicaConnect | ReplicaLook


class Hands:
    """`host.Actions` of reqd. An action that outlives its time is cancelled, which ends its child processes; what it
    left behind is for the next probe to say, so its result is UNKNOWN.

    A tool that not even KILL ends (a mount that waits for a device) may still do its work. Until it is gone nobody can
    say what becomes of its step: it is brought neither up nor down, and its probe says UNKNOWN.
    """

    def __init__(
        self,
        drivers: dict[StepKind, Driver],
        runner: ProcessRunner,
        groups: Groups,
        tools: Tools,
        replicas: Replicas,
        fence: FenceDriver,
        watchdog: WatchdogDriver,
        loop: TwistedLoop,
        read: Callable[[], ConfigurationRead],
        leave: Callable[[], None],
        kill_parent: Callable[[], None],
        worker: Worker,
    ) -> None:
        self._drivers = drivers
        self._runner = runner
        self._groups = groups
        self._tools = tools
        self._replicas = replicas
        self._fence = fence
        self._watchdog = watchdog
        self._loop = loop
        self._read = read
        self._leave, self._kill_parent = leave, kill_parent
        self._worker = worker

    def __call__(self, action: AnyAction) -> Any:
        """A Deferred; of the watchdog's actions, which are done at once, the result itself."""
        match action:
            case ArmWatchdog():
                return self._watchdog.arm(action.device, action.timeout, action.armed_before)
            case FeedWatchdog():
                self._watchdog.feed()
                return WatchdogFed()
            case DisarmWatchdog():
                self._watchdog.disarm()
                return WatchdogFed()
            case StepUp() | StepDown() | StepProbe():
                return self._within(action.timeout, self._step(action))
            case KillGroup():
                return self._within(action.timeout, self._kill(action))
            case FreezeGroup():
                return self._within(action.timeout, self._freeze(action))
            case EndTools():
                return Deferred.fromCoroutine(self._end_tools(action))
            case ReplicaUp() | ReplicaDown() | ReplicaConnect() | ReplicaLook():
                return self._within(action.timeout, self._replica(action))
            case ReplicaSever():
                return self._within(action.timeout, self._replicas.sever(action.instance))
            case BuildWork():
                return self._within(action.timeout, self._build(action))
            case AskDevice():
                return Deferred.fromCoroutine(self._fence.ask(action.node, action.device, action.wanted))
            case Leave():
                self._leave()
                return Deferred()
            case KillParent():
                self._kill_parent()
                return Deferred()
            case ReadConfiguration():
                return Deferred.fromCoroutine(self._configuration())

    def failed(self, action: AnyAction, error: BaseException) -> Any:
        """What an action that ended with an exception resulted in."""
        reason = error.reason if isinstance(error, StepFailed) else f"{type(error).__name__}: {error}"
        if isinstance(error, TimeoutError):
            reason = str(error)
        if isinstance(action, AskDevice):
            return FenceOutcome(False, reason)
        if isinstance(action, BuildWork):
            return WorkDone(Seen(problems=(reason,)))
        if isinstance(action, ArmWatchdog | FeedWatchdog | DisarmWatchdog):
            return WatchdogTrouble(reason)
        if isinstance(action, ReadConfiguration):
            return ConfigurationRead(None, (reason,))
        if isinstance(action, ReplicaUp | ReplicaDown | ReplicaConnect | ReplicaLook):
            return ReplicaResult(ReplicaReport(_app_of(action), Role.UNKNOWN, trouble=reason), reason)
        return StepResult(Probe.FAILED if isinstance(error, StepFailed) else Probe.UNKNOWN, reason)

    def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> "Deferred[T]":
        return Deferred.fromCoroutine(self._loop.within(max(seconds, 0.01), work))

    async def _step(self, action: StepUp | StepDown | StepProbe) -> StepResult:
        """The probe has the last word: up() and down() return when it said what was asked."""
        step = (action.instance.app, action.step.name)
        if stuck := self._runner.stuck_for(step):
            return StepResult(Probe.UNKNOWN, stuck)
        if not isinstance(action, StepProbe):
            OWNER.set(step)
        began = self._loop.now()
        driver = self._drivers[action.step.kind]
        if isinstance(action, StepUp):
            await driver.up(action.step, action.instance)
            probe = Probe.ACTIVE
        elif isinstance(action, StepDown):
            await driver.down(action.step, action.instance, action.force)
            probe = Probe.INACTIVE
        else:
            probe = await driver.probe(action.step, action.instance)
        took = self._loop.now() - began
        facts = await driver.detail(action.step, action.instance) if probe is Probe.ACTIVE else {}
        return StepResult(probe, "", facts, took)

    async def _replica(self, action: AnyReplicaAction) -> ReplicaResult:
        app = _app_of(action)
        if isinstance(action, ReplicaLook):
            return await self._replicas.look(app)
        owner = ("replica", app)
        if stuck := self._runner.stuck_for(owner):
            return ReplicaResult(ReplicaReport(app, Role.UNKNOWN, trouble=stuck), stuck)
        OWNER.set(owner)
        match action:
            case ReplicaUp():
                return await self._replicas.up(action.layout, action.connect)
            case ReplicaDown():
                return await self._replicas.down(action.layout)
            case ReplicaConnect():
                return await self._replicas.connect(action.layout)

    async def _build(self, action: BuildWork) -> WorkDone:
        return WorkDone(await self._worker.do(action))

    async def _kill(self, action: KillGroup) -> StepResult:
        group = self._groups.of(action.instance)
        if not await self._groups.stop(group, action.timeout):
            return StepResult(Probe.ACTIVE, "killed, but processes are still there: they wait for a device")
        await self._groups.remove(group)
        return StepResult(Probe.INACTIVE)

    async def _freeze(self, action: FreezeGroup) -> StepResult:
        probe = Probe.INACTIVE if action.frozen else Probe.ACTIVE
        if await self._groups.freeze(self._groups.of(action.instance), action.frozen):
            return StepResult(probe)
        what = "do not stand still" if action.frozen else "do not go on"
        return StepResult(Probe.UNKNOWN, f"its processes {what}: they wait for a device")

    async def _end_tools(self, action: EndTools) -> StepResult:
        left = await self._tools.ended(action.timeout)
        return StepResult(Probe.UNKNOWN if left else Probe.INACTIVE, left)

    async def _configuration(self) -> ConfigurationRead:
        return self._read()


def _app_of(action: AnyReplicaAction) -> AppName:
    return action.app if isinstance(action, ReplicaLook) else action.layout.resource
