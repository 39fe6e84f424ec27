"""One lha_buildapp on the master.

    LOCK -> LOOK -> one of:  WORK (nodes make something)  -> LOOK
                             WRITE (the log is told)      -> LOOK
                             PLACE -> BUILD (a generation finds or makes file systems) -> LOOK
                             RECORD                       -> FREE -> DONE
                             an end, or a question        -> FREE -> DONE

What is to be done follows from each look anew (`truecl.core.assess`). Two builds of one application never write to its
volumes at once, whoever is master: file systems are made by a granted generation, of which the log allows one, on the
node that its lease names; and what nodes make without one is their own (a volume that was not there, metadata of DRBD
where none were), never in the place of what is there but what the operator was shown.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from truecl.core import assess, validation, wishes
from truecl.core.assess import FILESYSTEM, Given, Next
from truecl.core.errands import QUICK, Errands
from truecl.core.layouts import layout_of
from truecl.core.ledger import app_state
from truecl.core.levels import OLD_RELEASE, knows
from truecl.core.situation import Situation
from truecl.model.build import Look, Question, Seen, Work
from truecl.model.config import AppConfig
from truecl.model.ids import NO_GENERATION, Generation, NodeName
from truecl.model.ledger import AnyCommand, Build, Format, FreeLock, RecordBuild, TakeLock, Wanted
from truecl.model.report import Phase, Progress, Severity
from truecl.wire.messages import BuildWish, Request

WORK_TIME = 300.0
"""Seconds for a node to make what it was asked for."""
LOOK_TIME = 30.0
PLACE_TIME = 40.0
"""Seconds until a node has to be there that the build's generation can be given to."""
MAX_ROUNDS = 24


class BuildStage(StrEnum):
    LOCK = "lock"
    LOOK = "look"
    WORK = "work"
    WRITE = "write"
    PLACE = "place"
    BUILD = "build"
    RECORD = "record"
    FREE = "free"
    DONE = "done"


def problem(request: Request, situation: Situation) -> str:
    """Why a request cannot even be tried; '' if it can."""
    app = situation.configuration.app(request.app)
    if app is None:
        names = ", ".join(each.name for each in situation.configuration.apps) or "none"
        return f"unknown application '{request.app}'; configured: {names}"
    if request.build is None:
        return "'build' without a wish"
    if not knows(situation.ledger, RecordBuild):
        return OLD_RELEASE
    return wishes.problem(request.build, request.node, app, situation)


@dataclass
class BuildOperation:
    """`origin`: the node whose clusterd asked. `code`, `text` and `question` are set when the outcome is known."""

    request: Request
    wish: BuildWish
    origin: NodeName
    asked_at: float
    stage: BuildStage = BuildStage.LOCK
    code: int | None = None
    text: str = ""
    question: Question | None = None
    told: bool = False
    told_lock: bool = False
    progress: list[Progress] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """The operator's, for the history."""
    formats: tuple[Format, ...] = ()
    """Of the generation that it wants."""
    until: float = 0.0
    """When what it waits for is late."""
    _after: Generation = NO_GENERATION
    """The application's last generation before that."""
    _round: int = 0
    _errand: str = ""
    _acts: int = 0
    """So much was done for it."""
    _found: dict[str, str] | None = None
    _seen: dict[NodeName, Seen] = field(default_factory=dict)
    _told_away: bool = False
    _told_lines: dict[Progress, None] = field(default_factory=dict)

    @property
    def lock(self) -> str:
        return f"application {self.request.app}"

    def end(self, code: int, text: str) -> None:
        self.code, self.text, self.stage = code, text, BuildStage.FREE

    # ---- one pass ---------------------------------------------------------------------------------------------------

    def step(self, situation: Situation, errands: Errands) -> list[AnyCommand]:
        """The commands that bring it on, all for one entry."""
        ledger, app = situation.ledger, situation.configuration.app(self.request.app)
        lock = ledger.locks.get(self.lock)
        mine = lock is not None and lock.holder == self.request.id
        if self.stage is BuildStage.LOCK:
            if lock is None:
                return [TakeLock(self.lock, self.request.id)]
            if not mine:
                return []
            self._look(situation, errands)
        if app is None and self.code is None:
            self.end(1, f"application '{self.request.app}' is not in the configuration any more")
        if app is not None and self.code is None:
            commands = self._advance(situation, errands, app)
            if commands:
                return commands
        if self.stage is BuildStage.FREE:
            if mine and lock is not None:
                return [FreeLock(self.lock, lock.token)]
            self.stage = BuildStage.DONE
        return []

    def _advance(self, situation: Situation, errands: Errands, app: AppConfig) -> list[AnyCommand]:
        match self.stage:
            case BuildStage.LOOK | BuildStage.WORK:
                seen = errands.seen(self._errand)
                if seen is None:
                    return []
                if self.stage is BuildStage.WORK:
                    self._worked(seen)
                    if self.code is None:
                        self._look(situation, errands)
                    return []
                self._seen = seen
                return self._decide(situation, errands, app)
            case BuildStage.WRITE:
                self._look(situation, errands)  # which finds what came of it
            case BuildStage.PLACE | BuildStage.BUILD:
                self._follow(situation, errands)
            case BuildStage.RECORD:
                return self._record(situation, app)
        return []

    def _look(self, situation: Situation, errands: Errands) -> None:
        app = situation.configuration.app(self.request.app)
        nodes = [node for node in app.nodes if node in situation.heard()] if app is not None else []
        if app is None or not nodes:
            self.end(1, f"no node of '{self.request.app}' is up")
            return
        away = [node for node in app.nodes if node not in nodes]
        if not self._told_away:
            self._say(f"Checking application '{app.name}' on {','.join(nodes)} ...")
            for node in away:
                self._say(f"{node} : is not up, so it is not checked, and no valid node", Severity.WARN)
        self._told_away = True
        layout = layout_of(situation.configuration, situation.ledger, app.name)
        self._ask(situation, errands, {node: Look(layout) for node in nodes}, LOOK_TIME)
        self.stage = BuildStage.LOOK

    def _ask(self, situation: Situation, errands: Errands, works: dict[NodeName, Work], timeout: float) -> None:
        """Of another master, or another round, the id is another one."""
        self._round += 1
        self._errand = f"{self.request.id} {situation.leadership.term} {self._round}"
        if self._round > MAX_ROUNDS:
            self.end(1, "what nodes say does not settle; lha_log shows what happened")
            return
        errands.ask(self._errand, self.request.app, works, timeout)

    def _decide(self, situation: Situation, errands: Errands, app: AppConfig) -> list[AnyCommand]:
        given = self._given(situation, app)
        special = wishes.decide(given, self.request, self._acts)
        found = special or assess.assess(given)
        self.progress += [line for line in found.lines if line not in self._told_lines]
        self._told_lines |= dict.fromkeys(found.lines)
        self.words += [found.word] if found.word else []
        self._acts += bool(found.works or found.commands)
        if found.refusal:
            self.end(1, found.refusal)
            if special is None and app.name in situation.ledger.builds:
                return [RecordBuild(app.name, None)]
        elif found.done:
            self.end(0, found.done)
        elif found.question is not None:
            self.question = found.question
            self.end(1, "")
        elif found.works:
            self._ask(situation, errands, found.works, WORK_TIME)
            self.stage = BuildStage.WORK if self.code is None else self.stage
        elif found.commands:
            self.stage = BuildStage.WRITE
            return list(found.commands)
        elif found.formats:
            self._place(situation, found)
        elif found.ready:
            self.stage = BuildStage.RECORD
            return self._record(situation, app)
        return []

    def _given(self, situation: Situation, app: AppConfig) -> Given:
        lock = situation.ledger.locks.get(self.lock)
        return Given(
            app, situation.configuration.cluster, situation.ledger, self.wish, self._seen,
            str(lock.token if lock is not None else 0), self._found, self.request.at,
        )  # fmt: skip

    def _worked(self, seen: dict[NodeName, Seen]) -> None:
        for node, each in seen.items():
            self.progress += [Progress(f"{node} : {text}") for text in each.done]
            self.progress += [Progress(f"{node} : {text}", Severity.WARN, verbose=False) for text in each.warnings]
            self.progress += [Progress(f"{node} : {text}", Severity.ERROR, verbose=False) for text in each.problems]
        failed = [node for node, each in seen.items() if each.problems]
        if failed:
            text = f"not everything could be done on {','.join(failed)}; the same command goes on when that is mended"
            self.end(1, text)

    def _record(self, situation: Situation, app: AppConfig) -> list[AnyCommand]:
        given = self._given(situation, app)
        build = Build(validation.digest(app), tuple(self._seen), assess.kept(given), self.request.at)
        known = situation.ledger.builds.get(app.name)
        if known != build:
            return [RecordBuild(app.name, build)]
        self._say(f"Valid nodes: {','.join(build.nodes)}")
        self.end(0, f"Application '{app.name}' Validated successfully [RC=0].")
        return []

    # ---- a generation of its own ------------------------------------------------------------------------------------

    def _place(self, situation: Situation, found: Next) -> None:
        ended = app_state(situation.ledger, self.request.app).ended
        self._after = ended.generation if ended is not None else NO_GENERATION
        self.formats, self.stage, self.until = found.formats, BuildStage.PLACE, situation.now + PLACE_TIME
        self._found = {}

    @property
    def wants_generation(self) -> bool:
        return self.stage is BuildStage.PLACE

    def _follow(self, situation: Situation, errands: Errands) -> None:
        state = app_state(situation.ledger, self.request.app)
        if self.stage is BuildStage.PLACE and state.grant is not None:
            if state.grant.build != self.formats:
                self.end(1, f"somebody started '{self.request.app}'")
                return
            self.stage = BuildStage.BUILD
        elif self.stage is BuildStage.PLACE and situation.now >= self.until:
            self.end(1, f"no node of '{self.request.app}' can take its storage up now; lha_stat shows why")
            return
        if self.stage is not BuildStage.BUILD:
            return
        report = situation.owners_report(self.request.app)
        if report is not None and report.phase in (Phase.RUNNING, Phase.STOPPING, Phase.CLOSED):
            self._found = {name.removeprefix(FILESYSTEM): value for name, value in report.facts}
        if report is not None and report.phase is Phase.NEEDS_FENCE:
            self.end(1, f"its storage cannot be taken down again: {report.reason}; lha_stat says what helps")
        elif state.grant is None:
            self._closed(situation, errands)

    def _closed(self, situation: Situation, errands: Errands) -> None:
        ended = app_state(situation.ledger, self.request.app).ended
        if self._found is not None and len(self._found) == len(self.formats):
            self._look(situation, errands)
        else:
            reason = ended.reason if ended is not None and ended.reason else "its node was lost"
            where = ended.node if ended is not None else "its node"
            self.end(1, f"the file systems could not be looked at on {where}: {reason}")

    def _say(self, text: str, severity: Severity = Severity.LOG) -> None:
        self.progress.append(Progress(text, severity, verbose=severity is Severity.LOG))


@dataclass
class Validation:
    """Before an operator's start or move: is all as lha_buildapp found it? `refusal` None: not yet known."""

    request: Request
    origin: NodeName
    asked_at: float
    refusal: str | None = None
    _errand: str = ""

    def step(self, situation: Situation, errands: Errands) -> None:
        app, ledger = situation.configuration.app(self.request.app), situation.ledger
        if app is None or not knows(ledger, RecordBuild):
            self.refusal = ""
            return
        state, build = app_state(ledger, app.name), ledger.builds.get(app.name)
        if self.request.verb == "start" and state.wanted is Wanted.RUNNING:
            self.refusal = ""  # it was started before: to say so does no harm
            return
        early = validation.refusal(app, build, {})
        if early or build is None or not validation.scripts(build):
            self.refusal = early
            return
        nodes = [node for node in build.nodes if node in app.nodes and node in situation.heard()]
        if not self._errand:
            self._errand = f"{self.request.id} {situation.leadership.term} validation"
            errands.ask(self._errand, app.name, {node: Look(quick=True) for node in nodes}, QUICK)
        seen = errands.seen(self._errand)
        if seen is not None:
            self.refusal = validation.refusal(app, build, seen)
