"""Who answers for an address: asks by ARP again and again, from the client's place.

Run as `python -I -S arp.py INTERFACE ADDRESS…`; at SIGTERM it prints, as JSON, for each address the times during which
each hardware address answered: [[address, mac, first, last], …], seconds by CLOCK_BOOTTIME.

It asks as somebody who is not there, so that the answers reach no neighbour table that a client uses.
"""

import json
import select
import signal
import socket
import struct
import sys
import time

ME = (bytes.fromhex("0277fe0000fe"), socket.inet_aton("10.77.1.250"))
EVERY = 0.02
GAP = 0.15
"""Without an answer for so long, a time is over."""
ARP = 0x0806


def question(address: bytes) -> bytes:
    head = struct.pack("!6s6sHHHBBH", b"\xff" * 6, ME[0], ARP, 1, 0x0800, 6, 4, 1)
    return head + ME[0] + ME[1] + bytes(6) + address


class Stop(BaseException):
    """A signal asks for the result."""


def main(interface: str, addresses: list[str]) -> None:
    def stop(number: int, frame: object) -> None:
        raise Stop

    signal.signal(signal.SIGTERM, stop)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
    sock.bind((interface, 0))
    wanted = {socket.inet_aton(address): address for address in addresses}
    spans: list[Span] = []
    print("ready", flush=True)
    try:
        following = 0.0
        while True:
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            if now >= following:
                following = now + EVERY
                for address in wanted:
                    sock.send(question(address))
            if select.select([sock], [], [], max(0.0, following - now))[0]:
                frame = sock.recv(128)
                answers = len(frame) >= 42 and frame[20:22] == b"\0\2" and frame[:6] == ME[0]
                if answers and frame[28:32] in wanted:
                    heard(spans, wanted[frame[28:32]], frame[22:28].hex(":"), now)
    except Stop:
        print(json.dumps([[span.address, span.mac, span.first, span.last] for span in spans]), flush=True)


class Span:
    """A time during which `mac` answered for `address`."""

    def __init__(self, address: str, mac: str, at: float) -> None:
        self.address, self.mac, self.first, self.last = address, mac, at, at


def heard(spans: list[Span], address: str, mac: str, now: float) -> None:
    for span in reversed(spans):
        if (span.address, span.mac) == (address, mac) and now - span.last <= GAP:
            span.last = now
            return
    spans.append(Span(address, mac, now))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
