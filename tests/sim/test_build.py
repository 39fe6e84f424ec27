"""Operators build on bad days: every promise is kept, and no generation of a build outlives its purpose."""

import pytest

from truecl.sim import faults
from truecl.sim.runner import run


@pytest.mark.parametrize(("nodes", "seeds"), [(2, range(2)), (3, range(6)), (5, range(1))])
def test_promises_are_kept_while_operators_build(nodes: int, seeds: range) -> None:
    met: dict[str, int] = {}
    for seed in seeds:
        result = run(seed, nodes, adjust=faults.building)
        assert not result.problem, f"seed {seed}: {result.problem}"
        for kind, count in result.coverage.items():
            met[kind] = met.get(kind, 0) + count
    assert met.get("lha_buildapp: done") and met.get("lha_buildapp: looked at a file system"), met
