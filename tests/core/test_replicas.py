"""A node's replicas in reqd's core: which orders are carried out, what is reported, and the forced way down."""

import pytest
from msgspec.structs import replace

from truecl.core.contract import Done, Told
from truecl.core.instance import RETRY_AFTER
from truecl.core.replicas import LOOK_EVERY, LOOK_OFTEN, LOOK_SELDOM, SETTLING
from truecl.core.replicas import RETRY_AFTER as ORDER_RETRY
from truecl.model.actions import (
    Action,
    KillGroup,
    ReplicaConnect,
    ReplicaDown,
    ReplicaLook,
    ReplicaResult,
    ReplicaSever,
    ReplicaUp,
    StepDown,
    StepResult,
    StepUp,
)
from truecl.model.ids import CLUSTERD, LOCKD, STATD, Generation, Term
from truecl.model.ledger import GiveGrant, MarkCopy, SetWanted, Wanted
from truecl.model.replica import Disk, Link, ReplicaReport, Role, VolumeReport
from truecl.model.report import Phase
from truecl.model.step import Instance, Probe
from truecl.wire.messages import Applied, NodeStatus, Order, OrderReplica

from .mirrored import ALONE, BUILT_AT, CONFIGURATION, DB, DOWN, OUTDATED, layout, ledger, seen
from .mirrored import N2 as PEER
from .reqd_bench import ReqdBench

PRIMARY = seen(Role.PRIMARY)


class Bench(ReqdBench):
    """The kernel's word on the replica is `kernel`; looks are answered with it, everything else by the test."""

    def __init__(self) -> None:
        self.kernel = DOWN
        super().__init__(replace(CONFIGURATION, apps=(replace(CONFIGURATION.apps[0], addresses=()),)))
        self.wait(0.0)
        self.look()

    def of(self, *kinds: type) -> list[Action]:
        return [action for action in self.asked.values() if isinstance(action, kinds)]

    def replica_orders(self) -> list[Action]:
        return self.of(ReplicaUp, ReplicaDown, ReplicaConnect)

    def finish(self, kind: type, report: ReplicaReport | None = None, reason: str = "") -> None:
        number = next(number for number, action in self.asked.items() if isinstance(action, kind))
        del self.asked[number]
        self.kernel = report or self.kernel
        self.feed(Done(number, ReplicaResult(self.kernel, reason)))

    def look(self, report: ReplicaReport | None = None) -> None:
        self.kernel = report or self.kernel
        while self.of(ReplicaLook):
            self.finish(ReplicaLook)

    def replica(self, verb: str, generation: int, term: int = 1) -> None:
        self.feed(Told(CLUSTERD, OrderReplica(verb, DB, Generation(generation), Term(term), layout())))

    def up(self, generation: int, report: ReplicaReport = ALONE) -> None:
        self.replica("up", generation)
        self.finish(ReplicaUp, report)

    def report(self) -> ReplicaReport:
        return self.request.replicas[0]

    def run(self, generation: int) -> None:
        """Up, connected, and an instance on it."""
        self.up(generation, seen())
        self.lease((DB, generation))
        self.order("start", DB, generation)
        while len(self.asked) > len(self.of(ReplicaLook)):
            action = next(action for action in self.asked.values() if not isinstance(action, ReplicaLook))
            self.step(action)
        self.look(PRIMARY)
        assert self.line(DB).phase is Phase.RUNNING

    def step(self, action: Action, probe: Probe | None = None) -> None:
        number = next(number for number, each in self.asked.items() if each is action)
        del self.asked[number]
        good = Probe.ACTIVE if isinstance(action, StepUp) else Probe.INACTIVE
        self.feed(Done(number, StepResult(probe or good, "" if probe in (None, good) else "it did not work")))


# ---- looks and reports ----------------------------------------------------------------------------------------------


def test_a_node_looks_at_its_replicas_when_reqd_starts_and_says_what_is_there() -> None:
    bench = Bench()
    assert bench.request.replicas == (DOWN,)
    bench.restart()
    assert bench.request.replicas == ()
    bench.wait(0.0)
    bench.look(seen())
    assert bench.request.replicas == (seen(),), "at once: it is news"


def test_the_master_hears_what_a_comparison_found_and_not_how_far_it_is() -> None:
    bench = Bench()
    bench.run(7)
    for link, behind in ((Link.VERIFYING, 4096), (Link.SYNC_SOURCE, 4096), (Link.CONNECTED, 8192)):
        volume = VolumeReport("d", Disk.UP_TO_DATE, Disk.UP_TO_DATE, 50.0, 1000, 60.0, behind)
        bench.wait(LOOK_EVERY)
        bench.look(replace(seen(Role.PRIMARY, link), volumes=(volume,)))
        (told,) = bench.report().volumes
        assert told == VolumeReport("d", Disk.UP_TO_DATE, Disk.UP_TO_DATE, behind=8192 if behind == 8192 else 0)


def test_it_looks_each_second_and_seldom_at_one_that_is_down() -> None:
    bench = Bench()
    bench.wait(LOOK_EVERY)
    assert not bench.of(ReplicaLook)
    bench.wait(LOOK_SELDOM - LOOK_EVERY)
    bench.look(PRIMARY)
    bench.wait(LOOK_EVERY)
    assert bench.of(ReplicaLook)
    bench.look(DOWN)
    bench.wait(LOOK_EVERY)
    assert not bench.of(ReplicaLook)


def test_it_looks_often_at_one_that_was_told_to_connect_until_it_has_met_its_peer() -> None:
    """A start waits for that."""
    bench = Bench()
    bench.up(0, seen(link=Link.CONNECTING))
    bench.wait(LOOK_OFTEN)
    bench.look()
    bench.wait(LOOK_OFTEN)
    bench.look(seen())
    bench.wait(LOOK_OFTEN)
    assert not bench.of(ReplicaLook)
    bench.wait(LOOK_EVERY)
    bench.look(seen(link=Link.CONNECTING))
    bench.wait(SETTLING)
    bench.look()
    bench.wait(LOOK_OFTEN)
    assert not bench.of(ReplicaLook), "it may be away for days"


def test_the_master_hears_what_happened_and_statd_how_a_synchronisation_goes_on() -> None:
    bench = Bench()
    syncing = (VolumeReport("d", Disk.INCONSISTENT, Disk.UP_TO_DATE, 10.0, 4096, 9.0, 1 << 20),)
    bench.wait(LOOK_SELDOM)
    bench.look(replace(seen(link=Link.SYNC_TARGET), volumes=syncing))
    assert bench.report().volumes == (VolumeReport("d", Disk.INCONSISTENT, Disk.UP_TO_DATE),)
    asked = bench.request.number
    bench.wait(LOOK_EVERY)
    later = (replace(syncing[0], done=20.0),)
    bench.look(replace(bench.kernel, volumes=later))
    told = [each.message for output in bench.outputs for each in output.tell if each.who == STATD]
    assert [each for each in told if isinstance(each, NodeStatus)][-1].replicas[0].volumes == syncing
    bench.wait(LOOK_EVERY)
    told = [each.message for output in bench.outputs for each in output.tell if each.who == STATD]
    assert [each for each in told if isinstance(each, NodeStatus)][-1].replicas[0].volumes == later
    assert bench.request.number >= asked


def test_a_report_names_the_mark_that_was_known_before_the_look_began() -> None:
    bench = Bench()
    bench.up(0, seen())
    bench.wait(LOOK_EVERY)
    marked = ledger(
        SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, PEER), MarkCopy(DB, PEER, OUTDATED, Generation(4), BUILT_AT)
    )
    assert marked.mirrors[DB].copies[PEER].index == 5
    bench.feed(Told(LOCKD, Applied(marked)))
    bench.finish(ReplicaLook)
    assert bench.report().mark == 0, "that look was under way when the mark became known"
    bench.look()
    assert bench.report().mark == 5, "another follows it at once"


# ---- orders ---------------------------------------------------------------------------------------------------------


def test_orders_bring_it_up_connect_it_and_take_it_down() -> None:
    bench = Bench()
    bench.replica("up", 0)
    assert bench.replica_orders() == [ReplicaUp(layout(), connect=False)]
    bench.replica("up", 0)
    assert len(bench.replica_orders()) == 1, "one action at a time"
    bench.finish(ReplicaUp, ALONE)
    assert bench.report() == ALONE, "the action's own word of what is there is news"
    bench.replica("up", 0)
    assert not bench.replica_orders()
    bench.replica("connect", 0)
    assert bench.replica_orders() == [ReplicaConnect(layout())]
    bench.finish(ReplicaConnect, seen())
    bench.replica("connect", 0)
    assert not bench.replica_orders()
    bench.replica("down", 0)
    assert bench.replica_orders() == [ReplicaDown(layout())]
    bench.finish(ReplicaDown, DOWN)
    bench.replica("connect", 0)
    assert bench.replica_orders() == [ReplicaUp(layout(), connect=True)]


def test_what_failed_is_reported_told_and_not_tried_again_at_once() -> None:
    bench = Bench()
    bench.replica("up", 0)
    bench.finish(ReplicaUp, DOWN, "no such volume group 'vg'")
    assert bench.report().trouble == "no such volume group 'vg'"
    bench.replica("up", 0)
    assert not bench.replica_orders()
    bench.wait(ORDER_RETRY)
    bench.replica("up", 0)
    bench.finish(ReplicaUp, ALONE)
    assert bench.report() == ALONE


def test_an_order_of_an_older_master_or_an_older_generation_is_not_taken() -> None:
    bench = Bench()
    bench.replica("up", 5, term=3)
    bench.finish(ReplicaUp, ALONE)
    bench.replica("connect", 5, term=2)
    bench.replica("connect", 4, term=3)
    assert not bench.replica_orders() and bench.report().generation == 5


def test_with_an_order_nothing_older_starts_here() -> None:
    bench = Bench()
    bench.up(8)
    assert bench.report().generation == 8
    bench.lease((DB, 7))
    bench.order("start", DB, 7)
    assert not bench.of(StepUp)
    bench.renew((DB, 8))
    bench.order("start", DB, 8)
    assert bench.of(StepUp)


def test_a_start_that_waits_for_its_lease_does_not_begin_after_an_order_of_a_newer_generation() -> None:
    bench = Bench()
    bench.order("start", DB, 7)
    bench.up(8)
    bench.lease((DB, 7))
    assert not bench.of(StepUp)


def test_while_an_instance_is_open_only_its_own_generation_connects() -> None:
    bench = Bench()
    bench.run(7)
    assert bench.report() == replace(PRIMARY, generation=Generation(7))
    bench.wait(LOOK_EVERY)
    bench.look(seen(Role.PRIMARY, Link.STANDALONE))
    for verb, generation in (("connect", 8), ("up", 8), ("down", 7), ("connect", 6)):
        bench.replica(verb, generation)
        assert not bench.replica_orders(), (verb, generation)
        assert bench.report().generation == 7, "and it says that it has not taken the order"
    bench.replica("connect", 7)
    assert bench.replica_orders() == [ReplicaConnect(layout())]


def test_once_it_is_closed_the_newer_order_is_taken_and_reported() -> None:
    bench = Bench()
    bench.run(7)
    bench.order("stop", DB, 7)
    while steps := bench.of(StepDown, KillGroup):
        bench.step(steps[0])
    assert bench.line(DB).phase is Phase.CLOSED
    bench.look(seen())
    assert bench.report().role is Role.SECONDARY and bench.report().generation == 7
    bench.replica("connect", 9)
    bench.wait(0.0)
    assert bench.report().generation == 9


# ---- the way down ---------------------------------------------------------------------------------------------------


def test_a_forced_way_down_severs_while_it_kills_and_again_each_time_it_is_tried() -> None:
    bench = Bench()
    bench.run(7)
    bench.renew()
    sever = ReplicaSever(Instance(DB, Generation(7)))
    assert bench.of(ReplicaSever, KillGroup) == [sever, KillGroup(Instance(DB, Generation(7)))]
    bench.step(bench.of(ReplicaSever)[0], Probe.UNKNOWN)
    bench.step(bench.of(KillGroup)[0])
    assert bench.of(StepDown), "its failure keeps nothing: what waits for it says so itself"
    bench.step(bench.of(StepDown)[0])
    bench.step(bench.of(StepDown)[0], Probe.ACTIVE)
    assert bench.line(DB).phase is Phase.NEEDS_FENCE
    bench.wait(RETRY_AFTER)
    assert bench.of(ReplicaSever), "the connection may be lost in the middle of an unmount"


def test_a_polite_stop_severs_nothing() -> None:
    bench = Bench()
    bench.run(7)
    bench.order("stop", DB, 7)
    while steps := bench.of(StepDown, KillGroup, ReplicaSever):
        assert not isinstance(steps[0], ReplicaSever)
        bench.step(steps[0])
    assert bench.line(DB).phase is Phase.CLOSED


@pytest.mark.parametrize("restarted", [False, True])
def test_a_takeover_is_promoted_alone_and_stays_so_over_a_restart_of_reqd(restarted: bool) -> None:
    bench = Bench()
    bench.up(7)
    bench.lease((DB, 7))
    bench.feed(Told(CLUSTERD, Order("start", DB, Generation(7), Term(1), takeover=True, alone=True)))
    if restarted:
        bench.restart()
    assert bench.core.instances.machines[DB].instance == Instance(DB, Generation(7), alone=True)
    if not restarted:
        assert [step.instance.alone for step in bench.of(StepUp) if isinstance(step, StepUp)] == [True]
