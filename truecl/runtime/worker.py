"""Blocking work on a thread of its own, one piece after the other: what the disk delays, delays nothing else."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from truecl.runtime.clock import Reactor

T = TypeVar("T")


class Worker:
    """The thread starts with the first piece of work, so after a daemon gave up root. It ends with the process."""

    def __init__(self, reactor: Reactor, name: str) -> None:
        self._reactor = cast(IReactorFromThreads, reactor)
        self._pool = ThreadPool(0, 1, name)
        self._turn = DeferredLock()
        self._pool.start()

    def __call__(self, work: Callable[[], T]) -> "Deferred[T]":
        """Fires in the reactor's thread with what `work` returned, or fails with what it raised."""

        def begin() -> "Deferred[T]":
            return deferToThreadPool(self._reactor, cast(Any, self._pool), work)

        return self._turn.run(begin)

    def stop(self) -> None:
        """Waits for the work under way."""
        self._pool.stop()
