"""The rules that are left out to prove that they are needed, and where that is seen."""

import re
from pathlib import Path

from truecl.sim.mutants import MUTANTS

ROOT = Path(__file__).parents[2]


def test_what_no_seed_sees_has_a_test_that_does() -> None:
    assert [each.name for each in MUTANTS if each.seen_by and not (ROOT / each.seen_by).is_file()] == []


def test_there_are_mutants_for_more_than_thirty_rules() -> None:
    assert len([each for each in MUTANTS if not each.seen_by]) >= 30


def test_the_documentation_names_each_with_its_budget_or_its_test() -> None:
    table = (
        (ROOT / "docs" / "simulator.md").read_text().partition("| rule of | what is left out |")[2].partition("\n\n")[0]
    )
    written = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `?([^|`]+)`? \|$", table, re.MULTILINE)
    assert ("DESIGN.md 5", "send before save", "tests/sim/test_host.py") in written
    assert sorted(written) == sorted((each.breaks, each.name, each.seen_by or str(each.budget)) for each in MUTANTS)


def test_each_test_that_the_documentation_names_exists() -> None:
    named = re.findall(r"`(tests/\S+\.py)` `(\w+)`", (ROOT / "docs" / "simulator.md").read_text())
    assert len(named) > 50
    assert [(file, test) for file, test in named if f"def {test}(" not in (ROOT / file).read_text()] == []
