"""lha_dissolve."""

import argparse
from collections.abc import Sequence

from truecl.cli.options import Dial, parser, run
from truecl.cli.output import Output
from truecl.commands.dissolve import TIMEOUT, dissolve
from truecl.commands.node import Node

_EXAMPLES = """\
  lha_dissolve -V           stop the cluster on all nodes; refused while applications run
  lha_dissolve --force      stop the applications first
"""


def main(argv: Sequence[str] | None = None, dial: Dial | None = None) -> int:
    made = parser("lha_dissolve", "Stops the cluster's daemons on all nodes.", _EXAMPLES, TIMEOUT)
    made.add_argument("--force", action="store_true", help="stop running applications first")
    return run("lha_dissolve", made, _work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(dissolve(node, options.force, options.timeout, options.wait))
