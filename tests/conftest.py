"""Fixtures that several test directories share."""

from collections.abc import Iterator

import pytest
from realhost import RealHost


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the golden files anew instead of comparing")
    parser.addoption("--vm", action="store_true", help="bare labs (tests/lab) with kernels instead of namespaces")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--vm"):
        for item in items:
            if item.get_closest_marker("namespaces"):
                item.add_marker(pytest.mark.skip(reason="only where nodes are namespaces"))


@pytest.fixture
def real() -> Iterator[RealHost]:
    """The machine itself. No background work may have failed when the test ends."""
    host = RealHost()
    yield host
    assert host.failures == []
