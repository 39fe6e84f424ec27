"""Another key for heartbeats, on every node of a cluster that runs (lha_node rotate-key).

    OPEN   every node has the new key behind those that it had: it opens what others will seal with it
    SEAL   the new key is the first of them: every node seals with it
    ALONE  it is the only one: what was sealed with any other opens no more

A step begins when every node has taken the one before, and SETTLE seconds later, so that its hbd has read it: no node
ever seals with a key that another cannot open. A node that does not answer ends it where it is, which harms nothing;
the same command begins anew, with one more key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from truecl.core.outbox import Outbox
from truecl.model.actions import Action
from truecl.model.ids import NodeName
from truecl.model.report import Progress, Severity
from truecl.wire.messages import Reply, TakeKeys

STEP_TIME = 4.0
RESEND = 0.5
SETTLE = 1.0
HIDDEN = "..."


class DrawRings(Action, frozen=True):
    """Read this node's key ring and draw a new key. Result: DrawnRings."""


class KeepRing(Action, frozen=True):
    """Put this ring in the place of the node's own. Result: KeptRing."""

    text: str

    def __repr__(self) -> str:
        return f"KeepRing({HIDDEN})"


class DrawnRings(msgspec.Struct, frozen=True):
    """The ring of each step; none where there is a `reason`."""

    rings: tuple[str, ...]
    reason: str = ""

    def __repr__(self) -> str:
        return f"DrawnRings({HIDDEN}, {self.reason!r})"


class KeptRing(msgspec.Struct, frozen=True):
    reason: str = ""


class Step(IntEnum):
    """Their places in `DrawnRings.rings`."""

    OPEN = 0
    SEAL = 1
    ALONE = 2


_DONE = {
    Step.OPEN: "every node opens what is sealed with the new key",
    Step.SEAL: "every node seals with it",
    Step.ALONE: "no node opens anything else any more",
}
_STAYS = {
    Step.OPEN: "heartbeats are sealed as before",
    Step.SEAL: "what is sealed with the old or the new key is opened everywhere",
    Step.ALONE: "every node seals with the new key, but the old one is not gone everywhere",
}


@dataclass
class _Run:
    who: str
    nodes: tuple[NodeName, ...]
    rings: tuple[str, ...] = ()
    step: Step = Step.OPEN
    number: int = 0
    waiting: tuple[NodeName, ...] = ()
    deadline: float = 0.0
    resend_at: float = 0.0
    settled_at: float | None = None
    """Every node has taken this step's ring; when the next may begin."""


class Rotation:
    """Of one syncd. `number` gives one that was never used before; `keep` has this node take a ring."""

    def __init__(self, me: NodeName, out: Outbox, number: Callable[[], int], keep: Callable[[TakeKeys], None]) -> None:
        self._me = me
        self._out = out
        self._number = number
        self._keep = keep
        self._run: _Run | None = None

    @property
    def under_way(self) -> bool:
        return self._run is not None

    def begin(self, who: str, nodes: tuple[NodeName, ...]) -> None:
        """Once the rings are drawn (`drawn`)."""
        self._run = _Run(who, nodes)

    def drawn(self, result: DrawnRings, now: float) -> None:
        if self._run is None:
            return
        if result.reason:
            self._end(result.reason)
            return
        self._run.rings = result.rings
        self._enter(self._run, Step.OPEN, now)

    def taken(self, node: NodeName, number: int, reason: str, now: float) -> None:
        run = self._run
        if run is None or number != run.number or node not in run.waiting:
            return
        run.waiting = tuple(each for each in run.waiting if each != node)
        if reason:
            self._end(f"{node}: {reason}; {_STAYS[run.step]}: repeat the command")
        elif not run.waiting:
            self._say(run, _DONE[run.step])
            run.settled_at = now + SETTLE
            if run.step is Step.ALONE:
                self._end("")

    def wake(self, now: float) -> None:
        run = self._run
        if run is None or not run.rings:
            return
        if run.settled_at is not None:
            if now >= run.settled_at:
                self._enter(run, Step(run.step + 1), now)
        elif now >= run.deadline:
            silent = ", ".join(run.waiting)
            helps = f"start it, or take it out (lha_node remove); {_STAYS[run.step]}: repeat the command then"
            self._end(f"the syncd of {silent} does not answer: {helps}")
        elif now >= run.resend_at:
            self._ask(run, now)

    def wakes(self) -> tuple[float, ...]:
        run = self._run
        if run is None or not run.rings:
            return ()
        return (run.settled_at,) if run.settled_at is not None else (run.deadline, run.resend_at)

    def _enter(self, run: _Run, step: Step, now: float) -> None:
        run.step, run.number, run.settled_at = step, self._number(), None
        run.waiting, run.deadline = run.nodes, now + STEP_TIME
        self._ask(run, now)

    def _ask(self, run: _Run, now: float) -> None:
        run.resend_at = now + RESEND
        message = TakeKeys(run.number, run.rings[run.step])
        for node in run.waiting:
            if node == self._me:
                self._keep(message)
            else:
                self._out.send(node, message)

    def _say(self, run: _Run, text: str, severity: Severity = Severity.LOG, verbose: bool = True) -> None:
        self._out.tell(run.who, Reply("", Progress(text, severity, verbose)))

    def _end(self, problem: str) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        if problem:
            self._say(run, problem, Severity.ERROR, verbose=False)
        else:
            self._say(run, "Heartbeats Sealed with Another Key successfully [RC=0].", verbose=False)
        self._out.tell(run.who, Reply("", code=1 if problem else 0))
