"""`profile: fast` in cluster.yaml, with the real daemons."""

import json
from collections.abc import Iterator, Sequence

import pytest
from clusterlib import Cluster, light, running, write_apps

from truecl.lab import provision
from truecl.lab.description import LabNode

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def fast() -> Iterator[Cluster]:
    def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
        provision.configure(nodes, links, profile="fast", fenced=False)
        write_apps(nodes, {"light": light(2)})

    with running("fast", {}, provide=provide) as made:
        yield made


def test_an_address_lives_no_longer_in_the_kernel_than_a_second_and_is_taken_over_soon(fast: Cluster) -> None:
    fast.start("light", "-N", "n1")
    said = json.loads(fast.run("n1", "ip", "-j", "address", "show", "to", "10.77.1.102").out)
    (held,) = (each for line in said for each in line.get("addr_info", ()) if each.get("local") == "10.77.1.102")
    assert held["valid_life_time"] <= 1
    with fast.watched("light", 2), fast.lab.probe("10.77.1.102:80") as probe:
        probe.wait_answer(node="n1")
        fast.lab.kill("n1")
        probe.wait_answer(node="n2")
    assert probe.result.longest < 3.0, probe.result
    assert fast.app("light", "n3")["failovers"] == 1
    assert "proof: expired" in fast.run("n3", "lha_log").out
