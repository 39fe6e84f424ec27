"""What the master has nodes do for lha_buildapp: asked for again until each has answered, or is gone, or it is late."""

from dataclasses import dataclass, field

from truecl.core.outbox import Outbox
from truecl.core.situation import Situation
from truecl.model.build import Seen, Work
from truecl.model.ids import REQD, AppName, NodeName
from truecl.wire.messages import AskWork, WorkAnswer

AGAIN = 1.0
"""Seconds after which an unanswered question is sent again."""
LATE = 5.0
"""Seconds beyond the node's own time limit, for the ways there and back."""
LOST = 6.0
"""Seconds of silence after which a node is waited for no more."""
QUICK = 5.0
"""Seconds for a quick look."""


@dataclass
class _Errand:
    app: AppName
    works: dict[NodeName, Work]
    timeout: float
    until: float
    again_at: float
    seen: dict[NodeName, Seen] = field(default_factory=dict)
    silent: dict[NodeName, float] = field(default_factory=dict)
    """Since when nodes that have not answered are not heard."""


class Errands:
    """The master's part of clusterd. An errand's id is unique in the cluster: it begins with its request's."""

    def __init__(self, situation: Situation, out: Outbox) -> None:
        self._situation, self._out = situation, out
        self._errands: dict[str, _Errand] = {}

    def forget(self) -> None:
        """This node leads no more."""
        self._errands.clear()

    def ask(self, id: str, app: AppName, works: dict[NodeName, Work], timeout: float) -> None:
        now = self._situation.now
        self._errands[id] = _Errand(app, works, timeout, now + timeout + LATE, now + AGAIN)
        for node in works:
            self._send(id, node)

    def seen(self, id: str) -> dict[NodeName, Seen] | None:
        """All answers, in the order of the nodes that were asked, once; None: not all are in."""
        errand = self._errands.get(id)
        if errand is None or len(errand.seen) < len(errand.works):
            return None
        del self._errands[id]
        return {node: errand.seen[node] for node in errand.works}

    def drop(self, id: str) -> None:
        self._errands.pop(id, None)

    def answered(self, message: WorkAnswer) -> None:
        errand = self._errands.get(message.id)
        if errand is not None and message.node in errand.works:
            errand.seen.setdefault(message.node, message.seen)

    def step(self) -> None:
        """Before the operations look."""
        heard, now = self._situation.heard(), self._situation.now
        for id, errand in self._errands.items():
            for node in errand.works:
                if node in errand.seen:
                    continue
                if node in heard:
                    errand.silent.pop(node, None)
                elif now >= errand.silent.setdefault(node, now) + LOST:
                    errand.seen[node] = Seen(problems=("is not up any more",))
                if now >= errand.until:
                    late = f"did not answer within {errand.timeout + LATE:g} s; its log is in /var/log/truecl"
                    errand.seen[node] = Seen(problems=(late,))
                elif now >= errand.again_at:
                    self._send(id, node)
            if now >= errand.again_at:
                errand.again_at = now + AGAIN

    def wakes(self) -> list[float]:
        return [min(errand.again_at, errand.until) for errand in self._errands.values()]

    def _send(self, id: str, node: NodeName) -> None:
        errand = self._errands[id]
        message = AskWork(id, self._situation.leadership.term, errand.app, errand.works[node], errand.timeout)
        if node == self._situation.me:
            self._out.tell(REQD, message)
        else:
            self._out.send(node, message)
