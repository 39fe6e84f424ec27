"""Nodes that keep their leases, and cannot stop what is to run elsewhere: their watchdogs are what is left."""

from collections import Counter

from truecl.sim import faults
from truecl.sim.runner import run
from truecl.sim.sweep import named

SEEDS = range(1, 4)


def met(mutant: str | None = None) -> Counter[str]:
    """What their days have met. No promise was broken."""
    chosen, counts = named(mutant), Counter[str]()
    for seed in SEEDS:
        assemble = chosen.assemble if chosen is not None else None
        result = run(seed, 3, assemble, adjust=faults.clinging, bad_day=30.0)
        assert not result.problem, f"seed {seed}: {result.problem}"
        counts.update(result.coverage)
    return counts


def test_they_are_reset_and_what_was_stuck_runs_on() -> None:
    counts = met()
    assert counts["renewed no more, for its watchdog"] > 5 and counts["watchdog reset"] > 3
    assert counts["proof: expired+watchdog"] > 0


def test_none_is_where_they_are_renewed_all_the_same() -> None:
    counts = met("renew a node that cannot stop")
    assert counts["instance needs fence"] > 5
    assert counts["watchdog reset"] == counts["proof: expired+watchdog"] == 0
