"""clusterd: on every node; beside the log's leader it is the master, which plans and gives orders.

What it knows comes from lockd (ledger, leadership, nodes' reports) and hbd (who is heard): `Situation`. What it decides
goes into the log first; orders leave only for committed grants. On the other nodes it hands orders to the local reqd,
carries the instances' progress to the master, and operators' requests there and their replies back.
"""

from typing import Any

from msgspec.structs import replace

from truecl.core.account import Account
from truecl.core.activation import Activation
from truecl.core.assess import systems
from truecl.core.cold_start import ColdStart
from truecl.core.contract import Event, Joined, Left, Noted, Output, Received, Told
from truecl.core.fencer import Fencer
from truecl.core.fitness import PlanInput
from truecl.core.flapping import Flapping
from truecl.core.ledger import lease_timing, may_configure
from truecl.core.operations import Operations
from truecl.core.outbox import Outbox
from truecl.core.peer_questions import PeerQuestions
from truecl.core.planner import NodeOrder, Plan, plan
from truecl.core.replication import ReplicaOrder
from truecl.core.situation import Situation, WallClock
from truecl.core.verification import Verification
from truecl.model.config import Configuration
from truecl.model.ids import HBD, LOCKD, REQD, STATD, SYNCD, Index, NodeName, Term
from truecl.model.ledger import AnyCommand, Configure, GiveGrant, Ledger, MarkCopy, RaiseLevel, RecordVerified
from truecl.wire.messages import (
    Applied,
    AppNote,
    AskPeerOutdated,
    AskWork,
    FenceResult,
    Follow,
    HeldNode,
    InstanceProgress,
    Leadership,
    Members,
    NewConfiguration,
    Nodes,
    Notes,
    Order,
    OrderReplica,
    PeerOutdated,
    PoweredOn,
    Propose,
    Proposed,
    Refused,
    Reply,
    Request,
    Revoke,
    StepDown,
    Subscribe,
    View,
    WorkAnswer,
)

REPEAT_ORDER = 0.5
"""Seconds until an order is sent again to a node that does not report what it led to."""
PROPOSAL_PATIENCE = 1.0
"""Seconds until a proposal without an answer is planned anew."""
REPEAT_STEP_DOWN = 2.0
BEHIND = 5.0
"""Seconds for which a node holds a former configuration before it asks for the one in force."""
REPEAT_FOLLOW = 2.0
MAX_COMMANDS = 500
"""In one entry of the log."""


class Clusterd:
    """The whole core of clusterd."""

    def __init__(self, me: NodeName, configuration: Configuration) -> None:
        self.me = me
        self.situation = Situation(me, configuration)
        self._out = Outbox()
        self._account = Account(self._out)
        self._operations = Operations(self.situation, self._out)
        self._desk = self._operations.desk
        self._cold_start = ColdStart(self.situation)
        self._fencer = Fencer(self.situation, self._out)
        self._flapping = Flapping(self.situation)
        self._activation = Activation(self.situation, self._operations.say)
        self._verification = Verification(self.situation, self._out)
        self._peers = PeerQuestions(self.situation, self._out)
        self._number = 0
        self._proposal: tuple[int, Index | None, float] | None = None
        """Number, index once known, and when it is given up."""
        self._ordered: dict[NodeOrder | ReplicaOrder, float] = {}
        self._step_down_at = 0.0
        """When this master may ask again to be relieved."""
        self._behind_since: float | None = None
        self._follow_at = 0.0
        self._notes: Notes = Notes(())
        self._plan = Plan()

    # ---- contract ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        self.situation.now = now
        self.situation.begin()
        return self._finish(now)

    def handle(self, event: Event, now: float) -> Output:
        self.situation.now = now
        match event:
            case Told(who, message):
                self._told(who, message)
            case Received(node, message):
                self._received(node, message)
            case Joined(who, root):
                self._joined(who, root)
            case Left(who):
                self._left(who)
            case Noted(WallClock() as wall):
                self.situation.wall = wall
            case _:
                pass
        return self._finish(now)

    def _told(self, who: str, message: Any) -> None:
        match message:
            case Applied() if who == LOCKD:
                self.situation.ledger = message.ledger
            case Leadership() if who == LOCKD:
                self._lead(message)
            case Members() if who == LOCKD:
                self.situation.members = message
            case Nodes() if who == LOCKD:
                self.situation.report(message)
            case View() if who == HBD:
                self.situation.hear(message)
            case Proposed() if who == LOCKD:
                self._proposed(message)
            case InstanceProgress() if who == REQD:
                self._progress(message)
            case FenceResult() if who == REQD:
                self._fenced(message)
            case WorkAnswer() if who == REQD:
                self._worked(message)
            case PoweredOn() if who == REQD:
                self._operations.powered_on(message)
            case NewConfiguration() if who == SYNCD:
                self.situation.configuration = message.configuration
            case Request():
                self._desk.request(who, message)
            case AskPeerOutdated():
                self._peers.ask(who, message)
            case Notes() | Refused():
                pass
            case _:
                self._out.tell(who, Refused(f"clusterd does not take {type(message).__name__} from {who}"))

    def _received(self, node: NodeName, message: Any) -> None:
        match message:
            case Order() | OrderReplica():
                # Whoever sent it: reqd checks term and generation, and the lease names what may run.
                self._out.tell(REQD, message)
            case AskWork():
                self._out.tell(REQD, message)
            case WorkAnswer() if message.node == node:
                self._worked(message)
            case InstanceProgress():
                self._progress(message)
            case Request():
                self._operations.begin(message, node)
            case Reply():
                self._desk.reply(message, node)
            case AskPeerOutdated():
                self._peers.begin(message, node)
            case PeerOutdated():
                self._peers.answered(message)

    def _joined(self, who: str, root: bool) -> None:
        self._desk.joined(who, root)
        self._peers.joined(who, root)
        if who in (LOCKD, HBD, SYNCD):
            self._out.tell(who, Subscribe())
        if who == HBD:
            self.situation.begin()
        if who == STATD:
            self._out.tell(STATD, self._notes)
            self._account.begin(listened=True)

    def _left(self, who: str) -> None:
        if who == STATD:
            self._account.begin(listened=False)
        if who == LOCKD:
            self._lead_no_more(Leadership(self.situation.leadership.term, None, False))
        self._desk.left(who)
        self._peers.left(who)

    def _progress(self, message: InstanceProgress) -> None:
        """A step of an instance: to the master, and there to whoever waits for that application."""
        if self.situation.master:
            self._operations.progress(message)
            return
        leader = self.situation.leadership.leader
        if leader is not None and leader != self.me and message.node == self.me:
            self._out.send(leader, message)

    def _worked(self, message: WorkAnswer) -> None:
        leader = self.situation.leadership.leader
        if self.situation.master:
            self._operations.builds.answered(message)
            self._verification.answered(message)
        elif leader is not None and leader != self.me and message.node == self.me:
            self._out.send(leader, message)

    # ---- leadership -------------------------------------------------------------------------------------------------

    def _lead(self, leadership: Leadership) -> None:
        situation, before = self.situation, self.situation.leadership
        situation.leadership = leadership
        if not situation.master:
            self._lead_no_more(leadership)
        elif situation.master_since is None:
            situation.master_since = situation.now
            self._cold_start.begin()
            self._flapping.begin()
            self._activation.begin()
            self._verification.forget()
        if leadership.leader is not None and (leadership.leader, leadership.term) != (before.leader, before.term):
            self._desk.pass_all()

    def _lead_no_more(self, leadership: Leadership) -> None:
        self.situation.lead_no_more(leadership)
        self._proposal = None
        self._account.begin()
        self._operations.forget()
        self._fencer.forget()
        self._verification.forget()
        self._peers.forget()
        self._ordered.clear()
        if self._notes != Notes(()):
            self._notes = Notes(())
            self._out.tell(STATD, self._notes)

    # ---- planning ---------------------------------------------------------------------------------------------------

    def _input(self) -> PlanInput:
        situation = self.situation
        return PlanInput(
            self.me, situation.configuration, situation.ledger,
            situation.alive(), situation.awaited(), situation.lost(),
            situation.nodes.reports, frozenset(situation.nodes.lapsed), dict(self._fencer.trouble),
            self._operations.unwanted(), situation.nodes.watchdogs, frozenset(situation.nodes.reset),
            frozenset(self._flapping.held()), situation.nodes.replicas, self._activation.overdue(),
            self._operations.builds.building(), frozenset(situation.nodes.unrenewed), situation.members.membership,
        )  # fmt: skip

    def _decide(self, now: float) -> None:
        """One pass of the master: plan, write what must be written, order what is committed."""
        self._operations.begin_early()
        lost_and_found = self._flapping.step(self._operations.unwanted())
        self.situation.going = self._operations.going()
        built = self._operations.builds.step(self._proposal is not None)
        self._activation.step(frozenset(app for app, _ in self._operations.builds.building()))
        given = self._input()
        self._account.decided(given, self.situation.leadership.term, now)
        self._plan = plan(given)
        proposing = self._proposal is not None
        commands = [*self._configure(), *self._raise_level(), *self._cold_start.step(proposing), *lost_and_found]
        commands += [*self._operations.stale_locks(), *self._peers.step(proposing)]
        commands += built
        commands += self._operations.step(self._plan.failed, self._activation.going_down(), proposing)
        commands += self._operations.step_nodes(self._plan.stays, proposing)
        undecided = self._cold_start.undecided
        commands += [*(() if undecided else self._plan.commands), *self._operations.step_fences(proposing)]
        commands += self._verification.step()
        if commands and not proposing:
            number = self._propose(tuple(commands[:MAX_COMMANDS]))
            self._proposal = (number, None, now + PROPOSAL_PATIENCE)
        self._operations.step_memberships(self._proposal is not None, self._next_number)
        if not undecided:
            self._give_orders(now)
            self._activation.tell(self._plan.replicas)
        self._fencer.carry_out(self._plan.fences)
        for each in self._plan.revocations:
            self._out.tell(LOCKD, Revoke(self.situation.leadership.term, each.node, each.app, each.generation))
        if self._plan.step_down and now >= self._step_down_at:
            self._step_down_at = now + REPEAT_STEP_DOWN
            self._out.tell(LOCKD, StepDown())
        notes = Notes(
            tuple(AppNote(app, text) for app, text in self._plan.notes),
            tuple(HeldNode(node, until) for node, until in self._flapping.held().items()),
        )
        if notes != self._notes:
            self._notes = notes
            self._out.tell(STATD, notes)

    def _raise_level(self) -> list[AnyCommand]:
        level = self.situation.nodes.level
        return [RaiseLevel(level)] if level > self.situation.ledger.level else []

    def _configure(self) -> list[AnyCommand]:
        """The log says which configuration is in force, and how long leases are. A master that is behind by its own is
        to follow, not to lead back."""
        ledger, configuration = self.situation.ledger, self.situation.configuration
        timing = lease_timing(configuration.cluster.timing)
        in_force = ledger.digest == configuration.digest and ledger.timings[:1] == (timing,)
        return (
            []
            if in_force or self.situation.behind or not may_configure(ledger, timing)
            else [Configure(configuration.digest, timing)]
        )

    def _follow(self, now: float) -> None:
        """A node that was away while another configuration came into force gets it from those that have it. Not at
        once: an older version that an operator brings back is told to the log when all nodes have it."""
        if not self.situation.behind:
            self._behind_since = None
            return
        if self._behind_since is None:
            self._behind_since, self._follow_at = now, now + BEHIND
        if now >= self._follow_at:
            self._follow_at = now + REPEAT_FOLLOW
            self._out.tell(SYNCD, Follow(self.situation.ledger.digest))

    def _propose(self, commands: tuple[AnyCommand, ...]) -> int:
        number, date = self._next_number(), self.situation.date
        dated = tuple(_dated(command, date) for command in commands)
        self._out.tell(LOCKD, Propose(number, self.situation.leadership.term, dated))
        return number

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _proposed(self, message: Proposed) -> None:
        """One plan at a time: the next is made on the ledger that this one led to."""
        self._operations.reshaped(message)
        if self._proposal is None or self._proposal[0] != message.number:
            return
        self._peers.proposed(message.index)
        until = self._proposal[2]
        if message.index is None:
            # Try again a little later: what was refused is planned on newer knowledge then.
            until = min(until, until - PROPOSAL_PATIENCE + 0.02)
        self._proposal = (message.number, message.index, until)

    def _settle_proposal(self, now: float) -> None:
        if self._proposal is not None:
            _, index, until = self._proposal
            if (index is not None and self.situation.ledger.index >= index) or now >= until:
                self._proposal = None
                self._peers.proposed(None)

    # ---- orders and fences ------------------------------------------------------------------------------------------

    def _give_orders(self, now: float) -> None:
        wanted: dict[NodeOrder | ReplicaOrder, None] = dict.fromkeys(self._plan.replicas)
        wanted |= dict.fromkeys(self._plan.orders)
        self._ordered = {order: at for order, at in self._ordered.items() if order in wanted}
        for order in wanted:
            if now - self._ordered.get(order, -REPEAT_ORDER) < REPEAT_ORDER:
                continue
            self._ordered[order] = now
            message = _message(order, self.situation.leadership.term, self.situation.ledger)
            if order.node == self.me:
                self._out.tell(REQD, message)
            else:
                self._out.send(order.node, message)

    def _fenced(self, message: FenceResult) -> None:
        if not self.situation.master:
            return
        fence = self.situation.ledger.fences.get(message.node)
        if fence is not None and fence.index == message.index:
            self._operations.fenced(message)
        confirmed = self._fencer.result(message)
        if confirmed is not None:
            self._propose((confirmed,))

    # ---- the end of every call --------------------------------------------------------------------------------------

    def _finish(self, now: float) -> Output:
        self._settle_proposal(now)
        self._desk.pass_again()
        self._peers.pass_again()
        self._follow(now)
        if self.situation.master:
            for confirmed in self._fencer.silent():
                self._propose((confirmed,))
            self._decide(now)
        return self._out.take(*self._wakes())

    def _wakes(self) -> list[float]:
        times = self._desk.wakes() + self._peers.wakes()
        if self._behind_since is not None:
            times.append(self._follow_at)
        if not self.situation.master:
            return times
        if not self._cold_start.undecided:  # else no order is repeated
            times += [at + REPEAT_ORDER for at in self._ordered.values()]
        times += self._fencer.wakes()
        times += self._operations.wakes() + self._cold_start.wakes() + self.situation.wakes() + self._flapping.wakes()
        times += self._activation.wakes() + self._verification.wakes()
        if self._proposal is not None:
            times.append(self._proposal[2])
        if self._plan.step_down:
            times.append(self._step_down_at)
        return times


def _dated(command: AnyCommand, date: float) -> AnyCommand:
    """What is said of a copy says since when. No plan knows the wall clock."""
    match command:
        case MarkCopy(at=0.0) | GiveGrant(alone=True, at=0.0) | RecordVerified(at=0.0):
            return replace(command, at=date)
        case _:
            return command


def _message(order: NodeOrder | ReplicaOrder, term: Term, ledger: Ledger) -> Order | OrderReplica:
    if isinstance(order, ReplicaOrder):
        return OrderReplica(order.verb, order.app, order.generation, term, order.layout)
    return Order(
        order.verb, order.app, order.generation, term, order.takeover, order.proofs, order.watchdog, order.addressed,
        order.alone, order.build, systems(ledger.builds.get(order.app)),
    )  # fmt: skip
