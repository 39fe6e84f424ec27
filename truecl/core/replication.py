"""The planner's part for replicated storage: which node's copy will do, what each replica is to be, what the owner's
word makes of the copies (SAFETY.md section 5). Pure functions, as all of the planner.

A replica's connection is dangerous: a frozen primary goes on by itself as soon as its peer is there. So a node is
ordered to look for its peer only when that peer has taken an order of the newest generation, and is secondary, or is
that generation's owner. With that order nothing older starts there any more, and its report is newer than the grant.
"""

from dataclasses import dataclass

from truecl.core import copies
from truecl.core.fitness import PlanInput, replica_of, report_of
from truecl.core.layouts import layout_of
from truecl.model.ids import NO_GENERATION, AppName, Generation, NodeName
from truecl.model.ledger import AppState, Grant, MarkCopy, Proof, Wanted
from truecl.model.mirror import CopyState, Mirror
from truecl.model.replica import Disk, Layout, Link, ReplicaReport, Role
from truecl.model.report import Phase
from truecl.model.step import replicated

TOGETHER = (Link.CONNECTED, Link.SYNC_SOURCE, Link.SYNC_TARGET, Link.VERIFYING)
"""The peer is there."""
USABLE = (Disk.UP_TO_DATE, Disk.CONSISTENT)
"""By the kernel: what it calls worse it would not promote."""


@dataclass(frozen=True)
class ReplicaOrder:
    """To be sent to `node` as OrderReplica, until its report says that it is so."""

    node: NodeName
    verb: str
    app: AppName
    generation: Generation
    layout: Layout


# ---- which node -----------------------------------------------------------------------------------------------------


def unbuilt(given: PlanInput, app: AppName) -> str:
    """Why its replicated storage cannot be used at all; '' if it can, or it has none."""
    config, mirror = given.configuration.app(app), given.ledger.mirrors.get(app)
    if mirror is None:
        built = config is None or not replicated(config)
        return "" if built else f"its replicated storage was never built; lha_buildapp -A {app}"
    if layout_of(given.configuration, given.ledger, app) is None:
        return f"its replicated volumes are not those that were built; lha_buildapp -A {app}"
    if all(copy.state is CopyState.INCONSISTENT for copy in mirror.copies.values()):
        return f"its copies hold nothing yet, it was not built to the end; lha_buildapp -A {app} --create"
    return ""


def behind(given: PlanInput, app: AppName, node: NodeName) -> str:
    """Why this node's copy is not to be gone on with; '' if it may be, or nothing is replicated."""
    mirror = given.ledger.mirrors.get(app)
    if mirror is None or copies.current(given.ledger, app, node):
        return ""
    return f"its copy is {mirror.copies[node].state.value}" if node in mirror.copies else "it has no copy"


def lost_its_disk(given: PlanInput, app: AppName, node: NodeName) -> bool:
    """Does the owner go on without a disk of its own?"""
    mirror = given.ledger.mirrors.get(app)
    return mirror is not None and node in mirror.copies and mirror.copies[node].state is CopyState.INCONSISTENT


def on_the_peers_disk(given: PlanInput, app: AppName, node: NodeName) -> str:
    """What to say of such an owner; '' for any other."""
    if not lost_its_disk(given, app, node):
        return ""
    helps = f"lha_moveapp -A {app}, mend it, then lha_buildapp -A {app} --replace {node}"
    return f"the disk of {node} failed, it goes on with the other node's: {helps}"


def broken(given: PlanInput, app: AppName, node: NodeName) -> str:
    """Why its kernel would not promote it; '' if it would, or that is not known yet."""
    report = replica_of(given, node, app)
    if app not in given.ledger.mirrors or report is None:
        return ""
    if report.role is Role.SECONDARY and report.disk in (Disk.OUTDATED, Disk.INCONSISTENT):
        return f"its kernel calls its copy {report.disk.value}"
    return f"its replica is not up: {report.trouble}" if report.trouble and not is_up(report) else ""


def awaited(given: PlanInput, app: AppName, node: NodeName, alone: bool) -> str:
    """What a grant to this node waits for; '' if it waits for nothing. A takeover (`alone`) waits for no other node."""
    mirror = given.ledger.mirrors.get(app)
    if mirror is None:
        return ""
    report = replica_of(given, node, app)
    if report is None or report.role is not Role.SECONDARY or report.disk not in USABLE:
        return f"waiting for the replica on {node}"
    if alone or report.link in TOGETHER or app in given.overdue:
        return ""
    others = [each for each in _partners(given, app, mirror, node) if not broken(given, app, each)]
    return f"waiting for the replica on {', '.join(others)}" if others else ""


def none_current(given: PlanInput, app: AppName, nodes: list[NodeName], why: str) -> str:
    """None of `nodes` will do. `why`: what keeps those whose copies would."""
    mirror = given.ledger.mirrors[app]
    holders = [node for node in nodes if copies.current(given.ledger, app, node)]
    refused = [node for node in holders if broken(given, app, node)]
    older = [
        node
        for node in mirror.nodes
        if node in given.alive and node in nodes and (node not in holders or node in refused)
    ]
    text = f"waiting for {', '.join(holders)}, with the current copy: {why}" if holders else "no copy is current"
    helps = f"to go on with older data: lha_buildapp -A {app} --accept-data {older[0]}" if older else ""
    return f"{text}; {helps}" if helps else text


def is_up(report: ReplicaReport) -> bool:
    return report.role in (Role.SECONDARY, Role.PRIMARY) and report.disk not in (Disk.DISKLESS, Disk.UNKNOWN)


def _partners(given: PlanInput, app: AppName, mirror: Mirror, node: NodeName) -> list[NodeName]:
    """The others that are there, and whose copies are as good as its own. An older one meets only a primary, which
    never takes over what that has."""
    return [
        each
        for each in mirror.nodes
        if each != node and each in given.alive and copies.current(given.ledger, app, each)
    ]


# ---- what each replica is to be -------------------------------------------------------------------------------------


def replica_orders(given: PlanInput, app: AppName, state: AppState, chosen: NodeName | None) -> list[ReplicaOrder]:
    """Of those that are not so yet. `chosen`: where it is to be started; the others' come first."""
    mirror, layout = given.ledger.mirrors.get(app), layout_of(given.configuration, given.ledger, app)
    if mirror is None or layout is None:
        return []
    verbs = _Verbs(given, app, state, mirror, chosen)
    return [
        ReplicaOrder(node, verb, app, verbs.generation, layout)
        for node in mirror.nodes
        if node in given.alive and (verb := verbs.of(node))
    ]


class _Verbs:
    """One application's replicas, for as long as it takes to look at them."""

    def __init__(
        self, given: PlanInput, app: AppName, state: AppState, mirror: Mirror, chosen: NodeName | None
    ) -> None:
        self._given, self._app, self._state, self._mirror, self._chosen = given, app, state, mirror, chosen
        self._grant = state.grant
        ended = state.ended.generation if state.ended is not None else NO_GENERATION
        self.generation = state.grant.generation if state.grant is not None else ended

    def of(self, node: NodeName) -> str:
        """'' where nothing is to be ordered."""
        report, instance = replica_of(self._given, node, self._app), report_of(self._given, node, self._app)
        if report is None:
            return ""  # it has not looked yet, or its release knows no replicas
        is_open = instance is not None and instance.phase is not Phase.CLOSED
        if is_open and not (self._owns(node) and instance is not None and instance.generation == self.generation):
            return ""  # a connection would let it go on
        building = any(app == self._app for app, _ in self._given.building)
        if self._grant is None and self._state.wanted is Wanted.STOPPED and not building:
            return "" if report.role is Role.DOWN else "down"
        if not is_up(report) or report.generation < self.generation:
            first = node == self._chosen and self._others_pending(node)
            # An owner whose disk failed goes on over the network.
            return "" if is_open or first else "up"
        if report.link in (*TOGETHER, Link.CONNECTING) or report.split:
            return ""
        return "connect" if self._may_meet(node) else ""

    def _owns(self, node: NodeName) -> bool:
        return self._grant is not None and self._grant.node == node

    def _others_pending(self, node: NodeName) -> bool:
        """Other nodes' storage is activated first, if they can do it."""
        if self._app in self._given.overdue or self._grant is not None:
            return False
        for other in _partners(self._given, self._app, self._mirror, node):
            report = replica_of(self._given, other, self._app)
            if report is not None and not is_up(report) and not report.trouble:
                return True
        return False

    def _may_meet(self, node: NodeName) -> bool:
        if self._grant is None:
            if copies.needs_alone(self._given.ledger, self._app, self._state):
                return False
        elif not self._primary(self._grant):
            return False
        return all(self._settled(other) for other in self._mirror.nodes if other != node)

    def _primary(self, grant: Grant) -> bool:
        """The owner is promoted: what is taken over alone has parted with its peer by then."""
        report = replica_of(self._given, grant.node, self._app)
        return report is not None and report.role is Role.PRIMARY and report.generation == grant.generation

    def _settled(self, node: NodeName) -> bool:
        """Nothing older than the newest grant can write there, and this is known since that grant."""
        report = replica_of(self._given, node, self._app)
        if report is None or report.generation < self.generation or node not in self._given.alive:
            return False
        return report.role in (Role.SECONDARY, Role.DOWN) or self._owns(node)


# ---- what the copies are worth --------------------------------------------------------------------------------------


def marks(given: PlanInput, app: AppName, grant: Grant) -> list[tuple[MarkCopy, str]]:
    """What the log does not say yet of the copies, by the word of the grant's holder; with the reason of each."""
    mirror, report = given.ledger.mirrors.get(app), replica_of(given, grant.node, app)
    if mirror is None or report is None or report.role is not Role.PRIMARY or report.generation != grant.generation:
        return []
    found: list[tuple[MarkCopy, str]] = []
    for node in mirror.nodes:
        copy = mirror.copies.get(node)
        state = _own_worth(report) if node == grant.node else _peers_worth(report, copy.state if copy else None)
        if copy is None or state is None or state is copy.state:
            continue
        if state is CopyState.CURRENT and report.mark < copy.index:
            continue  # seen before it was marked: it clears nothing
        found.append((MarkCopy(app, node, state, grant.generation, copy.index), _seen(grant, node, report)))
    return found


def _peers_worth(report: ReplicaReport, known: CopyState | None) -> CopyState | None:
    """None: nothing to add to what is known."""
    if report.link not in TOGETHER:
        if report.link is Link.UNKNOWN or report.suspended:
            return None  # nothing is acknowledged without it before the handler has asked
        if known is CopyState.CURRENT:
            return CopyState.OUTDATED
        return CopyState.INCONSISTENT if known is CopyState.SYNCING else None
    if report.link is Link.SYNC_SOURCE:
        return CopyState.SYNCING
    return {
        Disk.UP_TO_DATE: CopyState.CURRENT,
        Disk.OUTDATED: CopyState.OUTDATED,
        Disk.INCONSISTENT: CopyState.INCONSISTENT,
        Disk.FAILED: CopyState.INCONSISTENT,
        Disk.DISKLESS: CopyState.INCONSISTENT,
    }.get(report.peer)


def _own_worth(report: ReplicaReport) -> CopyState | None:
    """While it writes and reads over the network alone, its own disk falls behind."""
    if report.link not in TOGETHER or report.peer is not Disk.UP_TO_DATE:
        return None
    if report.link is Link.SYNC_TARGET:
        return CopyState.SYNCING
    if report.disk in (Disk.DISKLESS, Disk.FAILED, Disk.INCONSISTENT):
        return CopyState.INCONSISTENT
    return CopyState.CURRENT if report.disk is Disk.UP_TO_DATE else None


def _seen(grant: Grant, node: NodeName, report: ReplicaReport) -> str:
    if node == grant.node:
        return f"{node} has the grant, and its own disk is {report.disk.value}"
    if report.link in TOGETHER:
        return f"{grant.node} has the grant, and is {report.link.value} to it: its disk is {report.peer.value}"
    return f"{grant.node} has the grant, and goes on without it"


def needs_alone(given: PlanInput, app: AppName, state: AppState, proof: Proof | None) -> bool:
    """`proof`: of the end that goes into the same entry, if any."""
    taken = proof not in (None, Proof.RELEASED)
    return copies.needs_alone(given.ledger, app, state) or (taken and app in given.ledger.mirrors)
