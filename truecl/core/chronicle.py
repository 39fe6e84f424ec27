"""The history half of statd: events kept on this node, asked from all nodes, and followed as they happen.

A question goes to the disk and to every statd whose node hbd hears; it ends when all answered or GATHER_TIME is over,
and says who is missing. Whoever follows is fed from the moment of the question, so that nothing falls between the
history and the stream. A statd that has followers asks the others to stream, again every RENEW_FOLLOW: one that dies is
forgotten after FOLLOW_TIME.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from truecl.core.happenings import Happening, Sieve, clipped, fitting, in_order, merged
from truecl.core.outbox import Outbox
from truecl.model.actions import Action
from truecl.model.ids import STATD, AppName, NodeName
from truecl.model.report import EventRecord, Severity
from truecl.wire.messages import AskLog, ClockReading, LogLines, Refused

GATHER_TIME = 1.0
"""Seconds to wait for the other nodes' histories."""
FOLLOW_TIME = 15.0
RENEW_FOLLOW = 5.0
MAX_QUEUED = 2000
"""Events waiting for the disk; the oldest goes when there are more, and how many went is an event."""
BATCH = 200
MAX_LINES = 1000
"""Events of one answer."""
MAX_ANSWER = 256 * 1024
"""Bytes, about, of one node's answer."""
MAX_GATHERS = 32
MAX_FOLLOWERS = 32
MAX_SEARCHES = 128
MAX_FRESH = 1000
"""Events kept for one follower while its question is still open."""


class RecordEvents(Action, frozen=True):
    """Keep these. Result: Recorded."""

    events: tuple[EventRecord, ...]


class FindEvents(Action, frozen=True):
    """The latest `limit` at or after `since` (wall clock), of one application or all. Result: Found."""

    since: float
    limit: int
    app: AppName | None = None
    marked: bool = False
    """Only those with a mark."""


class Recorded(msgspec.Struct, frozen=True):
    """`at` of each event is set. `reason`: why they are not on the disk, '' when they are."""

    events: tuple[EventRecord, ...]
    reason: str = ""


class Found(msgspec.Struct, frozen=True):
    """Oldest first."""

    events: tuple[EventRecord, ...] = ()
    reason: str = ""


@dataclass
class _Gather:
    who: str
    request: AskLog
    deadline: float
    waiting: list[NodeName]
    missing: list[NodeName]
    asked_at: float
    parts: dict[NodeName, tuple[EventRecord, ...]] = field(default_factory=dict)
    readings: list[ClockReading] = field(default_factory=list)
    fresh: deque[EventRecord] = field(default_factory=lambda: deque(maxlen=MAX_FRESH))


@dataclass
class _Follower:
    number: int
    app: AppName | None
    sieve: Sieve


class Chronicle:
    """`nodes`: all nodes of the cluster, this one among them; `silent`: whether hbd says that one of them is not heard.
    Writes into the outbox that its core takes from."""

    def __init__(
        self, me: NodeName, nodes: Iterable[NodeName], outbox: Outbox, silent: Callable[[NodeName], bool]
    ) -> None:
        self.me = me
        self.nodes = tuple(nodes)
        self._out = outbox
        self._silent = silent
        self._queue: deque[EventRecord] = deque()
        self._dropped = 0
        self._recording: tuple[int, tuple[EventRecord, ...]] | None = None
        self._searches: dict[int, int | tuple[NodeName, int]] = {}
        """Action id to the gather's number, or to the node that asked and its number."""
        self._gathers: dict[int, _Gather] = {}
        self._next = 1
        self._followers: dict[str, _Follower] = {}
        self._streams: dict[NodeName, float] = {}
        """Other nodes with followers, and until when they want new events."""
        self._renew_at: float | None = None

    # ---- what happened ---------------------------------------------------------------------------------------------

    def note(self, event: EventRecord) -> None:
        """An event in a daemon's own words. Whatever it says, it is of this node."""
        self._enqueue(msgspec.structs.replace(event, node=self.me, text=clipped(event.text)))

    def happened(self, happenings: Iterable[Happening], now: float) -> None:
        for happening in happenings:
            self._enqueue(happening.noted(self.me, now))

    def _enqueue(self, event: EventRecord) -> None:
        self._queue.append(event)
        if len(self._queue) > MAX_QUEUED:
            self._queue.popleft()
            self._dropped += 1
        self._record()

    def _record(self) -> None:
        if self._recording is not None or not self._queue:
            return
        if self._dropped:
            text = f"{self._dropped} events were lost: they came faster than the disk took them"
            newest = self._queue[-1]
            self._queue.append(EventRecord(0.0, newest.uptime, self.me, STATD, Severity.WARN, text))
            self._dropped = 0
        batch = tuple(self._queue.popleft() for _ in range(min(BATCH, len(self._queue))))
        self._recording = self._out.do(RecordEvents(batch)), batch

    # ---- questions -------------------------------------------------------------------------------------------------

    def ask(self, who: str, request: AskLog, now: float) -> None:
        """A command's lha_log."""
        full = len(self._gathers) >= MAX_GATHERS or len(self._searches) >= MAX_SEARCHES
        if full or (request.follow and who not in self._followers and self._following() >= MAX_FOLLOWERS):
            self._out.tell(who, Refused("too many lha_log at once on this node; end one and try again"))
            return
        number, self._next = self._next, self._next + 1
        limit = max(0, min(request.limit, MAX_LINES))
        request = msgspec.structs.replace(request, limit=limit, local=False)
        waiting = self._others()
        missing = [node for node in self.nodes if node != self.me and node not in waiting]
        self._gathers[number] = _Gather(who, request, now + GATHER_TIME, [*waiting, self.me], missing, now)
        for node in waiting:
            question = AskLog(request.since, limit, request.follow, request.app, number, True, request.marked)
            self._out.send(node, question)
        self._searches[self._out.do(FindEvents(request.since, limit, request.app, request.marked))] = number
        if request.follow and self._renew_at is None:
            self._renew_at = now + RENEW_FOLLOW

    def asked(self, node: NodeName, request: AskLog, now: float) -> None:
        """Another node's statd asks for this node's own events."""
        if node not in self.nodes:
            return
        if request.follow:
            self._streams[node] = now + FOLLOW_TIME
        if request.limit <= 0 or len(self._searches) >= MAX_SEARCHES:
            return
        action = FindEvents(request.since, min(request.limit, MAX_LINES), request.app, request.marked)
        self._searches[self._out.do(action)] = (node, request.number)

    def done(self, id: int, result: Any, now: float) -> None:
        if self._recording is not None and self._recording[0] == id:
            batch = self._recording[1]
            self._recording = None
            self._publish(result.events if isinstance(result, Recorded) else batch, now)
            self._record()
        purpose = self._searches.pop(id, None)
        if purpose is None:
            return
        events = result.events if isinstance(result, Found) else ()
        if isinstance(purpose, int):
            self._part(purpose, self.me, events, now)
        else:
            node, number = purpose
            self._out.send(node, LogLines(number, fitting(events, MAX_ANSWER), last=True, clock=now))

    def lines(self, node: NodeName, message: LogLines, now: float) -> None:
        """Another node's answer, or (number 0) what just happened there."""
        events = tuple(event for event in message.events[-MAX_LINES:] if event.node == node)
        if message.number == 0:
            self._feed(events)
            return
        gather = self._gathers.get(message.number)
        if gather is not None and message.clock:
            gather.readings.append(ClockReading(self.me, node, gather.asked_at, message.clock, now))
        self._part(message.number, node, events, now)

    def _part(self, number: int, node: NodeName, events: tuple[EventRecord, ...], now: float) -> None:
        gather = self._gathers.get(number)
        if gather is None or node not in gather.waiting:
            return
        gather.waiting.remove(node)
        gather.parts[node] = events
        if not gather.waiting:
            self._finish(number, now)

    def _finish(self, number: int, now: float) -> None:
        gather = self._gathers.pop(number)
        request = gather.request
        missing = tuple(node for node in self.nodes if node in gather.missing or node in gather.waiting)
        if request.marked:
            events = in_order(event for part in gather.parts.values() for event in part)
        else:
            events = merged(gather.parts.values(), request.limit)
        for first in range(0, max(1, len(events)), BATCH):
            chunk = tuple(events[first : first + BATCH])
            at_end = first + BATCH >= len(events)
            last, readings = at_end and not request.follow, tuple(gather.readings) if at_end and request.marked else ()
            answer = LogLines(request.number, chunk, last, missing if at_end else (), now if at_end else 0.0, readings)
            self._out.tell(gather.who, answer)
        if request.follow:
            follower = _Follower(request.number, request.app, Sieve())
            for event in events:
                follower.sieve.lets(event)
            told = dict.fromkeys(events)
            self._followers[gather.who] = follower
            self._tell(gather.who, follower, [event for event in in_order(gather.fresh) if event not in told])

    # ---- the stream ------------------------------------------------------------------------------------------------

    def _publish(self, events: tuple[EventRecord, ...], now: float) -> None:
        for node, until in self._streams.items():
            if now < until:
                self._out.send(node, LogLines(0, fitting(events, MAX_ANSWER)))
        self._feed(events)

    def _feed(self, events: tuple[EventRecord, ...]) -> None:
        for gather in self._gathers.values():
            if gather.request.follow:
                gather.fresh.extend(event for event in events if gather.request.app in (None, event.app))
        for who, follower in self._followers.items():
            self._tell(who, follower, events)

    def _tell(self, who: str, follower: _Follower, events: Iterable[EventRecord]) -> None:
        new = tuple(event for event in events if follower.app in (None, event.app) and follower.sieve.lets(event))
        if new:
            self._out.tell(who, LogLines(follower.number, new))

    def _following(self) -> int:
        return len(self._followers) + sum(gather.request.follow for gather in self._gathers.values())

    # ---- who is there ----------------------------------------------------------------------------------------------

    def _others(self) -> list[NodeName]:
        """Whom it is worth to ask. The session to them may still have to be made: sending makes it."""
        return [node for node in self.nodes if node != self.me and not self._silent(node)]

    def connected(self, node: NodeName) -> None:
        if node in self.nodes and node != self.me and self._following():
            self._out.send(node, AskLog(limit=0, follow=True, local=True))

    def disconnected(self, node: NodeName, now: float) -> None:
        self._streams.pop(node, None)
        for number, gather in list(self._gathers.items()):
            if node in gather.waiting:
                gather.waiting.remove(node)
                gather.missing.append(node)
                if not gather.waiting:
                    self._finish(number, now)

    def left(self, who: str) -> None:
        self._followers.pop(who, None)
        self._gathers = {number: gather for number, gather in self._gathers.items() if gather.who != who}

    # ---- time ------------------------------------------------------------------------------------------------------

    @property
    def wake_at(self) -> float | None:
        times = [gather.deadline for gather in self._gathers.values()]
        if self._renew_at is not None:
            times.append(self._renew_at)
        return min(times) if times else None

    def wake(self, now: float) -> None:
        for number, gather in list(self._gathers.items()):
            if now >= gather.deadline:
                self._finish(number, now)
        self._streams = {node: until for node, until in self._streams.items() if now < until}
        if self._renew_at is None or now < self._renew_at:
            return
        if not self._following():
            self._renew_at = None
            return
        self._renew_at = now + RENEW_FOLLOW
        for node in self._others():
            self._out.send(node, AskLog(limit=0, follow=True, local=True))
