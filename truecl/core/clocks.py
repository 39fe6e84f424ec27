"""The clocks of different nodes and boots, related to one: to tell what happened on several nodes as one story.

Every event has its node's uptime (CLOCK_BOOTTIME), which begins anew with each boot, and the wall clock. Uptimes are
related by the narrowest of

    asked   a question and its answer between two statds: the answerer's clock was read between the two moments
            (Cristian 1989), and may have run apart by DRIFT since the event;
    log     entries of the replicated log that both noted: they learn of them within about LOG_DELAY of each other;
    wall    their wall clocks, whose error nobody knows.
"""

from bisect import bisect_left
from collections.abc import Iterable

import msgspec

from truecl.model.ids import NodeName
from truecl.model.report import EventRecord
from truecl.wire.messages import ClockReading

DRIFT = 1e-4
"""Seconds a second by which two nodes' clocks run apart: quartz is good for half of it, NTP seldom slews faster."""
LOG_DELAY = 0.01
"""Seconds by which one node may hear of a committed entry later than another, beyond what the entries show."""
BOOT_GAP = 5.0
"""Boots that events do not name are told apart by wall clock minus uptime; a smaller step of the wall clock is none."""
SAME_BOOT = 60.0
"""A reading that the wall clocks contradict by more is of another boot."""
NEAREST = 12
FEWEST = 3
"""Entries of the log to relate two clocks by."""

Boot = tuple[NodeName, str]
"""A node, and which of its boots: as the events name it, or the number of those that they show."""


class Relation(msgspec.Struct, frozen=True):
    """`offset`: to be added to the one clock to read the other; seconds."""

    offset: float
    uncertainty: float | None
    """Seconds either way; None: unknown."""
    how: str
    """same, asked, log or wall."""


SAME = Relation(0.0, 0.0, "same")


class Clocks:
    """Relates all events to one clock: that of who asked the others, or else of the boot with the most events.

    shared -- all nodes have one clock, as on one machine.
    """

    def __init__(
        self, events: Iterable[EventRecord], readings: Iterable[ClockReading] = (), shared: bool = False
    ) -> None:
        noted = [event for event in events if event.at]
        self._shared = shared
        self._epochs = _epochs(noted)
        self._readings = {reading.node: reading for reading in readings}
        self._entries: dict[Boot, dict[tuple[int, str], float]] = {}
        counts: dict[Boot, int] = {}
        for event in noted:
            boot = self.boot(event)
            counts[boot] = counts.get(boot, 0) + 1
            if event.index:
                self._entries.setdefault(boot, {}).setdefault((event.index, event.text), event.uptime)
        self._reference: Boot | None = max(counts, key=lambda boot: counts[boot], default=None)
        for reading in self._readings.values():
            self._reference = self._latest(reading.reader) or self._reference

    def boot(self, event: EventRecord) -> Boot:
        if event.boot:
            return event.node, event.boot
        epoch = event.at - event.uptime
        unnamed = (boot for boot in self._epochs if boot[0] == event.node and boot[1].isdecimal())
        return min(unnamed, key=lambda boot: abs(self._epochs[boot][0][1] - epoch))

    def moment(self, event: EventRecord, uptime: float | None = None) -> float:
        """Of the event, or of another uptime of its node in the same boot, by the one clock."""
        uptime = event.uptime if uptime is None else uptime
        return uptime + self.relation(event, uptime).offset

    def relation(self, event: EventRecord, uptime: float) -> Relation:
        boot, reference = self.boot(event), self._reference
        if self._shared or reference is None or boot == reference:
            return SAME
        wall = event.at - event.uptime - self._epoch(reference, event.at)
        known = [self._asked(boot, uptime, wall), self._by_log(boot, reference, uptime)]
        best = [each for each in known if each is not None and each.uncertainty is not None]
        return min(best, key=lambda each: each.uncertainty or 0.0, default=Relation(wall, None, "wall"))

    def _latest(self, node: NodeName) -> Boot | None:
        boots = [boot for boot in self._epochs if boot[0] == node]
        return max(boots, key=lambda boot: self._epochs[boot][-1][1], default=None)

    def _epoch(self, boot: Boot, at: float) -> float:
        """As its wall clock had it when it showed about `at`: somebody may have set it, before or since."""
        known = self._epochs[boot]
        place = bisect_left(known, (at,))
        return min(known[max(0, place - 1) : place + 1], key=lambda each: abs(each[0] - at))[1]

    def _asked(self, boot: Boot, uptime: float, wall: float) -> Relation | None:
        reading = self._readings.get(boot[0])
        if reading is None or boot != self._latest(boot[0]):
            return None
        offset = (reading.asked + reading.heard) / 2 - reading.said
        if abs(offset - wall) > SAME_BOOT:
            return None
        half = (reading.heard - reading.asked) / 2
        return Relation(offset, half + DRIFT * abs(reading.said - uptime), "asked")

    def _by_log(self, boot: Boot, reference: Boot, uptime: float) -> Relation | None:
        """The middle half of the differences of the nearest entries: one that was away learns of the rest late."""
        mine, others = self._entries.get(boot, {}), self._entries.get(reference, {})
        near = sorted((abs(at - uptime), others[entry] - at) for entry, at in mine.items() if entry in others)
        differences = sorted(difference for _, difference in near[:NEAREST])
        if len(differences) < FEWEST:
            return None
        trimmed = differences[len(differences) // 4 : len(differences) - len(differences) // 4]
        return Relation(differences[len(differences) // 2], (trimmed[-1] - trimmed[0]) / 2 + LOG_DELAY, "log")


def _epochs(events: Iterable[EventRecord]) -> dict[Boot, list[tuple[float, float]]]:
    """Of each boot: what its wall clock showed, and what that makes of the moment at which the boot began; in order."""
    found: dict[Boot, list[tuple[float, float]]] = {}
    unnamed: dict[NodeName, list[str]] = {}
    for event in sorted(events, key=lambda each: each.at - each.uptime):
        epoch, boot = event.at - event.uptime, event.boot
        if not boot:
            known = unnamed.setdefault(event.node, [])
            if not known or epoch - found[event.node, known[-1]][0][1] > BOOT_GAP:
                known.append(str(len(known)))
            boot = known[-1]
        found.setdefault((event.node, boot), []).append((event.at, epoch))
    return {boot: sorted(shown) for boot, shown in found.items()}
