"""lha_buildapp at the master, beside its other operations; and its word before an operator's start or move."""

from collections.abc import Callable

from truecl.core import build_operation
from truecl.core.build_operation import BuildOperation, BuildStage, Validation
from truecl.core.desk import Desk
from truecl.core.errands import Errands
from truecl.core.happenings import Happening
from truecl.core.outbox import Outbox
from truecl.core.situation import Situation
from truecl.model.build import Question
from truecl.model.ids import CLUSTERD, STATD, AppName, NodeName
from truecl.model.ledger import AnyCommand, Format, Lock
from truecl.model.report import Progress, Severity
from truecl.wire.messages import BuildWish, Note, Reply, Request, WorkAnswer

FORGOTTEN = 10.0
"""Seconds after which the master brings a build on no more that nobody asks after."""

End = Callable[[str, NodeName, int, str, Question | None], None]
"""Tells who asked how it ended: request, origin, exit code, text, question."""


class Builds:
    """Those under way, with what nodes do for them. `begin`: takes up a start or move that was found well."""

    def __init__(
        self, situation: Situation, out: Outbox, desk: Desk, end: End, begin: Callable[[Request, NodeName], None]
    ) -> None:
        self._situation, self._out, self._desk, self._end, self._begin = situation, out, desk, end, begin
        self._builds: dict[str, BuildOperation] = {}
        self._validations: dict[str, Validation] = {}
        self._errands = Errands(situation, out)

    def __len__(self) -> int:
        return len(self._builds) + len(self._validations)

    def get(self, id: str) -> BuildOperation | Validation | None:
        return self._builds.get(id) or self._validations.get(id)

    def holds(self, lock: Lock) -> bool:
        return lock.holder in self._builds

    def operator(self, id: str) -> str:
        """Who does it; '' for none."""
        build = self._builds.get(id)
        return build.request.operator if build is not None else ""

    def forget(self) -> None:
        self._builds.clear()
        self._validations.clear()
        self._errands.forget()

    def problem(self, request: Request) -> str:
        return build_operation.problem(request, self._situation)

    def build(self, request: Request, origin: NodeName) -> None:
        wish = request.build or BuildWish()
        self._builds[request.id] = BuildOperation(request, wish, origin, self._situation.now)

    def validate(self, request: Request, origin: NodeName) -> None:
        """Before it is begun."""
        self._validations[request.id] = Validation(request, origin, self._situation.now)

    def building(self) -> tuple[tuple[AppName, tuple[Format, ...]], ...]:
        """For the planner."""
        return tuple((each.request.app, each.formats) for each in self._builds.values() if each.wants_generation)

    def answered(self, message: WorkAnswer) -> None:
        self._errands.answered(message)

    def progress(self, app: AppName, progress: Progress) -> None:
        for build in self._builds.values():
            if build.request.app == app and build.stage in (BuildStage.PLACE, BuildStage.BUILD):
                self._desk.answer(build.origin, Reply(build.request.id, progress))

    def step(self, proposing: bool) -> list[AnyCommand]:
        """What brings them on. `proposing`: an entry of the log is under way, so nothing is decided on it."""
        self._errands.step()
        self._step_validations()
        commands: list[AnyCommand] = []
        taken: set[str] = set()
        for id, build in list(self._builds.items()) if not proposing else ():
            if build.code is None and self._situation.now >= build.asked_at + FORGOTTEN:
                build.told = True
                build.end(4, "")
            if build.stage is BuildStage.LOCK and not self._may_lock(build, taken):
                continue
            found = build.step(self._situation, self._errands)
            if build.stage is BuildStage.LOCK:
                taken.add(build.lock)
            commands += found
            self._tell(build)
            if build.stage is BuildStage.DONE:
                del self._builds[id]
        return commands

    def _step_validations(self) -> None:
        for id, each in list(self._validations.items()):
            each.step(self._situation, self._errands)
            if each.refusal is None:
                continue
            del self._validations[id]
            if each.refusal:
                self._end(id, each.origin, 1, each.refusal, None)
            else:
                self._begin(each.request, each.origin)

    def _may_lock(self, build: BuildOperation, taken: "set[str]") -> bool:
        """Told once who has it."""
        lock = self._situation.ledger.locks.get(build.lock)
        if lock is None or lock.holder == build.request.id:
            return build.lock not in taken
        if not build.told_lock:
            build.told_lock = True
            text = f"waiting: '{build.request.app}' is locked by another operation"
            self._desk.answer(build.origin, Reply(build.request.id, Progress(text, Severity.WARN, verbose=False)))
        return False

    def _tell(self, build: BuildOperation) -> None:
        for progress in build.progress:
            self._desk.answer(build.origin, Reply(build.request.id, progress))
        build.progress.clear()
        for text in build.words:
            happening = Happening(CLUSTERD, Severity.WARN, text, build.request.app)
            self._out.tell(STATD, Note(happening.noted(self._situation.me, self._situation.now)))
        build.words.clear()
        if build.code is not None and not build.told:
            build.told = True
            self._end(build.request.id, build.origin, build.code, build.text, build.question)

    def wakes(self) -> list[float]:
        times = [each.asked_at + FORGOTTEN for each in self._builds.values() if each.code is None]
        times += [each.until for each in self._builds.values() if each.stage is BuildStage.PLACE]
        return times + self._errands.wakes()
