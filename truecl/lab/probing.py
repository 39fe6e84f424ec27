"""A probe (`truecl.lab.probe`) that runs in the background, and what it found."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from truecl.lab.errors import LabError


@dataclass(frozen=True)
class Outage:
    """A time without an answer, in seconds from the probe's start."""

    at: float
    length: float


@dataclass(frozen=True)
class ProbeResult:
    """Seconds everywhere."""

    seconds: float
    tries: int
    answers: int
    longest: float
    """Longest time between two answers; the whole time if there was none."""
    outages: tuple[Outage, ...]
    """Those longer than `gap`."""
    nodes: dict[str, int]
    """Answers by the node that gave them; '?' where it did not say."""
    changes: tuple[tuple[float, str], ...]
    """When another node began to answer."""
    answered: tuple[int, ...] = ()
    """Which tries were, where `path` has their number in it (`{try}`)."""


def asking(
    target: str,
    *,
    seconds: float = 0.0,
    every: float = 0.005,
    gap: float = 0.05,
    timeout: float = 0.5,
    path: str = "/",
    send: str | None = None,
    expect: str = "",
) -> list[str]:
    """Command line of a client that asks `target` (ADDRESS:PORT, [IPv6]:PORT) for `seconds`; 0: until it is told to
    stop. Raises LabError."""
    address, port = place(target)
    times = {"seconds": seconds, "every": every, "gap": gap, "timeout": timeout}
    argv = [sys.executable, "-m", "truecl.lab.probe", address, port, f"--path={path}"]
    argv += [f"--{name}={value!r}" for name, value in times.items()]
    argv += [f"--expect={expect}"] if expect else []
    return argv + ([f"--send={send}"] if send is not None else [])


def writing(target: str, prefix: str) -> list[str]:
    """Command line of a client that commits rows to a database at `target`; `prefix` begins their names. Raises
    LabError."""
    return [sys.executable, "-m", "truecl.lab.replicated.writer", *place(target), prefix]


def place(target: str) -> tuple[str, str]:
    """Address and port. Raises LabError."""
    address, _, port = target.rpartition(":")
    if not address or not port.isdigit():
        raise LabError(f"'{target}' is not ADDRESS:PORT")
    return address.strip("[]"), port


class Probing:
    """Runs a client (`argv`) from the start of the `with` block to its end.

    with lab.probe("10.77.1.100:80") as probe:
        probe.wait_answer()
        lab.kill("n1")
        probe.wait_answer(node="n2")
    assert probe.result.longest < 1.0
    """

    def __init__(
        self, start: "Callable[[list[str], dict[str, Any]], subprocess.Popen[str]]", argv: Sequence[str]
    ) -> None:
        self._argv = list(argv)
        self._start = start
        self._changed = threading.Condition()
        self._nodes: list[str] = []
        self._result: ProbeResult | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Probing":
        pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "start_new_session": True}
        self._process = self._start(self._argv, pipe)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._changed:
                if "answer" in said:
                    self._nodes.append(said["answer"]["node"])
                else:
                    self._result = read_result(said["result"])
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_answer(self, timeout: float = 10.0, node: str = "") -> str:
        """Wait until the application answers (`node`: from there); returns the node that answered last."""
        with self._changed:
            reached = self._changed.wait_for(lambda: bool(self._nodes) and node in ("", self._nodes[-1]), timeout)
            if not reached:
                raise LabError(f"no answer{f' from {node}' if node else ''} in {timeout:g} s")
            return self._nodes[-1]

    def stop(self) -> None:
        """End the probe; its result is there afterwards. Harmless when it has ended."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        self._finish(process)

    def wait(self) -> ProbeResult:
        """Wait for the end of `seconds`."""
        assert self._process is not None
        self._finish(self._process)
        return self.result

    def _finish(self, process: "subprocess.Popen[str]") -> None:
        process.wait()
        self._reader.join()
        if process.stdout is not None:
            process.stdout.close()

    @property
    def result(self) -> ProbeResult:
        """Raises LabError while it runs, or when it died without one."""
        if self._result is None:
            raise LabError("the probe has no result")
        return self._result


def read_result(said: dict[str, Any]) -> ProbeResult:
    return ProbeResult(
        seconds=said["seconds"],
        tries=said["tries"],
        answers=said["answers"],
        longest=said["longest"],
        outages=tuple(Outage(outage["at"], outage["length"]) for outage in said["outages"]),
        nodes=said["nodes"],
        changes=tuple((change["at"], change["node"]) for change in said["changes"]),
        answered=tuple(said["answered"]),
    )
