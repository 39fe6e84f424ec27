"""When a node asks for its lease: just before the leader's rounds, and never in a flood."""

import pytest

from truecl.core.lease import Lease
from truecl.model.ids import BootId, NodeName, Term
from truecl.wire.messages import Renewed

N1, BOOT = NodeName("n1"), BootId("b")
INTERVAL = 0.2


def _lease() -> Lease:
    return Lease(N1, BOOT, 1.0, INTERVAL, 0, 100.0)


def _answer(lease: Lease, number: int, now: float) -> bool:
    return lease.answer(Renewed(N1, BOOT, number, Term(1), 1, (), 1.0), now)


@pytest.mark.parametrize("phase", [0.0, 0.03, 0.11, 0.19])
def test_requests_settle_just_before_the_rounds(phase: float) -> None:
    """Rounds at 100.2, 100.4, …; whatever its phase at first, a request soon waits a tenth of the interval."""
    lease, now = _lease(), 100.0 + phase
    waited = INTERVAL
    for _ in range(10):
        request = lease.request((), False, now)
        round_at = 100.0 + INTERVAL * (int((now - 100.0) / INTERVAL + 1e-6) + 1)
        waited = round_at - now
        assert _answer(lease, request.number, round_at + 0.001)
        now = lease.next_request
    assert waited == pytest.approx(INTERVAL / 10, abs=0.01)


def test_late_answers_cause_no_flood() -> None:
    """Each answer to a request of long ago must not lead to another request at once."""
    lease = _lease()
    numbers = [lease.request((), False, 100.0 + INTERVAL * step).number for step in range(4)]
    last = 100.0 + INTERVAL * 3
    for number in numbers:
        _answer(lease, number, last + 0.3)
        assert lease.next_request >= last + INTERVAL / 2


def test_an_unanswered_request_is_repeated_after_the_interval() -> None:
    lease = _lease()
    lease.request((), False, 100.0)
    assert lease.next_request == 100.0 + INTERVAL
