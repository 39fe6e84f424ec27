"""What every driver offers, and what a driver may ask of its host.

A driver brings one kind of step up or down on this node and says what is there. It awaits nothing but the two protocols
below, so it does not know which event loop runs it; `truecl.runtime.runner` implements both on Twisted.

The rule above all others (docs/safety.md): *a step is done when its probe says so*, never because a tool returned 0.
Only `Probe.INACTIVE` means "gone"; FAILED is still something to stop, UNKNOWN allows no conclusion.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from truecl.model.step import Instance, Probe, Step

OUTPUT_LIMIT = 64 * 1024
"""Bytes kept of a process's standard output, and as many of its standard error."""

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of everything that is run, and where names of tools are looked up."""

SpecT = TypeVar("SpecT")


class StepFailed(Exception):
    """A step (or a fence) could not be carried out. The text is the operator's: what is wrong, where, what helps."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. Exactly one of `code`, `signal` is set; both are None if it could not even be killed."""

    argv: tuple[str, ...]
    code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    timed_out: bool = False
    """It had to be stopped: TERM, then KILL."""

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.timed_out

    @property
    def stuck(self) -> bool:
        """Not even KILL ended it in time (a task in uninterruptible sleep)."""
        return self.code is None and self.signal is None

    def ending(self) -> str:
        """In words: 'exit code 1', 'killed by signal 9', 'no end within 5.0 s'."""
        if self.stuck:
            return f"does not end, not even killed, after {self.seconds:.1f} s (waits for a device?)"
        if self.timed_out:
            return f"stopped after {self.seconds:.1f} s without an end"
        return f"exit code {self.code}" if self.signal is None else f"killed by signal {self.signal}"

    def last_lines(self, count: int = 3) -> str:
        """The end of what it said, standard error first, on one line."""
        return last_lines(self.stderr, count) or last_lines(self.stdout, count)


class Runner(Protocol):
    """Runs what may take time or hang, outside this process."""

    async def run(
        self,
        argv: tuple[str, ...],
        *,
        timeout: float,
        stdin: bytes = b"",
        environment: dict[str, str] | None = None,
        cwd: str = "/",
        user: str | None = None,
        cgroup: Path | None = None,
        output: int | None = None,
    ) -> Result:
        """Run a program to its end.

        `argv[0]` is absolute; no shell; the environment is PATH, LANG=C and `environment`. After `timeout` seconds its
        process group gets TERM, then KILL. `cgroup`: a directory of a cgroup hierarchy it is put into before exec.
        `output`: a descriptor that takes standard output and error instead of the bounded buffers.
        Cancelling the wait kills the group. Raises StepFailed if the program cannot be executed at all.
        """
        ...

    async def call(self, name: str, function: Callable[[], bytes], *, timeout: float) -> bytes:
        """Run `function` in a forked child and return what it returns (at most OUTPUT_LIMIT bytes).

        For system calls that can hang on a dead disk or NFS server: this process must go on guarding. The child has no
        descriptor of ours open. Raises what the function raised if that was OSError (errno kept) or StepFailed,
        TimeoutError after `timeout` seconds, StepFailed for anything else.
        """
        ...


class Loop(Protocol):
    """The event loop, as far as drivers need it."""

    def now(self) -> float:
        """CLOCK_BOOTTIME, seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when the clock says that `seconds` have passed."""
        ...

    async def readable(self, descriptor: int, timeout: float) -> bool:
        """Wait until the descriptor is readable (a pidfd: until the process ended); False after `timeout` seconds."""
        ...

    def watch(self, descriptor: int, readable: Callable[[], None]) -> Callable[[], None]:
        """Call `readable` whenever the descriptor is, until the returned function is called."""
        ...

    def launch(self, name: str, work: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Run a coroutine in the background; the returned function cancels it, soon. A failure is logged as `name`."""
        ...


Facts = dict[str, str]
"""What lha_stat shows of an active step. Keys: `device`; `type` (of a file system); `size` and `available` (bytes);
`used` (percent); `pid`;
`seconds` (how long a process has been running); `note` (what an operator should know)."""


class Driver(Protocol):
    """One kind of step. All four are idempotent, and safe to call for an instance that this node never had."""

    async def up(self, step: Step, instance: Instance) -> None:
        """Bring it up; returns when the probe says ACTIVE. Raises StepFailed."""
        ...

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        """Take it down; returns when the probe says INACTIVE. Raises StepFailed, in which case it may still be there.

        `force`: the guard's way, with no regard for unwritten data of programs.
        """
        ...

    async def probe(self, step: Step, instance: Instance) -> Probe:
        """What is there now, on this node. Never raises: what cannot be told is UNKNOWN."""
        ...

    async def detail(self, step: Step, instance: Instance) -> Facts:
        """Cheap enough to be asked every second. Empty facts if it is not active. Never raises."""
        ...


async def eventually(loop: Loop, seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for a condition that gives no event; it is asked after 1 ms, 2 ms, … 50 ms. False after `seconds`."""
    deadline = loop.now() + seconds
    pause = 0.001
    while not condition():
        rest = deadline - loop.now()
        if rest <= 0:
            return False
        await loop.sleep(min(pause, rest))
        pause = min(2 * pause, 0.05)
    return True


def spec_of(step: Step, kind: type[SpecT]) -> SpecT:
    """The step's spec, which a driver knows to be of its kind. Raises TypeError if a step went to the wrong driver."""
    if not isinstance(step.spec, kind):
        raise TypeError(f"{step.name}: {type(step.spec).__name__} is not a {kind.__name__}")
    return step.spec


def last_lines(output: bytes, count: int = 3) -> str:
    """The last lines of a tool's output that say anything, joined by '; ', for an error message."""
    lines = [line.strip() for line in output[-4096:].decode("utf-8", "replace").splitlines() if line.strip()]
    printable = ("".join(c if c.isprintable() else " " for c in line)[:200] for line in lines[-count:])
    return "; ".join(printable)
