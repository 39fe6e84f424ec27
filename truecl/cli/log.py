"""lha_log."""

import argparse
import os
import re
import select
import sys
import time
from collections.abc import Callable, Sequence

from truecl.cli.options import Dial, app_option, parser, run
from truecl.cli.output import Output, printable
from truecl.commands.log import TIMEOUT, Event, log
from truecl.commands.node import DONE, FAILED, USAGE, Ended, Node

_EXAMPLES = """\
  lha_log                        the last 50 events of the cluster
  lha_log -f                     and those that come, until Ctrl-C
  lha_log -A web --since 2h      application web in the last two hours
  lha_log --since '2026-11-22 14:00' -n 1000
  lha_log --timeline -A web      how web last failed over or moved, phase by phase
  lha_log --timeline -n 3 --svg failover.svg
"""
DEFAULT = 50
DEFAULT_TIMELINES = 1
MOST = 1000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%H:%M:%S",
    "%H:%M",
)


def main(argv: Sequence[str] | None = None, dial: Dial | None = None) -> int:
    made = parser("lha_log", "Shows what happened, from all nodes.", _EXAMPLES, TIMEOUT, waits=False)
    made.add_argument("-f", "--follow", action="store_true", help="go on with what happens")
    made.add_argument(
        "-n", "--lines", type=_lines,
        help=f"the latest so many, default {DEFAULT}; with --timeline {DEFAULT_TIMELINES}",
    )  # fmt: skip
    made.add_argument("--since", type=_since, default=0.0, metavar="WHEN", help="2h, 30m, 1d, a date, a time of today")
    made.add_argument("--timeline", action="store_true", help="failovers and moves as phases, the latest first")
    made.add_argument("--svg", metavar="FILE", help="with --timeline: draw them into this file too")
    app_option(made)
    return run("lha_log", made, _work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    if options.svg is not None and not options.timeline:
        raise Ended(USAGE, "--svg goes with --timeline")
    if options.timeline:
        if options.follow:
            raise Ended(USAGE, "--timeline shows what was; it does not go with --follow")
        return _timelines(options, node, out)
    day = ""
    wanted = (options.since, options.lines or DEFAULT, options.follow, options.app)
    for found in log(node, *wanted, options.timeout, _still_read):
        if isinstance(found, list):
            _missing(found, options, out)
        elif options.json:
            out.json(found)
        else:
            moment = time.localtime(found["at"])
            if time.strftime("%Y/%m/%d", moment) != day:
                day = time.strftime("%Y/%m/%d", moment)
                out.text(f"Date: {day}")
            out.text(line(found, options.verbose))
    return DONE


def _missing(nodes: Sequence[str], options: argparse.Namespace, out: Output) -> None:
    if options.json:
        out.json({"missing": nodes})
    else:
        sys.stderr.write(f"lha_log: WARN {', '.join(nodes)} did not answer; their events are missing\n")


def _timelines(options: argparse.Namespace, node: Node, out: Output) -> int:
    from truecl.cli.timeline import as_json, shown  # seldom asked for, and plain lha_log starts sooner without
    from truecl.commands.timeline import timeline

    found = timeline(node, options.app, options.since, options.lines or DEFAULT_TIMELINES, options.timeout)
    if found.missing:
        _missing(found.missing, options, out)
    if not found.latest_first:
        of_app = f" of '{options.app}'" if options.app else ""
        raise Ended(FAILED, f"no failover or move{of_app} in the history; lha_log shows what there is")
    width = os.get_terminal_size().columns if sys.stdout.isatty() else None
    for number, each in enumerate(found.latest_first):
        if options.json:
            out.json(as_json(each))
        else:
            out.text(("\n" if number else "") + shown(each, width))
    if options.svg is not None:
        from pathlib import Path

        from truecl.cli.picture import drawn

        try:
            Path(options.svg).write_text(drawn(found.latest_first), encoding="utf-8")
        except OSError as error:
            raise Ended(FAILED, f"{options.svg} cannot be written: {error.strerror}") from error
    return DONE


def _still_read() -> None:
    """Raises BrokenPipeError when whoever read the output has gone (`lha_log -f | head`), which no write would find."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)  # errors are told unasked
    if watched.poll(0):
        raise BrokenPipeError


def line(event: Event, verbose: bool, local: Callable[[float], time.struct_time] = time.localtime) -> str:
    """`HHMMSS.mmm node daemon LEVEL text`; verbose: with the node's uptime and the log index."""
    milliseconds = int(event["at"] * 1000) % 1000
    index = f", index {event['index']}" if event["index"] else ""
    extra = f" [up {event['uptime']:.3f}{index}]" if verbose else ""
    stamp = f"{time.strftime('%H%M%S', local(event['at']))}.{milliseconds:03d}"
    return printable(f"{stamp} {event['node']} {event['daemon']} {event['severity']} {event['text']}{extra}")


def _lines(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 to {MOST}")
    return int(text)


def _since(text: str) -> float:
    """Seconds since the epoch."""
    return since(text, time.time())


def since(text: str, now: float) -> float:
    """What `--since` means at `now`: some time ago, or a local date or time. Raises ArgumentTypeError."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if ago:
        return now - int(ago[1]) * _UNITS[ago[2]]
    for form in _FORMATS:
        try:
            moment = time.strptime(text, form)
        except ValueError:
            continue
        if "%Y" not in form:
            moment = time.struct_time((*time.localtime(now)[:3], *moment[3:6], 0, 0, -1))
        return time.mktime(time.struct_time((*moment[:8], -1)))
    raise argparse.ArgumentTypeError(f"{text!r}: expected 30s, 5m, 2h, 1d, 'YYYY-MM-DD HH:MM', YYYY-MM-DD or HH:MM")
