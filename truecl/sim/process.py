"""One daemon's life in the simulator: carries out its core's outputs in the contract's order, dies anywhere in it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from truecl.core.contract import Core, Done, Event, Noted, Output, Save, Told, Woke
from truecl.core.situation import WallClock
from truecl.model.ids import CLUSTERD, REQD, DaemonName
from truecl.sim.journal import RUN, Journal
from truecl.sim.schedule import Runaway
from truecl.wire.messages import Ready

if TYPE_CHECKING:
    from truecl.sim.machine import Machine

_LATE = 1e-6
"""Seconds by which every timer is late, so that rounding never makes one early for ever."""
_SPINS, _SPIN_TIME = 300, 1e-4
"""So many timers in a row, none of them later than this after the one before: a daemon that burns its processor."""
STAGES = ("save", "send", "do", "tell")
_INBOX = 4096
"""What sockets buffer while a daemon does not read; more is lost, as a peer's bounded queue loses it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How the host does its part. Anything but the default is a mutant."""

    order: tuple[str, ...] = STAGES
    journal: Callable[[], Journal] = Journal
    flush: float | None = None
    """Seconds between write-backs of a journal that is not synced; None: it is."""
    careless: bool = False
    """Goes on after a save that failed."""
    monotonic: bool = False
    """Reads a clock that stands still whenever the machine does."""
    replicas: str = ""
    """A rule that the drivers of replicated storage leave out (truecl.sim.replicas)."""


PROPER = Variant()


class Process:
    """A running daemon. `held` counts the reasons for which it does not take events now (fsync, hang, node pause)."""

    __slots__ = (
        "_careless",
        "_rung",
        "_spins",
        "_order",
        "_timer",
        "_wake",
        "alive",
        "core",
        "daemon",
        "decided",
        "held",
        "inbox",
        "life",
        "machine",
        "saving",
    )

    def __init__(self, machine: "Machine", daemon: DaemonName, life: int, core: Core, variant: Variant) -> None:
        self.machine = machine
        self.daemon = daemon
        self.life = life
        """Counts the starts of this daemon on this node over all boots."""
        self.core = core
        self.alive = True
        self.held = 0
        self.inbox: deque[Event] = deque()
        self.saving: tuple[Save, ...] = ()
        self.decided = 0.0
        """True time of the latest event that it took: what it asks for may come later, when it has saved."""
        self._spins, self._rung = 0, 0.0
        self._order = variant.order
        self._careless = variant.careless
        self._wake: float | None = None
        self._timer: float | None = None
        """True time of the earliest outstanding timer in the schedule."""

    def __repr__(self) -> str:
        return f"{self.machine.name}/{self.daemon}#{self.life}"

    def start(self) -> None:
        machine = self.machine
        self._carry_out(machine.started(self, self.core.start(machine.clock())))
        if self.daemon == CLUSTERD:
            self.deliver(Noted(WallClock(_EPOCH + machine.schedule.now - machine.clock())))

    def deliver(self, event: Event) -> None:
        """An event has come to this life of the daemon."""
        if not self.alive:
            return
        if self.held or self.inbox:
            if len(self.inbox) < _INBOX or isinstance(event, Done):
                self.inbox.append(event)
            return
        self._handle(event)

    def hold(self) -> None:
        self.held += 1

    def let_go(self) -> None:
        self.held -= 1
        if self.alive and not self.held:
            self._drain()

    def _handle(self, event: Event) -> None:
        machine = self.machine
        if isinstance(event, Told) and isinstance(event.message, Ready) and event.who == REQD:
            machine.cluster.supervision.ready(self)  # the host's answer: the core hears nothing of it
            return
        self.decided = machine.schedule.now
        output = self.core.handle(event, machine.clock())
        machine.handled(self, event, output)
        if self.alive:
            self._carry_out(output)

    def _drain(self) -> None:
        while self.alive and not self.held and self.inbox:
            self._handle(self.inbox.popleft())

    # ---- carrying out -----------------------------------------------------------------------------------------------

    def _carry_out(self, output: Output) -> None:
        if output.save or output.do:
            cut = self.machine.draw_gap(output)
            self._stages(output, 0, cut)
            return
        if output.send:
            send = self.machine.send
            for each in output.send:
                send(self, each)
        if output.tell:
            tell = self.machine.tell
            for told in output.tell:
                tell(self, told)
        self._arm(output.wake_at)

    def _stages(self, output: Output, first: int, cut: tuple[str, int] | None) -> None:
        """From stage `first` on. `cut` (stage, count): die in that stage after so many of its items."""
        machine = self.machine
        for position in range(first, len(self._order)):
            stage = self._order[position]
            limit = cut[1] if cut is not None and cut[0] == stage else None
            if stage == "save":
                if output.save and all(each.bucket.startswith(RUN) for each in output.save) and limit is None:
                    machine.save(self, output.save)
                    continue
                if output.save:
                    self.saving = output.save
                    self.held += 1
                    machine.schedule.after(machine.fsync_time(), self._saved, output, position + 1, cut)
                    return
                if limit is not None:
                    self._die_in_gap(stage)
                    return
            for done, item in enumerate(getattr(output, stage)):
                if limit is not None and done >= limit:
                    break
                getattr(machine, _CARRIER[stage])(self, item)
                if not self.alive:
                    return
            if limit is not None:
                self._die_in_gap(stage)
                return
        self._arm(output.wake_at)

    def _saved(self, output: Output, following: int, cut: tuple[str, int] | None) -> None:
        if not self.alive:
            return
        if self.machine.full_disk and not self.machine.make_room(self):
            if not self._careless:
                self.machine.give_up(self)
                return
            self.saving = ()
        if cut == ("save", 0):
            self.machine.cut_short(self)
            self._die_in_gap("save")
            return
        self.machine.save(self, self.saving)
        self.saving = ()
        if cut == ("save", 1):
            self._die_in_gap("save")
            return
        self.held -= 1
        self._stages(output, following, cut)
        if self.alive and not self.held:
            self._drain()

    def _die_in_gap(self, stage: str) -> None:
        self.machine.die_in_gap(self, stage)

    def rearm(self) -> None:
        """After a standstill of the whole machine, its clock shows what it may."""
        self._timer = None
        self._arm(self._wake)

    # ---- the one timer ----------------------------------------------------------------------------------------------

    def _arm(self, wake_at: float | None) -> None:
        self._wake = wake_at
        if wake_at is None:
            return
        due = self.machine.true_time(wake_at) + _LATE
        if self._timer is None or due < self._timer - 1e-9:
            self._timer = due
            self.machine.schedule.at(due, self._ring, due)

    def _ring(self, due: float) -> None:
        """Timers in the schedule are not withdrawn: one that is no longer the earliest says nothing."""
        if not self.alive or due != self._timer:
            return
        self._timer = None
        wake = self._wake
        machine = self.machine
        self._spins = self._spins + 1 if machine.schedule.now - self._rung < _SPIN_TIME else 0
        self._rung = machine.schedule.now
        if self._spins > _SPINS:
            raise Runaway(f"{self} wakes itself without end")
        if wake is None or machine.suspended is not None:
            return
        if machine.clock() < wake:
            self._arm(wake)
            return
        self._wake = None
        self.deliver(Woke())


_EPOCH = 1.7e9
"""What the wall clock showed when the day began."""
_CARRIER = {"send": "send", "do": "perform", "tell": "tell"}
