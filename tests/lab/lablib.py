"""What the lab's tests share: names of their own for labs, pings, traces of a lab on the machine."""

import os
import time
from collections.abc import Callable

from truecl.lab.cluster import Lab

PING = """
import os, socket, struct, sys, time
target, count = sys.argv[1], int(sys.argv[2])
six = ":" in target
sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else 1)
ident = os.getpid() & 0xffff
for number in range(count):
    head = struct.pack("!BBHHH", 128 if six else 8, 0, 0, ident, number)
    total = sum(struct.unpack("!4H", head))
    total = (total & 0xffff) + (total >> 16)
    try:
        sock.sendto(head[:2] + struct.pack("!H", 0xffff - total) + head[4:], (target, 0))
    except OSError:
        sys.exit(1)
    end = time.monotonic() + 0.15
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            packet = sock.recv(2048)
        except OSError:
            break
        body = packet if six else packet[20:]
        if body[0] == (129 if six else 0) and body[4:8] == head[4:8]:
            sys.exit(0)
sys.exit(1)
"""


class Net:
    """What tests ask of a lab's network."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def reaches(self, node: str, address: str, tries: int = 3) -> bool:
        """ICMP echo from a node; one answer in three is enough."""
        return self._lab.exec(node, ["/usr/bin/env", "python3", "-c", PING, address, str(tries)]).code == 0


def lab_name(suffix: str) -> str:
    return f"t{os.getpid()}-{suffix}"


def wait_until(so: Callable[[], bool]) -> None:
    """Ask again and again until it is so, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while not so():
        assert time.monotonic() < deadline, "not in ten seconds"
