"""A thousand bad days keep every promise and meet all that they are drawn for; every rule that is left out is seen."""

import os
from collections import Counter

import pytest

from truecl.sim.coverage import KINDS
from truecl.sim.mutants import MUTANTS
from truecl.sim.runner import Result
from truecl.sim.sweep import hunted, results

pytestmark = pytest.mark.sweep

CORES = os.cpu_count() or 1
SEEDS = range(1000)


@pytest.fixture(scope="module")
def days() -> list[Result]:
    return list(results(SEEDS, jobs=CORES))


def test_every_promise_is_kept_on_1000_bad_days(days: list[Result]) -> None:
    broken = [f"seed {each.seed}, {each.nodes} nodes: {each.problem}" for each in days if each.problem]
    assert not broken, "\n".join(broken)


def test_bad_days_are_bad_enough(days: list[Result]) -> None:
    """Else nothing is proven by their number."""
    met = Counter[str]()
    for each in days:
        met.update(each.coverage)
    assert [kind for kind in KINDS if not met[kind]] == []
    assert set(met) <= set(KINDS)
    assert sum(each.starts for each in days) > 10_000
    assert sum(each.answers.get(0, 0) for each in days) > 5_000


def test_every_rule_that_is_left_out_is_seen_within_its_budget() -> None:
    names = [each.name for each in MUTANTS if not each.seen_by]
    missed = [name for name, result in zip(names, hunted(names, CORES), strict=True) if result is None]
    assert missed == []
