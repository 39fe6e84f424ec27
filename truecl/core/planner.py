"""The planner: what the master does next, as a pure function of what it knows.

State in, actions out (after Pacemaker's scheduler): commands for the log, orders for nodes, fences to carry out, and
for every application that is not as wanted one line that says why and which command helps. Nothing here waits or
remembers; it is asked again after every change. Ties end at the node's place in the application's own list.

A grant ends only by a proof (SAFETY.md section 3), and each proof names the generation:

    released            the owner's reqd reports exactly this generation closed
    fenced              the log holds a fence order that named it, confirmed by the device
    vouched             the same, confirmed by the operator's word
    expired + watchdog  the owner's lease and its watchdog's time are over, and its grant was given for that
    expired             the owner's lease, drift and stop allowance are over, and its grant was given for that

What ends a grant is written into it when it is given: what is running was started with the configuration of that time.

A node that cannot stop what is to run elsewhere is fenced; where none of its fence devices works, it is left to its
watchdog (`truecl.core.revocation`).
"""

from dataclasses import dataclass, field

from truecl.core import replication
from truecl.core.drain import drain
from truecl.core.fitness import PlanInput, fence_levels, report_of, unfit, why_none
from truecl.core.ledger import app_state, fence_proof, granted_to, watchdog_proves
from truecl.core.replication import ReplicaOrder
from truecl.core.revocation import Revocation, way_out
from truecl.model.config import AppConfig
from truecl.model.ids import NO_GENERATION, AppName, BootId, Generation, Index, NodeName
from truecl.model.ledger import (
    ALWAYS,
    AnyCommand,
    AppState,
    CancelFence,
    EndGrant,
    Format,
    GiveGrant,
    Grant,
    OrderFence,
    Proof,
    RecordWatchdog,
    Wanted,
    Watchdog,
)
from truecl.model.report import InstanceReport, Phase
from truecl.model.step import accepted, addressed


@dataclass(frozen=True)
class NodeOrder:
    """To be sent to `node`: verb 'start' or 'stop'. Only ever for a committed grant."""

    node: NodeName
    verb: str
    app: AppName
    generation: Generation
    takeover: bool = False
    """It follows a generation that was ended without its owner's own word."""
    proofs: tuple[Proof, ...] = ALWAYS
    watchdog: float = 0.0
    addressed: bool = False
    """All three as in the grant."""
    alone: bool = False
    build: tuple[Format, ...] = ()
    """As in the grant."""
    reason: str = field(default="", compare=False)
    """For people, as all reasons here: two orders that differ in nothing else are one."""


@dataclass(frozen=True)
class Plan:
    commands: tuple[AnyCommand, ...] = ()
    orders: tuple[NodeOrder, ...] = ()
    fences: tuple[tuple[NodeName, Index], ...] = ()
    """Committed orders that the device has not confirmed."""
    notes: tuple[tuple[AppName, str], ...] = ()
    failed: tuple[AppName, ...] = ()
    """Applications that no node is left for: an operation that waits for them may stop waiting."""
    stays: tuple[AppName, ...] = ()
    """Applications on nodes on standby that no other node will do for."""
    step_down: bool = False
    """This node itself must be fenced: another one has to lead."""
    replicas: tuple[ReplicaOrder, ...] = ()
    reasons: tuple[str, ...] = field(default=(), compare=False)
    """Of each command."""
    revocations: tuple[Revocation, ...] = ()


class _Draft:
    """A plan in the making."""

    def __init__(self, given: PlanInput) -> None:
        self.given = given
        self.commands: list[AnyCommand] = []
        self.because: dict[AnyCommand, str] = {}
        self.orders: list[NodeOrder] = []
        self.notes: list[tuple[AppName, str]] = []
        self.failed: list[AppName] = []
        self.to_fence: dict[NodeName, str] = {}
        self.revocations: list[Revocation] = []
        self.step_down = False
        self.chosen: dict[AppName, NodeName] = {}
        """Where a replicated application is about to be started."""
        self.leaving, self.stays = drain(given)

    def decide(self, command: AnyCommand, reason: str) -> None:
        self.commands.append(command)
        self.because[command] = reason

    def note(self, app: AppName, text: str) -> None:
        self.notes.append((app, text))


def plan(given: PlanInput) -> Plan:
    """Everything that can be done now, in order of the applications' names."""
    draft, building = _Draft(given), dict(given.building)
    _record_watchdogs(draft)
    for app in sorted(set(given.ledger.apps) | {each.name for each in given.configuration.apps}):
        state = app_state(given.ledger, app)
        if state.grant is not None:
            _granted(draft, app, state, state.grant)
        elif state.wanted is Wanted.RUNNING or app in building:
            last = state.ended.generation if state.ended else NO_GENERATION
            build = () if state.wanted is Wanted.RUNNING else building[app]
            _place(draft, app, state, last, failover=False, build=build)
    _mark_copies(draft)
    _fence_unwanted(draft)
    if given.me in given.lost:  # its own reqd is silent, which would have to ask the fence devices
        draft.step_down = True
    _order_fences(draft)
    _clean_fences(draft)
    return Plan(
        tuple(draft.commands),
        tuple(draft.orders),
        _open_fences(draft),
        tuple(draft.notes),
        tuple(draft.failed),
        draft.stays,
        draft.step_down,
        _replica_orders(draft),
        tuple(draft.because[command] for command in draft.commands),
        tuple(draft.revocations),
    )


# ---- an application with an owner -----------------------------------------------------------------------------------


def _granted(draft: _Draft, app: AppName, state: AppState, grant: Grant) -> None:
    report = report_of(draft.given, grant.node, app)
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
        verb = "stop" if not grant.build and _should_leave(draft, app, state) else "start"
        _order(draft, grant, app, verb, state)
    if app in draft.stays and grant.node in draft.given.alive:
        others = [node for node in _configured(draft.given, app) if node != grant.node]
        why = why_none(draft.given, others) if others else "no other node may run it"
        draft.note(app, f"{grant.node} is on standby, and it stays there: {why}")


def _configured(given: PlanInput, app: AppName) -> tuple[NodeName, ...]:
    config = given.configuration.app(app)
    return config.nodes if config is not None else ()


def _should_leave(draft: _Draft, app: AppName, state: AppState) -> bool:
    if state.grant is not None and state.grant.build:
        return True  # all of it is done once it is up
    return state.wanted is Wanted.STOPPED or state.move or app in draft.leaving


def _owner_has_it(draft: _Draft, app: AppName, state: AppState, grant: Grant, report: InstanceReport) -> None:
    if report.phase is Phase.NEEDS_FENCE:
        _stop_failed(draft, app, state, grant, report)
    elif grant.build and report.phase is Phase.STARTING:
        draft.note(app, f"lha_buildapp is at work on {grant.node}")
    elif _should_leave(draft, app, state) and report.phase is not Phase.STOPPING:
        _order(draft, grant, app, "stop", state)
    elif state.wanted is Wanted.RUNNING and (problem := replication.unbuilt(draft.given, app)):
        draft.note(app, f"it runs as it was built, and no other node can take it over: {problem}")
    elif state.wanted is Wanted.RUNNING and (note := replication.on_the_peers_disk(draft.given, app, grant.node)):
        draft.note(app, note)


def _order(draft: _Draft, grant: Grant, app: AppName, verb: str, state: AppState) -> None:
    # SAFETY.md section 7: a duplicate address refuses a start and what follows 'released'; a takeover only warns of it.
    takeover = state.ended is not None and state.ended.proof is not Proof.RELEASED and state.failovers > 0
    if verb == "start":
        reason = f"grant {grant.generation} is {grant.node}'s, and it has not begun yet"
    elif grant.build:
        reason = "lha_buildapp has what it wanted of it"
    elif state.wanted is Wanted.STOPPED:
        reason = "it is not wanted any more"
    else:
        away = f"the disk of {grant.node} failed" if grant.node not in draft.given.ledger.standby else ""
        away = away or f"{grant.node} is on standby"
        reason = f"it is to move to {state.preferred}" if state.move else away
    draft.orders.append(
        NodeOrder(
            grant.node,
            verb,
            app,
            grant.generation,
            takeover,
            grant.proofs,
            grant.watchdog,
            grant.addressed,
            grant.alone,
            grant.build,
            reason,
        )
    )


def _stop_failed(draft: _Draft, app: AppName, state: AppState, grant: Grant, report: InstanceReport) -> None:
    """Never 'assumed stopped'. To run elsewhere the node must be fenced; for a mere stop the operator decides."""
    text = _stuck(report, grant.node)
    if state.wanted is Wanted.STOPPED:
        draft.note(app, f"{text}; tried again every second; repair it there, or power {grant.node} off")
        return
    _fence_or_wait(draft, app, grant, text)
    note, revocation = way_out(draft.given, app, grant, text)
    if note:
        draft.notes[-1] = (app, note)
    if revocation is not None:
        draft.revocations.append(revocation)


def _stuck(report: InstanceReport, node: NodeName) -> str:
    return f"cannot be stopped on {node}: {report.reason}"


def _owner_lost(draft: _Draft, app: AppName, state: AppState, grant: Grant) -> None:
    if Proof.EXPIRED in grant.proofs and grant.generation in draft.given.expired:
        _end(draft, app, state, EndGrant(app, grant.generation, Proof.EXPIRED, f"the lease of {grant.node} ran out"))
        return
    if grant.generation in draft.given.reset:
        reason = f"the lease of {grant.node} ran out, and its watchdog has reset it"
        _end(draft, app, state, EndGrant(app, grant.generation, Proof.EXPIRED_WATCHDOG, reason))
        return
    report = report_of(draft.given, grant.node, app)
    stuck = report is not None and report.generation == grant.generation and report.phase is Phase.NEEDS_FENCE
    text = _stuck(report, grant.node) if report is not None and stuck else f"{grant.node} is silent"
    if state.wanted is Wanted.STOPPED and draft.given.ledger.fences.get(grant.node) is None:
        draft.note(app, f"{text}: stopped as soon as it is back or fenced")
        return
    _fence_or_wait(draft, app, grant, text)
    if not fence_levels(draft.given, grant.node):
        if Proof.EXPIRED in grant.proofs:
            draft.notes[-1] = (app, f"{text}: taken over when its lease has surely ended")
        elif watchdog_proves(draft.given.ledger, grant):
            draft.notes[-1] = (app, f"{text}: taken over when its watchdog has surely reset it")
        elif stuck and grant.node in draft.given.unrenewed:
            helps = f"it moves when that is back, or on lha_fence {grant.node} --confirm"
            draft.notes[-1] = (app, f"{text}: {grant.node} gets no lease, so that its watchdog resets it; {helps}")


def _fence_or_wait(draft: _Draft, app: AppName, grant: Grant, text: str) -> None:
    given = draft.given
    if grant.node == given.me:
        draft.step_down = True
        draft.note(app, f"{text}; another node must lead to fence this one")
        return
    if not fence_levels(given, grant.node):
        helps = f"power it off, then lha_fence {grant.node} --confirm, or boot it: it reports what it released"
        draft.note(app, f"{text} and has no fence device: {helps}")
        return
    trouble = given.fence_trouble.get(grant.node)
    helps = f"; the device: {trouble}; if {grant.node} is off for certain: lha_fence {grant.node} --confirm"
    draft.note(app, f"{text}: being fenced" + (helps if trouble else ""))
    draft.to_fence[grant.node] = text


def _end(draft: _Draft, app: AppName, state: AppState, command: EndGrant) -> None:
    """End the grant and, where it is to run on, place it anew in the same entry of the log; so it ends a moment later
    where a node's first report is waited for."""
    draft.decide(command, _proven(command, state))
    if state.wanted is Wanted.RUNNING:
        failover = command.failed or command.proof is not Proof.RELEASED
        if _place(draft, app, state, command.generation, failover, command):
            draft.commands.remove(command)


def _proven(command: EndGrant, state: AppState) -> str:
    owner = state.grant.node if state.grant is not None else "its owner"
    match command.proof:
        case Proof.RELEASED:
            why = f": {command.reason}" if command.reason else ""
            return f"{owner} reports that it is closed there{why}"
        case Proof.FENCED:
            return f"the fence of {owner} is confirmed, and its order named this grant"
        case Proof.EXPIRED:
            return f"the lease of {owner} has surely ended, and the application shares no storage"
        case _:
            return command.reason


# ---- an application without an owner --------------------------------------------------------------------------------


def _place(
    draft: _Draft,
    app: AppName,
    state: AppState,
    after: Generation,
    failover: bool,
    ending: EndGrant | None = None,
    build: tuple[Format, ...] = (),
) -> bool:
    """True: a node is about to report, so nothing is decided yet."""
    given = draft.given
    config = given.configuration.app(app)
    if config is None:
        draft.note(app, "is not in the configuration any more; lha_stopapp forgets that it should run")
        draft.failed.append(app)
        return False
    if problem := replication.unbuilt(given, app):
        draft.note(app, problem)
        draft.failed.append(app)
        return False
    alone = replication.needs_alone(given, app, state, ending.proof if ending is not None else None)
    previous = state.grant.node if state.grant is not None else state.ended.node if state.ended else None
    failures = {each.node: each.reason for each in state.failures} if not build else {}
    if ending is not None and ending.failed and previous is not None:
        failures[previous] = ending.reason
    asked_for = state.move or (state.grant is None and not failover)
    order = [each for each in (state.preferred, None if failover else previous) if each in config.nodes]
    order += [each for each in config.nodes if each not in order]
    held = [each for each in order if each in given.held and not (asked_for and each == state.preferred)]
    order = [each for each in order if each not in held] + held
    skipped: list[str] = []
    for node in order:
        why = "failed" if node in failures else unfit(given, node) or replication.behind(given, app, node)
        if why := why or replication.broken(given, app, node):
            skipped.append(f"{node} {why}")
            continue
        if node in given.alive:
            draft.chosen[app] = node
            if waits := replication.awaited(given, app, node, alone):
                draft.note(app, waits)
                return alone  # what others connect for is ordered once nobody has the grant
            draft.decide(
                GiveGrant(app, node, after, failover, _proofs(given, config, node), addressed(config), alone, build),
                _chosen(state, node, previous, skipped, held),
            )
            return False
        skipped.append(f"{node} is not up")
        if node in given.awaited:
            draft.note(app, f"waiting for the first report of {node}")
            return True
    others = [node for node in config.nodes if node not in failures]
    failed = "; ".join(f"{node}: {failures[node]}" for node in config.nodes if node in failures)
    if not others:
        draft.note(app, f"FAILED on every node ({failed}); repair, then: lha_startapp -A {app}")
        draft.failed.append(app)
        return False
    tried = f"; FAILED on {failed}; to try again: lha_startapp -A {app}" if failed else ""
    if app in given.ledger.mirrors:
        holders = [node for node in others if not replication.behind(given, app, node)]
        if not holders and failures:
            reasons = "; ".join(f"{node}: {why}" for node, why in failures.items())
            text = f"FAILED on every node with a current copy ({reasons}); repair, then: lha_startapp -A {app}"
            draft.note(app, text)
            draft.failed.append(app)
            return False
        whys = [f"{node} {why}" for node in holders if (why := replication.broken(given, app, node))]
        why = "; ".join(whys) or why_none(given, holders)
        draft.note(app, replication.none_current(given, app, others, why) + tried)
        return False
    only = f"waiting for {others[0]}" if len(others) == 1 else "waiting for one of its nodes"
    if len(config.nodes) == 1:
        only += ", no other node may run it"
    draft.note(app, f"{only}: {why_none(given, others)}{tried}")
    return False


def _chosen(
    state: AppState, node: NodeName, previous: NodeName | None, skipped: list[str], held: list[NodeName]
) -> str:
    skipped = skipped + [f"{each} comes and goes" for each in held if each != node]
    if node in held:
        text = "it comes and goes, and no other node will do"
    elif node == state.preferred:
        text = "the operator asked for it there"
    else:
        text = "it ran there last" if node == previous else "the first of its nodes that is up"
    return f"{text} ({', '.join(dict.fromkeys(skipped))})" if skipped else text


def _proofs(given: PlanInput, config: AppConfig, node: NodeName) -> tuple[Proof, ...]:
    """What may end the new grant. 'Expired + watchdog' only by a watchdog that counts, as the node reports it in this
    boot (the log has it before the grant); and not where 'expired', which comes sooner, is good enough."""
    proofs, watchdog = accepted(config), _reported_watchdog(given, node)
    if Proof.EXPIRED in proofs or watchdog is None or not watchdog.survives_pause:
        proofs = tuple(proof for proof in proofs if proof is not Proof.EXPIRED_WATCHDOG)
    return proofs


# ---- replicated storage ---------------------------------------------------------------------------------------------


def _mark_copies(draft: _Draft) -> None:
    """Not where the grant is about to end: its holder's word counts while it has it."""
    given, ending = draft.given, {each.generation for each in draft.commands if isinstance(each, EndGrant)}
    for app, state in sorted(given.ledger.apps.items()):
        if state.grant is not None and state.grant.generation not in ending:
            for mark, reason in replication.marks(given, app, state.grant):
                draft.decide(mark, reason)


def _replica_orders(draft: _Draft) -> tuple[ReplicaOrder, ...]:
    given = draft.given
    return tuple(
        order
        for app in sorted(given.ledger.mirrors)
        for order in replication.replica_orders(given, app, app_state(given.ledger, app), draft.chosen.get(app))
    )


# ---- watchdogs ------------------------------------------------------------------------------------------------------


def _reported_watchdog(given: PlanInput, node: NodeName) -> Watchdog | None:
    report, (boot, _) = given.watchdogs.get(node), given.reports.get(node, (BootId(""), ()))
    return Watchdog(boot, report.timeout, report.survives_pause) if report is not None and report.armed else None


def _record_watchdogs(draft: _Draft) -> None:
    """What the nodes report goes into the log, before a grant leans on it."""
    given = draft.given
    for node in sorted(given.reports):
        reported = _reported_watchdog(given, node)
        if reported != given.ledger.watchdogs.get(node):
            draft.decide(RecordWatchdog(node, reported), f"{node} reports it")


# ---- fences ---------------------------------------------------------------------------------------------------------


def _fence_unwanted(draft: _Draft) -> None:
    """By the operator's wish, whatever runs there. No node orders its own end: it would not live to log the proof."""
    for node in sorted(draft.given.unwanted):
        if node == draft.given.me:
            draft.step_down = True
        else:
            draft.to_fence.setdefault(node, "the operator asked for it")


def _order_fences(draft: _Draft) -> None:
    """Record what a fence is to prove before the device is asked. One order names all the node's generations."""
    ledger = draft.given.ledger
    for node in sorted(draft.to_fence):
        generations = tuple(sorted(generation for _, generation in granted_to(ledger, node)))
        known = ledger.fences.get(node)
        if known is None or not set(generations) <= set(known.generations):
            draft.decide(OrderFence(node, generations), f"{draft.to_fence[node]}, and has a fence device")


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
            draft.decide(CancelFence(node, fence.index), f"{node} is well again")
