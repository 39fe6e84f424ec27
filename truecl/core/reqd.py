"""reqd: this node's hands and its guard.

Joins the parts that each have a head of their own: the lease (until when may what run here) and the guard that sees to
it, the instances and the orders that start and stop them, the supervisor of the other daemons, and the formation of the
cluster for lha_form and lha_dissolve.

The guard's rule comes first in every call: when the lease is over, whatever runs here is being stopped by force before
anything else is looked at (SAFETY.md sections 2 and 6).
"""

from typing import Any

from truecl import __version__
from truecl.core.attendance import Attendance
from truecl.core.contract import Done, Event, Joined, Left, Noted, Output, Received, Records, Told
from truecl.core.fence_questions import FenceQuestions
from truecl.core.fencing import Fences
from truecl.core.formation import Formation
from truecl.core.guard import Guard
from truecl.core.happenings import in_answer
from truecl.core.instances import Instances
from truecl.core.lease import Lease
from truecl.core.orders import Orders
from truecl.core.outbox import Outbox
from truecl.core.replicas import Replicas
from truecl.core.supervisor import PARENT, Supervisor
from truecl.core.watchdog import Watchdog
from truecl.core.works import Works
from truecl.model.actions import (
    ConfigurationRead,
    FenceOutcome,
    Leave,
    ProgramAnswered,
    ProgramDied,
    ReplicaResult,
    ServiceStopping,
    StepResult,
    WatchdogArmed,
    WatchdogFed,
    WatchdogTrouble,
    WorkDone,
)
from truecl.model.config import Configuration, WatchdogConfig
from truecl.model.ids import (
    CLUSTERD,
    DAEMONS,
    LOCKD,
    NETD,
    REQD,
    STATD,
    SYNCD,
    BootId,
    NodeName,
)
from truecl.model.replica import ReplicaReport
from truecl.model.report import InstanceReport, WatchdogReport
from truecl.wire import messages
from truecl.wire.messages import (
    AddressState,
    Applied,
    AskDaemons,
    AskFences,
    AskPart,
    AskWork,
    Compared,
    DaemonsUp,
    Dismiss,
    Dissolve,
    Exited,
    FencesSeen,
    Forked,
    Form,
    Leadership,
    Living,
    Members,
    NewConfiguration,
    NodeStatus,
    Order,
    OrderFenceOff,
    OrderPowerOn,
    OrderReplica,
    Part,
    Ready,
    Refused,
    Renewed,
    Reply,
    StartDaemons,
    StopDaemons,
    Subscribe,
    TakeIn,
)

STATUS_EVERY = 1.0
STATUS_PATIENCE = 0.3
"""Seconds that a status waits to go out in one wake with a renewal."""
LEAVE_TIME = 2.0
"""Seconds that a stopping service waits for the master to hear of it, and for another to lead."""


ALL_OTHERS = tuple(each for each in DAEMONS if each != REQD)
REMOVED = "this node was removed from the cluster; 'lha_node add' on one of its nodes takes it in again"


class Reqd:
    """The whole core of reqd."""

    def __init__(self, me: NodeName, configuration: Configuration, boot: BootId, records: Records, now: float) -> None:
        timing = configuration.cluster.timing
        self.me, self.boot, self.configuration = me, boot, configuration
        self._out = Outbox()
        # Numbers go on rising over restarts within a boot: nobody asks once a microsecond.
        self._lease = Lease(me, boot, timing.lease, timing.renewal, int(now * 1e6), now)
        self.instances = Instances(me, boot, records, self._lease, self._out, now)
        self._watchdog = Watchdog(_watchdog_of(configuration, me), timing.stop_allowance, records, self._out)
        self.guard = Guard(configuration.cluster, self._lease, self._watchdog, self.instances, records, self._out)
        self.replicas = Replicas(me, configuration, self.instances, self._out)
        self.orders = Orders(
            configuration, self._lease, self._watchdog, self.guard, self.instances, self.replicas, records, self._out
        )
        self._supervisor = Supervisor(self._out, self.instances.note)
        self._attendance = Attendance(me, records, self._supervisor, self._out, now)
        self._formation = Formation(me, configuration, self._out, self._attendance.ask_self)
        self._fences = Fences(self._out, configuration)
        self._questions = FenceQuestions(me, self._out, configuration)
        self._works = Works(me, configuration, self._out)
        self._joined: set[str] = set()
        self._acting: set[str] = set()
        """Who of them may change anything; the others may look."""
        self._leaving_since: float | None = None
        self._left = False
        self._status_at = now
        self._report: tuple[InstanceReport, ...] = ()
        self._watchdog_report: WatchdogReport | None = None
        self._replica_reports: tuple[ReplicaReport, ...] = ()
        self._daemons = self._supervisor.states()
        """As statd was told last."""
        self._urgent = False
        """A renewal is due at the end of this call: it brings the lease that an order waits for, or carries news."""

    # ---- contract ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        self.instances.now = self._attendance.now = now
        self.instances.take_up(self.guard.old_lease, now)
        if self._attendance.formed:
            self._supervisor.start(ALL_OTHERS)
        return self._finish(now)

    def handle(self, event: Event, now: float) -> Output:
        self.instances.now = self._attendance.now = now
        self.guard.check(now)
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
                self.instances.died(instance.app, instance.generation, step, reason, now)
            case Noted(ProgramAnswered(instance, step)):
                self.instances.note(in_answer(instance, step, self.me))
            case Noted(ServiceStopping()):
                self._begin_leaving(now)
            case _:
                pass
        self._wake(now)
        return self._finish(now)

    def _renewed(self, message: Renewed, now: float) -> None:
        if not self.guard.renewed(message, now):
            return
        if self._leaving_since is not None:
            self.orders.close_what_is_named(now)
        self.orders.start_what_waits(now)

    def _ask_lease(self, now: float) -> None:
        if LOCKD in self._joined:
            leaving = self._leaving_since is not None
            request = self._lease.request(self._report, leaving, now, self._watchdog_report, self._replica_reports)
            self._out.tell(LOCKD, request)

    # ---- the end of the service -------------------------------------------------------------------------------------

    def _begin_leaving(self, now: float) -> None:
        """In good order: the applications stop here and move, another node leads, then this daemon ends."""
        if self._leaving_since is not None:
            return
        self._leaving_since, self._urgent, self.orders.leaving = now, True, True
        self._out.tell(LOCKD, messages.StepDown())
        for machine in self.instances.machines.values():
            machine.stop(now, reason="the service on this node is being stopped")

    def _leave(self, now: float) -> None:
        """As long as anything is open this daemon guards it; what follows is politeness, and waits for nobody long."""
        if self._leaving_since is None or self._left or self.instances.any_open():
            return
        leadership = self._formation.leadership
        leads = leadership is not None and leadership.leader == self.me
        needed = leadership is not None and leadership.needed
        known = not self._lease.named or not self._lease.holds(now)
        if (known and not leads and not needed) or now >= self._leaving_since + LEAVE_TIME or LOCKD not in self._joined:
            self._left = True
            self._watchdog.disarm()
            self._out.do(Leave())

    @property
    def _leave_at(self) -> float | None:
        """When it waits no longer. Before everything is closed no time is up."""
        if self._leaving_since is None or self._left or self.instances.any_open():
            return None
        return self._leaving_since + LEAVE_TIME

    # ---- events -----------------------------------------------------------------------------------------------------

    def _told(self, who: str, message: Any, now: float) -> None:
        if who == PARENT:
            self._supervisor.parent_lives()
        match message:
            case Renewed() if who == LOCKD:
                self._renewed(message, now)
            case AddressState() if who == NETD:
                self.instances.floating.state(message, now)
            case Order() if who == CLUSTERD:
                if self.orders.take(message, now):
                    self._urgent = True  # whatever was done or not, the state is the answer
            case AskWork() if who == CLUSTERD:
                here = self.instances.open_machine(message.app) is not None
                self._works.ask(message, self.orders.heed(message.term), here)
            case OrderReplica() if who == CLUSTERD:
                if self.orders.take_replica(message, now):
                    self._urgent = self._urgent or self.replicas.steady_reports() != self._replica_reports
            case OrderFenceOff() if who in (CLUSTERD, LOCKD):
                self._fences.off(message, now, who)
            case OrderPowerOn() if who == CLUSTERD:
                self._fences.on(message, now)
            case AskFences():
                if who in self._acting or who == LOCKD:
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
                self.replicas.learn(message.ledger, now)
            case Compared() if who == SYNCD:
                self._formation.compared(message, now)
            case NewConfiguration() if who == SYNCD:
                self._reconfigure(message.configuration)
            case Reply() if who == CLUSTERD:
                self._formation.reply(message, now)
            case TakeIn() if who == CLUSTERD:
                self._out.send(message.node, StartDaemons(0, ALL_OTHERS, formed=True))
            case Dismiss() if who == CLUSTERD:
                self._out.send(message.node, StopDaemons(0, ALL_OTHERS, formed=False, removed=True))
            case AskPart():
                self._out.tell(who, Part(self._attendance.formed, self._attendance.removed))
            case Form() if self._attendance.removed:
                self._out.tell(who, Refused(REMOVED))
            case Form() | Dissolve():
                if who in self._acting:
                    self._formation.begin(who, message, now)
                else:
                    self._out.tell(who, Refused("only root forms and dissolves a cluster"))
            case Members() | Refused():
                pass  # the nodes that it starts are those of the configuration; and who is refused says no more
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
            self.instances.floating.netd_joined(self._lease.end)
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
                self.instances.step_done(id, result, now)
            case WorkDone():
                self._works.done(id, result)
            case ReplicaResult():
                self.replicas.done(id, result, now)
            case FenceOutcome():
                if not self._fences.done(id, result, now):
                    self._questions.done(id, result)
            case WatchdogArmed() | WatchdogFed() | WatchdogTrouble():
                self._watchdog.done(id, result, now)
                self.orders.start_what_waits(now)
            case ConfigurationRead():
                if not self._formation.configuration_read(id, result, now):
                    fresh = self._attendance.configuration_read(id, result)
                    if fresh is not None:
                        self._reconfigure(fresh)

    def _exited(self, message: Exited, now: float) -> None:
        self._supervisor.exited(message, now)
        self._attendance.answer_ripe()

    def _reconfigure(self, configuration: Configuration) -> None:
        self.configuration = self._formation.configuration = self.orders.configuration = configuration
        self._fences.configuration = self._questions.configuration = self._works.configuration = configuration
        self.replicas.configure(configuration)
        self._lease.interval = configuration.cluster.timing.renewal
        self.guard.freezes = configuration.cluster.on_quorum_loss == "freeze"

    # ---- the end of every call --------------------------------------------------------------------------------------

    def _wake(self, now: float) -> None:
        self.instances.wake(now)
        self.replicas.wake(now)
        self._fences.wake(now)
        self._supervisor.wake(now)
        self._formation.wake(now)
        self.orders.wake(now)
        self._attendance.answer_ripe()

    def _finish(self, now: float) -> Output:
        self._settle(now)
        self.guard.watch(now)
        changed = self.instances.record_phases()
        self._leave(now)
        report = self.instances.reports()
        watchdog, replicas = self._watchdog.report(), self.replicas.steady_reports()
        news = report != self._report or watchdog != self._watchdog_report or replicas != self._replica_reports
        if news or self._urgent or now >= self._lease.next_request:
            self._report, self._watchdog_report, self._replica_reports = report, watchdog, replicas
            self._urgent = False
            self._lease.idle = not self.orders and not self.instances.any_open()
            self._lease.next_request = now + self._lease.pace
            self._ask_lease(now)
        daemons = self._supervisor.states()
        if changed or daemons != self._daemons or now >= self._status_at:
            self._status_at, self._daemons = now + STATUS_EVERY, daemons
            self._out.tell(STATD, self._status(now))
        guard = self._lease.end if self._lease.holds(now) else None
        status, renewal = self._status_at, self._lease.next_request
        return self._out.take(
            guard, renewal, self.instances.wake_at, self._supervisor.wake_at,
            self._fences.wake_at, self._formation.deadline,
            renewal if status < renewal < status + STATUS_PATIENCE else status,
            self._leave_at, self._attendance.wake_at, self._watchdog.wake_at, self.guard.wake_at,
            self.replicas.wake_at,
        )  # fmt: skip

    def _settle(self, now: float) -> None:
        """Answers that this call gave to itself: addresses that were known already, this node's own DaemonsUp."""
        while True:
            results, answers = self.instances.floating.take_results(), self._attendance.take_own()
            if not results and not answers:
                return
            for id, result in results:
                self.instances.step_done(id, result, now)
            for answer in answers:
                self._formation.answered(self.me, answer, now)

    def _status(self, now: float) -> NodeStatus:
        daemons = {REQD: "up"} | self._supervisor.states()
        left = max(0.0, self._lease.end - now)
        return NodeStatus(
            self.me, self.boot, daemons, self.instances.statuses(), left, self._watchdog.report(), __version__,
            self.replicas.reports(),
        )  # fmt: skip


def _watchdog_of(configuration: Configuration, me: NodeName) -> WatchdogConfig:
    nodes = configuration.cluster.nodes
    return next((node.watchdog for node in nodes if node.name == me), WatchdogConfig())
