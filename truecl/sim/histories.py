"""What masters ask of the log, and operators of applications, in one simulated world: for `truecl.sim.linear`."""

from dataclasses import replace
from typing import TYPE_CHECKING

from truecl.core.contract import Event, Output, Told
from truecl.model.ids import CLUSTERD, LOCKD, AppName, NodeName, Term
from truecl.model.ledger import RecordBoot, SetWanted, Wanted
from truecl.sim.cluster import Violation
from truecl.sim.linear import WISH, Call, Said, retried, said, unexplained
from truecl.sim.proposals import Proposals
from truecl.wire.messages import Applied, Leadership, Propose, Proposed, Reply

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine
    from truecl.sim.process import Process


class Histories:
    """A `Check` that gathers both; `judge` at the end of the day. Times are true ones."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.proposals = Proposals()
        self.wishes: list[Call] = []
        self.executors = 0
        """Rises whenever another clusterd, or the next life of one, may begin again what an operator asked for."""
        self._term = Term(0)
        """The latest that any clusterd heard of."""

    def judge(self) -> None:
        """Raises Violation."""
        for wrong in (self.proposals.unexplained(), unexplained(self.wishes, WISH)):
            if wrong is not None:
                story = "\n  ".join(str(call) for call in wrong)
                raise Violation(f"S4: no order explains the history of {wrong[0].object}:\n  {story}")

    # ---- operators --------------------------------------------------------------------------------------------------

    def asked(self, who: str, verb: str, app: AppName) -> "Wish":
        return Wish(self, who, verb, app, self._cluster.schedule.now)

    # ---- Check ------------------------------------------------------------------------------------------------------

    def started(self, process: "Process", output: Output) -> None:
        if process.daemon == CLUSTERD:
            self.executors += 1
            self.proposals.forget(process.machine.name)

    def powered_off(self, machine: "Machine") -> None:
        self.proposals.forget(machine.name)

    def handled(self, process: "Process", event: Event, output: Output) -> None:
        if process.daemon != CLUSTERD:
            return
        name, now = process.machine.name, self._cluster.schedule.now
        match event:
            case Told(who, Proposed() as message) if who == LOCKD:
                self.proposals.proposed(name, message)
            case Told(who, Leadership() as message) if who == LOCKD:
                self.executors += message.term > self._term
                self._term = max(self._term, message.term)
            case Told(who, Applied(ledger)) if who == LOCKD:
                self.proposals.applied(name, ledger, now)
            case _:
                pass
        for told in output.tell:
            if told.who == LOCKD and isinstance(told.message, Propose):
                self._cold_start(name, told.message)
                self.proposals.propose(name, told.message, now)

    def _cold_start(self, name: NodeName, message: Propose) -> None:
        """What does not start by itself is stopped by the first master after all nodes were down."""
        if any(isinstance(command, RecordBoot) for command in message.commands):
            for command in message.commands:
                if isinstance(command, SetWanted) and command.wanted is Wanted.STOPPED:
                    self.wishes.append(Call(name, command.app, "stop", "cold start", self._cluster.schedule.now))


class Wish:
    """One operator's command: open until its last reply is read."""

    def __init__(self, histories: Histories, who: str, verb: str, app: AppName, began: float) -> None:
        self._histories = histories
        self._text = ""
        self._call = Call(who, app, verb, "", began)
        self._executors = histories.executors
        self._place = len(histories.wishes)
        histories.wishes.append(self._call)

    def withdraw(self) -> None:
        """Nobody was there to be asked."""
        self._histories.wishes.pop(self._place)

    def heard(self, reply: Reply, now: float) -> None:
        if reply.progress is not None and not reply.progress.verbose:
            self._text = reply.progress.text
        if reply.code is not None:
            histories = self._histories
            answer = said(self._text) if self._text else None
            if answer == Said.NOTHING and reply.code == 0:
                answer = None  # the exit code overtook the last words: it was done, and nobody heard what
            call = histories.wishes[self._place] = replace(self._call, ended=now, answer=answer)
            if histories.executors != self._executors:  # the next one began it again
                histories.wishes.append(retried(call))
