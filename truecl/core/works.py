"""Parts of lha_buildapp at a node: what the master asks for is done once, and the answer is kept for a while.

The question comes again until the answer arrived. Nothing here needs a lease: what is made is this node's own (a
volume, DRBD's metadata), and never in the place of what is there but on the operator's word. What is written to an
application's volumes is a generation's (`truecl.model.ledger.Grant.build`).
"""

from truecl.core.outbox import Outbox
from truecl.model.actions import BuildWork, WorkDone
from truecl.model.build import Adopt, Discard, Initialise, Make, Seen
from truecl.model.config import Configuration
from truecl.model.ids import CLUSTERD, NodeName
from truecl.wire.messages import AskWork, WorkAnswer

MAX_WORKS = 16
"""Under way at a time."""
MAX_ANSWERS = 64
"""Kept for a question that comes again."""
WRITES = Make | Initialise | Adopt | Discard
"""Not while the application has something on this node."""


class Works:
    """reqd's part. `configuration` is kept up to date by it."""

    def __init__(self, me: NodeName, configuration: Configuration, out: Outbox) -> None:
        self.configuration = configuration
        self._me, self._out = me, out
        self._open: dict[int, str] = {}
        """Action to the question that it answers."""
        self._answers: dict[str, WorkAnswer] = {}

    def ask(self, message: AskWork, newest_term: bool, runs_here: bool) -> None:
        """`newest_term`: no newer master was heard of. `runs_here`: something of the application may be active."""
        known = self._answers.get(message.id)
        if known is not None:
            self._out.tell(CLUSTERD, known)
        if known is not None or message.id in self._open.values():
            return
        app = self.configuration.app(message.app)
        if not newest_term:
            self._answer(message.id, Seen(problems=("there is a newer master than the one that asks",)))
        elif app is None:
            text = f"this node's configuration has no application '{message.app}'; lha_form --sync brings it"
            self._answer(message.id, Seen(problems=(text,)))
        elif runs_here and isinstance(message.work, WRITES):
            self._answer(message.id, Seen(problems=(f"'{message.app}' is active on this node",)))
        elif len(self._open) >= MAX_WORKS:
            self._answer(message.id, Seen(problems=("this node is asked too much at once; try again",)))
        else:
            work = BuildWork(message.work, app, self.configuration.cluster, runs_here, message.timeout)
            self._open[self._out.do(work)] = message.id

    def done(self, id: int, result: WorkDone) -> None:
        question = self._open.pop(id, None)
        if question is not None:
            self._answer(question, result.seen)

    def _answer(self, question: str, seen: Seen) -> None:
        answer = self._answers[question] = WorkAnswer(question, self._me, seen)
        if len(self._answers) > MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        self._out.tell(CLUSTERD, answer)
