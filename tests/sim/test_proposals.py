"""Locks and grants as clusterds ask for them: a true ledger's answers have an order, a broken one's have none."""

from collections.abc import Callable
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from truecl.core import ledger as ledgers
from truecl.model.ids import AppName, Generation, Index, NodeName, Term
from truecl.model.ledger import (
    AnyCommand,
    Batch,
    EndGrant,
    FreeLock,
    GiveGrant,
    Ledger,
    Lock,
    Proof,
    SetWanted,
    TakeLock,
    Wanted,
)
from truecl.sim.linear import OVER, OWNED, REFUSED, Call, unexplained
from truecl.sim.mutants.ledger import end_any, grant_again
from truecl.sim.proposals import Proposals
from truecl.wire.messages import Propose, Proposed

APP, LOCK = AppName("web"), "cluster"
MASTERS = "n1", "n2"
Apply = Callable[[Ledger, Index, Term, Batch], Ledger]


def played(random: Random, apply: Apply = ledgers.apply, steps: int = 30) -> Proposals:
    """Two masters, each of which proposes by what it saw last, that may be old; terms change, entries get lost."""
    proposals, now = Proposals(), 0.0
    term = Term(1)
    ledger = ledgers.apply(Ledger(), Index(1), term, Batch((SetWanted(APP, Wanted.RUNNING),)))
    seen = dict.fromkeys(MASTERS, ledger)
    for number in range(1, steps + 1):
        now += 1.0
        who = random.choice(MASTERS)
        if random.random() < 0.1:
            term = Term(term + 1)
        if random.random() < 0.6:
            command = _command(random, who, seen[who])
            proposals.propose(who, Propose(number, term, (command,)), now)
            fate = random.random()
            if fate < 0.1:
                proposals.proposed(who, Proposed(number, None, "too much waits for a quorum"))
                continue
            index = Index(ledger.index + 1)
            if fate < 0.9:
                proposals.proposed(who, Proposed(number, index))
            if fate > 0.2:
                ledger = apply(ledger, index, term, Batch((command,)))
            else:  # its leader was deposed before anybody else had it
                term = Term(term + 1)
                ledger = apply(ledger, index, term, Batch(()))
        else:
            seen[who] = ledger
            proposals.applied(who, ledger, now)
        if random.random() < 0.03:
            proposals.forget(who)
    for who in MASTERS:
        proposals.applied(who, ledger, now + 1.0)
    return proposals


def _command(random: Random, who: str, seen: Ledger) -> AnyCommand:
    state, lock = ledgers.app_state(seen, APP), seen.locks.get(LOCK)
    if random.random() < 0.4:
        return TakeLock(LOCK, who) if lock is None else FreeLock(LOCK, lock.token)
    if state.grant is not None and random.random() < 0.8:
        return EndGrant(APP, state.grant.generation, Proof.RELEASED)
    return GiveGrant(APP, NodeName(who), state.ended.generation if state.ended is not None else Generation(0))


@given(st.randoms(use_true_random=False))
def test_what_the_ledger_answers_has_an_order(random: Random) -> None:
    wrong = played(random).unexplained()
    assert wrong is None, "\n".join(str(call) for call in wrong)


def _changed(change: Callable[[Ledger, AnyCommand], tuple[Ledger, AnyCommand]]) -> Apply:
    def apply(ledger: Ledger, index: Index, term: Term, batch: Batch) -> Ledger:
        for command in batch.commands:
            ledger, other = change(ledger, command)
            batch = Batch((other,))
        return ledgers.apply(ledger, index, term, batch)

    return apply


def _generation_again(ledger: Ledger, index: Index, term: Term, batch: Batch) -> Ledger:
    """Every grant has the generation of the first one."""
    after = ledgers.apply(ledger, index, term, batch)
    state, before = ledgers.app_state(after, APP), ledgers.app_state(ledger, APP)
    if state.grant is None or state.grant == before.grant or before.ended is None:
        return after
    grant = replace(state.grant, generation=before.ended.generation)
    return replace(after, apps={APP: replace(state, grant=grant)})


class _TokenAgain:
    """Every holder has the token of the first one."""

    def __init__(self) -> None:
        self.first: Lock | None = None

    def __call__(self, ledger: Ledger, index: Index, term: Term, batch: Batch) -> Ledger:
        after = ledgers.apply(ledger, index, term, batch)
        lock = after.locks.get(LOCK)
        self.first = self.first or lock
        if lock is None or self.first is None:
            return after
        return replace(after, locks={LOCK: replace(lock, token=self.first.token)})


def _two_holders(ledger: Ledger, index: Index, term: Term, batch: Batch) -> Ledger:
    """Whoever asks last has the lock."""
    taken = any(isinstance(command, TakeLock) for command in batch.commands)
    return ledgers.apply(replace(ledger, locks={}) if taken else ledger, index, term, batch)


@pytest.mark.parametrize(
    ("broken", "object"),
    [
        (lambda: _changed(grant_again), "grant of web"),
        (lambda: _changed(end_any), "grant of web"),
        (lambda: _generation_again, "grant of web"),
        (_TokenAgain, "lock cluster"),
        (lambda: _two_holders, "lock cluster"),
    ],
    ids=["a grant while one lives", "an end of what is not live", "a generation again", "a token again", "two holders"],
)
def test_what_a_broken_ledger_answers_has_none(broken: Callable[[], Apply], object: str) -> None:
    found = [wrong for seed in range(40) if (wrong := played(Random(seed), broken()).unexplained())]
    assert found and {wrong[0].object for wrong in found} == {object}


def test_of_two_who_ask_in_one_entry_the_first_has_it() -> None:
    asked = TakeLock(LOCK, "first"), TakeLock(LOCK, "second")
    proposals, term = Proposals(), Term(1)
    proposals.propose("n1", Propose(1, term, asked), 1.0)
    proposals.proposed("n1", Proposed(1, Index(1)))
    proposals.applied("n1", ledgers.apply(Ledger(), Index(1), term, Batch(asked)), 2.0)
    assert [call.answer for call in proposals.calls] == [1, REFUSED, ("first", 1)]
    assert proposals.unexplained() is None


def _give(began: float, after: int, index: int | None, answer: int | None) -> Call:
    return Call("n1", APP, "take", ("n1", after, index), began, began + 1 if answer is not None else inf, answer)


def _end(began: float, generation: int, answer: str | int | None) -> Call:
    return Call("n1", APP, "free", generation, began, began + 1 if answer is not None else inf, answer)


def _see(began: float, node: str, generation: int) -> Call:
    return Call("n2", APP, "see", "", began, began + 1, (node, generation))


FIVE = _give(0, 0, 5, 5)
LOST = _give(0, 0, None, None)


@pytest.mark.parametrize(
    "calls",
    [
        [FIVE, _see(2, "n1", 5), _end(4, 5, OVER), _see(6, "", 5)],
        [FIVE, _give(2, 0, 7, REFUSED), _end(4, 5, REFUSED), _see(6, "n1", 5)],
        [FIVE, _end(2, 5, OVER), _end(4, 5, OVER), _give(6, 5, 9, 9)],
        [FIVE, _end(1, 5, OVER), _see(1, "n1", 5)],
        [LOST, _see(2, "", 0), _see(4, "n1", 3), _see(6, "n1", 3)],
        [LOST, _end(2, 3, OVER), _see(4, "", 3)],
        [FIVE, _end(2, 5, None), _see(4, "n1", 5), _see(6, "", 5)],
    ],
)
def test_grants_that_have_an_order(calls: list[Call]) -> None:
    assert unexplained(calls, OWNED) is None


@pytest.mark.parametrize(
    "calls",
    [
        [FIVE, _end(2, 5, OVER), _see(4, "n1", 5)],  # against real time
        [FIVE, _see(2, "", 0)],
        [FIVE, _give(2, 0, 7, 7)],  # while one lives
        [FIVE, _end(2, 5, OVER), _give(4, 0, 7, 7)],  # after another one than the last
        [FIVE, _end(2, 5, OVER), _give(4, 5, 7, 5)],  # a generation again
        [FIVE, _end(2, 4, OVER), _see(4, "", 5)],  # ended by an end of another
        [_end(0, 3, OVER), _see(2, "", 0)],  # what never was is over
        [LOST, _see(2, "n1", 3), _see(4, "n1", 4)],  # a generation that was learnt
        [LOST, _see(2, "n2", 3)],
    ],
)
def test_grants_that_have_none(calls: list[Call]) -> None:
    assert unexplained(calls, OWNED) is not None
