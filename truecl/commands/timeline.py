"""lha_log --timeline: failovers and moves, of all nodes' histories. Apart from lha_log, which starts without it."""

from dataclasses import dataclass

from truecl.commands.node import FAILED, NO_DAEMON, UNFINISHED, Ended, Node, dialogue
from truecl.core.clocks import Clocks
from truecl.core.timeline import Timeline, timelines
from truecl.model.ids import STATD, AppName, NodeName
from truecl.model.report import EventRecord
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import AskLog, ClockReading, LogLines, Refused

MOST_MARKS = 1000
"""Events of each node that timelines are made of: some hundred failovers."""


@dataclass(frozen=True)
class Timelines:
    latest_first: tuple[Timeline, ...]
    missing: tuple[NodeName, ...]
    """Nodes that did not answer."""


def timeline(node: Node, app: AppName | None, since: float, most: int, timeout: float) -> Timelines:
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
