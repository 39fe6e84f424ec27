"""Fixtures that several test directories share."""

from collections.abc import Iterator

import pytest
from realhost import RealHost


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the golden files anew instead of comparing")


@pytest.fixture
def real() -> Iterator[RealHost]:
    """The machine itself. No background work may have failed when the test ends."""
    host = RealHost()
    yield host
    assert host.failures == []
