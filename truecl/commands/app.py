"""lha_startapp, lha_stopapp, lha_moveapp: an operator's wish for one application."""

from truecl.commands.node import FAILED, Ended, Node, Outcome, Steps, carry_out, closest
from truecl.commands.stat import ask_standing, names
from truecl.model.ids import CLUSTERD, AppName, NodeName
from truecl.runtime.client import NoAnswer, NoDaemon, NotAllowed

START_TIMEOUT = 120.0
"""Two nodes may be tried, each with the application's own 60 s."""
STOP_TIMEOUT = 90.0


def start(
    node: Node,
    app: AppName,
    where: NodeName | None,
    timeout: float = START_TIMEOUT,
    wait: bool = True,
    validated: bool = True,
) -> Steps:
    """On `where`, or (None) on the first suitable node. Starting what runs is harmless. `validated`: only if it is as
    lha_buildapp found it."""
    return _wish(node, "start", app, where, timeout, wait, validated)


def stop(node: Node, app: AppName, timeout: float = STOP_TIMEOUT, wait: bool = True) -> Steps:
    return _wish(node, "stop", app, None, timeout, wait, False)


def move(
    node: Node,
    app: AppName,
    where: NodeName | None,
    timeout: float = START_TIMEOUT,
    wait: bool = True,
    validated: bool = True,
) -> Steps:
    """To `where`, or (None) to the next of its nodes that is up. `validated`: as in `start`."""
    return _wish(node, "move", app, where, timeout, wait, validated)


def _wish(
    node: Node, verb: str, app: AppName, where: NodeName | None, timeout: float, wait: bool, validated: bool
) -> Steps:
    """Raises Ended and NotAllowed. A move to 'the next node' is not repeated: it would move on once more."""
    request = [
        "Request", f"{node.token}-{verb}-{app}", verb, app, where, node.operator, 0, False, "", None, validated
    ]  # fmt: skip
    repeatable = verb != "move" or where is not None
    outcome = yield from carry_out(node, CLUSTERD, request, timeout, wait, repeatable)
    if outcome.code == FAILED and not outcome.text:
        return Outcome(FAILED, _suggestion(node, app, where))
    return outcome


def _suggestion(node: Node, app: AppName, where: NodeName | None) -> str:
    """After a refusal, which was told: what was meant by a wrong name. '' if none is wrong, or nobody knows."""
    try:
        found = ask_standing(node, None, None, 2.0)
    except (Ended, NoAnswer, NoDaemon, NotAllowed):
        return ""
    name, apps, nodes = "", names(found["apps"]), names(found["nodes"])
    if app not in apps:
        name = closest(app, apps)
    elif where is not None and where not in nodes:
        name = closest(where, nodes)
    return f"did you mean '{name}'?" if name else ""
