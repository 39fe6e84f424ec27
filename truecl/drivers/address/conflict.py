"""Has somebody else this address? Asked on the wire before it is taken (SAFETY.md section 7).

Two questions, 50 ms apart, and 100 ms in all; a first answer ends it early. What counts is any claim by hardware that
is not this node's own: an answer, but also somebody who announces the address at this moment.
"""

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from truecl.drivers.address.arp import ETH_P_ARP, ETH_P_IPV6, PacketSocket, claim, question
from truecl.drivers.contract import Loop

QUESTIONS = 2
BETWEEN = 0.05
"""Seconds for answers after each question."""
STEP = 0.005
"""Seconds between looks at whether an answer has come."""
MAX_FRAMES = 256
"""Frames looked at per wake-up, so that a flood of ARP cannot keep this process."""


async def other_owner(address: str, interface: str, own: Iterable[bytes], loop: Loop) -> str:
    """The hardware address of another owner, '' if nobody answered. `own`: those of this node's interfaces.

    Raises OSError: no such interface, it is down, or raw sockets are not allowed. An interface that is not Ethernet has
    nobody to ask.
    """
    version = ip_address(address).version
    packets = PacketSocket(interface, ETH_P_ARP if version == 4 else ETH_P_IPV6)
    stop: Callable[[], None] | None = None
    try:
        if not packets.is_ethernet:
            return ""
        if version == 6:
            packets.keep_advertisements()
        listener = _Listener(packets, address, {each.hex(":") for each in own} | {packets.mac.hex(":")})
        stop = loop.watch(packets.fileno(), listener.read)
        asked = question(packets.mac, address)
        for _ in range(QUESTIONS):
            packets.send(asked)
            until = loop.now() + BETWEEN
            while not listener.owner and loop.now() < until:
                await loop.sleep(min(STEP, until - loop.now()))
            if listener.owner:
                break
        return listener.owner
    finally:
        if stop is not None:
            stop()
        packets.close()


class _Listener:
    def __init__(self, packets: PacketSocket, address: str, own: set[str]) -> None:
        self._packets = packets
        self._address = str(ip_address(address))
        self._own = own
        self.owner = ""

    def read(self) -> None:
        for _ in range(MAX_FRAMES):
            frame = self._packets.receive()
            if frame is None:
                return
            found = claim(frame)
            if found is not None and found.address == self._address and found.mac not in self._own:
                self.owner = self.owner or found.mac
