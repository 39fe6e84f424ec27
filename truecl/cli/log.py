"""lha_log."""

import argparse
import re
import select
import sys
import time
from collections.abc import Callable, Sequence

from truecl.cli.options import Dial, app_option, parser, run
from truecl.cli.output import Output, printable
from truecl.commands.log import TIMEOUT, log
from truecl.commands.node import DONE, Node
from truecl.model.report import EventRecord
from truecl.wire.messages import AskLog

_EXAMPLES = """\
  lha_log                        the last 50 events of the cluster
  lha_log -f                     and those that come, until Ctrl-C
  lha_log -A web --since 2h      application web in the last two hours
  lha_log --since '2026-11-22 14:00' -n 1000
"""
DEFAULT = 50
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
    made.add_argument("-n", "--lines", type=_lines, default=DEFAULT, help=f"the latest so many, default {DEFAULT}")
    made.add_argument("--since", type=_since, default=0.0, help="2h, 30m, 1d, a date, a time of today")
    app_option(made)
    return run("lha_log", made, _work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output) -> int:
    request = AskLog(options.since, options.lines, options.follow, options.app)
    day = ""
    for found in log(node, request, options.timeout, _still_read):
        if isinstance(found, tuple):
            if options.json:
                out.json({"missing": found})
            else:
                sys.stderr.write(f"lha_log: WARN {', '.join(found)} did not answer; their events are missing\n")
        elif options.json:
            out.json(found)
        else:
            moment = time.localtime(found.at)
            if time.strftime("%Y/%m/%d", moment) != day:
                day = time.strftime("%Y/%m/%d", moment)
                out.text(f"Date: {day}")
            out.text(line(found, options.verbose))
    return DONE


def _still_read() -> None:
    """Raises BrokenPipeError when whoever read the output has gone (`lha_log -f | head`), which no write would find."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)  # errors are told unasked
    if watched.poll(0):
        raise BrokenPipeError


def line(event: EventRecord, verbose: bool, local: Callable[[float], time.struct_time] = time.localtime) -> str:
    """`HHMMSS.mmm node daemon LEVEL text`; verbose: with the node's uptime and the log index."""
    milliseconds = int(event.at * 1000) % 1000
    extra = f" [up {event.uptime:.3f}{f', index {event.index}' if event.index else ''}]" if verbose else ""
    stamp = f"{time.strftime('%H%M%S', local(event.at))}.{milliseconds:03d}"
    return printable(f"{stamp} {event.node} {event.daemon} {event.severity.value} {event.text}{extra}")


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
