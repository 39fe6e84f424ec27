"""The clock that decides, and the one timer that only wakes.

CLOCK_BOOTTIME goes on while the machine is suspended and never steps. Twisted's own reactor takes its timers from the
wall clock, so a step of NTP would stop them for as long as it went back: `BootReactor` gives it this clock instead.
"""

import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Protocol, cast

from twisted.internet.epollreactor import EPollReactor


class Clock(Protocol):
    def now(self) -> float:
        """Seconds; never goes back."""


class BootClock:
    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class Call(Protocol):
    def cancel(self) -> object: ...
    def reset(self, delay: float) -> object: ...
    def active(self) -> object: ...


class Timers(Protocol):
    """Where delayed calls come from: a reactor, or a test's clock."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object) -> Call: ...


class Reactor(Timers, Protocol):
    """What the runtime uses of a Twisted reactor. (Twisted's own interfaces say less about types.)"""

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float, bindAddress: tuple[str, int] | None
    ) -> Any: ...
    def connectUNIX(self, address: str, factory: Any, timeout: float) -> Any: ...
    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any: ...
    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any: ...
    def addReader(self, reader: Any) -> None: ...
    def removeReader(self, reader: Any) -> None: ...
    def callWhenRunning(self, callable: Callable[..., Any], *args: object) -> Any: ...
    def callFromThread(self, callable: Callable[..., Any], *args: object) -> Any: ...
    def addSystemEventTrigger(self, phase: str, event: str, callable: Callable[..., Any], *args: object) -> Any: ...
    def run(self, installSignalHandlers: bool = True) -> None: ...
    def stop(self) -> None: ...
    def iterate(self, delay: float = 0.0) -> None: ...


class BootReactor(EPollReactor):
    """Twisted's epoll reactor on CLOCK_BOOTTIME. Never made before a fork."""

    seconds = staticmethod(BootClock().now)

    def timeout(self) -> float | None:
        """Without wakes for calls that were cancelled or put off since: an idle daemon costs what it wakes."""
        self._insertNewDelayedCalls()
        calls = self._pendingTimedCalls
        while calls and (calls[0].cancelled or calls[0].delayed_time > 0.0):
            call = heappop(calls)
            if call.cancelled:
                self._cancellations -= 1
            else:
                call.activate_delay()
                heappush(calls, call)
        return super().timeout()


def new_reactor() -> Reactor:
    """A reactor that is not installed as Twisted's global one; nothing of the runtime uses the global one."""
    return cast(Callable[[], Reactor], BootReactor)()


class Alarm:
    """Calls `wake` once when the clock has reached the time last set, however often it is set anew.

    `first` is called before every look at the clock; it may set another time.
    """

    def __init__(
        self, timers: Timers, clock: Clock, wake: Callable[[], None], first: Callable[[], None] = lambda: None
    ) -> None:
        self._first = first
        self._timers = timers
        self._clock = clock
        self._wake = wake
        self._at: float | None = None
        self._call: Call | None = None
        self._fires = 0.0

    def set(self, at: float | None) -> None:
        """Clock seconds; None: no more. A time in the past wakes at once, from the reactor."""
        self._at = at
        if at is None:
            self._disarm()
        elif self._call is None:
            self._arm(at)
        elif at != self._fires:
            self._fires = at
            self._call.reset(max(0.0, at - self._clock.now()))

    def _arm(self, at: float) -> None:
        self._fires = at
        self._call = self._timers.callLater(max(0.0, at - self._clock.now()), self._fired)

    def _disarm(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _fired(self) -> None:
        self._call = None
        self._first()
        if self._at is None:
            return
        if self._clock.now() < self._at:
            self.set(self._at)
            return
        self._disarm()
        self._at = None
        self._wake()
