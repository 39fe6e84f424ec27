"""Who may write, seen from outside truecl: what DRBD's kernels say of themselves, on both nodes, all the time."""

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError

SAMPLER = Path(__file__).with_name("sampler.py")
GAP = 0.5
"""Seconds between two looks after which the node counts as having stood still: nothing was written meanwhile."""
AGAIN = 0.2
"""Seconds until a node that answers no sampler is tried again."""


@dataclass
class Span:
    """A node's replica in one state. `since`, `until`: wall clock, the first and the last look at it."""

    node: str
    since: float
    until: float
    connection: str
    role: str
    disk: str
    io: str

    @property
    def writes(self) -> bool:
        """Something that it acknowledges could be written now."""
        return self.role == "Primary" and self.io == "running"

    @property
    def frozen(self) -> bool:
        return self.role == "Primary" and self.io == "suspended"


class ReplicaWatch:
    """Runs from the start of its `with` block to the end: a sampler in each node, begun again after every boot."""

    def __init__(self, lab: Lab, minor: int) -> None:
        self._lab, self._minor = lab, str(minor)
        self._over = threading.Event()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self.spans: dict[str, list[Span]] = {node.name: [] for node in lab.description.nodes}
        """Of each node, the oldest first."""

    def __enter__(self) -> "ReplicaWatch":
        for node in self.spans:
            self._threads.append(threading.Thread(target=self._follow, args=(node,), daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for process in list(self._processes.values()):
            process.kill()
        for thread in self._threads:
            thread.join()

    def _follow(self, node: str) -> None:
        while not self._over.is_set():
            with suppress(LabError):  # it is off, or paused
                self._listen(node)
            self._over.wait(AGAIN)

    def _listen(self, node: str) -> None:
        argv = ["/usr/bin/python3", "-I", "-S", str(SAMPLER)]
        pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with self._lab.popen(node, argv, **pipe) as process:
            self._processes[node] = process
            if self._over.is_set():
                process.kill()
            assert process.stdout is not None
            known = False
            for line in process.stdout:
                with suppress(ValueError):  # cut off by the end of the node
                    at, minors = json.loads(line)
                    known = self._note(node, at, minors.get(self._minor), known)

    def _note(self, node: str, at: float, state: Sequence[str] | None, known: bool) -> bool:
        """One look; whether there is a replica. `known`: the look before it, by the same sampler, saw one."""
        if state is None:
            return False
        spans = self.spans[node]
        last = spans[-1] if known and at - spans[-1].until < GAP else None
        if last is not None:
            last.until = at
        if last is None or (last.connection, last.role, last.disk, last.io) != tuple(state):
            spans.append(Span(node, at, at, *state))
        return True

    # ---- what came of it --------------------------------------------------------------------------------------------

    def state(self, node: str) -> Span | None:
        """The latest."""
        return self.spans[node][-1] if self.spans[node] else None

    def both_write(self, least: float = 0.0) -> list[tuple[Span, Span]]:
        """Spans of two nodes in which both were Primary and not suspended, for more than `least` seconds."""
        first, *others = self.spans
        return [
            (mine, other)
            for node in others
            for other in self.spans[node]
            if other.writes
            for mine in self.spans[first]
            if mine.writes and min(mine.until, other.until) - max(mine.since, other.since) > least
        ]

    def frozen(self, since: float = 0.0) -> float:
        """The longest time for which a Primary's I/O stood still, in seconds."""
        spells = [
            span.until - span.since for spans in self.spans.values() for span in _spells(spans) if span.since >= since
        ]
        return max(spells, default=0.0)

    def wait(self, node: str, what: str, seconds: float = 60.0, **wanted: str) -> Span:
        """Until the node's replica is so: disk="UpToDate". Raises LabError."""
        deadline = time.monotonic() + seconds
        while (span := self.state(node)) is None or any(getattr(span, key) != value for key, value in wanted.items()):
            if time.monotonic() > deadline:
                raise LabError(f"not in {seconds:g} s: {what}; the replica on {node} is {span}")
            time.sleep(0.05)
        return span


def _spells(spans: Sequence[Span]) -> list[Span]:
    """Frozen spans, those put together that follow each other."""
    found: list[Span] = []
    frozen = False
    for span in spans:
        if span.frozen and frozen:
            found[-1].until = span.until
        elif span.frozen:
            found.append(Span(**vars(span)))
        frozen = span.frozen
    return found
