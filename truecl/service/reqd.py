"""reqd as a process: the guard and the hands, with their drivers, their journal and the line to the warm parent."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from truecl.config.reader import read
from truecl.core.contract import Noted
from truecl.core.lockd import DiskFull
from truecl.core.supervisor import PARENT
from truecl.drivers.contract import Driver, StepFailed
from truecl.drivers.fence.driver import FenceDriver
from truecl.drivers.filesystem.driver import FileSystemDriver
from truecl.drivers.filesystem.make import FormatDriver
from truecl.drivers.program.cgroup import Groups, find
from truecl.drivers.program.driver import ProgramDriver
from truecl.drivers.tools import Tools
from truecl.drivers.watchdog.api import KernelCalls
from truecl.drivers.watchdog.driver import WatchdogDriver
from truecl.drivers.watchdog.virtual import virtual
from truecl.model.actions import ConfigurationRead, ProgramAnswered, ProgramDied, ServiceStopping
from truecl.model.step import Instance, Step, StepKind
from truecl.runtime.files import Unreadable, gather
from truecl.runtime.host import Bus
from truecl.runtime.line import ParentLink
from truecl.runtime.loop import TwistedLoop
from truecl.runtime.process import CannotStart, Daemon
from truecl.runtime.runner import ProcessRunner
from truecl.service.hands import Hands
from truecl.service.joint import Joint
from truecl.service.storage import storage_drivers, worker


class _WithParent:
    """The local bus, with the warm parent on it under its own name."""

    def __init__(self, bus: Bus, parent: ParentLink) -> None:
        self._bus, self._parent = bus, parent

    def tell(self, who: str, message: Any) -> None:
        if who == PARENT:
            self._parent.send(message)
        else:
            self._bus.tell(who, message)


def main(daemon: Daemon) -> None:
    joint = Joint(daemon, durable=True, volatile=True, when_full=Noted(DiskFull()))

    def noticed(instance: Instance, step: Step, reason: str) -> None:
        joint.feed(Noted(ProgramDied(instance, step.name, reason)))

    def well(instance: Instance, step: Step) -> None:
        joint.feed(Noted(ProgramAnswered(instance, step.name)))

    hands = _hands(daemon, noticed, well)

    def terminate() -> None:
        joint.feed(Noted(ServiceStopping()))

    parent = daemon.parent
    if parent is None:
        joint.run(hands, hands.failed, on_terminate=terminate)
        return
    link = parent
    joint.run(
        hands,
        hands.failed,
        wrap_bus=lambda bus: _WithParent(bus, link),
        on_start=lambda: link.start(daemon.reactor, joint.feed),
        on_terminate=terminate,
    )


def _hands(daemon: Daemon, noticed: Any, well: Any) -> Hands:
    loop = TwistedLoop(daemon.reactor, daemon.clock, lambda name, text: daemon.log.error(f"{name}: {text}"))
    runner = ProcessRunner(loop, lambda result: daemon.log.info(_ran(result)))
    storage, replicas = storage_drivers(runner, loop, daemon.node, daemon.boot, daemon.paths.run)
    groups, tools = _control_groups(daemon, loop)
    programs = ProgramDriver(
        runner,
        loop,
        groups,
        daemon.node,
        noticed,
        well=well,
        run_directory=daemon.paths.run / "programs",
        log_directory=daemon.paths.log,
    )
    drivers: dict[StepKind, Driver] = {
        StepKind.STORAGE: storage,
        StepKind.FORMAT: FormatDriver(runner, storage.device),
        StepKind.FILESYSTEM: FileSystemDriver(runner, loop, storage.device, note=daemon.log.warning),
        StepKind.PROGRAM: programs,
    }
    watchdog = WatchdogDriver(KernelCalls(), virtual())
    parent = daemon.parent
    return Hands(drivers, runner, groups, tools, replicas, FenceDriver(runner, loop), watchdog, loop,
                 lambda: _read(daemon.paths.etc), lambda: daemon.exit(0, "the applications are stopped"),
                 lambda: parent.kill() if parent is not None else None, worker(runner, replicas))  # fmt: skip


def _control_groups(daemon: Daemon, loop: TwistedLoop) -> tuple[Groups, Tools]:
    """Of the instances, and of this daemon's own tools, in which it lives from here on. Raises CannotStart."""
    try:
        root, version = find()
        groups = Groups(loop, root / "truecl", version)
        # An instance's group has a dot in its name, so it never meets this one.
        tools = Tools(groups, root / "truecl" / "reqd" / quote(str(daemon.paths.run), safe=""))
        tools.enter()
    except StepFailed as failed:
        raise CannotStart(failed.reason) from failed
    return groups, tools


def _ran(result: Any) -> str:
    return f"ran {' '.join(result.argv)[:300]}: {result.ending()} [{result.seconds * 1000:.0f} ms]"


def _read(directory: Path) -> ConfigurationRead:
    try:
        configuration, problems = read(gather(directory))
    except Unreadable as error:
        return ConfigurationRead(None, (str(error),))
    return ConfigurationRead(configuration, tuple(str(problem) for problem in problems))
