"""A real reactor, loop and runner, for tests that let drivers loose on the machine itself."""

import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from truecl.drivers.contract import Result
from truecl.runtime.clock import BootClock, new_reactor
from truecl.runtime.loop import TwistedLoop
from truecl.runtime.runner import ProcessRunner

T = TypeVar("T")


class RealHost:
    def __init__(self, grace: float = 0.3) -> None:
        self.reactor: Any = new_reactor()
        self.failures: list[tuple[str, str]] = []
        self.runs: list[Result] = []
        self.loop = TwistedLoop(self.reactor, BootClock(), lambda name, text: self.failures.append((name, text)))
        self.runner = ProcessRunner(self.loop, self.runs.append, grace)

    def do(self, work: Coroutine[Any, Any, T], deadline: float = 20.0) -> T:
        """Turn the reactor until the coroutine is done; its result, or its exception."""
        done: list[Any] = []
        deferred = Deferred.fromCoroutine(work)
        deferred.addBoth(done.append)
        self.until(lambda: done, deadline)
        if hasattr(done[0], "raiseException"):
            done[0].raiseException()
        result: T = done[0]
        return result

    def until(self, condition: Callable[[], object], deadline: float = 20.0) -> None:
        end = time.monotonic() + deadline
        while not condition():
            assert time.monotonic() < end, "the deadline has passed"
            rest = self.reactor.timeout()
            self.reactor.iterate(0.02 if rest is None else min(0.02, rest))


def no_children() -> bool:
    """Also no zombie."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False
