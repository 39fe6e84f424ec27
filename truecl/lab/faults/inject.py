"""Does a fault to a node of a lab, and undoes it."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from truecl.lab.bench.processes import daemons
from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError
from truecl.lab.faults import disk
from truecl.lab.faults.clock import set_offset
from truecl.lab.faults.draw import CLOCK, CUT, DAEMON, DEAF, FULL, LINK, PAUSE, POWER, SLOW, Fault


class Injection:
    """One fault to one node. All raise LabError, OSError."""

    def __init__(self, lab: Lab, victim: str, fault: Fault) -> None:
        self._lab, self._victim, self._fault = lab, victim, fault
        self._slow: disk.SlowDisk | None = None

    def begin(self) -> None:
        _BEGINNINGS[self._fault.kind](self)

    def end(self) -> None:
        """Everything as it was, whatever became of the node meanwhile; it is not switched on."""
        if self._slow is not None:
            self._slow.end()
        self._lab.heal()
        if self._lab.state(self._victim) == "paused":
            with suppress(LabError):  # it is being switched off
                self._lab.resume(self._victim)
        if self._fault.kind == FULL:
            with suppress(LabError):
                disk.make_room(self._disk())
        if self._fault.kind == CLOCK:
            set_offset(self._lab.description.node(self._victim).etc, 0)

    def _disk(self) -> Path:
        return disk.place(self._lab.pid(self._victim))

    def _power_cut(self) -> None:
        self._lab.kill(self._victim)

    def _pause(self) -> None:
        self._lab.pause(self._victim, self._fault.silent)

    def _one_way(self) -> None:
        """The victim hears nobody, or nobody hears it."""
        if not self._fault.silent:
            self._lab.cut(self._victim, one_way=True)
            return
        for port in self._lab.description.ports:
            if port.name != self._victim:
                self._lab.cut(port.name, source=self._victim, one_way=True)

    def _one_link(self) -> None:
        """To the other nodes; the client's way stays."""
        for node in self._lab.description.nodes:
            if node.name != self._victim:
                self._lab.cut(self._victim, link=self._fault.link, source=node.name)

    def _all_links(self) -> None:
        self._lab.cut(self._victim)

    def _kill_daemon(self) -> None:
        for pid in daemons(self._lab, self._victim):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == self._fault.daemon:
                    os.kill(pid, signal.SIGKILL)

    def _jump(self) -> None:
        """And one daemon starts anew under it, with new sessions to the others."""
        set_offset(self._lab.description.node(self._victim).etc, self._fault.jump)
        self._kill_daemon()

    def _fill(self) -> None:
        disk.fill(self._disk())

    def _slow_down(self) -> None:
        self._slow = disk.SlowDisk(self._disk(), self._fault.slowness)
        self._slow.start()


_BEGINNINGS: dict[str, Callable[[Injection], None]] = {
    POWER: Injection._power_cut,
    PAUSE: Injection._pause,
    DEAF: Injection._one_way,
    LINK: Injection._one_link,
    CUT: Injection._all_links,
    DAEMON: Injection._kill_daemon,
    CLOCK: Injection._jump,
    FULL: Injection._fill,
    SLOW: Injection._slow_down,
}
