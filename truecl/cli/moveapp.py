"""lha_moveapp."""

import argparse
from collections.abc import Sequence

from truecl.cli.options import Dial, app_option, node_option, parser, run, unvalidated_option
from truecl.cli.output import Output
from truecl.commands.app import START_TIMEOUT, move
from truecl.commands.node import Node

_EXAMPLES = """\
  lha_moveapp -A web -N n2        move application web to n2
  lha_moveapp -A web              to the next of its nodes that is up
"""


def main(argv: Sequence[str] | None = None, dial: Dial | None = None) -> int:
    made = parser("lha_moveapp", "Moves a running application to another node.", _EXAMPLES, START_TIMEOUT)
    app_option(made, required=True)
    node_option(made, "where to; default: the next of its nodes that is up")
    unvalidated_option(made)
    return run("lha_moveapp", made, _work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(move(node, options.app, options.node, options.timeout, options.wait, options.validated))
