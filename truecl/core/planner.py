"""The planner: what the master does next, as a pure function of what it knows.

State in, actions out (after Pacemaker's scheduler): commands for the log, orders for nodes, fences to carry out, and
for every application that is not as wanted one line that says why and which command helps. Nothing here waits or
remembers; it is asked again after every change. Ties end at the node's place in the application's own list.

A grant ends only by a proof (SAFETY.md section 3), and each proof names the generation:

    released            the owner's reqd reports exactly this generation closed
    fenced              the log holds a fence order that named it, confirmed by the device
    vouched             the same, confirmed by the operator's word
    expired             the owner's lease, drift and stop allowance are over, and the application has no storage
"""

from dataclasses import dataclass

from truecl.core.ledger import app_state, fence_proof, granted_to
from truecl.model.config import AppConfig, Configuration, FenceConfig, NodeConfig
from truecl.model.ids import NO_GENERATION, AppName, BootId, Generation, Index, NodeName
from truecl.model.ledger import (
    AnyCommand,
    AppState,
    CancelFence,
    EndGrant,
    GiveGrant,
    Grant,
    Ledger,
    OrderFence,
    Proof,
    Wanted,
)
from truecl.model.report import InstanceReport, Phase


@dataclass(frozen=True)
class PlanInput:
    """All that a decision depends on. Kept by clusterd for replays."""

    me: NodeName
    configuration: Configuration
    ledger: Ledger
    alive: frozenset[NodeName]
    """Nodes that hbd hears and whose reqd renewed its lease not long ago; this node among them."""
    awaited: frozenset[NodeName]
    """Heard, but not yet reported to this new master: what would run there waits for its first word, for a moment."""
    lost: frozenset[NodeName]
    """Nodes that were heard and fell silent, or were never heard for the whole start-up grace."""
    reports: dict[NodeName, tuple[BootId, tuple[InstanceReport, ...]]]
    expired: frozenset[NodeName]
    fence_trouble: dict[NodeName, str]
    """What the device last said, for nodes whose fence order was tried and not confirmed."""


@dataclass(frozen=True)
class NodeOrder:
    """To be sent to `node`: verb 'start' or 'stop'. Only ever for a committed grant."""

    node: NodeName
    verb: str
    app: AppName
    generation: Generation
    takeover: bool = False
    """It follows a generation that was ended without its owner's own word."""


@dataclass(frozen=True)
class Plan:
    commands: tuple[AnyCommand, ...] = ()
    orders: tuple[NodeOrder, ...] = ()
    fences: tuple[tuple[NodeName, Index], ...] = ()
    """Committed orders that the device has not confirmed."""
    notes: tuple[tuple[AppName, str], ...] = ()
    failed: tuple[AppName, ...] = ()
    """Applications that no node is left for: an operation that waits for them may stop waiting."""
    step_down: bool = False
    """This node itself must be fenced: another one has to lead."""


class _Draft:
    """A plan in the making."""

    def __init__(self, given: PlanInput) -> None:
        self.given = given
        self.commands: list[AnyCommand] = []
        self.orders: list[NodeOrder] = []
        self.notes: list[tuple[AppName, str]] = []
        self.failed: list[AppName] = []
        self.to_fence: dict[NodeName, str] = {}
        self.step_down = False

    def note(self, app: AppName, text: str) -> None:
        self.notes.append((app, text))


def plan(given: PlanInput) -> Plan:
    """Everything that can be done now, in order of the applications' names."""
    draft = _Draft(given)
    for app in sorted(set(given.ledger.apps) | {each.name for each in given.configuration.apps}):
        state = app_state(given.ledger, app)
        if state.grant is not None:
            _granted(draft, app, state, state.grant)
        elif state.wanted is Wanted.RUNNING:
            _place(draft, app, state, state.ended.generation if state.ended else NO_GENERATION, failover=False)
    _order_fences(draft)
    _clean_fences(draft)
    return Plan(
        tuple(draft.commands),
        tuple(draft.orders),
        _open_fences(draft),
        tuple(draft.notes),
        tuple(draft.failed),
        draft.step_down,
    )


# ---- an application with an owner -----------------------------------------------------------------------------------


def _granted(draft: _Draft, app: AppName, state: AppState, grant: Grant) -> None:
    report = _report_of(draft.given, grant.node, app)
    if report is not None and report.generation == grant.generation and report.phase is Phase.CLOSED:
        _end(draft, app, state, EndGrant(app, grant.generation, Proof.RELEASED, report.reason, report.failed))
    elif (proof := fence_proof(draft.given.ledger, grant.node, grant.generation)) is not None:
        # Even if the node is back: since the order was written, no lease names what it names, so it cannot start.
        text = f"{grant.node} was fenced" if proof is Proof.FENCED else f"{grant.node} is off, the operator says"
        _end(draft, app, state, EndGrant(app, grant.generation, proof, text))
    elif grant.node in draft.given.lost:
        _owner_lost(draft, app, state, grant)
    elif grant.node not in draft.given.alive:
        draft.note(app, f"waiting for a sign of life from {grant.node}")
    elif report is not None and report.generation == grant.generation:
        _owner_has_it(draft, app, state, grant, report)
    elif report is not None and report.generation > grant.generation:
        # The log began anew, the node's record did not: to it, this generation is an old one.
        text = f"{grant.node} remembers generation {report.generation}, newer than the log's"
        draft.note(app, f"{text}; if the cluster was set up anew, dissolve it and move /var/lib/truecl/reqd away there")
    else:
        # The node never saw this generation (its record would precede the first step): start it, or have it closed.
        verb = "stop" if _should_leave(state) else "start"
        _order(draft, grant, app, verb, state)


def _should_leave(state: AppState) -> bool:
    return state.wanted is Wanted.STOPPED or state.move


def _owner_has_it(draft: _Draft, app: AppName, state: AppState, grant: Grant, report: InstanceReport) -> None:
    if report.phase is Phase.NEEDS_FENCE:
        _stop_failed(draft, app, state, grant, report)
    elif _should_leave(state) and report.phase is not Phase.STOPPING:
        _order(draft, grant, app, "stop", state)


def _order(draft: _Draft, grant: Grant, app: AppName, verb: str, state: AppState) -> None:
    # SAFETY.md section 7: a duplicate address refuses a start and what follows 'released'; a takeover only warns of it.
    takeover = state.ended is not None and state.ended.proof is not Proof.RELEASED and state.failovers > 0
    draft.orders.append(NodeOrder(grant.node, verb, app, grant.generation, takeover))


def _stop_failed(draft: _Draft, app: AppName, state: AppState, grant: Grant, report: InstanceReport) -> None:
    """Never 'assumed stopped'. To run elsewhere the node must be fenced; for a mere stop the operator decides."""
    text = f"cannot be stopped on {grant.node}: {report.reason}"
    if state.wanted is Wanted.STOPPED:
        draft.note(app, f"{text}; tried again every second; repair it there, or power {grant.node} off")
    else:
        _fence_or_wait(draft, app, grant, text)


def _owner_lost(draft: _Draft, app: AppName, state: AppState, grant: Grant) -> None:
    config = draft.given.configuration.app(app)
    if config is not None and without_storage(config) and grant.node in draft.given.expired:
        _end(draft, app, state, EndGrant(app, grant.generation, Proof.EXPIRED, f"the lease of {grant.node} ran out"))
        return
    text = f"{grant.node} is silent"
    if state.wanted is Wanted.STOPPED and draft.given.ledger.fences.get(grant.node) is None:
        draft.note(app, f"{text}: stopped as soon as it is back or fenced")
        return
    _fence_or_wait(draft, app, grant, text)
    if config is not None and without_storage(config) and _fence_device(draft.given, grant.node) is None:
        draft.notes[-1] = (app, f"{text}: taken over when its lease has surely ended")


def _fence_or_wait(draft: _Draft, app: AppName, grant: Grant, text: str) -> None:
    given = draft.given
    if grant.node == given.me:
        draft.step_down = True
        draft.note(app, f"{text}; another node must lead to fence this one")
        return
    if _fence_device(given, grant.node) is None:
        draft.note(app, f"{text} and has no fence device: power it off and boot it, it reports what it released")
        return
    trouble = given.fence_trouble.get(grant.node)
    draft.note(app, f"{text}: being fenced" + (f"; the device: {trouble}" if trouble else ""))
    draft.to_fence[grant.node] = text


def without_storage(app: AppConfig) -> bool:
    """Nothing of it can be written in two places: addresses (which the kernel takes down) and programs alone."""
    return not app.volumes and not app.filesystems


def _end(draft: _Draft, app: AppName, state: AppState, command: EndGrant) -> None:
    """End the grant and, where it is to run on, place it anew in the same entry of the log; so it ends a moment later
    where a node's first report is waited for."""
    draft.commands.append(command)
    if state.wanted is Wanted.RUNNING:
        failover = command.failed or command.proof is not Proof.RELEASED
        if _place(draft, app, state, command.generation, failover, command):
            draft.commands.remove(command)


# ---- an application without an owner --------------------------------------------------------------------------------


def _place(
    draft: _Draft, app: AppName, state: AppState, after: Generation, failover: bool, ending: EndGrant | None = None
) -> bool:
    """True: a node is about to report, so nothing is decided yet."""
    given = draft.given
    config = given.configuration.app(app)
    if config is None:
        draft.note(app, "is not in the configuration any more; lha_stopapp forgets that it should run")
        draft.failed.append(app)
        return False
    previous = state.grant.node if state.grant is not None else state.ended.node if state.ended else None
    failures = {each.node: each.reason for each in state.failures}
    if ending is not None and ending.failed and previous is not None:
        failures[previous] = ending.reason
    order = [each for each in (state.preferred, None if failover else previous) if each in config.nodes]
    order += [each for each in config.nodes if each not in order]
    for node in order:
        if node is None or node in failures or not _may_run(given, node):
            continue
        if node in given.alive:
            draft.commands.append(GiveGrant(app, node, after, failover))
            return False
        if node in given.awaited:
            draft.note(app, f"waiting for the first report of {node}")
            return True
    if all(node in failures for node in config.nodes):
        reasons = "; ".join(f"{node}: {failures[node]}" for node in config.nodes)
        draft.note(app, f"FAILED on every node ({reasons}); repair, then: lha_startapp -A {app}")
        draft.failed.append(app)
    else:
        away = ", ".join(node for node in config.nodes if node not in failures)
        draft.note(app, f"waiting for one of its nodes: {away} not up")
    return False


def _may_run(given: PlanInput, node: NodeName) -> bool:
    """Not on a witness, and not on a node under a fence order: it may be switched off at any moment."""
    config = _node(given, node)
    return config is not None and not config.witness and node not in given.ledger.fences


def _node(given: PlanInput, name: NodeName) -> NodeConfig | None:
    """None: it is not in the configuration any more."""
    return next((each for each in given.configuration.cluster.nodes if each.name == name), None)


def _fence_device(given: PlanInput, name: NodeName) -> FenceConfig | None:
    config = _node(given, name)
    return config.fence if config is not None else None


# ---- fences ---------------------------------------------------------------------------------------------------------


def _order_fences(draft: _Draft) -> None:
    """Record what a fence is to prove before the device is asked. One order names all the node's generations."""
    ledger = draft.given.ledger
    for node in sorted(draft.to_fence):
        generations = tuple(sorted(generation for _, generation in granted_to(ledger, node)))
        known = ledger.fences.get(node)
        if known is None or not set(generations) <= set(known.generations):
            draft.commands.append(OrderFence(node, generations))


def _open_fences(draft: _Draft) -> tuple[tuple[NodeName, Index], ...]:
    ledger = draft.given.ledger
    replaced = {each.node for each in draft.commands if isinstance(each, OrderFence)}
    return tuple(
        (node, fence.index)
        for node, fence in sorted(ledger.fences.items())
        if node in draft.to_fence and not fence.confirmed and node not in replaced
    )


def _clean_fences(draft: _Draft) -> None:
    """A node that is well again needs no fence: it is named again what it was granted, and may be given more.

    A confirmed order whose generations are being ended by it goes with the plan after that.
    """
    ending = {each.generation for each in draft.commands if isinstance(each, EndGrant)}
    for node, fence in sorted(draft.given.ledger.fences.items()):
        if node in draft.given.alive and node not in draft.to_fence and not ending & set(fence.generations):
            draft.commands.append(CancelFence(node, fence.index))


def _report_of(given: PlanInput, node: NodeName, app: AppName) -> InstanceReport | None:
    _, reports = given.reports.get(node, (BootId(""), ()))
    return next((each for each in reports if each.app == app), None)
