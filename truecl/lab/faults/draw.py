"""What happens in a round: a pure function of the campaign's seed and the round's number."""

from dataclasses import dataclass
from random import Random

from truecl.model.ids import DAEMONS

POWER, PAUSE, DEAF, LINK, CUT = "power cut", "pause", "one-way cut", "link cut", "full cut"
DAEMON, CLOCK, FULL, SLOW = "daemon kill", "clock jump", "full disk", "slow disk"
KINDS = (POWER, PAUSE, DEAF, LINK, CUT, DAEMON, CLOCK, FULL, SLOW)
HARMLESS = (LINK, DAEMON, CLOCK, FULL, SLOW)
"""Faults that must make no application leave its node."""
AIMS = ("files", "pages", "master", "any")
"""Whom it hits: the node that runs this application, the master's, or one drawn by `place`."""
SWITCHES = ("ok", "ok", "ok", "ok", "ok", "ok", "slow 1.5", "refuse")
OFTEN = ("ok", "ok", "slow 1.5", "refuse")
"""Where time decides as well: of a node that stands still or is cut off."""
PARENT = "truecld"


@dataclass(frozen=True)
class Fault:
    """Seconds, except where it says otherwise."""

    kind: str
    aim: str
    place: float
    """0 to 1: which node, for the aim 'any'."""
    length: float
    switch: str
    """How the power switch treats the cluster's orders meanwhile (`Lab.power`)."""
    silent: bool
    """Of a pause: the kernel answers nobody either. Of a one-way cut: the node is mute, not deaf."""
    link: int
    daemon: str
    jump: int
    """Of the wall clock."""
    slowness: float
    """For so long the disk stands still at a time."""
    delay: float
    """Before it, so that it meets a heartbeat's period anywhere."""


def draw(seed: int, number: int, kinds: tuple[str, ...] = KINDS) -> Fault:
    """The fault of one round. Rounds of a campaign go through all kinds, in a drawn order, before one comes again."""
    lap = Random(f"{seed}/{number // len(kinds)}")
    kind = lap.sample(kinds, len(kinds))[number % len(kinds)]
    random = Random(f"{seed}/{number}/{kind}")
    shortest, longest = (0.5, 10.0) if kind == PAUSE else (0.2, 4.0)
    return Fault(
        kind=kind,
        aim=random.choice(AIMS),
        place=random.random(),
        length=round(shortest * (longest / shortest) ** random.random(), 3),
        switch=random.choice(OFTEN if kind in (PAUSE, DEAF, CUT) else SWITCHES),
        silent=random.random() < 0.5,
        link=random.choice((1, 2)),
        daemon=random.choice((*DAEMONS, PARENT)),
        jump=random.choice((-1, 1)) * random.choice((60, 3600, 86400)),
        slowness=round(0.02 * 20 ** random.random(), 3),
        delay=round(random.random() * 0.5, 3),
    )
