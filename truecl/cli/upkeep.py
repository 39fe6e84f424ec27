"""lha_node standby, resume, list, failed and rotate-key."""

import argparse
import math
import os
import sys
import time
from typing import TypeAlias

from truecl.cli.options import verb
from truecl.cli.output import Output
from truecl.cli.render import NONE, Row, mixed, why_held, word
from truecl.cli.table import table
from truecl.commands.node import DONE, FAILED, Node
from truecl.commands.stat import TIMEOUT as LOOK
from truecl.commands.stat import Stat, stat
from truecl.commands.upkeep import ROTATION, TIMEOUT, Failed, clear, failures, resume, rotate_key, set_aside

_STANDBY = """\
  lha_node standby n2          what runs on n2 moves away, and nothing new is placed there
  lha_node standby n2 --keep   what runs there stays
"""
_RESUME = """\
  lha_node resume n2           n2 may run applications again; nothing moves back by itself
"""
_LIST = """\
  lha_node list                roles, states, releases
  lha_node list --json | jq -r '.nodes[] | select(.standby != "") | .name'
"""
_FAILED = """\
  lha_node failed              what failed where, when and why
  lha_node failed --clear web  web is repaired: its nodes are tried again
  lha_node failed --clear n2   n2 is repaired: what failed there may run there again
"""
_ROTATE = """\
  lha_node rotate-key          heartbeats are sealed with a new key on all nodes, and the old one is worth nothing
"""

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def declare(verbs: Verbs) -> None:
    made = verb(verbs, "standby", "Sets a node aside; it keeps its vote.", _STANDBY, TIMEOUT)
    made.add_argument("node", metavar="NODE", help="its name")
    made.add_argument("--keep", action="store_true", help="leave there what runs there")
    made.set_defaults(work=_standby)
    made = verb(verbs, "resume", "Lets a node run applications again.", _RESUME, TIMEOUT)
    made.add_argument("node", metavar="NODE", help="its name")
    made.set_defaults(work=_resume)
    made = verb(verbs, "list", "Shows the nodes.", _LIST, LOOK, waits=False)
    made.set_defaults(work=_list)
    made = verb(verbs, "failed", "Shows what failed, or clears it.", _FAILED, LOOK)
    made.add_argument("--clear", metavar="APP|NODE", help="it is repaired")
    made.set_defaults(work=_failed)
    made = verb(verbs, "rotate-key", "Gives heartbeats another key, on every node.", _ROTATE, ROTATION, waits=False)
    made.set_defaults(work=_rotate)


def _standby(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(set_aside(node, options.node, options.keep, options.timeout, options.wait))


def _resume(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(resume(node, options.node, options.timeout, options.wait))


def _rotate(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(rotate_key(node, options.timeout))


def _list(options: argparse.Namespace, node: Node, out: Output) -> int:
    found = stat(node, None, None, options.timeout)
    if options.json:
        keys = ("cluster", "master", "term", "answered_by", "complete", "level", "nodes")
        out.json({"command": "lha_node", "code": DONE, **{key: found[key] for key in keys}})
        return DONE
    out.text(_nodes(found))
    lines = [*(why_held(each) for each in found["nodes"] if each["held"]), *_refused(found), *mixed(found)]
    if lines:
        out.text("\n" + "\n".join(lines))
    return DONE


def _nodes(found: Stat) -> str:
    head = ("Node", "Role", "Status", "Master", "Apps", "Release", "Lost", "Held", "Boot", "Notes")
    return table(head, [_row(each) for each in found["nodes"]], width=_width())


def _row(node: Row) -> tuple[str, ...]:
    held = f"{math.ceil(node['held'])} s" if node["held"] else NONE
    kept = " with what runs there" if node["standby"] == "keep" else ""
    notes = f"set aside{kept} by {node['standby_by']}" if node["standby"] else ""
    return (
        node["name"], node["role"], word(node), "Y" if node["master"] else "N", str(node["apps"]),
        node["release"] or NONE, str(node["losses"]), held, node["boot"][:8] or NONE, notes,
    )  # fmt: skip


def _refused(found: Stat) -> list[str]:
    return [str(node["refused"]) for node in found["nodes"] if node["refused"]]


def _failed(options: argparse.Namespace, node: Node, out: Output) -> int:
    if options.clear is not None:
        return out.drive(clear(node, options.clear, options.timeout, options.wait))
    found = stat(node, None, None, options.timeout)
    failed = failures(node, found, options.timeout)
    code = FAILED if failed else DONE
    if options.json:
        out.json({"command": "lha_node", "code": code, "failed": [each._asdict() for each in failed]})
    elif failed:
        head = ("What", "Node", "When", "Command", "Why")
        out.text(table(head, [_failed_row(each) for each in failed], width=_width()))
    else:
        out.text("nothing failed")
    return code


def _failed_row(failed: Failed) -> tuple[str, ...]:
    when = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(failed.at)) if failed.at else NONE
    return failed.what, failed.node, when, failed.helps, failed.why


def _width() -> int | None:
    return os.get_terminal_size().columns if sys.stdout.isatty() else None
