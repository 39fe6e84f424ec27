"""Questions whose answers a command works with as messages, not only prints. Brings msgspec: not for lha_stat."""

from typing import TypeVar

from truecl.commands.node import FAILED, Ended, Node, dialogue
from truecl.model.ids import DaemonName
from truecl.runtime.client import NoDaemon
from truecl.wire.codec import BadMessage
from truecl.wire.messages import LogLines, Message, Refused
from truecl.wire.plain import plain, typed

Answer = TypeVar("Answer", bound=Message)


def ask(node: Node, daemon: DaemonName, question: Message, kind: type[Answer], timeout: float) -> Answer:
    """The first answer of that kind. Raises Ended, NotAllowed, NoAnswer, NoDaemon."""
    return ask_all(node, daemon, question, kind, timeout)[-1]


def ask_all(node: Node, daemon: DaemonName, question: Message, kind: type[Answer], timeout: float) -> list[Answer]:
    """The same; of LogLines all, to the last."""
    talk = dialogue(node, daemon)
    answers: list[Answer] = []
    try:
        talk.send(plain(question))
        end = node.now() + timeout
        while True:
            message = _typed(talk.receive(max(0.0, end - node.now())), daemon)
            if isinstance(message, Refused):
                raise Ended(FAILED, message.reason)
            if isinstance(message, kind):
                answers.append(message)
                if not isinstance(message, LogLines) or message.last:
                    return answers
    finally:
        talk.close()


def _typed(value: list[object], daemon: DaemonName) -> object:
    try:
        return typed(value)
    except BadMessage as fault:
        raise NoDaemon(f"{daemon} answers in a language of another release: {fault}") from fault
