"""Leaves rules of a node's hands out: its guard, its tokens and its fences."""

from msgspec.structs import replace

from truecl.core.contract import Output
from truecl.core.fencing import Course, Fences, Verdict
from truecl.core.guard import Guard
from truecl.core.instance import InstanceMachine
from truecl.core.instances import Instances
from truecl.core.lease import Lease
from truecl.core.orders import Orders
from truecl.core.reqd import Reqd
from truecl.core.turns import Turns
from truecl.model.actions import FenceOutcome, Leave
from truecl.model.ids import REQD, AppName, Generation
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead, with_part
from truecl.wire.messages import Order, Renewed


class NoGuard(Guard):
    def check(self, now: float) -> None:
        """The lease may end, nothing follows from it."""


class ThawsOnAnyAnswer(Guard):
    """Whenever it was asked for."""

    def _may_thaw(self, machine: InstanceMachine) -> bool:
        return machine.frozen_at is not None


class IgnoresTokens(Orders):
    def take(self, order: Order, now: float) -> bool:
        records = self._instances.records
        record = records.get(order.app)
        if record is not None and order.verb == "start" and not record.open:
            records[order.app] = replace(record, generation=Generation(0))
        return super().take(order, now)


class CountsFromTheAnswer(Lease):
    def answer(self, message: Renewed, now: float) -> bool:
        if message.number in self._sent:
            self._sent[message.number] = now
        return super().answer(message, now)


class TakesAnyAnswer(Lease):
    """Whatever request it answers, of whatever boot: it counts for the latest."""

    def answer(self, message: Renewed, now: float) -> bool:
        return super().answer(replace(message, boot=self.boot, number=self._number), now)


class StartsUnderAnyLease(Orders):
    def _may_start(self, order: Order, now: float) -> bool:
        return self._watchdog.settled and self._lease.holds(now)


class StartsBesideAnOlder(Instances):
    def open_machine(self, app: AppName) -> InstanceMachine | None:
        return None


class RestartRenews(Instances):
    """A restart of reqd counts like an answer."""

    def take_up(self, old_lease: float, now: float) -> None:
        super().take_up(now + self._lease.length, now)


class _NoTurns(Turns):
    def wake(self, now: float) -> None:
        limit, self.limit = self.limit, 1000
        super().wake(now)
        self.limit = limit


class TakesNoTurns(Instances):
    def take_up(self, old_lease: float, now: float) -> None:
        self.turns.__class__ = _NoTurns
        super().take_up(old_lease, now)


class LeavesAtOnce(Reqd):
    def _leave(self, now: float) -> None:
        if self._leaving_since is not None and not self._left:
            self._left = True
            self._watchdog.disarm()
            self._out.do(Leave())


class OneFeedWillDo(Course):
    """Whatever the other power feed of the node does."""

    def done(self, id: int, outcome: FenceOutcome, now: float) -> Verdict | None:
        verdict = super().done(id, outcome, now)
        return Verdict(True, "") if outcome.done else verdict


class _OneFeedFences(Fences):
    _course = OneFeedWillDo


class OneFeedReqd(Reqd):
    def start(self, now: float) -> Output:
        self._fences.__class__ = _OneFeedFences
        return super().start(now)


def with_reqd(reqd: type[Reqd]) -> Assemble:
    return instead(REQD, lambda me, configuration, boot, records, random, now: reqd(
        me, configuration, boot, records, now))  # fmt: skip


MUTANTS = (
    Mutant("no guard", "SAFETY.md 6", assemble=with_part("guard", NoGuard), adjust=faults.unfenced),
    Mutant("count a lease from its answer", "SAFETY.md 2", assemble=with_part("_lease", CountsFromTheAnswer),
           adjust=faults.unfenced),
    Mutant("take any answer for the latest", "SAFETY.md 2", assemble=with_part("_lease", TakesAnyAnswer),
           adjust=faults.repeated),
    Mutant("take a restart for a renewal", "SAFETY.md 2", assemble=with_part("instances", RestartRenews),
           adjust=faults.unfenced),
    Mutant(
        "thaw on an older answer",
        "SAFETY.md 2",
        assemble=with_part("guard", ThawsOnAnyAnswer),
        adjust=faults.flickering,
        budget=60,
    ),
    Mutant("ignore the token", "SAFETY.md 4", assemble=with_part("orders", IgnoresTokens), adjust=faults.repeated),
    Mutant("start under any lease", "SAFETY.md 4", assemble=with_part("orders", StartsUnderAnyLease),
           adjust=faults.repeated),
    Mutant("start beside an older generation", "SAFETY.md 4", assemble=with_part("instances", StartsBesideAnOlder),
           adjust=faults.failing, seen_by="tests/core/test_reqd.py"),
    Mutant("take no turns", "DESIGN.md 5", assemble=with_part("instances", TakesNoTurns)),
    Mutant("one power feed will do", "SAFETY.md 3", assemble=with_reqd(OneFeedReqd), adjust=faults.failing,
           budget=170),
    Mutant("disarm while something is left", "SAFETY.md 3", assemble=with_reqd(LeavesAtOnce),
           adjust=faults.watched, nodes=3, bad_day=30.0, budget=170),
)  # fmt: skip
