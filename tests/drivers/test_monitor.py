"""So many failures in a row count as death; on a loop whose clock the test owns."""

from collections.abc import Iterator
from typing import cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as Time

from truecl.drivers.monitor.driver import watch
from truecl.model.config import Monitor
from truecl.runtime.clock import Reactor
from truecl.runtime.loop import TwistedLoop


class Machine:
    def __init__(self) -> None:
        self.time = Time()
        self.loop = TwistedLoop(cast(Reactor, self.time), self, lambda name, text: pytest.fail(text))

    def now(self) -> float:
        return self.time.seconds()


@pytest.mark.parametrize(
    ("answers", "asked", "given_up"),
    [
        (["", "", "", ""], 4, []),
        (["bad", "", "bad", ""], 4, []),
        (["", "bad", "worse", ""], 3, ["its monitor failed 2 times in a row: worse"]),
        (["bad", "bad"], 2, ["its monitor failed 2 times in a row: bad"]),
    ],
)
def test_failures_in_a_row(answers: list[str], asked: int, given_up: list[str]) -> None:
    machine, heard = Machine(), []
    left: Iterator[str] = iter(answers)
    times: list[float] = []

    async def ask() -> str:
        times.append(machine.now())
        return next(left)

    monitor = Monitor(command=("/bin/true",), interval=5.0, failures=2)
    deferred = Deferred.fromCoroutine(watch(machine.loop, monitor, ask, heard.append))
    machine.time.pump([5.0] * len(answers))
    assert times == [5.0 * (n + 1) for n in range(asked)]
    assert heard == given_up and deferred.called is bool(given_up)
    if not deferred.called:
        deferred.addErrback(lambda _: None)
        deferred.cancel()


def test_one_failure_may_be_enough() -> None:
    machine, heard = Machine(), []

    async def ask() -> str:
        return "bad"

    monitor = Monitor(command=("/bin/true",), interval=1.0, failures=1)
    Deferred.fromCoroutine(watch(machine.loop, monitor, ask, heard.append))
    machine.time.advance(1.0)
    assert heard == ["its monitor failed 1 time: bad"]


def test_the_first_good_answer_is_told_once() -> None:
    machine, well = Machine(), []
    left = iter(["bad", "", "", "bad", "", ""])

    async def ask() -> str:
        return next(left)

    monitor = Monitor(command=("/bin/true",), interval=1.0, failures=2)
    watched = watch(machine.loop, monitor, ask, pytest.fail, lambda: well.append(machine.now()))
    deferred = Deferred.fromCoroutine(watched)
    machine.time.pump([1.0] * 5)
    assert well == [2.0]
    deferred.addErrback(lambda _: None)
    deferred.cancel()
