"""A real reactor, loop and runner, for tests that let drivers loose on the machine itself."""

import time
from collections.abc import Callable, Coroutine
from multiprocessing import resource_tracker
from pathlib import Path
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
    """Also no zombie. What `multiprocessing` keeps for the life of this process, once it was used, is none of ours."""
    kept = resource_tracker._resource_tracker._pid
    tasks = [task / "children" for task in Path("/proc/self/task").iterdir()]
    return {int(pid) for task in tasks for pid in task.read_text().split()} <= {kept}


class Witness:
    """Does again and again, in a process of its own, what another one is to have stopped doing: so a test need not wait
    for some time to see that it does not."""

    def __init__(self, host: RealHost, directory: Path) -> None:
        self._host, self._count = host, directory / "witness"
        script = f"while :; do echo >> {self._count}; sleep 0.001; done"
        self.stop = host.loop.launch("witness", self._run(script))
        self.beats(1)

    async def _run(self, script: str) -> None:
        await self._host.runner.run(("/bin/sh", "-c", script), timeout=60)

    def beats(self, count: int) -> None:
        """Until it did so as often again."""
        until = self._seen() + count
        self._host.until(lambda: self._seen() >= until)

    def _seen(self) -> int:
        return self._count.stat().st_size if self._count.exists() else 0
