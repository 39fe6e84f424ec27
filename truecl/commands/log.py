"""lha_log: the cluster's history from all nodes, and its events as they happen."""

from collections.abc import Callable, Generator
from typing import Any

from truecl.commands.node import FAILED, NO_DAEMON, UNFINISHED, Ended, Node, Outcome, dialogue
from truecl.commands.stat import check_app
from truecl.model.ids import STATD, NodeName
from truecl.runtime.client import NoAnswer, NoDaemon

TIMEOUT = 5.0

Event = dict[str, Any]
"""`truecl.model.report.EventRecord` as JSON has it."""
Lines = Generator[Event | list[NodeName], None, Outcome]

IDLE = 1.0
"""Seconds without an event after which a follower looks whether it is still wanted."""


def log(
    node: Node,
    since: float,
    limit: int,
    follow: bool,
    app: str | None,
    timeout: float = TIMEOUT,
    idle: Callable[[], None] = lambda: None,
    marked: bool = False,
) -> Lines:
    """Yields events, oldest first, and (once, if there are any) the nodes that did not answer. With `follow` it goes on
    until it is closed. Raises Ended (also for an application without history that is unknown) and NotAllowed.

    timeout -- seconds until the history is there. idle -- called now and then while nothing happens; may raise.
    marked -- only events with a mark, each node's own word of them.
    """
    talk = dialogue(node, STATD)
    try:
        talk.send(["AskLog", since, limit, follow, app, 0, False, marked])
        end = node.now() + timeout
        begun = False
        while True:
            try:
                message = talk.receive(IDLE if begun and follow else max(0.0, end - node.now()))
            except NoAnswer as error:
                if begun and follow:
                    idle()
                    continue
                raise Ended(UNFINISHED, str(error)) from error
            match message:
                case ["Refused", reason, *_]:
                    raise Ended(FAILED, reason)
                case ["LogLines", _, events, last, missing, *_]:
                    if app is not None and not begun and not events:
                        check_app(node, app, timeout)
                    begun = True
                    yield from events
                    if missing:
                        yield missing
                    if last:
                        return Outcome(0)
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    finally:
        talk.close()
