"""lha_stat's tables, in the look of the announcement."""

import math
from collections.abc import Iterator
from typing import Any

from truecl.cli.storage import alone, comparison, copies, differences, splits, volumes
from truecl.cli.table import table
from truecl.commands.stat import Stat

Row = dict[str, Any]
"""A node, an application or a step: of `truecl.model.standing`, as JSON has them."""
NONE = "-"
UNNAMED = "an older one"
"""Release of a node whose daemons do not say which."""


def of_cluster(stat: Stat, width: int | None) -> str:
    parts = [_top(stat), _nodes(stat["nodes"]), _apps(stat["apps"], width)]
    troubles = list(_troubles(stat))
    if troubles:
        parts.append("\n".join(troubles))
    return "\n\n".join(part for part in parts if part)


def of_node(stat: Stat, width: int | None, now: float) -> str:
    """One node: its daemons, then what runs there."""
    node = stat["nodes"][0]
    facts = [f"lease {node['lease_left']:.1f} s"] if node["reported"] else ["no fresh report"]
    if node["standby"]:
        facts.append(f"on standby by {node['standby_by']}")
    if node["master"]:
        facts.insert(0, f"master of cluster {stat['cluster']} (term {stat['term']})")
    watchdog = node["watchdog"]
    if watchdog is not None:
        facts.append(f"watchdog {'armed' if watchdog['armed'] else 'MISSING'}: {watchdog['text']}")
    parts = [f"node: {node['name']} - {word(node)}\n{', '.join(facts)}"]
    if node["daemons"]:
        rows = [(name, "YES" if state == "up" else "NO", "" if state == "up" else state) for name, state in
                node["daemons"].items()]  # fmt: skip
        parts.append(table(("Daemon", "Up", "Why not"), rows, width=width))
    parts += [of_app({**stat, "apps": [app]}, width, now) for app in stat["apps"]]
    if not stat["apps"]:
        parts.append("no application runs here")
    return "\n\n".join(parts)


def of_app(stat: Stat, width: int | None, now: float) -> str:
    """One application: what it is, its volumes and their copies, its addresses and programs. `now`: wall clock."""
    app = stat["apps"][0]
    status = "RUNNING" if app["status"] == "UP" else app["status"]
    row = (
        app["name"],
        status,
        app["node"] or NONE,
        app["storage"] or NONE,
        "Y" if app["validated"] else "N",
        ",".join(app["valid_nodes"]) or NONE,
    )
    parts = [table(("Application", "Status", "Node", "Storage", "Validated", "Valid Nodes"), [row], width=width)]
    if app["volumes"]:
        parts.append(volumes(app, width))
    if app["copies"]:
        parts.append(copies(app, now, width))
        parts += comparison(app, now)
    others = [step for step in app["steps"] if step["kind"] in ("address", "program")]
    if others:
        rows = [(step["kind"].capitalize(), _bare(step), _status(step), _facts(step)) for step in others]
        parts.append(table(("Kind", "Name", "Status", "Details"), rows, width=width))
    if app["invalid"]:
        parts.append(app["invalid"])
    if app["note"]:
        parts.append(f"{app['name']}: {app['note']}")
    parts += [*splits(app), *alone(app), *differences(app)]
    if not stat["complete"]:
        parts.append(_not_the_master(stat))
    return "\n\n".join(parts)


def _top(stat: Stat) -> str:
    down = stat["nodes_total"] - stat["nodes_up"]
    lines = [
        f"cluster: {stat['cluster']} - {stat['state']}",
        f"nodes: {stat['nodes_total']} [{down} DOWN/{stat['nodes_up']} UP]",
    ]
    return "\n".join(lines)


def word(node: Row) -> str:
    """UP, DOWN …; a node that is up and set aside is on STANDBY, one that comes and goes is HELD."""
    if node["status"] != "UP":
        return str(node["status"])
    return "STANDBY" if node["standby"] else "HELD" if node["held"] else "UP"


def _nodes(nodes: list[Row]) -> str:
    return table(("Node", "Status", "Apps"), [(node["name"], word(node), str(node["apps"])) for node in nodes])


def _apps(apps: list[Row], width: int | None) -> str:
    if not apps:
        return ""
    rows = [(app["name"], app["status"], app["node"] or NONE, str(app["failovers"]), app["note"]) for app in apps]
    return table(("Appname", "Status", "Node", "F/O", "Notes"), rows, width=width)


def _troubles(stat: Stat) -> Iterator[str]:
    """What the tables have no column for."""
    if not stat["complete"]:
        yield _not_the_master(stat)
    if stat["trouble"]:
        yield stat["trouble"]
    for node in stat["nodes"]:
        for daemon, state in node["daemons"].items():
            if state != "up":
                yield f"{node['name']}: {daemon} is not up: {state}"
        if node["refused"]:
            yield str(node["refused"])
        elif node["silent"]:
            yield f"{node['name']}: its reqd or its statd does not report; lha_form starts what is missing there"
        if node["role"] == "joining":
            yield joining(node["name"])
        if node["held"]:
            yield why_held(node)
        if node["twin"]:
            yield twin(node["name"])
    for app in stat["apps"]:
        yield from splits(app)
        yield from alone(app)
        yield from differences(app)
    yield from mixed(stat)


def joining(name: str) -> str:
    """A sentence about a node that is configured, and not what it is to be in the log."""
    return (
        f"{name} is being added or removed, or that was interrupted: 'lha_node add {name}' or 'lha_node remove {name}' "
        "finishes it"
    )


def twin(name: str) -> str:
    """A sentence about two machines of one name."""
    return (
        f"a second machine says that it is {name} (a copy?), and is not listened to: take it off the network; "
        "'lha_node add' gives a machine a name of its own"
    )


def why_held(node: Row) -> str:
    """A sentence about a node that is held down."""
    name, seconds = node["name"], math.ceil(node["held"])
    return (
        f"{name} was lost {node['losses']} times and gets nothing new for {seconds} s more; "
        f"to use it at once: lha_node resume {name}"
    )


def mixed(stat: Stat) -> Iterator[str]:
    """A sentence about a cluster in the middle of an upgrade."""
    releases: dict[str, list[str]] = {}
    for node in stat["nodes"]:
        if node["reported"]:
            releases.setdefault(node["release"] or UNNAMED, []).append(node["name"])
    if len(releases) > 1:
        parts = [f"{release} on {', '.join(releases[release])}" for release in sorted(releases)]
        yield f"WARN nodes run different releases of truecl: {'; '.join(parts)}; finish the upgrade (docs/upgrade.md)"


def _not_the_master(stat: Stat) -> str:
    others = [node["status"] for node in stat["nodes"] if node["name"] != stat["answered_by"]]
    if others and set(others) == {"DOWN"}:
        return (
            f"{stat['answered_by']} hears no other node, and what this shows may be old: are they off, or is it cut "
            "off? lha_check tells whether this machine has its addresses"
        )
    if stat["master"] is None:
        return f"there is no master; this is what {stat['answered_by']} knows by itself, and it may be old"
    return f"the master {stat['master']} did not answer; this is what {stat['answered_by']} knows by itself"


def _bare(step: Row) -> str:
    """A step's name without its kind: 'file system /data' is /data."""
    return str(step["name"]).rsplit(" ", 1)[-1]


def _status(step: Row) -> str:
    words = [step["state"].capitalize() or "Pending"]
    if "used" in step["facts"]:
        words.append(f"{step['facts']['used']}% used")
    if "note" in step["facts"]:
        words.append(step["facts"]["note"])
    return ",".join(words)


def _facts(step: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in step["facts"].items() if name != "note")
