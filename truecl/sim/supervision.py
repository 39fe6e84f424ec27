"""Who starts a node's daemons: reqd through its warm parent, or, for toy cores, simply everything."""

from typing import TYPE_CHECKING, Any, Protocol

from truecl.core.contract import Told
from truecl.model.ids import REQD, DaemonName
from truecl.sim.process import Process
from truecl.wire.messages import End, Exited, Fork, Forked, Living, Ready

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine

PARENT = "parent"
_KILLED = -9


class Supervision(Protocol):
    """Starts daemons when a node boots, and again when they die."""

    def powered_on(self, machine: "Machine") -> None: ...

    def died(self, process: Process) -> None: ...

    def told(self, process: Process, message: Any) -> None:
        """The daemon said this to its parent."""

    def asked(self, machine: "Machine", daemon: DaemonName) -> None:
        """reqd asks it whether it is ready."""

    def ready(self, process: Process) -> None:
        """It says so, over reqd's socket."""

    def parent_killed(self, machine: "Machine") -> None:
        """kill -9 of what starts the daemons, which live on."""

    def left(self, machine: "Machine") -> None:
        """reqd stopped the service in good order."""


class KeepAll:
    """Every daemon of the plan runs whenever its node does."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster

    def powered_on(self, machine: "Machine") -> None:
        for daemon in self._cluster.plan.daemons:
            self._start_later(machine, daemon, 0.01, 0.1)

    def died(self, process: Process) -> None:
        self._start_later(process.machine, process.daemon, 0.01, 0.3)

    def told(self, process: Process, message: Any) -> None:
        """They have no parent to talk to."""

    def asked(self, machine: "Machine", daemon: DaemonName) -> None:
        """Nobody does."""

    def ready(self, process: Process) -> None:
        """Nobody wants to know."""

    def parent_killed(self, machine: "Machine") -> None:
        """There is none."""

    def left(self, machine: "Machine") -> None:
        """They do not stop."""

    def _start_later(self, machine: "Machine", daemon: DaemonName, low: float, high: float) -> None:
        delay = low + (high - low) * self._cluster.random.random()
        self._cluster.schedule.after(delay, self._start, machine, machine.boot, daemon)

    def _start(self, machine: "Machine", boot: str, daemon: DaemonName) -> None:
        if machine.powered and machine.boot == boot and daemon not in machine.processes:
            machine.spawn(daemon)


class WarmParent:
    """The service's main process: forks reqd by itself and the others on its word, reaps and reports (DESIGN.md 4)."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._pids: dict[tuple[str, DaemonName], int] = {}
        """(boot, daemon) to the process it runs as."""
        self._next = 100
        self._stopped: set[str] = set()
        """Boots in which the service is stopped for now."""
        self._away: set[str] = set()
        """Boots whose parent is dead, until systemd has started the next one."""

    def powered_on(self, machine: "Machine") -> None:
        self._fork_later(machine, REQD, 0.02, 0.5)

    def told(self, process: Process, message: Any) -> None:
        machine = process.machine
        if machine.boot in self._away:
            return
        match message:
            case Fork(daemon):
                if daemon not in machine.processes:
                    self._fork_later(machine, daemon, 0.01, 0.05)
                elif daemon != REQD:
                    self._report(machine, Forked(daemon, self._pids.get((machine.boot, daemon), 0)))
            case End(daemon, grace):
                # TERM is obeyed soon or, now and then, only KILL helps.
                patience = grace if self._cluster.random.random() < 0.1 else min(grace, 0.02)
                victim = machine.processes.get(daemon)
                if victim is not None:
                    self._cluster.schedule.after(patience * self._cluster.random.random(), self._end, victim)

    def died(self, process: Process) -> None:
        machine = process.machine
        pid = self._pids.pop((machine.boot, process.daemon), 0)
        if machine.boot in self._away or machine.boot in self._stopped:
            return
        if process.daemon == REQD:
            self._fork_later(machine, REQD, 0.01, 0.06)
            return
        self._report(machine, Exited(pid, _KILLED, process.daemon))

    def left(self, machine: "Machine") -> None:
        """All daemons end; somebody starts the service again some seconds later."""
        self._stopped.add(machine.boot)
        for daemon in list(machine.processes):
            machine.kill(daemon)
        self._cluster.schedule.after(8.0 * self._cluster.random.random(), self._start_again, machine, machine.boot)

    def _start_again(self, machine: "Machine", boot: str) -> None:
        self._stopped.discard(boot)
        self._fork(machine, boot, REQD)

    def _fork_later(self, machine: "Machine", daemon: DaemonName, low: float, high: float) -> None:
        delay = low + (high - low) * self._cluster.random.random()
        self._cluster.schedule.after(delay, self._fork, machine, machine.boot, daemon)

    def _fork(self, machine: "Machine", boot: str, daemon: DaemonName) -> None:
        gone = not machine.powered or machine.boot != boot or boot in self._stopped or boot in self._away
        if gone or daemon in machine.processes:
            return
        if machine.stalled:
            self._cluster.schedule.after(0.05, self._fork, machine, boot, daemon)
            return
        self._next += 1
        self._pids[machine.boot, daemon] = self._next
        process = machine.spawn(daemon)
        if not process.alive:
            return
        if daemon == REQD:
            self._greet(machine, process)
            for other, alive in machine.processes.items():
                if other != REQD:
                    self._cluster.schedule.after(0.005, self.ready, alive)
        else:
            self._report(machine, Forked(daemon, self._next))
            self._cluster.schedule.after(0.002, self.ready, process)

    def parent_killed(self, machine: "Machine") -> None:
        if not machine.powered or machine.boot in self._away:
            return
        self._away.add(machine.boot)
        self._cluster.note(machine.name, "KILL of the warm parent")
        self._cluster.schedule.after(
            0.3 + 1.2 * self._cluster.random.random(), self._parent_back, machine, machine.boot
        )

    def _parent_back(self, machine: "Machine", boot: str) -> None:
        if machine.stalled and machine.powered and machine.boot == boot:
            self._cluster.schedule.after(0.05, self._parent_back, machine, boot)
            return
        self._away.discard(boot)
        if not machine.powered or machine.boot != boot:
            return
        reqd = machine.processes.get(REQD)
        if reqd is None:
            self._fork_later(machine, REQD, 0.01, 0.06)
        else:
            self._greet(machine, reqd)

    def _greet(self, machine: "Machine", reqd: Process) -> None:
        """The first word on a line between the two."""
        living = [
            Forked(other, self._pids.get((machine.boot, other), 0)) for other in machine.processes if other != REQD
        ]
        reqd.deliver(Told(PARENT, Living(tuple(living))))

    def asked(self, machine: "Machine", daemon: DaemonName) -> None:
        process = machine.processes.get(daemon)
        if process is not None:
            self._cluster.schedule.after(0.0002, process.deliver, Told(REQD, Ready(REQD, 0)))

    def ready(self, process: Process) -> None:
        """Each daemon's host says so whenever it finds a new reqd, and when it is asked."""
        machine = process.machine
        reqd = machine.processes.get(REQD)
        if process.alive and reqd is not None:
            pid = self._pids.get((machine.boot, process.daemon), 0)
            reqd.deliver(Told(process.daemon, Ready(process.daemon, pid)))

    def _report(self, machine: "Machine", message: Any) -> None:
        reqd = machine.processes.get(REQD)
        if reqd is not None:
            self._cluster.schedule.after(0.0002, reqd.deliver, Told(PARENT, message))

    def _end(self, victim: Process) -> None:
        if victim.alive:
            victim.machine.kill(victim.daemon)
