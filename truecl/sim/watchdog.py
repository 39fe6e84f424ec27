"""A simulated watchdog device, with what the kernel does around it: opened once at a time, fed once more when the
process that has it open dies; its clock stops with the machine if it is the machine's own (softdog, a virtual one)."""

from typing import TYPE_CHECKING

from truecl.model.actions import WatchdogArmed, WatchdogFed, WatchdogTrouble
from truecl.sim.process import Process

if TYPE_CHECKING:
    from truecl.sim.machine import Machine


class Device:
    """Exists for one boot. `runs_on`: its clock runs while all of the node's user space stands still. `toothless`: it
    says that it is armed, and resets nothing."""

    def __init__(self, machine: "Machine", identity: str, virtual: str, runs_on: bool, toothless: bool = False) -> None:
        self._machine = machine
        self._identity, self._virtual, self._runs_on, self._toothless = identity, virtual, runs_on, toothless
        self.timeout = 0.0
        """Seconds; 0: not armed."""
        self.resets = 0
        self._owner: Process | None = None
        self._rest: float | None = None
        """While its clock stands still: true time that was left."""
        self._expires = 0.0
        self._alarm = 0

    def arm(self, process: Process, timeout: float) -> WatchdogArmed | WatchdogTrouble:
        if self._owner not in (None, process):
            return WatchdogTrouble("busy")
        self._owner = process
        if self.timeout != timeout:
            self.timeout = timeout
            self._fed()
        return WatchdogArmed(self._identity, self.timeout, self._virtual)

    def feed(self, process: Process) -> WatchdogFed | WatchdogTrouble:
        if self._owner is not process:
            return WatchdogTrouble("not open")
        self._fed()
        return WatchdogFed()

    def disarm(self) -> WatchdogFed:
        self._owner, self.timeout, self._alarm = None, 0.0, self._alarm + 1
        return WatchdogFed()

    def died(self, process: Process) -> None:
        """Closed without the magic character: the kernel says that it did not stop, and feeds it."""
        if self._owner is process:
            self._owner = None
            self._fed()

    def stood_still(self) -> None:
        if not self._runs_on and self._rest is None:
            self._rest, self._alarm = self._expires - self._machine.schedule.now, self._alarm + 1

    def went_on(self) -> None:
        if self._rest is not None:
            rest, self._rest = self._rest, None
            self._set(rest)

    def _fed(self) -> None:
        whole = self.timeout / self._machine.rate
        if self._rest is not None:
            self._rest = whole
        else:
            self._set(whole)

    def _set(self, rest: float) -> None:
        self._alarm += 1
        self._expires = self._machine.schedule.now + rest
        if self.timeout:
            self._machine.schedule.at(self._expires, self._ring, self._alarm)

    def _ring(self, alarm: int) -> None:
        if alarm == self._alarm and self._machine.watchdog is self and not self._toothless:
            self._machine.cluster.met("watchdog reset")
            self._machine.cluster.power_cut(self._machine, "WATCHDOG RESET")
