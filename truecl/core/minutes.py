"""What masters decided upon, kept by the statd of the node that led, and asked from all nodes.

A question goes to the disk and to every statd whose node hbd hears; it ends when all answered or GATHER_TIME is over,
and says who is missing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from truecl.core.outbox import Outbox
from truecl.model.actions import Action
from truecl.model.ids import NodeName
from truecl.wire.messages import AskInputs, Decided, Inputs, Kept, Refused

GATHER_TIME = 1.0
"""Seconds to wait for the other nodes' answers."""
MAX_INPUTS = 1000
"""Kept on a node, and told in one answer."""
MAX_ANSWER = 512 * 1024
"""Bytes, about, of one answer: a message holds a megabyte."""
MAX_QUEUED = 256
"""Waiting for the disk; the oldest goes when there are more."""
MAX_QUESTIONS = 32


class KeepInputs(Action, frozen=True):
    """Keep these. `repeats`: of the newest that is kept already, 0: as it is. Result: FoundInputs, empty."""

    inputs: tuple[Kept, ...]
    configurations: dict[str, bytes]
    repeats: int = 0


class FindInputs(Action, frozen=True):
    """The latest `limit` at or before `until` (wall clock, 0: now). Result: FoundInputs."""

    limit: int
    until: float


class FoundInputs(msgspec.Struct, frozen=True):
    """Oldest first, and the configurations that they name."""

    inputs: tuple[Kept, ...] = ()
    configurations: dict[str, bytes] = {}
    reason: str = ""


@dataclass
class _Question:
    who: str
    request: AskInputs
    deadline: float
    waiting: list[NodeName]
    missing: list[NodeName]
    parts: list[FoundInputs] = field(default_factory=list)


class Minutes:
    """`others`: the other nodes that are worth to be asked; `nodes`: all. Writes into its core's outbox."""

    def __init__(
        self,
        me: NodeName,
        outbox: Outbox,
        others: Callable[[], list[NodeName]],
        nodes: Callable[[], tuple[NodeName, ...]],
    ) -> None:
        self.me, self._out, self._others, self._nodes = me, outbox, others, nodes
        self._queue: list[Kept] = []
        self._configurations: dict[str, bytes] = {}
        """Not on the disk yet."""
        self._repeats = 0
        self._keeping: int | None = None
        self._searches: dict[int, int | tuple[NodeName, int]] = {}
        """Action id to the question's number, or to the node that asked and its number."""
        self._questions: dict[int, _Question] = {}
        self._next = 1

    # ---- keeping ----------------------------------------------------------------------------------------------------

    def decided(self, message: Decided) -> None:
        if message.repeats > 1:
            if self._queue:
                self._queue[-1] = replace(self._queue[-1], repeats=message.repeats)
            else:
                self._repeats = message.repeats
        if message.configuration:
            self._configurations[message.digest] = message.configuration
        self._queue.append(Kept(0.0, message.uptime, message.term, message.digest, message.input))
        del self._queue[:-MAX_QUEUED]
        self._keep()

    def _keep(self) -> None:
        if self._keeping is None and self._queue:
            self._keeping = self._out.do(KeepInputs(tuple(self._queue), self._configurations, self._repeats))
            self._queue, self._configurations, self._repeats = [], {}, 0

    # ---- questions --------------------------------------------------------------------------------------------------

    def ask(self, who: str, request: AskInputs, now: float) -> None:
        if len(self._questions) >= MAX_QUESTIONS:
            self._out.tell(who, Refused("too many lha_simulate at once on this node; try again"))
            return
        number, self._next = self._next, self._next + 1
        waiting = self._others()
        missing = [node for node in self._nodes() if node != self.me and node not in waiting]
        self._questions[number] = _Question(who, request, now + GATHER_TIME, [*waiting, self.me], missing)
        for node in waiting:
            self._out.send(node, AskInputs(request.limit, request.until, number, True))
        self._searches[self._out.do(_search(request))] = number

    def asked(self, node: NodeName, request: AskInputs) -> None:
        """Another node's statd asks for what this one keeps."""
        if node in self._nodes() and len(self._searches) < 2 * MAX_QUESTIONS:
            self._searches[self._out.do(_search(request))] = (node, request.number)

    def done(self, id: int, result: Any, master: NodeName | None) -> None:
        if id == self._keeping:
            self._keeping = None
            self._keep()
        purpose = self._searches.pop(id, None)
        if purpose is None or not isinstance(result, FoundInputs):
            return
        if isinstance(purpose, int):
            self._part(purpose, self.me, result, master)
        else:
            node, number = purpose
            found = fitting(result)
            self._out.send(node, Inputs(number, found.inputs, found.configurations, reason=found.reason))

    def answered(self, node: NodeName, message: Inputs, master: NodeName | None) -> None:
        found = FoundInputs(message.inputs[-MAX_INPUTS:], message.configurations, message.reason)
        self._part(message.number, node, found, master)

    def disconnected(self, node: NodeName, master: NodeName | None) -> None:
        for number, question in list(self._questions.items()):
            if node in question.waiting:
                question.missing.append(node)
                self._part(number, node, FoundInputs(), master)

    def left(self, who: str) -> None:
        self._questions = {number: each for number, each in self._questions.items() if each.who != who}

    def _part(self, number: int, node: NodeName, found: FoundInputs, master: NodeName | None) -> None:
        question = self._questions.get(number)
        if question is not None and node in question.waiting:
            question.waiting.remove(node)
            question.parts.append(found)
            if not question.waiting:
                self._finish(number, master)

    def _finish(self, number: int, master: NodeName | None) -> None:
        question = self._questions.pop(number)
        missing = tuple(node for node in self._nodes() if node in question.missing or node in question.waiting)
        found = fitting(_merged(question.parts, max(1, min(question.request.limit, MAX_INPUTS))))
        answer = Inputs(question.request.number, found.inputs, found.configurations, missing, master, found.reason)
        self._out.tell(question.who, answer)

    @property
    def wake_at(self) -> float | None:
        return min((question.deadline for question in self._questions.values()), default=None)

    def wake(self, now: float, master: NodeName | None) -> None:
        for number, question in list(self._questions.items()):
            if now >= question.deadline:
                self._finish(number, master)


def _search(request: AskInputs) -> FindInputs:
    return FindInputs(max(1, min(request.limit, MAX_INPUTS)), request.until)


def _merged(parts: Iterable[FoundInputs], limit: int) -> FoundInputs:
    """By term, which no two masters share, then by the master's own clock."""
    inputs: list[Kept] = []
    configurations: dict[str, bytes] = {}
    reasons: list[str] = []
    for part in parts:
        inputs += part.inputs
        configurations |= part.configurations
        reasons += [part.reason] if part.reason else []
    inputs.sort(key=lambda each: (each.term, each.uptime))
    return FoundInputs(tuple(inputs[-limit:]), configurations, "; ".join(reasons))


def fitting(found: FoundInputs) -> FoundInputs:
    """The latest that fit into one message, with the configurations that those name."""
    budget, configurations, kept = MAX_ANSWER, dict[str, bytes](), list[Kept]()
    for each in reversed(found.inputs):
        configuration = found.configurations.get(each.digest, b"")
        budget -= len(each.input) + 60 + (0 if each.digest in configurations else len(configuration))
        if budget < 0 and kept:
            break
        configurations[each.digest] = configuration
        kept.append(each)
    return FoundInputs(tuple(reversed(kept)), configurations, found.reason)
