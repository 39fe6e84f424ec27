"""The production cores on bad days: 100 seeds keep every promise, and a guard that is left out is seen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from truecl.sim.__main__ import main
from truecl.sim.faults import CALM
from truecl.sim.mutants import MUTANTS
from truecl.sim.runner import Result, run
from truecl.sim.sweep import first_seen, named, results

SEEDS = range(100)
QUICK = (
    "do before save",
    "forget leases of earlier leaders",
    "count a lease from its answer",
    "no guard",
    "ignore the token",
    "assume a failed stop worked",
    "take leftovers for gone",
    "believe any fence",
    "accept one timeout of a watchdog",
    "feed after a lapse",
    "promote without disconnect",
    "connect before the old owner is secondary",
)
"""Caught within a few seeds; test_sweep.py takes all of them."""


def _problem(result: Result) -> str:
    return "\n".join([*result.last, f"seed {result.seed}, {result.nodes} nodes: {result.problem}"])


@pytest.fixture(scope="module")
def days() -> list[Result]:
    return list(results(SEEDS))


def test_every_promise_is_kept_on_100_bad_days(days: list[Result]) -> None:
    broken = [_problem(result) for result in days if result.problem]
    assert not broken, f"{len(broken)} seeds broke a promise; the first:\n{broken[0]}"


@pytest.mark.parametrize("nodes", [2, 5, 8])
def test_promises_are_kept_with_few_and_many_nodes(nodes: int) -> None:
    broken = [_problem(result) for result in results(range(6), nodes, jobs=1) if result.problem]
    assert not broken, broken[0]


@pytest.mark.parametrize("name", QUICK)
def test_a_guard_that_is_left_out_is_seen(name: str) -> None:
    assert first_seen(name) is not None


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert all(named(name) is not None for name in QUICK)


def test_one_seed_has_one_history_under_any_hash_seed() -> None:
    program = "from truecl.sim.runner import run; print([run(seed, deep=True).digest for seed in (1, 2)])"
    said = set()
    for hash_seed in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1


def test_the_command_replays_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1", "--nodes", "3", "--replay"]) == 0
    said = capsys.readouterr().out
    assert "the same" in said
    assert "events/s" in said


def test_a_failure_prints_its_seed_and_its_last_events(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1", "--mutant", "do before save"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("seed 1, " in line and "durable record" in line for line in lines)
    assert any(line.startswith("again: python -m truecl.sim --seed 1 ") for line in lines)
    assert len(lines) > 40


def test_a_usage_error_is_one() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--seeds", "9..1"])
    assert ended.value.code == 2


def test_a_calm_day_heals_at_once() -> None:
    result = run(7, 3, faults=CALM)
    assert (result.problem, result.healed_after <= 1.0) == ("", True)
