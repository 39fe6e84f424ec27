"""One operator's wish for a node on the master (lha_node standby, resume, failed --clear).

standby    WRITE -> EMPTY -> DONE      (EMPTY: until what ran there runs elsewhere)
resume     WRITE -> DONE
clear      WRITE -> DONE
"""

from dataclasses import dataclass, field
from enum import StrEnum

from truecl.core import levels
from truecl.core.ledger import granted_to
from truecl.model.config import Configuration
from truecl.model.ids import AppName, NodeName
from truecl.model.ledger import AnyCommand, ClearFailures, Ledger, RecordLosses, SetStandby, Standby
from truecl.model.report import Progress, Severity
from truecl.wire.messages import Request

VERBS = ("standby", "resume", "clear")


class NodeStage(StrEnum):
    WRITE = "write"
    EMPTY = "empty"
    DONE = "done"


def problem(request: Request, configuration: Configuration, ledger: Ledger) -> str:
    """Why a request cannot even be tried; '' if it can."""
    nodes = [each.name for each in configuration.cluster.nodes]
    apps = sorted({*ledger.apps, *(each.name for each in configuration.apps)})
    if request.verb == "clear" and request.app not in (*nodes, *apps):
        return f"there is no application and no node '{request.app}'; configured: {', '.join([*apps, *nodes])}"
    if request.verb != "clear" and request.node not in nodes:
        return f"unknown node '{request.node}'; configured: {', '.join(nodes)}"
    if not levels.knows(ledger, SetStandby):
        return (
            "not every node of the cluster has said that its release knows this; "
            "lha_node list shows which (docs/upgrade.md)"
        )
    return ""


@dataclass
class NodeOperation:
    """`origin`: the node whose clusterd asked. `code` and `text` are set when the outcome is known."""

    request: Request
    origin: NodeName
    asked_at: float
    stage: NodeStage = NodeStage.WRITE
    code: int | None = None
    text: str = ""
    progress: list[Progress] = field(default_factory=list)
    """To be told to who asked."""
    leaving: tuple[AppName, ...] = ()
    """What is still to move away: its steps are told to who asked."""
    _written: bool = False

    def end(self, code: int, text: str) -> None:
        self.code, self.text, self.stage = code, text, NodeStage.DONE

    def step(self, ledger: Ledger, heard: tuple[NodeName, ...], stays: tuple[AppName, ...]) -> list[AnyCommand]:
        """The commands that bring it on, all for one entry. `stays`: applications that no other node will do for."""
        if self.stage is NodeStage.WRITE:
            commands = self._commands(ledger)
            if commands:
                self._written = True
                return commands
            self._is_written(ledger, heard)
        if self.stage is NodeStage.EMPTY:
            self._wait(ledger, stays)
        return []

    def _commands(self, ledger: Ledger) -> list[AnyCommand]:
        """What the log does not say yet."""
        request, node = self.request, self.request.node
        if request.verb == "standby" and node is not None:
            known = ledger.standby.get(node)
            is_so = known is not None and known.keep == request.keep
            return [] if is_so else [SetStandby(node, Standby(request.operator, request.keep))]
        if request.verb == "resume" and node is not None:
            return ([SetStandby(node, None)] if node in ledger.standby else []) + _forget(ledger, node)
        name = NodeName(request.app)
        commands = [] if self._written else _forget(ledger, name)
        if any(each.node == name for state in ledger.apps.values() for each in state.failures):
            commands.append(ClearFailures(None, name))
        state = ledger.apps.get(request.app)
        return commands + ([ClearFailures(request.app, None)] if state is not None and state.failures else [])

    def _is_written(self, ledger: Ledger, heard: tuple[NodeName, ...]) -> None:
        request, node = self.request, self.request.node
        if request.verb == "clear":
            done, none = f"Failures of '{request.app}' Cleared successfully [RC=0].", f"nothing failed: '{request.app}'"
            self.end(0, done if self._written else none)
        elif request.verb == "resume":
            none = f"Node '{node}' is in use already."
            self.end(0, f"Node '{node}' Resumed successfully [RC=0]." if self._written else none)
        elif request.keep or node not in heard:
            self.end(0, f"Node '{node}' Set to Standby successfully [RC=0].")
        else:
            self.stage = NodeStage.EMPTY
            self.leaving = _granted(ledger, node)
            away = f"; moving away: {', '.join(self.leaving)}" if self.leaving else ""
            self.progress.append(Progress(f"{node} is on standby, the log has it{away}"))

    def _wait(self, ledger: Ledger, stays: tuple[AppName, ...]) -> None:
        node = self.request.node
        assert node is not None, "problem() has seen to it"
        self.leaving = _granted(ledger, node)
        if node not in ledger.standby:
            self.end(1, f"somebody let node '{node}' be used again")
        elif not self.leaving:
            self.end(0, f"Node '{node}' Set to Standby successfully [RC=0].")
        elif set(self.leaving) <= set(stays):
            text = f"node '{node}' is on standby, and no other node will do for {', '.join(self.leaving)}, which stays"
            self.progress.append(Progress(f"{text}; lha_stat shows why", Severity.WARN, verbose=False))
            self.end(4, "")


def _granted(ledger: Ledger, node: NodeName) -> tuple[AppName, ...]:
    return tuple(app for app, _ in granted_to(ledger, node))


def _forget(ledger: Ledger, node: NodeName) -> list[AnyCommand]:
    losses = ledger.losses.get(node)
    return [RecordLosses(node, losses, None)] if losses is not None else []
