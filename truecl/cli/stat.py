"""lha_stat."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

from truecl.cli.options import Dial, app_option, node_option, parser, run
from truecl.cli.output import Output
from truecl.cli.render import of_app, of_cluster, of_node
from truecl.commands.node import DONE, Node
from truecl.commands.stat import TIMEOUT, stat

_EXAMPLES = """\
  lha_stat                  the cluster, its nodes and applications
  lha_stat -A web           one application with its storage, addresses and programs
  lha_stat -N n2            one node with its daemons and what runs there
  lha_stat --json | jq -r '.apps[] | select(.status != "UP") | .name'
"""


Clock = Callable[[], float]


def main(argv: Sequence[str] | None = None, dial: Dial | None = None, clock: Clock = time.time) -> int:
    """`clock`: the time of day, seconds since the epoch."""
    made = parser("lha_stat", "Shows what is.", _EXAMPLES, TIMEOUT, waits=False)
    app_option(made)
    node_option(made, "only this node")

    def work(options: argparse.Namespace, node: Node, out: Output) -> int:
        return _work(options, node, out, clock)

    return run("lha_stat", made, work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output, clock: Clock) -> int:
    found = stat(node, options.app, options.node, options.timeout)
    if options.json:
        out.json(found)
        return DONE
    width = os.get_terminal_size().columns if sys.stdout.isatty() else None
    if options.app is not None:
        out.text(of_app(found, width, clock()))
    elif options.node is not None:
        out.text(of_node(found, width, clock()))
    else:
        out.text(of_cluster(found, width))
    return DONE
