"""lha_node: the nodes of a cluster. Each verb is declared by a module of its own."""

import argparse
from collections.abc import Sequence

from truecl.cli import membership, upkeep
from truecl.cli.options import Dial, run
from truecl.cli.output import Output
from truecl.commands.node import Node

_DECLARED = (membership.declare, upkeep.declare)
"""Each adds its verbs, and sets `work` of each: (options, node, out) to the exit code."""


def main(argv: Sequence[str] | None = None, dial: Dial | None = None) -> int:
    made = argparse.ArgumentParser(
        prog="lha_node", description="The cluster's nodes: `lha_node VERB --help` tells more.", allow_abbrev=False
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    for declare in _DECLARED:
        declare(verbs)
    return run("lha_node", made, _work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    code: int = options.work(options, node, out)
    return code
