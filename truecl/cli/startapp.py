"""lha_startapp."""

import argparse
from collections.abc import Sequence

from truecl.cli.options import Dial, app_option, node_option, parser, run, unvalidated_option
from truecl.cli.output import Output
from truecl.commands.app import START_TIMEOUT, start
from truecl.commands.node import Node

_EXAMPLES = """\
  lha_startapp -A web             start application web on the first of its nodes that will do
  lha_startapp -A web -N n2 -V    on n2, showing each step
  lha_startapp -A web --no-wait   only ask for it
"""


def main(argv: Sequence[str] | None = None, dial: Dial | None = None) -> int:
    made = parser("lha_startapp", "Starts an application; harmless when it runs.", _EXAMPLES, START_TIMEOUT)
    app_option(made, required=True)
    node_option(made, "where; default: the first suitable one of its nodes")
    unvalidated_option(made)
    return run("lha_startapp", made, _work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(start(node, options.app, options.node, options.timeout, options.wait, options.validated))
