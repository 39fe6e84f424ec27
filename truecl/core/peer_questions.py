"""What DRBD's fence-peer handler asks, on its node and at the master: may this node's copy go on without the peer's?

The answer is a promise: from now on the peer's copy is not promoted before it was brought up to date again. So it
follows an entry of the log that was proposed for this very question, and says what the log says after that: an older
'outdated' may have been followed by a word, still under way, that calls the copy current again.

Where the grant is the asker's, the question stays until that entry is committed: a frozen primary waits as long as its
handler does. Where it is not, the answer is 1 at once.
"""

from dataclasses import dataclass

from truecl.core import copies
from truecl.core.ledger import app_state
from truecl.core.outbox import Outbox
from truecl.core.situation import Situation
from truecl.model.ids import Index, NodeName
from truecl.model.ledger import AnyCommand, Fence, Ledger, MarkCopy
from truecl.model.mirror import CopyState, Mirror
from truecl.wire.messages import AskPeerOutdated, PeerOutdated, Refused

ASK_AGAIN = 0.3
"""Seconds until a question is passed on again: it, its answer or the master's memory may be lost."""
FORGOTTEN = 2.0
"""Seconds after which the master drops a question that is not passed on again."""
MAX_QUESTIONS = 64

OUTDATED, FENCED, OWN_OUTDATED, NO_WORD = 4, 7, 6, 1


@dataclass
class _Question:
    message: AskPeerOutdated
    asked_at: float
    index: Index | None = None
    """Of the entry that was proposed for it."""


class PeerQuestions:
    """Both sides; a part of clusterd's core."""

    def __init__(self, situation: Situation, out: Outbox) -> None:
        self._situation, self._out = situation, out
        self._acting: dict[str, None] = {}
        self._mine: dict[str, tuple[str, AskPeerOutdated]] = {}
        """By id: of handlers on this node."""
        self._pass_at = 0.0
        self._asked: dict[tuple[NodeName, str], _Question] = {}
        """At the master, by the asker's node and id."""
        self._proposing: list[_Question] = []
        """Those that the entry under way was proposed for."""

    # ---- on the asker's node ----------------------------------------------------------------------------------------

    def joined(self, who: str, root: bool) -> None:
        if root:
            self._acting[who] = None

    def left(self, who: str) -> None:
        self._acting.pop(who, None)
        self._mine = {id: each for id, each in self._mine.items() if each[0] != who}

    def ask(self, who: str, message: AskPeerOutdated) -> None:
        if who not in self._acting:
            self._out.tell(who, Refused("only root speaks for DRBD"))
        elif len(self._mine) >= MAX_QUESTIONS:
            self._out.tell(who, Refused("too many questions at once; try again"))
        else:
            self._mine[message.id] = who, message
            self._pass_on(message)

    def answered(self, message: PeerOutdated) -> None:
        asker = self._mine.pop(message.id, None)
        if asker is not None:
            self._out.tell(asker[0], message)

    def pass_again(self) -> None:
        if self._mine and self._situation.now >= self._pass_at:
            for _, message in list(self._mine.values()):
                self._pass_on(message)

    def _pass_on(self, message: AskPeerOutdated) -> None:
        self._pass_at = self._situation.now + ASK_AGAIN
        leader = self._situation.leadership.leader
        if leader == self._situation.me:
            self.begin(message, leader)
        elif leader is not None:
            self._out.send(leader, message)

    # ---- at the master ----------------------------------------------------------------------------------------------

    def begin(self, message: AskPeerOutdated, origin: NodeName) -> None:
        if not self._situation.master:
            return  # it comes again
        known = self._asked.get((origin, message.id))
        if known is not None:
            known.asked_at = self._situation.now
        elif len(self._asked) < MAX_QUESTIONS:
            self._asked[origin, message.id] = _Question(message, self._situation.now)

    def forget(self) -> None:
        """This node leads no more."""
        self._asked.clear()
        self._proposing = []

    def step(self, proposing: bool) -> list[AnyCommand]:
        """Answers what can be answered, and what is to be written for the rest."""
        ledger, now, commands = self._situation.ledger, self._situation.now, list[AnyCommand]()
        for (origin, id), question in list(self._asked.items()):
            if now >= question.asked_at + FORGOTTEN:
                del self._asked[origin, id]
            elif (code := self._code(ledger, origin, question)) is not None:
                del self._asked[origin, id]
                self._answer(origin, question.message, code)
            elif not proposing and question.index is None:
                commands += _marks(ledger, origin, question.message)
                self._proposing.append(question)
        return commands

    def proposed(self, index: Index | None) -> None:
        """What was written with the latest commands of `step`; None: nothing was."""
        for question in self._proposing:
            question.index = index
        self._proposing = []

    def _code(self, ledger: Ledger, origin: NodeName, question: _Question) -> int | None:
        """None: nothing may be said yet."""
        message = question.message
        grant, mirror = app_state(ledger, message.app).grant, ledger.mirrors.get(message.app)
        if mirror is None or grant is None or grant.node != origin or grant.generation != message.generation:
            return NO_WORD
        if question.index is None or ledger.index < question.index:
            return None
        if not copies.current(ledger, message.app, origin):
            return OWN_OUTDATED
        peers = [node for node in mirror.nodes if node != origin]
        if any(copies.current(ledger, message.app, node) for node in peers):
            question.index = None  # another mark was quicker: once more, naming that
            return None
        fences = [ledger.fences.get(node) for node in peers]
        return FENCED if peers and all(_off(fence) for fence in fences) else OUTDATED

    def _answer(self, origin: NodeName, message: AskPeerOutdated, code: int) -> None:
        answer = PeerOutdated(message.id, code, _REASONS[code], message.generation)
        if origin == self._situation.me:
            self.answered(answer)
        else:
            self._out.send(origin, answer)

    def wakes(self) -> list[float]:
        times = [self._pass_at] if self._mine else []
        return times + [each.asked_at + FORGOTTEN for each in self._asked.values()]


def _marks(ledger: Ledger, origin: NodeName, message: AskPeerOutdated) -> list[AnyCommand]:
    """One that is outdated is marked again: so it stays, whatever is under way."""
    mirror = ledger.mirrors.get(message.app, Mirror(0, (), ()))
    return [
        MarkCopy(message.app, node, _less(copy.state), message.generation, copy.index, message.at)
        for node in mirror.nodes
        if node != origin and (copy := mirror.copies.get(node)) is not None
    ]


def _less(state: CopyState) -> CopyState:
    return CopyState.OUTDATED if state is CopyState.CURRENT else state


def _off(fence: Fence | None) -> bool:
    return fence is not None and fence.confirmed


_REASONS = {
    OUTDATED: "the log calls the peer's copy outdated",
    FENCED: "the log calls the peer's copy outdated, and its node was fenced",
    OWN_OUTDATED: "this node's own copy is not current",
    NO_WORD: "the application is not granted to this node in this generation",
}
