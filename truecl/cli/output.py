"""How operator commands speak: the announcement's lines, plain sentences, or JSON.

    Date: 2007/07/24
    143443 [ 4279] LOG Validated node 'slack10s1' is suitable for hosting
    143443 [ 4279] LOG application 'test1'.

Texts are folded at 60 columns. Without --verbose only problems and results are said, without
the prefix: problems on standard error. With --json one object says all at the end.
"""

import time
from collections.abc import Callable
from textwrap import wrap
from typing import Any, TextIO

import msgspec

from truecl.commands.node import FAILED, NO_DAEMON, USAGE, Outcome, Steps
from truecl.model.report import Progress, Severity

WIDTH = 60


def printable(text: str) -> str:
    """One line, and nothing that moves a terminal's cursor: texts come from other nodes and from programs."""
    return "".join(each if each.isprintable() else " " for each in text)


def prefixed(moment: time.struct_time, pid: int, severity: str, text: str) -> list[str]:
    """The lines of one message in the announcement's look."""
    prefix = f"{time.strftime('%H%M%S', moment)} [{pid:5d}] {severity}"
    folded = wrap(printable(text), WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{prefix} {line}".rstrip() for line in folded]


class Output:
    """Of one run of `command`. `wall` gives the local time."""

    def __init__(
        self,
        command: str,
        out: TextIO,
        err: TextIO,
        *,
        verbose: bool,
        json: bool,
        pid: int,
        wall: Callable[[], time.struct_time] = time.localtime,
    ) -> None:
        self._command = command
        self._out = out
        self._err = err
        self._verbose = verbose
        self._json = json
        self._pid = pid
        self._wall = wall
        self._day = ""
        self._lines: list[dict[str, str]] = []

    def drive(self, steps: Steps) -> int:
        """Shows each step as it happens and how it ended. The exit code."""
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                outcome: Outcome = end.value
                return self.end(outcome)
            self.step(progress)

    def step(self, progress: Progress) -> None:
        self._say(progress.severity, progress.text, progress.verbose)

    def end(self, outcome: Outcome) -> int:
        if outcome.text:
            problem = outcome.code in (FAILED, USAGE, NO_DAEMON)
            self._say(
                Severity.ERROR if problem else Severity.WARN if outcome.code else Severity.LOG, outcome.text, False
            )
        if self._json:
            result = self._lines[-1]["text"] if self._lines else ""
            self.json({"command": self._command, "code": outcome.code, "result": result, "lines": self._lines})
        return outcome.code

    def json(self, value: Any) -> None:
        """One object on one line, flushed: a reader may wait for it."""
        self._out.write(msgspec.json.encode(value).decode() + "\n")
        self._out.flush()

    def text(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def _say(self, severity: Severity, text: str, verbose: bool) -> None:
        moment = self._wall()
        if self._json:
            at = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
            self._lines.append({"at": at, "severity": severity.value, "text": text})
        elif self._verbose:
            day = time.strftime("Date: %Y/%m/%d", moment)
            lines = prefixed(moment, self._pid, severity.value, text)
            self.text("\n".join(lines if day == self._day else [day, *lines]))
            self._day = day
        elif severity is not Severity.LOG:
            self._err.write(f"{self._command}: {severity.value} {printable(text)}\n")
            self._err.flush()
        elif not verbose:
            self.text(printable(text))
