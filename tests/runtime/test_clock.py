"""Timers only wake, the clock decides."""

import pytest
from twisted.internet.task import Clock as Time

from truecl.runtime.clock import Alarm, BootClock, BootReactor, new_reactor


class Apart:
    """A clock that does not run with the timers."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


def test_a_timer_that_comes_early_is_made_again() -> None:
    time, clock, woken = Time(), Apart(), []
    alarm = Alarm(time, clock, lambda: woken.append(clock.at))
    alarm.set(5.0)
    clock.at = 4.0
    time.advance(5.0)
    assert woken == []
    clock.at = 5.0
    time.advance(1.0)
    assert woken == [5.0]
    time.advance(100)
    assert woken == [5.0]


def test_a_new_time_replaces_the_old_one_in_both_directions() -> None:
    time = Time()
    woken: list[float] = []

    class Same:
        def now(self) -> float:
            return time.seconds()

    alarm = Alarm(time, Same(), lambda: woken.append(time.seconds()))
    alarm.set(5.0)
    alarm.set(9.0)
    time.pump([1.0] * 8)
    assert woken == []
    alarm.set(8.5)
    time.pump([0.25] * 2)
    assert woken == [8.5]
    alarm.set(20.0)
    alarm.set(None)
    time.advance(50)
    assert woken == [8.5]


def test_the_past_wakes_from_the_reactor_and_not_from_set() -> None:
    time, clock, woken = Time(), Apart(), []
    clock.at = 10.0
    alarm = Alarm(time, clock, lambda: woken.append(True))
    alarm.set(3.0)
    assert woken == []
    time.advance(0)
    assert woken == [True]


@pytest.mark.parametrize(("new", "wakes"), [(3.0, [5.0]), (5.0, [5.0]), (9.0, [9.0]), (None, [])])
def test_what_is_called_first_may_set_another_time(new: float | None, wakes: list[float]) -> None:
    """hbd reads its sockets there, and what it hears moves its timer."""
    time = Time()
    woken: list[float] = []

    class Same:
        def now(self) -> float:
            return time.seconds()

    alarm = Alarm(time, Same(), lambda: woken.append(time.seconds()), lambda: alarm.set(new))
    alarm.set(5.0)
    time.pump([1.0] * 12)
    assert woken == wakes
    assert not time.getDelayedCalls()


def test_the_reactor_takes_its_timers_from_the_boot_clock() -> None:
    reactor = new_reactor()
    before = BootClock().now()
    call = reactor.callLater(0, lambda: None)
    assert before <= call.getTime() <= BootClock().now()
    assert before <= reactor.seconds() <= BootClock().now()


def test_the_reactor_does_not_wake_for_what_was_cancelled_or_put_off() -> None:
    reactor = BootReactor()
    try:
        calls = [reactor.callLater(delay, lambda: None) for delay in (1.0, 2.0, 100.0)]
        assert 0.0 < (reactor.timeout() or 0.0) <= 1.0
        calls[0].cancel()
        calls[1].reset(50.0)
        assert 49.0 < (reactor.timeout() or 0.0) <= 50.0
        calls[1].cancel()
        calls[2].cancel()
        assert set(reactor.getDelayedCalls()) == set()
        assert reactor.timeout() is None
    finally:
        reactor.disconnectAll()
