"""Programs: records and /proc as they are read, and real processes in real control groups."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realhost import RealHost, no_children
from twisted.internet.defer import Deferred

from truecl.drivers.contract import StepFailed
from truecl.drivers.program.cgroup import Groups, GroupV2, pids
from truecl.drivers.program.driver import ProgramDriver
from truecl.drivers.program.log import LIMIT, ProgramLog
from truecl.drivers.program.record import Record, Records, open_process, start_ticks, ticks_of
from truecl.model.config import Program
from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.step import Instance, Probe, Step, StepKind

INSTANCE = Instance(AppName("web"), Generation(5))
PROC = Path("/proc")
STAT = (
    "4242 (a) b (c)) S 1 4242 4242 0 -1 4194304 5 0 0 0 1 2 0 0 20 0 1 0 {ticks} 2000 100 18446744073709551615"
    " 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)


# ---- parsing and records --------------------------------------------------------------------------------------------


@given(st.integers(0, 2**63))
def test_start_time_of_a_process_with_a_nasty_name(ticks: int) -> None:
    assert start_ticks(STAT.format(ticks=ticks)) == ticks


@given(st.text())
def test_rubbish_is_a_value_error_or_a_number(text: str) -> None:
    try:
        start_ticks(text)
    except ValueError:
        return


def test_records(tmp_path: Path) -> None:
    records = Records(tmp_path / "run", PROC)
    record = Record(records.boot, "started", 7, 99)
    assert records.read(INSTANCE, "p/q") is None
    records.write(INSTANCE, "p/q", record)
    assert records.read(INSTANCE, "p/q") == record
    assert records.read(Instance(AppName("web"), Generation(6)), "p/q") is None
    records.write(INSTANCE, "p/q", msgspec.structs.replace(record, boot="another"))
    assert records.read(INSTANCE, "p/q") is None, "of an earlier boot"
    next((tmp_path / "run").iterdir()).write_text('{"pid": "')
    assert records.read(INSTANCE, "p/q") is None
    records.remove(INSTANCE, "p/q")
    records.remove(INSTANCE, "p/q")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_process_is_taken_over_only_if_everything_fits() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        try:
            right = Record("b", "started", process.pid, ticks_of(PROC, process.pid))
            pidfd = open_process(right, PROC, [process.pid])
            assert pidfd is not None
            os.close(pidfd)
            assert open_process(msgspec.structs.replace(right, ticks=right.ticks + 1), PROC, [process.pid]) is None
            assert open_process(right, PROC, [1]) is None, "it is not in the group"
            assert open_process(msgspec.structs.replace(right, pid=0), PROC, [0]) is None
        finally:
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert ticks_of(PROC, process.pid) == right.ticks, "a zombie still has its number and its start time"
        assert open_process(right, PROC, [process.pid]) is None
    assert open_process(right, PROC, [process.pid]) is None


def test_the_log_is_bounded_and_goes_on(tmp_path: Path) -> None:
    log = ProgramLog(tmp_path / "log", AppName("web"))
    descriptor = log.open()
    os.write(descriptor, b"x" * LIMIT + b"\nlast words\n")
    log.rotate()
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert log.path.read_bytes() == b"after\n"
    assert log.path.with_suffix(".log.1").stat().st_size == LIMIT
    assert log.path.with_suffix(".log.1").read_bytes().endswith(b"\nlast words\n")
    assert log.since(0) == "after" and log.since(999) == ""


# ---- the real thing -------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, real: RealHost, directory: Path, root: Path) -> None:
        self.real = real
        self.directory = directory
        self.groups = Groups(real.loop, root)
        self.noticed: list[tuple[Instance, str, str]] = []
        self.driver = self.life()

    def life(self) -> ProgramDriver:
        """As after a start of the daemon."""
        return ProgramDriver(
            self.real.runner,
            self.real.loop,
            self.groups,
            NodeName("node1"),
            lambda instance, step, reason: self.noticed.append((instance, step.name, reason)),
            run_directory=self.directory / "run",
            log_directory=self.directory / "log",
        )

    def up(self, step: Step) -> None:
        self.real.do(self.driver.up(step, INSTANCE))

    def down(self, step: Step, force: bool = False) -> None:
        self.real.do(self.driver.down(step, INSTANCE, force))

    def probe(self, step: Step) -> Probe:
        return self.real.do(self.driver.probe(step, INSTANCE))

    def pid(self, step: Step) -> int:
        return int(self.real.do(self.driver.detail(step, INSTANCE))["pid"])

    def log(self) -> str:
        return (self.directory / "log" / "web.log").read_text()

    def pids(self) -> list[int]:
        return list(pids(self.groups.of(INSTANCE)))


def program(**values: object) -> Step:
    spec = msgspec.convert({"name": "server", "settle": 0.1, **values}, Program)
    return Step("program server", StepKind.PROGRAM, spec)


def shell(script: str, **values: object) -> Step:
    return program(run=("/bin/sh", "-c", script), **values)


@pytest.fixture
def bench(real: RealHost, tmp_path: Path) -> Iterator[Bench]:
    point = tmp_path / "cgroup"
    point.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "truecl-test", point], check=True)
    made = Bench(real, tmp_path, point / f"truecl-test-{os.getpid()}")
    yield made
    everything = GroupV2(point / f"truecl-test-{os.getpid()}")
    gone = real.do(made.groups.kill(everything, 2)) and real.do(made.groups.remove(everything))
    subprocess.run(["umount", point], check=True)
    assert gone
    real.until(no_children)


@pytest.mark.root
def test_foreground_program(bench: Bench) -> None:
    step = shell("echo $TRUECL_APP $TRUECL_GENERATION $TRUECL_NODE $X $(pwd); id -un; exec sleep 60",
                 environment={"X": "y"}, directory="/tmp", user="nobody")  # fmt: skip
    assert bench.probe(step) is Probe.INACTIVE
    assert bench.real.do(bench.driver.detail(step, INSTANCE)) == {}
    bench.up(step)
    pid = bench.pid(step)
    bench.up(step)  # idempotent
    assert bench.pids() == [pid] and bench.probe(step) is Probe.ACTIVE
    assert bench.log() == "web 5 node1 y /tmp\nnobody\n"
    assert os.getsid(pid) == pid
    bench.down(step)
    assert bench.probe(step) is Probe.INACTIVE and bench.noticed == []
    assert not bench.groups.of(INSTANCE).path.exists() and list((bench.directory / "run").iterdir()) == []
    bench.down(step)
    bench.down(step, force=True)


@pytest.mark.root
def test_death_is_noticed_at_once(bench: Bench) -> None:
    step = shell("echo last words; exec sleep 60")
    bench.up(step)
    os.kill(bench.pid(step), signal.SIGKILL)
    before = time.monotonic()
    bench.real.until(lambda: bench.noticed)
    assert time.monotonic() - before < 0.2
    assert bench.noticed == [
        (INSTANCE, "program server", "program server: died, killed by signal 9; its last output: last words")
    ]
    assert bench.probe(step) is Probe.INACTIVE
    bench.up(step)  # a restart on the spot
    assert bench.probe(step) is Probe.ACTIVE
    bench.down(step, force=True)
    assert len(bench.noticed) == 1


@pytest.mark.root
def test_children_of_a_dead_program_are_not_gone(bench: Bench) -> None:
    step = shell("setsid sleep 60 & setsid sleep 61 & sleep 0.3; exit 4")
    bench.up(step)
    bench.real.until(lambda: bench.noticed)
    assert "exit code 4" in bench.noticed[0][2]
    assert bench.probe(step) is Probe.FAILED and len(bench.pids()) == 2
    bench.up(step)  # what an earlier life left in the group goes first
    assert bench.probe(step) is Probe.ACTIVE
    bench.down(step, force=True)
    assert bench.pids() == [] and bench.probe(step) is Probe.INACTIVE


@pytest.mark.root
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"run": ("/bin/sh", "-c", "echo bad >&2; exit 3")}, "ended at once, exit code 3; its last output: bad"),
        ({"run": ("/bin/true",)}, "ended at once, exit code 0"),
        ({"run": ("/bin/sh", "-c", "kill -11 $$")}, "ended at once, killed by signal 11"),
        ({"run": ("/no/such",)}, "cannot run /no/such: No such file or directory"),
        ({"run": ("relative",)}, "cannot run relative: an absolute path is needed"),
        ({"run": ("/bin/sleep", "9"), "user": "nosuch"}, "cannot become user nosuch for /bin/sleep: no such user"),
        ({"run": ("/bin/sleep", "9"), "directory": "/nosuch"}, "cannot change to the directory /nosuch for /bin/sleep"),
        ({"start": ("/bin/sh", "-c", "echo no; exit 1")}, "start command /bin/sh: exit code 1; its last output: no"),
        ({"start": ("/bin/sleep", "60"), "start_timeout": 0.2}, "start command /bin/sleep: no end within 0.2 s"),
        ({"start": ("/no/such",)}, "cannot run /no/such"),
    ],
)
def test_programs_that_do_not_start(bench: Bench, values: dict[str, object], reason: str) -> None:
    step = program(**values)
    with pytest.raises(StepFailed, match=reason):
        bench.up(step)
    bench.down(step)
    assert bench.probe(step) is Probe.INACTIVE and bench.noticed == []
    assert not bench.groups.of(INSTANCE).path.exists()


@pytest.mark.root
def test_a_program_that_ignores_term_is_killed_after_its_time(bench: Bench) -> None:
    step = shell("trap '' TERM; while :; do sleep 0.05; done", stop_timeout=0.3)
    bench.up(step)
    before = time.monotonic()
    bench.down(step)
    assert 0.3 <= time.monotonic() - before < 2
    assert bench.probe(step) is Probe.INACTIVE


@pytest.mark.root
def test_term_goes_to_the_main_process_first_and_then_to_the_rest(bench: Bench) -> None:
    child = "trap 'echo child; exit' TERM; while :; do sleep 0.01; done"
    step = shell(f'sh -c "{child}" & trap "sleep 0.2; echo main; exit" TERM; echo up; while :; do sleep 0.01; done')
    bench.up(step)
    bench.down(step)
    assert [line for line in bench.log().splitlines() if line != "Terminated"] == ["up", "main", "child"]


@pytest.mark.root
def test_by_force_nobody_is_asked(bench: Bench) -> None:
    step = shell("trap 'echo asked' TERM; setsid sleep 60 & while :; do sleep 0.01; done")
    bench.up(step)
    before = time.monotonic()
    bench.down(step, force=True)
    assert time.monotonic() - before < 1 and bench.log() == ""
    assert bench.probe(step) is Probe.INACTIVE and bench.noticed == []


@pytest.mark.root
def test_a_frozen_program_can_be_stopped_both_ways(bench: Bench) -> None:
    step = shell("trap 'echo asked; exit' TERM; while :; do sleep 0.01; done")
    for force, log in ((True, ""), (False, "asked\n")):
        bench.up(step)
        assert bench.real.do(bench.groups.freeze(bench.groups.of(INSTANCE)))
        assert bench.probe(step) is Probe.ACTIVE
        bench.down(step, force)
        assert bench.probe(step) is Probe.INACTIVE and bench.log() == log


@pytest.mark.root
def test_a_restarted_daemon_takes_over_what_runs(bench: Bench) -> None:
    """In a process of its own, so that the program is not a child of the one that takes it over."""
    step = shell("echo up; exec sleep 60")
    parent = os.fork()
    if parent == 0:
        first = Bench(RealHost(), bench.directory, bench.groups.of(INSTANCE).path.parent)
        first.up(step)
        os._exit(0)
    assert os.waitpid(parent, 0)[1] == 0
    assert bench.real.do(bench.driver.adopt(step, INSTANCE)) is Probe.ACTIVE
    pid = bench.pid(step)
    bench.up(step)
    assert bench.pid(step) == pid and bench.log() == "up\n", "it was started anew"
    os.kill(pid, signal.SIGKILL)
    bench.real.until(lambda: bench.noticed)
    assert "died, exit code unknown" in bench.noticed[0][2]
    assert bench.probe(step) is Probe.INACTIVE


@pytest.mark.root
def test_a_program_that_died_while_nobody_looked(bench: Bench) -> None:
    step = shell("setsid sleep 60 & exec sleep 60")
    bench.up(step)
    main = bench.pid(step)
    bench.driver.forget()
    bench.driver = bench.life()
    os.kill(main, signal.SIGKILL)
    os.waitpid(main, 0)
    assert bench.real.do(bench.driver.adopt(step, INSTANCE)) is Probe.FAILED
    bench.down(step)
    assert bench.probe(step) is Probe.INACTIVE and bench.noticed == []


@pytest.mark.root
def test_start_and_stop_commands(bench: Bench) -> None:
    step = program(
        start=("/bin/sh", "-c", "echo starting; setsid sleep 60 > /dev/null 2>&1 &"),
        stop=("/bin/sh", "-c", "echo stopping"),
    )
    bench.up(step)
    bench.up(step)
    assert bench.probe(step) is Probe.ACTIVE and len(bench.pids()) == 1
    bench.down(step)
    assert bench.probe(step) is Probe.INACTIVE and bench.log() == "starting\nstopping\n"


@pytest.mark.root
def test_a_started_daemon_that_dies_is_noticed(bench: Bench) -> None:
    step = program(start=("/bin/sh", "-c", "sleep 60 &"))
    bench.up(step)
    os.kill(bench.pid(step), signal.SIGKILL)
    bench.real.until(lambda: bench.noticed)
    assert bench.noticed[0][2] == "program server: all its processes have ended"
    assert bench.probe(step) is Probe.FAILED
    bench.down(step)
    assert bench.probe(step) is Probe.INACTIVE


@pytest.mark.root
def test_commands_that_leave_no_process(bench: Bench, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    step = program(start=("/usr/bin/touch", str(flag)), stop=("/bin/rm", str(flag)))
    bench.up(step)
    assert bench.probe(step) is Probe.ACTIVE and flag.exists()
    flag.unlink()
    with pytest.raises(StepFailed, match="stop command /bin/rm: exit code 1; its last output: .*No such file"):
        bench.down(step)
    assert bench.probe(step) is Probe.ACTIVE, "it was never stopped, as far as anybody knows"
    flag.touch()
    bench.down(step)
    assert bench.probe(step) is Probe.INACTIVE and not flag.exists()


@pytest.mark.root
def test_a_start_that_leaves_its_group_is_refused(bench: Bench) -> None:
    """As `su` does where PAM gives it a session of its own."""
    elsewhere = bench.groups.of(INSTANCE).path.parent / "elsewhere"
    elsewhere.mkdir(parents=True)
    leave = f"echo 0 > {elsewhere}/cgroup.procs"
    for step in (program(start=("/bin/sh", "-c", f"{leave}; sleep 60 &")), shell(f"{leave}; exec sleep 60")):
        with pytest.raises(StepFailed, match="its control group"):
            bench.up(step)
        bench.down(step)
        bench.real.until(lambda: (elsewhere / "cgroup.procs").read_text() == "")
    elsewhere.rmdir()


@pytest.mark.root
def test_monitor(bench: Bench, tmp_path: Path) -> None:
    well = tmp_path / "well"
    well.touch()
    command = ("/bin/sh", "-c", f"test -e {well} || {{ echo sick; exit 7; }}")
    step = shell("exec sleep 60", monitor={"command": command, "interval": 0.05, "failures": 3})
    bench.up(step)
    bench.real.until(lambda: len(bench.real.runs) > 3)
    assert bench.noticed == []
    well.unlink()
    bench.real.until(lambda: bench.noticed)
    assert "its monitor failed 3 times in a row: /bin/sh: exit code 7; its last output: sick" in bench.noticed[0][2]
    assert [run.code for run in bench.real.runs[-4:]] == [0, 7, 7, 7]
    assert bench.probe(step) is Probe.ACTIVE, "the process itself runs"
    bench.down(step)


@pytest.mark.root
def test_a_frozen_program_is_not_monitored(bench: Bench) -> None:
    monitor = {"command": ("/bin/false",), "interval": 0.05, "failures": 1}
    step = shell("exec sleep 60", monitor=monitor)
    bench.up(step)
    assert bench.real.do(bench.groups.freeze(bench.groups.of(INSTANCE)))
    bench.noticed.clear()
    other, well = Instance(AppName("other"), Generation(1)), {"command": ("/bin/true",), "interval": 0.05}
    thawed = shell("exec sleep 60", monitor=well)
    bench.real.do(bench.driver.up(thawed, other))

    def asked(command: str) -> int:
        return sum(each.argv[0] == command for each in bench.real.runs)

    before = asked("/bin/false")
    bench.real.until(lambda: asked("/bin/true") >= 5)
    assert asked("/bin/false") == before and bench.noticed == []
    bench.real.do(bench.driver.down(thawed, other, True))
    bench.down(step, force=True)


@pytest.mark.root
def test_a_cancelled_start_leaves_nothing_that_down_does_not_take(bench: Bench) -> None:
    step = shell("setsid sleep 60 & exec sleep 60", settle=30)
    deferred = Deferred.fromCoroutine(bench.driver.up(step, INSTANCE))
    deferred.addErrback(lambda _: None)
    bench.real.until(lambda: len(bench.pids()) == 2)
    deferred.cancel()
    bench.real.until(lambda: len(bench.pids()) == 1)
    assert bench.probe(step) is Probe.FAILED
    bench.down(step)
    assert bench.probe(step) is Probe.INACTIVE and bench.noticed == []
