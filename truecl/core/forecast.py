"""What would happen if something failed now: the planner itself, asked again and again over a simple forward model.

The model: commands are committed, ordered fences are confirmed (but where the device is in trouble already), ordered
instances start and stop, all at once and well; time passes only when nothing else is left. What is not modelled: the
time that elections, devices and steps take, a second fault, and clients' ways to the nodes. So `at` is the least.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from truecl.core import ledger as ledgers
from truecl.core.fitness import PlanInput, node_config
from truecl.core.leases import expired_after, reset_after
from truecl.core.planner import NodeOrder, Plan, plan
from truecl.core.quorum import electors, has_quorum, may_lead
from truecl.core.revocation import Revocation
from truecl.model.config import Configuration, NodeConfig
from truecl.model.ids import AppName, BootId, Index, LinkName, NodeName, Term
from truecl.model.ledger import (
    AnyCommand,
    Batch,
    CancelFence,
    ConfirmFence,
    EndGrant,
    Excluded,
    GiveGrant,
    Grant,
    Ledger,
    OrderFence,
    Proof,
    RecordWatchdog,
    Wanted,
)
from truecl.model.membership import Membership
from truecl.model.report import InstanceReport, Phase

MAX_ROUNDS = 200
"""Of the planner: a model that does not come to rest by then never will."""


@dataclass(frozen=True)
class NodeFails:
    node: NodeName


@dataclass(frozen=True)
class LinkFails:
    link: LinkName


@dataclass(frozen=True)
class AppFails:
    """`node`: only if it runs there."""

    app: AppName
    node: NodeName | None = None


Fault = NodeFails | LinkFails | AppFails


class Unknown(Exception):
    """The configuration has no such thing."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown {kind} '{name}'")
        self.name, self.known = name, known


class Step(msgspec.Struct, frozen=True):
    what: str
    why: str
    """'' for what needs no reason."""
    at: float = 0.0
    """Seconds after the fault, at the least."""


class NotDone(msgspec.Struct, frozen=True):
    app: AppName
    why: str


class Place(msgspec.Struct, frozen=True):
    """Where an application is; '' where nowhere."""

    app: AppName
    now: str
    then: str
    wanted: bool


class Forecast(msgspec.Struct, frozen=True):
    fault: str
    master: str
    """Whose knowledge it begins from."""
    steps: tuple[Step, ...]
    not_done: tuple[NotDone, ...]
    places: tuple[Place, ...]
    quorum: bool
    """One remains."""
    rests: bool
    """It came to an end."""


def forecast(given: PlanInput, fault: Fault) -> Forecast:
    """Raises Unknown."""
    return _Model(given).told(fault)


class _Model:
    def __init__(self, given: PlanInput) -> None:
        self._first = self._given = given
        self._membership = given.membership if given.membership.voters else _configured(given.configuration)
        self._steps: list[Step] = []
        self._at = 0.0
        self._detection = given.configuration.cluster.timing.detection
        self._timings = given.ledger.timings or (ledgers.lease_timing(given.configuration.cluster.timing),)
        """What leases are given with, by the log; the configuration may be one that it does not know yet."""

    def told(self, fault: Fault) -> Forecast:
        match fault:
            case NodeFails(node):
                words, quorum = f"node {node} failed", self._node_fails(node)
            case LinkFails(link):
                words, quorum = f"link {link} failed", self._link_fails(link)
            case AppFails(app, where):
                words, quorum = f"application '{app}' failed{f' on {where}' if where else ''}", True
                self._app_fails(app, where)
        rests = self._run() if quorum else True
        not_done = plan(self._given).notes if quorum else tuple(self._stopped_for_good())
        return Forecast(
            words, self._first.me, tuple(self._steps), tuple(NotDone(app, why) for app, why in not_done),
            tuple(self._places(quorum)), quorum, rests,
        )  # fmt: skip

    def _step(self, what: str, why: str) -> None:
        self._steps.append(Step(what, why, self._at))

    # ---- faults -----------------------------------------------------------------------------------------------------

    def _node_fails(self, node: NodeName) -> bool:
        nodes = tuple(each.name for each in self._given.configuration.cluster.nodes)
        if node not in nodes:
            raise Unknown("node", node, nodes)
        if node not in self._given.alive and node in self._given.lost:
            self._step(f"nothing new: {node} is lost already", "it is not heard")
            return True  # what is told here is told by a master
        self._step(f"{node} fails", "")
        alive = self._given.alive - {node}
        return self._lose(alive, alive, f"no heartbeat of it for {self._detection:g} s")

    def _link_fails(self, link: LinkName) -> bool:
        cluster = self._given.configuration.cluster
        names = tuple(each.name for each in cluster.links)
        if link not in names:
            raise Unknown("link", link, names)
        others = [name for name in names if name != link]
        self._step(f"link {link} fails", "the other links are taken as whole")
        me = self._given.me
        hearing = {
            node.name: frozenset(
                each.name for each in cluster.nodes if each.name == node.name or _share(node, each, others)
            )
            & self._given.alive
            for node in cluster.nodes
            if node.name in self._given.alive
        }
        heard = hearing.get(me, frozenset({me}))
        if heard >= self._given.alive:
            why = f"all nodes still hear each other over {', '.join(others)}"
            self._step("nothing moves; addresses on that network are out of its clients' reach until it is back", why)
            return True
        if not self._quorum(heard):
            better = [node for node in self._electors if node in hearing and self._quorum(hearing[node])]
            if better:
                heard = hearing[better[0]]
        return self._lose(
            heard, self._given.alive, f"no link to it is left, and no heartbeat came for {self._detection:g} s"
        )

    def _app_fails(self, app: AppName, where: NodeName | None) -> None:
        known = tuple(sorted({*self._given.ledger.apps, *(each.name for each in self._given.configuration.apps)}))
        if app not in known:
            raise Unknown("application", app, known)
        nodes = tuple(each.name for each in self._given.configuration.cluster.nodes)
        if where is not None and where not in nodes:
            raise Unknown("node", where, nodes)
        grant = ledgers.app_state(self._given.ledger, app).grant
        if grant is None or where not in (None, grant.node):
            place = f"it runs on {grant.node}" if grant is not None else "it runs nowhere"
            self._step("nothing fails", place)
            return
        self._step(f"'{app}' fails on {grant.node}, for good", "as after too many restarts in place")
        line = InstanceReport(app, grant.generation, Phase.CLOSED, True, "it failed")
        self._report(grant.node, line)
        self._step(
            f"'{app}' is taken down on {grant.node}", "whatever failed, all its steps are stopped before it moves"
        )

    def _lose(self, alive: frozenset[NodeName], powered: frozenset[NodeName], why: str) -> bool:
        """All but `alive` fall silent; `powered`: who still runs what it ran. Whether a quorum is left."""
        given = self._given
        excluded = None if self._quorum(alive) else self._excluded(powered)
        alive = alive if excluded is None else powered - {excluded}
        gone = given.alive - alive
        self._at = self._detection
        for node in sorted(gone):
            self._step(f"{node} counts as lost", why)
        if excluded is not None:
            (survivor,) = alive
            self._go_on_alone(survivor, excluded)
        elif not self._quorum(alive):
            self._no_quorum(alive, powered)
            return False
        reports = given.reports
        me = given.me
        if me not in alive:
            me = next(node for node in self._electors if node in alive)
            up, voters = self._votes(alive)
            why = f"{up} of {voters} voters are up, and it is their first in the succession"
            self._step(f"{me} becomes master", why if excluded is None else "it decides alone now")
            reports = {node: line for node, line in reports.items() if node in alive}
        trouble = given.fence_trouble if me == given.me else {}
        self._given = replace(
            self._given, me=me, alive=alive, awaited=frozenset(), lost=given.lost | gone, reports=reports,
            expired=given.expired if me == given.me else frozenset(), fence_trouble=trouble,
            watchdogs={node: each for node, each in given.watchdogs.items() if node in reports},
            reset=given.reset if me == given.me else frozenset(),
        )  # fmt: skip
        return True

    # ---- quorum -----------------------------------------------------------------------------------------------------

    @property
    def _electors(self) -> tuple[NodeName, ...]:
        return electors(self._membership)

    def _quorum(self, up: frozenset[NodeName]) -> bool:
        return has_quorum(self._membership, up)

    def _votes(self, up: frozenset[NodeName]) -> tuple[int, int]:
        return sum(voter in up for voter in self._electors), len(self._electors)

    def _excluded(self, running: frozenset[NodeName]) -> NodeName | None:
        """Of two voters that lost each other, which the other has switched off; None where that cannot be."""
        if len(self._electors) != 2 or self._membership.together:
            return None
        one, two = self._electors
        reachable = [
            node for node, other in ((one, two), (two, one))
            if other in running and may_lead(self._membership, other) and self._has_device(node)
        ]  # fmt: skip
        return min(reachable, key=self._given.configuration.cluster.fence_delay, default=None)

    def _has_device(self, node: NodeName) -> bool:
        config = node_config(self._given, node)
        return config is not None and bool(config.fence)

    def _go_on_alone(self, survivor: NodeName, excluded: NodeName) -> None:
        delay = self._given.configuration.cluster.fence_delay(excluded)
        waits = f"; it waits {delay:g} s (fence_delay) if that one has power" if delay else ""
        self._step(
            f"{survivor} has {excluded} switched off", f"of two nodes one goes on alone, once the other is off{waits}"
        )
        self._step(f"the fence device of {excluded} confirms 'off'", "taken for granted here")
        named = tuple(sorted(generation for _, generation in ledgers.granted_to(self._given.ledger, excluded)))
        self._apply((Excluded(excluded, named),))
        self._membership = msgspec.structs.replace(self._membership, excluded=excluded, leaving=None)
        self._step(
            f"{survivor} goes on without {excluded}", "the log excludes that one, until it is up and has caught up"
        )

    def _no_quorum(self, alive: frozenset[NodeName], powered: frozenset[NodeName]) -> None:
        self._step("no quorum remains: nothing is decided any more", self._why_no_quorum(alive))
        self._at = max(self._at, *(each.lease for each in self._timings))
        for node in sorted(powered):
            for app, _ in ledgers.granted_to(self._given.ledger, node):
                self._step(
                    f"'{app}' is stopped on {node} by the node itself", "its lease ends, and nobody can renew it"
                )

    def _why_no_quorum(self, alive: frozenset[NodeName]) -> str:
        excluded = self._membership.excluded
        if excluded is not None:
            return f"{excluded} is excluded, and does not count before it has caught up with {self._electors[0]}"
        up, voters = self._votes(alive)
        why = f"{up} of {voters} voters are up, {voters // 2 + 1} are needed"
        if len(self._electors) != 2 or up != 1 or self._membership.together:
            return why
        other = next(node for node in self._electors if node not in alive)
        if self._has_device(other):
            return f"{why}, as {self._membership.leaving} was about to leave"
        return f"{why}, or that {other} is off for certain: it has no fence device, so say lha_fence {other} --confirm"

    def _stopped_for_good(self) -> Iterator[tuple[AppName, str]]:
        others = "the other nodes" if self._membership.excluded is None else self._electors[0]
        for app, state in sorted(self._given.ledger.apps.items()):
            if state.wanted is Wanted.RUNNING:
                yield app, f"no quorum would remain, so it runs nowhere: start {others}"

    # ---- the forward model ------------------------------------------------------------------------------------------

    def _run(self) -> bool:
        """Until nothing is left to do; False when that takes too long."""
        rounds = 0
        while rounds < MAX_ROUNDS and self._round(plan(self._given)):
            rounds += 1
        return rounds < MAX_ROUNDS

    def _round(self, found: Plan) -> bool:
        """What comes first of it; False: it rests."""
        fences = [(node, index) for node, index in found.fences if node not in self._given.fence_trouble]
        if found.commands:
            for command, reason in zip(found.commands, found.reasons, strict=True):
                self._step(in_words(command), reason)
            self._apply(found.commands)
        elif fences:
            for node, index in fences:
                self._step(f"the fence device of {node} confirms 'off'", "taken for granted here")
                self._apply((ConfirmFence(node, index),))
        elif found.orders:
            for order in found.orders:
                self._carry_out(order)
        elif found.revocations:
            for revocation in found.revocations:
                self._revoke(revocation)
        elif found.step_down:
            return self._hand_over()
        else:
            return self._wait()
        return True

    def _apply(self, commands: tuple[AnyCommand, ...]) -> None:
        ledger = self._given.ledger
        ledger = ledgers.apply(ledger, Index(ledger.index + 1), Term(ledger.term), Batch(commands))
        self._given = replace(self._given, ledger=ledger)

    def _carry_out(self, order: NodeOrder) -> None:
        start = order.verb == "start"
        self._step(f"'{order.app}' is {'started' if start else 'stopped'} on {order.node}", order.reason)
        phase = Phase.RUNNING if start else Phase.CLOSED
        self._report(order.node, InstanceReport(order.app, order.generation, phase))

    def _report(self, node: NodeName, line: InstanceReport) -> None:
        boot, lines = self._given.reports.get(node, (BootId(""), ()))
        others = tuple(each for each in lines if each.app != line.app)
        self._given = replace(self._given, reports={**self._given.reports, node: (boot, (*others, line))})

    def _revoke(self, revocation: Revocation) -> None:
        """What it can stop it has stopped when its lease is over; the rest is left to its watchdog."""
        given, node = self._given, revocation.node
        self._step(f"{node} gets no lease any more, so that its watchdog resets it", revocation.reason)
        self._at += max(each.lease for each in self._timings)
        stuck = {line.app for line in given.reports[node][1] if line.phase is Phase.NEEDS_FENCE}
        for app, generation in ledgers.granted_to(given.ledger, node):
            if app not in stuck:
                self._step(f"'{app}' is stopped on {node} by the node itself", "its lease ends")
                self._report(node, InstanceReport(app, generation, Phase.CLOSED))
        given = self._given
        self._given = replace(
            given, alive=given.alive - {node}, lost=given.lost | {node}, unrenewed=given.unrenewed | {node}
        )

    def _hand_over(self) -> bool:
        given = self._given
        other = next((each for each in self._electors if each in given.alive and each != given.me), None)
        if other is None:
            return False
        self._step(f"{other} becomes master", f"{given.me} must be fenced, and cannot do that itself")
        self._given = replace(given, me=other)
        return True

    def _wait(self) -> bool:
        """Until time proves something of the lost; only told where that changes anything."""
        return self._leases_end() or self._watchdogs_reset()

    def _leases_end(self) -> bool:
        return self._lease_ends(True) or self._lease_ends(False)

    def _lease_ends(self, addressed: bool) -> bool:
        given = self._given
        waited_for = [
            each for each in self._grants()
            if each.node in given.lost and Proof.EXPIRED in each.proofs and each.addressed is addressed
        ]  # fmt: skip
        later = replace(given, expired=given.expired | {each.generation for each in waited_for})
        if later == given or plan(later) == plan(given):
            return False
        timing = max(self._timings, key=lambda each: expired_after((each,), addressed))
        self._at = max(self._at, expired_after((timing,), addressed))
        name, allowance = "stop allowance", timing.stop_allowance
        if addressed:
            name, allowance = "address allowance", timing.address_allowance
        why = f"lease {timing.lease:g} s, drift {timing.drift:g} s, {name} {allowance:g} s are over"
        nodes = ", ".join(sorted({each.node for each in waited_for}))
        self._step(f"the lease of {nodes} has surely ended", why)
        self._given = later
        return True

    def _grants(self) -> list[Grant]:
        return [state.grant for _, state in sorted(self._given.ledger.apps.items()) if state.grant is not None]

    def _watchdogs_reset(self) -> bool:
        """The soonest that changes anything."""
        given = self._given
        waited_for = [
            each for each in self._grants()
            if each.node in given.lost - {given.me} and ledgers.watchdog_proves(given.ledger, each)
        ]  # fmt: skip
        for grant in sorted(waited_for, key=lambda each: each.watchdog):
            later = replace(given, reset=given.reset | {grant.generation})
            if plan(later) == plan(given):
                continue
            timing = max(self._timings, key=lambda each: reset_after((each,), grant.watchdog))
            self._at = max(self._at, reset_after((timing,), grant.watchdog))
            why = f"its lease ({timing.lease:g} s) and the worst time of its watchdog of {grant.watchdog:g} s are over"
            self._step(f"{grant.node} was surely reset by its watchdog", f"{why}, for grant {grant.generation}")
            self._given = later
            return True
        return False

    def _places(self, quorum: bool) -> Iterator[Place]:
        now, then = self._first.ledger, self._given.ledger if quorum else Ledger()
        for app in sorted({*now.apps, *(each.name for each in self._first.configuration.apps)}):
            wanted = ledgers.app_state(now, app).wanted is Wanted.RUNNING
            yield Place(app, self._place(self._first, app), self._place(replace(self._given, ledger=then), app), wanted)

    def _place(self, given: PlanInput, app: AppName) -> str:
        """Its node, if that can be taken for up."""
        grant = ledgers.app_state(given.ledger, app).grant
        return grant.node if grant is not None and grant.node in given.alive else ""


def _configured(configuration: Configuration) -> Membership:
    voters = configuration.cluster.voters
    return Membership(voters, tuple(each.name for each in configuration.cluster.nodes if each.name not in voters))


def _share(one: NodeConfig, other: NodeConfig, links: list[LinkName]) -> bool:
    return any(link in one.addresses and link in other.addresses for link in links)


def in_words(command: AnyCommand) -> str:
    """What a command of the planner says."""
    match command:
        case EndGrant():
            failed = ", as failed there" if command.failed else ""
            return f"grant {command.generation} of '{command.app}' ends, proof: {command.proof.value}{failed}"
        case GiveGrant():
            return f"'{command.app}' is {'failed over' if command.failover else 'granted'} to {command.node}"
        case OrderFence():
            named = ", ".join(str(each) for each in command.generations) or "none"
            return f"{command.node} is to be switched off (the order names its grants: {named})"
        case CancelFence():
            return f"the fence order of {command.node} is over"
        case RecordWatchdog(node, watchdog):
            if watchdog is None:
                return f"{node} has no watchdog any more"
            counts = "counts" if watchdog.survives_pause else "does not count"
            return f"{node} has a watchdog of {watchdog.timeout:g} s, which {counts} as proof"
        case _:
            return type(command).__name__


# ---- what was decided -----------------------------------------------------------------------------------------------


def changes(before: PlanInput | None, after: PlanInput) -> tuple[str, ...]:
    """What is new in `after`."""
    if before is None or before.me != after.me:
        return (f"{after.me} is the master",)
    found = [
        text.format(node)
        for old, new, came, went in (
            (before.alive, after.alive, "{} is alive", "{} is not alive any more"),
            (before.awaited, after.awaited, "{} is about to report", "{} has reported"),
            (before.lost, after.lost, "{} is lost", "{} is not lost any more"),
            (before.unrenewed, after.unrenewed, "{} gets no lease any more", "{} may get a lease again"),
        )
        for text, nodes in ((came, new - old), (went, old - new))
        for node in sorted(nodes)
    ]
    found += [f"fence device of {node}: {text}" for node, text in sorted(after.fence_trouble.items())
              if before.fence_trouble.get(node) != text]  # fmt: skip
    found += [f"the watchdog of {node}: {each.text}" for node, each in sorted(after.watchdogs.items())
              if before.watchdogs.get(node) != each]  # fmt: skip
    found += [f"the lease of grant {each} is surely over" for each in sorted(after.expired - before.expired)]
    found += [f"the node of grant {each} was surely reset by its watchdog"
              for each in sorted(after.reset - before.reset)]  # fmt: skip
    for node, (_, lines) in sorted(after.reports.items()):
        _, old_lines = before.reports.get(node, (BootId(""), ()))
        found += [f"{node} reports grant {line.generation} of '{line.app}' {line.phase.value}"
                  for line in lines if line not in old_lines]  # fmt: skip
    if after.ledger.index != before.ledger.index:
        found.append(f"the log is at {after.ledger.index}")
    if after.membership != before.membership:
        found.append(f"what counts is the word of {', '.join(electors(after.membership))}")
    if after.configuration.digest != before.configuration.digest:
        found.append(f"configuration {after.configuration.digest[:8]} is in force")
    return tuple(found)


def decided(given: PlanInput) -> tuple[tuple[Step, ...], tuple[NotDone, ...]]:
    """What the planner of this release makes of it, and why; and what it does not do."""
    found = plan(given)
    steps = [Step(in_words(command), reason) for command, reason in zip(found.commands, found.reasons, strict=True)]
    steps += [Step(f"order {each.node} to {each.verb} '{each.app}' (grant {each.generation})", each.reason)
              for each in found.orders]  # fmt: skip
    steps += [Step(f"ask the fence device of {node} for 'off'", f"order {index} is written, and not confirmed yet")
              for node, index in found.fences]  # fmt: skip
    steps += [Step(f"renew {each.node} no more", each.reason) for each in found.revocations]
    if found.step_down:
        steps.append(Step("hand over to another master", f"{given.me} must be fenced, and cannot do that itself"))
    return tuple(steps), tuple(NotDone(app, why) for app, why in found.notes)
