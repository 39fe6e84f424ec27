"""lha_form."""

import argparse
from collections.abc import Sequence

from truecl.cli.options import Dial, parser, run
from truecl.cli.output import Output
from truecl.commands.form import TIMEOUT, form
from truecl.commands.node import Node

_EXAMPLES = """\
  lha_form -V               start the cluster on all nodes, showing each step
  lha_form --sync           the same, after bringing this node's configuration to all nodes
"""


def main(argv: Sequence[str] | None = None, dial: Dial | None = None) -> int:
    made = parser("lha_form", "Starts the cluster; harmless when it is formed already.", _EXAMPLES, TIMEOUT)
    made.add_argument("--sync", action="store_true", help="bring this node's configuration to all nodes first")
    return run("lha_form", made, _work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(form(node, options.sync, options.timeout, options.wait))
