"""Nodes set aside, nodes that come and go, what failed, and announcements after a heal, with real daemons."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from clusterlib import Cluster, address, light, program, running, shell, until

from truecl import __version__
from truecl.core.flapping import FIRST_HOLD, FREE_LOSSES
from truecl.model.ledger import LEVEL

pytestmark = pytest.mark.lab

REPAIRED = "/shared/repaired"
APPS = {
    "web": light(1, ("n1", "n3", "n2")),
    "mail": light(2),
    "broken": program(run=shell(f"test -e {REPAIRED} || exit 3; exec sleep 600")),
}
SNIFF = """\
import socket, sys, time
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
sniffer.settimeout(0.2)
wanted = socket.inet_aton(sys.argv[1])
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    try:
        frame = sniffer.recv(128)
    except TimeoutError:
        continue
    if frame[28:32] == frame[38:42] == wanted:  # gratuitous: who asks is who is asked for
        print(f"{time.monotonic():.3f}", flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("nodeverbs", APPS) as made:
        yield made


@pytest.fixture(autouse=True)
def in_use_again(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.lab.heal()
    cluster.wait_up(seconds=30)
    for node in cluster.nodes:
        cluster.run("n1", "lha_node", "resume", node)
    for app in APPS:
        cluster.stop(app)


def listed(cluster: Cluster, at: str = "n1") -> dict[str, dict[str, Any]]:
    found = json.loads(cluster.run(at, "lha_node", "list", "--json").out)
    return {node["name"]: node for node in found["nodes"]}


def test_standby_empties_a_node_and_resume_lets_it_be_used_again(cluster: Cluster) -> None:
    for app in ("web", "mail"):
        cluster.start(app, "-N", "n1")
    said = cluster.run("n2", "lha_node", "standby", "n1").out
    assert said == "Node 'n1' Set to Standby successfully [RC=0].\n"
    assert (cluster.app("web")["node"], cluster.app("mail")["node"]) == ("n3", "n2")
    assert cluster.holds("n1", "web", 1) == cluster.holds("n1", "mail", 2) == ()
    assert [node["standby"] for node in listed(cluster, "n3").values()] == ["drain", "", ""]
    for command in (("lha_stat",), ("lha_node", "list")):
        assert "STANDBY" in cluster.run("n1", *command).out
    refused = cluster.run("n1", "lha_moveapp", "-A", "mail", "-N", "n1", code=1).err
    assert "node 'n1' is on standby; to use it again: lha_node resume n1" in refused
    assert "n1 is on standby" in cluster.run("n1", "lha_simulate", "-N", "n2").out
    assert cluster.run("n1", "lha_node", "resume", "n1").out == "Node 'n1' Resumed successfully [RC=0].\n"
    assert cluster.app("mail")["node"] == "n2", "nothing moves back by itself"
    cluster.move("mail", "-N", "n1")
    assert cluster.app("mail")["node"] == "n1"


def test_all_nodes_are_of_this_release_and_the_log_at_its_level(cluster: Cluster) -> None:
    found = json.loads(cluster.run("n3", "lha_node", "list", "--json").out)
    assert found["level"] == LEVEL
    assert {node["release"] for node in found["nodes"]} == {__version__}
    assert [node["role"] for node in found["nodes"]] == ["voter"] * 3
    assert len({node["boot"] for node in found["nodes"]}) == 3


def test_what_failed_is_listed_and_tried_again_when_it_is_repaired(cluster: Cluster) -> None:
    cluster.start("broken", code=1)
    failed = json.loads(cluster.run("n1", "lha_node", "failed", "--json", code=1).out)["failed"]
    assert {(row["what"], row["node"]) for row in failed} == {("broken", node) for node in cluster.nodes}
    assert all(row["at"] > 1e9 and "exit code 3" in row["why"] for row in failed), failed
    assert {row["helps"] for row in failed} == {"lha_node failed --clear broken"}
    cluster.run("n1", "touch", REPAIRED)
    assert "Cleared successfully" in cluster.run("n2", "lha_node", "failed", "--clear", "broken").out
    cluster.wait_app("broken", status="UP")
    assert cluster.run("n1", "lha_node", "failed").out == "nothing failed\n"


def test_a_node_that_comes_and_goes_is_held_down_until_the_operator_says_otherwise(cluster: Cluster) -> None:
    cluster.start("web", "-N", "n1")
    for loss in range(1, FREE_LOSSES + 2):
        cluster.lab.cut("n3")
        until(lambda: listed(cluster)["n3"]["status"] == "DOWN", "n3 is lost")
        cluster.lab.heal()
        until(lambda: listed(cluster)["n3"]["status"] == "UP", "n3 is back")
        until(lambda number=loss: listed(cluster)["n3"]["losses"] == number, f"loss {loss} is in the log")
    until(lambda: 0.0 < listed(cluster)["n3"]["held"] <= FIRST_HOLD, "n3 is held down")
    told = cluster.run("n2", "lha_stat").out
    assert f"n3 was lost {FREE_LOSSES + 1} times and gets nothing new" in told and "HELD" in told, told
    cluster.run("n1", "lha_node", "standby", "n1")
    assert cluster.app("web")["node"] == "n2", "n3 would have been first"
    cluster.run("n1", "lha_node", "resume", "n3")
    assert (listed(cluster)["n3"]["held"], listed(cluster)["n3"]["losses"]) == (0.0, 0)
    assert "lost 3 times" in cluster.run("n1", "lha_log").out


def test_addresses_are_announced_again_after_a_heal(cluster: Cluster) -> None:
    """What was announced while the network was cut never reached the other side."""
    cluster.start("web", "-N", "n1")
    cluster.lab.cut("n2")
    until(lambda: listed(cluster)["n2"]["status"] == "DOWN", "n2 is lost")
    sniffer = cluster.lab.popen(
        "client", ["/usr/bin/python3", "-I", "-c", SNIFF, address(1), "4"], stdout=subprocess.PIPE
    )
    assert sniffer.stdout is not None and sniffer.stdout.readline() == "ready\n"
    cluster.lab.heal()
    heard = sniffer.stdout.read().split()
    assert sniffer.wait(10) == 0
    assert len(heard) >= 2, "a burst: one frame may be lost"
