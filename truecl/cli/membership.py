"""lha_node add and remove: which nodes the cluster consists of."""

import argparse
import os
import time

from truecl.cli.options import verb
from truecl.cli.output import Output
from truecl.commands.init import Environment
from truecl.commands.membership import TIMEOUT, NewNode, add, parse_addresses, remove
from truecl.commands.node import Node
from truecl.model.ids import NodeName
from truecl.runtime.paths import Paths

_ADD = """\
  lha_node add n5 --address lan=10.1.0.5 --address ring=10.2.0.5
                               makes n5's certificate and bundle, tells all nodes of it, takes it in
  lha_node add n8 --address lan=10.1.0.8 --observer
                               it follows the log and runs applications, and never votes
"""
_REMOVE = """\
  lha_node remove n5           n5 is no part of the cluster any more, and its certificate worth nothing
"""


def declare(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    made = verb(verbs, "add", "Takes a new node into the running cluster.", _ADD, TIMEOUT)
    made.add_argument("node", metavar="NODE", help="its name")
    made.add_argument(
        "--address", action="append", default=[], metavar="LINK=ADDRESS", help="its address on a link; one for each"
    )
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--observer", action="store_true", help="it never votes")
    kind.add_argument("--witness", action="store_true", help="it votes and never runs applications")
    made.set_defaults(work=_add)
    made = verb(verbs, "remove", "Takes a node out of the running cluster.", _REMOVE, TIMEOUT)
    made.add_argument("node", metavar="NODE", help="its name")
    made.set_defaults(work=_remove)


def _add(options: argparse.Namespace, node: Node, out: Output) -> int:
    addresses = parse_addresses(options.address)
    wanted = NewNode(NodeName(options.node), addresses, options.observer, options.witness)
    return out.drive(add(node, _here(), wanted, options.timeout, options.wait))


def _remove(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(remove(node, _here(), NodeName(options.node), options.timeout, options.wait))


def _here() -> Environment:
    return Environment(Paths.of_environment(os.environ).etc, time.time(), None)
