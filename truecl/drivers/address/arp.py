"""The four frames that announce an address or ask for it, as bytes, and the reading of their answers.

ARP: RFC 826, the probe's form after RFC 5227. Neighbour discovery: RFC 4861 sections 4.3, 4.4 and 7.2.6, the probe as
in duplicate address detection (RFC 4862 section 5.4.2). A gratuitous ARP is a broadcast *request* with sender = target:
more kinds of equipment heed it than the reply.
"""

import ctypes
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
ARPHRD_ETHER = 1
SO_ATTACH_FILTER = 26
ARP_REQUEST, ARP_REPLY = 1, 2
NEXT_HEADER_ICMPV6 = 58
SOLICITATION, ADVERTISEMENT = 135, 136
OVERRIDE = 0x20000000
OPTION_SOURCE, OPTION_TARGET = 1, 2

BROADCAST = b"\xff" * 6
NO_MAC = bytes(6)
ALL_NODES = IPv6Address("ff02::1")
UNSPECIFIED = IPv6Address("::")

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV6 = struct.Struct("!IHBB16s16s")


@dataclass(frozen=True, slots=True)
class Claim:
    """A frame whose sender says that it has `address`."""

    address: str
    mac: str


def announcement(mac: bytes, address: str) -> bytes:
    """A gratuitous ARP request or an unsolicited neighbour advertisement, by the kind of the address."""
    target = ip_address(address)
    if isinstance(target, IPv4Address):
        return _ethernet(BROADCAST, mac, ETH_P_ARP) + _arp(mac, target.packed, NO_MAC, target.packed)
    body = struct.pack("!BBHI16s", ADVERTISEMENT, 0, 0, OVERRIDE, target.packed) + _option(OPTION_TARGET, mac)
    return _icmpv6(mac, target, ALL_NODES, body)


def question(mac: bytes, address: str) -> bytes:
    """'Who has it?', asked by nobody, so that no neighbour's table changes. Its owner answers to all, or to `mac`."""
    target = ip_address(address)
    if isinstance(target, IPv4Address):
        return _ethernet(BROADCAST, mac, ETH_P_ARP) + _arp(mac, bytes(4), NO_MAC, target.packed)
    body = struct.pack("!BBHI16s", SOLICITATION, 0, 0, 0, target.packed)
    return _icmpv6(mac, UNSPECIFIED, solicited_node(target), body)


def claim(frame: bytes) -> Claim | None:
    """Whose address the frame claims: any ARP with a sender address, or a neighbour advertisement. Else None."""
    if len(frame) < 14:
        return None
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == ETH_P_ARP and len(frame) >= 14 + _ARP.size:
        hardware, protocol, hlen, plen, _, sender, address, _, _ = _ARP.unpack_from(frame, 14)
        if (hardware, protocol, hlen, plen) != (ARPHRD_ETHER, 0x0800, 6, 4) or address == bytes(4):
            return None
        return Claim(str(IPv4Address(address)), _text(sender))
    if kind == ETH_P_IPV6:
        return _advertised(frame)
    return None


def solicited_node(address: IPv6Address) -> IPv6Address:
    return IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:])


def _advertised(frame: bytes) -> Claim | None:
    start = 14 + _IPV6.size
    if len(frame) < start + 24 or frame[14 + 6] != NEXT_HEADER_ICMPV6 or frame[14 + 7] != 255:
        return None
    if frame[start] != ADVERTISEMENT or frame[start + 1] != 0:
        return None
    mac = frame[6:12]
    options = start + 24
    while options + 8 <= len(frame) and frame[options + 1]:
        if frame[options] == OPTION_TARGET:
            mac = frame[options + 2 : options + 8]
            break
        options += 8 * frame[options + 1]
    return Claim(str(IPv6Address(frame[start + 8 : start + 24])), _text(mac))


def _arp(sender: bytes, sender_ip: bytes, target: bytes, target_ip: bytes) -> bytes:
    return _ARP.pack(ARPHRD_ETHER, 0x0800, 6, 4, ARP_REQUEST, sender, sender_ip, target, target_ip)


def _ethernet(to: bytes, sender: bytes, kind: int) -> bytes:
    return to + sender + struct.pack("!H", kind)


def _icmpv6(mac: bytes, source: IPv6Address, group: IPv6Address, body: bytes) -> bytes:
    """To a multicast group, with hop limit 255, without which neighbours discard it."""
    pseudo = source.packed + group.packed + struct.pack("!II", len(body), NEXT_HEADER_ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    header = _IPV6.pack(6 << 28, len(body), NEXT_HEADER_ICMPV6, 255, source.packed, group.packed)
    return _ethernet(b"\x33\x33" + group.packed[12:], mac, ETH_P_IPV6) + header + body


def _option(kind: int, mac: bytes) -> bytes:
    return bytes([kind, 1]) + mac


def _checksum(data: bytes) -> int:
    """RFC 1071. All that is summed here has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _text(mac: bytes) -> str:
    return mac.hex(":")


class PacketSocket:
    """A raw socket on one interface. Raises OSError where there is none, or no right to open it.

    `kind`: ETH_P_ARP or ETH_P_IPV6 to receive these frames; 0 only sends.
    """

    def __init__(self, interface: str, kind: int = 0) -> None:
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, flags, socket.htons(0))
        try:
            self._socket.bind((interface, kind))
            _, _, _, hardware, mac = self._socket.getsockname()
        except OSError:
            self._socket.close()
            raise
        self.is_ethernet: bool = hardware == ARPHRD_ETHER
        """Others (loopback, tunnels) have neither ARP nor neighbour discovery of this form."""
        self.mac: bytes = mac[:6]

    def keep_advertisements(self) -> None:
        """Let the kernel drop all but neighbour advertisements: a busy interface has much IPv6 in 100 ms."""
        code = (
            (0x30, 0, 0, 14 + 6),  # next header
            (0x15, 0, 3, NEXT_HEADER_ICMPV6),
            (0x30, 0, 0, 14 + _IPV6.size),  # ICMPv6 type
            (0x15, 0, 1, ADVERTISEMENT),
            (0x06, 0, 0, 0xFFFF),
            (0x06, 0, 0, 0),
        )
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in code))
        length_and_address = struct.pack("@HP", len(code), ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, length_and_address)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self) -> bytes | None:
        """One frame, None if there is none now."""
        try:
            return self._socket.recv(2048)
        except BlockingIOError:
            return None


class Announcer:
    """Sends announcements. Its sockets stay open: closing one makes the kernel wait (an RCU period, up to 20 ms)."""

    def __init__(self) -> None:
        self._senders: dict[str, PacketSocket] = {}

    def announce(self, interface: str, address: str) -> None:
        """One frame. Raises OSError. Nothing to do on interfaces that are not Ethernet."""
        sender = self._senders.get(interface)
        if sender is None:
            sender = self._senders[interface] = PacketSocket(interface)
        try:
            if sender.is_ethernet:
                sender.send(announcement(sender.mac, address))
        except OSError:
            # Down, or another interface of the same name by now: opened anew for the next one.
            del self._senders[interface]
            sender.close()
            raise

    def close(self) -> None:
        for sender in self._senders.values():
            sender.close()
        self._senders.clear()
