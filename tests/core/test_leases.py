"""The leader's side of the leases: whom it renews no more, and until when."""

import math

from truecl.core.leases import WATCHDOG_TIMES, Leases
from truecl.model.ids import AppName, BootId, Generation, NodeName
from truecl.model.ledger import LeaseTiming
from truecl.model.report import InstanceReport, Phase
from truecl.wire.messages import Renew

N1 = NodeName("n1")
WEB, DB = AppName("web"), AppName("db")
TIMING = LeaseTiming(lease=1.0, drift=0.05, stop_allowance=5.0)
LONG = LeaseTiming(lease=3.0, drift=0.05, stop_allowance=1.0)


def _renew(number: int, *instances: InstanceReport) -> Renew:
    return Renew(N1, BootId("n1-1"), number, instances)


def _answered(leases: Leases, request: Renew, *live: tuple[AppName, int]) -> bool:
    """`live`: the grants that the log knows."""
    leases.reported(request, [(app, Generation(generation)) for app, generation in live])
    leases.requested(request, next_round=request.number, now=float(request.number))
    return bool(leases.completed(request.number))


def _line(app: AppName, generation: int, phase: Phase) -> InstanceReport:
    return InstanceReport(app, Generation(generation), phase)


def test_an_old_owner_is_renewed_again_once_it_has_closed_the_generation() -> None:
    leases = Leases((TIMING,), 0.0, 0.0)
    leases.revoke(N1, WEB, Generation(7))
    assert not _answered(leases, _renew(1, _line(WEB, 7, Phase.RUNNING)))
    assert not _answered(leases, _renew(2, _line(WEB, 7, Phase.NEEDS_FENCE)))
    assert _answered(leases, _renew(3, _line(WEB, 7, Phase.CLOSED)))


def test_another_application_of_the_same_generation_does_not_count() -> None:
    """One entry of the log may grant several applications: they share the number."""
    leases = Leases((TIMING,), 0.0, 0.0)
    leases.revoke(N1, WEB, Generation(7))
    assert not _answered(leases, _renew(1, _line(DB, 7, Phase.CLOSED), _line(WEB, 7, Phase.STOPPING)))


def test_an_old_owner_that_never_saw_the_generation_is_renewed_again() -> None:
    """Else it gets no lease for as long as this leader leads, and counts as lost."""
    leases = Leases((TIMING,), 0.0, 0.0)
    leases.revoke(N1, WEB, Generation(7))
    seen = _line(WEB, 3, Phase.CLOSED)
    assert not _answered(leases, _renew(1, seen), (WEB, 7)), "the end is only proposed: an answer would name it"
    assert _answered(leases, _renew(2, seen), (DB, 7))


def test_a_request_waits_for_a_round_that_began_after_it_came_in() -> None:
    leases = Leases((TIMING,), 0.0, 0.0)
    leases.requested(_renew(1), next_round=4, now=1.0)
    assert leases.completed(3) == ()
    assert leases.completed(4) == (_renew(1),)
    assert leases.completed(9) == (), "once"


def test_a_lease_counts_from_the_receipt_of_the_request_and_never_from_before_the_bound() -> None:
    rest = TIMING.lease + TIMING.drift + TIMING.stop_allowance
    leases = Leases((TIMING,), 50.0, 50.0)
    assert leases.surely_over(N1) == 50.0 + rest
    leases.requested(_renew(1), next_round=1, now=60.0)
    assert leases.surely_over(N1) == 50.0 + rest, "asked is not answered"
    leases.completed(1)
    assert leases.surely_over(N1) == 60.0 + rest


# ---- another timing -------------------------------------------------------------------------------------------------


def test_before_the_log_has_a_timing_nothing_is_ever_over() -> None:
    leases = Leases((), 0.0, 0.0)
    assert leases.over(N1) == leases.surely_over(N1) == leases.surely_reset(N1, 1.0) == math.inf


def test_every_proof_is_reckoned_with_the_longest_of_the_timings_that_may_be_counted_with() -> None:
    for timings in ((TIMING, LONG), (LONG, TIMING)):
        leases = Leases(timings, 50.0, 50.0)
        assert leases.over(N1) == 50.0 + 3.05
        assert leases.surely_over(N1) == 50.0 + 6.05
        assert leases.surely_reset(N1, 10.0) == 50.0 + 33.0 * (1 + 0.05 / 3)
        # The shorter lease may take longer here: its clocks may part more in the same time.
        assert leases.surely_reset(N1, 100.0) == 50.0 + (1.0 + WATCHDOG_TIMES * 100.0) * 1.05


def test_older_timings_are_settled_when_nothing_rests_on_them_counted_from_the_change_or_the_tenure() -> None:
    leases = Leases((TIMING,), 50.0, 60.0)
    leases.retime((TIMING,), 70.0)
    assert leases.settled_at(0.0) == 60.0 + 6.05, "no change, no news"
    leases.retime((LONG, TIMING), 80.0)
    assert leases.settled_at(0.0) == 80.0 + 6.05
    assert leases.settled_at(100.0) == 80.0 + 301.0 * 1.05, "a watchdog may have been fed at the end of an old lease"
