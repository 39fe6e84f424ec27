"""statd: what is. Every node's statd knows its own node; the master's is told by all, and answers for the cluster.

A statd beside a follower asks the master's, waits MASTER_TIME at most, and otherwise answers what it knows itself:
`Status.answered_by` tells whose word it is. The history is `truecl.core.chronicle`, what masters decided upon
`truecl.core.minutes`.
"""

from dataclasses import dataclass

import msgspec

from truecl.core import happenings
from truecl.core.chronicle import Chronicle
from truecl.core.contract import (
    Connected,
    Disconnected,
    Done,
    Event,
    Joined,
    Left,
    Output,
    Received,
    Rejected,
    Told,
    Woke,
)
from truecl.core.minutes import Minutes
from truecl.core.outbox import Outbox
from truecl.core.standing import standing, volume_rows
from truecl.core.validation import refusal
from truecl.model.config import Configuration
from truecl.model.ids import CLUSTERD, HBD, LOCKD, REQD, STATD, SYNCD, AppName, NodeName, Term
from truecl.model.ledger import Ledger, Wanted
from truecl.model.membership import Membership
from truecl.model.report import Severity
from truecl.wire.messages import (
    Applied,
    AskInputs,
    AskLog,
    AskStanding,
    AskStatus,
    Decided,
    Inputs,
    InstanceStatus,
    Leadership,
    LogLines,
    Members,
    NewConfiguration,
    NodeStatus,
    Note,
    Notes,
    Refused,
    Standing,
    Status,
    Subscribe,
    View,
)

MASTER_TIME = 0.3
"""Seconds to wait for the master's statd."""
REPEAT = 0.9
"""Seconds after which an unchanged report is sent again; reqd tells it each second."""
STALE = 5.0
"""Seconds after which a node's report is no news any more."""
MAX_QUESTIONS = 64
MAX_INSTANCES = 4096
SERVERS = (HBD, LOCKD, SYNCD)
"""Daemons that this one subscribes to; reqd and clusterd tell it unasked."""


@dataclass
class _Question:
    who: str
    request: AskStatus | AskStanding
    deadline: float


class Statd:
    """The core. Saves nothing: the history is kept by its actions (RecordEvents, FindEvents)."""

    def __init__(self, me: NodeName, configuration: Configuration) -> None:
        self.me = me
        self.configuration = configuration
        self._out = Outbox()
        self._chronicle = Chronicle(me, self._nodes(), self._out, lambda node: self._seen(node) is False)
        self._minutes = Minutes(me, self._out, self._heard_nodes, self._nodes)
        self._view: View | None = None
        self._leadership: Leadership | None = None
        self._since = 0.0
        """When the present master became known: it needs a moment to hear from all."""
        self._ledger: Ledger | None = None
        self._notes: dict[AppName, str] = {}
        self._held: dict[NodeName, float] = {}
        """Until when, by this node's clock; of the master beside this statd."""
        self._met: dict[NodeName, None] = {}
        """With whom there is a session."""
        self._rejected: dict[NodeName, str] = {}
        self._membership: Membership | None = None
        """Of the log, as this node's lockd knows it."""
        self._reports: dict[NodeName, tuple[NodeStatus, float]] = {}
        self._sent: tuple[NodeName, NodeStatus, float] | None = None
        self._questions: dict[int, _Question] = {}
        self._next = 1

    # ---- contract --------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        return self._take()

    def handle(self, event: Event, now: float) -> Output:
        match event:
            case Told(who=who, message=message):
                self._told(who, message, now)
            case Received(node=node, message=message):
                self._received(node, message, now)
            case Done(id=id, result=result):
                self._chronicle.done(id, result, now)
                self._minutes.done(id, result, self._master())
            case Joined(who=who):
                if who in SERVERS:
                    self._out.tell(who, Subscribe())
            case Left(who=who):
                self._left(who)
            case Rejected(node=node, reason=reason):
                self._rejected[node] = happenings.clipped(reason)
                self._chronicle.happened([happenings.Happening(STATD, Severity.WARN, reason)], now)
            case Connected(node=node):
                self._rejected.pop(node, None)
                self._met[node] = None
                self._chronicle.connected(node)
                self._report(now)
            case Disconnected(node=node):
                self._disconnected(node, now)
            case Woke():
                pass
        self._wake(now)
        return self._take()

    def _take(self) -> Output:
        deadlines = [question.deadline for question in self._questions.values()]
        return self._out.take(self._chronicle.wake_at, self._minutes.wake_at, *deadlines)

    # ---- this node -------------------------------------------------------------------------------------------------

    def _told(self, who: str, message: object, now: float) -> None:
        match message:
            case View() if who == HBD:
                if self._view is not None:
                    self._chronicle.happened(happenings.in_view(self._view, message), now)
                self._view = message
            case Leadership() if who == LOCKD:
                self._chronicle.happened(happenings.in_leadership(self._leadership, message), now)
                if self._master() != message.leader:
                    self._since = now
                self._leadership = message
                if message.leader != self.me:
                    self._notes, self._held = {}, {}
                self._report(now)
            case Members() if who == LOCKD:
                self._membership = message.membership
            case Applied() if who == LOCKD:
                if self._ledger is not None:
                    self._chronicle.happened(happenings.in_ledger(self._ledger, message.ledger), now)
                self._ledger = message.ledger
            case NodeStatus() if who == REQD and message.node == self.me:
                self._reports[self.me] = (message, now)
                self._report(now)
                self._speak_first(now)
            case Notes() if who == CLUSTERD:
                self._notes = {note.app: happenings.clipped(note.text) for note in message.notes[:MAX_INSTANCES]}
                self._held = {each.node: each.until for each in message.held}
            case NewConfiguration() if who == SYNCD:
                self.configuration = message.configuration
                self._chronicle.nodes = self._nodes()
            case Note() if not who.startswith("command-"):
                self._chronicle.note(message.event)
            case Decided() if who == CLUSTERD:
                self._minutes.decided(message)
            case AskInputs():
                self._minutes.ask(who, message, now)
            case AskStatus() | AskStanding():
                self._ask(who, message, now)
            case AskLog():
                self._chronicle.ask(who, message, now)
            case _:
                # Nobody else is answered: a daemon's message that has no use here changes nothing.
                if who.startswith("command-") and not isinstance(message, Refused):
                    self._out.tell(who, Refused(f"statd takes no {type(message).__name__}"))

    def _left(self, who: str) -> None:
        self._chronicle.left(who)
        self._minutes.left(who)
        self._questions = {number: each for number, each in self._questions.items() if each.who != who}
        if who == HBD:
            self._view = None
        elif who == CLUSTERD:
            self._notes, self._held = {}, {}
        elif who == LOCKD and self._leadership is not None:
            # Whom to ask stays known; this node's own word about the log is no longer good.
            self._leadership = msgspec.structs.replace(self._leadership, ready=False)

    def _report(self, now: float) -> None:
        """Tells the master's statd of this node: on change, to a new master, and each second. A session is made by
        sending, so none is waited for."""
        mine = self._reports.get(self.me)
        master = self._master()
        if mine is None or master is None or master == self.me:
            return
        if self._sent is not None:
            to, what, at = self._sent
            if to == master and now < at + REPEAT and _alike(what, mine[0]):
                return
        self._sent = (master, mine[0], now)
        self._out.send(master, mine[0])

    # ---- other nodes -----------------------------------------------------------------------------------------------

    def _received(self, node: NodeName, message: object, now: float) -> None:
        if node not in self._nodes() or node == self.me:
            return
        match message:
            case NodeStatus():
                self._reported(node, message, now)
            case AskStatus():
                self._out.send(node, self._answer(message, now))
            case Status(number=0):
                self._reported(node, message.reports.get(node), now)
            case Status():
                self._answered(message, now)
            case AskLog() if message.local:
                self._chronicle.asked(node, message, now)
            case LogLines():
                self._chronicle.lines(node, message, now)
            case AskInputs() if message.local:
                self._minutes.asked(node, message)
            case Inputs():
                self._minutes.answered(node, message, self._master())
            case _:
                pass

    def _speak_first(self, now: float) -> None:
        """The master's asks those that are heard and report nothing: one whose lockd does not run knows no master. And
        who knows none tries a session with the others: there may be none to be had, and then it is to be told why."""
        for node in self._silent_statds(self._ledger or Ledger(), now):
            self._out.send(node, AskStatus())
        if self._master() is None:
            for node in self.configuration.cluster.voters:
                if self._seen(node) and node != self.me and node not in self._met:
                    self._out.send(node, AskStatus())

    def _reported(self, node: NodeName, report: NodeStatus | None, now: float) -> None:
        if report is not None and report.node == node and len(report.instances) <= MAX_INSTANCES:
            self._reports[node] = (report, now)

    def _disconnected(self, node: NodeName, now: float) -> None:
        self._met.pop(node, None)
        self._chronicle.disconnected(node, now)
        self._minutes.disconnected(node, self._master())
        if self._sent is not None and self._sent[0] == node:
            self._sent = None
        if node == self._master():
            self._answer_all(now)

    # ---- lha_stat --------------------------------------------------------------------------------------------------

    def _ask(self, who: str, request: AskStatus | AskStanding, now: float) -> None:
        master = self._master()
        if master is None or master == self.me or self._seen(master) is False:
            self._tell(who, request, self._answer(request, now))
            return
        if len(self._questions) >= MAX_QUESTIONS:
            self._out.tell(who, Refused("too many lha_stat at once on this node; try again"))
            return
        number, self._next = self._next, self._next + 1
        self._questions[number] = _Question(who, request, now + MASTER_TIME)
        self._out.send(master, AskStatus(request.app, request.node, number))

    def _answered(self, status: Status, now: float) -> None:
        question = self._questions.pop(status.number, None)
        if question is None:
            return
        if status.answered_by == status.master:
            status = msgspec.structs.replace(status, here=self.me)
        else:
            # It is no master any more; it knows no more than this node.
            status = self._answer(question.request, now)
        self._tell(question.who, question.request, status)

    def _answer_all(self, now: float, overdue_only: bool = False) -> None:
        for number, question in list(self._questions.items()):
            if not overdue_only or now >= question.deadline:
                del self._questions[number]
                self._tell(question.who, question.request, self._answer(question.request, now))

    def _tell(self, who: str, request: AskStatus | AskStanding, status: Status) -> None:
        if isinstance(request, AskStanding):
            self._out.tell(who, Standing(standing(status)))
        else:
            self._out.tell(who, msgspec.structs.replace(status, number=request.number))

    def _wake(self, now: float) -> None:
        self._answer_all(now, overdue_only=True)
        self._chronicle.wake(now)
        self._minutes.wake(now, self._master())

    def _answer(self, request: AskStatus | AskStanding, now: float) -> Status:
        """What this node knows. Without a filter the steps are left out: the summary has no use for them."""
        ledger = self._ledger or Ledger()
        state, notes = self._state(), dict(self._notes)
        if state != "UP":
            for app in self.configuration.apps:
                wanted = ledger.apps.get(app.name)
                if wanted is not None and wanted.wanted is Wanted.RUNNING:
                    notes.setdefault(app.name, self._why_not(state))
        return Status(
            cluster=self.configuration.cluster.name,
            master=self._master(),
            term=self._leadership.term if self._leadership is not None else Term(0),
            answered_by=self.me,
            nodes={node: self._word(node, ledger) for node in self._nodes()},
            ledger=ledger,
            reports={
                node: _filtered(self._reports[node][0], request)
                for node in self._nodes()
                if node in self._reports and now < self._reports[node][1] + STALE
            },
            notes=notes,
            apps={app.name: app.nodes for app in self.configuration.apps},
            number=request.number if isinstance(request, AskStatus) else 0,
            state=state,
            silent=self._silent_statds(ledger, now),
            here=self.me,
            trouble=self._leadership.trouble if self._leadership is not None else "",
            roles={node: self._role(node) for node in self._nodes()},
            held={node: max(0.0, until - now) for node, until in self._held.items()},
            volumes={app.name: volume_rows(app) for app in self.configuration.apps if app.volumes},
            invalid={
                app.name: refusal(app, ledger.builds.get(app.name), {})
                if ledger.index
                else "the log is not known here yet"
                for app in self.configuration.apps
            },
            refused={node: reason for node, reason in self._rejected.items() if node in self._nodes()},
            twins=tuple(each.node for each in self._view.nodes if each.twin) if self._view is not None else (),
        )

    def _role(self, node: NodeName) -> str:
        """By the log, which is what counts; `joining` is what it does not say yet and the configuration does."""
        cluster, membership = self.configuration.cluster, self._membership
        if membership is not None and membership.nodes:
            votes = node in membership.voters
            if node not in membership.nodes or (node in cluster.voters and not votes):
                return "joining"
        else:
            votes = node in cluster.voters
        if not votes:
            return "observer"
        return "witness" if cluster.node(node).witness else "voter"

    def _silent_statds(self, ledger: Ledger, now: float) -> tuple[NodeName, ...]:
        """As the master's statd sees it; nobody else is told."""
        if not self._leads() or now < self._since + STALE:
            return ()
        heard = [node for node in self._nodes() if self._word(node, ledger) == "UP"]
        return tuple(node for node in heard if node not in self._reports or now >= self._reports[node][1] + STALE)

    def _word(self, node: NodeName, ledger: Ledger) -> str:
        if node == self.me:
            return "UP"
        fence = ledger.fences.get(node)
        if fence is not None and not fence.confirmed:
            return "FENCING"
        seen = self._seen(node)
        if seen is None:
            return "UNKNOWN"
        if seen:
            return "UP"
        return "FENCED" if fence is not None else "DOWN"

    def _seen(self, node: NodeName) -> bool | None:
        """Whether hbd hears that node; None: hbd does not say."""
        if node == self.me:
            return True
        for each in self._view.nodes if self._view is not None else ():
            if each.node == node:
                return each.alive
        return None

    def _heard_nodes(self) -> list[NodeName]:
        """The others that it is worth to ask."""
        return [node for node in self._nodes() if node != self.me and self._seen(node) is not False]

    def _voters_up(self) -> tuple[int, int]:
        known = self._membership.voters if self._membership is not None else ()
        voters = known or self.configuration.cluster.voters
        return sum(self._seen(node) is True for node in voters), len(voters)

    def _state(self) -> str:
        master = self._master()
        if master is not None and (self._leads() if master == self.me else self._seen(master) is not False):
            return "UP"
        up, voters = self._voters_up()
        return "NO MASTER" if 2 * up > voters else "NO QUORUM"

    def _why_not(self, state: str) -> str:
        up, voters = self._voters_up()
        if state == "NO QUORUM" and self._leadership is not None and self._leadership.trouble:
            return self._leadership.trouble
        if state == "NO QUORUM":
            return f"{up} of {voters} voters are up, {voters // 2 + 1} are needed: start the other nodes"
        return "a master is being elected"

    def _leads(self) -> bool:
        return self._leadership is not None and self._leadership.leader == self.me and self._leadership.ready

    def _master(self) -> NodeName | None:
        return self._leadership.leader if self._leadership is not None else None

    def _nodes(self) -> tuple[NodeName, ...]:
        return tuple(node.name for node in self.configuration.cluster.nodes)


def _alike(one: NodeStatus, other: NodeStatus) -> bool:
    """But for what changes all the time."""
    return msgspec.structs.replace(one, lease_left=0.0) == msgspec.structs.replace(other, lease_left=0.0)


def _filtered(status: NodeStatus, request: AskStatus | AskStanding) -> NodeStatus:
    if request.node is not None:
        whole = status.node == request.node
        instances = status.instances if whole else tuple(_without_steps(each) for each in status.instances)
    elif request.app is not None:
        instances = tuple(each for each in status.instances if each.app == request.app)
    else:
        instances = tuple(_without_steps(each) for each in status.instances)
    return msgspec.structs.replace(status, instances=instances)


def _without_steps(instance: InstanceStatus) -> InstanceStatus:
    return msgspec.structs.replace(instance, steps=())
