"""lha_fence: a node's power, by the operator's word; and whether every node could switch off every other."""

from collections.abc import Generator

import msgspec

from truecl.commands.node import (
    DONE,
    FAILED,
    NO_DAEMON,
    UNFINISHED,
    Ended,
    Node,
    Outcome,
    Steps,
    carry_out,
    dialogue,
    meant,
)
from truecl.commands.stat import ask_status
from truecl.model.actions import Power
from truecl.model.ids import CLUSTERD, REQD, AppName, NodeName
from truecl.model.report import Progress, Severity
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import AskFences, AskStatus, FencesSeen, FenceView, Refused, Request, Status

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
        return self.level > 0 and self.power is not Power.UNKNOWN


Answers = Generator[Progress, None, tuple[Answer, ...]]


def look(node: Node, target: NodeName | None, timeout: float) -> Status:
    """What the operator sees before a word is given. Raises Ended for an unknown node, or if nobody answers."""
    try:
        status = ask_status(node, AskStatus(), timeout)
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
    outcome = yield from carry_out(node, CLUSTERD, request, timeout, wait, repeatable=True)
    return outcome


def status_of(node: Node, target: NodeName, status: Status, timeout: float) -> Answers:
    """What the devices of one node say to this one."""
    answers = yield from _ask(node, status.answered_by, target, timeout)
    return answers


def test(node: Node, target: NodeName | None, status: Status, timeout: float) -> Answers:
    """Every node that is up asks the devices of `target`, or of every node. One after the other: many devices bear one
    session at a time."""
    answers: list[Answer] = []
    for asker, word in status.nodes.items():
        if word != "UP":
            yield Progress(f"{asker} is {word}: not asked", Severity.WARN)
            continue
        for each in status.nodes if target is None else (target,):
            answers += yield from _ask(node, asker, each, timeout)
    return tuple(answers)


def judged(answers: tuple[Answer, ...]) -> Outcome:
    """Whether every path works; a node need not be able to switch itself off."""
    broken = [each for each in answers if not each.ok and each.asker != each.node]
    if broken:
        return Outcome(FAILED, f"{len(broken)} of {len(answers)} paths do not work; see docs/fencing.md")
    return Outcome(DONE)


def _ask(node: Node, asker: NodeName, target: NodeName, timeout: float) -> Answers:
    yield Progress(f"{asker} asks the fence devices of {target} for their status ...")
    try:
        seen = _seen(node, AskFences(1, asker, target), timeout)
    except NoAnswer:
        return (Answer(asker, target, 0, "", Power.UNKNOWN, f"{asker} gave no answer within {timeout:g} s"),)
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    if not seen:
        return (Answer(asker, target, 0, "", Power.UNKNOWN, "no fence device is configured"),)
    return tuple(Answer(asker, target, each.level + 1, each.agent, each.power, each.reason) for each in seen)


def _seen(node: Node, question: AskFences, timeout: float) -> tuple[FenceView, ...]:
    """Raises Ended, NotAllowed, NoAnswer, NoDaemon."""
    talk = dialogue(node, REQD)
    try:
        talk.send(question)
        end = node.now() + timeout
        while True:
            message = talk.receive(max(0.0, end - node.now()))
            if isinstance(message, Refused):
                raise Ended(FAILED, message.reason)
            if isinstance(message, FencesSeen):
                return message.devices
    finally:
        talk.close()
