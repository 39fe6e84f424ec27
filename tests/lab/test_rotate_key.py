"""Another key for heartbeats while an application runs, as the operator types it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterlib import NODES, Cluster, kill, light, running, until

from truecl.model.config import Ports

pytestmark = pytest.mark.lab

SEND = """\
import socket, sys
from truecl.runtime.credentials import parse_ring
from truecl.wire.seal import Seal
sealed = Seal(parse_ring(sys.argv[1].encode()), "lab", bytes(12)).seal(b"heartbeat")
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sealed, ("10.77.1.1", int(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("rotatekey", {"web": light(1)}) as made:
        made.start("web", "-N", "n2")
        yield made


def rings(cluster: Cluster) -> list[str]:
    return [(cluster.lab.description.node(node).etc / "keyring").read_text() for node in NODES]


def ids(ring: str) -> list[str]:
    return [line.split()[0] for line in ring.splitlines() if not line.startswith("#")]


def test_every_node_gets_another_key_and_nothing_is_lost(cluster: Cluster) -> None:
    before = rings(cluster)
    programs, master = cluster.programs("n2", "web"), cluster.master()
    with cluster.lab.probe("10.77.1.101:80") as probe:
        probe.wait_answer(node="n2")
        said = cluster.run("n3", "lha_node", "rotate-key", "-V").out
        probe.wait_answer(node="n2")
    assert "every node seals with it" in said and "Heartbeats Sealed with Another Key successfully" in said
    after = rings(cluster)
    assert len(set(after)) == 1 and [ids(ring) for ring in (before[0], after[0])] == [["1"], ["2"]]
    for node in NODES:
        file = cluster.lab.description.node(node).etc / "keyring"
        owner = Path(f"/proc/{cluster.pid(node, 'hbd')}").stat().st_uid
        assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, owner)
        assert after[0].split()[-1] not in cluster.log(node, "syncd") + cluster.log(node, "hbd")
    cluster.wait_up()
    assert (cluster.programs("n2", "web"), cluster.master()) == (programs, master)
    assert probe.result.longest < 0.3, probe.result
    assert "is down" not in cluster.run("n1", "lha_log").out

    # Who still has the old key, as a node that was removed, speaks to nobody.
    cluster.run("n2", "python3", "-c", SEND, before[0], str(Ports().hbd))
    until(lambda: "sealed with key 1; this node has 2" in cluster.log("n1", "hbd"), "n1 refuses it")

    # An hbd that starts again reads the new one.
    kill(cluster.pid("n1", "hbd"), signal.SIGKILL)
    cluster.wait_up()


def test_a_node_that_is_away_ends_it_and_afterwards_it_goes_through(cluster: Cluster) -> None:
    cluster.lab.cut("n3")

    def refused(why: str) -> bool:
        said = cluster.run("n1", "lha_node", "rotate-key", code=1).err
        assert why in said or "has just done so: try again in 10 s" in said, said
        return why in said

    until(lambda: refused("the syncd of n3 does not answer: start it, or take it out"), "it is refused", 30)
    cluster.lab.heal()
    cluster.wait_up(seconds=30)
    until(lambda: cluster.run("n1", "lha_node", "rotate-key", code=None).code == 0, "it goes through", 30)
    (ring,) = set(rings(cluster))
    assert len(ids(ring)) == 1 and ids(ring) != ["2"]
    cluster.wait_up()
