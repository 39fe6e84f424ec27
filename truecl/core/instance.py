"""One application instance at its node: the steps up, the steps down, and what counts as gone.

Phases (the table below; a missing pair changes nothing):

    STARTING -> RUNNING                 every step's probe said ACTIVE
    RUNNING -> FROZEN                   the lease ended, and `on_quorum_loss: freeze`
    FROZEN -> RUNNING                   a new lease names it, and its processes go on
    STARTING, RUNNING, FROZEN -> STOPPING
                                        a stop was ordered, a step failed, the lease ended
    STOPPING -> CLOSED                  every step's probe said INACTIVE and the cgroup is empty
    STOPPING -> NEEDS_FENCE             a step would not go; tried again, and CLOSED once it went

CLOSED is final for a generation. A way down runs in stages; the actions of one stage go on side by side. The polite way
ends programs one by one, the guard's way (`force`, SAFETY.md section 6) takes the addresses down and kills at once.

Where its data is replicated, a primary without its peer has its I/O suspended: what waits for a write there does not
end, killed or not, nor does an unmount. So each forced way down severs the replica while it kills: what is in flight
fails, and was never acknowledged (SAFETY.md section 5). Whatever is tried again does so again, for the connection may
be lost in the middle of an unmount.

A FROZEN instance is as much an owner as a RUNNING one: its storage stays as it is, no process of it runs, its addresses
are down. It is thawed, or stopped by force; never asked politely, for that it would have to run.

After a restart of reqd a tool of its earlier life (a mount, a check, a detach) may still be at work. Nothing is brought
up beside it, and nothing counts as gone, before `EndTools` has seen the end of them all. Where one does not end, what
was being started or stopped becomes NEEDS_FENCE; what was RUNNING had no step under way, and runs on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from truecl.core import instance_words as words
from truecl.core import way_down
from truecl.core.instance_words import about
from truecl.core.way_down import FORCED_ADDRESS_TIMEOUT, FORCED_TIMEOUT
from truecl.model.actions import (
    Action,
    EndTools,
    FreezeGroup,
    ReplicaSever,
    StepDown,
    StepProbe,
    StepResult,
    StepUp,
)
from truecl.model.config import AppConfig, Program
from truecl.model.ids import Generation
from truecl.model.ledger import Format
from truecl.model.report import InstanceReport, Phase, Progress, Severity, Span
from truecl.model.step import Instance, Probe, Step, StepKind, steps_of

RETRY_AFTER = 1.0
"""Seconds between attempts to take down what would not go."""
MAX_REASON = 300
"""Characters of it that are reported, and written to the log."""
FORMAT_TIMEOUT = 300.0
"""Seconds that a build's own generation may take to make its file systems."""
PROBE_EVERY = 5.0
"""Seconds between looks at a running instance's steps."""


class Input(StrEnum):
    ALL_UP = "all up"
    FREEZE = "freeze"
    THAWED = "thawed"
    STOP = "stop"
    """Ordered, or because a step failed or the lease ended."""
    ALL_DOWN = "all down"
    STUCK = "stuck"


TRANSITIONS: dict[tuple[Phase, Input], Phase] = {
    (Phase.STARTING, Input.ALL_UP): Phase.RUNNING,
    (Phase.STARTING, Input.STOP): Phase.STOPPING,
    (Phase.RUNNING, Input.STOP): Phase.STOPPING,
    (Phase.RUNNING, Input.FREEZE): Phase.FROZEN,
    (Phase.FROZEN, Input.THAWED): Phase.RUNNING,
    (Phase.FROZEN, Input.STOP): Phase.STOPPING,
    (Phase.STOPPING, Input.ALL_DOWN): Phase.CLOSED,
    (Phase.STOPPING, Input.STUCK): Phase.NEEDS_FENCE,
    (Phase.NEEDS_FENCE, Input.ALL_DOWN): Phase.CLOSED,
}

Ask = Callable[[Action], int]
"""Puts an action out and returns its id."""
Say = Callable[[Progress], None]


@dataclass
class InstanceMachine:
    """Mutable; owned by reqd's core, which makes the phase durable and reports it."""

    config: AppConfig
    generation: Generation
    ask: Ask
    say: Say
    node: str
    phase: Phase = Phase.STARTING
    failed: bool = False
    reason: str = ""
    withdraw: Callable[[int], bool] = lambda action: False
    """Takes back an action that was asked for and has not begun; False if it has."""
    build: tuple[Format, ...] = ()
    """Not empty: only these file systems are found or made (`steps_of`)."""
    built: Mapping[str, str] = field(default_factory=dict)
    """Volumes to the UUIDs of the file systems that must be on them."""
    takeover: bool = False
    alone: bool = False
    """As in its grant: its replica is promoted without the others'."""
    forced: bool = False
    leftover: bool = False
    """Tools of an earlier life of reqd may still be at work on the steps."""
    deadline: float = 0.0
    """Of the start or the polite stop under way, seconds."""
    retry_at: float | None = None
    probe_at: float | None = None
    facts: dict[str, StepResult] = field(default_factory=dict)
    """Step name to its last result, for lha_stat."""
    since: float = 0.0
    """When the start, or the stop, under way or last finished began; 0: it was taken over, and runs since then."""
    spans: dict[str, Span] = field(default_factory=dict)
    """What that took, by kind of step."""
    _began: dict[int, float] = field(default_factory=dict)
    _steps: tuple[Step, ...] = ()
    _position: int = 0
    _up: dict[int, Step] = field(default_factory=dict)
    """Actions that may still bring something up: CLOSED waits for their end, and then looks again."""
    _down: dict[int, Step | None] = field(default_factory=dict)
    _probes: dict[int, Step] = field(default_factory=dict)
    _stages: list[list[Action]] = field(default_factory=list)
    _severing: set[int] = field(default_factory=set)
    """Its success is not needed for anything but what waits for it, and that says so itself."""
    _overtaken: set[int] = field(default_factory=set)
    """Actions of a way down that gave way to a new one: CLOSED waits for their end too, or a late umount would meet
    the next generation. Each has its time limit."""
    _stuck: str = ""
    _late: list[Step] = field(default_factory=list)
    """Addresses that did not go at once: a dead netd must not keep the guard from killing and unmounting."""
    _asks_late: bool = False
    _look_again: bool = False
    _tools: int | None = None
    """The EndTools that going on after a restart waits for."""
    frozen_at: float | None = None
    """Since when all of it stands still, while FROZEN."""
    thawing: bool = False
    _freezing: dict[int, Step | None] = field(default_factory=dict)
    """What FROZEN, or the way out of it, waits for."""
    _found: dict[str, str] = field(default_factory=dict)
    """Of a build: its file systems' steps to what is there (`Format`)."""
    _deaths: dict[str, list[float]] = field(default_factory=dict)
    _suspect: str = ""

    def __post_init__(self) -> None:
        self._steps = steps_of(self.config, self.build, self.built)

    @property
    def instance(self) -> Instance:
        return Instance(self.config.name, self.generation, self.alone)

    @property
    def steps(self) -> tuple[Step, ...]:
        return self._steps

    @property
    def open(self) -> bool:
        """Something of it may exist here."""
        return self.phase is not Phase.CLOSED

    @property
    def wake_at(self) -> float | None:
        times = [time for time in (self.retry_at, self.probe_at) if time is not None]
        return min(times) if times else None

    def report(self) -> InstanceReport:
        reason = self.reason[:MAX_REASON]
        return InstanceReport(
            self.config.name, self.generation, self.phase, self.failed, reason, tuple(self._found.items())
        )

    # ---- up ---------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """The record that it is open is durable; begin."""
        self.deadline = now + max(self.config.start_timeout, FORMAT_TIMEOUT if self.build else 0.0)
        self._begin_spans(now)
        self._next_up(now)

    def _next_up(self, now: float) -> None:
        if self._position == len(self._steps):
            self._enter(Input.ALL_UP)
            self.probe_at = now + PROBE_EVERY
            return
        step = self._steps[self._position]
        self._say_all(words.attempt(self._steps, step, self.node))
        self._bring_up(step, now)

    def _bring_up(self, step: Step, now: float) -> None:
        timeout = max(self.deadline - now, 0.1)
        if isinstance(step.spec, Program):
            timeout = min(timeout, step.spec.start_timeout)
        self._up[self._asked(StepUp(self.instance, step, timeout), now)] = step

    # ---- how long it took -------------------------------------------------------------------------------------------

    def _begin_spans(self, now: float) -> None:
        self.since = now
        self.spans, self._began = {}, {}

    def _asked(self, action: Action, now: float) -> int:
        number = self.ask(action)
        if self.phase is not Phase.RUNNING:
            self._began[number] = now
        return number

    def _timed(self, number: int, step: Step | None, now: float) -> None:
        """What is begun again (a polite stop goes on by force) counts from its first beginning."""
        began = self._began.pop(number, None)
        if began is not None:
            kind = (step.kind if step is not None else StepKind.PROGRAM).value
            self.spans[kind] = Span(kind, self.spans[kind].began if kind in self.spans else began, now)

    def _up_done(self, step: Step, result: StepResult, now: float) -> None:
        self.facts[step.name] = result
        if self.phase in (Phase.STOPPING, Phase.NEEDS_FENCE):
            self._look_again = True
            self._finish_stage(now)
        elif result.probe is not Probe.ACTIVE or result.reason:
            reason = result.reason or f"is {result.probe.value} after its start"
            if self.phase is Phase.RUNNING:
                self.died(step.name, reason, now)
            else:
                self.fail(about(step.name, reason), now)
        elif self.phase is Phase.STARTING:
            if step.kind is StepKind.FORMAT:
                self._found = self._found | {step.name: result.facts.get("found", "")}
            self._say_all(words.came_up(self._steps, step, result, self.node, self.config.name))
            self._position += 1
            self._next_up(now)

    def _say_all(self, lines: list[Progress]) -> None:
        for line in lines:
            self.say(line)

    # ---- running ----------------------------------------------------------------------------------------------------

    def died(self, step_name: str, reason: str, now: float) -> None:
        """A program's process ended: start it again here, unless it does so too often."""
        step = next((each for each in self._steps if each.name == step_name), None)
        if step is not None and self.phase is Phase.FROZEN:
            self.stop(now, force=True, reason=about(step_name, reason))
        if step is None or self.phase is not Phase.RUNNING:
            return
        if not isinstance(step.spec, Program):
            self.fail(about(step_name, reason), now)
            return
        window = step.spec.restart_window
        deaths = [each for each in self._deaths.get(step_name, []) if now - each < window] + [now]
        self._deaths[step_name] = deaths
        if len(deaths) > step.spec.restarts:
            self.fail(f"{about(step_name, reason)}; {len(deaths)} times within {window:.0f} s", now)
            return
        text = f"{self.node}: {about(step_name, reason)}, starting it again ({len(deaths)})"
        self.say(Progress(text, Severity.WARN))
        self.deadline = now + self.config.start_timeout
        self._bring_up(step, now)

    def _probe_done(self, step: Step, result: StepResult, now: float) -> None:
        if result.probe is not Probe.UNKNOWN:
            self.facts[step.name] = result
        if self.phase is not Phase.RUNNING or self._up:
            return
        if result.probe in (Probe.INACTIVE, Probe.FAILED):
            if self._suspect == step.name:  # twice in a row: one look alone may race with a repair
                self.fail(f"{step.name}: found {result.probe.value} while running; {result.reason}", now)
            self._suspect = step.name
        elif self._suspect == step.name:
            self._suspect = ""

    # ---- down -------------------------------------------------------------------------------------------------------

    def fail(self, reason: str, now: float) -> None:
        """It cannot run here: walk back down."""
        if self.phase in (Phase.STARTING, Phase.RUNNING):
            self.failed, self.reason = True, reason
            self.say(Progress(f"{self.node}: {reason}", Severity.ERROR, verbose=False))
            self.stop(now)

    def stop(self, now: float, force: bool = False, reason: str = "") -> None:
        """Begin the way down, or turn the polite one into the guard's. Harmless when that goes on already."""
        force = force or self.phase is Phase.FROZEN
        begins = self.phase in (Phase.STARTING, Phase.RUNNING, Phase.FROZEN)
        if not self.open or (not begins and self.forced >= force):
            return
        self.reason = self.reason or reason
        self.forced = self.forced or force
        if begins:
            self._begin_spans(now)
        self._enter(Input.STOP)
        self.probe_at = None
        self.deadline = now + self.config.stop_timeout
        self._begin_down(now)

    def _begin_down(self, now: float) -> None:
        self._stuck, self._look_again, self.retry_at = "", False, None
        self._late, self._asks_late, self._tools = [], False, None
        self._freezing, self.frozen_at, self.thawing = {}, None, False
        self._up = {action: step for action, step in self._up.items() if not self.withdraw(action)}
        self._overtaken.update(action for action in self._down if not self.withdraw(action))
        self._down, self._severing = {}, set()
        self._stages = self._way_down(now)
        self._next_stage(now)

    def _way_down(self, now: float) -> list[list[Action]]:
        """Stages of actions. Answers to actions of an earlier way down are ignored: their ids are forgotten."""
        polite = None if self.forced else max(self.deadline - now, 0.1)
        return way_down.stages(self.instance, self._steps, self._tools_first(), polite)

    def _next_stage(self, now: float) -> None:
        if not self._stages:
            self._all_stages_done(now)
            return
        for action in self._stages.pop(0):
            step = action.step if isinstance(action, StepDown) else None
            if step is not None:
                self._say_all(words.attempt_down(self._steps, step, self.node, self.config.name))
            number = self._asked(action, now)
            self._down[number] = step
            if isinstance(action, ReplicaSever):
                self._severing.add(number)

    def _down_done(self, step: Step | None, result: StepResult, now: float) -> None:
        name = step.name if step is not None else "processes"
        if step is not None:
            self.facts[step.name] = result
        if result.probe is Probe.INACTIVE and not result.reason:
            pass
        elif self.forced and step is not None and step.kind is StepKind.ADDRESS and not self._asks_late:
            self._late.append(step)
        else:
            self._stuck = about(name, result.reason or f"still {result.probe.value}")
        self._finish_stage(now)

    def _finish_stage(self, now: float) -> None:
        if self._down:
            return
        if self._stuck:
            self._give_up(now)
        else:
            self._next_stage(now)

    def _give_up(self, now: float) -> None:
        """A polite way down that failed goes on by force; a forced one says so and is tried again."""
        stuck = self._stuck
        if not self.forced:
            self.say(Progress(f"{self.node}: {stuck}; going on by force", Severity.WARN))
            self.forced = True
            self._begin_down(now)
            return
        if self.phase is Phase.STOPPING:
            self.say(Progress(f"{self.node}: cannot be stopped: {stuck}", Severity.ERROR, verbose=False))
        self.reason = stuck
        self._enter(Input.STUCK)
        self._stages = []
        self.retry_at = now + RETRY_AFTER

    def _all_stages_done(self, now: float) -> None:
        if self._late:
            late, self._late, self._asks_late = self._late, [], True
            self._stages = [[StepDown(self.instance, each, FORCED_TIMEOUT, True) for each in late]]
            self._next_stage(now)
            return
        if self._up or self._overtaken:
            return  # something is still on its way: its end leads back here through _finish_stage
        if self._look_again:
            self._begin_down(now)
            return
        self._enter(Input.ALL_DOWN)

    # ---- without a lease, for a while -------------------------------------------------------------------------------

    def freeze(self, now: float) -> bool:
        """The lease ended: it stands still. False where it must be stopped, as something is being brought up."""
        if self.phase is not Phase.RUNNING or self._up or self._tools is not None or self.leftover:
            return False
        self._enter(Input.FREEZE)
        self.probe_at, self.frozen_at, self.thawing = None, None, False
        addresses = [each for each in self._steps if each.kind is StepKind.ADDRESS]
        self._freezing = {
            self.ask(StepDown(self.instance, each, FORCED_ADDRESS_TIMEOUT, True)): each for each in addresses
        }
        self._freezing[self.ask(FreezeGroup(self.instance))] = None
        text = f"{self.node}: the node's lease ended: no quorum in reach; frozen until there is one"
        self.say(Progress(text, Severity.WARN, verbose=False))
        return True

    def thaw(self, now: float) -> None:
        """A lease that was asked for after it stood still names it."""
        if self.phase is Phase.FROZEN and self.frozen_at is not None and not self.thawing:
            self.thawing = True
            self._freezing = {self.ask(FreezeGroup(self.instance, False)): None}

    def _freezing_done(self, step: Step | None, result: StepResult, now: float) -> None:
        if result.reason:
            what = about(step.name, result.reason) if step is not None else result.reason
            self.stop(now, force=True, reason=f"could not be {'thawed' if self.thawing else 'frozen'}: {what}")
        elif self._freezing:
            return
        elif self.thawing:
            self._enter(Input.THAWED)
            self.frozen_at, self.thawing, self.since = None, False, 0.0
            self.say(Progress(f"{self.node}: the node has a lease again: it goes on", Severity.WARN, verbose=False))
            self._go_on(now)
            self._bring_up_addresses(now)
        else:
            self.frozen_at = now

    # ---- events -----------------------------------------------------------------------------------------------------

    def done(self, action: int, result: StepResult, now: float) -> bool:
        """The end of one of this machine's actions; False when it is not (or no longer) one of them."""
        if action in self._up:
            step = self._up.pop(action)
            self._timed(action, step, now)
            self._up_done(step, result, now)
        elif action in self._down:
            step_down = self._down.pop(action)
            self._timed(action, step_down, now)
            if action in self._severing:
                self._finish_stage(now)
            else:
                self._down_done(step_down, result, now)
        elif action in self._overtaken:
            self._overtaken.discard(action)
            self._finish_stage(now)
        elif action in self._freezing:
            self._freezing_done(self._freezing.pop(action), result, now)
        elif action in self._probes:
            self._probe_done(self._probes.pop(action), result, now)
        elif action == self._tools:
            self._tools = None
            self._tools_done(result, now)
        else:
            return False
        return True

    def wake(self, now: float) -> None:
        if self.retry_at is not None and now >= self.retry_at:
            self.retry_at = None
            if self.phase is Phase.RUNNING:
                self._await_tools(now)
            else:
                self._begin_down(now)
        if self.probe_at is not None and now >= self.probe_at:
            self.probe_at = now + PROBE_EVERY
            if not self._probes:
                self._probes = {self.ask(StepProbe(self.instance, step)): step for step in self._steps}

    # ---- after a restart of reqd ------------------------------------------------------------------------------------

    def resume(self, phase: Phase, now: float) -> None:
        """It was STARTING or RUNNING, and its lease still holds. It goes on when the tools under way have ended;
        addresses are netd's, and wait for nothing."""
        self.phase, self.leftover = phase, True
        self.deadline = now + self.config.start_timeout
        if phase is Phase.RUNNING:
            self._position = len(self._steps)
            self._bring_up_addresses(now)
        self._await_tools(now)

    def _bring_up_addresses(self, now: float) -> None:
        for step in self._steps:
            if step.kind is StepKind.ADDRESS:
                self._bring_up(step, now)

    def _await_tools(self, now: float) -> None:
        self._tools = self.ask(EndTools(self.instance))

    def _tools_first(self) -> list[list[Action]]:
        return [[EndTools(self.instance)]] if self.leftover else []

    def _tools_done(self, result: StepResult, now: float) -> None:
        gone = result.probe is Probe.INACTIVE
        self.leftover = self.leftover and not gone
        if self.phase is Phase.STARTING:
            if gone:
                self.start(now)
            else:
                self.fail(result.reason, now)
        elif self.phase is Phase.RUNNING:
            if gone:
                self._go_on(now)
            else:
                self.retry_at = now + RETRY_AFTER

    def _go_on(self, now: float) -> None:
        """Ups are idempotent: they find what is there, watch it again, and start a program that died meanwhile."""
        self.probe_at = now + PROBE_EVERY
        self.deadline = now + self.config.start_timeout
        for step in self._steps:
            if step.kind is not StepKind.ADDRESS:
                self._bring_up(step, now)

    def clear(self, now: float, reason: str) -> None:
        """Take down whatever an earlier boot, or an order never seen here, may have left; then CLOSED."""
        self.phase = Phase.STOPPING
        self.forced, self.reason = True, reason
        self._begin_spans(now)
        self._begin_down(now)

    def _enter(self, what: Input) -> None:
        self.phase = TRANSITIONS.get((self.phase, what), self.phase)
