"""`truecl.drivers.contract.Loop` on a Twisted reactor.

Timers only wake: whether a time has passed is what CLOCK_BOOTTIME says, so that what waits on a machine that was
suspended goes on when it wakes, not an hour later.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from truecl.runtime.clock import Alarm, Clock, Reactor

T = TypeVar("T")


class TwistedLoop:
    """`failed` hears of background work that ended in an exception: its name and the exception's text."""

    def __init__(self, reactor: Reactor, clock: Clock, failed: Callable[[str, str], None]) -> None:
        self._reactor = reactor
        self._failed = failed
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        fired: Deferred[None] = Deferred()
        alarm = self._alarm(seconds, lambda: fired.callback(None))
        try:
            await fired
        finally:
            alarm.set(None)

    async def readable(self, descriptor: int, timeout: float) -> bool:
        fired: Deferred[bool] = Deferred()

        def fire(outcome: bool) -> None:
            if not fired.called:
                fired.callback(outcome)

        alarm = self._alarm(timeout, lambda: fire(False))
        cancel = self.watch(descriptor, lambda: fire(True))
        try:
            return await fired
        finally:
            cancel()
            alarm.set(None)

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
        # Not at once: the work itself may be the one that cancels, and cannot be interrupted while it runs.
        return lambda: self._soon(deferred.cancel)

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; cancelled, with TimeoutError, when it takes longer than `seconds`."""
        deferred = Deferred.fromCoroutine(work)
        late: list[bool] = []

        def ring() -> None:
            late.append(True)
            deferred.cancel()

        alarm = self._alarm(seconds, ring)
        try:
            return await deferred
        except CancelledError:
            if late:
                raise TimeoutError(f"not finished within {seconds:.1f} s") from None
            raise
        finally:
            alarm.set(None)

    def _alarm(self, seconds: float, wake: Callable[[], None]) -> Alarm:
        alarm = Alarm(self._reactor, self._clock, wake)
        alarm.set(self._clock.now() + seconds)
        return alarm

    def _soon(self, call: Callable[[], None]) -> None:
        self._reactor.callLater(0, call)


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
