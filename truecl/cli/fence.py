"""lha_fence."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import msgspec

from truecl.cli.options import Dial, parser, run
from truecl.cli.output import Output
from truecl.cli.table import table
from truecl.commands.fence import (
    TIMEOUT,
    Answer,
    Answers,
    asked_without_master,
    judged,
    look,
    status_of,
    test,
    vouch,
    wish,
)
from truecl.commands.node import FAILED, Ended, Node, Outcome
from truecl.model.ids import NodeName
from truecl.wire.messages import Status

_LOOK = 5.0
_EXAMPLES = """\
  lha_fence --test             can every node switch off every other? Nothing is cut
  lha_fence n2 --status        what the fence devices of n2 say to this node
  lha_fence n2 --off           switch n2 off, for certain; its applications go on elsewhere
  lha_fence n2 --reboot        the same, and on again
  lha_fence n2 --confirm       its device is broken, and I have seen that n2 is off
"""
_ASKED_FIRST = {
    "off": "cuts the power of {node}; what runs there starts elsewhere",
    "reboot": "cuts the power of {node} and switches it on again; what runs there starts elsewhere",
    "confirm": "starts elsewhere what {node} ran, on your word alone; if {node} runs after all, data is destroyed",
}

Read = Callable[[], str]


def main(argv: Sequence[str] | None = None, dial: Dial | None = None, read: Read = sys.stdin.readline) -> int:
    """`read`: the operator's answer, a line; '' at the end of the input."""
    made = parser("lha_fence", "Switches nodes off and on through their fence devices.", _EXAMPLES, TIMEOUT)
    made.add_argument("node", nargs="?", metavar="NODE", help="whose power; left out with --test: of every node")
    verbs = made.add_mutually_exclusive_group(required=True)
    for verb, help in (
        ("off", "switch it off and verify that"),
        ("on", "switch it on"),
        ("reboot", "off, verified, then on"),
        ("status", "what its devices say to this node; nothing is switched"),
        ("confirm", "it is off: your word in place of its device's"),
        ("test", "what the devices say to every node that is up; nothing is switched"),
    ):
        verbs.add_argument(f"--{verb}", dest="verb", action="store_const", const=verb, help=help)
    made.add_argument("--yes", action="store_true", help="do not ask for the node's name")
    made.add_argument("--force", action="store_true", help="even the node that this command runs on")

    def work(options: argparse.Namespace, node: Node, out: Output) -> int:
        if options.node is None and options.verb != "test":
            made.error(f"--{options.verb} needs NODE")
        return _work(options, node, out, read)

    return run("lha_fence", made, work, argv, dial)


def _work(options: argparse.Namespace, node: Node, out: Output, read: Read) -> int:
    status = look(node, options.node, _LOOK)
    if options.verb in ("test", "status"):
        return _tested(options, node, out, status)
    target = NodeName(options.node)
    asked = asked_without_master(node, target, status, _LOOK) if options.verb == "confirm" else None
    if options.verb in _ASKED_FIRST:
        _consent(options, target, status, read)
    if asked is not None:
        if asked.say_more:
            _say_more(target, status.here, read)
        return out.end(vouch(node, target, asked, _LOOK))
    return out.drive(wish(node, options.verb, target, status, options.timeout, options.wait))


def _consent(options: argparse.Namespace, target: NodeName, status: Status, read: Read) -> None:
    """Raises Ended unless the operator means it."""
    if target == status.here and not options.force:
        raise Ended(FAILED, f"this is {target} itself: run it on another node, or with --force")
    if options.yes:
        return
    warning = _ASKED_FIRST[options.verb].format(node=target)
    sys.stderr.write(f"lha_fence: --{options.verb} {warning}.\nType the node's name to go on: ")
    sys.stderr.flush()
    typed = read()
    if not typed.endswith("\n"):
        sys.stderr.write("\n")
    if typed.strip() != target:
        raise Ended(FAILED, f"nothing was done: that was not '{target}'")


def _say_more(target: NodeName, here: NodeName, read: Read) -> None:
    """Always asked: no option stands for these words. Raises Ended."""
    sys.stderr.write(
        f"lha_fence: {here} cannot know whether {target} went on alone since the two last met. If it did, what\n"
        f"happened since is lost, and may be destroyed. Go on only if all of this is true:\n"
        f"  - {target} is off;\n"
        f"  - {target} did not run alone since {here} last did;\n"
        f"  - {target} will not be started until it can reach {here}.\n"
        f"Type 'all true' to go on: "
    )
    sys.stderr.flush()
    typed = read()
    if not typed.endswith("\n"):
        sys.stderr.write("\n")
    if typed.strip() != "all true":
        raise Ended(FAILED, "nothing was done: that was not 'all true'")


def _tested(options: argparse.Namespace, node: Node, out: Output, status: Status) -> int:
    if options.verb == "test":
        answers = _followed(test(node, options.node, status, options.timeout), out)
    else:
        answers = _followed(status_of(node, options.node, status, options.timeout), out)
    outcome = judged(answers) if options.verb == "test" else _own(answers)
    if options.json:
        rows = [msgspec.to_builtins(each) | {"ok": each.ok} for each in answers]
        out.json({"command": "lha_fence", "code": outcome.code, "result": outcome.text, "answers": rows})
        return outcome.code
    width = os.get_terminal_size().columns if sys.stdout.isatty() else None
    out.text(table(("From", "Node", "Level", "Agent", "Power", "Notes"), [_row(each) for each in answers], width=width))
    return out.end(outcome)


def _followed(answers: Answers, out: Output) -> tuple[Answer, ...]:
    while True:
        try:
            out.step(next(answers))
        except StopIteration as end:
            found: tuple[Answer, ...] = end.value
            return found


def _own(answers: tuple[Answer, ...]) -> Outcome:
    return Outcome(0 if all(each.ok for each in answers) else FAILED)


def _row(answer: Answer) -> tuple[str, ...]:
    level = str(answer.level) if answer.level else "-"
    return answer.asker, answer.node, level, answer.agent or "-", answer.power.upper(), answer.reason
