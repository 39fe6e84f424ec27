"""Fences being carried out by the master: the devices are asked again and again until the log has the confirmation.

A node that its device calls off while hbd still hears it is not off. Its silence may only come a detection time later;
after that the device is asked anew, for what it said before may be about another node's plug.
"""

from truecl.core.outbox import Outbox
from truecl.core.situation import Situation
from truecl.model.ids import REQD, Index, NodeName
from truecl.model.ledger import ConfirmFence
from truecl.wire.messages import FenceResult, OrderFenceOff

REPEAT_FENCE = 2.0


class Fencer:
    """The orders themselves are the planner's; what the log says of them is in the ledger."""

    def __init__(self, situation: Situation, outbox: Outbox) -> None:
        self._situation, self._out = situation, outbox
        self._asked: dict[tuple[NodeName, Index], float] = {}
        self.trouble: dict[NodeName, str] = {}
        """What the devices last said, for nodes whose fence order was tried and not confirmed."""
        self._said_off: dict[NodeName, tuple[Index, float]] = {}
        """Nodes that their devices called off while hbd still heard them, by which order and when."""

    def forget(self) -> None:
        """This node leads no more."""
        self._asked.clear()
        self.trouble.clear()
        self._said_off.clear()

    def carry_out(self, fences: tuple[tuple[NodeName, Index], ...]) -> None:
        now, ordered = self._situation.now, self._situation.ledger.fences
        self._asked = {key: at for key, at in self._asked.items() if key in fences}
        self.trouble = {node: text for node, text in self.trouble.items() if node in ordered}
        for node, index in fences:
            if now - self._asked.get((node, index), -REPEAT_FENCE) >= REPEAT_FENCE:
                self._asked[(node, index)] = now
                self._out.tell(REQD, OrderFenceOff(node, index))

    def result(self, message: FenceResult) -> ConfirmFence | None:
        """What is to be written at once."""
        if not message.off:
            self.trouble[message.node] = message.reason
            return None
        self.trouble.pop(message.node, None)
        if message.node in self._situation.heard():
            text = f"says that {message.node} is off, and it is still heard; does the device switch another one?"
            self.trouble[message.node] = text
            self._said_off[message.node] = message.index, self._situation.now
            return None
        self._said_off.pop(message.node, None)
        return ConfirmFence(message.node, message.index)

    def silent(self) -> list[ConfirmFence]:
        """Of the nodes that were called off, those that fell silent in time."""
        heard, confirmed = self._situation.heard(), []
        for node, (index, at) in list(self._said_off.items()):
            if self._situation.now >= at + REPEAT_FENCE:
                del self._said_off[node]
            elif node not in heard:
                del self._said_off[node]
                self.trouble.pop(node, None)
                confirmed.append(ConfirmFence(node, index))
        return confirmed

    def wakes(self) -> list[float]:
        return [at + REPEAT_FENCE for at in self._asked.values()]
