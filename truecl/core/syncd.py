"""syncd: one version of the configuration on every node.

The files in /etc/truecl are the truth of each node; this core holds the version that its node's daemons were last
given. On reqd's `Compare` it compares that of all nodes, on a command's `Bring` it brings another one everywhere
(truecl/core/comparison.py). A node that finds itself behind (`Follow`: the log names a newer version) asks all others
for that one, and puts the first answer in force.
"""

from typing import Any

from truecl.core.comparison import Comparison
from truecl.core.contract import Connected, Done, Event, Joined, Left, Output, Received, Told
from truecl.core.outbox import Outbox
from truecl.core.rotation import DrawnRings, DrawRings, KeepRing, KeptRing, Rotation
from truecl.core.versions import (
    NAMED_FILES,
    ActivatedFiles,
    ActivateFiles,
    FinishActivation,
    Gathered,
    GatherFiles,
    StagedFiles,
    StageFiles,
    unfit,
)
from truecl.model.actions import Action
from truecl.model.config import Configuration
from truecl.model.ids import CLUSTERD, HBD, REQD, NodeName
from truecl.wire.messages import (
    Activate,
    Activated,
    AskDigest,
    AskVersion,
    Bring,
    Compare,
    Digest,
    Follow,
    KeysTaken,
    NewConfiguration,
    Refused,
    RotateKeys,
    Stage,
    Staged,
    Subscribe,
    TakeKeys,
    Version,
)

MAX_ACTIONS = 64
MAX_SUBSCRIBERS = 64
ROTATION = 10.0
"""Seconds after its last word in which another node's rotation of the keys counts as under way."""


class Syncd:
    """The core. `configuration`: what this node's daemons run with. Keeps nothing itself: the files are the record."""

    def __init__(self, me: NodeName, configuration: Configuration) -> None:
        self.me = me
        self.configuration = configuration
        self._out = Outbox()
        self._subscribers: dict[str, None] = {}
        self._asked: dict[int, tuple[NodeName, int, str]] = {}
        """Action id to the node that waits for its result (this one too), the number it gave, and a digest."""
        self._next = 1
        self._acting: dict[str, None] = {}
        """Who of the commands may change anything."""
        self._following: tuple[int, str] | None = None
        """Number and digest of the version that others were asked for."""
        self._comparison = Comparison(
            me, self._out, self._number, self._gather, lambda question: self._serve(me, question),
            lambda: self.configuration.digest,
        )  # fmt: skip
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
                self._comparison.resend((node,))
            case _:
                pass
        self._comparison.wake(now)
        self._rotation.wake(now)
        return self._take()

    def _take(self) -> Output:
        return self._out.take(*self._comparison.wakes(), *self._rotation.wakes())

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
                self._comparison.begin(who, message, now)
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

    def _bring(self, who: str, message: Bring, now: float) -> None:
        problem = "" if who in self._acting else "only root changes the configuration"
        if problem or (problem := unfit(message.files)):
            self._out.tell(who, Refused(problem))
        else:
            self._comparison.begin(who, message, now)

    # ---- for other nodes --------------------------------------------------------------------------------------------

    def _received(self, node: NodeName, message: Any, now: float) -> None:
        match message:
            case AskDigest() | AskVersion() | Stage() | Activate():
                self._serve(node, message)
            case Version():
                self._take_version(node, message)
            case TakeKeys():
                self._take_keys(node, message, now)
            case KeysTaken():
                self._rotation.taken(node, message.number, message.reason, now)
            case Digest() | Staged() | Activated():
                self._comparison.answered(node, message, now)
            case _:
                pass

    def _gather(self, number: int) -> None:
        self._asked[self._out.do(GatherFiles())] = (self.me, number, "")

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
                    self._comparison.gathered(result, now)
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
            self._comparison.answered(node, message, now)
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
        if self._comparison.under_way or message.digest == self.configuration.digest:
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
