"""clusterd: on every node; beside the log's leader it is the master, which plans and gives orders.

What it knows comes from lockd (ledger, leadership, nodes' reports) and hbd (who is heard). What it decides goes into
the log first; orders leave only for committed grants. On the other nodes it hands orders to the local reqd, carries the
instances' progress to the master, and operators' requests there and their replies back.
"""

from typing import Any

from truecl.core import fence_operation
from truecl.core.account import Account
from truecl.core.contract import Event, Joined, Left, Output, Received, Told
from truecl.core.fence_operation import FenceOperation, FenceStage
from truecl.core.ledger import app_state
from truecl.core.operation import Operation, Stage
from truecl.core.outbox import Outbox
from truecl.core.planner import NodeOrder, Plan, PlanInput, plan
from truecl.model.config import Configuration
from truecl.model.ids import HBD, LOCKD, REQD, STATD, SYNCD, AppName, BootId, Index, NodeName, Term
from truecl.model.ledger import (
    AnyCommand,
    ConfirmFence,
    FreeLock,
    Ledger,
    Lock,
    RecordBoot,
    SetWanted,
    Wanted,
)
from truecl.model.report import InstanceReport, Progress, Severity
from truecl.wire.messages import (
    Applied,
    AppNote,
    FenceResult,
    InstanceProgress,
    Leadership,
    NewConfiguration,
    Nodes,
    Notes,
    Order,
    OrderFenceOff,
    PoweredOn,
    Propose,
    Proposed,
    Refused,
    Reply,
    Request,
    StepDown,
    Subscribe,
    View,
)

REPEAT_ORDER = 0.5
"""Seconds until an order is sent again to a node that does not report what it led to."""
REPEAT_FENCE = 2.0
PROPOSAL_PATIENCE = 1.0
"""Seconds until a proposal without an answer is planned anew."""
STARTUP_GRACE = 15.0
"""Seconds after which a node that was never heard counts as lost."""
REPORT_GRACE = 1.0
"""A new master waits so long for the nodes' first reports before it calls a whole start cold or not."""
PASS_AGAIN = 2.0
"""Seconds after which a request without an end is passed on again: it, its reply or the master's memory may be lost."""
FORGOTTEN = 10.0
"""Seconds after which the master waits no more for a wish that nobody asks after: its lock is for others."""
REPEAT_STEP_DOWN = 2.0
MAX_COMMANDS = 500
"""In one entry of the log."""
MAX_OUTCOMES = 256
MAX_OPERATIONS = 64
MAX_REQUESTS = 64


class Clusterd:
    """The whole core of clusterd."""

    def __init__(self, me: NodeName, configuration: Configuration) -> None:
        self.me, self.configuration = me, configuration
        self._out = Outbox()
        self._account = Account(self._out)
        self._ledger = Ledger()
        self._leadership = Leadership(Term(0), None, False)
        self._nodes = Nodes({}, ())
        self._view = View(())
        self._heard_since: dict[NodeName, float] = {}
        """Nodes that hbd hears, since when without a break or a boot."""
        self._renewed: dict[NodeName, None] = {}
        """Those of them, and this node, that renewed their lease with this master since then."""
        self._reported_since: dict[NodeName, float] = {}
        """When each node's first report came to this master."""
        self._now = 0.0
        self._began = 0.0
        """Of this daemon, or of the hbd that it hears from: who was not heard since then may just be slow."""
        self._master_since: float | None = None
        self._settled_boots = False
        self._operations: dict[str, Operation] = {}
        self._fence_operations: dict[str, FenceOperation] = {}
        self._early: list[tuple[Request, NodeName]] = []
        """Requests that came between this node's election and its first committed entry."""
        self._requests: dict[str, tuple[str, Request]] = {}
        """Of commands on this node: id to who asked, and what."""
        self._pass_at: float | None = None
        self._outcomes: dict[str, tuple[Reply, ...]] = {}
        """Of the latest operations, by request: a reply may be lost, and its request comes again."""
        self._acting: dict[str, None] = {}
        """Who on this node may change anything; others may look."""
        self._number = 0
        self._proposal: tuple[int, Index | None, float] | None = None
        """Number, index once known, and when it is given up."""
        self._ordered: dict[NodeOrder, float] = {}
        self._fencing: dict[tuple[NodeName, Index], float] = {}
        self._fence_trouble: dict[NodeName, str] = {}
        self._said_off: dict[NodeName, tuple[Index, float]] = {}
        """Nodes that their devices called off while hbd still heard them, by which order and when."""
        self._step_down_at = 0.0
        """When this master may ask again to be relieved."""
        self._notes: Notes = Notes(())
        self._plan = Plan()

    @property
    def master(self) -> bool:
        return self._leadership.ready and self._leadership.leader == self.me

    # ---- contract ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        self._now = self._began = now
        return self._finish(now)

    def handle(self, event: Event, now: float) -> Output:
        self._now = now
        match event:
            case Told(who, message):
                self._told(who, message, now)
            case Received(node, message):
                self._received(node, message)
            case Joined(who, root):
                if root:
                    self._acting[who] = None
                if who in (LOCKD, HBD, SYNCD):
                    self._out.tell(who, Subscribe())
                if who == HBD:
                    self._began = now
                if who == STATD:
                    self._out.tell(STATD, self._notes)
                    self._account.begin(listened=True)
            case Left(who):
                self._left(who)
            case _:
                pass
        return self._finish(now)

    def _told(self, who: str, message: Any, now: float) -> None:
        match message:
            case Applied() if who == LOCKD:
                self._ledger = message.ledger
            case Leadership() if who == LOCKD:
                self._lead(message, now)
            case Nodes() if who == LOCKD:
                self._nodes = message
                self._renewed |= dict.fromkeys(node for node in message.reports if node not in message.expired)
                self._reported_since = {node: self._reported_since.get(node, now) for node in message.reports}
            case View() if who == HBD:
                self._hear(message, now)
            case Proposed() if who == LOCKD:
                self._proposed(message)
            case InstanceProgress() if who == REQD:
                self._progress(message)
            case FenceResult() if who == REQD:
                self._fenced(message)
            case PoweredOn() if who == REQD:
                for operation in self._fence_operations.values():
                    operation.powered_on(message)
            case NewConfiguration() if who == SYNCD:
                self.configuration = message.configuration
            case Request():
                self._request(who, message)
            case Notes() | Refused():
                pass
            case _:
                self._out.tell(who, Refused(f"clusterd does not take {type(message).__name__} from {who}"))

    def _received(self, node: NodeName, message: Any) -> None:
        match message:
            case Order():
                # Whoever sent it: reqd checks term and generation, and the lease names what may run.
                self._out.tell(REQD, message)
            case InstanceProgress():
                self._progress(message)
            case Request():
                self._begin(message, node)
            case Reply():
                self._reply(message)

    def _left(self, who: str) -> None:
        self._acting.pop(who, None)
        if who == STATD:
            self._account.begin(listened=False)
        if who == LOCKD:
            self._lead_no_more()
        for id in [id for id, (asker, _) in self._requests.items() if asker == who]:
            del self._requests[id]  # the operation goes on; nobody listens

    # ---- leadership -------------------------------------------------------------------------------------------------

    def _lead(self, leadership: Leadership, now: float) -> None:
        changed = leadership.leader != self._leadership.leader or leadership.term != self._leadership.term
        self._leadership = leadership
        if not self.master:
            self._lead_no_more(leadership)
        elif self._master_since is None:
            self._master_since, self._settled_boots = now, False
        if self.master:
            early, self._early = self._early, []
            for request, origin in early:
                self._begin(request, origin)
        if changed and leadership.leader is not None:
            for _, request in list(self._requests.values()):
                self._pass_on(request)

    def _lead_no_more(self, leadership: Leadership | None = None) -> None:
        self._leadership = leadership or Leadership(self._leadership.term, None, False)
        self._master_since, self._proposal = None, None
        self._account.begin()
        self._operations.clear()
        self._fence_operations.clear()
        self._said_off.clear()
        if self._leadership.leader != self.me:
            self._early.clear()
        self._ordered.clear()
        self._fencing.clear()
        self._fence_trouble.clear()
        self._nodes = Nodes({}, ())
        self._renewed.clear()
        self._reported_since.clear()
        if self._notes.notes:
            self._notes = Notes(())
            self._out.tell(STATD, self._notes)

    # ---- operators' requests ----------------------------------------------------------------------------------------

    def _request(self, who: str, request: Request) -> None:
        if who not in self._acting:
            self._out.tell(who, Refused("only root starts, stops and moves applications, and fences nodes"))
            return
        if len(self._requests) >= MAX_REQUESTS:
            self._out.tell(who, Refused("too many requests at once; try again"))
            return
        self._requests[request.id] = (who, request)
        self._pass_at = self._pass_at or self._now + PASS_AGAIN
        if self._leadership.leader is None:
            self._out.tell(
                who, Reply(request.id, Progress("no master at the moment; waiting for an election", Severity.WARN))
            )
        else:
            self._pass_on(request)

    def _pass_on(self, request: Request) -> None:
        leader = self._leadership.leader
        if leader == self.me:
            self._begin(request, self.me)
        elif leader is not None:
            self._out.send(leader, request)

    def _pass_again(self, now: float) -> None:
        if self._pass_at is None or now < self._pass_at:
            return
        self._pass_at = now + PASS_AGAIN if self._requests else None
        for _, request in list(self._requests.values()):
            self._pass_on(request)

    def _begin(self, request: Request, origin: NodeName) -> None:
        """A request at the master. One that comes before it is ready waits; one that comes after it was deposed is
        dropped: its origin passes it on again when it hears of the next leader."""
        under_way = self._operations.get(request.id) or self._fence_operations.get(request.id)
        if under_way is not None:
            under_way.asked_at = self._now
            return
        if request.id in self._outcomes:
            for reply in self._outcomes[request.id]:
                self._answer(origin, reply)
            return
        if not self.master:
            known = any(each.id == request.id for each, _ in self._early)
            if self._leadership.leader == self.me and not known and len(self._early) < MAX_OPERATIONS:
                self._early.append((request, origin))
            return
        problem = self._problem(request)
        if problem or len(self._operations) + len(self._fence_operations) >= MAX_OPERATIONS:
            text = problem or "too many operations at once; try again"
            self._answer(origin, Reply(request.id, Progress(text, Severity.ERROR, verbose=False)))
            self._answer(origin, Reply(request.id, code=1))
        elif request.verb in fence_operation.VERBS:
            operation = fence_operation.begin(request, origin, self.configuration, self._now)
            self._fence_operations[request.id] = operation
        else:
            self._operations[request.id] = Operation(request, origin, asked_at=self._now)

    def _problem(self, request: Request) -> str:
        """Why a request cannot even be tried; '' if it can."""
        if request.verb == "autostart":
            return ""
        if request.verb in fence_operation.VERBS:
            for other in self._fence_operations.values():
                if other.node == request.node:
                    return f"lha_fence --{other.request.verb} of {other.node} is under way ({other.request.operator})"
            return fence_operation.problem(request, self.configuration, self._ledger, self._heard())
        if request.verb not in ("start", "stop", "move"):
            return f"unknown request '{request.verb}'"
        config = self.configuration.app(request.app)
        if config is None:
            if request.verb == "stop" and request.app in self._ledger.apps:
                return ""
            names = ", ".join(each.name for each in self.configuration.apps) or "none"
            return f"unknown application '{request.app}'; configured: {names}"
        if request.verb == "move" and request.node is None:
            return self._problem_without_target(request.app)
        if request.node is None:
            return ""
        if request.node not in config.nodes:
            return f"'{request.node}' is not one of the nodes of '{request.app}': {', '.join(config.nodes)}"
        if request.node not in self._heard():
            return f"node '{request.node}' is not up; lha_stat shows which are"
        return ""

    def _problem_without_target(self, app: AppName) -> str:
        return "" if self._target(app) is not None else f"no other node of '{app}' is up"

    def _target(self, app: AppName) -> NodeName | None:
        """Where a move without a node goes: the next of its list that is up."""
        config, grant = self.configuration.app(app), app_state(self._ledger, app).grant
        if config is None:
            return None
        heard = self._heard()
        others = [node for node in config.nodes if node in heard and (grant is None or node != grant.node)]
        return others[0] if others else None

    def _answer(self, origin: NodeName, reply: Reply) -> None:
        if origin == self.me:
            self._reply(reply)
        else:
            self._out.send(origin, reply)

    def _reply(self, reply: Reply) -> None:
        asked = self._requests.get(reply.id)
        if asked is not None:
            self._out.tell(asked[0], reply)
            if reply.code is not None:
                del self._requests[reply.id]

    def _progress(self, message: InstanceProgress) -> None:
        """A step of an instance: to the master, and there to whoever waits for that application."""
        if not self.master:
            leader = self._leadership.leader
            if leader is not None and leader != self.me and message.node == self.me:
                self._out.send(leader, message)
            return
        for operation in self._operations.values():
            if operation.request.app == message.app:
                self._answer(operation.origin, Reply(operation.request.id, message.progress))

    # ---- planning ---------------------------------------------------------------------------------------------------

    def _heard(self) -> tuple[NodeName, ...]:
        """By hbd, and this node itself."""
        return (self.me, *(node.node for node in self._view.nodes if node.alive))

    def _alive(self) -> frozenset[NodeName]:
        """Heard, renewing, and there to stay: a node whose reqd is silent for longer than lease and allowance runs
        nothing any more, and one whose service is being stopped is to get nothing new."""
        nodes = self._nodes
        return frozenset(
            node
            for node in self._heard()
            if node in nodes.reports and node not in nodes.expired and node not in nodes.leaving
        )

    def _hear(self, view: View, now: float) -> None:
        """Of a node that was away, or booted, everything has to be heard anew."""
        before = {node.node: node.boot for node in self._view.nodes if node.alive}
        self._view = view
        for node in view.nodes:
            if not node.alive or before.get(node.node) != node.boot:
                self._heard_since.pop(node.node, None)
                self._renewed.pop(node.node, None)
            if node.alive:
                self._heard_since.setdefault(node.node, now)

    def _awaited(self, now: float) -> frozenset[NodeName]:
        """Heard by hbd and about to report, or the other way round: whichever of the two comes first after a boot."""
        heard, awaited = self._heard(), set[NodeName]()
        if self._master_since is not None and now < self._master_since + REPORT_GRACE:
            awaited.update(node for node in heard if node not in self._nodes.reports)
        for node, since in self._reported_since.items():
            if node not in heard and now < since + REPORT_GRACE:
                awaited.add(node)
        return frozenset(awaited)

    def _lost(self, now: float) -> frozenset[NodeName]:
        """Silent after hbd heard them, never heard for the start-up grace, or heard without a lease."""
        lost = []
        for node in self._view.nodes:
            silent = not node.alive and (node.boot is not None or now - self._began >= STARTUP_GRACE)
            lapsed = node.node in self._nodes.expired and self._was_renewing(node.node, now)
            if silent or lapsed:
                lost.append(node.node)
        if self.me in self._nodes.expired and self._was_renewing(self.me, now):
            lost.append(self.me)
        return frozenset(lost)

    def _was_renewing(self, node: NodeName, now: float) -> bool:
        """Heard by hbd, but its lease is over: lost if it ever renewed with this master, or had the time to. The old
        lease of a node that just came is over, and it is not lost for that."""
        led = self._master_since if self._master_since is not None else now
        since = max(led, self._heard_since.get(node, self._began))
        return node in self._renewed or now - since >= STARTUP_GRACE

    def _input(self, now: float) -> PlanInput:
        return PlanInput(
            self.me, self.configuration, self._ledger, self._alive(), self._awaited(now), self._lost(now),
            self._nodes.reports, frozenset(self._nodes.lapsed), dict(self._fence_trouble),
            frozenset(each.node for each in self._fence_operations.values() if each.unwanted),
            self._nodes.watchdogs, frozenset(self._nodes.reset),
        )  # fmt: skip

    def _decide(self, now: float) -> None:
        """One pass of the master: plan, write what must be written, order what is committed."""
        given = self._input(now)
        self._account.decided(given, self._leadership.term, now)
        self._plan = plan(given)
        commands = [*self._cold_start(now), *self._stale_locks(), *self._step_operations()]
        commands += [*self._plan.commands, *self._step_fence_operations(now)]
        if commands and self._proposal is None:
            self._propose(tuple(commands[:MAX_COMMANDS]), now)
        self._give_orders(now)
        self._carry_out_fences(now)
        if self._plan.step_down and now >= self._step_down_at:
            self._step_down_at = now + REPEAT_STEP_DOWN
            self._out.tell(LOCKD, StepDown())
        notes = Notes(tuple(AppNote(app, text) for app, text in self._plan.notes))
        if notes != self._notes:
            self._notes = notes
            self._out.tell(STATD, notes)

    def _propose(self, commands: tuple[AnyCommand, ...], now: float) -> None:
        """One at a time: the next plan is made on the ledger that this one led to."""
        self._number += 1
        self._proposal = (self._number, None, now + PROPOSAL_PATIENCE)
        self._out.tell(LOCKD, Propose(self._number, self._leadership.term, commands))

    def _proposed(self, message: Proposed) -> None:
        if self._proposal is not None and self._proposal[0] == message.number:
            if message.index is None:
                # Try again a little later: what was refused is planned on newer knowledge then.
                self._proposal = (
                    message.number,
                    None,
                    min(self._proposal[2], self._proposal[2] - PROPOSAL_PATIENCE + 0.02),
                )
            else:
                self._proposal = (message.number, message.index, self._proposal[2])

    def _settle_proposal(self, now: float) -> None:
        if self._proposal is not None:
            _, index, until = self._proposal
            if (index is not None and self._ledger.index >= index) or now >= until:
                self._proposal = None

    def _stale(self, lock: Lock) -> bool:
        """Its operation went on a master that is gone, or on this daemon before it was restarted."""
        return lock.term < self._leadership.term or lock.holder not in self._operations

    def _stale_locks(self) -> list[AnyCommand]:
        return [FreeLock(name, lock.token) for name, lock in sorted(self._ledger.locks.items()) if self._stale(lock)]

    def _step_operations(self) -> list[AnyCommand]:
        commands: list[AnyCommand] = []
        taken: set[str] = set()
        for operation in list(self._operations.values()):
            request = operation.request
            if self._proposal is not None and operation.stage in (Stage.LOCK, Stage.WISH):
                continue  # decide on what the log says, not on what it is about to say
            if request.verb == "autostart":
                wishes = self._autostart()
                commands += wishes
                if not wishes:  # now the log says so
                    operation.end(0, "")
                    operation.stage = Stage.DONE
                    self._tell_outcome(operation)
                continue
            lock = self._ledger.locks.get(operation.lock)
            if operation.stage is Stage.LOCK and lock is not None and self._stale(lock):
                continue
            if operation.stage is Stage.WAIT and self._now >= operation.asked_at + FORGOTTEN:
                operation.told = True
                operation.end(4, "")
            if request.verb == "move" and request.node is None:
                target = self._target(request.app)
                operation.request = request = _aimed(request, target)
                if target is None:
                    operation.end(1, f"no other node of '{request.app}' is up")
            config = self.configuration.app(request.app)
            command = operation.step(
                self._ledger, config, request.app in self._plan.failed, self._owners_report(request.app)
            )
            if operation.stage is Stage.LOCK and operation.lock in taken:
                continue
            if command is not None:
                taken.add(operation.lock)
                commands.append(command)
            elif operation.stage is Stage.LOCK and not operation.told_lock:
                self._tell_lock(operation)
            self._tell_outcome(operation)
        return commands

    def _tell_lock(self, operation: Operation) -> None:
        operation.told_lock = True
        holder = self._operations.get(self._ledger.locks[operation.lock].holder)
        who = f" (lha_{holder.request.verb}app by {holder.request.operator})" if holder is not None else ""
        text = f"waiting: '{operation.request.app}' is locked by another operation{who}"
        self._answer(operation.origin, Reply(operation.request.id, Progress(text, Severity.WARN, verbose=False)))

    def _tell_outcome(self, operation: Operation) -> None:
        """As soon as it is known: whoever asked need not wait until the lock is free again."""
        if operation.code is not None and not operation.told:
            operation.told = True
            self._tell_end(operation.request.id, operation.origin, operation.code, operation.text)
        if operation.stage is Stage.DONE:
            del self._operations[operation.request.id]

    def _tell_end(self, id: str, origin: NodeName, code: int, text: str) -> None:
        replies = []
        if text:
            severity = Severity.ERROR if code else Severity.LOG
            replies.append(Reply(id, Progress(text, severity, verbose=False)))
        self._outcomes[id] = (*replies, Reply(id, code=code))
        if len(self._outcomes) > MAX_OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]
        for reply in self._outcomes[id]:
            self._answer(origin, reply)

    def _owners_report(self, app: AppName) -> InstanceReport | None:
        grant = app_state(self._ledger, app).grant
        if grant is None:
            return None
        _, lines = self._nodes.reports.get(grant.node, (BootId(""), ()))
        return next((line for line in lines if line.app == app and line.generation == grant.generation), None)

    # ---- cold start -------------------------------------------------------------------------------------------------

    def _autostart(self) -> list[AnyCommand]:
        return [
            SetWanted(app.name, Wanted.RUNNING, app_state(self._ledger, app.name).preferred)
            for app in self.configuration.apps
            if app.autostart and app_state(self._ledger, app.name).wanted is Wanted.STOPPED
        ]

    def _cold_start(self, now: float) -> list[AnyCommand]:
        """The nodes' boots, to be recorded; and once a mastership what follows if the whole cluster was down: only what
        says `autostart` runs again by itself. Both in one entry, and proposed until the log has it."""
        reports = self._nodes.reports
        new = [(node, boot) for node, (boot, _) in sorted(reports.items()) if self._ledger.boots.get(node) != boot]
        commands: list[AnyCommand] = [RecordBoot(node, boot) for node, boot in new]
        if self._settled_boots:
            return commands
        missing = len(reports) < len(self.configuration.cluster.nodes)
        waited = self._master_since is not None and now >= self._master_since + REPORT_GRACE
        if not reports or (missing and not waited) or self._proposal is not None:
            return []
        self._settled_boots = not new
        return commands + self._only_autostart() if new and self._all_booted() else commands

    def _all_booted(self) -> bool:
        """Is every node that is up in another boot than the log knows of? Who has not reported yet, hbd may know."""
        boots = {each.node: each.boot for each in self._view.nodes if each.alive}
        boots |= {node: boot for node, (boot, _) in self._nodes.reports.items()}
        recorded = self._ledger.boots
        return bool(recorded) and all(recorded.get(node) != boot for node, boot in boots.items())

    def _only_autostart(self) -> list[AnyCommand]:
        commands = self._autostart()
        for app, state in sorted(self._ledger.apps.items()):
            config = self.configuration.app(app)
            if state.wanted is Wanted.RUNNING and (config is None or not config.autostart):
                commands.append(SetWanted(app, Wanted.STOPPED))
        return commands

    # ---- orders and fences ------------------------------------------------------------------------------------------

    def _give_orders(self, now: float) -> None:
        wanted = dict.fromkeys(self._plan.orders)
        self._ordered = {order: at for order, at in self._ordered.items() if order in wanted}
        for order in wanted:
            if now - self._ordered.get(order, -REPEAT_ORDER) < REPEAT_ORDER:
                continue
            self._ordered[order] = now
            message = Order(
                order.verb, order.app, order.generation, self._leadership.term, order.takeover, order.proofs,
                order.watchdog, order.addressed,
            )  # fmt: skip
            if order.node == self.me:
                self._out.tell(REQD, message)
            else:
                self._out.send(order.node, message)

    def _carry_out_fences(self, now: float) -> None:
        self._fencing = {key: at for key, at in self._fencing.items() if key in self._plan.fences}
        ordered = self._ledger.fences
        self._fence_trouble = {node: text for node, text in self._fence_trouble.items() if node in ordered}
        for node, index in self._plan.fences:
            if now - self._fencing.get((node, index), -REPEAT_FENCE) >= REPEAT_FENCE:
                self._fencing[(node, index)] = now
                self._out.tell(REQD, OrderFenceOff(node, index))

    def _fenced(self, message: FenceResult) -> None:
        if not self.master:
            return
        fence = self._ledger.fences.get(message.node)
        if fence is not None and fence.index == message.index:
            for operation in self._fence_operations.values():
                operation.fenced(message)
        if not message.off:
            self._fence_trouble[message.node] = message.reason
            return
        self._fence_trouble.pop(message.node, None)
        if message.node in self._heard():
            text = f"says that {message.node} is off, and it is still heard; does the device switch another one?"
            self._fence_trouble[message.node] = text
            self._said_off[message.node] = message.index, self._now
        else:
            self._confirm_fence(message.node, message.index)

    def _confirm_fence(self, node: NodeName, index: Index) -> None:
        self._said_off.pop(node, None)
        self._number += 1
        self._out.tell(LOCKD, Propose(self._number, self._leadership.term, (ConfirmFence(node, index),)))

    def _confirm_silent(self) -> None:
        """A node that its device called off is silent a detection time later. If not, the device is asked again, and
        what it said before counts no more: the node's silence may have another cause by then."""
        heard = self._heard()
        for node, (index, at) in list(self._said_off.items()):
            if self._now >= at + REPEAT_FENCE:
                del self._said_off[node]
            elif node not in heard:
                self._fence_trouble.pop(node, None)
                self._confirm_fence(node, index)

    def _step_fence_operations(self, now: float) -> list[AnyCommand]:
        commands: list[AnyCommand] = []
        for id, operation in list(self._fence_operations.items()):
            if self._proposal is None or now >= operation.until:  # decide on what the log says
                command = operation.step(self.me, self._ledger, self._heard(), self._nodes.expired, now)
                commands += [command] if command is not None else []
            order = operation.order()
            if order is not None:
                self._out.tell(REQD, order)
            for progress in operation.progress:
                self._answer(operation.origin, Reply(id, progress))
            operation.progress.clear()
            if operation.stage is FenceStage.DONE and operation.code is not None:
                del self._fence_operations[id]
                self._tell_end(id, operation.origin, operation.code, operation.text)
        return commands

    # ---- the end of every call --------------------------------------------------------------------------------------

    def _finish(self, now: float) -> Output:
        self._settle_proposal(now)
        self._pass_again(now)
        if self.master:
            self._confirm_silent()
            self._decide(now)
        return self._out.take(self._wake_at(now))

    def _wake_at(self, now: float) -> float | None:
        if not self.master:
            return self._pass_at
        times = [at + REPEAT_ORDER for at in self._ordered.values()] + [
            at + REPEAT_FENCE for at in self._fencing.values()
        ]
        if self._proposal is not None:
            times.append(self._proposal[2])
        if self._pass_at is not None:
            times.append(self._pass_at)
        if self._plan.step_down:
            times.append(self._step_down_at)
        times += [each.asked_at + FORGOTTEN for each in self._operations.values() if each.stage is Stage.WAIT]
        times += [each.until for each in self._fence_operations.values()]
        if self._master_since is not None and (not self._settled_boots or now < self._master_since + REPORT_GRACE):
            times.append(max(now + 0.1, self._master_since + REPORT_GRACE))
        times += [since + REPORT_GRACE for since in self._reported_since.values() if now < since + REPORT_GRACE]
        for since in (self._began, self._master_since, *self._heard_since.values()):
            if since is not None and now < since + STARTUP_GRACE:
                times.append(since + STARTUP_GRACE)
        return min(times, default=None)


def _aimed(request: Request, node: NodeName | None) -> Request:
    return Request(request.id, request.verb, request.app, node, request.operator)
