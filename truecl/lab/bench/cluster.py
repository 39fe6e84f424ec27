"""A lab with the sample application, an operator who types commands, and somebody who waits until it is so."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from truecl.lab import sample
from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError
from truecl.model.ids import STATD, AppName, NodeName
from truecl.model.report import EventRecord
from truecl.runtime.client import Conversation, NoAnswer, NoDaemon
from truecl.wire.messages import AskLog, AskStatus, LogLines, Status
from truecl.wire.plain import plain, typed

PATIENCE = 60.0
"""Seconds to wait for a state of the cluster; a benchmark that waits longer gives up."""
WEB = AppName(sample.APP)
_TIMED = 'began=${EPOCHREALTIME/./}; "$0" "$@"; code=$?; echo $((${EPOCHREALTIME/./} - began)) >&2; exit $code'
"""A command's microseconds as the last line of its standard error."""


class Cluster:
    """All of it raises LabError."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes = tuple(NodeName(node.name) for node in lab.description.nodes)

    # ---- commands ---------------------------------------------------------------------------------------------------

    def run(self, node: str, *argv: str) -> tuple[float, str]:
        """A command on a node: milliseconds from before its start to its end, and what it printed.

        A shell on the node holds the watch, since an operator who types there does not pay for the way into the lab.
        """
        pipe = subprocess.PIPE
        timed = ["/bin/bash", "-c", _TIMED, *argv]
        process = self.lab.popen(node, timed, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        out, err = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise LabError(f"{' '.join(argv)} on {node} ended with {process.returncode}: {err.strip() or out.strip()}")
        return int(err.splitlines()[-1]) / 1000, out

    # ---- what is ----------------------------------------------------------------------------------------------------

    def status(self, node: str) -> Status | None:
        """By the node's statd; None when nobody answers there."""
        answer = self._ask(node, AskStatus())
        return answer if isinstance(answer, Status) else None

    def events(self, node: str) -> tuple[EventRecord, ...]:
        """The node's own history, the newest last."""
        answer = self._ask(node, AskLog(local=True))
        return answer.events if isinstance(answer, LogLines) else ()

    def _ask(self, node: str, question: AskStatus | AskLog) -> object:
        try:
            run = Path(f"/proc/{self.lab.pid(node)}/root/run/truecl")
            with Conversation(STATD, "bench", run) as conversation:
                conversation.send(plain(question))
                return typed(conversation.receive(2.0))
        except (NoDaemon, NoAnswer, LabError):
            return None

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"waited {PATIENCE:.0f} s in vain for: {what}")
            time.sleep(0.05)

    def master(self) -> NodeName:
        """Whom all nodes call so."""
        status = self.complete()
        if status is None or status.master is None:
            raise LabError("the nodes do not agree on a master")
        return status.master

    def owner(self, app: AppName = WEB) -> NodeName:
        """Where the application runs."""
        status = self.complete()
        state = status.ledger.apps.get(app) if status is not None else None
        if state is None or state.grant is None:
            raise LabError(f"'{app}' does not run")
        return state.grant.node

    def complete(self) -> Status | None:
        """The master's word once every node is up and reports all daemons; None before."""
        for node in self.nodes:
            status = self.status(node)
            if status is None:
                return None
            if status.master != status.answered_by or status.state != "UP":
                continue
            up = all(word == "UP" for word in status.nodes.values())
            reports = [status.reports.get(each) for each in self.nodes]
            whole = all(report and set(report.daemons.values()) == {"up"} for report in reports)
            return status if up and whole else None
        return None

    def phase(self, app: AppName = WEB) -> str:
        status = self.complete()
        state = status.ledger.apps.get(app) if status is not None else None
        if status is None or state is None or state.grant is None:
            return ""
        report = status.reports[state.grant.node]
        for instance in report.instances:
            if instance.app == app and instance.generation == state.grant.generation:
                return instance.phase
        return ""

    # ---- states to begin a run from ---------------------------------------------------------------------------------

    def services_up(self) -> None:
        """Every node's reqd answers at its socket."""
        for node in self.nodes:
            root = Path(f"/proc/{self.lab.pid(node)}/root/run/truecl/reqd.sock")
            self.wait(f"reqd on {node}", root.exists)

    def formed(self) -> None:
        self.services_up()
        if self.complete() is None:
            self.run(self.nodes[0], "lha_form")
            self.whole()

    def whole(self) -> None:
        self.wait("all nodes and daemons up", lambda: self.complete() is not None)

    def running(self, node: NodeName | None = None) -> NodeName:
        """The application runs (on `node`); where."""
        self.formed()
        if not self.phase():
            where = ("-N", node) if node is not None else ()
            self.built()
            self.run(self.nodes[0], "lha_startapp", "-A", WEB, *where)
        self.wait("the application running", lambda: self.phase() == "running")
        owner = self.owner()
        if node is not None and owner != node:
            self.run(self.nodes[0], "lha_moveapp", "-A", WEB, "-N", node)
            self.wait(f"the application on {node}", lambda: self.phase() == "running" and self.owner() == node)
            owner = node
        return owner

    def built(self) -> None:
        self.run(self.nodes[0], "lha_buildapp", "-A", WEB)

    def stopped(self) -> None:
        self.formed()
        if self.phase():
            self.run(self.nodes[0], "lha_stopapp", "-A", WEB)
            self.wait("the application stopped", lambda: not self.phase())

    def dissolved(self) -> None:
        self.services_up()
        if any(self.status(node) is not None for node in self.nodes):
            self.run(self.nodes[0], "lha_dissolve", "--force")
