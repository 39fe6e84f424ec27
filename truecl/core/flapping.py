"""Nodes that come and go are held down: given nothing new for a while that doubles with each loss, up to a bound.

What happened stands in the log, so that another master goes on from it: each loss, each return, each end of a hold.
How long something has lasted is in the master's memory alone, for no clock is common to the nodes: after a change of
masters a hold, and the quiet time that ends the story, are counted anew. A node that left in good order was not lost,
nor is one that an operator switches off (lha_fence).
"""

from collections.abc import Collection

from truecl.core import levels
from truecl.core.situation import Situation
from truecl.model.ids import NodeName
from truecl.model.ledger import AnyCommand, Losses, Presence, RecordLosses

FREE_LOSSES = 2
"""So often a node may be lost, and is used again as soon as it is back."""
FIRST_HOLD = 10.0
LONGEST_HOLD = 600.0
SWITCHED_OFF = 5.0
"""Seconds from the operator's order, or the device's word, in which the node's silence begins."""
QUIET = 3600.0
"""Seconds after its return in which a node was not lost, and its losses are forgotten."""


def hold(count: int) -> float:
    """Seconds for which a node is held down on its return from loss number `count`."""
    beyond = count - FREE_LOSSES - 1
    return 0.0 if beyond < 0 else min(FIRST_HOLD * 2.0 ** min(beyond, 16), LONGEST_HOLD)


class Flapping:
    """The master's eye on them."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._since: dict[NodeName, tuple[Losses, float]] = {}
        """What the log says of a node, and since when this master has known it."""
        self._ordered: dict[NodeName, float] = {}
        """Nodes that an operator has switched off: when that was last under way, or they were still gone for it."""

    def begin(self) -> None:
        """Another mastership."""
        self._since.clear()
        self._ordered.clear()

    def step(self, switched_off: Collection[NodeName]) -> list[AnyCommand]:
        """What the log does not say yet. `switched_off`: nodes that operators are having switched off."""
        situation, losses = self._situation, self._situation.ledger.losses
        self._since = {
            node: self._since[node] if self._since.get(node, (None,))[0] == each else (each, situation.now)
            for node, each in losses.items()
        }
        if not levels.knows(situation.ledger, RecordLosses):
            return []
        names = [node.name for node in situation.configuration.cluster.nodes]
        lost, alive = situation.fallen_out(), situation.alive()
        gone = [node for node in self._ordered if node in lost]
        self._ordered |= dict.fromkeys((*gone, *sorted(switched_off)), situation.now)
        self._ordered = {node: at for node, at in self._ordered.items() if situation.now < at + SWITCHED_OFF}
        commands: list[AnyCommand] = []
        for node in sorted({*names, *losses}):
            before = losses.get(node)
            counts = node in lost and node not in self._ordered
            after = self._after(node, before, counts, node in alive) if node in names else None
            if after != before:
                commands.append(RecordLosses(node, before, after))
        return commands

    def held(self) -> dict[NodeName, float]:
        """Node to when its hold ends."""
        return {
            node: since + hold(losses.count)
            for node, (losses, since) in sorted(self._since.items())
            if losses.presence is Presence.HELD
        }

    def wakes(self) -> list[float]:
        """When something is over; once it is, the log is to say so, and what waits for that wakes by itself."""
        quiet = [since + QUIET for losses, since in self._since.values() if losses.presence is Presence.BACK]
        return [at for at in (*self.held().values(), *quiet) if at > self._situation.now]

    def _after(self, node: NodeName, before: Losses | None, lost: bool, alive: bool) -> Losses | None:
        if before is None:
            return Losses(1, Presence.AWAY) if lost else None
        lasted = self._situation.now - self._since[node][1]
        if lost and before.presence is not Presence.AWAY:
            return Losses(before.count + 1, Presence.AWAY)
        if before.presence is Presence.AWAY and alive:
            return Losses(before.count, Presence.HELD if hold(before.count) else Presence.BACK)
        if before.presence is Presence.HELD and lasted >= hold(before.count):
            return Losses(before.count, Presence.BACK)
        if before.presence is Presence.BACK and alive and lasted >= QUIET:
            return None
        return before
