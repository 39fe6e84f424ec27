"""Watches over what is frozen (SAFETY.md 2): only an answer to a request that was sent after the freeze, and that names
the generation, lets it go on."""

from typing import TYPE_CHECKING

from truecl.core.contract import Done, Event, Output, Told
from truecl.model.actions import FreezeGroup, StepResult
from truecl.model.ids import LOCKD, REQD
from truecl.model.step import Instance
from truecl.sim.cluster import Violation
from truecl.wire.messages import Renew, Renewed

if TYPE_CHECKING:
    from truecl.sim.machine import Machine
    from truecl.sim.process import Process


class Thawing:
    """A check of the cluster. Forgets a life of reqd with its end: what it left frozen may only be killed."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}
        self.freezes = 0
        self.thaws = 0

    def started(self, process: "Process", output: Output) -> None:
        if process.daemon == REQD:
            self._lives[process.machine.name] = _Life()
            self.handled(process, None, output)

    def powered_off(self, machine: "Machine") -> None:
        self._lives.pop(machine.name, None)

    def handled(self, process: "Process", event: Event | None, output: Output) -> None:
        if process.daemon != REQD:
            return
        life = self._lives[process.machine.name]
        life.clock += 1
        match event:
            case Done(id, StepResult()) if id in life.freezing:
                life.frozen[life.freezing.pop(id)] = life.clock
        for do in output.do:
            if isinstance(do.action, FreezeGroup):
                if do.action.frozen:
                    self.freezes += 1
                    life.freezing[do.id] = do.action.instance
                else:
                    self.thaws += 1
                    life.thaw(process, do.action.instance, event)
        for told in output.tell:
            if isinstance(told.message, Renew):
                life.sent[told.message.number] = life.clock


class _Life:
    """Of one reqd. Its own order of events is its clock."""

    def __init__(self) -> None:
        self.clock = 0
        self.sent: dict[int, int] = {}
        self.freezing: dict[int, Instance] = {}
        self.frozen: dict[Instance, int] = {}

    def thaw(self, process: "Process", instance: Instance, event: Event | None) -> None:
        answer = event.message if isinstance(event, Told) and event.who == LOCKD else None
        if not isinstance(answer, Renewed):
            raise Violation(f"S6: {process} thaws {instance} without an answer: {event}")
        if self.sent[answer.number] < self.frozen.get(instance, self.clock):
            raise Violation(f"S6: {process} thaws {instance} on an answer to a request from before it was frozen")
        if (instance.app, instance.generation) not in answer.named:
            raise Violation(f"S6: {process} thaws {instance}, which {answer} does not name")
