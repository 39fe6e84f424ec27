"""The leader's side of the leases (SAFETY.md section 2): which requests may be answered, whose lease is surely over.

A request is answered only after a quorum acknowledged a round that began after the request came in: no deposed leader
extends a lease. The leader counts a lease from when it *received* the request that it answered, later than when the node sent it, so the leader's view always ends after the node's own. Nothing of an earlier leader's answers counts
from later than `bound` (Raft's `lease_bound`).
"""

from dataclasses import dataclass

from truecl.model.config import Timing
from truecl.model.ids import Generation, NodeName
from truecl.wire.messages import Renew

MAX_PENDING = 1024


@dataclass(frozen=True)
class _Pending:
    request: Renew
    received: float
    round: int


class Leases:
    """Exists for one leadership. All times are the leader's CLOCK_BOOTTIME, seconds."""

    def __init__(self, timing: Timing, bound: float) -> None:
        self._timing = timing
        self._bound = bound
        self._pending: list[_Pending] = []
        self._answered: dict[NodeName, float] = {}
        """Node to the receipt of the latest request that was answered."""
        self._revoked: dict[NodeName, dict[Generation, None]] = {}

    def requested(self, request: Renew, next_round: int, now: float) -> None:
        if len(self._pending) < MAX_PENDING:
            self._pending.append(_Pending(request, now, next_round))

    def waiting(self) -> bool:
        return bool(self._pending)

    def completed(self, round: int) -> tuple[Renew, ...]:
        """The requests that this round allows to be answered; they count as answered from here on."""
        ripe = [each for each in self._pending if each.round <= round]
        self._pending = [each for each in self._pending if each.round > round]
        answers = []
        for each in ripe:
            node = each.request.node
            if node not in self._revoked:
                self._answered[node] = max(self._answered.get(node, self._bound), each.received)
                answers.append(each.request)
        return tuple(answers)

    def surely_over(self, node: NodeName) -> float:
        """From this moment on 'expired' holds: lease, drift and stop allowance after the last answer that counts."""
        timing = self._timing
        return self._answered.get(node, self._bound) + timing.lease + timing.drift + timing.stop_allowance

    def revoke(self, node: NodeName, generation: Generation) -> None:
        """A grant elsewhere is proposed on 'expired': this leader renews the old owner no more."""
        self._revoked.setdefault(node, {})[generation] = None

    def closed(self, node: NodeName, generation: Generation) -> None:
        """The old owner itself reported the generation closed."""
        generations = self._revoked.get(node)
        if generations is not None:
            generations.pop(generation, None)
            if not generations:
                del self._revoked[node]
