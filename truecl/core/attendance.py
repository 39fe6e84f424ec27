"""Answers what lha_form and lha_dissolve, on any node, ask of this node's daemons: start these, stop those, who is up?

A question is answered when all of it is done, or when its time is over, with how far it came. Whether the cluster is
formed is remembered durably: a node that was part of it comes back by itself after a reboot. So is that it was removed.
"""

from typing import Any

from truecl.core.contract import Records
from truecl.core.outbox import Outbox
from truecl.core.supervisor import Supervisor
from truecl.model.actions import ConfigurationRead, ReadConfiguration
from truecl.model.config import Configuration
from truecl.model.ids import NodeName
from truecl.wire.messages import AskDaemons, DaemonsUp, StartDaemons, StopDaemons

QUESTION_TIME = 8.0
"""Seconds until a question about daemons that do not start or stop is answered all the same."""
MAX_QUESTIONS = 64
"""Open at a time; the oldest is given up."""

Question = StartDaemons | StopDaemons | AskDaemons


class Attendance:
    """`now` is set by reqd's core before each event. This node's answers to itself wait in `take_own`."""

    def __init__(self, me: NodeName, records: Records, supervisor: Supervisor, outbox: Outbox, now: float) -> None:
        self.me = me
        self.now = now
        self.formed = records.get("formed", {}).get("formed") == b"1"
        self.removed = records.get("formed", {}).get("removed") == b"1"
        """A member said that this node is no part of the cluster any more."""
        self._supervisor = supervisor
        self._out = outbox
        self._open: dict[tuple[NodeName, int], tuple[StartDaemons | StopDaemons, float]] = {}
        self._readings: dict[int, tuple[NodeName, int]] = {}
        self._own: list[DaemonsUp] = []

    @property
    def wake_at(self) -> float | None:
        return min((deadline for _, deadline in self._open.values()), default=None)

    def take_own(self) -> list[DaemonsUp]:
        own, self._own = self._own, []
        return own

    def ask_self(self, message: Any) -> None:
        """From this node's own formation."""
        self.ask(self.me, message)

    def ask(self, node: NodeName, message: Question) -> None:
        if isinstance(message, AskDaemons):
            if len(self._readings) < MAX_QUESTIONS:
                self._readings[self._out.do(ReadConfiguration())] = (node, message.number)
            return
        if len(self._open) >= MAX_QUESTIONS:
            del self._open[next(iter(self._open))]
        self._open[(node, message.number)] = (message, self.now + QUESTION_TIME)
        if isinstance(message, StartDaemons):
            self._supervisor.start(message.daemons)
            if message.formed:
                self._remember(True, removed=False)
        else:
            if not message.formed:
                self._remember(False, removed=message.removed or self.removed)
            self._supervisor.stop(message.daemons)
        self.answer_ripe()

    def answer_ripe(self) -> None:
        """Answer what is done, and what will not be done in time with how far it came."""
        up, alive = self._supervisor.up(), self._supervisor.alive()
        for (node, number), (message, deadline) in list(self._open.items()):
            if isinstance(message, StartDaemons):
                missing = [daemon for daemon in message.daemons if daemon not in up]
            else:
                missing = [daemon for daemon in message.daemons if daemon in alive]
            if missing and self.now < deadline:
                continue
            del self._open[(node, number)]
            states = self._supervisor.states()
            reason = ", ".join(f"{daemon} {states[daemon]}" for daemon in missing)
            self._answer(node, DaemonsUp(number, up, reason, formed=self.formed))

    def configuration_read(self, id: int, result: ConfigurationRead) -> Configuration | None:
        """The end of a reading that a question began. Returns what this daemon shall go by from now on: the files as
        they are, as long as no other daemon runs with older ones."""
        node, number = self._readings.pop(id, (None, 0))
        if node is None:
            return None
        configuration = result.configuration
        digest = configuration.digest if configuration is not None else ""
        reason = "; ".join(result.problems[:5])
        self._answer(node, DaemonsUp(number, self._supervisor.up(), reason, digest, self.formed))
        return configuration if not self._supervisor.alive() else None

    def _remember(self, formed: bool, removed: bool) -> None:
        self.formed, self.removed = formed, removed
        self._out.put("formed", "formed", b"1" if formed else b"0")
        self._out.put("formed", "removed", b"1" if removed else b"0")

    def _answer(self, node: NodeName, message: DaemonsUp) -> None:
        if node == self.me:
            self._own.append(message)
        else:
            self._out.send(node, message)
