"""What the tests of DRBD on real kernels share: a node's hands (`drbd_node.py`), driven from outside."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from truecl.lab.cluster import Lab
from truecl.model.actions import Action, ReplicaLook, ReplicaResult, StepDown, StepProbe, StepResult, StepUp
from truecl.model.build import Initialise
from truecl.model.config import DiskStorage, FileStorage, FileSystem
from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.replica import Layout, LayoutHost, LayoutVolume, ReplicaReport
from truecl.model.step import Instance, ReplicaSpec, ReplicaVolume, Step, StepKind

RUN = "/run/drbdtest"
PROGRAM = Path(__file__).with_name("drbd_node.py")
APP = AppName("db")
SPEC = Step("replica db", StepKind.STORAGE, ReplicaSpec(APP, ("data", "log")))
MOUNT = Step(
    "file system /srv/db", StepKind.FILESYSTEM, FileSystem(type="ext4", mount="/srv/db"), ReplicaVolume(APP, "data")
)
LAYOUT = Layout(
    APP,
    7790,
    (LayoutHost(NodeName("n1"), "10.77.2.1"), LayoutHost(NodeName("n2"), "10.77.2.2")),
    (
        LayoutVolume("data", 0, 10, FileStorage(image="/var/lib/data.img")),
        LayoutVolume("log", 1, 11, FileStorage(image="/var/lib/log.img")),
    ),
)
ON_DISKS = Layout(
    APP,
    LAYOUT.port,
    LAYOUT.hosts,
    (
        LayoutVolume("data", 0, 10, DiskStorage(device="/dev/mapper/data")),
        LayoutVolume("log", 1, 11, DiskStorage(device="/dev/loop6")),
    ),
)
"""The same copies, on devices."""


class Hands:
    """One node's. Results come in the order of the actions."""

    def __init__(self, lab: Lab, node: str) -> None:
        self.lab, self.node = lab, node
        tests = PROGRAM.parents[1]
        command = ["/usr/bin/env", f"PYTHONPATH={tests}:{tests.parent}", sys.executable, str(PROGRAM), RUN, node]
        self._process = lab.popen(node, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._line() == "ready"

    def ask(self, action: Action) -> None:
        self._put(type(action).__name__, msgspec.to_builtins(action))

    def _put(self, name: str, fields: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        line = json.dumps([name, fields])
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def result(self, kind: type) -> Any:
        return msgspec.json.decode(self._line(), type=kind)

    def replica(self, action: Action) -> ReplicaReport:
        """The report; fails the test when it was not done."""
        self.ask(action)
        result = self.result(ReplicaResult)
        assert result.reason == "", result
        return result.report

    def refused(self, action: Action) -> str:
        """Why it was not done."""
        self.ask(action)
        result = self.result(StepResult if isinstance(action, StepUp | StepDown) else ReplicaResult)
        assert result.reason != "", result
        return result.reason

    def step(self, action: Action) -> StepResult:
        self.ask(action)
        return self.result(StepResult)

    def initialise(self, identifier: str = "", agreed: dict[str, str] | None = None) -> str:
        """Write metadata for both volumes. '' or why not."""
        work = Initialise(LAYOUT, tuple(volume.name for volume in LAYOUT.volumes), identifier, agreed or {})
        self._put("Initialise", msgspec.to_builtins(work))
        return str(json.loads(self._line()))

    def look(self) -> ReplicaReport:
        return self.replica(ReplicaLook(APP))

    def up(self, generation: int, alone: bool = False, step: Step = SPEC, timeout: float = 30.0) -> StepResult:
        return self.step(StepUp(Instance(APP, Generation(generation), alone), step, timeout))

    def down(self, generation: int, force: bool = False, step: Step = SPEC, timeout: float = 20.0) -> StepResult:
        return self.step(StepDown(Instance(APP, Generation(generation)), step, timeout, force))

    def probe(self, generation: int, step: Step = SPEC) -> str:
        return str(self.step(StepProbe(Instance(APP, Generation(generation)), step)).probe)

    def answers(self, code: int, delay: float = 0.0) -> None:
        """What clusterd says to the fence-peer handler from here on."""
        self.shell(f"echo {code} {delay} >{RUN}/answer; : >{RUN}/asked")

    def asked(self) -> list[str]:
        return self.shell(f"cat {RUN}/asked 2>/dev/null || true").split("\n")[:-1]

    def shell(self, script: str, timeout: float = 60.0) -> str:
        return self.lab.exec(self.node, ["/bin/sh", "-ec", script], timeout).check().out

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.node}: its hands have ended"
        return line.strip()
