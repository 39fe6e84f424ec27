"""Labs for tests: names of their own, so that several test runs can go on at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterlib import Cluster, running
from lablib import Net, lab_name

from truecl.lab.cluster import Lab
from truecl.lab.errors import Unavailable
from truecl.lab.vm import packages


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three bare nodes, one lab for a module's tests; each leaves it whole."""
    name = lab_name(Path(request.node.nodeid).stem.replace("test_", "").replace("_", "-"))
    with Lab.up(3, name=name, bare=True, vm=request.config.getoption("--vm")) as made:
        yield made


@pytest.fixture(scope="module")
def kernels() -> None:
    """What `Lab.up(vm=True)` needs. Where it cannot be had the test is skipped, loudly."""
    try:
        packages.prepare()
    except Unavailable as problem:
        pytest.skip(f"NO KERNEL AND NO REAL STORAGE WERE TESTED: {problem}")


@pytest.fixture
def net(lab: Lab) -> Net:
    return Net(lab)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three nodes, formed, with the applications that the module names in APPS; each test leaves them stopped."""
    suffix = Path(request.node.nodeid).stem.replace("test_", "").replace("_", "-")
    with running(suffix, request.module.APPS) as made:
        yield made
