"""One operator's wish for a node's power on the master (lha_fence).

    off      ORDER -> OFF -> DONE
    reboot   ORDER -> OFF -> ON -> DONE
    on       ON -> DONE
    confirm  ORDER -> VOUCH -> DONE      (the operator's word stands for a device's)

While it is in ORDER or OFF the planner has the node fenced: the order names what was granted there, and stands in the
log before any device is asked. What happens to the applications follows from the confirmation, as after any fence.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from truecl.core.ledger import granted_to
from truecl.model.config import Configuration, FenceLevel, worst_time
from truecl.model.ids import Generation, Index, NodeName
from truecl.model.ledger import AnyCommand, ConfirmFence, Ledger, OrderFence
from truecl.model.report import Progress, Severity
from truecl.wire.messages import FenceResult, OrderPowerOn, PoweredOn, Request

VERBS = ("off", "on", "reboot", "confirm")
SLACK = 15.0
"""Seconds beyond the devices' own worst time: for the log, another master, agents that have to be killed."""


class FenceStage(StrEnum):
    ORDER = "order"
    OFF = "off"
    VOUCH = "vouch"
    ON = "on"
    DONE = "done"


def problem(request: Request, configuration: Configuration, ledger: Ledger, heard: tuple[NodeName, ...]) -> str:
    """Why a request cannot even be tried; '' if it can."""
    node = next((each for each in configuration.cluster.nodes if each.name == request.node), None)
    if node is None:
        names = ", ".join(each.name for each in configuration.cluster.nodes)
        return f"unknown node '{request.node}'; configured: {names}"
    if request.verb == "confirm":
        return _not_vouchable(node.name, ledger, heard, request.seen)
    if not node.fence:
        return f"node '{node.name}' has no fence device in cluster.yaml"
    fence = ledger.fences.get(node.name)
    if request.verb == "on" and fence is not None and not fence.confirmed:
        return f"node '{node.name}' is being switched off (fence order {fence.index})"
    return ""


def _not_vouchable(node: NodeName, ledger: Ledger, heard: tuple[NodeName, ...], seen: Index) -> str:
    """Nobody can vouch for what they did not see, nor against what the cluster hears."""
    if node in heard:
        return f"node '{node}' is heard, so it is not off: nothing to confirm"
    if any(generation > seen for _, generation in granted_to(ledger, node)):
        return f"node '{node}' was given more to run since you looked; look again whether it is off, and repeat"
    return ""


@dataclass
class FenceOperation:
    """`origin`: the node whose clusterd asked. `code` and `text` are set when the outcome is known."""

    request: Request
    origin: NodeName
    node: NodeName
    levels: tuple[FenceLevel, ...]
    until: float
    """When it is given up."""
    stage: FenceStage = FenceStage.ORDER
    code: int | None = None
    text: str = ""
    told: bool = False
    asked_at: float = 0.0
    level: int = 0
    """Which level switched it off: the same is to switch it on."""
    progress: list[Progress] = field(default_factory=list)
    """To be told to who asked."""
    _order: Index | None = None
    """The fence order that it saw written, or found."""
    _ordered_on: bool = False

    @property
    def unwanted(self) -> bool:
        """The planner is to have the node fenced."""
        return self.stage in (FenceStage.ORDER, FenceStage.OFF) and self.request.verb != "confirm"

    def end(self, code: int, text: str) -> None:
        self.code, self.text, self.stage = code, text, FenceStage.DONE

    def step(
        self, me: NodeName, ledger: Ledger, heard: tuple[NodeName, ...], expired: tuple[NodeName, ...], now: float
    ) -> AnyCommand | None:
        """The command for the log that brings it on; None: nothing to write now. `expired`: whose lease is over."""
        if now >= self.until:
            who = f"{self.node} is the master, and no other node can lead in its place" if self.node == me else ""
            self.end(1, who or f"nothing came of it in time; lha_log shows what happened to {self.node}")
        fence = ledger.fences.get(self.node)
        if self.request.verb == "confirm" and self.stage is not FenceStage.DONE:
            return self._vouch(ledger, heard, self.node in expired)
        if self.stage is FenceStage.ORDER and fence is not None:
            if fence.confirmed:  # of the past: it may have been switched on since
                return OrderFence(self.node, _generations(ledger, self.node))
            self.stage, self._order = FenceStage.OFF, fence.index
            self._say(f"fence order {fence.index} is in the log; asking the fence devices of {self.node}")
        elif self.stage is FenceStage.OFF and fence is not None and fence.confirmed:
            self._off()
        elif self.stage is FenceStage.OFF and fence is None:
            self.end(1, f"the fence order of {self.node} was cancelled")
        return None

    def order(self) -> OrderPowerOn | None:
        """For this node's reqd, once."""
        if self.stage is not FenceStage.ON or self._ordered_on:
            return None
        self._ordered_on = True
        return OrderPowerOn(self.node, self.level)

    def fenced(self, result: FenceResult) -> None:
        """What the devices said. That they said 'off' counts when the log has it."""
        if result.node != self.node or not self.unwanted:
            return
        if result.off:
            self.level = result.level
            self._say(result.reason)
        elif not result.over:
            self._say(result.reason, Severity.WARN)
        else:
            helps = f"if {self.node} is off for certain: lha_fence {self.node} --confirm"
            self.end(1, f"{self.node} could not be switched off: {result.reason}; {helps}")

    def powered_on(self, result: PoweredOn) -> None:
        if result.node != self.node or self.stage is not FenceStage.ON:
            return
        if result.on:
            self.end(0, f"Node '{self.node}' Switched On successfully [RC=0].")
        elif self.request.verb == "reboot":
            self.end(1, f"{self.node} was switched off, and could not be switched on again: {result.reason}")
        else:
            self.end(1, f"{self.node} could not be switched on: {result.reason}")

    def _off(self) -> None:
        if self.request.verb == "reboot":
            self._say(f"{self.node} is off, and the log has it; switching it on again")
            self.stage = FenceStage.ON
        else:
            self.end(0, f"Node '{self.node}' Fenced successfully [RC=0].")

    def _vouch(self, ledger: Ledger, heard: tuple[NodeName, ...], expired: bool) -> AnyCommand | None:
        """Its word goes to exactly the order that names what it saw; and not before the node's lease is over, which was
        given before that order stood in the log: the node may have come back since the operator looked."""
        fence = ledger.fences.get(self.node)
        if fence is not None and fence.confirmed and set(_generations(ledger, self.node)) <= set(fence.generations):
            self.end(0, f"Node '{self.node}' Confirmed off by {fence.vouched or 'its fence device'} [RC=0].")
            return None
        trouble = _not_vouchable(self.node, ledger, heard, self.request.seen)
        if trouble:
            self.end(1, trouble)
            return None
        if fence is None or fence.confirmed:
            return OrderFence(self.node, _generations(ledger, self.node))
        if any(generation > self.request.seen for generation in fence.generations):
            self.end(1, f"node '{self.node}' was given more to run since you looked; look again, and repeat")
            return None
        if not expired:
            return None
        self.stage = FenceStage.VOUCH
        return ConfirmFence(self.node, fence.index, self.request.operator or "the operator")

    def _say(self, text: str, severity: Severity = Severity.LOG) -> None:
        self.progress.append(Progress(text, severity))


def begin(request: Request, origin: NodeName, configuration: Configuration, now: float) -> FenceOperation:
    """For a request without a problem."""
    node = next(each for each in configuration.cluster.nodes if each.name == request.node)
    until = now + SLACK + worst_time(node.fence) * (2 if request.verb == "reboot" else 1)
    stage = FenceStage.ON if request.verb == "on" else FenceStage.ORDER
    return FenceOperation(request, origin, node.name, node.fence, until, stage, asked_at=now)


def _generations(ledger: Ledger, node: NodeName) -> tuple[Generation, ...]:
    return tuple(sorted(generation for _, generation in granted_to(ledger, node)))
