"""Processes are bounded in time and output, inherit nothing, and leave nothing behind. None of this needs root."""

import ast
import errno
import os
import select
import time
from pathlib import Path

import pytest
from realhost import RealHost, no_children
from twisted.internet.defer import CancelledError, Deferred

from truecl.drivers.contract import OUTPUT_LIMIT, Result, StepFailed

PYTHON = "/usr/bin/python3"


def shell(real: RealHost, script: str, timeout: float = 10.0, cwd: str = "/") -> Result:
    return real.do(real.runner.run(("/bin/sh", "-c", script), timeout=timeout, cwd=cwd))


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_exit_code_output_and_log(real: RealHost) -> None:
    result = shell(real, "echo out; echo err >&2; exit 3")
    assert (result.code, result.signal, result.stdout, result.stderr) == (3, None, b"out\n", b"err\n")
    assert not result.ok and result.ending() == "exit code 3" and result.last_lines() == "err"
    assert real.runs == [result]


def test_death_by_signal(real: RealHost) -> None:
    result = shell(real, "kill -11 $$")
    assert (result.code, result.signal) == (None, 11)
    assert not result.ok and not result.stuck


@pytest.mark.parametrize("cwd", ["/", "/tmp"])
def test_environment_directory_and_descriptors(real: RealHost, cwd: str) -> None:
    """By either way of starting, nothing that we opened is inherited (a daemon begins without what its parent had)."""
    descriptor = os.open("/dev/null", os.O_RDONLY)
    foreign = [number for number in map(int, open_descriptors()) if number > 2 and _inheritable(number)]
    try:
        script = "import os; print(sorted(os.environ), os.getcwd(), sorted(map(int, os.listdir('/proc/self/fd'))))"
        result = real.do(real.runner.run((PYTHON, "-c", script), timeout=10, environment={"A": "b"}, cwd=cwd))
    finally:
        os.close(descriptor)
    names, rest = result.stdout.decode().split("]", 1)
    variables = set(names.strip("[").replace("'", "").split(", ")) - {"LC_CTYPE"}
    assert {"A", "LANG", "PATH"} <= variables <= {"A", "LANG", "PATH", "HOME", "USER", "LOGNAME"}
    where, numbers = rest.split(maxsplit=1)
    assert where == cwd and set(ast.literal_eval(numbers)) <= {0, 1, 2, 3, *foreign}, "3: the directory being listed"


def _inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # it was the listing's own
        return False


def test_input(real: RealHost) -> None:
    data = b"x" * 300_000  # more than a pipe holds, and the child reads it late
    result = real.do(real.runner.run(("/bin/sh", "-c", "sleep 0.1; wc -c"), timeout=10, stdin=data))
    assert result.stdout.strip() == b"300000"


def test_output_is_bounded_and_keeps_both_ends(real: RealHost) -> None:
    result = shell(real, "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo last")
    assert OUTPUT_LIMIT <= len(result.stdout) < OUTPUT_LIMIT + 100
    assert result.stdout.startswith(b"first\n") and result.stdout.endswith(b"last\n")
    assert f"[{6 + 3000000 + 5 - OUTPUT_LIMIT} bytes left out]".encode() in result.stdout


def test_term_is_enough_for_most(real: RealHost) -> None:
    result = shell(real, "trap 'echo asked; exit 0' TERM; while :; do sleep 0.01; done", timeout=0.2)
    assert result.timed_out and result.stdout == b"asked\n" and not result.ok


def test_kill_takes_the_whole_group(real: RealHost, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"trap '' TERM; sleep 60 & echo $! > {pid_file}; wait; sleep 60"
    result = shell(real, script, timeout=0.3)
    assert result.timed_out and result.signal == 9
    assert 0.5 < result.seconds < 5
    pid = int(pid_file.read_text())
    real.until(lambda: not Path(f"/proc/{pid}/stat").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text())


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(real: RealHost) -> None:
    before = time.monotonic()
    result = shell(real, "sleep 3 & echo $!")
    assert result.ok and time.monotonic() - before < 2
    os.kill(int(result.stdout), 9)


@pytest.mark.parametrize(
    ("argv", "extra", "reason"),
    [
        (("/no/such",), {}, "cannot run /no/such: No such file or directory"),
        (("/no/such",), {"cwd": "/tmp"}, "cannot run /no/such: No such file or directory"),
        (("/bin/true",), {"cwd": "/no/dir"}, "cannot change to the directory /no/dir for /bin/true: No such file"),
        (("/bin/true",), {"user": "no-such-user"}, "cannot become user no-such-user for /bin/true: no such user"),
        (("/bin/true",), {"cgroup": Path("/no/group")}, "cannot enter the control group /no/group for /bin/true"),
        (("true",), {}, "cannot run true: an absolute path is needed"),
        (("/bin/true", "a\0b"), {}, "cannot run /bin/true: an argument or a variable contains a NUL character"),
        ((), {}, "cannot run nothing"),
    ],
)
def test_what_cannot_be_run(real: RealHost, argv: tuple[str, ...], extra: dict[str, object], reason: str) -> None:
    with pytest.raises(StepFailed, match=reason.replace(".", r"\.")):
        real.do(real.runner.run(argv, timeout=5, **extra))


def test_cancelling_kills(real: RealHost) -> None:
    deferred = Deferred.fromCoroutine(real.runner.run(("/bin/sleep", "60"), timeout=60))
    outcome: list[object] = []
    deferred.addBoth(outcome.append)
    deferred.cancel()
    real.until(lambda: outcome)
    assert isinstance(outcome[0].value, CancelledError)
    real.until(lambda: not real.runner.stuck)  # killed and reaped
    assert no_children()


def test_nothing_is_left_open(real: RealHost) -> None:
    shell(real, "true")
    before = open_descriptors()
    for script, timeout in (("true", 5.0), ("exit 1", 5.0), ("sleep 60", 0.05)):
        shell(real, script, timeout)
        shell(real, script, timeout, "/tmp")
    with pytest.raises(StepFailed):
        real.do(real.runner.run(("/no/such",), timeout=5))
    real.do(real.runner.call("c", lambda: b"", timeout=5))
    assert open_descriptors() <= before
    assert no_children()


def test_call_returns_what_the_function_returns(real: RealHost) -> None:
    pid = os.getpid()
    answer = real.do(real.runner.call("name", lambda: f"{os.getppid()}".encode(), timeout=5))
    assert int(answer) == pid
    assert real.runs[0].argv == ("[name]",)


def test_call_has_none_of_our_descriptors(real: RealHost) -> None:
    """Forking ignores close-on-exec; a child that hangs must not hold a watchdog's descriptor."""
    read_end, write_end = os.pipe()
    answer = real.do(
        real.runner.call("fds", lambda: " ".join(e.name for e in os.scandir("/proc/self/fd")).encode(), timeout=5)
    )
    assert set(answer.split()) <= {b"0", b"1", b"2", b"3"}  # 3: the directory that is being listed
    os.close(write_end)
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    assert poll.poll(0), "somebody still holds the write end"
    os.close(read_end)


def test_call_raises_what_the_function_raised(real: RealHost) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        real.do(real.runner.call("c", lambda: Path("/no/such").read_bytes(), timeout=5))
    assert missing.value.errno == errno.ENOENT

    def refuse() -> bytes:
        raise StepFailed("in operator's words")

    with pytest.raises(StepFailed, match="^in operator's words$"):
        real.do(real.runner.call("c", refuse, timeout=5))
    with pytest.raises(StepFailed, match="ZeroDivisionError"):
        real.do(real.runner.call("c", lambda: bytes(1 // 0), timeout=5))


def test_call_that_hangs(real: RealHost) -> None:
    def hang() -> bytes:
        time.sleep(60)
        return b""

    with pytest.raises(TimeoutError):
        real.do(real.runner.call("c", hang, timeout=0.1))


def test_within(real: RealHost) -> None:
    async def soon() -> int:
        await real.loop.sleep(0.01)
        return 7

    assert real.do(real.loop.within(5.0, soon())) == 7
    with pytest.raises(TimeoutError):
        real.do(real.loop.within(0.05, real.loop.sleep(60)))


def test_background_work_that_fails_is_named() -> None:
    real = RealHost()

    async def broken() -> None:
        await real.loop.sleep(0.01)
        raise ValueError("why")

    real.loop.launch("the work", broken())
    real.until(lambda: real.failures)
    assert real.failures == [("the work", "ValueError: why")]


def test_background_work_is_cancelled_without_a_word(real: RealHost) -> None:
    cancel = real.loop.launch("the work", real.loop.sleep(3600))
    cancel()
    real.do(real.loop.sleep(0.05))
    assert not real.reactor.getDelayedCalls()
