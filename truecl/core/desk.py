"""Operators' requests on the node where they were made: to the master, again when it changes or nothing comes back.

Every request has an id, so that the master serves it once however often it comes (`truecl.core.operations`).
"""

from collections.abc import Callable

from truecl.core.outbox import Outbox
from truecl.core.situation import Situation
from truecl.model.ids import NodeName
from truecl.model.report import Progress, Severity
from truecl.wire.messages import Refused, Reply, Request

PASS_AGAIN = 2.0
"""Seconds after which a request without an end is passed on again: it, its reply or the master's memory may be lost."""
MAX_REQUESTS = 64
NO_MASTER = "no master at the moment; waiting for an election"


class Desk:
    """`begin` is called with a request, and this node's name, that this node as the leader is to serve itself."""

    def __init__(self, situation: Situation, outbox: Outbox, begin: Callable[[Request, NodeName], None]) -> None:
        self._situation, self._out, self._begin = situation, outbox, begin
        self._acting: dict[str, None] = {}
        """Who on this node may change anything; others may look."""
        self._requests: dict[str, tuple[str, Request]] = {}
        """Of commands on this node: id to who asked, and what."""
        self._passed: dict[str, NodeName] = {}
        """To whom each went last. Only its word is heard: by that of an earlier master the operator would go on while
        what he asked for may be done once more."""
        self._waiting: dict[str, None] = {}
        """Those that were told that there is no master."""
        self._pass_at: float | None = None

    def joined(self, who: str, root: bool) -> None:
        if root:
            self._acting[who] = None

    def left(self, who: str) -> None:
        self._acting.pop(who, None)
        for id in [id for id, (asker, _) in self._requests.items() if asker == who]:
            self._forget(id)  # the operation goes on, if a master took it; nobody listens

    def request(self, who: str, request: Request) -> None:
        if who not in self._acting:
            self._out.tell(who, Refused("only root starts, stops and moves applications, and fences nodes"))
            return
        if len(self._requests) >= MAX_REQUESTS:
            self._out.tell(who, Refused("too many requests at once; try again"))
            return
        self._requests[request.id] = (who, request)
        self._pass_at = self._pass_at or self._situation.now + PASS_AGAIN
        if self._situation.leadership.leader is None:
            self._waiting[request.id] = None
            self._out.tell(who, Reply(request.id, Progress(NO_MASTER, Severity.WARN)))
        else:
            self._pass_on(request)

    def pass_all(self) -> None:
        """There is a new leader."""
        for _, request in list(self._requests.values()):
            self._pass_on(request)

    def pass_again(self) -> None:
        if self._pass_at is None or self._situation.now < self._pass_at:
            return
        self._pass_at = self._situation.now + PASS_AGAIN if self._requests else None
        self.pass_all()

    def answer(self, origin: NodeName, reply: Reply) -> None:
        """The master's word on a request made on `origin`."""
        if origin == self._situation.me:
            self.reply(reply, self._situation.me)
        else:
            self._out.send(origin, reply)

    def reply(self, reply: Reply, node: NodeName) -> None:
        """A master's word on a request made here."""
        asked = self._requests.get(reply.id)
        if asked is not None and self._passed.get(reply.id) == node:
            self._out.tell(asked[0], reply)
            if reply.code is not None:
                self._forget(reply.id)

    def wakes(self) -> list[float]:
        return [self._pass_at] if self._pass_at is not None else []

    def _forget(self, id: str) -> None:
        del self._requests[id]
        self._passed.pop(id, None)
        self._waiting.pop(id, None)

    def _pass_on(self, request: Request) -> None:
        leader = self._situation.leadership.leader
        if leader is not None:
            self._passed[request.id] = leader
        if leader is not None and request.id in self._waiting:
            del self._waiting[request.id]
            who, _ = self._requests[request.id]
            self._out.tell(who, Reply(request.id, Progress(f"{leader} is the master, and has the request")))
        if leader == self._situation.me:
            self._begin(request, self._situation.me)
        elif leader is not None:
            self._out.send(leader, request)
