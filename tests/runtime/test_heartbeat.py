"""hbd's datagrams over loopback: sealed, addressed, refused when broken, and read before a late timer."""

import os
import select
import socket
from collections.abc import Iterator

import pytest

from truecl.core.contract import Event, Received
from truecl.model.config import ClusterConfig, LinkConfig, NodeConfig, Ports
from truecl.model.ids import BootId, LinkName, NodeName
from truecl.runtime.clock import BootClock
from truecl.runtime.heartbeat import CannotListen, HeartbeatMesh
from truecl.runtime.log import Log
from truecl.wire.messages import Goodbye, Heartbeat
from truecl.wire.seal import KEY_BYTES, NONCE_BYTES, KeyRing, Seal

A, B = LinkName("A"), LinkName("B")
ONE, TWO = NodeName("one"), NodeName("two")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Pair:
    def __init__(self) -> None:
        port = free_port()
        self.cluster = ClusterConfig(
            name="test",
            links=(LinkConfig(name=A), LinkConfig(name=B)),
            nodes=(
                NodeConfig(name=ONE, addresses={A: "127.0.0.1", B: "127.0.0.3"}),
                NodeConfig(name=TWO, addresses={A: "127.0.0.2", B: "127.0.0.4"}),
            ),
            ports=Ports(hbd=port),
        )
        self.lines: list[bytes] = []
        self.log = Log("one", "hbd", self.lines.append, BootClock())
        self.heard: dict[NodeName, list[Event]] = {ONE: [], TWO: []}
        self.meshes = {name: self.mesh(name) for name in (ONE, TWO)}
        for mesh in self.meshes.values():
            mesh.open()

    def mesh(self, name: NodeName, key: bytes = b"k" * KEY_BYTES) -> HeartbeatMesh:
        seal = Seal(KeyRing({1: key}, 1), "test", os.urandom(NONCE_BYTES))
        return HeartbeatMesh(name, self.cluster, seal, self.heard[name].append, self.log)

    def take(self, name: NodeName) -> list[Event]:
        """What arrives there, within a deadline."""
        select.select([each.fileno() for each in self.meshes[name].readers], [], [], 5.0)
        self.meshes[name].drain()
        return self.heard[name]

    def raw(self, datagram: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(datagram, ("127.0.0.2", self.cluster.ports.hbd))


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    for mesh in pair.meshes.values():
        mesh.close()


def beat(link: LinkName = A, sequence: int = 1) -> Heartbeat:
    return Heartbeat(link, BootId("b"), sequence, True)


def test_arrives_over_its_link_with_its_sender(pair: Pair) -> None:
    for message in (beat(A), beat(B), Goodbye(A, BootId("b"), 2)):
        pair.meshes[ONE].send(TWO, message)
        assert pair.take(TWO).pop() == Received(ONE, message)


@pytest.mark.parametrize("datagram", [b"", b"x", b"TCL\x01" + bytes(60), bytes(9000)])
def test_garbage_is_counted_and_never_shown(pair: Pair, datagram: bytes) -> None:
    pair.raw(datagram)
    assert pair.take(TWO) == []
    assert pair.meshes[TWO].counts.broken == 1
    assert b"datagram from 127.0.0.1 on link A refused" in pair.lines[-1]


def test_garbage_is_logged_seldom(pair: Pair) -> None:
    for _ in range(50):
        pair.raw(b"x")
    pair.take(TWO)
    assert pair.meshes[TWO].counts.broken > 1
    assert len(pair.lines) == 1


def test_another_clusters_key_does_not_open(pair: Pair) -> None:
    pair.meshes[ONE].close()
    pair.meshes[ONE] = pair.mesh(ONE, b"other key of 32 bytes for tests!")
    pair.meshes[ONE].open()
    pair.meshes[ONE].send(TWO, beat())
    assert pair.take(TWO) == []
    assert pair.meshes[TWO].counts.broken == 1


def test_replayed_over_another_link_or_back_to_its_sender_it_is_refused(pair: Pair) -> None:
    caught = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pair.meshes[TWO].close()
    caught.bind(("127.0.0.2", pair.cluster.ports.hbd))
    pair.meshes[ONE].send(TWO, beat(A))
    datagram = caught.recv(9000)
    caught.close()
    pair.meshes[TWO] = pair.mesh(TWO)
    pair.meshes[TWO].open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as replay:
        for address, name in (("127.0.0.4", TWO), ("127.0.0.1", ONE)):
            replay.sendto(datagram, (address, pair.cluster.ports.hbd))
            assert pair.take(name) == []
            assert pair.meshes[name].counts.broken == 1


def test_what_cannot_be_sent_is_lost_and_counted(pair: Pair) -> None:
    pair.meshes[ONE].send(NodeName("nobody"), beat())
    pair.meshes[ONE].send(TWO, beat(LinkName("Z")))
    assert pair.meshes[ONE].counts.unsent == 2


def test_an_address_in_use_is_a_clear_error(pair: Pair) -> None:
    with pytest.raises(CannotListen, match=r"link A: cannot bind UDP 127\.0\.0\.1 port \d+: Address already in use"):
        pair.mesh(ONE).open()
