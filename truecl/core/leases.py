"""The leader's side of the leases (SAFETY.md section 2): which requests may be answered, whose lease is surely over.

A request is answered only after a quorum acknowledged a round that began after the request came in: no deposed leader
extends a lease. The leader counts a lease from when it *received* the request that it answered, later than when the
node sent it, so the leader's view always ends after the node's own. Nothing of an earlier leader's answers counts from
later than `bound` (Raft's `lease_bound`).
"""

from collections.abc import Collection
from dataclasses import dataclass

from truecl.model.config import Timing
from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.report import Phase
from truecl.wire.messages import Renew

MAX_PENDING = 1024
WATCHDOG_TIMES = 3
"""Timeouts after which a watchdog has surely reset a node whose lease ended. One last feed may follow a check that came
before the lease's end, just before the reset; and the kernel feeds once more when the process that has the device open
dies (watchdog_release of drivers/watchdog/watchdog_dev.c), just before the next. (docs/decisions/, SAFETY.md 3.)"""


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
        self._revoked: dict[NodeName, dict[AppName, Generation]] = {}

    def requested(self, request: Renew, next_round: int, now: float) -> None:
        if len(self._pending) < MAX_PENDING:
            self._pending.append(_Pending(request, now, next_round))

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

    def surely_over(self, node: NodeName, addressed: bool = False) -> float:
        """From this moment on 'expired' holds: lease, drift and stop allowance after the last answer that counts.
        `addressed`: for a grant that is (`Grant.addressed`)."""
        timing = self._timing
        allowance = timing.address_allowance if addressed else timing.stop_allowance
        return self._answered.get(node, self._bound) + timing.lease + timing.drift + allowance

    def surely_reset(self, node: NodeName, timeout: float) -> float:
        """From this moment on 'expired + watchdog' holds for what runs there under a watchdog of that timeout. Clocks
        part over all of this time, not only over the lease."""
        length = self._timing.lease + WATCHDOG_TIMES * timeout
        return self._answered.get(node, self._bound) + length * (1.0 + self._timing.drift / self._timing.lease)

    def revoke(self, node: NodeName, app: AppName, generation: Generation) -> None:
        """A grant elsewhere is proposed on 'expired': this leader renews the old owner no more."""
        self._revoked.setdefault(node, {})[app] = generation

    def reported(self, request: Renew, live: Collection[tuple[AppName, Generation]]) -> None:
        """What the old owner says of itself: revoked until it reports the generation closed, or never had it.

        Its record precedes the first step, so a table without the generation means that its start never came there.
        Whether it can still come, the log says: as long as the grant is `live` (its end proposed, not committed), an
        answer would name it.
        """
        revoked = self._revoked.get(request.node)
        if revoked is None:
            return
        phases = {(line.app, line.generation): line.phase for line in request.instances}
        for app, generation in list(revoked.items()):
            phase = phases.get((app, generation))
            if phase is Phase.CLOSED or (phase is None and (app, generation) not in live):
                del revoked[app]
        if not revoked:
            del self._revoked[request.node]
