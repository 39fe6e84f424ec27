"""What masters ask of locks, and operators of applications, in one simulated world: for `truecl.sim.linear`."""

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from truecl.core.contract import Event, Output, Told
from truecl.model.ids import CLUSTERD, LOCKD, AppName, Index, NodeName, Term
from truecl.model.ledger import FreeLock, Ledger, RecordBoot, SetWanted, TakeLock, Wanted
from truecl.sim.cluster import Violation
from truecl.sim.linear import LOCK, WISH, Call, Said, retried, said, unexplained
from truecl.wire.messages import Applied, Leadership, Propose, Proposed, Reply

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine
    from truecl.sim.process import Process


class Histories:
    """A `Check` that gathers both; `judge` at the end of the day. Times are true ones."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.locks: list[Call] = []
        self.wishes: list[Call] = []
        self.executors = 0
        """Rises whenever another clusterd, or the next life of one, may begin again what an operator asked for."""
        self._term = Term(0)
        """The latest that any clusterd heard of."""
        self._proposed: dict[NodeName, dict[int, tuple[Index | None, tuple[Call, ...]]]] = {}
        """By the node's clusterd: number of the proposal to its log index, once known, and its calls."""
        self._latest = Ledger()
        """The furthest that any lockd applied."""

    def judge(self) -> None:
        """Raises Violation."""
        left = [call for open in self._proposed.values() for _, calls in open.values() for call in calls]
        for wrong in (unexplained(self.locks + left, LOCK), unexplained(self.wishes, WISH)):
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
            self._forget(process.machine.name)

    def powered_off(self, machine: "Machine") -> None:
        self._forget(machine.name)

    def handled(self, process: "Process", event: Event, output: Output) -> None:
        if process.daemon == LOCKD:
            for told in output.tell:
                if isinstance(told.message, Applied):
                    self._advanced(told.message.ledger)
        if process.daemon != CLUSTERD:
            return
        open = self._proposed.setdefault(process.machine.name, {})
        match event:
            case Told(who, Proposed() as message) if who == LOCKD and message.number in open:
                _, calls = open.pop(message.number)
                if message.index is not None:
                    open[message.number] = message.index, calls
            case Told(who, Leadership() as message) if who == LOCKD:
                self.executors += message.term > self._term
                self._term = max(self._term, message.term)
            case Told(who, Applied(ledger)) if who == LOCKD:
                self._applied(open, ledger)
            case _:
                pass
        for told in output.tell:
            if told.who == LOCKD and isinstance(told.message, Propose):
                self._cold_start(process.machine.name, told.message)
                calls = tuple(self._calls(process.machine.name, told.message))
                if calls:
                    open[told.message.number] = None, calls

    def _advanced(self, ledger: Ledger) -> None:
        """A term's first command, whatever it is, frees the locks of earlier terms."""
        if ledger.term > self._latest.term:
            for name, lock in self._latest.locks.items():
                if name not in ledger.locks:
                    self.locks.append(Call("the log", name, "free", lock.token, self._cluster.schedule.now))
        self._latest = max(self._latest, ledger, key=lambda each: each.index)

    def _cold_start(self, name: NodeName, message: Propose) -> None:
        """What does not start by itself is stopped by the first master after all nodes were down."""
        if any(isinstance(command, RecordBoot) for command in message.commands):
            for command in message.commands:
                if isinstance(command, SetWanted) and command.wanted is Wanted.STOPPED:
                    self.wishes.append(Call(name, command.app, "stop", "cold start", self._cluster.schedule.now))

    def _calls(self, name: NodeName, message: Propose) -> list[Call]:
        now, found = self._cluster.schedule.now, []
        for command in message.commands:
            if isinstance(command, TakeLock):
                found.append(Call(name, command.name, "take", command.holder, now))
            elif isinstance(command, FreeLock):
                found.append(Call(name, command.name, "free", command.token, now))
        return found

    def _applied(self, open: dict[int, tuple[Index | None, tuple[Call, ...]]], ledger: Ledger) -> None:
        for number, (index, calls) in list(open.items()):
            if index is None or ledger.index < index:
                continue
            del open[number]
            for call in calls:
                self.locks.append(self._answered(call, ledger))

    def _answered(self, call: Call, ledger: Ledger) -> Call:
        """A leader that was deposed may have lost the entry: then what is seen is no answer to it."""
        lock = ledger.locks.get(call.object)
        answer: Any = None
        if call.verb == "take" and lock is not None:
            answer = (lock.holder, lock.token)
        ended = self._cluster.schedule.now if answer is not None else inf
        return Call(call.who, call.object, call.verb, call.argument, call.began, ended, answer)

    def _forget(self, name: NodeName) -> None:
        """Whoever waited for the answer has gone; what was asked may still come into force."""
        for _, calls in self._proposed.pop(name, {}).values():
            self.locks += calls


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
