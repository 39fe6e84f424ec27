"""Failovers and planned moves as phases, put together from what all nodes noted (`model.report.Mark`).

Each begins where a grant ended and another one of the same application followed without the operator's word in
between. A phase lasts from the one before it until its own moment; so the phases' times add up to the whole.
"""

from collections.abc import Iterable, Iterator

import msgspec

from truecl.core.clocks import Clocks
from truecl.model.ids import AppName
from truecl.model.ledger import Proof
from truecl.model.report import EventRecord, Mark, Moment

VERDICTS = 5.0
"""Seconds within which several nodes' verdicts that one is dead belong together."""
UP = {"storage": "storage", "filesystem": "file systems", "address": "addresses", "program": "program"}
DOWN = {
    "program": "program down",
    "address": "addresses down",
    "filesystem": "file systems down",
    "storage": "storage down",
}


class Phase(msgspec.Struct, frozen=True):
    name: str
    node: str
    """Where."""
    at: float
    """Seconds from the first."""
    took: float
    """Seconds from the one before."""
    detail: str = ""


class Timeline(msgspec.Struct, frozen=True):
    app: AppName
    kind: str
    """'failover' or 'move'."""
    cause: str
    origin: str
    target: str
    generation: int
    """Of the grant that it led to."""
    at: float
    """Wall clock of the first phase, at the node that noted it."""
    began: float
    """The same moment by the one clock that all is related to (`Clocks`)."""
    total: float
    """Seconds from the first phase to the last."""
    phases: tuple[Phase, ...]
    uncertainty: float | None
    """Seconds by which moments of different nodes may be wrong against each other; None: unknown."""
    clocks: dict[str, str]
    """Node to how its clock is related to the others': same, asked, log or wall."""
    finished: bool
    """The application answered."""


class _Point(msgspec.Struct):
    name: str
    node: str
    moment: float
    event: EventRecord
    uptime: float
    detail: str = ""


class _Told(msgspec.Struct):
    """An event that has a mark, and when it was by the one clock."""

    moment: float
    event: EventRecord
    mark: Mark


def timelines(
    events: Iterable[EventRecord], clocks: Clocks, app: AppName | None = None, most: int = 1000
) -> list[Timeline]:
    """The `most` latest, of `app` or all, the latest grant first. `events`: of all nodes, each node's own word."""
    told = [_Told(clocks.moment(event), event, event.mark) for event in events if event.mark is not None and event.at]
    told.sort(key=lambda each: (each.moment, each.event.node))
    grants: dict[tuple[AppName, int], _Told] = {}
    for each in told:
        if each.mark.what == Moment.GRANTED and each.event.app is not None and app in (None, each.event.app):
            grants.setdefault((each.event.app, each.mark.generation), each)
    found: list[Timeline] = []
    for (name, _), grant in reversed(grants.items()):
        timeline = _Story(told, clocks, name, grant).told() if len(found) < most else None
        if timeline is not None:
            found.append(timeline)
    return found


class _Story:
    """Of one grant, and how the one before it ended."""

    def __init__(self, told: list[_Told], clocks: Clocks, app: AppName, grant: _Told) -> None:
        self._all, self._clocks, self._app, self._grant = told, clocks, app, grant
        self._mine = [each for each in told if each.event.app == app]
        self._elections = [each for each in told if each.mark.what == Moment.ELECTED]

    def told(self) -> Timeline | None:
        ended = self._ended()
        if ended is None or self._by_word(ended):
            return None
        asked = self._asked(ended)
        if ended.mark.detail != Proof.RELEASED:
            kind, cause, points = "failover", f"{ended.mark.node} was lost", list(self._lost(ended))
        else:
            stopped = self._of(Moment.STOPPED, ended.mark.generation)
            why = stopped.mark.detail if stopped is not None else ""
            failed = self._grant.mark.detail == "failover"
            kind = "failover" if failed else "move"
            cause = why or ("it failed" if failed else "asked for" if asked is not None else "it had to leave")
            points = list(self._released(asked, ended, stopped, failed))
        points += self._started()
        return self._timeline(kind, cause, ended.mark.node, points)

    # ---- what belongs to it -----------------------------------------------------------------------------------------

    def _ended(self) -> _Told | None:
        """The end of the newest generation before this one."""
        before = [
            each
            for each in self._mine
            if each.mark.what == Moment.ENDED and each.mark.generation < self._grant.mark.generation
        ]
        newest = max((each.mark.generation for each in before), default=0)
        return self._decided([each for each in before if each.mark.generation == newest])

    def _by_word(self, ended: _Told) -> bool:
        """The operator stopped or started it in between: that is no failover."""
        return any(
            each.mark.what == Moment.WANTED
            and each.mark.detail != "move"
            and ended.moment <= each.moment <= self._grant.moment
            for each in self._mine
        )

    def _asked(self, ended: _Told) -> _Told | None:
        """The operator's wish to move it, while the generation that ended was the live one."""
        since = self._of(Moment.GRANTED, ended.mark.generation)
        wishes = [
            each
            for each in self._mine
            if each.mark.what == Moment.WANTED
            and each.mark.detail == "move"
            and (since is None or each.moment >= since.moment)
            and each.moment <= ended.moment
        ]
        if not wishes:
            return None
        return self._decided([each for each in wishes if each.event.index == wishes[-1].event.index])

    def _of(self, what: Moment, generation: int) -> _Told | None:
        return self._decided([e for e in self._mine if e.mark.what == what and e.mark.generation == generation])

    def _decided(self, words: list[_Told]) -> _Told | None:
        """Of several nodes' word of one decision the master's, who took it; else the first."""
        for each in words:
            before = [election.mark.node for election in self._elections if election.moment <= each.moment]
            if before and before[-1] == each.event.node:
                return each
        return words[0] if words else None

    def _before(self, what: Moment, node: str | None, end: float, after: float = float("-inf")) -> list[_Told]:
        return [
            each
            for each in self._all
            if each.mark.what == what and node in (None, each.mark.node) and after <= each.moment <= end
        ]

    # ---- points -----------------------------------------------------------------------------------------------------

    def _lost(self, ended: _Told) -> Iterator[_Point]:
        """Its node was lost."""
        lost, end = ended.mark.node, self._grant.moment
        granted = self._of(Moment.GRANTED, ended.mark.generation)
        silent = self._before(Moment.SILENT, lost, end, granted.moment if granted is not None else float("-inf"))
        silent = [each for each in silent if each.moment >= silent[-1].moment - VERDICTS]
        heard = [each for each in silent if each.mark.since]
        if heard:
            last = max(heard, key=lambda each: self._clocks.moment(each.event, each.mark.since))
            detail = f"heard by {last.event.node}"
            yield self._point("last sign of life", last, lost, uptime=last.mark.since, detail=detail)
        if silent:
            yield self._point("suspected", silent[0])
            elected = self._before(Moment.ELECTED, None, end, silent[0].moment - VERDICTS)
            elected = [each for each in elected if each.mark.node != lost]
            if elected:
                term = elected[-1].mark.generation
                words = [each for each in elected if each.mark.generation == term]
                first = next((each for each in words if each.event.node == each.mark.node), words[0])
                yield self._point("elected", first, first.mark.node, detail=f"term {term}")
        yield from self._proof(ended, silent[0].moment if silent else float("-inf"))

    def _proof(self, ended: _Told, since: float) -> Iterator[_Point]:
        if ended.mark.detail == Proof.FENCED:
            orders = self._before(Moment.FENCE_ORDERED, ended.mark.node, ended.moment, since)
            if orders:
                number = orders[-1].mark.generation
                first = self._decided([each for each in orders if each.mark.generation == number])
                yield self._point("fence ordered", first or orders[-1], detail=f"order {number}")
            confirmed = self._before(Moment.FENCED, ended.mark.node, ended.moment, since)
            if confirmed:
                number = confirmed[-1].mark.generation
                first = self._decided([each for each in confirmed if each.mark.generation == number])
                yield self._point("fence confirmed", first or confirmed[-1])
        elif ended.mark.detail == Proof.EXPIRED:
            yield self._point("lease expired", ended)
        elif ended.mark.detail == Proof.EXPIRED_WATCHDOG:
            yield self._point("watchdog reset", ended)
        else:
            yield self._point(f"proof: {ended.mark.detail}", ended)

    def _released(self, asked: _Told | None, ended: _Told, stopped: _Told | None, failed: bool) -> Iterator[_Point]:
        if asked is not None:
            yield self._point("asked", asked)
        if stopped is not None:
            name = "failed" if failed else "stop begun"
            yield self._point(name, stopped, uptime=stopped.mark.since, detail=stopped.mark.detail if failed else "")
            for span in sorted(stopped.mark.spans, key=lambda each: each.ended):
                yield self._point(DOWN.get(span.name, span.name), stopped, uptime=span.ended)
        yield self._point("released", ended)

    def _started(self) -> Iterator[_Point]:
        generation = self._grant.mark.generation
        granted = self._of(Moment.GRANTED, generation) or self._grant
        yield self._point("granted", granted, detail=f"grant {generation}")
        started = self._of(Moment.STARTED, generation)
        if started is None:
            return
        yield self._point("start begun", started, uptime=started.mark.since)
        for span in sorted(started.mark.spans, key=lambda each: each.ended):
            yield self._point(UP.get(span.name, span.name), started, uptime=span.ended)
        if started.mark.detail != "monitor":
            has_program = any(span.name == "program" for span in started.mark.spans)
            detail = "its program counts as started" if has_program else "all its steps are up"
            yield self._point("answered", started, detail=detail)
            return
        answered = self._of(Moment.ANSWERED, generation)
        if answered is not None:
            yield self._point("answered", answered, detail=f"first good answer of {answered.mark.detail}'s monitor")

    def _point(self, name: str, told: _Told, node: str = "", uptime: float | None = None, detail: str = "") -> _Point:
        event = told.event
        uptime = event.uptime if uptime is None else uptime
        return _Point(name, node or event.node, self._clocks.moment(event, uptime), event, uptime, detail)

    # ---- the whole --------------------------------------------------------------------------------------------------

    def _timeline(self, kind: str, cause: str, origin: str, points: list[_Point]) -> Timeline:
        """Nothing goes back in time: what clocks that are not well related would put before its cause comes with it."""
        began = reached = points[0].moment
        phases = []
        for point in points:
            moment = max(reached, point.moment)
            phases.append(Phase(point.name, point.node, moment - began, moment - reached, point.detail))
            reached = moment
        relations = {point.event.node: self._clocks.relation(point.event, point.uptime) for point in points}
        widths = sorted(-1.0 if each.uncertainty is None else each.uncertainty for each in relations.values())
        unknown = any(each.uncertainty is None for each in relations.values())
        first = points[0]
        return Timeline(
            self._app,
            kind,
            cause,
            origin,
            self._grant.mark.node,
            self._grant.mark.generation,
            first.event.at - first.event.uptime + first.uptime,
            began,
            reached - began,
            tuple(phases),
            None if unknown else sum(widths[-2:]),
            {node: each.how for node, each in sorted(relations.items())},
            points[-1].name == "answered",
        )
