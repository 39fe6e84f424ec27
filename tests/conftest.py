"""Fixtures that several test directories share."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system that lets nobody write: who tries sleeps in the kernel, and no KILL ends it."""
    image, point = tmp_path / "image", tmp_path / "mnt"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    subprocess.run(["fsfreeze", "-f", point], check=True)
    yield point
    # A test that failed early has not thawed it; unmounted like that it would stay in the kernel for good.
    subprocess.run(["fsfreeze", "-u", point], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["umount", point], check=True)
