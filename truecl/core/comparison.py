"""One comparison of the configuration on all nodes, and how one version goes everywhere.

    GATHER    this node's files are read
    DIGESTS   every node says what it has; a difference ends it here, unless this node's version is to be brought
    STAGE     every node keeps this version beside its files; one that cannot ends it: nothing changed anywhere
    ACTIVATE  every node puts the staged version in force and tells its daemons

A question is sent again until answered (RESEND) and every stage ends with STAGE_TIME.

A command's `Bring` is the same with files of its own in the place of this node's, which have to be those that it began
with; nodes that do not answer are left behind.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from truecl.core.outbox import Outbox
from truecl.core.versions import SHORT, Gathered, difference, unfit
from truecl.model.ids import NodeName
from truecl.model.report import Progress, Severity
from truecl.wire.messages import (
    Activate,
    Activated,
    AskDigest,
    Bring,
    Compare,
    Compared,
    Digest,
    Message,
    Reply,
    Stage,
    Staged,
)

STAGE_TIME = 4.0
RESEND = 0.5


class Phase(StrEnum):
    GATHER = "gather"
    DIGESTS = "digests"
    STAGE = "stage"
    ACTIVATE = "activate"


@dataclass
class _Run:
    who: str
    request: Compare | Bring
    number: int
    phase: Phase = Phase.GATHER
    mine: Gathered = field(default_factory=lambda: Gathered(None))
    digests: dict[NodeName, Digest] = field(default_factory=dict)
    waiting: list[NodeName] = field(default_factory=list)
    wrong: dict[NodeName, str] = field(default_factory=dict)
    left: list[NodeName] = field(default_factory=list)
    """Nodes that did not answer a `Bring`."""
    deadline: float = 0.0
    resend_at: float = 0.0


_ANSWERS: dict[Phase, type[Message]] = {Phase.DIGESTS: Digest, Phase.STAGE: Staged, Phase.ACTIVATE: Activated}
_SILENT = {
    Phase.GATHER: "its files could not be read in time",
    Phase.DIGESTS: "its syncd does not answer",
    Phase.STAGE: "its syncd did not take the new version in time; nothing was changed anywhere",
    Phase.ACTIVATE: "has the new version staged and did not confirm it; run lha_form --sync again",
}


class Comparison:
    """Of one syncd, one at a time. `number` gives one that was never used before; `gather` has this node's files read
    (then `gathered`), `serve` has it do its own share (then `answered`); `active`: the version of its daemons."""

    def __init__(
        self,
        me: NodeName,
        out: Outbox,
        number: Callable[[], int],
        gather: Callable[[int], None],
        serve: Callable[[AskDigest | Stage | Activate], None],
        active: Callable[[], str],
    ) -> None:
        self._me = me
        self._out = out
        self._number = number
        self._gather = gather
        self._serve = serve
        self._active = active
        self._run: _Run | None = None

    @property
    def under_way(self) -> bool:
        return self._run is not None

    def wakes(self) -> tuple[float, ...]:
        run = self._run
        return (run.deadline, run.resend_at) if run is not None else ()

    def begin(self, who: str, request: Compare | Bring, now: float) -> None:
        if self._run is not None:
            wrong = {self._me: "another comparison of configurations is under way; try again"}
            self._tell_end(who, request, self._active(), wrong)
            return
        number = self._number()
        self._run = _Run(who, request, number, waiting=[self._me], deadline=now + STAGE_TIME)
        self._run.resend_at = self._run.deadline
        self._gather(number)

    def gathered(self, mine: Gathered, now: float) -> None:
        run = self._run
        if run is None or run.phase is not Phase.GATHER:
            return
        request = run.request
        problem = "; ".join(mine.problems) if mine.configuration is None else unfit(mine.files)
        if isinstance(request, Bring) and not problem:
            if mine.digest not in (request.base, request.digest):
                problem = f"the files here are another version ({mine.digest[:SHORT]}) than the change began with"
            mine = Gathered(mine.configuration, (), request.digest, request.files)
        run.mine = mine
        if problem:
            run.wrong[self._me] = problem
            self._finish()
            return
        self._enter(Phase.DIGESTS, [node for node in request.nodes if node != self._me], now)

    def _enter(self, phase: Phase, nodes: list[NodeName], now: float) -> None:
        run = self._run
        if run is None:
            return
        run.phase, run.waiting = phase, list(nodes)
        run.deadline, run.resend_at = now + STAGE_TIME, now + RESEND
        if not nodes:
            self._phase_done(now)
            return
        self.resend(tuple(node for node in nodes if node != self._me))
        if self._me in nodes:
            self._serve(self._question(run))

    def _question(self, run: _Run) -> AskDigest | Stage | Activate:
        if run.phase is Phase.STAGE:
            return Stage(run.number, run.mine.digest, run.mine.files)
        if run.phase is Phase.ACTIVATE:
            return Activate(run.number, run.mine.digest)
        return AskDigest(run.number)

    def resend(self, nodes: tuple[NodeName, ...]) -> None:
        run = self._run
        if run is None or run.phase is Phase.GATHER:
            return
        for node in nodes:
            if node in run.waiting and node != self._me:
                self._out.send(node, self._question(run))

    def answered(self, node: NodeName, answer: Digest | Staged | Activated, now: float) -> None:
        run = self._run
        if run is None or answer.number != run.number or node not in run.waiting:
            return
        if _ANSWERS.get(run.phase) is not type(answer):
            return  # late, of the stage before
        if isinstance(answer, Digest):
            run.digests[node] = answer
        elif answer.digest != run.mine.digest:
            return
        elif answer.reason:
            run.wrong[node] = answer.reason
        run.waiting.remove(node)
        if not run.waiting:
            self._phase_done(now)

    def _phase_done(self, now: float) -> None:
        run = self._run
        if run is None:
            return
        if run.phase is Phase.DIGESTS:
            self._judge(run, now)
        elif run.phase is Phase.STAGE and not run.wrong:
            self._enter(Phase.ACTIVATE, self._behind(run), now)
        else:
            self._finish()

    def _judge(self, run: _Run, now: float) -> None:
        request = run.request
        if isinstance(request, Compare) and not request.sync:
            for node, theirs in run.digests.items():
                if theirs.digest != run.mine.digest:
                    run.wrong[node] = difference(run.mine, theirs)
        if run.wrong:
            self._finish()
            return
        self._enter(Phase.STAGE, self._behind(run), now)

    def _behind(self, run: _Run) -> list[NodeName]:
        """Nodes that have other files, or daemons that were given another version."""
        digest = run.mine.digest
        behind = [node for node, theirs in run.digests.items() if theirs.digest != digest or theirs.active != digest]
        return [*behind, self._me] if self._active() != digest else behind

    def _finish(self) -> None:
        run = self._run
        if run is None:
            return
        self._run = None
        for node in run.left:
            text = f"{node} does not answer: it gets the new configuration when it is back"
            self._out.tell(run.who, Reply("", Progress(text, Severity.WARN, verbose=False)))
        self._tell_end(run.who, run.request, run.mine.digest, run.wrong)

    def _tell_end(self, who: str, request: Compare | Bring, digest: str, wrong: dict[NodeName, str]) -> None:
        if isinstance(request, Compare):
            self._out.tell(who, Compared(request.number, digest, wrong))
            return
        for node, problem in sorted(wrong.items()):
            self._out.tell(who, Reply("", Progress(f"{node}: {problem}", Severity.ERROR, verbose=False)))
        self._out.tell(who, Reply("", code=1 if wrong else 0))

    def wake(self, now: float) -> None:
        run = self._run
        if run is None:
            return
        if now >= run.deadline:
            silent, run.waiting = run.waiting, []
            if run.phase is Phase.DIGESTS and isinstance(run.request, Bring):
                run.left = silent
            else:
                run.wrong |= dict.fromkeys(silent, _SILENT[run.phase])
            if run.phase is Phase.DIGESTS:
                self._judge(run, now)
            else:
                self._finish()
        elif now >= run.resend_at:
            run.resend_at = now + RESEND
            self.resend(tuple(run.waiting))
