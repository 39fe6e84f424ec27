"""Links between the nodes, and cuts of them."""

from collections.abc import Iterator

import pytest
from lablib import Net

from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def healed(lab: Lab) -> Iterator[None]:
    yield
    lab.heal()


@pytest.mark.parametrize("address", ["10.77.1.2", "10.77.2.2", "fd77:1::2", "fd77:2::2"])
def test_nodes_and_client_reach_one_another_on_both_links(net: Net, address: str) -> None:
    assert net.reaches("n1", address)
    assert net.reaches("client", address)


def test_a_cut_node_is_reached_on_no_link_until_healed(lab: Lab, net: Net) -> None:
    lab.cut("n2")
    for address in ("10.77.1.2", "10.77.2.2", "fd77:1::2"):
        assert not net.reaches("n1", address)
    assert not net.reaches("n2", "10.77.1.3")
    assert net.reaches("n1", "10.77.1.3")
    assert lab.heal() == 4
    assert net.reaches("n1", "10.77.1.2") and net.reaches("n2", "10.77.2.1")


def test_a_cut_of_one_link_leaves_the_other_and_the_carrier(lab: Lab, net: Net) -> None:
    lab.cut("n2", link=1)
    assert not net.reaches("n1", "10.77.1.2")
    assert net.reaches("n1", "10.77.2.2")
    assert lab.exec("n2", ["cat", "/sys/class/net/eth0/carrier"]).out == "1\n"


@pytest.mark.namespaces
def test_an_unplugged_cable_takes_the_carrier(lab: Lab, net: Net) -> None:
    lab.cut("n2", link=2, unplug=True)
    assert lab.exec("n2", ["cat", "/sys/class/net/eth1/carrier"]).out == "0\n"
    assert lab.exec("n2", ["cat", "/sys/class/net/eth0/carrier"]).out == "1\n"
    lab.heal()
    assert net.reaches("n1", "10.77.2.2", tries=10)


def test_a_cut_between_two_leaves_the_others(lab: Lab, net: Net) -> None:
    lab.cut("n2", source="n3")
    assert not net.reaches("n2", "10.77.1.3") and not net.reaches("n3", "10.77.2.2")
    assert net.reaches("n2", "10.77.1.1") and net.reaches("n3", "10.77.1.1")


def test_a_cut_of_a_port_leaves_the_others_and_one_of_all_but_a_port_leaves_that(lab: Lab, net: Net) -> None:
    lab.cut("n2", link=1, port=7001)
    assert not _connects(lab, "n1", "n2", 7001) and not _connects(lab, "n2", "n1", 7001)
    assert _connects(lab, "n1", "n2", 7002) and net.reaches("n1", "10.77.1.2")
    assert lab.heal() == 2
    lab.cut("n2", source="n1", link=1, spared=7001)
    assert _connects(lab, "n1", "n2", 7001) and _connects(lab, "n2", "n1", 7001)
    assert not _connects(lab, "n1", "n2", 7002) and not net.reaches("n1", "10.77.1.2")
    assert net.reaches("n3", "10.77.1.2")
    assert lab.heal() == 2
    assert _connects(lab, "n1", "n2", 7002) and net.reaches("n1", "10.77.1.2")


def _connects(lab: Lab, source: str, target: str, port: int) -> bool:
    """Whether a connection over link 1 is made."""
    address = lab.description.node(target).port.ipv4(1)
    listen = f"import socket; s = socket.create_server(('', {port})); s.settimeout(1); print('bound', flush=True)"
    connect = f"import socket; socket.create_connection(('{address}', {port}), 0.5)"
    with lab.popen(target, ["/usr/bin/env", "python3", "-c", f"{listen}; s.accept()"], stdout=-1) as listener:
        assert listener.stdout is not None and listener.stdout.readline() == "bound\n"
        return lab.exec(source, ["/usr/bin/env", "python3", "-c", connect]).code == 0


def test_a_one_way_cut_loses_one_direction(lab: Lab) -> None:
    """A datagram of n3 does not come to n2; one of n2 comes to n3."""
    lab.cut("n2", source="n3", link=1, one_way=True)
    assert not _datagram_arrives(lab, "n3", "n2", "10.77.1.2")
    assert _datagram_arrives(lab, "n2", "n3", "10.77.1.3")
    lab.heal()
    assert _datagram_arrives(lab, "n3", "n2", "10.77.1.2")


def _datagram_arrives(lab: Lab, source: str, target: str, address: str) -> bool:
    """To the target's Ethernet address directly: ARP needs both directions."""
    mac = lab.description.node(target).port.mac(1)
    lab.exec(source, ["ip", "neighbour", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent"]).check()
    listen = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 9)); s.settimeout(0.5)\n"
        "print('bound', flush=True)\ntry: print(s.recv(9).decode())\nexcept TimeoutError: print('nothing')"
    )
    send = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'here', ('{address}', 9))"
    with lab.popen(target, ["/usr/bin/env", "python3", "-c", listen], stdout=-1) as listener:
        assert listener.stdout is not None and listener.stdout.readline() == "bound\n"
        lab.exec(source, ["/usr/bin/env", "python3", "-c", send]).check()
        heard = listener.stdout.read().strip()
    lab.exec(source, ["ip", "neighbour", "del", address, "dev", "eth0"]).check()
    return heard == "here"


def test_a_cut_holds_over_a_boot(lab: Lab, net: Net) -> None:
    lab.kill("n2")
    lab.cut("n2", link=1)
    lab.boot("n2")
    assert not net.reaches("n1", "10.77.1.2")
    assert net.reaches("n1", "10.77.2.2")
    lab.heal()
    assert net.reaches("n1", "10.77.1.2")


def test_the_client_can_be_cut(lab: Lab, net: Net) -> None:
    lab.cut("client", link=1)
    assert not net.reaches("client", "10.77.1.1")
    assert net.reaches("client", "10.77.2.1")


def test_what_makes_no_sense_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="no node 'n9'"):
        lab.cut("n9")
    with pytest.raises(LabError, match="no node 'n9'"):
        lab.cut("n1", source="n9")
    with pytest.raises(LabError, match="no link 3"):
        lab.cut("n1", link=3)
    with pytest.raises(LabError, match="itself"):
        lab.cut("n1", source="n1")
    with pytest.raises(LabError, match="--unplug"):
        lab.cut("n1", unplug=True, one_way=True)
    assert lab.cuts() == []
