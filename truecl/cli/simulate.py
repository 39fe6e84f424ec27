"""lha_simulate."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from textwrap import wrap

import msgspec

from truecl.cli.log import since
from truecl.cli.options import Dial, app_option, node_option, parser, run
from truecl.cli.output import Output, printable
from truecl.cli.table import table
from truecl.commands.node import DONE, FAILED, USAGE, Ended, Node
from truecl.commands.simulate import MOST, TIMEOUT, Decision, present, replay, simulate
from truecl.core.account import Unreadable, as_text, from_text
from truecl.core.fitness import PlanInput
from truecl.core.forecast import AppFails, Fault, Forecast, LinkFails, NodeFails, NotDone, Step
from truecl.model.ids import AppName, LinkName, NodeName

_EXAMPLES = """\
  lha_simulate -N n1                 what would happen if node n1 failed now
  lha_simulate --link link1          if a link failed
  lha_simulate -A web                if web failed for good where it runs; with -N n1: if it runs there
  lha_simulate --save now.json       keep what the master knows; nothing fails
  lha_simulate --from now.json -N n1 begin from that, without a cluster
  lha_simulate --replay --last 20    what was decided lately, and why
  lha_simulate --replay --at '2026-11-22 17:08:01'
"""
LAST = 10
WIDTH = 80


def main(argv: Sequence[str] | None = None, dial: Dial | None = None) -> int:
    made = parser(
        "lha_simulate", "Shows what would happen, or why something was decided. Nothing is changed.", _EXAMPLES,
        TIMEOUT, waits=False,
    )  # fmt: skip
    node_option(made, "this node fails; with -A: only if the application runs there")
    made.add_argument("--link", metavar="LINK", help="this link fails, on all nodes")
    app_option(made)
    made.add_argument("--from", dest="source", metavar="FILE", help="begin from what --save kept")
    made.add_argument("--save", metavar="FILE", help="keep what the master knows now (without secrets)")
    made.add_argument("--replay", action="store_true", help="what masters decided, and why")
    made.add_argument("--last", type=_count, metavar="N", help=f"with --replay: so many, default {LAST}")
    made.add_argument("--at", type=_moment, metavar="TIME", help="with --replay: the last decision until then")
    return run("lha_simulate", made, _work, argv, dial)


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 to {MOST}")
    return int(text)


def _moment(text: str) -> float:
    return since(text, time.time())


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    fault = _fault(options)
    if options.replay:
        if fault is not None or options.source or options.save:
            raise Ended(USAGE, "--replay shows what was: it goes with --last and --at alone")
        return _replay(options, node, out)
    if options.last is not None or options.at is not None:
        raise Ended(USAGE, "--last and --at go with --replay")
    if fault is None and not options.save:
        raise Ended(USAGE, "what is to fail? -N NODE, --link LINK or -A APP")
    given = _read(options.source) if options.source else present(node, options.timeout)
    if options.save:
        _save(options.save, given)
    if fault is None:
        return DONE
    found = simulate(given, fault)
    if options.json:
        out.json(msgspec.to_builtins(found))
    else:
        out.text(told(found, _width()))
    return DONE


def _fault(options: argparse.Namespace) -> Fault | None:
    if options.link is not None:
        if options.node is not None or options.app is not None:
            raise Ended(USAGE, "one thing fails at a time: --link goes with neither -N nor -A")
        return LinkFails(LinkName(options.link))
    if options.app is not None:
        return AppFails(AppName(options.app), NodeName(options.node) if options.node is not None else None)
    return NodeFails(NodeName(options.node)) if options.node is not None else None


def _read(name: str) -> PlanInput:
    from pathlib import Path  # slow to import, and seldom needed

    try:
        return from_text(Path(name).read_bytes())
    except OSError as error:
        raise Ended(FAILED, f"{name} cannot be read: {error.strerror}") from error
    except Unreadable as error:
        raise Ended(FAILED, f"{name} is nothing that lha_simulate --save of this release wrote: {error}") from error


def _save(name: str, given: PlanInput) -> None:
    from pathlib import Path

    try:
        Path(name).write_bytes(as_text(given))
    except OSError as error:
        raise Ended(FAILED, f"{name} cannot be written: {error.strerror}") from error


def _replay(options: argparse.Namespace, node: Node, out: Output) -> int:
    last = options.last or (1 if options.at is not None else LAST)
    decisions, answer = replay(node, last, options.at or 0.0, options.timeout)
    if answer.missing and not options.json:
        sys.stderr.write(
            f"lha_simulate: WARN {', '.join(answer.missing)} did not answer; what they decided is missing\n"
        )
    if not decisions:
        raise Ended(FAILED, "no decision of any master is kept" + (" from before then" if options.at else ""))
    day = ""
    for each in decisions:
        if options.json:
            out.json(msgspec.to_builtins(each))
            continue
        moment = time.localtime(each.at)
        if time.strftime("%Y/%m/%d", moment) != day:
            day = time.strftime("%Y/%m/%d", moment)
            out.text(f"Date: {day}")
        out.text(replayed(each, _width()))
    return DONE


def _width() -> int:
    return os.get_terminal_size().columns if sys.stdout.isatty() else WIDTH


# ---- looks ----------------------------------------------------------------------------------------------------------


def told(found: Forecast, width: int = WIDTH) -> str:
    """Each step with its reason below it; what is not done; and where everything is in the end."""
    lines = [f"If {found.fault} now, as the master {found.master} knows the cluster:", ""]
    for step in found.steps:
        lines += _step(step, f"{step.at:5.2f} s  ", width)
    lines += _not_done(found.not_done, width)
    rows = [
        (place.app, place.now or "-", place.then or "-", _comment(place.wanted, place.then)) for place in found.places
    ]
    if rows:
        lines += ["", *table(("Appname", "Now", "Then", "Notes"), rows).splitlines()]
    if not found.rests:
        lines += ["", "It does not come to rest: only the beginning is shown."]
    return "\n".join(printable(line).rstrip() for line in lines)


def _comment(wanted: bool, then: str) -> str:
    if not wanted:
        return "not wanted"
    return "" if then else "does not run"


def replayed(each: Decision, width: int = WIDTH, local: Callable[[float], time.struct_time] = time.localtime) -> str:
    stamp = f"{time.strftime('%H%M%S', local(each.at))}.{int(each.at * 1000) % 1000:03d}"
    times = f", {each.repeats} times" if each.repeats > 1 else ""
    lines = _fold(f"{stamp} {each.master} (term {each.term}{times}): ", "; ".join(each.changes) or "as before", width)
    for step in each.decided:
        lines += _step(step, "  - ", width)
    if not each.decided:
        lines.append("    nothing to do" + (" yet" if each.not_done else ""))
    lines += [line for note in each.not_done for line in _fold(f"    {note.app}: ", note.why, width)]
    return "\n".join(printable(line).rstrip() for line in lines)


def _step(step: Step, prefix: str, width: int) -> list[str]:
    because = f"{' ' * len(prefix)}because "
    return _fold(prefix, step.what, width) + (_fold(because, step.why, width) if step.why else [])


def _not_done(notes: Sequence[NotDone], width: int) -> list[str]:
    if not notes:
        return []
    return ["", "Not done:", *(line for note in notes for line in _fold(f"  {note.app}: ", note.why, width))]


def _fold(prefix: str, text: str, width: int) -> list[str]:
    """Below the first line as far in as the text begins."""
    inner = min(len(prefix), 24)
    folded = wrap(text, max(20, width - len(prefix)), break_long_words=False, break_on_hyphens=False) or [""]
    return [prefix + folded[0], *(" " * inner + line for line in folded[1:])]
