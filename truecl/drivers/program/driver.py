"""Programs: a foreground process (`run`) that is supervised, or `start` and `stop` commands.

Every program has a control group of its own, so that "stopped" means `populated 0` and nothing else. The death of a
foreground process is noticed through its pidfd, at once. It is started directly in its group with its output appended
to the application's log, and depends on this process in nothing: after a restart it is taken over from its record.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from truecl.drivers import spawn
from truecl.drivers.contract import Facts, Loop, Result, Runner, StepFailed, eventually, spec_of
from truecl.drivers.monitor.driver import watch as watch_monitor
from truecl.drivers.program.cgroup import Group, Groups, pids, signal_all
from truecl.drivers.program.log import ProgramLog
from truecl.drivers.program.record import Record, Records, alive, open_process, ticks_of
from truecl.drivers.program.strays import strays
from truecl.model.config import Monitor, Program
from truecl.model.ids import NodeName
from truecl.model.step import Instance, Probe, Step

KILL_WAIT = 2.0
"""Seconds in which a killed group must be empty; a task in uninterruptible sleep is never."""
_LOOK = 0.5
"""Seconds between looks at whether a started daemon's group is still populated, and at the size of logs."""

Noticed = Callable[[Instance, Step, str], None]
_Key = tuple[Instance, str]


@dataclass(slots=True)
class _Supervised:
    """What runs here on behalf of a started program."""

    pidfd: int = -1
    cancels: list[Callable[[], None]] = field(default_factory=list)

    def cancel(self) -> None:
        cancels, self.cancels = self.cancels, []
        for cancel in cancels:
            cancel()


class ProgramDriver:
    """`noticed` hears, once, that a started program died without having been told to; with the reason. `well` hears of
    the first good answer of its monitor, after a start and after it was taken over."""

    def __init__(
        self,
        runner: Runner,
        loop: Loop,
        groups: Groups,
        node: NodeName,
        noticed: Noticed,
        *,
        well: Callable[[Instance, Step], None] = lambda instance, step: None,
        run_directory: Path = Path("/run/truecl/programs"),
        log_directory: Path = Path("/var/log/truecl"),
        proc: Path = Path("/proc"),
    ) -> None:
        self._runner = runner
        self._loop = loop
        self._groups = groups
        self._node = node
        self._noticed = noticed
        self._well = well
        self._records = Records(run_directory, proc)
        self._logs = log_directory
        self._proc = proc
        self._supervised: dict[_Key, _Supervised] = {}

    # ---- the contract -----------------------------------------------------------------------------------------------

    async def up(self, step: Step, instance: Instance) -> None:
        spec = spec_of(step, Program)
        if await self.adopt(step, instance) is Probe.ACTIVE:
            return
        self._release(step, instance)
        group = self._groups.program(instance, spec.name)
        if not await self._groups.kill(group, KILL_WAIT):
            raise StepFailed(f"program {spec.name}: processes of an earlier start cannot be killed: {_listed(group)}")
        self._groups.create(group)
        try:
            if spec.run:
                await self._start_foreground(step, instance, group)
            else:
                await self._start_command(step, instance, group)
        except OSError as error:
            raise StepFailed(f"program {spec.name}: {error.strerror} ({error.filename})") from None

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        spec = spec_of(step, Program)
        self._release(step, instance)
        group = self._groups.program(instance, spec.name)
        monitors = self._groups.monitor(instance, spec.name)
        try:
            if not force:
                await self._groups.freeze(self._groups.of(instance), False)
                await self._stop_politely(spec, instance, group)
            for each in (group, monitors):
                if not await self._groups.kill(each, KILL_WAIT):
                    raise StepFailed(
                        f"program {spec.name}: killed, but still there (waiting for a device?): {_listed(each)}"
                    )
                await self._groups.remove(each)
        except OSError as error:
            raise StepFailed(f"program {spec.name}: {error.strerror} ({error.filename})") from None
        self._records.remove(instance, spec.name)
        with suppress(OSError):
            self._groups.of(instance).path.rmdir()  # the last program's; else it is not empty

    async def probe(self, step: Step, instance: Instance) -> Probe:
        spec = spec_of(step, Program)
        group = self._groups.program(instance, spec.name)
        record = self._records.read(instance, spec.name)
        try:
            populated = group.populated()
            if spec.run:
                if not populated:
                    return Probe.INACTIVE
                return Probe.ACTIVE if self._main_alive(step, instance, group, record) else Probe.FAILED
        except OSError:
            return Probe.UNKNOWN
        if record is None or record.state == "starting":
            return Probe.FAILED if populated else Probe.INACTIVE
        return Probe.FAILED if record.leaves and not populated else Probe.ACTIVE

    async def detail(self, step: Step, instance: Instance) -> Facts:
        spec = spec_of(step, Program)
        try:
            members = list(pids(self._groups.program(instance, spec.name)))
        except OSError:
            return {}
        if not members:
            return {}
        record = self._records.read(instance, spec.name)
        pid = record.pid if record is not None and record.pid in members else min(members)
        facts = {"pid": str(pid), "processes": str(len(members))}
        if ticks := ticks_of(self._proc, pid):
            facts["seconds"] = str(max(0, int(self._loop.now() - ticks / os.sysconf("SC_CLK_TCK"))))
        return facts

    async def adopt(self, step: Step, instance: Instance) -> Probe:
        """Supervise what is running already, as after a restart of reqd; harmless to repeat. What the probe says."""
        if self._key(step, instance) in self._supervised:
            return await self.probe(step, instance)
        probe = await self.probe(step, instance)
        if probe is Probe.ACTIVE:
            spec = spec_of(step, Program)
            group = self._groups.program(instance, spec.name)
            record = self._records.read(instance, spec.name)
            pidfd = open_process(record, self._proc, list(pids(group))) if spec.run and record is not None else None
            if spec.run and pidfd is None:
                return await self.probe(step, instance)
            self._supervise(step, instance, -1 if pidfd is None else pidfd)
        return probe

    def forget(self) -> None:
        """Leave all programs running and let go of them, as before an orderly restart of reqd."""
        for supervised in self._supervised.values():
            supervised.cancel()
            if supervised.pidfd >= 0:
                os.close(supervised.pidfd)
        self._supervised.clear()

    # ---- start ------------------------------------------------------------------------------------------------------

    async def _start_foreground(self, step: Step, instance: Instance, group: Group) -> None:
        spec = spec_of(step, Program)
        log = ProgramLog(self._logs, instance.app)
        child, before = self._spawn(spec, instance, group, log)
        settled = False
        try:
            ticks = ticks_of(self._proc, child.pid)
            self._records.write(instance, spec.name, Record(self._records.boot, "started", child.pid, ticks))
            ended = await self._loop.readable(child.pidfd, spec.settle)
            if not ended and not child.executed():  # it waits for a name service or a directory
                ended = not await self._executes(child, spec.start_timeout - spec.settle)
            if ended:
                raise StepFailed(await self._early_end(spec, child, log, before))
            if child.pid not in pids(group):
                raise StepFailed(f"program {spec.name}: left its control group (does it go through su or systemd?)")
            settled = True
        finally:
            pidfd, child.pidfd = child.pidfd, -1
            child.close()
            if settled:
                self._supervise(step, instance, pidfd, before)
            else:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                self._reap(pidfd)
        if await self.probe(step, instance) is not Probe.ACTIVE:
            raise StepFailed(f"program {spec.name}: ended as soon as it was started: {log.since(before)}")

    def _spawn(self, spec: Program, instance: Instance, group: Group, log: ProgramLog) -> tuple[spawn.Child, int]:
        """The child, and the size of the log before it wrote anything."""
        with suppress(OSError):
            log.rotate()
        before = log.size()
        output = log.open()
        nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            child = spawn.spawn(
                spec.run,
                stdin=nothing,
                stdout=output,
                stderr=output,
                environment=self._environment(spec, instance),
                cwd=spec.directory,
                user=spec.user,
                cgroup=group.path,
            )
        finally:
            os.close(output)
            os.close(nothing)
        return child, before

    async def _executes(self, child: spawn.Child, seconds: float) -> bool:
        """Wait until the child is past its exec; False if it ended instead, or did not get there in time."""
        deadline = self._loop.now() + seconds
        while not child.executed():
            if self._loop.now() >= deadline or not alive(child.pidfd):
                return False
            await self._loop.sleep(0.02)
        return True

    async def _early_end(self, spec: Program, child: spawn.Child, log: ProgramLog, before: int) -> str:
        ending = spawn.reap(child.pidfd)
        if ending is None:
            return f"program {spec.name}: {spec.run[0]} could not be run within {spec.start_timeout:.0f} s"
        if trouble := child.reason():
            return f"program {spec.name}: {trouble}"
        return f"program {spec.name}: ended at once, {_ending(ending)}{_quoted(log.since(before))}"

    async def _start_command(self, step: Step, instance: Instance, group: Group) -> None:
        spec = spec_of(step, Program)
        self._records.write(instance, spec.name, Record(self._records.boot, "starting"))
        result, said = await self._command(spec, instance, spec.start, spec.start_timeout)
        if not result.ok:
            why = f"no end within {spec.start_timeout:.1f} s" if result.timed_out else result.ending()
            raise StepFailed(f"program {spec.name}: start command {spec.start[0]}: {why}{_quoted(said)}")
        await self._refuse_strays(spec, instance)
        record = Record(self._records.boot, "started", leaves=group.populated())
        self._records.write(instance, spec.name, record)
        self._supervise(step, instance, -1)

    async def _refuse_strays(self, spec: Program, instance: Instance) -> None:
        """What runs outside the group could be neither frozen nor killed; it is ended here and the start refused."""
        found = await self._child_strays(spec, instance)
        for pid, _ in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if found:
            shown = ", ".join(f"{command} ({pid})" for pid, command in found[:5])
            raise StepFailed(
                f"program {spec.name}: its start command left processes outside its control group: {shown}; "
                "use `run` with the program in the foreground (does it go through su or systemd?)"
            )

    async def _child_strays(self, spec: Program, instance: Instance) -> list[tuple[int, str]]:
        members = frozenset(pids(self._groups.of(instance)))
        try:
            answer = await self._runner.call(
                f"look for stray processes of {spec.name}",
                lambda: strays(self._proc, instance, members),
                timeout=5.0,
            )
        except TimeoutError:
            raise StepFailed(f"program {spec.name}: /proc gives no answer about stray processes") from None
        lines = (line.partition(" ") for line in answer.decode("utf-8", "replace").splitlines())
        members = frozenset(pids(self._groups.of(instance)))  # with those that were forked in it meanwhile
        found = [(int(pid), command) for pid, _, command in lines]
        return [(pid, command) for pid, command in found if pid not in members and ticks_of(self._proc, pid)]

    # ---- while it runs ----------------------------------------------------------------------------------------------

    def _supervise(self, step: Step, instance: Instance, pidfd: int, log_start: int = 0) -> None:
        """From now on its death is noticed."""
        spec = spec_of(step, Program)
        self._release(step, instance)
        supervised = _Supervised(pidfd)
        self._supervised[self._key(step, instance)] = supervised
        name = f"{instance.app}: program {spec.name}"

        def gone(reason: str) -> None:
            if self._supervised.get(self._key(step, instance)) is not supervised:
                return
            self._release(step, instance)
            self._noticed(instance, step, f"program {spec.name}: {reason}")

        if pidfd >= 0:
            supervised.cancels.append(self._loop.watch(pidfd, lambda: gone(self._obituary(instance, pidfd, log_start))))
        if spec.monitor is not None:
            monitor = spec.monitor
            work = watch_monitor(
                self._loop,
                monitor,
                lambda: self._ask(spec, monitor, instance),
                gone,
                lambda: self._well(instance, step),
            )
            supervised.cancels.append(self._loop.launch(f"{name}: monitor", work))
        supervised.cancels.append(self._loop.launch(name, self._look_after(step, instance, gone)))

    def _obituary(self, instance: Instance, pidfd: int, log_start: int) -> str:
        ending = spawn.reap(pidfd)
        said = ProgramLog(self._logs, instance.app).since(log_start)
        return f"died, {_ending(ending or spawn.Ending())}{_quoted(said)}"

    async def _look_after(self, step: Step, instance: Instance, gone: Callable[[str], None]) -> None:
        spec = spec_of(step, Program)
        group = self._groups.program(instance, spec.name)
        log = ProgramLog(self._logs, instance.app)
        record = self._records.read(instance, spec.name)
        while True:
            await self._loop.sleep(_LOOK)
            with suppress(OSError):
                log.rotate()
            if record is not None and record.leaves and not group.populated():
                gone("all its processes have ended")
                return

    async def _ask(self, spec: Program, monitor: Monitor, instance: Instance) -> str:
        """What its monitor says is wrong; '' if nothing, or if the instance is frozen and cannot answer."""
        if self._groups.of(instance).is_frozen():
            return ""
        group = self._groups.monitor(instance, spec.name)
        try:
            self._groups.create(group)
            result = await self._runner.run(
                monitor.command,
                timeout=monitor.timeout,
                environment=self._environment(spec, instance),
                cwd=spec.directory,
                user=spec.user,
                cgroup=group.path,
            )
        except StepFailed as failed:
            return failed.reason
        if result.ok or self._groups.of(instance).is_frozen():
            return ""
        return f"{monitor.command[0]}: {result.ending()}{_quoted(result.last_lines())}"

    # ---- stop -------------------------------------------------------------------------------------------------------

    async def _stop_politely(self, spec: Program, instance: Instance, group: Group) -> None:
        """Ask; what is left in the group after `stop_timeout` is the caller's to kill."""
        deadline = self._loop.now() + spec.stop_timeout
        record = self._records.read(instance, spec.name)
        if spec.stop and not spec.run and record is not None:
            result, said = await self._command(spec, instance, spec.stop, spec.stop_timeout)
            if not result.ok and record.state == "started" and not record.leaves:
                why = f"{result.ending()}{_quoted(said)}"
                raise StepFailed(f"program {spec.name}: stop command {spec.stop[0]}: {why}")
        elif record is not None and (main := open_process(record, self._proc, list(pids(group)))) is not None:
            try:
                signal.pidfd_send_signal(main, signal.SIGTERM)
                await self._loop.readable(main, deadline - self._loop.now())
            finally:
                os.close(main)
        if group.populated() and self._loop.now() < deadline:
            signal_all(group, signal.SIGTERM)  # what the main process, or a wrapper script, left behind
            await eventually(self._loop, deadline - self._loop.now(), lambda: not group.populated())

    # ---- small things -----------------------------------------------------------------------------------------------

    async def _command(
        self, spec: Program, instance: Instance, argv: tuple[str, ...], timeout: float
    ) -> tuple[Result, str]:
        """Run a start or stop command in the program's group. How it ended, and the last lines that it wrote."""
        group = self._groups.program(instance, spec.name)
        self._groups.create(group)
        log = ProgramLog(self._logs, instance.app)
        before = log.size()
        output = log.open()
        try:
            result = await self._runner.run(
                argv,
                timeout=timeout,
                environment=self._environment(spec, instance),
                cwd=spec.directory,
                user=spec.user,
                cgroup=group.path,
                output=output,
            )
        finally:
            os.close(output)
        return result, log.since(before)

    def _environment(self, spec: Program, instance: Instance) -> dict[str, str]:
        own = {
            "TRUECL_APP": str(instance.app),
            "TRUECL_GENERATION": str(instance.generation),
            "TRUECL_NODE": str(self._node),
        }
        return spec.environment | own

    def _main_alive(self, step: Step, instance: Instance, group: Group, record: Record | None) -> bool:
        supervised = self._supervised.get(self._key(step, instance))
        if supervised is not None and supervised.pidfd >= 0:
            return alive(supervised.pidfd)
        pidfd = open_process(record, self._proc, list(pids(group))) if record is not None else None
        if pidfd is None:
            return False
        os.close(pidfd)
        return True

    def _release(self, step: Step, instance: Instance) -> None:
        """Stop supervising; whatever becomes of the process is not noticed any more, only reaped."""
        supervised = self._supervised.pop(self._key(step, instance), None)
        if supervised is not None:
            supervised.cancel()
            if supervised.pidfd >= 0:
                self._reap(supervised.pidfd)

    def _reap(self, pidfd: int) -> None:
        """Now, or as soon as it has ended: a child of ours that nobody waits for must not stay a zombie."""
        if not alive(pidfd):
            spawn.reap(pidfd)
            os.close(pidfd)
            return

        def ended() -> None:
            cancel()
            spawn.reap(pidfd)
            os.close(pidfd)

        cancel = self._loop.watch(pidfd, ended)

    def _key(self, step: Step, instance: Instance) -> _Key:
        return instance, step.name


def _ending(ending: spawn.Ending) -> str:
    if ending.code is not None:
        return f"exit code {ending.code}"
    if ending.signal is not None:
        return f"killed by signal {ending.signal}"
    return "exit code unknown (it was started before reqd)"


def _quoted(said: str) -> str:
    return f"; its last output: {said}" if said else ""


def _listed(group: Group) -> str:
    return ", ".join(str(pid) for pid in list(pids(group))[:10])
