"""Daemons that a test speaks for, and states of a cluster to render.

The test speaks in messages, the command in JSON: each comes to the other by way of the codec that the daemons use.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from truecl.core.standing import standing
from truecl.model.ids import AppName, BootId, DaemonName, Generation, Index, NodeName, Term
from truecl.model.ledger import AppState, Build, Failure, Grant, Ledger, Wanted
from truecl.model.report import WatchdogReport
from truecl.model.standing import StepStatus, VolumeRow
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import InstanceStatus, NodeStatus, Standing, Status
from truecl.wire.plain import PLAIN

TESTDATA = Path(__file__).parent / "testdata"
MISSING, SILENT = object(), object()
"""As a reply: the daemon goes away; it does not answer in time."""


class Talk:
    def __init__(self, replies: Iterable[Any], sent: list[Any]) -> None:
        self._replies = iter(replies)
        self._sent = sent
        self._asked = ""

    def send(self, message: Any) -> None:
        self._asked = message[0]
        self._sent.append(PLAIN.decode(json.dumps(message).encode()))

    def receive(self, timeout: float | None) -> Any:
        reply = next(self._replies, SILENT)
        if reply is SILENT:
            raise NoAnswer("did not answer")
        if reply is MISSING:
            raise NoDaemon("clusterd closed the connection")
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, Status) and self._asked == "AskStanding":
            reply = Standing(standing(reply))
        return json.loads(PLAIN.pack(reply))

    def close(self) -> None:
        pass


class Told:
    """`dial` of a node: each conversation with a daemon gets the next list of replies. A daemon without one is down."""

    def __init__(self, **conversations: list[list[Any]]) -> None:
        self.sent: list[Any] = []
        self._conversations = {DaemonName(name): list(each) for name, each in conversations.items()}

    def __call__(self, daemon: DaemonName) -> Talk:
        waiting = self._conversations.get(daemon)
        if not waiting:
            raise NoDaemon(f"{daemon} is not running on this node (nobody answers at /run/truecl/{daemon}.sock)")
        return Talk(waiting.pop(0), self.sent)


def node_report(name: str, *instances: InstanceStatus, **daemons: str) -> NodeStatus:
    up = dict.fromkeys(("reqd", "hbd", "lockd", "netd", "syncd", "statd", "clusterd"), "up") | daemons
    words = {DaemonName(each): state for each, state in up.items()}
    watchdog = WatchdogReport(True, 10.0, True, text="iTCO_wdt, 10 s") if name == "slack10s1" else None
    return NodeStatus(NodeName(name), BootId("b"), words, instances, 0.8, watchdog)


def instance(app: str, generation: int, phase: str = "running", steps: tuple[StepStatus, ...] = ()) -> InstanceStatus:
    return InstanceStatus(AppName(app), Generation(generation), phase, steps)


def granted(node: str, generation: int, failovers: int = 0) -> AppState:
    return AppState(wanted=Wanted.RUNNING, grant=Grant(NodeName(node), Generation(generation)), failovers=failovers)


def failed(*where: tuple[str, str]) -> AppState:
    failures = tuple(Failure(NodeName(node), Generation(3), reason) for node, reason in where)
    return AppState(wanted=Wanted.RUNNING, failures=failures)


BUILDS = {AppName("test1"): Build("d", (NodeName("slack10s1"), NodeName("slack10s2")))}


def status(**changed: Any) -> Status:
    """The announcement's cluster: four nodes, test1 on the first."""
    names = [NodeName(f"slack10s{number}") for number in range(1, 5)]
    fields: dict[str, Any] = {
        "cluster": "slackcl",
        "master": names[0],
        "term": Term(3),
        "answered_by": names[0],
        "here": names[0],
        "nodes": dict.fromkeys(names, "UP"),
        "ledger": Ledger(apps={AppName("test1"): granted(names[0], 5)}, builds=BUILDS, index=Index(9), term=Term(3)),
        "volumes": {AppName("test1"): (VolumeRow("data", "file", "/images/test1.img", "/test1", "ext3"),)},
        "invalid": {AppName("test1"): ""},
        "reports": {name: node_report(name, *([instance("test1", 5)] if name == names[0] else [])) for name in names},
        "notes": {},
        "apps": {AppName("test1"): (names[0], names[1])},
    }
    return Status(**(fields | changed))


def golden(name: str, text: str, request: pytest.FixtureRequest) -> None:
    """`text` is what testdata has under this name; with --rewrite it is put there."""
    path = TESTDATA / name
    if request.config.getoption("--rewrite"):
        path.write_text(text)
    assert text == path.read_text()
