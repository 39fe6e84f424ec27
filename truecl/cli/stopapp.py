"""lha_stopapp."""

import argparse
from collections.abc import Sequence

from truecl.cli.options import Dial, app_option, parser, run
from truecl.cli.output import Output
from truecl.commands.app import STOP_TIMEOUT, stop
from truecl.commands.node import Node

_EXAMPLES = """\
  lha_stopapp -A web        stop application web, wherever it runs
  lha_stopapp -A web -V     the same, showing each step
"""


def main(argv: Sequence[str] | None = None, dial: Dial | None = None) -> int:
    made = parser("lha_stopapp", "Stops an application; harmless when it is stopped.", _EXAMPLES, STOP_TIMEOUT)
    app_option(made, required=True)
    return run("lha_stopapp", made, _work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    return out.drive(stop(node, options.app, options.timeout, options.wait))
