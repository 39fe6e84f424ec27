"""Nodes come and go on bad days: every promise is kept, and a rule of it that is left out is seen."""

import pytest

from truecl.sim import faults
from truecl.sim.mutants.membership import MUTANTS
from truecl.sim.runner import run

BUDGET = 12
"""Seeds within which each rule that is left out must be seen: it took 11 at the most."""
QUICK = ("go by the committed membership", "make voters of whom has not caught up", "count who votes no more")


@pytest.mark.parametrize(("nodes", "seeds"), [(2, range(203, 206)), (3, range(3)), (5, range(1))])
def test_promises_are_kept_while_nodes_come_and_go(nodes: int, seeds: range) -> None:
    met: dict[str, int] = {}
    for seed in seeds:
        result = run(seed, nodes, adjust=faults.growing)
        assert not result.problem, f"seed {seed}: {result.problem}"
        for kind, count in result.coverage.items():
            met[kind] = met.get(kind, 0) + count
    assert met.get("lha_node add: done") and met.get("lha_node remove: done"), met


@pytest.mark.parametrize("name", QUICK)
def test_a_rule_that_is_left_out_is_seen(name: str) -> None:
    (mutant,) = [each for each in MUTANTS if each.name == name]
    assert any(run(seed, assemble=mutant.assemble, adjust=mutant.adjust).problem for seed in range(BUDGET))
