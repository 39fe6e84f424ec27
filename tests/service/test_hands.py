"""reqd's hands on the real machine: what a tool that no KILL ends makes of its step."""

import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from realhost import RealHost
from twisted.internet.defer import Deferred

from truecl.drivers.contract import Facts
from truecl.model.actions import StepDown, StepProbe, StepResult, StepUp
from truecl.model.config import FileStorage
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance, Probe, Step, StepKind
from truecl.service.hands import Hands

pytestmark = pytest.mark.root
WEB, OTHER = Instance(AppName("web"), Generation(5)), Instance(AppName("other"), Generation(5))
STEP = Step("volume data", StepKind.STORAGE, FileStorage(image="/shared/web.img"))


class Touches:
    """A driver whose tool writes a file. To its probe the step is down as long as the file is not there."""

    def __init__(self, real: RealHost, path: Path) -> None:
        self._real, self._path = real, path
        self.downs = 0

    async def up(self, step: Step, instance: Instance) -> None:
        await self._real.runner.run(("/usr/bin/touch", str(self._path)), timeout=0.1)

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        self.downs += 1

    async def probe(self, step: Step, instance: Instance) -> Probe:
        return Probe.INACTIVE

    async def detail(self, step: Step, instance: Instance) -> Facts:
        return {}


def hands(real: RealHost, driver: Touches) -> Hands:
    unused = cast(Any, None)
    return Hands(
        {StepKind.STORAGE: driver},
        real.runner,
        unused,
        unused,
        unused,
        unused,
        unused,
        real.loop,
        unused,
        unused,
        unused,
        unused,
    )


def done(real: RealHost, deferred: "Deferred[StepResult]") -> StepResult:
    results: list[StepResult] = []
    deferred.addBoth(results.append)
    real.until(lambda: results)
    assert isinstance(results[0], StepResult), results[0]
    return results[0]


def test_nobody_can_say_what_becomes_of_a_step_while_a_killed_tool_of_it_waits_for_a_device(
    real: RealHost, frozen: Path
) -> None:
    """Else a stop after a mount that hangs finds nothing mounted, and the mount comes when the next owner has it."""
    driver = Touches(real, frozen / "x")
    does = hands(real, driver)
    try:
        done(real, does(StepUp(WEB, STEP, 10.0)))
        assert real.runner.stuck, "else this proves nothing"
        later = Instance(WEB.app, Generation(9))
        for action in (StepDown(WEB, STEP, 5.0, True), StepProbe(WEB, STEP), StepUp(later, STEP, 5.0)):
            result = done(real, does(action))
            assert result.probe is Probe.UNKNOWN and "/usr/bin/touch" in result.reason, action
        assert driver.downs == 0
        assert done(real, does(StepDown(OTHER, STEP, 5.0, True))).probe is Probe.INACTIVE, "another application's"
    finally:
        subprocess.run(["fsfreeze", "-u", frozen], check=True)
    real.until(lambda: not real.runner.stuck)
    assert done(real, does(StepDown(WEB, STEP, 5.0, True))).probe is Probe.INACTIVE
    assert driver.downs == 2


def test_a_tool_that_ends_when_it_is_killed_leaves_no_doubt(real: RealHost, tmp_path: Path) -> None:
    class Sleeps(Touches):
        async def up(self, step: Step, instance: Instance) -> None:
            await self._real.runner.run(("/bin/sleep", "60"), timeout=0.05)

    does = hands(real, Sleeps(real, tmp_path))
    done(real, does(StepUp(WEB, STEP, 10.0)))
    assert done(real, does(StepProbe(WEB, STEP))).probe is Probe.INACTIVE
