"""The states of a real core in a search. A core is not hashable, and not all of it can be copied; so a state is told by
its picture, and made again by living through what first led there.

The picture must hold everything that the core's future depends on. What it leaves out (absolute times, numbers of
requests) may differ between two cores of one picture, and no more than that.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec

C = TypeVar("C")
A = TypeVar("A", bound=Hashable)
P = TypeVar("P", bound=Hashable)
R = TypeVar("R", bound=Hashable)


class Lives(Generic[C, A, P, R]):
    """`live` does one act to the core and returns what came out of it; the same act on the same core always does the
    same."""

    def __init__(self, born: Callable[[], C], live: Callable[[C, A], R], picture: Callable[[C], P]) -> None:
        self._born, self._live, self._picture = born, live, picture
        self.first = picture(born())
        self._pasts: dict[P, tuple[A, ...]] = {self.first: ()}
        self._after: dict[tuple[P, A], tuple[P, R]] = {}

    def after(self, state: P, act: A) -> tuple[P, R]:
        """The state that the act leads to, and what came out of it."""
        known = self._after.get((state, act))
        if known is None:
            known = self._after[state, act] = self._once_more(state, act)
        return known

    def _once_more(self, state: P, act: A) -> tuple[P, R]:
        core, past = self._born(), self._pasts[state]
        for each in past:
            self._live(core, each)
        outcome = self._live(core, act)
        after = self._picture(core)
        self._pasts.setdefault(after, (*past, act))
        return after, outcome


_NUMBERS: dict[Hashable, int] = {}


def picture_of(thing: object, left_out: frozenset[str] = frozenset()) -> int:
    """A number for everything that hangs on it, but for the attributes `left_out`: equal where all that is equal."""
    return _NUMBERS.setdefault(_spread(thing, left_out), len(_NUMBERS))


def _spread(thing: object, left_out: frozenset[str]) -> Hashable:
    if thing is None or isinstance(thing, (str, bytes, int, float)):
        return thing
    if isinstance(thing, dict):
        return tuple((_spread(key, left_out), _spread(value, left_out)) for key, value in thing.items())
    if isinstance(thing, (list, tuple, deque)):
        return tuple(_spread(each, left_out) for each in thing)
    if isinstance(thing, msgspec.Struct):
        return msgspec.msgpack.encode(thing)
    names = vars(thing) if hasattr(thing, "__dict__") else thing.__slots__  # type: ignore[attr-defined]
    kept = [name for name in names if name not in left_out]
    return (type(thing).__name__, *(_spread(getattr(thing, name), left_out) for name in kept))
