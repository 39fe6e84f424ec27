"""The check of linearizability against a dumb twin, on histories that are known, and on those of simulated worlds."""

from itertools import permutations
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from truecl.core import ledger as ledgers
from truecl.core.clusterd import Clusterd
from truecl.core.lockd import Lockd
from truecl.core.operation import Operation, Stage
from truecl.model.ids import CLUSTERD, LOCKD, Generation, Index, Term
from truecl.model.ledger import AnyCommand, Batch, Ledger
from truecl.sim.linear import OWNED, REFUSED, WISH, Call, Said, retried, said, unexplained
from truecl.sim.mutants.build import instead
from truecl.sim.runner import run


def take(who: str, index: int | None, began: float, answer: int | None) -> Call:
    ended = began + 1 if answer is not None else inf
    return Call(who, "lock", "take", (who, None, index), began, ended, answer)


def free(token: int, began: float) -> Call:
    return Call("x", "lock", "free", token, began)


def see(began: float, who: str, token: int | None) -> Call:
    return Call("x", "lock", "see", "", began, began + 1, (who, token))


def wish(verb: str, began: float, ended: float, answer: str | None) -> Call:
    return Call("op", "web", verb, "", began, ended, answer)


TAKEN, LOST = take("a", 5, 0, 5), take("a", None, 0, None)


@pytest.mark.parametrize(
    "calls",
    [
        [TAKEN, take("b", 7, 2, REFUSED), see(2, "a", 5)],
        [TAKEN, free(5, 1.5), take("b", 7, 2, 7)],
        [TAKEN, free(5, 1.5), see(2, "", None)],
        [TAKEN, free(5, 0.5), see(0.5, "", None), see(0.5, "a", 5)],
        [LOST, take("b", 3, 5, 3)],  # what nobody answered may have happened or not
        [LOST, see(5, "a", 3)],
        [LOST, see(1, "a", 5), free(5, 3), take("c", 7, 4, 7)],
        [take("a", 4, 0, None), see(1, "a", 4)],
    ],
)
def test_locks_that_have_an_order(calls: list[Call]) -> None:
    assert unexplained(calls, OWNED) is None


@pytest.mark.parametrize(
    "calls",
    [
        [TAKEN, take("b", 7, 2, 7)],
        [TAKEN, free(4, 1.5), take("b", 7, 2, 7)],
        [TAKEN, free(5, 1.5), take("b", 4, 2, 4)],  # tokens only rise
        [TAKEN, see(2, "", None)],
        [TAKEN, free(5, 4), see(2, "", None)],  # against real time
        [LOST, see(1, "a", 5), see(3, "a", 6)],  # a token is learnt from the first answer that tells it
        [LOST, see(1, "a", 5), free(5, 3), take("c", 5, 4, 5)],
        [LOST, free(5, 1), take("c", 5, 2, 5), see(4, "a", 5)],
        [take("a", 4, 0, None), see(1, "a", 5)],
    ],
)
def test_locks_that_have_none(calls: list[Call]) -> None:
    assert unexplained(calls, OWNED) is not None


def test_an_operator_is_not_told_what_is_not_so() -> None:
    started, idle = wish("start", 0, 1, Said.WISHED), wish("stop", 2, 3, Said.STOPPED)
    assert unexplained([started, idle], WISH) is not None
    assert unexplained([started, idle, wish("stop", 0.5, 1.5, Said.WISHED)], WISH) is None
    assert unexplained([started, idle, wish("stop", 0, inf, None)], WISH) is None


def test_what_began_again_may_have_happened_twice_but_not_after_its_end() -> None:
    stop = wish("stop", 0, 2, Said.STOPPED)
    before = wish("start", -2, -1, Said.WISHED)
    assert unexplained([before, stop], WISH) is not None
    assert unexplained([before, stop, retried(stop)], WISH) is None
    late = [wish("start", 3, 4, Said.WISHED), wish("stop", 5, 6, Said.STOPPED)]
    assert unexplained([before, stop, retried(stop), *late], WISH) is not None


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Application 'a' is not running: nothing to stop.", Said.STOPPED),
        ("Application 'a' is running on 'n1' already.", Said.RUNNING),
        ("Application Started successfully [RC=0].", Said.WISHED),
        ("somebody stopped 'a' again", Said.WISHED),
        ("unknown application 'b'; configured: a", Said.NOTHING),
    ],
)
def test_words(text: str, meaning: str) -> None:
    assert said(text) == meaning


def _by_trying_all(history: list[Call]) -> bool:
    for order in permutations(history):
        if any(later.ended < call.began for place, call in enumerate(order) for later in order[place + 1 :]):
            continue
        state: str | None = WISH.first
        for call in order:
            state = WISH.after(state, call) if state is not None else None
        if state is not None:
            return True
    return False


@given(
    st.lists(
        st.builds(
            lambda verb, began, length, answer: wish(verb, began, began + length, answer),
            st.sampled_from(("start", "stop")),
            st.integers(0, 6),
            st.integers(0, 4),
            st.sampled_from((Said.WISHED, Said.RUNNING, Said.STOPPED, Said.NOTHING)),
        ),
        max_size=5,
    )
)
def test_it_finds_what_trying_all_orders_finds(history: list[Call]) -> None:
    assert (unexplained(history, WISH) is None) == _by_trying_all(history)


class _Hasty(Operation):
    """Says what is so before it has the lock, whatever is so."""

    def step(self, *seen: Any, **more: Any) -> AnyCommand | None:
        if self.request.verb == "stop" and self.stage is Stage.LOCK:
            self.end(0, f"Application '{self.request.app}' is not running: nothing to stop.")
        return super().step(*seen, **more)


def test_a_master_that_answers_without_looking_is_seen() -> None:
    class Hasty(Clusterd):
        def _decide(self, now: float) -> None:
            for operation in self._operations._operations.values():
                operation.__class__ = _Hasty
            super()._decide(now)

    hasty = instead(CLUSTERD, lambda me, configuration, *_: Hasty(me, configuration))
    assert any("no order explains" in run(seed, 3, assemble=hasty).problem for seed in range(12))


def test_a_generation_that_is_not_its_entrys_index_is_seen_at_the_end_of_a_day() -> None:
    def apply(ledger: Ledger, index: Index, term: Term, batch: Batch) -> Ledger:
        after = ledgers.apply(ledger, index, term, batch)
        for app, state in after.apps.items():
            if state.grant is not None and state.grant.generation == index:
                grant = replace(state.grant, generation=Generation(index + 1))
                after = replace(after, apps=after.apps | {app: replace(state, grant=grant)})
        return after

    class Other(Lockd):
        _apply = staticmethod(apply)

    other = instead(LOCKD, lambda me, configuration, boot, records, random, now: Other(
        me, configuration, records, random, boot))  # fmt: skip
    assert "no order explains the history of grant of" in run(1, 3, assemble=other).problem
