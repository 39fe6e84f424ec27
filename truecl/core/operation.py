"""One operator's wish on the master: take the lock, write the wish into the ledger, wait until it is so, free the lock.

    LOCK -> WISH -> WAIT -> FREE -> done       (a wish that is fulfilled already goes from LOCK to FREE)

The lock (a ledger entry whose index is its fencing token) makes two operators take turns on one application; the second
is told who holds it.
"""

from dataclasses import dataclass
from enum import StrEnum

from truecl.core.ledger import app_state
from truecl.model.config import AppConfig
from truecl.model.ids import NodeName
from truecl.model.ledger import AnyCommand, AppState, FreeLock, Ledger, SetWanted, TakeLock, Wanted
from truecl.model.report import InstanceReport, Phase
from truecl.wire.messages import Request


class Stage(StrEnum):
    LOCK = "lock"
    WISH = "wish"
    WAIT = "wait"
    FREE = "free"
    DONE = "done"


@dataclass
class Operation:
    """`origin`: the node whose clusterd asked. `code` and `text` are set when the outcome is known."""

    request: Request
    origin: NodeName
    stage: Stage = Stage.LOCK
    code: int | None = None
    text: str = ""
    told_lock: bool = False
    told: bool = False
    """The outcome was sent to the asker."""
    asked_at: float = 0.0
    """When the asker's clusterd last passed the request on, which it does again and again while somebody waits."""

    @property
    def lock(self) -> str:
        return f"application {self.request.app}"

    def end(self, code: int, text: str) -> None:
        self.code, self.text, self.stage = code, text, Stage.FREE

    def step(
        self,
        ledger: Ledger,
        config: AppConfig | None,
        failed: bool,
        report: InstanceReport | None,
        going_down: bool = False,
    ) -> AnyCommand | None:
        """The command that brings it on; None: nothing to write now. `report`: the owner's line on the live grant.
        `going_down`: replicas of it are still being taken down."""
        state = app_state(ledger, self.request.app)
        lock = ledger.locks.get(self.lock)
        mine = lock is not None and lock.holder == self.request.id
        if self.stage is Stage.LOCK:
            if lock is None:
                return TakeLock(self.lock, self.request.id)
            if not mine:
                return None
            self.stage = Stage.WISH
            self._already(state, config, report)
        if self.stage is Stage.WISH:
            target = self._target(config)
            if not self._written(state, target):
                return self._wish(target)
            self.stage = Stage.WAIT
        if self.stage is Stage.WAIT:
            self._judge(state, failed, report, going_down)
        if self.stage is Stage.FREE:
            if mine and lock is not None:
                return FreeLock(self.lock, lock.token)
            self.stage = Stage.DONE
        return None

    def _target(self, config: AppConfig | None) -> NodeName | None:
        """Where to: as asked; a start without a node, where the operator sits, if the application may run there."""
        node = self.request.node
        if node is None and self.request.verb == "start" and config is not None and self.origin in config.nodes:
            return self.origin
        return node

    def _wish(self, node: NodeName | None) -> SetWanted:
        app, verb = self.request.app, self.request.verb
        if verb == "stop":
            return SetWanted(app, Wanted.STOPPED)
        return SetWanted(app, Wanted.RUNNING, node, move=verb == "move")

    def _written(self, state: AppState, node: NodeName | None) -> bool:
        if self.request.verb == "stop":
            return state.wanted is Wanted.STOPPED
        if state.wanted is not Wanted.RUNNING or (self.request.node is not None and state.preferred != node):
            return False
        if state.grant is None and state.failures:
            return False  # what failed on every node is tried again on all
        # A move is written when it is under way or fulfilled; a grant on another node without `move` is neither.
        return self.request.verb == "start" or state.move or state.grant is None or state.grant.node == node

    def _already(self, state: AppState, config: AppConfig | None, report: InstanceReport | None) -> None:
        """Harmless repetitions say so."""
        app, verb, node = self.request.app, self.request.verb, self.request.node
        running = state.grant is not None and report is not None and report.phase is Phase.RUNNING
        where = state.grant.node if state.grant is not None else ""
        if verb == "stop" and state.grant is None and state.wanted is Wanted.STOPPED:
            self.end(0, f"Application '{app}' is not running: nothing to stop.")
        elif verb == "start" and running and state.wanted is Wanted.RUNNING and not state.move:
            if node is None or node == where:
                self.end(0, f"Application '{app}' is running on '{where}' already.")
            else:
                self.end(1, f"application '{app}' runs on '{where}'; to move it: lha_moveapp -A {app} -N {node}")
        elif verb == "move" and running and where == node:
            self.end(0, f"Application '{app}' is running on '{where}' already.")
        elif verb == "move" and state.grant is None:
            self.end(1, f"application '{app}' is not running; lha_startapp -A {app} -N {node} starts it there")
        elif verb in ("start", "move") and config is None:
            self.end(1, f"application '{app}' is not in the configuration")

    def _judge(self, state: AppState, failed: bool, report: InstanceReport | None, going_down: bool) -> None:
        app, verb = self.request.app, self.request.verb
        if verb == "stop":
            if state.wanted is Wanted.RUNNING:
                self.end(1, f"somebody started '{app}' again")
            elif state.grant is None and going_down:
                pass
            elif state.grant is None:
                self.end(0, "Application Stopped successfully [RC=0].")
            elif report is not None and report.phase is Phase.NEEDS_FENCE:
                self.end(1, f"application '{app}' cannot be stopped on '{state.grant.node}': {report.reason}")
            return
        if state.wanted is Wanted.STOPPED:
            self.end(1, f"somebody stopped '{app}' again")
        elif failed and state.grant is None:  # with a grant still to be ended, its failure is not yet in the ledger
            reasons = "; ".join(f"{each.node}: {each.reason}" for each in state.failures) or "lha_stat shows why"
            self.end(1, f"application '{app}' could not be started on any of its nodes: {reasons}")
        elif state.grant is not None and report is not None and report.phase is Phase.RUNNING and not state.move:
            if verb == "move" and state.grant.node != self.request.node:
                self.end(
                    1, f"application '{app}' could not run on '{self.request.node}', it runs on '{state.grant.node}'"
                )
            elif verb == "move":
                self.end(0, f"Application Moved successfully to '{state.grant.node}' [RC=0].")
            else:
                self.end(0, "Application Started successfully [RC=0].")
