"""Operators' requests at the master: each becomes an operation on an application, on a node or on its power, once.

A request may come again: its origin passes it on until it hears of the end, which may be lost. It is known by its id;
what became of the latest ones is remembered for that.
"""

from collections.abc import Callable

from msgspec.structs import replace

from truecl.core import copies, fence_operation, membership_operation, node_operation
from truecl.core.build_operation import BuildOperation, Validation
from truecl.core.builds import Builds
from truecl.core.cold_start import autostart
from truecl.core.desk import Desk
from truecl.core.fence_operation import FenceOperation, FenceStage
from truecl.core.ledger import app_state, lease_timing, may_configure
from truecl.core.levels import knows
from truecl.core.membership_operation import MembershipOperation
from truecl.core.node_operation import NodeOperation, NodeStage
from truecl.core.operation import Operation, Stage
from truecl.core.outbox import Outbox
from truecl.core.situation import Situation
from truecl.model.build import Question
from truecl.model.ids import LOCKD, REQD, AppName, NodeName
from truecl.model.ledger import AnyCommand, Configure, FreeLock, Lock, RecordBuild, SetStandby
from truecl.model.membership import Membership
from truecl.model.report import Progress, Severity
from truecl.wire.messages import (
    Dismiss,
    FenceResult,
    InstanceProgress,
    PoweredOn,
    Proposed,
    Reply,
    Request,
    Reshape,
    StepDown,
    TakeIn,
)

FORGOTTEN = 10.0
"""Seconds after which the master waits no more for a wish that nobody asks after: its lock is for others."""
LEVEL_PATIENCE = 1.0
"""Seconds for which a new master waits until the nodes have said what level of the log they know, each with its first
request for a lease: so that what is asked right after lha_form is not refused."""
MAX_OUTCOMES = 256
MAX_OPERATIONS = 64


class Operations:
    """Those under way, and how the latest ended."""

    def __init__(self, situation: Situation, outbox: Outbox) -> None:
        self._situation, self._out = situation, outbox
        self.desk = Desk(situation, outbox, self.begin)
        self._operations: dict[str, Operation] = {}
        self._fence_operations: dict[str, FenceOperation] = {}
        self._node_operations: dict[str, NodeOperation] = {}
        self._memberships: dict[str, MembershipOperation] = {}
        self.builds = Builds(situation, outbox, self.desk, self._tell_end, self._take_up)
        self._unbind_at = 0.0
        self._early: list[tuple[Request, NodeName]] = []
        """Requests that came between this node's election and its first committed entries."""
        self._outcomes: dict[str, tuple[Reply, ...]] = {}
        """Of the latest operations, by request: a reply may be lost, and its request comes again."""

    def forget(self) -> None:
        """This node leads no more, or not yet."""
        self._operations.clear()
        self._fence_operations.clear()
        self._node_operations.clear()
        self._memberships.clear()
        self.builds.forget()
        if self._situation.leadership.leader != self._situation.me:
            self._early.clear()

    def begin_early(self) -> None:
        early, self._early = self._early, []
        for request, origin in early:
            self.begin(request, origin)

    def begin(self, request: Request, origin: NodeName) -> None:
        """A request at the master. One that comes before it is ready waits; one that comes after it was deposed is
        dropped: its origin passes it on again when it hears of the next leader."""
        under_way: (
            Operation | FenceOperation | NodeOperation | MembershipOperation | BuildOperation | Validation | None
        ) = (
            self._operations.get(request.id)
            or self._fence_operations.get(request.id)
            or self._node_operations.get(request.id)
            or self._memberships.get(request.id)
            or self.builds.get(request.id)
        )
        if under_way is not None:
            under_way.asked_at = self._situation.now
        elif request.id in self._outcomes:
            for reply in self._outcomes[request.id]:
                self.desk.answer(origin, reply)
        elif not self._situation.master or self._too_early(request):
            known = any(each.id == request.id for each, _ in self._early)
            leads = self._situation.leadership.leader == self._situation.me
            if leads and not known and len(self._early) < MAX_OPERATIONS:
                self._early.append((request, origin))
        else:
            self._begin_new(request, origin)

    def _too_early(self, request: Request) -> bool:
        situation = self._situation
        if situation.master_since is None or situation.now >= situation.master_since + LEVEL_PATIENCE:
            return False
        if request.verb == "build":
            return not knows(situation.ledger, RecordBuild)
        return request.verb in node_operation.VERBS and not knows(situation.ledger, SetStandby)

    def _begin_new(self, request: Request, origin: NodeName) -> None:
        situation = self._situation
        problem = self._problem(request)
        kinds = (self._operations, self._fence_operations, self._node_operations, self._memberships, self.builds)
        if problem or sum(len(each) for each in kinds) >= MAX_OPERATIONS:
            text = problem or "too many operations at once; try again"
            self.desk.answer(origin, Reply(request.id, Progress(text, Severity.ERROR, verbose=False)))
            self.desk.answer(origin, Reply(request.id, code=1))
        elif request.verb in fence_operation.VERBS:
            operation = fence_operation.begin(request, origin, situation.configuration, situation.now)
            self._fence_operations[request.id] = operation
        elif request.verb in node_operation.VERBS:
            self._node_operations[request.id] = NodeOperation(request, origin, situation.now)
        elif request.verb in membership_operation.VERBS:
            self._replace_membership(request, origin)
        elif request.verb == "build":
            self.builds.build(request, origin)
        elif request.validated:
            self.builds.validate(request, origin)
        else:
            self._take_up(request, origin)

    def _take_up(self, request: Request, origin: NodeName) -> None:
        self._operations[request.id] = Operation(request, origin, asked_at=self._situation.now)

    # ---- can it be tried? -------------------------------------------------------------------------------------------

    def _problem(self, request: Request) -> str:
        """Why a request cannot even be tried; '' if it can."""
        if request.verb in ("autostart", "configure"):
            return ""
        if request.verb in fence_operation.VERBS:
            return self._fence_problem(request)
        if request.verb in node_operation.VERBS:
            return node_operation.problem(request, self._situation.configuration, self._situation.ledger)
        if request.verb in membership_operation.VERBS:
            return self._membership_problem(request)
        if request.verb == "build":
            return self.builds.problem(request)
        if request.verb not in ("start", "stop", "move"):
            return f"unknown request '{request.verb}'"
        configuration = self._situation.configuration
        config = configuration.app(request.app)
        if config is None:
            if request.verb == "stop" and request.app in self._situation.ledger.apps:
                return ""
            names = ", ".join(each.name for each in configuration.apps) or "none"
            return f"unknown application '{request.app}'; configured: {names}"
        if request.node is None:
            no_target = request.verb == "move" and self._target(request.app) is None
            return f"no other node of '{request.app}' is up" if no_target else ""
        if request.node not in config.nodes:
            return f"'{request.node}' is not one of the nodes of '{request.app}': {', '.join(config.nodes)}"
        if request.node not in self._situation.heard():
            return f"node '{request.node}' is not up; lha_stat shows which are"
        if request.node in self._situation.ledger.standby:
            return f"node '{request.node}' is on standby; to use it again: lha_node resume {request.node}"
        if request.verb in ("start", "move") and not copies.current(self._situation.ledger, request.app, request.node):
            return f"the copy of '{request.app}' on '{request.node}' is not current; lha_stat -A {request.app}"
        return ""

    def _fence_problem(self, request: Request) -> str:
        for other in self._fence_operations.values():
            if other.node == request.node:
                return f"lha_fence --{other.request.verb} of {other.node} is under way ({other.request.operator})"
        situation = self._situation
        return fence_operation.problem(request, situation.configuration, situation.ledger, situation.heard())

    def _membership_problem(self, request: Request) -> str:
        for other in self._memberships.values():
            if other.node == request.node and other.request.verb != request.verb:
                return f"lha_node {other.request.verb} {other.node} is under way ({other.request.operator})"
        return membership_operation.problem(request, self._situation)

    def _target(self, app: AppName) -> NodeName | None:
        """Where a move without a node goes: the next of its list that is up and in use."""
        ledger, heard = self._situation.ledger, self._situation.heard()
        config, grant = self._situation.configuration.app(app), app_state(ledger, app).grant
        if config is None:
            return None
        usable = [
            node
            for node in config.nodes
            if node in heard and node not in ledger.standby and copies.current(ledger, app, node)
        ]
        others = [node for node in usable if grant is None or node != grant.node]
        return others[0] if others else None

    # ---- on applications --------------------------------------------------------------------------------------------

    def progress(self, message: InstanceProgress) -> None:
        """A step of an instance, to whoever waits for that application."""
        self.say(message.app, message.progress)

    def say(self, app: AppName, progress: Progress) -> None:
        for operation in self._operations.values():
            if operation.request.app == app:
                self.desk.answer(operation.origin, Reply(operation.request.id, progress))
        self.builds.progress(app, progress)
        for each in self._node_operations.values():
            if app in each.leaving:
                self.desk.answer(each.origin, Reply(each.request.id, progress))

    def stale_locks(self) -> list[AnyCommand]:
        locks = sorted(self._situation.ledger.locks.items())
        return [FreeLock(name, lock.token) for name, lock in locks if self._stale(lock)]

    def _stale(self, lock: Lock) -> bool:
        """Its operation went on a master that is gone, or on this daemon before it was restarted."""
        known = lock.holder in self._operations or self.builds.holds(lock)
        return lock.term < self._situation.leadership.term or not known

    def step(self, failed: tuple[AppName, ...], going_down: frozenset[AppName], proposing: bool) -> list[AnyCommand]:
        """What brings the operations on applications on. `failed`: no node is left for these. `going_down`: the other
        nodes' storage of these is being deactivated. `proposing`: an entry of the log is under way."""
        commands: list[AnyCommand] = []
        taken: set[str] = set()
        for operation in list(self._operations.values()):
            if proposing and operation.stage in (Stage.LOCK, Stage.WISH):
                continue  # decide on what the log says, not on what it is about to say
            if operation.request.verb == "autostart":
                commands += self._step_autostart(operation)
                continue
            if operation.request.verb == "configure":
                commands += self._step_configure(operation)
                continue
            lock = self._situation.ledger.locks.get(operation.lock)
            if operation.stage is Stage.LOCK and lock is not None and self._stale(lock):
                continue
            command = self._step_one(operation, failed, going_down)
            if operation.stage is Stage.LOCK and operation.lock in taken:
                continue
            if command is not None:
                taken.add(operation.lock)
                commands.append(command)
            elif operation.stage is Stage.LOCK and not operation.told_lock:
                self._tell_lock(operation)
            self._tell_outcome(operation)
        return commands

    def _step_autostart(self, operation: Operation) -> list[AnyCommand]:
        wishes = autostart(self._situation.ledger, self._situation.configuration)
        if not wishes:  # now the log says so
            operation.end(0, "")
            operation.stage = Stage.DONE
            self._tell_outcome(operation)
        return wishes

    def _step_configure(self, operation: Operation) -> list[AnyCommand]:
        """A version that all nodes have by now, be it one that was in force before."""
        situation, digest = self._situation, operation.request.digest
        timing = lease_timing(situation.configuration.cluster.timing)
        commands: list[AnyCommand] = []
        if situation.ledger.digest == digest:
            operation.end(0, "")
        elif situation.now >= operation.asked_at + FORGOTTEN:
            operation.end(1, f"the master has no configuration {digest[:8]}")
        elif situation.configuration.digest == digest and may_configure(situation.ledger, timing):
            commands.append(Configure(digest, timing))
        if operation.code is not None:
            operation.stage = Stage.DONE
            self._tell_outcome(operation)
        return commands

    def _step_one(
        self, operation: Operation, failed: tuple[AppName, ...], going_down: frozenset[AppName]
    ) -> AnyCommand | None:
        situation, app = self._situation, operation.request.app
        if operation.stage is Stage.WAIT and situation.now >= operation.asked_at + FORGOTTEN:
            operation.told = True
            operation.end(4, "")
        if operation.request.verb == "move" and operation.request.node is None:
            target = self._target(app)
            operation.request = replace(operation.request, node=target)
            if target is None:
                operation.end(1, f"no other node of '{app}' is up")
        config, report = situation.configuration.app(app), situation.owners_report(app)
        return operation.step(situation.ledger, config, app in failed, report, app in going_down)

    def _tell_lock(self, operation: Operation) -> None:
        operation.told_lock = True
        holder = self._operations.get(self._situation.ledger.locks[operation.lock].holder)
        who = f" (lha_{holder.request.verb}app by {holder.request.operator})" if holder is not None else ""
        if builder := self.builds.operator(self._situation.ledger.locks[operation.lock].holder):
            who = f" (lha_buildapp by {builder})"
        text = f"waiting: '{operation.request.app}' is locked by another operation{who}"
        self.desk.answer(operation.origin, Reply(operation.request.id, Progress(text, Severity.WARN, verbose=False)))

    def _tell_outcome(self, operation: Operation) -> None:
        """As soon as it is known: whoever asked need not wait until the lock is free again."""
        if operation.code is not None and not operation.told:
            operation.told = True
            self._tell_end(operation.request.id, operation.origin, operation.code, operation.text)
        if operation.stage is Stage.DONE:
            del self._operations[operation.request.id]

    def _told(self, id: str, operation: FenceOperation | NodeOperation | MembershipOperation, done: bool) -> bool:
        """What it has to say; if it is `done`, its end too. Was that told?"""
        for progress in operation.progress:
            self.desk.answer(operation.origin, Reply(id, progress))
        operation.progress.clear()
        if not done or operation.code is None:
            return False
        self._tell_end(id, operation.origin, operation.code, operation.text)
        return True

    def _tell_end(self, id: str, origin: NodeName, code: int, text: str, question: Question | None = None) -> None:
        replies = []
        if text:
            severity = Severity.ERROR if code else Severity.LOG
            replies.append(Reply(id, Progress(text, severity, verbose=False)))
        self._outcomes[id] = (*replies, Reply(id, code=code, question=question))
        if len(self._outcomes) > MAX_OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]
        for reply in self._outcomes[id]:
            self.desk.answer(origin, reply)

    # ---- on nodes' power --------------------------------------------------------------------------------------------

    def unwanted(self) -> frozenset[NodeName]:
        """Nodes that an operator has asked to switch off."""
        return frozenset(each.node for each in self._fence_operations.values() if each.unwanted)

    def fenced(self, message: FenceResult) -> None:
        for operation in self._fence_operations.values():
            operation.fenced(message)

    def powered_on(self, message: PoweredOn) -> None:
        for operation in self._fence_operations.values():
            operation.powered_on(message)

    def step_fences(self, proposing: bool) -> list[AnyCommand]:
        situation, commands = self._situation, list[AnyCommand]()
        for id, operation in list(self._fence_operations.items()):
            if not proposing or situation.now >= operation.until:  # decide on what the log says
                command = operation.step(
                    situation.me, situation.ledger, situation.heard(), situation.nodes.expired, situation.now
                )
                commands += [command] if command is not None else []
            order = operation.order()
            if order is not None:
                self._out.tell(REQD, order)
            if self._told(id, operation, operation.stage is FenceStage.DONE):
                del self._fence_operations[id]
        return commands

    # ---- on nodes ---------------------------------------------------------------------------------------------------

    def step_nodes(self, stays: tuple[AppName, ...], proposing: bool) -> list[AnyCommand]:
        """`stays`: applications that no node but their own will do for."""
        situation, commands = self._situation, list[AnyCommand]()
        for id, operation in list(self._node_operations.items()):
            if situation.now >= operation.asked_at + FORGOTTEN:
                del self._node_operations[id]
                continue
            if proposing:  # decide on what the log says
                continue
            commands += operation.step(situation.ledger, situation.heard(), stays)
            if self._told(id, operation, operation.stage is NodeStage.DONE):
                del self._node_operations[id]
        return commands

    # ---- on the membership ------------------------------------------------------------------------------------------

    def _replace_membership(self, request: Request, origin: NodeName) -> None:
        """The same command again goes on with what the first one began."""
        for id, other in list(self._memberships.items()):
            if other.node == request.node:
                del self._memberships[id]
                self._tell_end(id, other.origin, 4, f"the same command again ({request.operator}) goes on with it")
        now = self._situation.now
        self._memberships[request.id] = MembershipOperation(request, origin, now, now)

    def going(self) -> tuple[NodeName, ...]:
        """Nodes that are being removed."""
        return tuple(each.node for each in self._memberships.values() if each.request.verb == "remove")

    def reshaped(self, message: Proposed) -> None:
        for operation in self._memberships.values():
            operation.answered(message)

    def step_memberships(self, proposing: bool, number: Callable[[], int]) -> None:
        """Not while an entry of the log is under way, which may give something to a node that leaves."""
        if proposing:
            for operation in self._memberships.values():
                operation.wake_at = self._situation.now + membership_operation.REPEAT
            return
        members, now = self._situation.members, self._situation.now
        unbound = membership_operation.unbound(members.membership)
        if unbound is not None and members.settled and not self._memberships and now >= self._unbind_at:
            self._unbind_at = now + membership_operation.REPEAT
            self._out.tell(LOCKD, Reshape(number(), self._situation.leadership.term, unbound))
        for id, operation in list(self._memberships.items()):
            act = operation.step(self._situation)
            match act:
                case TakeIn() | Dismiss():
                    self._out.tell(REQD, act)
                case StepDown():
                    self._out.tell(LOCKD, act)
                case Membership():
                    operation.asked(number())
                    term = self._situation.leadership.term
                    self._out.tell(LOCKD, Reshape(operation.number, term, act))
            if self._told(id, operation, True):
                del self._memberships[id]

    def wakes(self) -> list[float]:
        forgotten = [
            each for each in self._operations.values() if each.stage is Stage.WAIT or each.request.verb == "configure"
        ]
        times = [each.asked_at + FORGOTTEN for each in forgotten]
        times += [each.asked_at + FORGOTTEN for each in self._node_operations.values()]
        times += [each.wake_at for each in self._memberships.values()]
        if self._situation.members.membership.together:
            times.append(max(self._unbind_at, self._situation.now + membership_operation.REPEAT))
        times += self.builds.wakes()
        if self._early and self._situation.master_since is not None:
            times.append(self._situation.master_since + LEVEL_PATIENCE)
        return times + [each.until for each in self._fence_operations.values()]
