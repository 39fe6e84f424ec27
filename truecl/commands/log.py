"""lha_log: the cluster's history from all nodes, and its events as they happen."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from truecl.commands.node import FAILED, NO_DAEMON, UNFINISHED, Ended, Node, Outcome, dialogue
from truecl.core.clocks import Clocks
from truecl.core.timeline import Timeline, timelines
from truecl.model.ids import STATD, AppName, NodeName
from truecl.model.report import EventRecord
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import AskLog, ClockReading, LogLines, Refused

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


MOST_MARKS = 1000
"""Events of each node that timelines are made of: some hundred failovers."""


@dataclass(frozen=True)
class Timelines:
    latest_first: tuple[Timeline, ...]
    missing: tuple[NodeName, ...]
    """Nodes that did not answer."""


def timeline(node: Node, app: AppName | None, since: float, most: int, timeout: float = TIMEOUT) -> Timelines:
    """The `most` latest failovers and moves. Raises Ended and NotAllowed."""
    talk = dialogue(node, STATD)
    events: list[EventRecord] = []
    try:
        talk.send(AskLog(since, MOST_MARKS, marked=True))
        end = node.now() + timeout
        while True:
            message = talk.receive(max(0.0, end - node.now()))
            if isinstance(message, Refused):
                raise Ended(FAILED, message.reason)
            if not isinstance(message, LogLines):
                continue
            events += message.events
            if message.last:
                return Timelines(_of(events, message.readings, app, most), message.missing)
    except NoAnswer as error:
        raise Ended(UNFINISHED, str(error)) from error
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    finally:
        talk.close()


def _of(
    events: list[EventRecord], readings: tuple[ClockReading, ...], app: AppName | None, most: int
) -> tuple[Timeline, ...]:
    return tuple(timelines(events, Clocks(events, readings), app, most))
