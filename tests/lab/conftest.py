"""Labs for tests: names of their own, so that several test runs can go on at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lablib import Net, lab_name

from truecl.lab.cluster import Lab


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three bare nodes, one lab for a module's tests; each leaves it whole."""
    name = lab_name(Path(request.node.nodeid).stem.replace("test_", "").replace("_", "-"))
    with Lab.up(3, name=name, bare=True) as made:
        yield made


@pytest.fixture
def net(lab: Lab) -> Net:
    return Net(lab)
