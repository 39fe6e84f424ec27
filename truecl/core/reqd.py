"""reqd: this node's hands and its guard.

Joins the parts that each have a head of their own: the lease (until when may what run here), one `InstanceMachine` per
application, the floating addresses kept by netd, the supervisor of the other daemons, and the formation of the cluster
for lha_form and lha_dissolve.

The guard's rule comes first in every call: when the lease is over, whatever runs here is being stopped by force before
anything else is looked at (SAFETY.md sections 2 and 6). Records: bucket 'instances' holds each application's newest
generation, durable before its first step and before it is reported closed; 'run.instances' its phase ("7 running")
and 'run.lease' the lease's end, which a restart of this daemon needs and a reboot makes void.
"""

from typing import Any

import msgspec

from truecl.core.attendance import Attendance
from truecl.core.contract import Done, Event, Joined, Left, Noted, Output, Received, Records, Told
from truecl.core.fence_questions import FenceQuestions
from truecl.core.fencing import Fences
from truecl.core.floating import FloatingAddresses
from truecl.core.formation import Formation
from truecl.core.happenings import Happening, in_answer, in_instance
from truecl.core.instance import InstanceMachine
from truecl.core.lease import Lease
from truecl.core.outbox import Outbox
from truecl.core.supervisor import PARENT, Supervisor
from truecl.core.turns import Turns
from truecl.core.watchdog import Watchdog
from truecl.model.actions import (
    Action,
    ConfigurationRead,
    FenceOutcome,
    Leave,
    ProgramAnswered,
    ProgramDied,
    ServiceStopping,
    StepDown,
    StepProbe,
    StepResult,
    StepUp,
    WatchdogArmed,
    WatchdogFed,
    WatchdogTrouble,
)
from truecl.model.config import Address, AppConfig, Configuration, WatchdogConfig
from truecl.model.ids import (
    CLUSTERD,
    DAEMONS,
    LOCKD,
    NETD,
    NO_GENERATION,
    REQD,
    STATD,
    SYNCD,
    AppName,
    BootId,
    DaemonName,
    Generation,
    NodeName,
    Term,
)
from truecl.model.report import InstanceReport, Phase, Progress, Severity, WatchdogReport
from truecl.model.standing import StepStatus
from truecl.model.step import accepted
from truecl.wire import messages
from truecl.wire.messages import (
    AddressState,
    Applied,
    AskDaemons,
    AskFences,
    Compared,
    DaemonsUp,
    Dissolve,
    Exited,
    FencesSeen,
    Forked,
    Form,
    InstanceProgress,
    InstanceStatus,
    Leadership,
    Living,
    NewConfiguration,
    NodeStatus,
    Note,
    Order,
    OrderFenceOff,
    OrderPowerOn,
    Ready,
    Refused,
    Renewed,
    Reply,
    StartDaemons,
    StopDaemons,
    Subscribe,
)

STATUS_EVERY = 1.0
STATUS_PATIENCE = 0.3
"""Seconds that a status waits to go out in one wake with a renewal."""
LEAVE_TIME = 2.0
"""Seconds that a stopping service waits for the master to hear of it, and for another to lead."""
ORDER_LIFETIME = 5.0
"""Seconds that a start order waits for the lease to name its generation; the master repeats it."""


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


class Reqd:
    """The whole core of reqd."""

    def __init__(self, me: NodeName, configuration: Configuration, boot: BootId, records: Records, now: float) -> None:
        timing = configuration.cluster.timing
        self.me, self.boot, self.configuration = me, boot, configuration
        self._out = Outbox()
        # Numbers go on rising over restarts within a boot: nobody asks once a microsecond.
        self._lease = Lease(me, boot, timing.lease, timing.renewal, int(now * 1e6), now)
        self._records = {
            AppName(str(app)): msgspec.msgpack.decode(value, type=InstanceRecord)
            for app, value in records.get("instances", {}).items()
        }
        self._phases = {str(app): phase_of(value) for app, value in records.get("run.instances", {}).items()}
        self._old_lease = float(records.get("run.lease", {}).get("end", b"0"))
        self._machines: dict[AppName, InstanceMachine] = {}
        self._saved_phases: dict[AppName, tuple[Generation, Phase]] = {}
        self.turns = Turns(self._out, self._begun_late)
        self._floating = FloatingAddresses(self._out)
        self._supervisor = Supervisor(self._out)
        self._watchdog = Watchdog(_watchdog_of(configuration, me), timing.stop_allowance, records, self._out)
        self._watchdog_report: WatchdogReport | None = None
        self._attendance = Attendance(me, records, self._supervisor, self._out, now)
        self._formation = Formation(me, configuration, self._out, self._attendance.ask_self)
        self._orders: dict[AppName, tuple[Order, float]] = {}
        self._term = Term(int(records.get("run.term", {}).get("term", b"0")))
        self._fences = Fences(self._out, configuration)
        self._questions = FenceQuestions(me, self._out, configuration)
        self._joined: set[str] = set()
        self._acting: set[str] = set()
        """Who of them may change anything; the others may look."""
        self._leaving_since: float | None = None
        self._left = False
        self._status_at = now
        self._report: tuple[InstanceReport, ...] = ()
        self._urgent = False
        """A renewal is due at the end of this call: it brings the lease that an order waits for, or carries news."""
        self._now = now

    # ---- contract ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        self._now = self._attendance.now = now
        for app, record in sorted(self._records.items()):
            if record.open:
                self._take_up(app, record, now)
        if self._attendance.formed:
            self._supervisor.start(tuple(each for each in DAEMONS if each != REQD))
        return self._finish(now)

    def handle(self, event: Event, now: float) -> Output:
        self._now = self._attendance.now = now
        self._guard(now)
        match event:
            case Told(who, message):
                self._told(who, message, now)
            case Received(node, message):
                self._received(node, message, now)
            case Joined(who, root):
                self._join(who, root, now)
            case Left(who):
                self._joined.discard(who)
                self._acting.discard(who)
                self._questions.left(who)
                self._formation_presence()
            case Done(id, result):
                self._done(id, result, now)
            case Noted(ProgramDied(instance, step, reason)):
                machine = self._machines.get(instance.app)
                if machine is not None and machine.generation == instance.generation:
                    machine.died(step, reason, now)
            case Noted(ProgramAnswered(instance, step)):
                self._note(in_answer(instance, step, self.me))
            case Noted(ServiceStopping()):
                self._begin_leaving(now)
            case _:
                pass
        self._wake(now)
        return self._finish(now)

    # ---- the guard --------------------------------------------------------------------------------------------------

    def _guard(self, now: float) -> None:
        """A lapse is final: everything open is stopped by force, whatever comes in later."""
        if self._lease.holds(now):
            return
        for machine in self._machines.values():
            if machine.open and not (machine.forced and machine.phase in (Phase.STOPPING, Phase.NEEDS_FENCE)):
                machine.stop(now, force=True, reason="the node's lease ended: no quorum in reach")

    def _renewed(self, message: Renewed, now: float) -> None:
        if not self._lease.answer(message, now):
            return
        if any(machine.open for machine in self._machines.values()):
            self._remember_lease()
        for app, machine in sorted(self._machines.items()):
            if machine.open and not self._lease.names(app, machine.generation, now):
                machine.stop(now, force=True, reason="the cluster no longer grants it to this node")
        self._floating.extend(self._lease.end)
        if self._leaving_since is not None:
            self._close_what_is_named(now)
        self._start_what_waits(now)

    def _start_what_waits(self, now: float) -> None:
        for app, (order, _) in sorted(self._orders.items()):
            if self._may_start(order, now):
                del self._orders[app]
                self._start(order, now)

    def _may_start(self, order: Order, now: float) -> bool:
        return self._watchdog.settled and self._lease.names(order.app, order.generation, now)

    def _remember_lease(self) -> None:
        """For a restart of this daemon: it goes on with what is open here."""
        self._out.put("run.lease", "end", repr(self._lease.end).encode())

    def _ask_lease(self, now: float) -> None:
        if LOCKD in self._joined:
            leaving = self._leaving_since is not None
            self._out.tell(LOCKD, self._lease.request(self._report, leaving, now, self._watchdog_report))

    # ---- the watchdog -----------------------------------------------------------------------------------------------

    def _watch(self, now: float) -> None:
        """Feed it, if that may be. What leans on it does not run on without it: somebody else may be feeding it."""
        for app, machine in sorted(self._machines.items()):
            leans_on = self._records[app].watchdog
            if machine.open and leans_on and self._watchdog.settled and not 0.0 < self._watchdog.timeout <= leans_on:
                machine.stop(
                    now, force=True, reason="its grant leans on this node's watchdog, which is not fed any more"
                )
        self._watchdog.step(self._lease.holds(now) or not self._anything_open(), now)

    def _anything_open(self) -> bool:
        return any(machine.open for machine in self._machines.values())

    # ---- the end of the service -------------------------------------------------------------------------------------

    def _begin_leaving(self, now: float) -> None:
        """In good order: the applications stop here and move, another node leads, then this daemon ends."""
        if self._leaving_since is not None:
            return
        self._leaving_since, self._urgent = now, True
        self._out.tell(LOCKD, messages.StepDown())
        for machine in self._machines.values():
            machine.stop(now, reason="the service on this node is being stopped")

    def _close_what_is_named(self, now: float) -> None:
        """Grants that came too late to be started here: released, or they would wait for a fence of this node."""
        for app, generation in sorted(self._lease.named.items()):
            record = self._records.get(app)
            if record is None or record.generation < generation:
                self._close_unseen(Order("stop", app, generation, self._term), now)

    def _leave(self, now: float) -> None:
        """As long as anything is open this daemon guards it; what follows is politeness, and waits for nobody long."""
        if self._leaving_since is None or self._left or self._anything_open():
            return
        leadership = self._formation.leadership
        leads = leadership is not None and leadership.leader == self.me
        known = not self._lease.named or not self._lease.holds(now)
        if (known and not leads) or now >= self._leaving_since + LEAVE_TIME or LOCKD not in self._joined:
            self._left = True
            self._watchdog.disarm()
            self._out.do(Leave())

    @property
    def _leave_at(self) -> float | None:
        """When it waits no longer. Before everything is closed no time is up."""
        if self._leaving_since is None or self._left or self._anything_open():
            return None
        return self._leaving_since + LEAVE_TIME

    # ---- orders -----------------------------------------------------------------------------------------------------

    def _order(self, order: Order, now: float) -> None:
        if order.term < self._term:
            return
        if order.term > self._term:
            self._term = order.term
            self._out.put("run.term", "term", str(order.term).encode())
        record = self._records.get(order.app)
        known = record.generation if record is not None else NO_GENERATION
        if order.verb == "start":
            if order.generation > known:
                self._order_start(order, now)
        elif order.generation == known:
            machine = self._machines.get(order.app)
            if machine is not None:
                machine.stop(now)
        elif order.generation > known:
            self._close_unseen(order, now)
        self._urgent = True  # whatever was done or not, the state is the answer

    def _order_start(self, order: Order, now: float) -> None:
        older = self._machines.get(order.app)
        if self._leaving_since is not None:
            return
        if older is not None and older.open:
            older.stop(now, force=True, reason=f"generation {order.generation} takes its place")
        elif self._may_start(order, now):
            self._start(order, now)
        else:
            self._orders[order.app] = (order, now + ORDER_LIFETIME)

    def _start(self, order: Order, now: float) -> None:
        """The lease names exactly this generation, and it was never seen here: the one and only start of it."""
        config = self.configuration.app(order.app)
        older = self._machines.get(order.app)
        if older is not None and older.open:
            return
        problem = self._unfit(order, config)
        if problem or config is None:
            unstarted = config or AppConfig(name=order.app, nodes=())
            # A watchdog that is missing may come: the node is not avoided for that longer than it says so.
            failed = not (self._watchdog.refuses() or self._watchdog.forbids(order))
            self._remember(order.app, InstanceRecord(order.generation, self.boot, False, unstarted, failed, problem))
            return
        machine = self._machine(config, order.generation)
        machine.takeover = order.takeover
        self._remember_lease()
        self._remember(order.app, InstanceRecord(order.generation, self.boot, True, config, watchdog=order.watchdog))
        if not order.takeover:
            self._floating.probe_conflicts(machine.instance, config.addresses)
        machine.start(now)

    def _unfit(self, order: Order, config: AppConfig | None) -> str:
        """Why this node cannot start what it was granted; '' if it can. A grant says what may end it: the master judged
        by its configuration, and by what it knew of this node."""
        if config is None:
            return "this node's configuration does not know it"
        more = [proof.value for proof in order.proofs if proof not in accepted(config)]
        if more:
            return f"by this node's configuration it cannot be taken over on '{more[0]}', as its grant says"
        return self._watchdog.refuses() or self._watchdog.forbids(order)

    def _close_unseen(self, order: Order, now: float) -> None:
        """A stop for a generation never started here: record it closed, once every step was seen to be gone."""
        older = self._machines.get(order.app)
        if older is not None and older.open:
            older.stop(now, force=True, reason=f"generation {order.generation} follows it")
            return
        self._orders.pop(order.app, None)
        config = self.configuration.app(order.app) or AppConfig(name=order.app, nodes=())
        machine = self._machine(config, order.generation)
        self._remember(order.app, InstanceRecord(order.generation, self.boot, True, config))
        machine.clear(now, "never started here")

    def _take_up(self, app: AppName, record: InstanceRecord, now: float) -> None:
        """At this daemon's start, an instance that the records call open."""
        machine = self._machine(record.config, record.generation)
        generation, phase = self._phases.get(app, (NO_GENERATION, Phase.CLOSED))
        if record.boot != self.boot:
            machine.clear(now, "the node was rebooted")
            return
        machine.leftover = True
        self._lease.end = max(self._lease.end, self._old_lease)
        self._lease.named[app] = record.generation
        if not self._lease.holds(now):
            machine.clear(now, "reqd was away longer than the lease")
        elif generation == record.generation and phase in (Phase.STARTING, Phase.RUNNING):
            machine.resume(phase, now)
        else:
            # A stop once begun is finished. Without a word on this generation: it may have been one never started here.
            machine.clear(now, "stopping")

    def _machine(self, config: AppConfig, generation: Generation) -> InstanceMachine:
        app = config.name

        def say(progress: Progress) -> None:
            self._out.tell(CLUSTERD, InstanceProgress(self.me, app, generation, progress))
            if progress.severity is not Severity.LOG:
                self._note(Happening(REQD, progress.severity, f"application '{app}': {progress.text}", app))

        machine = InstanceMachine(
            config, generation, lambda action: self._ask(action, app), say, self.me, withdraw=self.turns.withdraw
        )
        self._machines[app] = machine
        return machine

    def _note(self, happening: Happening | None) -> None:
        if happening is not None:
            self._out.tell(STATD, Note(happening.noted(self.me, self._now)))

    def _ask(self, action: Action, app: AppName) -> int:
        """Where a machine's action goes: addresses to netd, the rest to the drivers."""
        if isinstance(action, StepUp | StepDown | StepProbe) and isinstance(action.step.spec, Address):
            takeover = self._machines[app].takeover
            return self._floating.ask(action, action.step.spec, self._lease.end, takeover, self._now)
        return self.turns.ask(action, self._now)

    def _begun_late(self, step: StepUp | StepDown, waited: float) -> None:
        """The time that an instance waits for its turn is none of its own."""
        machine = self._machines.get(step.instance.app)
        if machine is not None and machine.generation == step.instance.generation:
            machine.deadline += waited

    def _remember(self, app: AppName, record: InstanceRecord) -> None:
        self._records[app] = record
        self._out.put("instances", app, msgspec.msgpack.encode(record))

    # ---- events -----------------------------------------------------------------------------------------------------

    def _told(self, who: str, message: Any, now: float) -> None:
        match message:
            case Renewed() if who == LOCKD:
                self._renewed(message, now)
            case AddressState() if who == NETD:
                self._floating.state(message, now)
            case Order() if who == CLUSTERD:
                self._order(message, now)
            case OrderFenceOff() if who in (CLUSTERD, LOCKD):
                self._fences.off(message, now, who)
            case OrderPowerOn() if who == CLUSTERD:
                self._fences.on(message, now)
            case AskFences():
                if who in self._acting:
                    self._questions.told(who, message)
                else:
                    self._out.tell(who, Refused("only root asks fence devices"))
            case Exited() if who == PARENT:
                self._exited(message, now)
            case Forked() if who == PARENT:
                self._supervisor.forked(message)
            case Living() if who == PARENT:
                self._supervisor.living(message, now)
                self._attendance.answer_ripe()
            case Ready() if who == message.daemon:
                self._supervisor.ready(message.daemon, now)
                self._attendance.answer_ripe()
            case Leadership() if who == LOCKD:
                known = self._formation.leadership
                if message.leader is not None and (
                    known is None or (known.term, known.leader) != (message.term, message.leader)
                ):
                    self._urgent = True  # a new master plans with what it hears from the nodes
                self._formation.leadership = message
                self._formation.news(now)
            case Applied() if who == LOCKD:
                self._formation.ledger = message.ledger
            case Compared() if who == SYNCD:
                self._formation.compared(message, now)
            case NewConfiguration() if who == SYNCD:
                self._reconfigure(message.configuration)
            case Reply() if who == CLUSTERD:
                self._formation.reply(message, now)
            case Form() | Dissolve():
                if who in self._acting:
                    self._formation.begin(who, message, now)
                else:
                    self._out.tell(who, Refused("only root forms and dissolves a cluster"))
            case _:
                self._out.tell(who, Refused(f"reqd does not take {type(message).__name__} from {who}"))

    def _received(self, node: NodeName, message: Any, now: float) -> None:
        match message:
            case StartDaemons() | StopDaemons() | AskDaemons():
                self._attendance.ask(node, message)
            case DaemonsUp():
                self._formation.answered(node, message, now)
            case AskFences() | FencesSeen():
                self._questions.received(node, message)

    def _join(self, who: str, root: bool, now: float) -> None:
        self._joined.add(who)
        if root:
            self._acting.add(who)
        self._formation_presence()
        if who == LOCKD:
            self._out.tell(LOCKD, Subscribe())
            self._urgent = True
        elif who == STATD:
            self._status_at = now
        elif who == NETD:
            self._floating.netd_joined(self._lease.end)
        elif who == SYNCD:
            self._out.tell(SYNCD, Subscribe())
        self._formation.news(now)

    def _formation_presence(self) -> None:
        formation = self._formation
        formation.lockd_joined = LOCKD in self._joined
        formation.syncd_joined = SYNCD in self._joined
        formation.clusterd_joined = CLUSTERD in self._joined
        if not formation.lockd_joined:
            formation.leadership = None

    def _done(self, id: int, result: Any, now: float) -> None:
        match result:
            case StepResult():
                self._step_done(id, result, now)
            case FenceOutcome():
                if not self._fences.done(id, result, now):
                    self._questions.done(id, result)
            case WatchdogArmed() | WatchdogFed() | WatchdogTrouble():
                self._watchdog.done(id, result, now)
                self._start_what_waits(now)
            case ConfigurationRead():
                if not self._formation.configuration_read(id, result, now):
                    fresh = self._attendance.configuration_read(id, result)
                    if fresh is not None:
                        self._reconfigure(fresh)

    def _step_done(self, id: int, result: StepResult, now: float) -> None:
        self.turns.done(id, now)
        for machine in self._machines.values():
            if machine.done(id, result, now):
                return

    def _exited(self, message: Exited, now: float) -> None:
        self._supervisor.exited(message, now)
        self._attendance.answer_ripe()

    def _reconfigure(self, configuration: Configuration) -> None:
        self.configuration = self._formation.configuration = configuration
        self._fences.configuration = self._questions.configuration = configuration
        timing = configuration.cluster.timing
        self._lease.interval = timing.renewal
        if not self._supervisor.alive():
            # Else the leases' length stays what the lockds reckon with: they read it when they start.
            self._lease.length = timing.lease

    # ---- the end of every call --------------------------------------------------------------------------------------

    def _wake(self, now: float) -> None:
        for machine in list(self._machines.values()):
            machine.wake(now)
        self.turns.wake(now)
        self._floating.wake(now)
        self._fences.wake(now)
        self._supervisor.wake(now)
        self._formation.wake(now)
        for app in [each for each, (_, until) in self._orders.items() if now >= until]:
            del self._orders[app]
        self._attendance.answer_ripe()

    def _finish(self, now: float) -> Output:
        self._settle(now)
        self._watch(now)
        changed = self._record_phases()
        self._leave(now)
        report = self._instances()
        watchdog = self._watchdog.report()
        news = report != self._report or watchdog != self._watchdog_report
        if news or self._urgent or now >= self._lease.next_request:
            self._report, self._watchdog_report, self._urgent = report, watchdog, False
            self._lease.idle = not self._orders and not self._anything_open()
            self._lease.next_request = now + self._lease.pace
            self._ask_lease(now)
        if changed or now >= self._status_at:
            self._status_at = now + STATUS_EVERY
            self._out.tell(STATD, self._status(now))
        times = [each.wake_at for each in self._machines.values()]
        guard = self._lease.end if self._lease.holds(now) else None
        status, renewal = self._status_at, self._lease.next_request
        return self._out.take(
            *times, guard, renewal, self.turns.wake_at, self._floating.wake_at, self._supervisor.wake_at,
            self._fences.wake_at, self._formation.deadline,
            renewal if status < renewal < status + STATUS_PATIENCE else status,
            self._leave_at, self._attendance.wake_at, self._watchdog.wake_at,
        )  # fmt: skip

    def _settle(self, now: float) -> None:
        """Answers that this call gave to itself: addresses that were known already, this node's own DaemonsUp."""
        while True:
            results, answers = self._floating.take_results(), self._attendance.take_own()
            if not results and not answers:
                return
            for id, result in results:
                self._step_done(id, result, now)
            for answer in answers:
                self._formation.answered(self.me, answer, now)

    def _record_phases(self) -> bool:
        """Make what changed durable, before any report of it leaves."""
        changed = False
        for app, machine in sorted(self._machines.items()):
            if self._saved_phases.get(app) == (machine.generation, machine.phase):
                continue
            changed = True
            self._saved_phases[app] = machine.generation, machine.phase
            self._out.put("run.instances", app, f"{machine.generation} {machine.phase}".encode())
            self._note(in_instance(self.me, machine))
            if not machine.open:
                self._remember(app, InstanceRecord(machine.generation, self.boot, False, machine.config, machine.failed,
                                                   machine.reason))  # fmt: skip
        return changed

    def _instances(self) -> tuple[InstanceReport, ...]:
        """State-based and idempotent: every renewal carries the whole table."""
        lines = []
        for app, record in sorted(self._records.items()):
            machine = self._machines.get(app)
            if machine is not None and machine.generation == record.generation:
                lines.append(machine.report())
            else:
                lines.append(InstanceReport(app, record.generation, Phase.CLOSED, record.failed, record.reason))
        return tuple(lines)

    def _status(self, now: float) -> NodeStatus:
        daemons = {REQD: "up"} | {DaemonName(name): state for name, state in self._supervisor.states().items()}
        instances = tuple(_status_of(machine) for _, machine in sorted(self._machines.items()))
        left = max(0.0, self._lease.end - now)
        return NodeStatus(self.me, self.boot, daemons, instances, left, self._watchdog.report())


def _watchdog_of(configuration: Configuration, me: NodeName) -> WatchdogConfig:
    nodes = configuration.cluster.nodes
    return next((node.watchdog for node in nodes if node.name == me), WatchdogConfig())


def phase_of(value: bytes) -> tuple[Generation, Phase]:
    """A record of 'run.instances'; (0, CLOSED), which says nothing of any generation, for one that cannot be read."""
    generation, _, phase = value.decode(errors="replace").partition(" ")
    try:
        return Generation(int(generation)), Phase(phase)
    except ValueError:
        return NO_GENERATION, Phase.CLOSED


def _status_of(machine: InstanceMachine) -> InstanceStatus:
    steps = tuple(
        StepStatus(
            step.name,
            step.kind.value,
            machine.facts[step.name].probe.value if step.name in machine.facts else "",
            machine.facts[step.name].facts if step.name in machine.facts else {},
        )
        for step in machine.steps
    )
    return InstanceStatus(machine.config.name, machine.generation, machine.phase.value, steps, machine.reason)
