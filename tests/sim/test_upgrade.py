"""Clusters whose nodes are of two releases, on bad days: the log's level rises when all know more, and not before."""

from typing import Any

import pytest

from truecl.core.contract import Core
from truecl.core.lockd import Lockd
from truecl.model.ids import LOCKD, AppName, NodeName
from truecl.model.ledger import LEVEL, Ledger, Presence
from truecl.sim import faults
from truecl.sim.mutants.build import instead, production
from truecl.sim.mutants.levels import ForgetsTheSilent, RaisesTooEarly, mixed
from truecl.sim.runner import run

SEEDS = range(10)


class Seen:
    """The ledgers of all lockds of one day, as they go."""

    def __init__(self) -> None:
        self.levels: set[int] = set()
        self.presences: set[Presence] = set()
        self.aside: set[NodeName] = set()
        self.on_standby: set[tuple[AppName, NodeName]] = set()

    def look(self, ledger: Ledger) -> None:
        self.levels.add(ledger.level)
        self.presences |= {losses.presence for losses in ledger.losses.values()}
        self.aside |= set(ledger.standby)


def watched(seen: Seen, inner: Any) -> Any:
    """`inner`, its lockds looked at after each event."""

    class Watched(Lockd):
        def handle(self, event: Any, now: float) -> Any:
            output = super().handle(event, now)
            seen.look(self.ledger)
            return output

    def build(*arguments: Any) -> Core:
        core: Core = inner(LOCKD, *arguments)
        assert isinstance(core, Lockd)
        core.__class__ = Watched
        return core

    return instead(LOCKD, build)


def test_mixed_releases_keep_every_promise_and_raise_the_level_once_all_are_new() -> None:
    levels: list[set[int]] = []
    for seed in SEEDS:
        seen = Seen()
        result = run(seed, 3, assemble=watched(seen, mixed()), adjust=lambda drawn: drawn)
        assert not result.problem, f"seed {seed}: {result.problem}"
        levels.append(seen.levels)
    assert {1} in levels, "where a node stays old, the level stays"
    assert {1, LEVEL} in levels, "where all were upgraded, it rose"


@pytest.mark.parametrize("mutant", [RaisesTooEarly, ForgetsTheSilent])
def test_a_level_raised_too_early_is_seen(mutant: type[Lockd]) -> None:
    problems = (run(seed, 3, assemble=mixed(mutant), adjust=faults.gaps).problem for seed in range(24))
    assert any(problem.startswith(f"Outdated: the cluster's log is at level {LEVEL}") for problem in problems)


def test_a_node_of_an_older_release_that_joins_stops_before_it_applies_what_it_does_not_know() -> None:
    """To the simulator that is a core that raises; to the operator, a lockd that says what to install."""
    problems = (run(seed, 3, assemble=mixed(), adjust=faults.growing).problem for seed in range(12))
    assert any(problem.startswith("Outdated") for problem in problems)


def test_days_have_nodes_that_come_and_go_and_nodes_set_aside() -> None:
    """Else it would prove nothing that all promises are kept."""
    seen = Seen()
    for seed in range(8):
        assert not run(seed, 3, assemble=watched(seen, production)).problem
    assert seen.presences == set(Presence) and seen.aside
