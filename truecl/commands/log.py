"""lha_log: the cluster's history from all nodes, and its events as they happen."""

from collections.abc import Callable, Generator

from truecl.commands.node import FAILED, NO_DAEMON, UNFINISHED, Ended, Node, Outcome, dialogue
from truecl.model.ids import STATD, NodeName
from truecl.model.report import EventRecord
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import AskLog, LogLines, Refused

TIMEOUT = 5.0

Lines = Generator[EventRecord | tuple[NodeName, ...], None, Outcome]


IDLE = 1.0
"""Seconds without an event after which a follower looks whether it is still wanted."""


def log(node: Node, request: AskLog, timeout: float = TIMEOUT, idle: Callable[[], None] = lambda: None) -> Lines:
    """Yields events, oldest first, and (once, if there are any) the nodes that did not answer. With `follow` it goes on
    until it is closed. Raises Ended and NotAllowed.

    timeout -- seconds until the history is there. idle -- called now and then while nothing happens; may raise.
    """
    talk = dialogue(node, STATD)
    try:
        talk.send(request)
        end = node.now() + timeout
        begun = False
        while True:
            try:
                message = talk.receive(IDLE if begun and request.follow else max(0.0, end - node.now()))
            except NoAnswer as error:
                if begun and request.follow:
                    idle()
                    continue
                raise Ended(UNFINISHED, str(error)) from error
            if isinstance(message, Refused):
                raise Ended(FAILED, message.reason)
            if not isinstance(message, LogLines):
                continue
            begun = True
            yield from message.events
            if message.missing:
                yield message.missing
            if message.last:
                return Outcome(0)
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    finally:
        talk.close()
