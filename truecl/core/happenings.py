"""What there is to tell: differences between two states as events for the history, and the histories of nodes as one.

Every node notes what it saw, so that a history outlives any node. What follows from the replicated log carries the log
index it follows from: the same decision, noted by all, is told once when histories are merged.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from truecl.core.instance import InstanceMachine
from truecl.model.ids import HBD, LOCKD, REQD, AppName, NodeName
from truecl.model.ledger import AppState, Fence, Ledger, Presence, Verified, Wanted
from truecl.model.mirror import CopyState, Mirror
from truecl.model.report import EventRecord, Mark, Moment, Phase, Severity
from truecl.model.step import Instance
from truecl.wire.messages import Leadership, LinkView, NodeView, View

MAX_TEXT = 400
"""Characters of an event's text; the rest is cut."""
SAME_MOMENT = 2.0
"""Seconds within which two nodes' word of the same thing counts as one event."""


@dataclass(frozen=True, slots=True)
class Happening:
    daemon: str
    severity: Severity
    text: str
    app: AppName | None = None
    index: int = 0
    """Log index that it follows from, 0: none."""
    mark: Mark | None = None

    def noted(self, node: NodeName, now: float) -> EventRecord:
        """By `node`; the wall clock is for statd's disk to add."""
        return EventRecord(
            0.0, now, node, self.daemon, self.severity, clipped(self.text), self.app, self.index, self.mark
        )


def clipped(text: str) -> str:
    """One line of at most MAX_TEXT characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


# ---- the membership view ------------------------------------------------------------------------------------------


def in_view(old: View, new: View) -> Iterator[Happening]:
    """Nodes that came and went, and links between nodes that stayed."""
    before = {node.node: node for node in old.nodes}
    for node in new.nodes:
        past = before.get(node.node)
        was_alive = past is not None and past.alive
        if node.twin and not (past is not None and past.twin):
            text = (
                f"a second machine says that it is node {node.node} (a copy?), and is refused: take it off the network"
            )
            yield Happening(HBD, Severity.ERROR, text)
        if node.alive and not was_alive:
            yield Happening(HBD, Severity.LOG, f"node {node.node} is up")
        elif was_alive and not node.alive:
            if node.left:
                yield Happening(HBD, Severity.LOG, f"node {node.node} left in good order")
            else:
                silent = Mark(Moment.SILENT, node.node, since=node.heard)
                yield Happening(HBD, Severity.WARN, f"node {node.node} is down", mark=silent)
        elif past is not None and node.alive:
            if past.boot is not None and node.boot is not None and past.boot != node.boot:
                yield Happening(HBD, Severity.WARN, f"node {node.node} rebooted")
            yield from _in_links(node, past.links)


def _in_links(node: NodeView, past: tuple[LinkView, ...]) -> Iterator[Happening]:
    before = {link.name: link.up for link in past}
    for link in node.links:
        if link.up and before.get(link.name) is False:
            yield Happening(HBD, Severity.LOG, f"link {link.name} to {node.node} is up")
        elif before.get(link.name) and not link.up:
            yield Happening(HBD, Severity.WARN, f"link {link.name} to {node.node} is down")


# ---- the log ------------------------------------------------------------------------------------------------------


def in_leadership(old: Leadership | None, new: Leadership) -> Iterator[Happening]:
    leader = old.leader if old is not None else None
    if new.leader is not None and (leader != new.leader or (old is not None and old.term != new.term)):
        elected = Mark(Moment.ELECTED, new.leader, int(new.term))
        yield Happening(LOCKD, Severity.LOG, f"{new.leader} is the master (term {new.term})", mark=elected)
    elif new.leader is None and leader is not None:
        yield Happening(LOCKD, Severity.WARN, f"no master any more (it was {leader})")


def in_ledger(old: Ledger, new: Ledger) -> Iterator[Happening]:
    """What was decided between two states of the ledger."""
    if new.index <= old.index:
        return
    for app, state in new.apps.items():
        yield from _in_app(app, old.apps.get(app, AppState()), state, new.index)
    yield from _in_fences(old.fences, new.fences)
    yield from _in_mirrors(old.mirrors, new.mirrors)
    for app, verified in new.verified.items():
        if verified != old.verified.get(app):
            yield _compared(app, verified)
    for app, build in new.builds.items():
        if build != old.builds.get(app):
            text = f"application '{app}' is validated on {', '.join(build.nodes)}"
            yield Happening(LOCKD, Severity.LOG, text, app, new.index)
    for app in old.builds:
        if app not in new.builds:
            text = f"application '{app}' is not validated any more: lha_buildapp found it not ready"
            yield Happening(LOCKD, Severity.WARN, text, app, new.index)
    yield from _in_nodes(old, new)
    if new.digest not in ("", old.digest):
        yield Happening(LOCKD, Severity.LOG, f"configuration {new.digest[:8]} is in force", None, new.index)


def _in_app(app: AppName, old: AppState, new: AppState, index: int) -> Iterator[Happening]:
    if new.wanted != old.wanted:
        where = f" on {new.preferred}" if new.preferred and new.wanted is Wanted.RUNNING else ""
        mark = Mark(Moment.WANTED, new.preferred or "", detail="start" if new.wanted is Wanted.RUNNING else "stop")
        text = f"application '{app}' is to be {new.wanted.value}{where}"
        yield Happening(LOCKD, Severity.LOG, text, app, index, mark)
    elif new.preferred is not None and (new.preferred != old.preferred or (new.move and not old.move)):
        mark = Mark(Moment.WANTED, new.preferred, detail="move" if new.move else "start")
        yield Happening(LOCKD, Severity.LOG, f"application '{app}' is to run on {new.preferred}", app, index, mark)
    ended = new.ended
    if ended is not None and (old.ended is None or old.ended.generation != ended.generation):
        why = f" ({ended.reason})" if ended.reason else ""
        severity = Severity.LOG if ended.proof == "released" else Severity.WARN
        text = f"grant {ended.generation} of application '{app}' to {ended.node} ended, proof: {ended.proof.value}{why}"
        mark = Mark(Moment.ENDED, ended.node, int(ended.generation), detail=ended.proof.value)
        yield Happening(LOCKD, severity, text, app, int(ended.generation), mark)
    known = [failure.generation for failure in old.failures]
    for failure in new.failures:
        if failure.generation not in known:
            text = f"application '{app}' failed on {failure.node}: {failure.reason}"
            mark = Mark(Moment.FAILED, failure.node, int(failure.generation))
            yield Happening(LOCKD, Severity.WARN, text, app, int(failure.generation), mark)
    grant = new.grant
    if grant is not None and (old.grant is None or old.grant.generation != grant.generation):
        again = new.failovers > old.failovers
        how = "failed over" if again else "granted for lha_buildapp" if grant.build else "granted"
        text = f"application '{app}' {how} to {grant.node} (grant {grant.generation})"
        mark = Mark(Moment.GRANTED, grant.node, int(grant.generation), detail="failover" if again else "")
        yield Happening(LOCKD, Severity.LOG, text, app, int(grant.generation), mark)


def _in_nodes(old: Ledger, new: Ledger) -> Iterator[Happening]:
    for node in sorted({*old.standby, *new.standby}):
        past, standby = old.standby.get(node), new.standby.get(node)
        if standby is not None and past != standby:
            kept = ", with what runs there" if standby.keep else ""
            text = f"node {node} is set aside by {standby.operator}{kept}"
            yield Happening(LOCKD, Severity.LOG, text, None, new.index)
        elif standby is None:
            yield Happening(LOCKD, Severity.LOG, f"node {node} may run applications again", None, new.index)
    for node, losses in new.losses.items():
        if losses != old.losses.get(node) and losses.presence is Presence.HELD:
            text = f"node {node} was lost {losses.count} times: it is back, and gets nothing new for a while"
            yield Happening(LOCKD, Severity.WARN, text, None, new.index)
    for node in old.losses:
        if node not in new.losses:
            yield Happening(LOCKD, Severity.LOG, f"the losses of node {node} are forgotten", None, new.index)
    if new.level != old.level:
        yield Happening(LOCKD, Severity.LOG, f"the log is at level {new.level}, all nodes know it", None, new.index)


def _in_fences(old: Mapping[NodeName, Fence], new: Mapping[NodeName, Fence]) -> Iterator[Happening]:
    for node, fence in new.items():
        past = old.get(node)
        if past is None or past.index != fence.index:
            text = f"node {node} is to be switched off (fence order {fence.index})"
            mark = Mark(Moment.FENCE_ORDERED, node, int(fence.index))
            yield Happening(LOCKD, Severity.WARN, text, None, int(fence.index), mark)
            past = None
        if fence.confirmed and (past is None or not past.confirmed):
            by = f"{fence.vouched}, who vouches for it" if fence.vouched else "its fence device"
            text = f"node {node} is off, confirmed by {by} (order {fence.index})"
            mark = Mark(Moment.FENCED, node, int(fence.index))
            yield Happening(LOCKD, Severity.WARN, text, None, int(fence.index), mark)
    for node, fence in old.items():
        if node not in new:
            text = f"fence order {fence.index} of node {node} is over"
            yield Happening(LOCKD, Severity.LOG, text, None, int(fence.index))


def _in_mirrors(old: Mapping[AppName, Mirror], new: Mapping[AppName, Mirror]) -> Iterator[Happening]:
    for app, mirror in new.items():
        past = old[app].copies if app in old else {}
        for node, copy in mirror.copies.items():
            if node not in past or past[node].state is not copy.state:
                severity = Severity.WARN if node in past and copy.state is not CopyState.CURRENT else Severity.LOG
                text = f"the copy of application '{app}' on {node} is {copy.state.value}"
                yield Happening(LOCKD, severity, text, app, int(copy.index))


def _compared(app: AppName, verified: Verified) -> Happening:
    text = f"the copies of application '{app}' were compared on {verified.node}"
    if not verified.differing:
        return Happening(LOCKD, Severity.LOG, f"{text}: they are equal", app, int(verified.index))
    found = ", ".join(f"{size} bytes of volume {name}" for name, size in verified.differing.items())
    text = f"{text}: {found} differ; lha_buildapp -A {app} --resync"
    return Happening(LOCKD, Severity.WARN, text, app, int(verified.index))


# ---- instances -----------------------------------------------------------------------------------------------------


def in_instance(node: NodeName, machine: InstanceMachine) -> Happening | None:
    """One event for a whole start or stop, with the times of its steps; None where it was only taken over."""
    if not machine.since or machine.phase not in (Phase.RUNNING, Phase.CLOSED):
        return None
    app, generation, spans = machine.config.name, int(machine.generation), tuple(machine.spans.values())
    steps = ", ".join(f"{span.name} {(span.ended - span.began) * 1000:.0f} ms" for span in spans) or "no steps"
    if machine.build:
        word = "has looked at" if machine.phase is Phase.RUNNING else "has done with"
        text = f"lha_buildapp {word} the file systems of application '{app}' on {node} ({steps})"
        return Happening(REQD, Severity.LOG, text, app)
    if machine.phase is Phase.RUNNING:
        monitored = any(program.monitor is not None for program in machine.config.programs)
        mark = Mark(Moment.STARTED, node, generation, machine.since, spans, "monitor" if monitored else "")
        return Happening(REQD, Severity.LOG, f"application '{app}' runs on {node} ({steps})", app, mark=mark)
    mark = Mark(Moment.STOPPED, node, generation, machine.since, spans, clipped(machine.reason))
    return Happening(REQD, Severity.LOG, f"application '{app}' is stopped on {node} ({steps})", app, mark=mark)


def in_answer(instance: Instance, step: str, node: NodeName) -> Happening:
    mark = Mark(Moment.ANSWERED, node, int(instance.generation), detail=step)
    text = f"application '{instance.app}': the monitor of {step} says that it is well"
    return Happening(REQD, Severity.LOG, text, instance.app, mark=mark)


# ---- histories of several nodes as one ----------------------------------------------------------------------------


class Sieve:
    """Lets the first word of each event through. Holds at most `limit` of the latest."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._decided: dict[tuple[int, str], None] = {}
        self._seen: dict[tuple[str, str, AppName | None], tuple[NodeName, float]] = {}

    def lets(self, event: EventRecord) -> bool:
        """False when another node told the same: of one log index ever, of anything else within SAME_MOMENT."""
        if event.index:
            decided = (event.index, event.text)
            if decided in self._decided:
                return False
            self._decided[decided] = None
            if len(self._decided) > self._limit:
                del self._decided[next(iter(self._decided))]
            return True
        key = (event.daemon, event.text, event.app)
        past = self._seen.pop(key, None)
        if past is not None and past[0] != event.node and abs(event.at - past[1]) <= SAME_MOMENT:
            self._seen[key] = past
            return False
        self._seen[key] = (event.node, event.at)
        if len(self._seen) > self._limit:
            del self._seen[next(iter(self._seen))]
        return True


def in_order(events: Iterable[EventRecord]) -> list[EventRecord]:
    """By wall clock; ties by node and its own clock, then as they were noted."""
    return sorted(events, key=lambda event: (event.at, event.node, event.uptime))


def merged(histories: Iterable[Iterable[EventRecord]], limit: int) -> list[EventRecord]:
    """The latest `limit` events of all, oldest first, each once."""
    sieve = Sieve()
    events = [event for event in in_order(each for history in histories for each in history) if sieve.lets(event)]
    return events[-limit:] if limit > 0 else []


def fitting(events: Iterable[EventRecord], budget: int) -> tuple[EventRecord, ...]:
    """The latest that fit into about `budget` bytes of one message, oldest first."""
    kept: list[EventRecord] = []
    for event in reversed(list(events)):
        marked = 0 if event.mark is None else 100 + 60 * len(event.mark.spans) + 3 * len(event.mark.detail)
        budget -= 80 + 3 * len(event.text) + marked
        if budget < 0:
            break
        kept.append(event)
    return tuple(reversed(kept))
