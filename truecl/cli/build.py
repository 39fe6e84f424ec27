"""lha_buildapp."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from truecl.cli.options import Dial, app_option, parser, run
from truecl.cli.output import Output, printable
from truecl.commands.build import TIMEOUT, build, parse_growth
from truecl.commands.node import Node

_EXAMPLES = """\
  lha_buildapp -A web                       is web ready on all of its nodes? Nothing is changed
  lha_buildapp -A db --create -V            make what is missing: volumes, DRBD's metadata, file systems
  lha_buildapp -A db --create --force       even in the place of other data: they are named, and you are asked
  lha_buildapp -A db --grow data=20G        while it runs
  lha_buildapp -A db --replace n2           n2 has a new disk
  lha_buildapp -A db --accept-data n2       go on with the copy of n2, whatever it lacks
  lha_buildapp -A db --resync               a comparison found differences: copy them again from where db runs
  lha_buildapp -A db --resolve --keep n1    after a split brain: throw the other copy away
"""

Read = Callable[[], str]


def main(argv: Sequence[str] | None = None, dial: Dial | None = None, read: Read = sys.stdin.readline) -> int:
    """`read`: the operator's answer, a line; '' at the end of the input."""
    text = "Checks that an application's nodes are ready for it, makes what is missing, and records that."
    made = parser("lha_buildapp", text, _EXAMPLES, TIMEOUT)
    app_option(made, required=True)
    made.add_argument("--create", action="store_true", help="make what is missing")
    made.add_argument("--force", action="store_true", help="even where other data are, which you will be shown")
    what = made.add_mutually_exclusive_group()
    what.add_argument("--grow", metavar="VOLUME=SIZE", help="make a volume larger while it is in use")
    what.add_argument("--replace", metavar="NODE", help="this node's disk was lost, and there is a new one")
    what.add_argument("--accept-data", metavar="NODE", help="this node's copy is the one to go on with")
    what.add_argument("--resolve", action="store_true", help="end a split brain; needs --keep")
    what.add_argument("--verify", action="store_true", help="compare the copies, block by block")
    what.add_argument("--resync", action="store_true", help="copy again what was found to differ")
    made.set_defaults(interrupted="interrupted; what is not made yet is not begun: the same command goes on from there")
    made.add_argument("--keep", metavar="NODE", help="with --resolve: whose copy is kept")

    def work(options: argparse.Namespace, node: Node, out: Output) -> int:
        if options.resolve != (options.keep is not None):
            made.error("--resolve and --keep NODE go together")
        if options.force and not options.create and (options.grow or options.verify or options.resync):
            made.error("--force goes with --create")
        return _work(options, node, out, read)

    return run("lha_buildapp", made, work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output, read: Read) -> int:
    wish: dict[str, Any] = {name: getattr(options, name) for name in ("create", "force", "resolve", "verify", "resync")}
    wish["accept"], wish["replace"] = options.accept_data is not None, options.replace is not None
    if options.grow is not None:
        wish["grow"], wish["size"] = parse_growth(options.grow)
    where = options.replace or options.accept_data or options.keep

    def agree(lines: Sequence[str]) -> bool:
        return _asked(options.app, lines, read)

    steps = build(node, options.app, wish, where, time.time(), agree, options.timeout, options.wait)
    return out.drive(steps)


def _asked(app: str, lines: Sequence[str], read: Read) -> bool:
    """Always: no option stands for this answer."""
    sys.stderr.write("lha_buildapp: this is about data:\n")
    sys.stderr.writelines(f"  {printable(line)}\n" for line in lines)
    sys.stderr.write("Type the application's name to go on: ")
    sys.stderr.flush()
    typed = read()
    if not typed.endswith("\n"):
        sys.stderr.write("\n")
    return typed.strip() == app
