"""lha_fence as the operator types it, with the lab's power switch as the device."""

import json
from collections.abc import Iterator

import pytest
from clusterlib import Cluster, light, running, until

pytestmark = pytest.mark.lab
APP = "web"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("fencing", {APP: light(1)}) as made:
        made.start(APP, "-N", "n1")
        yield made


def fence(cluster: Cluster, *argv: str, code: int = 0, node: str = "n1") -> str:
    result = cluster.run(node, "lha_fence", *argv, code=code)
    return result.out + result.err


def power(cluster: Cluster, node: str) -> str:
    answers = json.loads(fence(cluster, node, "--status", "--json"))["answers"]
    return str(answers[0]["power"])


def test_every_node_reaches_every_device(cluster: Cluster) -> None:
    answers = json.loads(fence(cluster, "--test", "--json"))["answers"]
    pairs = {(each["asker"], each["node"]) for each in answers if each["ok"] and each["power"] == "on"}
    assert pairs == {(asker, node) for asker in cluster.nodes for node in cluster.nodes}


def test_a_device_that_refuses_is_told_of_and_harms_nothing(cluster: Cluster) -> None:
    cluster.lab.power("n3", "refuse")
    assert "the switch refuses" in fence(cluster, "n3", "--off", "--yes", code=1)
    cluster.lab.power("n3", "ok")
    cluster.wait_up()


def test_what_would_harm_is_refused(cluster: Cluster) -> None:
    assert "n1 itself" in fence(cluster, "n1", "--off", "--yes", code=1)
    assert "not 'n2'" in fence(cluster, "n2", "--off", code=1)  # nobody typed the name
    assert "is heard" in fence(cluster, "n2", "--confirm", "--yes", code=1)
    assert "unknown node 'nn'" in fence(cluster, "nn", "--off", "--yes", code=1)
    assert "not allowed with" in fence(cluster, "n2", "--off", "--on", code=2)
    assert power(cluster, "n2") == "on"


def test_off_moves_what_ran_there_and_on_brings_the_node_back(cluster: Cluster) -> None:
    assert "Fenced successfully" in fence(cluster, "n1", "--off", "--yes", node="n2")
    cluster.wait_app(APP, at="n2", status="UP", node="n2")
    rows = {row["name"]: row["status"] for row in cluster.stat("n2")["nodes"]}
    assert rows["n1"] == "FENCED"
    assert "Switched On successfully" in fence(cluster, "n1", "--on", "--yes", node="n2")
    until(lambda: {row["status"] for row in cluster.stat("n2")["nodes"]} == {"UP"}, "n1 is back", 30.0)
    assert cluster.app(APP, node="n2")["node"] == "n2"


def test_a_reboot_is_off_and_on(cluster: Cluster) -> None:
    boots = cluster.lab.pid("n3")
    assert "successfully" in fence(cluster, "n3", "--reboot", "--yes", node="n2")
    until(lambda: {row["status"] for row in cluster.stat("n2")["nodes"]} == {"UP"}, "n3 is back", 30.0)
    assert cluster.lab.pid("n3") != boots
