"""docs/failure-scenarios.md: each scenario names a test that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "failure-scenarios.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"(tests/\S+\.py)::(\w+)", TEXT)))


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_named_test_exists(path: str, name: str) -> None:
    functions = [node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in functions


def test_every_scenario_names_one() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| scenario")]
    assert len(rows) > 30
    assert [row for row in rows if not re.search(r"tests/\S+\.py::\w+ \|$", row)] == []
