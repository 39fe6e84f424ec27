"""How many steps are begun at a time: twenty programs started at once keep reqd from its lease, and everything waits.

A start begins while fewer than `limit` steps are under way and no stop waits; a stop waits for other stops alone. What
is under way for longer than `SLOW` waits for a device or a program rather than for this machine, and is no longer
counted: an hour's file system check holds up nobody. Among those that wait the oldest grant is first (the generation is
the log's index), so an instance that was begun is finished before the next one.

The guard's way down, the end of an earlier life's tools and probes never wait.
"""

from collections.abc import Callable

from truecl.core.outbox import Outbox
from truecl.model.actions import Action, StepDown, StepUp

LIMIT = 4
SLOW = 0.25
"""Seconds."""

_Step = StepUp | StepDown


class Turns:
    """`began` hears of each step that had to wait, and for how many seconds it did."""

    def __init__(self, out: Outbox, began: Callable[[_Step, float], None]) -> None:
        self.limit = LIMIT
        self._out = out
        self._began = began
        self._waiting: dict[int, tuple[_Step, float]] = {}
        """Action id to the step and since when it waits."""
        self._under_way: dict[int, tuple[_Step, float]] = {}

    @property
    def wake_at(self) -> float | None:
        """When one that is under way is no longer counted."""
        if not self._waiting:
            return None
        return min((began + SLOW for _, began in self._under_way.values()), default=None)

    def ask(self, action: Action, now: float) -> int:
        """Put it out, now or in its turn. The id that its `Done` will carry."""
        number = self._out.number()
        if isinstance(action, StepUp) or (isinstance(action, StepDown) and not action.force):
            self._waiting[number] = (action, now)
            self.wake(now)
        else:
            self._out.do(action, number)
        return number

    def withdraw(self, number: int) -> bool:
        """Forget one that has not begun; False if it has. It will not be answered."""
        return self._waiting.pop(number, None) is not None

    def done(self, number: int, now: float) -> None:
        if self._under_way.pop(number, None) is not None:
            self.wake(now)

    def wake(self, now: float) -> None:
        self._under_way = {number: each for number, each in self._under_way.items() if now < each[1] + SLOW}
        for number in sorted(self._waiting, key=self._place):
            step, since = self._waiting[number]
            counted = [each for each, _ in self._under_way.values() if isinstance(each, StepDown | type(step))]
            if len(counted) >= self.limit:
                return
            del self._waiting[number]
            self._under_way[number] = (step, now)
            if now > since:
                self._began(step, now - since)
            self._out.do(step, number)

    def _place(self, number: int) -> tuple[bool, int, int]:
        step, _ = self._waiting[number]
        return isinstance(step, StepUp), step.instance.generation, number
