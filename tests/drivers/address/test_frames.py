"""Frames and netlink messages as bytes, judged by scapy and pyroute2; garbage judged by Hypothesis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from truecl.drivers.address.arp import Claim, announcement, claim, question
from truecl.drivers.address.netlink import PROTOCOL_MARK, AddressMessage, messages, record_of

MAC = bytes.fromhex("020000000001")
TEXT = "02:00:00:00:00:01"
V4, V6 = "192.0.2.7", "2001:db8::1:2345"


def test_arp_probe() -> None:
    packet = Ether(question(MAC, V4))
    arp = packet[ARP]
    assert (packet.dst, packet.src) == ("ff:ff:ff:ff:ff:ff", TEXT)
    assert (arp.op, arp.hwsrc, arp.psrc, arp.hwdst, arp.pdst) == (1, TEXT, "0.0.0.0", "00:00:00:00:00:00", V4)


def test_gratuitous_arp_is_a_request_with_sender_and_target_equal() -> None:
    packet = Ether(announcement(MAC, V4))
    arp = packet[ARP]
    assert packet.dst == "ff:ff:ff:ff:ff:ff"
    assert (arp.op, arp.hwsrc, arp.psrc, arp.pdst) == (1, TEXT, V4, V4)


def test_neighbour_solicitation_is_that_of_duplicate_detection() -> None:
    packet = Ether(question(MAC, V6))
    assert packet.dst == "33:33:ff:01:23:45"
    assert (packet[IPv6].src, packet[IPv6].dst, packet[IPv6].hlim) == ("::", "ff02::1:ff01:2345", 255)
    assert packet[ICMPv6ND_NS].tgt == V6


def test_neighbour_advertisement_overrides() -> None:
    packet = Ether(announcement(MAC, V6))
    found = packet[ICMPv6ND_NA]
    assert (packet[IPv6].dst, packet[IPv6].hlim, found.tgt) == ("ff02::1", 255, V6)
    assert (found.R, found.S, found.O) == (0, 0, 1)
    assert packet[ICMPv6NDOptDstLLAddr].lladdr == TEXT


@pytest.mark.parametrize("make", [question, announcement])
def test_checksum(make: object) -> None:
    assert callable(make)
    packet = Ether(make(MAC, V6))
    layer = ICMPv6ND_NS if make is question else ICMPv6ND_NA
    sent = packet[layer].cksum
    del packet[layer].cksum
    assert Ether(bytes(packet))[layer].cksum == sent


def test_claims_are_read_from_what_scapy_built() -> None:
    reply = Ether(src=TEXT, dst=TEXT) / ARP(op=2, hwsrc=TEXT, psrc=V4, hwdst=TEXT, pdst="0.0.0.0")
    assert claim(bytes(reply)) == Claim(V4, TEXT)
    answer = (
        Ether(src="02:00:00:00:00:02", dst="33:33:00:00:00:01")
        / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=V6, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=TEXT)
    )
    assert claim(bytes(answer)) == Claim(V6, TEXT)
    forged = answer.copy()
    forged[IPv6].hlim = 64
    assert claim(bytes(forged)) is None, "came through a router"
    assert claim(question(MAC, V4)) is None, "a probe claims nothing"
    assert claim(announcement(MAC, V4)) == Claim(V4, TEXT)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_claim_or_nothing(frame: bytes) -> None:
    for kind in (b"", bytes(12) + b"\x08\x06", bytes(12) + b"\x86\xdd"):
        assert isinstance(claim(kind + frame), Claim | None)


@given(st.binary(max_size=200), st.sampled_from([16, 17, 20, 21]))
def test_any_bytes_are_a_record_or_nothing(data: bytes, kind: int) -> None:
    list(messages(data))
    record_of(kind, data)


@pytest.mark.parametrize(("address", "prefix"), [(V4, 32), (V6, 128)])
def test_address_message(address: str, prefix: int) -> None:
    message = ifaddrmsg(bytes(AddressMessage(3, address, prefix).with_lifetime(77, 2)))
    message.decode()
    assert (message["header"]["type"], message["header"]["sequence_number"]) == (20, 77)
    assert message["header"]["flags"] == 0x1 | 0x4 | 0x100 | 0x400
    assert (message["index"], message["prefixlen"]) == (3, prefix)
    assert message.get("IFA_LOCAL") == message.get("IFA_ADDRESS") == address
    assert message.get("IFA_CACHEINFO")["ifa_valid"] == 2
    assert message.get("IFA_CACHEINFO")["ifa_preferred"] == (2 if prefix == 32 else 0)
    assert message.get("IFA_FLAGS") == (None if prefix == 32 else 0x02)
    assert int(message.get("IFA_PROTO")) == PROTOCOL_MARK
