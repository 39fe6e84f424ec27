"""The leader's side of the leases (SAFETY.md section 2): which requests may be answered, whose lease is surely over.

A request is answered only after a quorum acknowledged a round that began after the request came in: no deposed leader
extends a lease. The leader counts a lease from when it *received* the request that it answered, later than when the
node sent it, so the leader's view always ends after the node's own. Nothing of an earlier leader's answers counts from
later than `bound` (Raft's `lease_bound`).

How long a lease is stands in the log, and in each answer, so that nobody's configuration can part the two views. When
it changes, this and earlier leaders may have answered with the older length: the longest counts until all are over.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.ledger import LeaseTiming
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

    def __init__(self, timings: tuple[LeaseTiming, ...], bound: float, now: float) -> None:
        self._timings = timings
        self._since = now
        """Answers of this leader are given with the first of `timings` from this moment on."""
        self._bound = bound
        self._pending: list[_Pending] = []
        self._answered: dict[NodeName, float] = {}
        """Node to the receipt of the latest request that was answered."""
        self._revoked: dict[NodeName, dict[AppName, Generation]] = {}

    def retime(self, timings: tuple[LeaseTiming, ...], now: float) -> None:
        """What the log says by now."""
        if timings != self._timings:
            self._timings, self._since = timings, now

    def settled_at(self, slowest_watchdog: float) -> float:
        """From this moment on nothing rests on any lease that was given with another timing than the first."""
        longest = max(expired_after(self._timings), reset_after(self._timings, slowest_watchdog))
        return self._since + longest

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

    def over(self, node: NodeName) -> float:
        """From this moment on the node has no lease of its own."""
        length = max((each.lease + each.drift for each in self._timings), default=math.inf)
        return self._answered.get(node, self._bound) + length

    def surely_over(self, node: NodeName, addressed: bool = False) -> float:
        """From this moment on 'expired' holds: lease, drift and stop allowance after the last answer that counts.
        `addressed`: for a grant that is (`Grant.addressed`)."""
        return self._answered.get(node, self._bound) + expired_after(self._timings, addressed)

    def surely_reset(self, node: NodeName, timeout: float) -> float:
        """From this moment on 'expired + watchdog' holds for what runs there under a watchdog of that timeout."""
        return self._answered.get(node, self._bound) + reset_after(self._timings, timeout)

    @property
    def unrenewed(self) -> tuple[NodeName, ...]:
        return tuple(sorted(self._revoked))

    def revoke(self, node: NodeName, app: AppName, generation: Generation) -> None:
        """A grant elsewhere is proposed on 'expired', or the node cannot stop what it has: this leader renews it no
        more."""
        self._revoked.setdefault(node, {})[app] = generation

    def reported(self, request: Renew, live: Collection[tuple[AppName, Generation]]) -> None:
        """What the old owner says of itself: revoked until it reports the generation closed, or never had it, or has it
        frozen and waits for an answer that does not name it.

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
            waits = phase in (None, Phase.FROZEN) and (app, generation) not in live
            if phase is Phase.CLOSED or waits:
                del revoked[app]
        if not revoked:
            del self._revoked[request.node]


def expired_after(timings: tuple[LeaseTiming, ...], addressed: bool = False) -> float:
    """Seconds from an answer to 'expired'; for ever where no timing is in force."""
    allowances = ((each, each.address_allowance if addressed else each.stop_allowance) for each in timings)
    return max((each.lease + each.drift + allowance for each, allowance in allowances), default=math.inf)


def reset_after(timings: tuple[LeaseTiming, ...], timeout: float) -> float:
    """Seconds from an answer to 'expired + watchdog'. Clocks part over all of this time, not only over the lease."""
    guarded = WATCHDOG_TIMES * timeout
    return max(((each.lease + guarded) * (1.0 + each.drift / each.lease) for each in timings), default=math.inf)
