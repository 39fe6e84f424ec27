"""syncd: one version of the configuration on every node.

The files in /etc/truecl are the truth of each node; this core holds the version that its node's daemons were last
given. On reqd's `Compare` it asks every node for its digest, and where one version is to go everywhere:

    GATHER    this node's files are read
    DIGESTS   every node says what it has; a difference ends it here, unless this node's version is to be brought
    STAGE     every node keeps this version beside its files; one that cannot ends it: nothing changed anywhere
    ACTIVATE  every node puts the staged version in force and tells its daemons

A question is sent again until answered (RESEND) and every stage ends with STAGE_TIME.

A command's `Bring` is the same with files of its own in the place of this node's, which have to be those that it began
with; nodes that do not answer are left behind. A node that finds itself behind (`Follow`: the log names a newer
version) asks all others for that one, and puts the first answer in force.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from truecl.core.contract import Connected, Done, Event, Joined, Left, Output, Received, Told
from truecl.core.outbox import Outbox
from truecl.core.rotation import DrawnRings, DrawRings, KeepRing, KeptRing, Rotation
from truecl.model.actions import Action
from truecl.model.config import Configuration
from truecl.model.ids import CLUSTERD, HBD, REQD, NodeName
from truecl.model.report import Progress, Severity
from truecl.wire.messages import (
    Activate,
    Activated,
    AskDigest,
    AskVersion,
    Bring,
    Compare,
    Compared,
    Digest,
    Follow,
    KeysTaken,
    Message,
    NewConfiguration,
    Refused,
    Reply,
    RotateKeys,
    Stage,
    Staged,
    Subscribe,
    TakeKeys,
    Version,
)

STAGE_TIME = 4.0
RESEND = 0.5
MAX_TEXT = 800 * 1024
"""Characters of all files together, so that they fit into one message."""
MAX_FILES = 1024
MAX_ACTIONS = 64
MAX_SUBSCRIBERS = 64
NAMED_FILES = 5
ROTATION = 10.0
"""Seconds after its last word in which another node's rotation of the keys counts as under way."""
SHORT = 8
FILE_NAME = re.compile(r"cluster\.yaml|apps/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.yaml")


class GatherFiles(Action, frozen=True):
    """Read this node's files. Result: Gathered."""


class StageFiles(Action, frozen=True):
    """Check these files and keep them beside the active ones. Result: StagedFiles."""

    digest: str
    files: dict[str, str]


class ActivateFiles(Action, frozen=True):
    """Put the staged version `digest` in force; harmless when it is already. Result: ActivatedFiles."""

    digest: str


class FinishActivation(Action, frozen=True):
    """At the start: finish what a crash cut short. Result: ActivatedFiles, empty for nothing to do."""


class Gathered(msgspec.Struct, frozen=True):
    """`configuration` is None exactly when there are `problems`."""

    configuration: Configuration | None
    problems: tuple[str, ...] = ()
    digest: str = ""
    files: dict[str, str] = {}
    hashes: dict[str, str] = {}
    """Name to SHA-256 of the text."""
    changed: str = ""
    """When the newest file was written, for people."""


class StagedFiles(msgspec.Struct, frozen=True):
    reason: str = ""


class ActivatedFiles(msgspec.Struct, frozen=True):
    configuration: Configuration | None
    reason: str = ""


class Phase(StrEnum):
    GATHER = "gather"
    DIGESTS = "digests"
    STAGE = "stage"
    ACTIVATE = "activate"


@dataclass
class _Comparison:
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


class Syncd:
    """The core. `configuration`: what this node's daemons run with. Keeps nothing itself: the files are the record."""

    def __init__(self, me: NodeName, configuration: Configuration) -> None:
        self.me = me
        self.configuration = configuration
        self._out = Outbox()
        self._subscribers: dict[str, None] = {}
        self._comparison: _Comparison | None = None
        self._asked: dict[int, tuple[NodeName, int, str]] = {}
        """Action id to the node that waits for its result (this one too), the number it gave, and a digest."""
        self._next = 1
        self._acting: dict[str, None] = {}
        """Who of the commands may change anything."""
        self._following: tuple[int, str] | None = None
        """Number and digest of the version that others were asked for."""
        self._rotation = Rotation(me, self._out, self._number, lambda message: self._keep_ring(me, message))
        self._rotates: tuple[NodeName, float] | None = None
        """Whose rotation of the keys this node takes part in, and until when nobody else's."""

    # ---- contract ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        self._asked[self._out.do(FinishActivation())] = (self.me, 0, "")
        return self._take()

    def handle(self, event: Event, now: float) -> Output:
        match event:
            case Told(who=who, message=message):
                self._told(who, message, now)
            case Received(node=node, message=message):
                self._received(node, message, now)
            case Done(id=id, result=result):
                self._done(id, result, now)
            case Joined(who=who, root=root):
                if root:
                    self._acting[who] = None
            case Left(who=who):
                self._subscribers.pop(who, None)
                self._acting.pop(who, None)
            case Connected(node=node):
                self._resend((node,))
            case _:
                pass
        self._wake(now)
        self._rotation.wake(now)
        return self._take()

    def _take(self) -> Output:
        now = self._comparison
        times = (now.deadline, now.resend_at) if now is not None else ()
        return self._out.take(*times, *self._rotation.wakes())

    def _number(self) -> int:
        number, self._next = self._next, self._next + 1
        return number

    def _told(self, who: str, message: Any, now: float) -> None:
        match message:
            case Subscribe():
                if len(self._subscribers) < MAX_SUBSCRIBERS:
                    self._subscribers[who] = None
                self._out.tell(who, NewConfiguration(self.configuration))
            case Compare() if who == REQD:
                self._compare(who, message, now)
            case Bring():
                self._bring(who, message, now)
            case RotateKeys():
                self._rotate(who, now)
            case Follow() if who == CLUSTERD:
                self._follow(message)
            case Refused():
                pass
            case _:
                self._out.tell(who, Refused(f"syncd does not take {type(message).__name__} from {who}"))

    # ---- for other nodes --------------------------------------------------------------------------------------------

    def _received(self, node: NodeName, message: Any, now: float) -> None:
        match message:
            case AskDigest() | Stage() | Activate():
                self._serve(node, message)
            case AskVersion():
                self._serve(node, message)
            case Version():
                self._take_version(node, message)
            case TakeKeys():
                self._take_keys(node, message, now)
            case KeysTaken():
                self._rotation.taken(node, message.number, message.reason, now)
            case Digest():
                self._answered(node, message.number, message, "", now)
            case Staged() | Activated():
                self._answered(node, message.number, message, message.reason, now)
            case _:
                pass

    def _serve(self, node: NodeName, message: AskDigest | AskVersion | Stage | Activate) -> None:
        """This node's share of a comparison, its own or another's: one action, whose result is the answer."""
        if len(self._asked) >= MAX_ACTIONS:
            return  # it asks again
        action: Action
        digest = ""
        if isinstance(message, AskDigest):
            action = GatherFiles()
        elif isinstance(message, AskVersion):
            digest, action = message.digest, GatherFiles()
        elif isinstance(message, Stage):
            digest = message.digest
            problem = unfit(message.files)
            if problem:
                self._reply(node, Staged(message.number, digest, problem))
                return
            action = StageFiles(digest, message.files)
        else:
            digest = message.digest
            action = ActivateFiles(digest)
        self._asked[self._out.do(action)] = (node, message.number, digest)

    def _done(self, id: int, result: Any, now: float) -> None:
        asked = self._asked.pop(id, None)
        if asked is None:
            return
        node, number, digest = asked
        match result:
            case Gathered():
                if node == self.me:
                    self._gathered(result, now)
                    return
                if digest:
                    if result.digest == digest and not unfit(result.files):
                        self._out.send(node, Version(number, digest, result.files))
                    return
                answer = Digest(
                    number, result.digest, result.problems[:NAMED_FILES], result.hashes, self.configuration.digest,
                    result.changed,
                )  # fmt: skip
                self._out.send(node, answer)
            case StagedFiles():
                self._reply(node, Staged(number, digest, result.reason), now)
            case ActivatedFiles():
                if result.configuration is not None:
                    self._activated(result.configuration)
                self._reply(node, Activated(number, digest, result.reason), now)
            case DrawnRings():
                self._rotation.drawn(result, now)
            case KeptRing():
                self._kept_ring(node, number, result.reason, now)

    def _reply(self, node: NodeName, message: Staged | Activated, now: float = 0.0) -> None:
        if node == self.me and self._following is not None and message.number == self._following[0]:
            self._followed(message)
        elif node == self.me:
            self._answered(node, message.number, message, message.reason, now)
        else:
            self._out.send(node, message)

    def _activated(self, configuration: Configuration) -> None:
        if configuration == self.configuration:
            return
        self.configuration = configuration
        for who in self._subscribers:
            self._out.tell(who, NewConfiguration(configuration))

    # ---- the keys of heartbeats -------------------------------------------------------------------------------------

    def _rotate(self, who: str, now: float) -> None:
        problem = "" if who in self._acting else "only root changes the keys"
        if self._rotation.under_way:
            problem = "the keys are being rotated already"
        elif self._rotates is not None and now < self._rotates[1]:
            problem = f"{self._rotates[0]} rotates the keys, or has just done so: try again in {ROTATION:g} s"
        if problem:
            self._out.tell(who, Refused(problem))
            return
        self._rotation.begin(who, tuple(node.name for node in self.configuration.cluster.nodes))
        self._asked[self._out.do(DrawRings())] = (self.me, 0, "")

    def _take_keys(self, node: NodeName, message: TakeKeys, now: float) -> None:
        """One node's rotation at a time: of two, each would take away what the other's nodes seal with."""
        other = self._rotates is not None and self._rotates[0] != node and now < self._rotates[1]
        if self._rotation.under_way or other:
            self._out.send(node, KeysTaken(message.number, "another node rotates the keys at the moment"))
            return
        self._rotates = (node, now + ROTATION)
        self._keep_ring(node, message)

    def _keep_ring(self, node: NodeName, message: TakeKeys) -> None:
        if len(self._asked) < MAX_ACTIONS:
            self._asked[self._out.do(KeepRing(message.text))] = (node, message.number, "")

    def _kept_ring(self, node: NodeName, number: int, reason: str, now: float) -> None:
        if not reason and HBD in self._subscribers:
            self._out.tell(HBD, NewConfiguration(self.configuration))
        if node == self.me:
            self._rotation.taken(node, number, reason, now)
        else:
            self._out.send(node, KeysTaken(number, reason))

    # ---- behind -----------------------------------------------------------------------------------------------------

    def _follow(self, message: Follow) -> None:
        """Asked again and again by clusterd until it is so: an earlier try that came to nothing is forgotten."""
        if self._comparison is not None or message.digest == self.configuration.digest:
            return
        number = self._number()
        self._following = (number, message.digest)
        for node in self.configuration.cluster.nodes:
            if node.name != self.me:
                self._out.send(node.name, AskVersion(number, message.digest))

    def _take_version(self, node: NodeName, message: Version) -> None:
        if self._following == (message.number, message.digest):
            self._serve(self.me, Stage(message.number, message.digest, message.files))

    def _followed(self, message: Staged | Activated) -> None:
        if self._following is None or message.reason or isinstance(message, Activated):
            self._following = None
        else:
            self._serve(self.me, Activate(message.number, message.digest))

    # ---- a comparison -----------------------------------------------------------------------------------------------

    def _bring(self, who: str, message: Bring, now: float) -> None:
        problem = "" if who in self._acting else "only root changes the configuration"
        if problem or (problem := unfit(message.files)):
            self._out.tell(who, Refused(problem))
        else:
            self._compare(who, message, now)

    def _compare(self, who: str, request: Compare | Bring, now: float) -> None:
        if self._comparison is not None:
            wrong = {self.me: "another comparison of configurations is under way; try again"}
            self._tell_end(who, request, self.configuration.digest, wrong)
            return
        number = self._number()
        self._comparison = _Comparison(who, request, number, waiting=[self.me], deadline=now + STAGE_TIME)
        self._comparison.resend_at = self._comparison.deadline
        self._asked[self._out.do(GatherFiles())] = (self.me, number, "")

    def _gathered(self, mine: Gathered, now: float) -> None:
        comparison = self._comparison
        if comparison is None or comparison.phase is not Phase.GATHER:
            return
        request = comparison.request
        problem = "; ".join(mine.problems) if mine.configuration is None else unfit(mine.files)
        if isinstance(request, Bring) and not problem:
            if mine.digest not in (request.base, request.digest):
                problem = f"the files here are another version ({mine.digest[:SHORT]}) than the change began with"
            mine = Gathered(mine.configuration, (), request.digest, request.files)
        comparison.mine = mine
        if problem:
            comparison.wrong[self.me] = problem
            self._finish()
            return
        self._enter(Phase.DIGESTS, [node for node in request.nodes if node != self.me], now)

    def _enter(self, phase: Phase, nodes: list[NodeName], now: float) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        comparison.phase, comparison.waiting = phase, list(nodes)
        comparison.deadline, comparison.resend_at = now + STAGE_TIME, now + RESEND
        if not nodes:
            self._phase_done(now)
            return
        self._resend(tuple(node for node in nodes if node != self.me))
        if self.me in nodes:
            self._serve(self.me, self._question(comparison))

    def _question(self, comparison: _Comparison) -> AskDigest | Stage | Activate:
        if comparison.phase is Phase.STAGE:
            return Stage(comparison.number, comparison.mine.digest, comparison.mine.files)
        if comparison.phase is Phase.ACTIVATE:
            return Activate(comparison.number, comparison.mine.digest)
        return AskDigest(comparison.number)

    def _resend(self, nodes: tuple[NodeName, ...]) -> None:
        comparison = self._comparison
        if comparison is None or comparison.phase is Phase.GATHER:
            return
        for node in nodes:
            if node in comparison.waiting and node != self.me:
                self._out.send(node, self._question(comparison))

    def _answered(self, node: NodeName, number: int, answer: Message, reason: str, now: float) -> None:
        comparison = self._comparison
        if comparison is None or number != comparison.number or node not in comparison.waiting:
            return
        if _ANSWERS.get(comparison.phase) is not type(answer):
            return  # late, of the stage before
        if isinstance(answer, Staged | Activated) and answer.digest != comparison.mine.digest:
            return
        comparison.waiting.remove(node)
        if isinstance(answer, Digest):
            comparison.digests[node] = answer
        if reason:
            comparison.wrong[node] = reason
        if not comparison.waiting:
            self._phase_done(now)

    def _phase_done(self, now: float) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        if comparison.phase is Phase.DIGESTS:
            self._judge(comparison, now)
        elif comparison.phase is Phase.STAGE and not comparison.wrong:
            self._enter(Phase.ACTIVATE, self._behind(comparison), now)
        else:
            self._finish()

    def _judge(self, comparison: _Comparison, now: float) -> None:
        request = comparison.request
        if isinstance(request, Compare) and not request.sync:
            for node, theirs in comparison.digests.items():
                if theirs.digest != comparison.mine.digest:
                    comparison.wrong[node] = difference(comparison.mine, theirs)
        if comparison.wrong:
            self._finish()
            return
        self._enter(Phase.STAGE, self._behind(comparison), now)

    def _behind(self, comparison: _Comparison) -> list[NodeName]:
        """Nodes that have other files, or daemons that were given another version."""
        digest = comparison.mine.digest
        behind = [
            node for node, theirs in comparison.digests.items() if theirs.digest != digest or theirs.active != digest
        ]
        return [*behind, self.me] if self.configuration.digest != digest else behind

    def _finish(self) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        self._comparison = None
        for node in comparison.left:
            text = f"{node} does not answer: it gets the new configuration when it is back"
            self._out.tell(comparison.who, Reply("", Progress(text, Severity.WARN, verbose=False)))
        self._tell_end(comparison.who, comparison.request, comparison.mine.digest, comparison.wrong)

    def _tell_end(self, who: str, request: Compare | Bring, digest: str, wrong: dict[NodeName, str]) -> None:
        if isinstance(request, Compare):
            self._out.tell(who, Compared(request.number, digest, wrong))
            return
        for node, problem in sorted(wrong.items()):
            self._out.tell(who, Reply("", Progress(f"{node}: {problem}", Severity.ERROR, verbose=False)))
        self._out.tell(who, Reply("", code=1 if wrong else 0))

    def _wake(self, now: float) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        if now >= comparison.deadline:
            silent, comparison.waiting = comparison.waiting, []
            if comparison.phase is Phase.DIGESTS and isinstance(comparison.request, Bring):
                comparison.left = silent
            else:
                comparison.wrong |= dict.fromkeys(silent, _SILENT[comparison.phase])
            if comparison.phase is Phase.DIGESTS:
                self._judge(comparison, now)
            else:
                self._finish()
        elif now >= comparison.resend_at:
            comparison.resend_at = now + RESEND
            self._resend(tuple(comparison.waiting))


_ANSWERS: dict[Phase, type[Message]] = {Phase.DIGESTS: Digest, Phase.STAGE: Staged, Phase.ACTIVATE: Activated}
_SILENT = {
    Phase.GATHER: "its files could not be read in time",
    Phase.DIGESTS: "its syncd does not answer",
    Phase.STAGE: "its syncd did not take the new version in time; nothing was changed anywhere",
    Phase.ACTIVATE: "has the new version staged and did not confirm it; run lha_form --sync again",
}


def unfit(files: dict[str, str]) -> str:
    """Why these files cannot travel or be kept; '' if they can."""
    if len(files) > MAX_FILES:
        return f"there are {len(files)} files; {MAX_FILES} are the most"
    for name in files:
        if FILE_NAME.fullmatch(name) is None:
            return f"{name[:100]!r} is no name of a configuration file"
    size = sum(len(text.encode()) for text in files.values())
    if size > MAX_TEXT:
        return f"the files have {size} bytes together; {MAX_TEXT} are the most"
    return ""


def difference(mine: Gathered, theirs: Digest) -> str:
    """What an operator needs to find out which version is the right one."""
    if not theirs.digest:
        return f"its configuration cannot be read: {'; '.join(theirs.problems) or 'no reason given'}"
    names = sorted({*mine.hashes, *theirs.files})
    differing = [name for name in names if mine.hashes.get(name) != theirs.files.get(name)]
    named = ", ".join(_named(name, mine, theirs) for name in differing[:NAMED_FILES])
    more = ", ..." if len(differing) > NAMED_FILES else ""
    of = f" of {theirs.changed}" if theirs.changed else ""
    count = "1 file differs" if len(differing) == 1 else f"{len(differing)} files differ"
    text = f"has version {theirs.digest[:SHORT]}{of} ({count}: {named}{more})"
    return f"{text}; with a problem: {theirs.problems[0]}" if theirs.problems else text


def _named(name: str, mine: Gathered, theirs: Digest) -> str:
    if name not in theirs.files:
        return f"{name} is missing there"
    return f"{name} is only there" if name not in mine.hashes else name
