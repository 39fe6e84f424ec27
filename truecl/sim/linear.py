"""Linearizability: whether one order of all calls, each at a moment between its begin and end, explains every answer.

The search of Wing and Gong (1993), with Lowe's memory of the configurations that were tried ("Testing for
linearizability", 2017, section 3), one object at a time (Horn and Kroening 2015, P-compositionality). Two kinds of
object are known here: what has one owner at a time, by a token (a lock of the ledger, the grant of an application), and
what operators want of an application, as the answers to their commands tell.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)
MAX_CONFIGURATIONS = 1_000_000
"""Where a search needs more, nothing is known: it raises Undecided."""


@dataclass(frozen=True, slots=True)
class Call:
    """`answer` None: none was heard, so it took effect at some time from `began` to `ended`, or never."""

    who: str
    object: str
    verb: str
    argument: Hashable
    began: float
    ended: float = inf
    answer: Hashable = None

    def __str__(self) -> str:
        until = f"{self.ended:.6f}" if self.answer is not None else "?"
        return f"{self.began:.6f}..{until} {self.who}: {self.verb}({self.argument}) -> {self.answer}"


@dataclass(frozen=True, slots=True)
class Model(Generic[S]):
    """A sequential object. `after`: the state that a call leads to from a state; None: it could not answer so there."""

    first: S
    after: Callable[[S, Call], S | None]


class Undecided(Exception):
    """Too many calls without an answer, or at the same time, to find out."""


def unexplained(calls: Iterable[Call], model: Model[S]) -> list[Call] | None:
    """The calls on the first object whose history no order explains, by their begin; None: all are explained.

    Raises Undecided.
    """
    by_object: dict[str, list[Call]] = {}
    for call in calls:
        by_object.setdefault(call.object, []).append(call)
    for name in sorted(by_object):
        history = sorted(by_object[name], key=lambda call: (call.began, call.ended))
        if not _explained(history, model):
            return history
    return None


def _explained(history: Sequence[Call], model: Model[S]) -> bool:
    """Depth first over (calls that took effect, state). Next may be what began before all that is left ended."""
    answered = sum([1 << place for place, call in enumerate(history) if call.answer is not None])
    ends = [call.ended if call.answer is not None else inf for call in history]
    tried: set[tuple[int, S]] = set()
    todo = [(0, model.first)]
    while todo:
        done, state = todo.pop()
        if done & answered == answered:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        if len(tried) > MAX_CONFIGURATIONS:
            raise Undecided(f"{len(history)} calls on {history[0].object}")
        for place in _possible(history, ends, done):
            following = model.after(state, history[place])
            if following is None or (following == state and history[place].answer is None):
                continue  # what has no answer and changes nothing may as well not have been
            todo.append((done | 1 << place, following))
    return False


def _possible(history: Sequence[Call], ends: Sequence[float], done: int) -> list[int]:
    """The places of the calls that may take effect next."""
    first_end = min([end for place, end in enumerate(ends) if not done >> place & 1], default=inf)
    last_begin = history[done.bit_length() - 1].began if done else -inf  # of those that took effect
    found = []
    for place, call in enumerate(history):
        if call.began > first_end:
            break
        if not done >> place & 1 and call.ended >= last_begin:
            found.append(place)
    return found


def retried(call: Call) -> Call:
    """What a call may have done besides, whose executor was replaced and began again: idempotent, so at least once."""
    return Call(call.who, call.object, call.verb, call.argument, call.began, call.ended)


# ---- a lock, or the grant of an application --------------------------------------------------------------------------
# take(who, after, index) -> its token, REFUSED; free(token) -> OVER, REFUSED; see() -> (who, token)

REFUSED = 0
OVER = "over"
Owned = tuple[str, int, bool]
"""Who has it ('': nobody); his token, or that of the last one; False: it is not known yet, only above that."""


def _owned_after(state: Owned, call: Call) -> Owned | None:
    """A token is the index in the log that gave it, where that is known (else None); `after`, where it is not None, is
    the last token that there may have been. What is refused changes nothing: there may be other reasons for that."""
    if call.answer == REFUSED:
        return state
    otherwise = state if call.answer is None else None
    owner, token, known = state
    match call.verb, call.argument:
        case "take", (str(whose), after, index):
            if owner or after not in (None, token):
                return otherwise
            if call.answer not in (None, index):
                return None
            if not isinstance(index, int):
                return whose, token, False
            return (whose, index, True) if index > token else otherwise
        case "free", int(which):
            if owner and (which == token if known else which > token):
                return "", which, True
            return state if which <= token else otherwise
        case _:
            assert isinstance(call.answer, tuple)
            return _owned_seen(state, *call.answer)


def _owned_seen(state: Owned, whose: str, which: int | None) -> Owned | None:
    """`which` is None where nobody has it and the last token is not told."""
    owner, token, known = state
    if whose != owner:
        return None
    if known:
        return state if which in (None, token) else None
    return (owner, which, True) if which is not None and which > token else None


OWNED: Model[Owned] = Model(("", 0, True), _owned_after)

# ---- an application's wish: start, stop and move, and what their answers tell of it ----------------------------------


class Said:
    """What an answer tells. WISHED: it wrote its wish. RUNNING, STOPPED: it was so already. NOTHING: nothing at all."""

    WISHED, RUNNING, STOPPED, NOTHING = "wished", "running", "stopped", "nothing"


_WORDS = (
    ("nothing to stop", Said.STOPPED),
    ("is running on", Said.RUNNING),
    ("; to move it: ", Said.RUNNING),
    ("successfully", Said.WISHED),
    ("somebody st", Said.WISHED),
    ("could not be started", Said.WISHED),
    ("could not run on", Said.WISHED),
    ("cannot be stopped", Said.WISHED),
)


def said(text: str) -> str:
    """What the last words of lha_startapp, lha_stopapp or lha_moveapp tell of the application."""
    return next((meaning for words, meaning in _WORDS if words in text), Said.NOTHING)


def _wish_after(state: str, call: Call) -> str | None:
    wished = Said.STOPPED if call.verb == "stop" else Said.RUNNING
    if call.answer is None:
        return wished
    if call.answer == Said.NOTHING:
        return state
    if call.answer == Said.WISHED:
        return wished
    return state if call.answer == state else None


WISH: Model[str] = Model(Said.STOPPED, _wish_after)
