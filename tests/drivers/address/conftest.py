"""Fixtures of the address drivers' tests."""

from collections.abc import Iterator

import pytest

from tests.drivers.address.private_network import BlockingLoop, Network


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def loop() -> BlockingLoop:
    return BlockingLoop()
