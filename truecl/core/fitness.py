"""What the planner knows, and which nodes will do: its input, and what follows for one node."""

from dataclasses import dataclass, field

from truecl.model.config import Configuration, FenceLevel, NodeConfig
from truecl.model.ids import AppName, BootId, Generation, NodeName
from truecl.model.ledger import Format, Ledger
from truecl.model.membership import Membership
from truecl.model.replica import ReplicaReport
from truecl.model.report import InstanceReport, WatchdogReport


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
    expired: frozenset[Generation]
    """Live generations whose lease, drift and allowance are surely over, of those that this ends."""
    fence_trouble: dict[NodeName, str]
    """What the device last said, for nodes whose fence order was tried and not confirmed."""
    unwanted: frozenset[NodeName] = frozenset()
    """Nodes that an operator has asked to switch off."""
    watchdogs: dict[NodeName, WatchdogReport] = field(default_factory=dict)
    reset: frozenset[Generation] = frozenset()
    """Live generations whose node was surely reset by its watchdog."""
    held: frozenset[NodeName] = frozenset()
    """Nodes that come and go: nothing new is placed there while another will do."""
    replicas: dict[NodeName, tuple[ReplicaReport, ...]] = field(default_factory=dict)
    overdue: frozenset[AppName] = frozenset()
    """Applications whose replicas were waited for long enough: they start with those that are there."""
    building: tuple[tuple[AppName, tuple[Format, ...]], ...] = ()
    """Stopped applications whose file systems lha_buildapp wants to be found or made now."""
    unrenewed: frozenset[NodeName] = frozenset()
    """Nodes that get no lease any more: they cannot stop what they have, and their watchdogs are to reset them."""
    membership: Membership = Membership()
    """Of the log: no decision depends on it, only who may decide after a fault. Without voters: not known."""


def unfit(given: PlanInput, node: NodeName) -> str:
    """Why nothing is placed there; '' if it may run applications. A node under a fence order may be switched off at
    any moment."""
    config, watchdog = node_config(given, node), given.watchdogs.get(node)
    if config is None or config.witness:
        return "runs no applications"
    if node in given.ledger.standby:
        return "is on standby"
    if node in given.ledger.fences:
        return "is under a fence order"
    if node in given.unwanted:
        return "is to be switched off"
    if node in given.unrenewed:
        return "gets no lease"
    return "must have a watchdog and has none" if watchdog is not None and watchdog.missing else ""


def node_config(given: PlanInput, name: NodeName) -> NodeConfig | None:
    """None: it is not in the configuration any more."""
    return next((each for each in given.configuration.cluster.nodes if each.name == name), None)


def fence_levels(given: PlanInput, name: NodeName) -> tuple[FenceLevel, ...]:
    config = node_config(given, name)
    return config.fence if config is not None else ()


def report_of(given: PlanInput, node: NodeName, app: AppName) -> InstanceReport | None:
    _, reports = given.reports.get(node, (BootId(""), ()))
    return next((each for each in reports if each.app == app), None)


def replica_of(given: PlanInput, node: NodeName, app: AppName) -> ReplicaReport | None:
    """What the node said of its copy of the application's replicated resource, since its present boot."""
    return next((each for each in given.replicas.get(node, ()) if each.app == app), None)


def why_none(given: PlanInput, nodes: list[NodeName]) -> str:
    """Why none of these will do."""
    standby = [node for node in nodes if node in given.ledger.standby]
    unguarded = {node: each for node, each in sorted(given.watchdogs.items()) if each.missing and node in given.alive}
    away = ", ".join(node for node in nodes if node not in unguarded and node not in standby)
    reasons = [f"{away} not up"] if away else []
    reasons += [f"{node} is on standby (lha_node resume {node})" for node in standby]
    reasons += [
        f"{node} must have a watchdog and has none ({unguarded[node].text})"
        for node in nodes
        if node in unguarded and node not in standby
    ]
    return "; ".join(reasons)
