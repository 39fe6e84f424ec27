"""Breadth-first search through every state that a small world can get into, with the moves as a trace."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

S = TypeVar("S", bound=Hashable)


def search(
    first: S, moves: Callable[[S], Iterable[tuple[str, S]]], wrong: Callable[[S], bool], limit: int = 400_000
) -> tuple[int, list[str] | None]:
    """How many states there are, and the shortest way into a wrong one (None: there is none).

    Raises AssertionError where there are more than `limit`: then nothing is proven.
    """
    came: dict[S, tuple[S, str] | None] = {first: None}
    todo = deque([first])
    while todo:
        state = todo.popleft()
        if wrong(state):
            return len(came), _way(came, state)
        for name, after in moves(state):
            if after not in came:
                came[after] = (state, name)
                todo.append(after)
        assert len(came) <= limit, "too many states"
    print(f"{len(came):,} states, none of them wrong")
    return len(came), None


def _way(came: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    names = []
    step = came[state]
    while step is not None:
        state, name = step
        names.append(name)
        step = came[state]
    return names[::-1]


def stuck(
    first: S,
    moves: Callable[[S], Iterable[tuple[str, S]]],
    good: Callable[[S], bool],
    edge: Callable[[S], bool],
    limit: int = 400_000,
) -> tuple[int, list[str] | None]:
    """How many states there are, and the shortest way into one that no good one can be reached from (None: there is
    none). `edge`: whether the search's own bounds leave a state too little room to say anything of it.

    Raises AssertionError where there are more than `limit`.
    """
    came: dict[S, tuple[S, str] | None] = {first: None}
    before: dict[S, list[S]] = {}
    for state in (todo := [first]):  # it grows while it is read
        for name, after in moves(state):
            before.setdefault(after, []).append(state)
            if after not in came:
                came[after] = (state, name)
                todo.append(after)
        assert len(came) <= limit, "too many states"
    hopeful = {state for state in came if good(state)}
    for state in (reached := list(hopeful)):
        for earlier in before.get(state, ()):
            if earlier not in hopeful:
                hopeful.add(earlier)
                reached.append(earlier)
    lost = next((state for state in came if state not in hopeful and not edge(state)), None)
    if lost is None:
        print(f"{len(came):,} states, none of them stuck")
    return len(came), _way(came, lost) if lost is not None else None
