"""lha_fence: a node's power, by the operator's word; and whether every node could switch off every other."""

from collections.abc import Generator

import msgspec

from truecl.commands.node import (
    DONE,
    FAILED,
    LOG,
    NO_DAEMON,
    UNFINISHED,
    WARN,
    Ended,
    Line,
    Node,
    Outcome,
    Steps,
    carry_out,
    meant,
)
from truecl.commands.typed import ask
from truecl.model.actions import Power
from truecl.model.ids import CLUSTERD, LOCKD, REQD, STATD, AppName, NodeName
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import AskFences, AskStatus, Confirmed, ConfirmOff, FencesSeen, Request, Status
from truecl.wire.plain import plain

TIMEOUT = 180.0
"""Seconds; for --test and --status, each question to a node."""


class Answer(msgspec.Struct, frozen=True):
    """What one device of `node` says to `asker`."""

    asker: NodeName
    node: NodeName
    level: int
    """From 1; 0: there is no device, or `asker` gave no answer."""
    agent: str
    power: Power
    reason: str = ""

    @property
    def ok(self) -> bool:
        return self.level > 0 and self.power is not Power.UNKNOWN and not self.reason


Answers = Generator[Line, None, tuple[Answer, ...]]


def look(node: Node, target: NodeName | None, timeout: float) -> Status:
    """What the operator sees before a word is given. Raises Ended for an unknown node, or if nobody answers."""
    try:
        status = ask(node, STATD, AskStatus(), Status, timeout)
    except NoAnswer as error:
        raise Ended(UNFINISHED, str(error)) from error
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    if target is not None and target not in status.nodes:
        raise Ended(FAILED, f"unknown node '{target}': {meant(target, status.nodes)}")
    return status


def wish(node: Node, verb: str, target: NodeName, status: Status, timeout: float = TIMEOUT, wait: bool = True) -> Steps:
    """`verb`: 'off', 'on', 'reboot' or 'confirm', for what `look` showed. Raises Ended and NotAllowed."""
    request = Request(
        f"{node.token}-{verb}-{target}", verb, AppName(""), target, node.operator, status.ledger.index
    )  # fmt: skip
    outcome = yield from carry_out(node, CLUSTERD, plain(request), timeout, wait, repeatable=True)
    return outcome


def asked_without_master(node: Node, target: NodeName, status: Status, timeout: float) -> Confirmed | None:
    """Of two nodes the one that waits for the other takes the operator's word by itself: what it would have to say.
    None: there is a master, or it needs one. Raises Ended where no word would be taken."""
    if status.state == "UP":
        return None
    answer = _confirm(node, ConfirmOff(target, node.operator), timeout)
    if answer.reason and answer.pair:
        raise Ended(FAILED, answer.reason)
    return answer if answer.pair else None


def vouch(node: Node, target: NodeName, asked: Confirmed, timeout: float) -> Outcome:
    """The word itself, with all that `asked` wanted. Raises Ended."""
    answer = _confirm(node, ConfirmOff(target, node.operator, asked.seen, asked.say_more), timeout)
    if not answer.taken:
        return Outcome(FAILED, answer.reason)
    return Outcome(DONE, f"Node '{target}' Confirmed off by {node.operator}; this node goes on without it [RC=0].")


def _confirm(node: Node, word: ConfirmOff, timeout: float) -> Confirmed:
    try:
        return ask(node, LOCKD, word, Confirmed, timeout)
    except NoAnswer as error:
        raise Ended(UNFINISHED, f"{error}; whether it was taken: lha_stat") from error
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error


def status_of(node: Node, target: NodeName, status: Status, timeout: float) -> Answers:
    """What the devices of one node say to this one."""
    answers = yield from _ask(node, status.here, target, timeout)
    return answers


def test(node: Node, target: NodeName | None, status: Status, timeout: float) -> Answers:
    """Every node that is up asks the devices of `target`, or of every node. One after the other: many devices bear one
    session at a time."""
    answers: list[Answer] = []
    for asker, word in status.nodes.items():
        if word != "UP":
            yield Line(f"{asker} is {word}: not asked", WARN)
            continue
        for each in status.nodes if target is None else (target,):
            seen = yield from _ask(node, asker, each, timeout)
            answers += _doubted(seen) if status.nodes[each] == "UP" else seen
    return tuple(answers)


def _doubted(answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Of a node that is up. One of several power feeds may be off."""
    on = {each.level for each in answers if each.power is not Power.OFF}
    why = "the node is up: another one's device, or an agent that always ends with exit code 2?"
    return tuple(each if each.level in on else msgspec.structs.replace(each, reason=why) for each in answers)


def judged(answers: tuple[Answer, ...]) -> Outcome:
    """Whether every path works; a node need not be able to switch itself off."""
    broken = [each for each in answers if not each.ok and each.asker != each.node]
    if broken:
        return Outcome(FAILED, f"{len(broken)} of {len(answers)} paths do not work; see docs/fencing.md")
    return Outcome(DONE)


def _ask(node: Node, asker: NodeName, target: NodeName, timeout: float) -> Answers:
    yield Line(f"{asker} asks the fence devices of {target} for their status ...", LOG)
    try:
        seen = ask(node, REQD, AskFences(1, asker, target), FencesSeen, timeout).devices
    except NoAnswer:
        return (Answer(asker, target, 0, "", Power.UNKNOWN, f"{asker} gave no answer within {timeout:g} s"),)
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    if not seen:
        return (Answer(asker, target, 0, "", Power.UNKNOWN, "no fence device is configured"),)
    return tuple(Answer(asker, target, each.level + 1, each.agent, each.power, each.reason) for each in seen)
