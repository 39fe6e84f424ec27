"""reqd's drivers on a node with a kernel of its own, each step by hand."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from truecl.lab.cluster import Lab
from truecl.model.config import Backing, FileSystem
from truecl.model.step import Step, StepKind

GUEST = Path(__file__).with_name("guest_drivers.py")


class Said(NamedTuple):
    probe: str
    reason: str
    facts: dict[str, str]
    seconds: float


def volume(spec: Backing) -> Step:
    return Step("volume data", StepKind.STORAGE, spec)


def mounted(over: Backing, mount: str, **options: Any) -> Step:
    spec = FileSystem(**({"type": "ext4", "mount": mount} | options))
    return Step(f"file system {mount}", StepKind.FILESYSTEM, spec, over)


class Driven:
    """A process on the node, until `close`."""

    def __init__(self, lab: Lab, node: str) -> None:
        pipe = subprocess.PIPE
        self._process = lab.popen(node, [sys.executable, str(GUEST)], stdin=pipe, stdout=pipe, start_new_session=True)
        self._answer()

    def up(self, step: Step) -> Said:
        return self._ask("up", step)

    def down(self, step: Step, force: bool = False) -> Said:
        return self._ask("down", step, force)

    def probe(self, step: Step) -> Said:
        return self._ask("probe", step)

    def close(self) -> None:
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, verb: str, step: Step, force: bool = False) -> Said:
        asked = {"verb": verb, "step": msgspec.to_builtins(step), "force": force}
        self._process.stdin.write(json.dumps(asked) + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return Said(**self._answer())

    def _answer(self) -> Any:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        assert line, "the process on the node has ended"
        return json.loads(line)
