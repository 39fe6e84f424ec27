"""lha_node standby, resume, list, failed and rotate-key: upkeep of the nodes, and what went wrong where."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from truecl.commands.log import log
from truecl.commands.node import FAILED, Ended, Node, Steps, carry_out, meant
from truecl.commands.stat import Stat, names, stat
from truecl.model.ids import CLUSTERD, SYNCD

TIMEOUT = 300.0
"""Seconds: every application of the node has to move."""
ROTATION = 30.0
"""Seconds: three steps, each on every node."""
MOST_EVENTS = 1000


class Failed(NamedTuple):
    """Something that the cluster remembers and goes by until it is cleared."""

    what: str
    """Of an application or a node."""
    node: str
    at: float
    """Wall clock, seconds since the epoch; 0: no history tells."""
    why: str
    helps: str
    """The command that clears it."""


def set_aside(node: Node, target: str, keep: bool, timeout: float, wait: bool) -> Steps:
    """Raises Ended (also for an unknown node) and NotAllowed."""
    _known(node, target)
    outcome = yield from _asked(node, "standby", "", target, timeout, wait, keep)
    return outcome


def resume(node: Node, target: str, timeout: float, wait: bool) -> Steps:
    """Raises Ended and NotAllowed."""
    _known(node, target)
    outcome = yield from _asked(node, "resume", "", target, timeout, wait)
    return outcome


def clear(node: Node, name: str, timeout: float, wait: bool) -> Steps:
    """`name`: of an application or a node. Raises Ended and NotAllowed."""
    found = stat(node, None, None, timeout)
    known = names(found["apps"]) + names(found["nodes"])
    if name not in known:
        raise Ended(FAILED, f"no application and no node is called '{name}': {meant(name, known)}")
    outcome = yield from _asked(node, "clear", name, None, timeout, wait)
    return outcome


def rotate_key(node: Node, timeout: float) -> Steps:
    """Raises Ended and NotAllowed."""
    outcome = yield from carry_out(node, SYNCD, ["RotateKeys"], timeout, True, repeatable=False)
    return outcome


def failures(node: Node, found: Stat, timeout: float) -> list[Failed]:
    """What failed, where, when and why, by `found`. Raises Ended and NotAllowed."""
    failed = [*_of_apps(found), *_of_nodes(found)]
    if not any(generation for _, generation in failed):
        return [each for each, _ in failed]
    noted = _noted(node, timeout)
    return [each._replace(at=noted.get((each.what, each.node, generation), 0.0)) for each, generation in failed]


def _known(node: Node, target: str) -> None:
    found = names(stat(node, None, None)["nodes"])
    if target not in found:
        raise Ended(FAILED, f"unknown node '{target}': {meant(target, found)}")


def _asked(
    node: Node, verb: str, app: str, target: str | None, timeout: float, wait: bool, keep: bool = False
) -> Steps:
    request = ["Request", f"{node.token}-{verb}-{app}{target or ''}", verb, app, target, node.operator, 0, keep]
    outcome = yield from carry_out(node, CLUSTERD, request, timeout, wait, repeatable=True)
    return outcome


def _of_apps(found: Stat) -> Iterator[tuple[Failed, int]]:
    """With the generation that failed."""
    for app in found["apps"]:
        name = app["name"]
        for each in app.get("failures", ()):
            helps = f"lha_node failed --clear {name}"
            yield Failed(name, each["node"], 0.0, each["reason"], helps), each["generation"]
        if app["status"] == "NEEDS FENCE":
            helps = f"repair it there, or lha_fence {app['node']} --off"
            yield Failed(name, app["node"], 0.0, app["note"] or "it cannot be stopped", helps), 0


def _of_nodes(found: Stat) -> Iterator[tuple[Failed, int]]:
    for each in found["nodes"]:
        name = each["name"]
        if each.get("held"):
            why = f"it was lost {each['losses']} times, and gets nothing new for {each['held']:.0f} s"
            yield Failed(name, name, 0.0, why, f"lha_node failed --clear {name}"), 0
        if each["status"] == "FENCING":
            why = "its fence device has not confirmed that it is off"
            yield Failed(name, name, 0.0, why, f"if it is off for certain: lha_fence {name} --confirm"), 0


def _noted(node: Node, timeout: float) -> dict[tuple[str, str, int], float]:
    """When each failure was first noted: application, node and generation to the wall clock."""
    found: dict[tuple[str, str, int], float] = {}
    for event in log(node, 0.0, MOST_EVENTS, False, None, timeout, marked=True):
        if isinstance(event, dict) and event["mark"] is not None and event["mark"]["what"] == "failed":
            mark: dict[str, Any] = event["mark"]
            key = event["app"] or "", mark["node"], mark["generation"]
            found[key] = min(found.get(key, event["at"]), event["at"])
    return found
