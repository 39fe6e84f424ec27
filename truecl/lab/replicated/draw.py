"""What happens in a round: a pure function of the campaign's seed and the round's number."""

from dataclasses import dataclass
from random import Random

POWER, PEER_POWER, RETURN = "power cut", "peer's power cut", "power cut in a resync"
REPLICATION, HEARTBEAT, CUT = "replication cut", "heartbeats cut", "full cut"
REQD, PAUSE = "reqd killed", "pause"
KINDS = (POWER, REPLICATION, HEARTBEAT, CUT, REQD, PAUSE, PEER_POWER, RETURN)
SHORTEST, LONGEST = 1.0, 5.0


@dataclass(frozen=True)
class Fault:
    """Whom it hits follows from the kind: the node that runs the database, the other, or what is between. Seconds."""

    kind: str
    length: float
    delay: float
    """Before it, so that it meets a commit, a checkpoint or a heartbeat anywhere."""
    refuse: bool
    """The power switch carries out none of the cluster's orders meanwhile."""
    silent: bool
    """Of a pause: the kernel stands still as well, as that of a stopped virtual machine."""


def draw(seed: int, number: int, kinds: tuple[str, ...] = KINDS) -> Fault:
    """The fault of one round. Rounds of a campaign go through all kinds, in a drawn order, before one comes again."""
    kind = Random(f"{seed}/{number // len(kinds)}").sample(kinds, len(kinds))[number % len(kinds)]
    random = Random(f"{seed}/{number}/{kind}")
    return Fault(
        kind=kind,
        length=round(SHORTEST * (LONGEST / SHORTEST) ** random.random(), 3),
        delay=round(0.5 + random.random(), 3),
        refuse=kind in (HEARTBEAT, CUT, PAUSE) and random.random() < 0.3,
        silent=random.random() < 0.5,
    )
