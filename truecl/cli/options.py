"""What all operator commands share: their options, their way to the node, and how they end."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

from truecl.cli.output import Output
from truecl.commands.node import FAILED, NO_DAEMON, UNFINISHED, Dialogue, Ended, Node, Outcome
from truecl.model.ids import DaemonName
from truecl.runtime.client import RUN, Conversation, NoAnswer, NoDaemon, NotAllowed

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
EXIT_CODES = """\
exit codes:
  0 done, 1 refused or failed, 2 usage, 3 no cluster or daemon to talk to, 4 accepted, not finished in time
"""

Dial = Callable[[DaemonName], Dialogue]


def parser(
    command: str, description: str, examples: str, timeout: float, waits: bool = True
) -> argparse.ArgumentParser:
    """With the options of every command. `timeout`: the default, in seconds. `waits`: with --wait and --no-wait."""
    made = argparse.ArgumentParser(
        prog=command,
        description=description,
        epilog=f"examples:\n{examples}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _shared(made, timeout, waits)
    return made


def verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    description: str,
    examples: str,
    timeout: float,
    waits: bool = True,
) -> argparse.ArgumentParser:
    """A verb of a command that has several, with the options of every command."""
    made = verbs.add_parser(
        name,
        help=description[:1].lower() + description[1:].rstrip("."),
        description=description,
        epilog=f"examples:\n{examples}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _shared(made, timeout, waits)
    return made


def _shared(made: argparse.ArgumentParser, timeout: float, waits: bool) -> None:
    made.add_argument(
        "-t", "--timeout", type=_seconds, default=timeout, metavar="SECONDS", help=f"default: {timeout:g}"
    )
    made.add_argument("-V", "--verbose", action="store_true", help="show each step as it happens")
    made.add_argument("--json", action="store_true", help="print JSON (docs/commands.md)")
    if waits:
        either = made.add_mutually_exclusive_group()
        either.add_argument("--wait", dest="wait", action="store_true", default=True, help="until it is done (default)")
        either.add_argument("--no-wait", dest="wait", action="store_false", help="only until it is accepted")


def app_option(made: argparse.ArgumentParser, required: bool = False) -> None:
    made.add_argument("-A", "--app", required=required, metavar="APP", help="the application's name")


def unvalidated_option(made: argparse.ArgumentParser) -> None:
    text = "even if lha_buildapp did not find it ready, or it changed since"
    made.add_argument("--unvalidated", dest="validated", action="store_false", help=text)


def node_option(made: argparse.ArgumentParser, help: str) -> None:
    made.add_argument("-N", "--node", metavar="NODE", help=help)


def _seconds(text: str) -> float:
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 86400.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, more than 0 and at most 86400")
    return value


def this_node(command: str, dial: Dial | None = None) -> Node:
    """`dial`: another way to the daemons than their sockets."""
    pid = os.getpid()
    run = os.environ.get("TRUECL_RUN", RUN)
    operator = os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}"
    return Node(
        dial or (lambda daemon: Conversation(daemon, f"{command} {pid}", run)),
        time.monotonic,
        time.sleep,
        f"{operator} ({command})",
        f"{os.uname().nodename}-{pid}-{time.time_ns()}",
        lambda: os.access(f"{os.environ.get('TRUECL_ETC', '/etc/truecl')}/cluster.yaml", os.F_OK),
    )


def run(
    command: str,
    made: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace, Node, Output], int],
    argv: Sequence[str] | None,
    dial: Dial | None = None,
) -> int:
    """Parses, works, and ends with an exit code whatever happens between the operator and the daemons."""
    options = made.parse_args(argv)
    out = Output(command, sys.stdout, sys.stderr, verbose=options.verbose, json=options.json, pid=os.getpid())
    try:
        return _ended(work, options, this_node(command, dial), out)
    except BrokenPipeError:
        # Whoever read this has gone; what the interpreter would still flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        goes_on = "interrupted; the operation goes on" if hasattr(options, "wait") else ""
        sys.stderr.write(f"{getattr(options, 'interrupted', goes_on)}\n")
        return INTERRUPTED


def _ended(
    work: Callable[[argparse.Namespace, Node, Output], int], options: argparse.Namespace, node: Node, out: Output
) -> int:
    try:
        return work(options, node, out)
    except Ended as ended:
        return out.end(ended.outcome)
    except NotAllowed as error:
        return out.end(Outcome(FAILED, str(error)))
    except NoDaemon as error:
        return out.end(Outcome(NO_DAEMON, str(error)))
    except NoAnswer as error:
        return out.end(Outcome(UNFINISHED, str(error)))
