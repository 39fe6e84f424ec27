"""lha_node add and remove on the master: the log's membership, brought on one node at a time.

    add      observer -> its daemons are started -> it has caught up -> voter, where the configuration has it vote
    remove   another leads -> observer -> its daemons are stopped -> out -> an observer becomes voter in its place

Nothing is remembered between two steps but what was said: each looks at what is, so that another master goes on where
the last one stopped, and the same command given again finishes what was left half done.
"""

from dataclasses import dataclass, field

from msgspec.structs import replace

from truecl.core.ledger import granted_to
from truecl.core.raft.reshape import without_excluded
from truecl.core.situation import Situation
from truecl.model.config import ClusterConfig
from truecl.model.ids import NodeName
from truecl.model.membership import MAX_VOTERS, Membership
from truecl.model.report import Progress, Severity
from truecl.wire.messages import Dismiss, Proposed, Request, StepDown, TakeIn

VERBS = ("add", "remove")
REPEAT = 1.0
"""Seconds until what led to nothing yet is tried again."""
REFUSALS = 3
"""So often in a row the log may refuse a change before the operation ends with the reason."""
DISMISSAL = 5.0
"""Seconds for which a node that leaves may take to stop its daemons."""
CONFIGURATION_TIME = 10.0
"""Seconds for which the master may take to get the configuration that names the new node."""
LONGEST = 3600.0
"""Seconds after which a node that does not come is waited for no more."""

Act = Membership | TakeIn | Dismiss | StepDown


def problem(request: Request, situation: Situation) -> str:
    """Why a request cannot even be tried; '' if it can."""
    node = request.node
    if node is None:
        return f"'{request.verb}' names no node"
    if request.verb == "add":
        return ""
    membership = situation.members.membership
    if node not in membership.nodes:
        names = [each.name for each in situation.configuration.cluster.nodes]
        return "" if node in names else f"unknown node '{node}'; configured: {', '.join(names)}"
    owned = [app for app, _ in granted_to(situation.ledger, node)]
    if owned:
        apps = ", ".join(f"'{app}'" for app in owned)
        if node not in situation.heard():
            return f"{node} owns {apps}, and is not up: what it runs has to be proven gone first; lha_stat says how"
        return f"{node} owns {apps}: lha_moveapp -A {owned[0]} moves it away"
    rest = [each for each in membership.nodes if each != node]
    if not rest:
        return f"{node} is the last node; lha_dissolve stops the cluster"
    witnesses = [each.name for each in situation.configuration.cluster.nodes if each.witness]
    if all(each in witnesses for each in rest):
        return f"only witnesses would be left ({', '.join(rest)}), which run no applications"
    if not [each for each in membership.voters if each != node]:
        return f"{node} is the only voter; lha_node add makes another node one first"
    return ""


@dataclass
class MembershipOperation:
    """`origin`: the node whose clusterd asked. `code` and `text` are set when the outcome is known."""

    request: Request
    origin: NodeName
    asked_at: float
    began: float
    code: int | None = None
    text: str = ""
    progress: list[Progress] = field(default_factory=list)
    """To be told to who asked."""
    wake_at: float = 0.0
    number: int = 0
    """Of the latest `Reshape` that came of it."""
    _said: str = ""
    _acted: dict[type, float] = field(default_factory=dict)
    """When what was last tried."""
    _dismissed_since: float | None = None
    _refusals: int = 0

    @property
    def node(self) -> NodeName:
        assert self.request.node is not None, "checked before it began"
        return self.request.node

    def end(self, code: int, text: str) -> None:
        self.code, self.text = code, text

    def step(self, situation: Situation) -> Act | None:
        """What to do next; None: to wait. The same again only after a while."""
        now = situation.now
        self.wake_at = now + REPEAT
        if now >= self.began + LONGEST:
            self.end(4, f"{self.node} did not come; the same command goes on with it")
            return None
        if not situation.members.settled or situation.members.membership.leaving is not None:
            return None
        act = self._add(situation) if self.request.verb == "add" else self._remove(situation)
        if isinstance(act, Membership):
            act = _bound(situation.members.membership, act)
        if act is None or self.code is not None or now < self._acted.get(type(act), -REPEAT) + REPEAT:
            return None
        self._acted[type(act)] = now
        return act

    def asked(self, number: int) -> None:
        """The log was asked for what `step` wanted, under this number."""
        self.number = number

    def answered(self, message: Proposed) -> None:
        if message.number != self.number:
            return
        self._refusals = self._refusals + 1 if message.index is None else 0
        if self._refusals >= REFUSALS:
            self.end(1, f"{self.node} cannot be {_DONE[self.request.verb]} now: {message.reason}")

    # ---- add --------------------------------------------------------------------------------------------------------

    def _add(self, situation: Situation) -> Act | None:
        node, cluster, members = self.node, situation.configuration.cluster, situation.members
        if all(each.name != node for each in cluster.nodes):
            if situation.now >= self.began + CONFIGURATION_TIME:
                self.end(1, f"the master's configuration does not name {node}; lha_form --sync brings it there")
            return None
        membership = members.membership
        votes = node in cluster.voters
        if node in membership.voters or (node in membership.observers and not votes and node in members.caught_up):
            role = "votes" if node in membership.voters else "is an observer"
            self.end(0, f"Node '{node}' Added successfully, it {role} [RC=0].")
            return None
        if node not in membership.nodes:
            self._say(f"taking {node} into the log as an observer")
            return replace(membership, observers=_ordered(cluster, (*membership.observers, node)))
        if node not in members.caught_up:
            up = node in situation.heard()
            self._say(
                f"{node} is up, and takes the log" if up else f"waiting for {node}: its service has to be started"
            )
            return TakeIn(node)
        if not votes:
            return None
        surplus = [each for each in membership.voters if each not in cluster.voters]
        if len(membership.voters) == MAX_VOTERS and surplus:
            self._say(f"{surplus[-1]} is to vote no more: {MAX_VOTERS} voters are the most")
            return StepDown() if surplus[-1] == situation.me else _without_voter(cluster, membership, surplus[-1])
        self._say(f"{node} has the log: making it a voter")
        return _with_voter(cluster, membership, node)

    # ---- remove -----------------------------------------------------------------------------------------------------

    def _remove(self, situation: Situation) -> Act | None:
        node, membership = self.node, situation.members.membership
        trouble = problem(self.request, situation)
        if trouble:
            self.end(1, trouble)
            return None
        if node == situation.me:
            if situation.now >= self.began + CONFIGURATION_TIME:
                self.end(1, f"{node} is the master, and no other node can lead in its place")
            self._say(f"{node} is the master: another node is to lead")
            return StepDown()
        if node == membership.excluded:
            self._say(f"taking {node} out of the log, which is excluded")
            return without_excluded(membership)
        if node in membership.voters:
            self._say(f"{node} is to vote no more")
            return _without_voter(situation.configuration.cluster, membership, node)
        if node in membership.observers:
            return self._let_go(situation)
        return self._succeed(situation)

    def _let_go(self, situation: Situation) -> Act:
        """Its daemons are stopped first, if they answer: by itself it would only find that nobody speaks to it."""
        node, membership = self.node, situation.members.membership
        if self._dismissed_since is None:
            self._dismissed_since = situation.now
        if node in situation.heard() and situation.now < self._dismissed_since + DISMISSAL:
            self._say(f"stopping the daemons of {node}")
            return Dismiss(node)
        self._say(f"taking {node} out of the log")
        return replace(membership, observers=tuple(each for each in membership.observers if each != node))

    def _succeed(self, situation: Situation) -> Act | None:
        """In the place of a voter, the first observer that the configuration would have vote."""
        cluster, members = situation.configuration.cluster, situation.members
        for each in cluster.voters_without(self.node):
            if each in members.membership.observers and each in members.caught_up:
                self._say(f"{each} votes in its place")
                return _with_voter(cluster, members.membership, each)
        waiting = [each for each in cluster.voters_without(self.node) if each in members.membership.observers]
        if waiting:
            helps = f"lha_node add {waiting[0]} makes it one when it has the log"
            self._say(f"{waiting[0]} is to vote and has not caught up: {helps}", Severity.WARN)
        self.end(0, f"Node '{self.node}' Removed successfully [RC=0].")
        return None

    def _say(self, text: str, severity: Severity = Severity.LOG) -> None:
        if text != self._said:
            self._said = text
            self.progress.append(Progress(text, severity, verbose=severity is Severity.LOG))


_DONE = {"add": "added", "remove": "removed"}


def _bound(old: Membership, new: Membership) -> Membership:
    """Before the number of voters changes from two, the two are bound to decide together; to two, they come so."""
    if len(old.voters) == len(new.voters) or old.excluded is not None or old.leaving is not None:
        return new
    if len(old.voters) == 2 and not old.together:
        return replace(old, together=True)
    return replace(new, together=len(new.voters) == 2)


def unbound(membership: Membership) -> Membership | None:
    """When nothing is to be changed: two voters need not decide together any more. None: nothing to do."""
    return replace(membership, together=False) if membership.together else None


def _with_voter(cluster: ClusterConfig, membership: Membership, node: NodeName) -> Membership:
    observers = tuple(each for each in membership.observers if each != node)
    return Membership(_ordered(cluster, (*membership.voters, node)), observers)


def _without_voter(cluster: ClusterConfig, membership: Membership, node: NodeName) -> Membership:
    voters = tuple(each for each in membership.voters if each != node)
    return Membership(voters, _ordered(cluster, (*membership.observers, node)))


def _ordered(cluster: ClusterConfig, nodes: tuple[NodeName, ...]) -> tuple[NodeName, ...]:
    """In the configuration's order, which is that of succession, witnesses last; who is not in it any more, behind."""
    known = [node.name for node in sorted(cluster.nodes, key=lambda node: node.witness)]
    return tuple(sorted(nodes, key=lambda node: known.index(node) if node in known else len(known)))
