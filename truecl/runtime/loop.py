"""`truecl.drivers.contract.Loop` on a Twisted reactor.

Timers only wake: whether a time has passed is what CLOCK_BOOTTIME says, so that what waits on a machine that was
suspended goes on when it wakes, not an hour later.
"""

import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Timer(Protocol):
    """IDelayedCall, as far as it is used."""

    def active(self) -> bool: ...
    def cancel(self) -> None: ...


class Reactor(Protocol):
    """What is used of a reactor: of IReactorTime and IReactorFDSet."""

    def callLater(self, delay: float, callable: Callable[..., object]) -> Any: ...
    def addReader(self, reader: Any) -> None: ...
    def removeReader(self, reader: Any) -> None: ...


def boottime() -> float:
    """The clock of all decisions: seconds since boot, with time spent suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class TwistedLoop:
    """`failed` hears of background work that ended in an exception: its name and the exception's text."""

    def __init__(
        self, reactor: Reactor, failed: Callable[[str, str], None], clock: Callable[[], float] = boottime
    ) -> None:
        self._reactor = reactor
        self._failed = failed
        self._clock = clock

    def now(self) -> float:
        return self._clock()

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        fired: Deferred[None] = Deferred()
        alarm = _Alarm(self._reactor, self._clock, seconds, lambda: fired.callback(None))
        try:
            await fired
        finally:
            alarm.cancel()

    async def readable(self, descriptor: int, timeout: float) -> bool:
        fired: Deferred[bool] = Deferred()

        def fire(outcome: bool) -> None:
            if not fired.called:
                fired.callback(outcome)

        alarm = _Alarm(self._reactor, self._clock, timeout, lambda: fire(False))
        cancel = self.watch(descriptor, lambda: fire(True))
        try:
            return await fired
        finally:
            cancel()
            alarm.cancel()

    def watch(self, descriptor: int, readable: Callable[[], None]) -> Callable[[], None]:
        reader = _Reader(descriptor, readable)
        self._reactor.addReader(reader)
        return lambda: self._reactor.removeReader(reader)

    def launch(self, name: str, work: Coroutine[Any, Any, None]) -> Callable[[], None]:
        deferred = Deferred.fromCoroutine(work)

        def failed(failure: Failure) -> None:
            if not isinstance(failure.value, CancelledError):
                self._failed(name, f"{type(failure.value).__name__}: {failure.value}")

        deferred.addErrback(failed)
        return deferred.cancel

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; cancelled, with TimeoutError, when it takes longer than `seconds`."""
        deferred = Deferred.fromCoroutine(work)
        late: list[bool] = []

        def ring() -> None:
            late.append(True)
            deferred.cancel()

        alarm = _Alarm(self._reactor, self._clock, seconds, ring)
        try:
            return await deferred
        except CancelledError:
            if late:
                raise TimeoutError(f"not finished within {seconds:.1f} s") from None
            raise
        finally:
            alarm.cancel()


class _Alarm:
    """Calls `ring` once, when the clock says that `seconds` have passed."""

    def __init__(
        self, reactor: Reactor, clock: Callable[[], float], seconds: float, ring: Callable[[], object]
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._end = clock() + seconds
        self._ring = ring
        self._timer: Timer = reactor.callLater(max(0.0, seconds), self._wake)

    def cancel(self) -> None:
        if self._timer.active():
            self._timer.cancel()

    def _wake(self) -> None:
        rest = self._end - self._clock()
        if rest > 0:
            self._timer = self._reactor.callLater(rest, self._wake)
        else:
            self._ring()


class _Reader:
    """One watched descriptor, an IReadDescriptor. `readable` is also called when the other end is gone."""

    def __init__(self, descriptor: int, readable: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._readable = readable

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "descriptor"

    def doRead(self) -> None:
        self._readable()

    def connectionLost(self, reason: Failure) -> None:
        self._readable()
