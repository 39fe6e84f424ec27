"""rtnetlink, the seven messages that addresses need, over a plain socket (linux/rtnetlink.h, if_addr.h, if_link.h).

Renewals happen twice a second for every address, so their message is made once and only its sequence number and
lifetimes are written anew. Why no library: docs/decisions/0002-scapy-in-tests.md. The tests let pyroute2 read what this
module wrote, and `ip` configure what it reads.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_CREATE = 0x100, 0x400
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS, IFA_PROTO = 1, 2, 6, 8, 11
IFA_F_NODAD, IFA_F_PERMANENT = 0x02, 0x80
IFLA_ADDRESS, IFLA_IFNAME = 1, 3
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100

PROTOCOL_MARK = 0x74
"""IFA_PROTO of the addresses that netd configures (Linux 5.18 and later keep it; `ip` shows 'proto 0x74')."""
RECEIVE = 1 << 17
"""Bytes of one read; the kernel never makes a larger part of a dump."""
ANSWER_TIMEOUT = 2.0
"""Seconds. The kernel answers within the call that asks, if it answers at all."""
DUMP_ATTEMPTS = 3
MONITOR_BUFFER = 1 << 20

_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_CACHEINFO = struct.Struct("=IIII")


@dataclass(frozen=True, slots=True)
class LinkRecord:
    index: int
    name: str
    up: bool
    carrier: bool
    mac: bytes


@dataclass(frozen=True, slots=True)
class AddressRecord:
    index: int
    """Of the interface."""
    address: str
    prefix: int
    flags: int
    protocol: int
    valid: int
    """Seconds left, 0xFFFFFFFF for ever."""
    preferred: int

    @property
    def ours(self) -> bool:
        """Marked as netd's; a kernel that keeps no mark: a host address with a lifetime."""
        if self.protocol:
            return self.protocol == PROTOCOL_MARK
        host = ip_address(self.address).max_prefixlen
        return self.prefix == host and not self.flags & IFA_F_PERMANENT


@dataclass(frozen=True, slots=True)
class Change:
    """An event: `record` came or was changed, or went (`gone`)."""

    gone: bool
    record: LinkRecord | AddressRecord


class Netlink:
    """Asks and orders, one at a time; each call waits for the kernel's answer. Raises OSError, the kernel's errno."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(ANSWER_TIMEOUT)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def configure(self, message: "AddressMessage", valid: int) -> None:
        """Create the address, or set the lifetime of the one that is there, to `valid` whole seconds."""
        self._order(message.with_lifetime(self._next(), valid))

    def delete(self, index: int, address: str, prefix: int) -> bool:
        """False if it was not there."""
        body = _address_body(address, prefix, index)
        try:
            self._order(_message(RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK, self._next(), body))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
                return False
            raise
        return True

    def links(self) -> list[LinkRecord]:
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        return [each for each in self._dump(RTM_GETLINK, body) if isinstance(each, LinkRecord)]

    def addresses(self) -> list[AddressRecord]:
        """IPv4 and IPv6."""
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        return [each for each in self._dump(RTM_GETADDR, body) if isinstance(each, AddressRecord)]

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        return self._sequence

    def _order(self, message: bytes | bytearray) -> None:
        self._socket.send(message)
        while True:
            for kind, _, sequence, body in messages(self._socket.recv(RECEIVE)):
                if kind == NLMSG_ERROR and sequence == self._sequence:
                    _raise_errno(body)
                    return

    def _dump(self, kind: int, body: bytes) -> list[LinkRecord | AddressRecord]:
        """A dump that was not interrupted by a change, if one can be had in a few attempts."""
        for _ in range(DUMP_ATTEMPTS):
            records, whole = self._dump_once(kind, body)
            if whole:
                return records
        return records

    def _dump_once(self, kind: int, body: bytes) -> tuple[list[LinkRecord | AddressRecord], bool]:
        self._socket.send(_message(kind, NLM_F_REQUEST | NLM_F_DUMP, self._next(), body))
        records: list[LinkRecord | AddressRecord] = []
        whole = True
        while True:
            for answer, flags, sequence, content in messages(self._socket.recv(RECEIVE)):
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if answer == NLMSG_DONE:
                    return records, whole
                if answer == NLMSG_ERROR:
                    _raise_errno(content)
                record = record_of(answer, content)
                if record is not None:
                    records.append(record)


class Monitor:
    """Events about links and addresses. `read` never blocks."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MONITOR_BUFFER)
        self._socket.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> list[Change] | None:
        """What happened since the last call, at most what one read takes; None: events were lost, look yourself."""
        try:
            data = self._socket.recv(RECEIVE)
        except BlockingIOError:
            return []
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise
        changes = []
        for kind, _, _, body in messages(data):
            record = record_of(kind, body)
            if record is not None:
                changes.append(Change(kind in (RTM_DELLINK, RTM_DELADDR), record))
        return changes


class AddressMessage:
    """RTM_NEWADDR for one address on one interface, ready but for its lifetime."""

    def __init__(self, index: int, address: str, prefix: int) -> None:
        self._is_ipv6 = ip_address(address).version == 6
        body = bytearray(_address_body(address, prefix, index))
        if self._is_ipv6:
            body += _attribute(IFA_FLAGS, struct.pack("=I", IFA_F_NODAD))
        body += _attribute(IFA_PROTO, bytes([PROTOCOL_MARK]))
        body += _attribute(IFA_CACHEINFO, bytes(_CACHEINFO.size))
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
        self._message = bytearray(_message(RTM_NEWADDR, flags, 0, bytes(body)))

    def with_lifetime(self, sequence: int, valid: int) -> bytearray:
        """The same buffer each time. IPv6 is never preferred: otherwise new connections would come from it."""
        struct.pack_into("=I", self._message, 8, sequence)
        preferred = 0 if self._is_ipv6 else valid
        _CACHEINFO.pack_into(self._message, len(self._message) - _CACHEINFO.size, preferred, valid, 0, 0)
        return self._message


# ---- bytes ----------------------------------------------------------------------------------------------------------


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence and body of each message in what one read gave; a broken tail ends it."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += _aligned(length)


def record_of(kind: int, body: bytes) -> LinkRecord | AddressRecord | None:
    """None for messages of other kinds, other families, or too short."""
    if kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= _LINK.size:
        family, _, index, flags, _ = _LINK.unpack_from(body)
        found = _attributes(body[_LINK.size :])
        name = found.get(IFLA_IFNAME)
        if family != socket.AF_UNSPEC or name is None:
            return None
        text = name.rstrip(b"\0").decode("utf-8", "replace")
        mac = found.get(IFLA_ADDRESS, b"")
        return LinkRecord(index, text, bool(flags & IFF_UP), bool(flags & IFF_LOWER_UP), mac)
    if kind in (RTM_NEWADDR, RTM_DELADDR) and len(body) >= _ADDRESS.size:
        return _address_record(body)
    return None


def _address_record(body: bytes) -> AddressRecord | None:
    family, prefix, flags, _, index = _ADDRESS.unpack_from(body)
    found = _attributes(body[_ADDRESS.size :])
    # On a point-to-point link IFA_ADDRESS is the other end.
    packed = found.get(IFA_LOCAL, found.get(IFA_ADDRESS, b""))
    if (family, len(packed)) not in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        return None
    cacheinfo = found.get(IFA_CACHEINFO, b"")
    preferred, valid, _, _ = _CACHEINFO.unpack(cacheinfo) if len(cacheinfo) == _CACHEINFO.size else (0, 0, 0, 0)
    more = found.get(IFA_FLAGS, b"")
    return AddressRecord(
        index=index,
        address=str(ip_address(packed)),
        prefix=prefix,
        flags=struct.unpack("=I", more)[0] if len(more) == 4 else flags,
        protocol=found.get(IFA_PROTO, b"\0")[0],
        valid=valid,
        preferred=preferred,
    )


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            break
        if length > _ATTRIBUTE.size:
            found[kind & 0x3FFF] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _address_body(address: str, prefix: int, index: int) -> bytes:
    target = ip_address(address)
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    return (
        _ADDRESS.pack(family, prefix, 0, 0, index)
        + _attribute(IFA_LOCAL, target.packed)
        + _attribute(IFA_ADDRESS, target.packed)
    )


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def _raise_errno(body: bytes) -> None:
    """NLMSG_ERROR carries minus the errno, 0 for an acknowledgement."""
    (code,) = struct.unpack_from("=i", body)
    if code:
        raise OSError(-code, os.strerror(-code))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
