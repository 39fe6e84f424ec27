"""`truecl.drivers.contract.Runner`: programs and system calls in children of this process, bounded in time and output.

A run is watched through its pidfd, never through SIGCHLD: the same way works for programs that an earlier life of this
daemon started. Its output pipes are closed at its death, not at their end-of-file, because a daemon that a `start`
command leaves behind may hold them for ever.
"""

import os
import signal
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from truecl.drivers import spawn
from truecl.drivers.contract import OUTPUT_LIMIT, Loop, Result, StepFailed

_HALF = OUTPUT_LIMIT // 2
OWNER: ContextVar[Hashable] = ContextVar("OWNER", default=None)
"""On whose behalf the running coroutine works, and everything that it awaits. (Twisted gives every coroutine that
becomes a Deferred a context of its own.)"""
STUCK = 1.0
"""Seconds after KILL until a process counts as stuck in the kernel."""


@dataclass(frozen=True)
class Stuck:
    """A process that does not end."""

    argv: tuple[str, ...]
    owner: Hashable


class ProcessRunner:
    """`log` hears of every run and call when it has ended; `grace` is the time between TERM and KILL, in seconds."""

    def __init__(self, loop: Loop, log: Callable[[Result], None], grace: float = 2.0) -> None:
        self._loop = loop
        self._log = log
        self._grace = grace
        self.stuck: dict[int, Stuck] = {}
        """Processes that not even KILL has ended yet, by pid; reaped when they do end."""

    def stuck_for(self, owner: Hashable) -> str:
        """What is still at work on its behalf, although it was killed; '' when nothing is."""
        names = [f"{each.argv[0]} ({pid})" for pid, each in self.stuck.items() if each.owner == owner]
        return f"{', '.join(names)} does not end, not even killed; it waits for a device" if names else ""

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
        started = self._loop.now()
        captures = () if output is not None else (_Capture(self._loop), _Capture(self._loop))
        streams = (output, output) if output is not None else tuple(capture.write_end for capture in captures)
        source = _input(stdin)
        try:
            child = spawn.spawn(
                argv,
                stdin=source,
                stdout=streams[0],
                stderr=streams[1],
                environment=environment,
                cwd=cwd,
                user=user,
                cgroup=cgroup,
            )
        except StepFailed:
            for capture in captures:
                capture.finish()
            raise
        finally:
            os.close(source)
        # What is in a group of its own is that group's: `populated` says whether it is still there.
        owner = OWNER.get() if cgroup is None else None
        result, trouble = await self._finish(argv, child, captures, started, timeout, owner)
        if trouble:
            raise StepFailed(trouble)
        return result

    async def call(self, name: str, function: Callable[[], bytes], *, timeout: float) -> bytes:
        started = self._loop.now()
        captures = (_Capture(self._loop), _Capture(self._loop, connected=False))
        child = spawn.fork_call(function, captures[0].write_end)
        result, _ = await self._finish((f"[{name}]",), child, captures, started, timeout, OWNER.get())
        if result.timed_out:
            raise TimeoutError(f"{name}: {result.ending()}")
        return spawn.answer(result.stdout)

    async def _finish(
        self,
        argv: tuple[str, ...],
        child: spawn.Child,
        captures: "tuple[_Capture, ...]",
        started: float,
        timeout: float,
        owner: Hashable,
    ) -> tuple[Result, str]:
        """Wait for the end, and then: buffers read, descriptors closed, child reaped, run logged."""
        for capture in captures:
            capture.start()
        done = timed_out = False
        trouble = ""
        ending: spawn.Ending | None = None
        try:
            done = await self._loop.readable(child.pidfd, timeout)
            if not done:
                timed_out = True
                done = await self._stop(child)
        finally:
            if not done and not timed_out:  # cancelled: nobody waits any more, so there is no time for TERM
                _signal_group(child, signal.SIGKILL)
            stdout, stderr = [capture.finish() for capture in captures] or (b"", b"")
            if done:
                ending = spawn.reap(child.pidfd)
                trouble = child.reason()
                child.close()
            else:
                self._reap_later(Stuck(argv, owner), child)
        result = Result(
            argv=argv,
            code=ending.code if ending else None,
            signal=ending.signal if ending else None,
            stdout=stdout,
            stderr=stderr,
            seconds=self._loop.now() - started,
            timed_out=timed_out,
        )
        self._log(result)
        return result, trouble

    async def _stop(self, child: spawn.Child) -> bool:
        """TERM, then KILL, for the whole process group. Whether its leader has ended."""
        _signal_group(child, signal.SIGTERM)
        ended = await self._loop.readable(child.pidfd, self._grace)
        _signal_group(child, signal.SIGKILL)
        return ended or await self._loop.readable(child.pidfd, STUCK)

    def _reap_later(self, stuck: Stuck, child: spawn.Child) -> None:
        self.stuck[child.pid] = stuck

        def ended() -> None:
            cancel()
            spawn.reap(child.pidfd)
            child.close()
            self.stuck.pop(child.pid, None)

        cancel = self._loop.watch(child.pidfd, ended)


class _Capture:
    """The read end of a pipe: the first and the last half of OUTPUT_LIMIT of what comes through are kept."""

    def __init__(self, loop: Loop, connected: bool = True) -> None:
        self._loop = loop
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self._cancel: Callable[[], None] | None = None
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC) if connected else (-1, -1)
        if connected:
            os.set_blocking(self._read_end, False)

    def start(self) -> None:
        """The child has the write end now."""
        if self._read_end >= 0:
            os.close(self.write_end)
            self.write_end = -1
            self._cancel = self._loop.watch(self._read_end, self._drain)

    def finish(self) -> bytes:
        """What was kept, with what is still in the pipe."""
        if self._read_end >= 0:
            self._drain()
        self._unwatch()
        for descriptor in (self._read_end, self.write_end):
            if descriptor >= 0:
                os.close(descriptor)
        self._read_end = self.write_end = -1
        middle = f"\n[{self._dropped} bytes left out]\n".encode() if self._dropped else b""
        return bytes(self._head) + middle + bytes(self._tail)

    def _drain(self) -> None:
        """At most 1 MiB at a time, so that a babbling child cannot keep this process from its other work."""
        with suppress(BlockingIOError):
            for _ in range(16):
                chunk = os.read(self._read_end, 65536)
                if not chunk:
                    self._unwatch()
                    return
                self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        room = _HALF - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        excess = len(self._tail) - _HALF
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess

    def _unwatch(self) -> None:
        if self._cancel is not None:
            self._cancel()
            self._cancel = None


def _input(data: bytes) -> int:
    """A descriptor to read `data` from: a file in memory, so that no child can make us wait by not reading."""
    if not data:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _signal_group(child: spawn.Child, number: signal.Signals) -> None:
    """To the group that the child leads; to the child itself as well, which may not have come to lead one yet.

    Safe while the child is not reaped: until then nobody else can have its number.
    """
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(child.pidfd, number)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
