"""When a floating address is announced (gratuitous ARP, unsolicited neighbour advertisement).

Switches and neighbours keep sending to the node that had the address before, until they hear of the new one. One frame
may be lost, so there is a burst at once and another after some seconds (after keepalived's practice). And again after a
healed partition: what was announced while the network was cut never reached the other side.
"""

from truecl.wire.messages import View

BURST = 5
SPACING = 0.02
"""Seconds within a burst; the first goes out at once."""
ROUND_AFTER = 5.0
"""Seconds from one burst to the next."""
ROUNDS = 2
ROUNDS_CONTESTED = 6
"""Bursts where another owner was seen: its kernel may hold and answer for the address for a while yet."""


def schedule(now: float, rounds: int = ROUNDS) -> tuple[float, ...]:
    """The times to announce at, rising, the first of them `now`."""
    return tuple(now + turn * ROUND_AFTER + place * SPACING for turn in range(rounds) for place in range(BURST))


class Announcements:
    """What is left to be announced of one address."""

    def __init__(self) -> None:
        self._times: tuple[float, ...] = ()

    @property
    def next(self) -> float | None:
        return self._times[0] if self._times else None

    def begin(self, now: float, rounds: int = ROUNDS) -> None:
        """From the first burst on; the bursts still waiting of an earlier, longer schedule stay."""
        last = schedule(now, rounds)[-1]
        self._times = (*schedule(now, rounds), *(time for time in self._times if time > last))

    def stop(self) -> None:
        self._times = ()

    def due(self, now: float) -> bool:
        """Is one to be sent now? Of several whose time has passed (this node was away) one is enough."""
        waiting = tuple(time for time in self._times if time > now)
        is_due = len(waiting) < len(self._times)
        self._times = waiting
        return is_due


def healed(before: View | None, after: View) -> bool:
    """Did a peer, or a link to one, come back between two views? The first view of all heals nothing."""
    if before is None:
        return False
    known = {each.node: each for each in before.nodes}
    for peer in after.nodes:
        old = known.get(peer.node)
        if old is None:
            continue
        if peer.alive and not old.alive:
            return True
        up = {link.name for link in old.links if link.up}
        if any(link.up and link.name not in up for link in peer.links):
            return True
    return False
