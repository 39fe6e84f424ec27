"""lha_log --timeline: failovers and moves, of all nodes' histories. Apart from lha_log, which starts without it."""

from dataclasses import dataclass

from truecl.commands.node import NO_DAEMON, UNFINISHED, Ended, Node
from truecl.commands.stat import check_app
from truecl.commands.typed import ask_all
from truecl.core.clocks import Clocks
from truecl.core.timeline import Timeline, timelines
from truecl.model.ids import STATD, AppName, NodeName
from truecl.model.report import EventRecord
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import AskLog, ClockReading, LogLines

MOST_MARKS = 1000
"""Events of each node that timelines are made of: some hundred failovers."""


@dataclass(frozen=True)
class Timelines:
    latest_first: tuple[Timeline, ...]
    missing: tuple[NodeName, ...]
    """Nodes that did not answer."""


def timeline(node: Node, app: AppName | None, since: float, most: int, timeout: float) -> Timelines:
    """The `most` latest failovers and moves. Raises Ended (also for an unknown application) and NotAllowed."""
    question = AskLog(since, MOST_MARKS, marked=True)
    try:
        answers = ask_all(node, STATD, question, LogLines, timeout)
    except NoAnswer as error:
        raise Ended(UNFINISHED, str(error)) from error
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    events = [event for answer in answers for event in answer.events]
    last = answers[-1]
    found = _of(events, last.readings, app, most)
    if app is not None and not found:
        check_app(node, app, timeout)
    return Timelines(found, last.missing)


def _of(
    events: list[EventRecord], readings: tuple[ClockReading, ...], app: AppName | None, most: int
) -> tuple[Timeline, ...]:
    return tuple(timelines(events, Clocks(events, readings), app, most))
