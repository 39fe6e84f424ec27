"""What moves away by itself: from nodes on standby, one application of a node at a time, each once another node will do
for it; and what goes on without a disk of its own, if it is configured so.

One after another, so that the nodes that take them over are not swamped, and what goes wrong goes wrong once. What no
other node will do for stays where it is and runs: the operator asked for an empty node, not for an outage.
"""

from collections.abc import Iterator

from truecl.core.fitness import PlanInput, report_of, unfit
from truecl.core.ledger import app_state, granted_to
from truecl.core.replication import behind, lost_its_disk
from truecl.model.ids import AppName, NodeName
from truecl.model.ledger import AppState, Wanted
from truecl.model.report import Phase


def drain(given: PlanInput) -> tuple[tuple[AppName, ...], tuple[AppName, ...]]:
    """What is to leave its node now; and what stays on a node on standby for want of another."""
    leaving: list[AppName] = []
    stays: list[AppName] = []
    for node, standby in sorted(given.ledger.standby.items()):
        if standby.keep or node not in given.alive:
            continue
        runs = [app for app, _ in granted_to(given.ledger, node) if _runs_on(app_state(given.ledger, app))]
        movable = [app for app in runs if _has_another(given, app, node)]
        stays += [app for app in runs if app not in movable]
        if not _under_way(given, node):
            leaving += movable[:1]
    return (*leaving, *_without_disk(given)), tuple(stays)


def _without_disk(given: PlanInput) -> Iterator[AppName]:
    for config in given.configuration.apps:
        state = app_state(given.ledger, config.name)
        if config.replication.disk_failure != "move" or state.grant is None or not _runs_on(state):
            continue
        node = state.grant.node
        if lost_its_disk(given, config.name, node) and _has_another(given, config.name, node):
            yield config.name


def _runs_on(state: AppState) -> bool:
    """Nobody wants it stopped or moved anyway."""
    return state.wanted is Wanted.RUNNING and not state.move


def _has_another(given: PlanInput, app: AppName, node: NodeName) -> bool:
    config, failed = given.configuration.app(app), {each.node for each in app_state(given.ledger, app).failures}
    others = config.nodes if config is not None else ()
    return any(
        other != node
        and other in given.alive
        and other not in failed
        and not unfit(given, other)
        and not behind(given, app, other)
        for other in others
    )


def _under_way(given: PlanInput, node: NodeName) -> bool:
    """Is something that left this node being started on another one?"""
    for app, state in sorted(given.ledger.apps.items()):
        grant, ended = state.grant, state.ended
        if grant is None or ended is None or ended.node != node or grant.node == node:
            continue
        report = report_of(given, grant.node, app)
        begun = report is not None and report.generation == grant.generation
        if grant.node in given.alive and (not begun or report is None or report.phase is Phase.STARTING):
            return True
    return False
