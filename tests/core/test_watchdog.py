"""reqd and its node's watchdog: when it is opened, fed and disarmed, and what may not start without it."""

import pytest
from msgspec.structs import replace

from truecl.core.contract import Done, Noted, Told
from truecl.core.watchdog import SOFTDOG
from truecl.model.actions import (
    Action,
    ArmWatchdog,
    DisarmWatchdog,
    FeedWatchdog,
    Leave,
    ServiceStopping,
    WatchdogArmed,
    WatchdogFed,
    WatchdogTrouble,
)
from truecl.model.config import WATCHDOG_FEED, Configuration, WatchdogConfig
from truecl.model.ids import CLUSTERD, Generation, Term
from truecl.model.ledger import ALWAYS, Proof
from truecl.model.report import Phase
from truecl.model.step import Probe
from truecl.wire.messages import Order

from .reqd_bench import BARE, CONFIGURATION, DB, LEASE, ReqdBench

HARDWARE = WatchdogArmed("iTCO_wdt", 10.0)
LEANS = (*ALWAYS, Proof.EXPIRED_WATCHDOG)


def configured(config: WatchdogConfig) -> Configuration:
    nodes = tuple(replace(node, watchdog=config) for node in CONFIGURATION.cluster.nodes)
    return replace(CONFIGURATION, cluster=replace(CONFIGURATION.cluster, nodes=nodes))


class WatchedBench(ReqdBench):
    def __init__(self, armed: WatchdogArmed | WatchdogTrouble = HARDWARE, use: str = "automatic") -> None:
        self.device: WatchdogArmed | WatchdogTrouble = armed
        self.fed = self.opened = 0
        super().__init__(configured(WatchdogConfig(use=use)))  # type: ignore[arg-type]
        self.watchdog()

    def watchdog(self) -> None:
        """The device answers what it was asked."""
        for number, action in list(self.asked.items()):
            if isinstance(action, ArmWatchdog | FeedWatchdog):
                del self.asked[number]
                self.fed += isinstance(action, FeedWatchdog)
                self.opened += isinstance(action, ArmWatchdog)
                self.feed(Done(number, self.device if isinstance(action, ArmWatchdog) else WatchdogFed()))

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        self.watchdog()

    def answer(self, probe: Probe | None = None) -> Action:
        self.watchdog()
        return super().answer(probe) if self.asked else FeedWatchdog()

    def start_guarded(self, timeout: float = 10.0) -> None:
        self.lease((DB, 7))
        self.feed(Told(CLUSTERD, Order("start", DB, Generation(7), Term(1), False, LEANS, timeout)))

    def feeds(self) -> list[Action]:
        return [each for each in self.asked.values() if isinstance(each, FeedWatchdog | ArmWatchdog)]


def test_it_is_fed_while_the_lease_holds_and_not_after_that_until_everything_is_stopped() -> None:
    bench = WatchedBench()
    bench.start_guarded()
    bench.answer_all()
    assert bench.line(DB).phase is Phase.RUNNING
    before = bench.fed
    for _ in range(10):
        bench.renew((DB, 7))
    assert bench.fed >= before + 3
    bench.wait(LEASE)
    before = bench.fed
    bench.wait(5 * WATCHDOG_FEED)
    assert bench.fed == before and bench.feeds() == [], "the lease is over and the forced stop goes on"
    wake = bench.outputs[-1].wake_at
    assert wake is None or wake > bench.now, "nor does it turn in circles meanwhile"
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED
    bench.wait(WATCHDOG_FEED)
    assert bench.fed > before, "nothing is left to stop"


def test_a_stop_that_does_not_end_after_the_lease_is_left_to_the_watchdog() -> None:
    bench = WatchedBench()
    bench.start_guarded()
    bench.answer_all()
    bench.wait(LEASE)
    before = bench.fed
    while bench.line(DB).phase is not Phase.NEEDS_FENCE:
        bench.answer(Probe.UNKNOWN)
    bench.wait(60.0)
    assert bench.fed == before


def test_a_node_without_a_lease_that_has_nothing_is_fed() -> None:
    bench = WatchedBench()
    for _ in range(10):
        bench.wait(WATCHDOG_FEED)
    assert bench.fed >= 9


def test_a_new_life_goes_on_with_what_the_last_one_armed_whatever_the_configuration_says_now() -> None:
    bench = WatchedBench()
    bench.start_guarded()
    bench.answer_all()
    bench.configuration = CONFIGURATION
    bench.restart()
    (action,) = bench.feeds()
    assert action == ArmWatchdog("/dev/watchdog", 10, True)


def test_a_new_life_after_the_lease_does_not_even_open_it_for_its_death_would_feed_it() -> None:
    bench = WatchedBench()
    bench.start_guarded()
    bench.answer_all()
    bench.now += LEASE
    bench.restart()
    assert bench.feeds() == []
    before = bench.opened
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED and bench.opened == before + 1


def test_a_reboot_forgets_what_was_armed() -> None:
    bench = WatchedBench()
    bench.configuration = CONFIGURATION
    bench.reboot()
    assert bench.feeds() == []


def test_it_is_disarmed_when_the_service_ends_and_only_then() -> None:
    bench = WatchedBench()
    bench.start_guarded()
    bench.answer_all()
    bench.feed(Noted(ServiceStopping()))
    assert not any(isinstance(each, DisarmWatchdog | Leave) for each in bench.asked.values())
    bench.answer_all()
    bench.renew()
    last = [each for each in bench.asked.values() if isinstance(each, DisarmWatchdog | Leave)]
    assert last == [DisarmWatchdog(), Leave()]
    bench.asked.clear()
    bench.wait(5.0)
    assert bench.feeds() == []


def test_a_service_stop_whose_applications_take_their_time_does_not_wake_without_end() -> None:
    bench = WatchedBench()
    bench.start_guarded()
    bench.answer_all()
    bench.feed(Noted(ServiceStopping()))
    for _ in range(30):
        bench.renew((DB, 7))
    wake = bench.outputs[-1].wake_at
    assert wake is not None and wake > bench.now


# ---- what may start -------------------------------------------------------------------------------------------------

MISSING = WatchdogTrouble("/dev/watchdog: there is no such device")


@pytest.mark.parametrize(
    ("device", "timeout"),
    [
        (MISSING, 10.0),
        (HARDWARE, 9.0),
        (WatchdogArmed(SOFTDOG, 10.0), 10.0),
        (WatchdogArmed("iTCO_wdt", 10.0, "QEMU"), 10.0),
        (WatchdogArmed("iTCO_wdt", 5.0), 10.0),
    ],
    ids=["missing", "slower than the grant says", "softdog", "virtual", "no time for a forced stop"],
)
def test_nothing_starts_whose_grant_leans_on_another_watchdog(
    device: WatchdogArmed | WatchdogTrouble, timeout: float
) -> None:
    bench = WatchedBench(device)
    bench.start_guarded(timeout)
    line = bench.line(DB)
    assert (line.phase, line.failed) == (Phase.CLOSED, False) and "leans on a watchdog" in line.reason
    assert bench.ups() == []


def test_without_the_device_automatic_goes_on_and_required_does_not() -> None:
    bench = WatchedBench(MISSING)
    bench.lease((DB, 7))
    bench.order("start", DB, 7)
    assert bench.ups() == ["volume d"]
    strict = WatchedBench(MISSING, "required")
    strict.lease((DB, 7))
    strict.order("start", DB, 7)
    assert strict.ups() == [] and "there is no such device" in strict.line(DB).reason
    report = strict.request.watchdog
    assert report is not None and report.missing and "there is no such device" in report.text


def test_a_start_waits_until_it_is_known_whether_there_is_one() -> None:
    bench = WatchedBench()
    bench.restart()
    bench.start_guarded()
    assert bench.ups() == []
    bench.watchdog()
    assert bench.ups() == ["volume d"]


def test_a_grant_that_may_be_ended_by_more_than_the_node_s_own_configuration_allows_is_not_started() -> None:
    """The master's file says that it has no storage, this node's says otherwise."""
    bench = ReqdBench()
    bench.lease((DB, 7))
    bench.feed(Told(CLUSTERD, Order("start", DB, Generation(7), Term(1), False, (*ALWAYS, Proof.EXPIRED))))
    line = bench.line(DB)
    assert (line.phase, line.failed) == (Phase.CLOSED, True) and "'expired'" in line.reason


def test_a_grant_that_waits_for_addresses_alone_is_not_started_where_more_leads_to_the_application() -> None:
    bench = ReqdBench()
    bench.lease((BARE, 7))
    short = Order("start", BARE, Generation(7), Term(1), proofs=(*ALWAYS, Proof.EXPIRED), addressed=True)
    bench.feed(Told(CLUSTERD, short))
    line = bench.line(BARE)
    assert (line.phase, line.failed) == (Phase.CLOSED, True) and "more than floating addresses" in line.reason


def test_what_leans_on_a_watchdog_does_not_run_on_when_it_cannot_be_opened_again() -> None:
    bench = WatchedBench()
    bench.start_guarded()
    bench.answer_all()
    bench.device = WatchdogTrouble("busy")
    bench.restart()
    bench.watchdog()
    assert bench.line(DB).phase is Phase.STOPPING


@pytest.mark.parametrize(("declared", "counts"), [(False, False), (True, True)])
def test_softdog_counts_by_the_operator_s_word_alone(declared: bool, counts: bool) -> None:
    bench = WatchedBench(WatchdogArmed(SOFTDOG, 10.0))
    bench.configuration = configured(WatchdogConfig(use="automatic", watchdog_survives_pause=declared))
    bench.restart()
    bench.watchdog()
    bench.renew()
    report = bench.request.watchdog
    assert report is not None and (report.armed, report.survives_pause) == (True, counts)
