"""Simulated time: one heap of things to come, ordered by (time, sequence), so that one seed has one history."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

MOMENT = 10_000
"""Calls at the same time: more than any world has."""


class Schedule:
    """Calls things at their simulated time. `now` is seconds of true time, which no node can read."""

    __slots__ = ("_heap", "_sequence", "count", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0
        """How many things were called so far."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at true time `when`, at once if that is over; equal times keep the order of asking."""
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (when if when > self.now else self.now, sequence, call, arguments))

    def after(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (self.now + delay, sequence, call, arguments))

    def step(self) -> bool:
        """Call the next thing. False: nothing is left."""
        if not self._heap:
            return False
        when, _, call, arguments = heappop(self._heap)
        self.now = when
        self.count += 1
        call(*arguments)
        return True

    def run(self, until: float, limit: int = 300_000, stop: Callable[[], bool] | None = None) -> bool:
        """Call everything up to true time `until`. True: `stop` said so before. Raises Runaway after `limit` calls, or
        `MOMENT` of them while time stands still."""
        heap = self._heap
        left, moment = limit, MOMENT
        while heap and heap[0][0] <= until:
            when, _, call, arguments = heappop(heap)
            moment = MOMENT if when > self.now else moment - 1
            if moment <= 0:
                raise Runaway(f"{MOMENT} events at {when:.3f} s: something wakes for what is over")
            self.now = when
            self.count += 1
            call(*arguments)
            left -= 1
            if left <= 0:
                raise Runaway(f"{limit} events before {until:.3f} s: something feeds on itself")
            if stop is not None and stop():
                return True
        self.now = max(self.now, until)
        return False


class Runaway(Exception):
    """The simulated world makes events faster than time passes."""
