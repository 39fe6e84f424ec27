"""A node's own side of its lease (SAFETY.md section 2): until when it may run what, by its own clock.

The lease counts from when the request *was sent* that was answered (Gray and Cheriton 1989, section 3.1: the holder's
term must end before the grantor's view of it), and is as long as that answer says: this node's own configuration may be
another than the one that the leader reckons with. Requests are numbered within one life of this object; an answer to an
older request than one already answered says nothing new and is ignored.
"""

from truecl.model.ids import AppName, BootId, Generation, NodeName
from truecl.model.replica import ReplicaReport
from truecl.model.report import InstanceReport, WatchdogReport
from truecl.wire.messages import Renew, Renewed

ANTICIPATION = 0.1
"""Fraction of the interval by which a request is meant to precede the leader's next round."""
MAX_OUTSTANDING = 64
"""Requests remembered as unanswered; older ones could only extend a lease that is over."""


class Lease:
    """`end` is on this node's CLOCK_BOOTTIME, seconds; before the first answer the lease is over."""

    def __init__(
        self, me: NodeName, boot: BootId, length: float, interval: float, first_number: int, now: float
    ) -> None:
        self.me = me
        self.boot = boot
        self.length = length
        """As the last answer said, seconds."""
        self.interval = interval
        self.idle = False
        """Nothing is open or ordered on this node: fewer requests keep the lease all the same, if none is lost."""
        self.end = now
        self.named: dict[AppName, Generation] = {}
        self.asked_at = now
        """When the request was sent that was answered last."""
        self.next_request = now
        self._asked = now
        self._number = first_number
        self._answered = first_number
        self._sent: dict[int, float] = {}

    @property
    def pace(self) -> float:
        """Seconds from one request to the next: of an idle node about half of the lease, in step with the rounds."""
        rounds = round(self.length / 2 / self.interval) if self.idle else 1
        return self.interval * max(1, rounds)

    def holds(self, now: float) -> bool:
        return now < self.end

    def names(self, app: AppName, generation: Generation, now: float) -> bool:
        """May exactly this generation run here, now?"""
        return self.holds(now) and self.named.get(app) == generation

    def request(
        self,
        instances: tuple[InstanceReport, ...],
        leaving: bool,
        now: float,
        watchdog: WatchdogReport | None = None,
        replicas: tuple[ReplicaReport, ...] = (),
    ) -> Renew:
        """A new request; the clock of the lease it may bring starts here."""
        self._number += 1
        self._sent[self._number] = now
        if len(self._sent) > MAX_OUTSTANDING:
            del self._sent[next(iter(self._sent))]
        self._asked, self.next_request = now, now + self.pace
        return Renew(self.me, self.boot, self._number, instances, leaving, watchdog, replicas=replicas)

    def answer(self, message: Renewed, now: float) -> bool:
        """Take an answer; True if it extended the lease and `named` is news worth acting on.

        The caller has dealt with a lapse before this: what was running when the lease ran out is being stopped and
        stays so, whatever comes in now.
        """
        if message.node != self.me or message.boot != self.boot or message.number <= self._answered:
            return False
        sent = self._sent.get(message.number)
        if sent is None:
            return False
        self._answered = message.number
        for number in [each for each in self._sent if each <= message.number]:
            del self._sent[number]
        self._follow_rounds(now)
        self.length, self.asked_at = message.lease, sent
        end = sent + self.length
        if end <= now:
            return False
        self.end = max(self.end, end)
        self.named = dict(message.named)
        return True

    def _follow_rounds(self, now: float) -> None:
        """The leader answers all nodes when a round of its own is over, and begins those an interval apart. A request
        just before the next one waits least, and its lease loses least by waiting."""
        earliest, latest = self._asked + self.pace / 2, self._asked + self.pace * (1 + 2 * ANTICIPATION)
        self.next_request = max(earliest, min(latest, now + self.pace - self.interval * ANTICIPATION))
