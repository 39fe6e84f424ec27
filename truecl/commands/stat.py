"""lha_stat: what is, as statd tells it. A `Stat` is `truecl.model.standing.Stat` as JSON has it."""

from typing import Any

from truecl.commands.node import FAILED, NO_DAEMON, UNFINISHED, Ended, Node, dialogue, meant
from truecl.model.ids import STATD
from truecl.runtime.client import NoAnswer, NoDaemon

TIMEOUT = 5.0

Stat = dict[str, Any]

_LATER = {
    "role": "voter", "standby": "", "standby_by": "", "losses": 0, "held": 0.0,
    "release": "", "boot": "", "refused": "", "twin": False,
}  # fmt: skip
"""What a statd of an older release does not say of a node; in an upgrade, a new command may meet one."""

_LATER_OF_APPS = {
    "copies": (), "volumes": (), "storage": "", "validated": False, "invalid": "", "valid_nodes": (),
}  # fmt: skip
"""The same of an application."""


def stat(node: Node, app: str | None, where: str | None, timeout: float = TIMEOUT) -> Stat:
    """The nodes and applications asked for. Raises Ended (also for an unknown name) and NotAllowed."""
    try:
        found = ask_standing(node, app, where, timeout)
    except NoAnswer as error:
        raise Ended(UNFINISHED, str(error)) from error
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    return _only(found, app, where)


def ask_standing(node: Node, app: str | None, where: str | None, timeout: float) -> Stat:
    """All nodes and applications; steps of those asked for. Raises Ended, NotAllowed, NoAnswer, NoDaemon."""
    talk = dialogue(node, STATD)
    try:
        talk.send(["AskStanding", app, where])
        end = node.now() + timeout
        while True:
            match talk.receive(max(0.0, end - node.now())):
                case ["Refused", reason, *_]:
                    raise Ended(FAILED, reason)
                case ["Standing", dict(found), *_]:
                    nodes, apps = found["nodes"], found["apps"]
                    return {
                        "level": 1,
                        **found,
                        "nodes": [_LATER | node for node in nodes],
                        "apps": [_LATER_OF_APPS | app for app in apps],
                    }
    finally:
        talk.close()


def check_app(node: Node, app: str, timeout: float) -> None:
    """Raises Ended if there is no such application; not where nobody can say."""
    try:
        found = ask_standing(node, app, None, timeout)
    except (Ended, NoAnswer, NoDaemon):
        return
    _only(found, app, None)


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]


def _only(found: Stat, app: str | None, where: str | None) -> Stat:
    """The rows that were asked for. Raises Ended."""
    apps, nodes = found["apps"], found["nodes"]
    if app is not None and app not in names(apps):
        raise Ended(FAILED, f"unknown application '{app}': {meant(app, names(apps))}")
    if where is not None and where not in names(nodes):
        raise Ended(FAILED, f"unknown node '{where}': {meant(where, names(nodes))}")
    apps = [row for row in apps if app in (None, row["name"]) and where in (None, row["node"])]
    if app is not None and not apps:
        raise Ended(FAILED, f"application '{app}' is not on node '{where}'; lha_stat -A {app} shows where it is")
    return {**found, "nodes": [row for row in nodes if where in (None, row["name"])], "apps": apps}
