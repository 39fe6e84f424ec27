"""What do a node's fence devices say to this node? `lha_fence --test` asks that on every node, for every node.

The command speaks to the reqd of its own node, which passes the question on to the node that is to ask the devices, and
the answer back. Nothing is ever switched by it, so any node of the cluster may ask.
"""

from dataclasses import dataclass, field

from truecl.core.outbox import Outbox
from truecl.model.actions import AskDevice, FenceOutcome, Power
from truecl.model.config import Configuration
from truecl.model.ids import NodeName
from truecl.wire.messages import AskFences, FencesSeen, FenceView, Refused

MAX_QUESTIONS = 32
"""Under way at a time, of one's own and of others'."""


@dataclass
class _Question:
    """`who` asked it on this node, or else `origin` is the node that passed it on."""

    message: AskFences
    who: str = ""
    origin: NodeName | None = None
    views: dict[int, FenceView] = field(default_factory=dict)
    """Action to what its device said; `power` is unknown, without a reason, until it did."""
    open: set[int] = field(default_factory=set)


class FenceQuestions:
    """reqd's part."""

    def __init__(self, me: NodeName, out: Outbox, configuration: Configuration) -> None:
        self._me, self._out = me, out
        self.configuration = configuration
        self._here: list[_Question] = []
        """The devices are being asked by this node."""
        self._away: dict[int, tuple[str, AskFences]] = {}
        """Passed on to another node: this node's number to who asked, and what."""
        self._number = 0

    def told(self, who: str, message: AskFences) -> None:
        """By a command on this node."""
        known = [node.name for node in self.configuration.cluster.nodes]
        if message.node not in known or message.asker not in known:
            self._out.tell(who, Refused(f"there are nodes {', '.join(known)}, and no other"))
        elif message.asker == self._me:
            self._ask(_Question(message, who=who))
        else:
            self._number += 1
            if len(self._away) >= MAX_QUESTIONS:
                del self._away[next(iter(self._away))]  # the oldest: its node is down, or its command has gone
            self._away[self._number] = who, message
            self._out.send(message.asker, AskFences(self._number, message.asker, message.node))

    def received(self, node: NodeName, message: AskFences | FencesSeen) -> None:
        if isinstance(message, AskFences):
            if message.asker == self._me:
                self._ask(_Question(message, origin=node))
            return
        who, asked = self._away.get(message.number, ("", message))
        if who and (asked.asker, asked.node) == (node, message.node):
            del self._away[message.number]
            self._out.tell(who, FencesSeen(asked.number, node, message.node, message.devices))

    def left(self, who: str) -> None:
        self._away = {number: each for number, each in self._away.items() if each[0] != who}

    def done(self, id: int, outcome: FenceOutcome) -> None:
        for question in self._here:
            if id in question.open:
                question.open.discard(id)
                view = question.views[id]
                question.views[id] = FenceView(view.level, view.agent, outcome.power, outcome.reason)
                if not question.open:
                    self._here.remove(question)
                    self._answer(question)
                return

    def _ask(self, question: _Question) -> None:
        node = question.message.node
        levels = next((each.fence for each in self.configuration.cluster.nodes if each.name == node), ())
        if len(self._here) >= MAX_QUESTIONS:
            levels = ()
            question.views[0] = FenceView(0, "", Power.UNKNOWN, "this node is asked too much at once; try again")
        for number, level in enumerate(levels):
            for device in level:
                id = self._out.do(AskDevice(node, device, Power.UNKNOWN))
                question.views[id] = FenceView(number, device.agent, Power.UNKNOWN)
                question.open.add(id)
        if question.open:
            self._here.append(question)
        else:
            self._answer(question)

    def _answer(self, question: _Question) -> None:
        asked = question.message
        answer = FencesSeen(asked.number, self._me, asked.node, tuple(question.views.values()))
        if question.origin is not None:
            self._out.send(question.origin, answer)
        else:
            self._out.tell(question.who, answer)
