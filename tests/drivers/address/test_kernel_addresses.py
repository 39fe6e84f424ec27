"""Floating addresses in a real kernel, in network namespaces of the test's own."""

import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from tests.drivers.address.private_network import BlockingLoop, Network, eventually, run
from truecl.core.hold import LAPSED, Announce, AskConflict, Configure, Conflict, Outcome, Remove
from truecl.core.interfaces import Interfaces, place, where
from truecl.drivers.address.interfaces import Watcher
from truecl.drivers.address.kernel import KernelAddresses
from truecl.drivers.address.netlink import Monitor, Netlink
from truecl.model.config import Address

pytestmark = pytest.mark.root

V4, V6 = "10.9.0.50", "fd00:9::50"
HOST = {V4: f"{V4}/32", V6: f"{V6}/128"}


class Node:
    """The drivers of netd, in the node's namespace."""

    def __init__(self, network: Network, loop: BlockingLoop) -> None:
        self.network = network
        self.loop = loop
        self.pictures: list[Interfaces] = []
        with network.node.inside():
            self.netlink, self.monitor = Netlink(), Monitor()
        self.watcher = Watcher(self.netlink, self.monitor, self.pictures.append, pytest.fail)
        self.pictures.append(self.watcher.start())
        loop.watch(self.monitor.fileno(), self.watcher.readable)
        self.kernel = KernelAddresses(self.netlink, loop, self.watcher.macs, print)

    def perform(self, action: object) -> Outcome | Conflict:
        with self.network.node.inside():
            return run(self.kernel.perform(action))

    def take(self, address: str, seconds: float, margin: int = 0, interface: str = "eth0") -> Outcome | Conflict:
        prefix = 32 if "." in address else 128
        return self.perform(Configure(address, prefix, interface, self.loop.now() + seconds, margin))

    def has(self, address: str) -> bool:
        return HOST[address] in self.network.node.addresses()

    def sees(self, address: str) -> bool:
        """In the newest picture that the events led to."""
        self.loop.serve(0.02)
        return where(address, self.pictures[-1].all) is not None

    def close(self) -> None:
        self.kernel.close()
        self.netlink.close()
        self.monitor.close()


@pytest.fixture
def node(network: Network, loop: BlockingLoop) -> Iterator[Node]:
    node = Node(network, loop)
    yield node
    node.close()


@pytest.mark.parametrize("address", [V4, V6])
def test_taken_as_host_address_with_a_lifetime(node: Node, address: str) -> None:
    assert node.take(address, 3.5, margin=1) == Outcome()
    seen = node.network.node.addresses("eth0")[HOST[address]]
    assert 3 <= seen["valid_life_time"] <= 5
    if address == V6:
        assert seen["preferred_life_time"] == 0
        assert seen["nodad"] is True
        assert not seen.get("tentative")


@pytest.mark.parametrize("address", [V4, V6])
def test_kernel_removes_it_when_nobody_renews(node: Node, address: str) -> None:
    assert node.take(address, 1.0) == Outcome()
    assert 0.9 <= eventually(lambda: not node.has(address)) <= 2.5


@pytest.mark.parametrize("address", [V4, V6])
def test_renewal_keeps_it_and_its_connections(node: Node, address: str) -> None:
    node.take(address, 10.0)  # what follows is slow where much else goes on; each renewal shortens it
    family = socket.AF_INET if address == V4 else socket.AF_INET6
    with node.network.node.inside():
        server = socket.create_server((address, 7000), family=family)
    with node.network.others.inside():
        client = socket.create_connection((address, 7000), timeout=5)
    accepted, _ = server.accept()
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        assert node.take(address, 0.9) == Outcome()
        assert node.has(address)
        client.sendall(b"x")
        assert accepted.recv(1) == b"x"
        node.loop.serve(0.3)
    for each in (server, client, accepted):
        each.close()


@pytest.mark.parametrize("address", [V4, V6])
def test_removed_at_once_and_twice_is_the_same(node: Node, address: str) -> None:
    node.take(address, 10.0)
    assert node.perform(Remove(address)) == Outcome()
    assert not node.has(address)
    assert node.perform(Remove(address)) == Outcome()


def test_removal_spares_what_is_not_ours_and_says_so(node: Node) -> None:
    outcome = node.perform(Remove("10.9.0.1"))
    assert outcome == Outcome("10.9.0.1 is configured on eth0 by somebody else")
    assert "10.9.0.1/24" in node.network.node.addresses()


def test_nothing_is_configured_after_the_lease(node: Node) -> None:
    assert node.take(V4, 0.0) == Outcome(LAPSED)
    assert not node.has(V4)


class StoppedInTheCall(BlockingLoop):
    """A clock that stands at a moment before the lease's end at the first look, after it at the second."""

    def __init__(self, *times: float) -> None:
        super().__init__()
        self._times = list(times)

    def now(self) -> float:
        return self._times.pop(0)


def test_a_lease_that_ends_during_the_renewal_leaves_nothing(node: Node) -> None:
    kernel = KernelAddresses(node.netlink, StoppedInTheCall(99.0, 101.0), node.watcher.macs, print)
    with node.network.node.inside():
        assert run(kernel.perform(Configure(V4, 32, "eth0", 100.0, 1))) == Outcome(LAPSED)
    assert not node.has(V4)


def test_missing_interface_is_an_outcome(node: Node) -> None:
    assert node.take(V4, 5.0, interface="eth7") == Outcome("this node has no interface eth7")


def test_unknown_owner_is_found_before_taking(node: Node) -> None:
    others = node.network.others
    others.ip("addr", "add", f"{V4}/32", "dev", "eth0")
    others.ip("addr", "add", f"{V6}/128", "dev", "eth0", "nodad")
    for address in (V4, V6):
        assert node.perform(AskConflict(address, "eth0")) == Conflict(others.mac("eth0"))


@pytest.mark.parametrize("address", [V4, V6])
def test_nobody_answers_within_100_ms(node: Node, address: str) -> None:
    start = time.monotonic()
    assert node.perform(AskConflict(address, "eth0")) == Conflict()
    assert 0.09 <= time.monotonic() - start < 0.5


def test_own_second_interface_is_no_conflict(node: Node) -> None:
    node.take(V4, 10.0)
    assert node.perform(AskConflict(V4, "eth0")) == Conflict()


def test_probe_on_a_dead_interface_says_why(node: Node) -> None:
    node.network.node.ip("link", "set", "eth1", "down")
    outcome = node.perform(AskConflict(V4, "eth1"))
    assert isinstance(outcome, Conflict)
    assert "Network is down" in outcome.reason


def test_events_tell_of_an_address_that_somebody_removed(node: Node) -> None:
    node.take(V4, 10.0)
    eventually(lambda: node.sees(V4))
    told = len(node.pictures)
    node.take(V4, 10.0)
    node.take(V4, 10.0)
    node.loop.serve(0.05)
    assert len(node.pictures) == told, "a renewal is no news"
    node.network.node.ip("addr", "del", f"{V4}/32", "dev", "eth0")
    eventually(lambda: not node.sees(V4))


def test_events_tell_of_a_link_that_died(node: Node) -> None:
    node.network.others.ip("link", "set", "eth0", "down")

    def dead() -> bool:
        # The kernel reports at most one change of carrier a second.
        node.loop.serve(0.02)
        eth0 = next(each for each in node.pictures[-1].all if each.name == "eth0")
        return (eth0.up, eth0.carrier) == (True, False)

    eventually(dead)


def test_adopted_address_is_known_as_ours_and_the_nodes_own_is_not(node: Node) -> None:
    node.take(V4, 10.0)
    node.take(V6, 10.0)
    picture = Watcher(node.netlink, node.monitor, print, pytest.fail).start()
    for address, ours in ((V4, True), (V6, True), ("10.9.0.1", False), ("fd00:9::1", False)):
        found = where(address, picture.all)
        assert found is not None
        assert found[1].foreign is not ours


def test_the_interface_in_the_same_network_carries_it(node: Node) -> None:
    for address, prefix in ((V4, 32), (V6, 128)):
        chosen = place(Address(address=address), node.pictures[0].all)
        assert not isinstance(chosen, str)
        assert (chosen.interface, chosen.prefix, chosen.warning) == ("eth0", prefix, "")


def test_announcing_goes_on_after_the_interface_was_made_anew(node: Node) -> None:
    inside, path = node.network.node, f"/proc/{os.getpid()}/fd/{node.network.others.descriptor}"
    assert node.perform(Announce(V4, "eth1")) == Outcome()
    inside.ip("link", "del", "eth1")
    gone = node.perform(Announce(V4, "eth1"))
    assert isinstance(gone, Outcome)
    assert gone.reason
    inside.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", path)
    inside.ip("link", "set", "eth1", "up")
    node.perform(Announce(V4, "eth1"))
    assert node.perform(Announce(V4, "eth1")) == Outcome()


@pytest.mark.parametrize("address", [V4, V6])
def test_announcement_reaches_the_neighbour(node: Node, address: str) -> None:
    """Seen by scapy in the other namespace, and heeded by its kernel."""
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
    from scapy.layers.l2 import ARP, Ether

    others, mac = node.network.others, node.network.node.mac("eth0")
    others.ip("neigh", "replace", address, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
    with others.inside():
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        sniffer.bind(("eth0", 0x0003))
    assert node.perform(Announce(address, "eth0")) == Outcome()
    wanted = ARP if address == V4 else ICMPv6ND_NA
    found = None
    while found is None and select.select([sniffer], [], [], 2.0)[0]:
        packet = Ether(sniffer.recv(2048))
        found = packet if wanted in packet else None
    sniffer.close()
    assert found is not None
    assert found.src == mac
    if address == V4:
        arp = found[ARP]
        assert found.dst == "ff:ff:ff:ff:ff:ff"
        assert (arp.op, arp.psrc, arp.pdst, arp.hwsrc) == (1, V4, V4, mac)
    else:
        advertisement = found[ICMPv6ND_NA]
        assert (found.dst, found[IPv6].dst, found[IPv6].hlim) == ("33:33:00:00:00:01", "ff02::1", 255)
        assert (advertisement.tgt, advertisement.O, advertisement.S, advertisement.R) == (V6, 1, 0, 0)
        assert found[ICMPv6NDOptDstLLAddr].lladdr == mac

    def heeded() -> bool:
        # The neighbour's IPv6 takes some time after its link came up.
        node.perform(Announce(address, "eth0"))
        return mac in others.ip("neigh", "show", address)

    eventually(heeded)
