"""One node: its power, clock, kernel, local sockets, journals and daemons."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from truecl.core.contract import Do, Done, Event, Joined, Left, Noted, Output, Save, Send, Tell, Told
from truecl.core.lockd import DiskFull
from truecl.model.ids import NETD, REQD, BootId, DaemonName, NodeName
from truecl.sim.bus import Bus
from truecl.sim.journal import Journal, UnsyncedJournal
from truecl.sim.process import Process
from truecl.sim.watchdog import Device
from truecl.wire.messages import Ready

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster

Reader = Callable[[Any], None]
"""What a command does with each message that it is told."""


class Machine:
    """A node. True time is the cluster's schedule; `clock` is what this node believes (CLOCK_BOOTTIME)."""

    def __init__(self, cluster: "Cluster", name: NodeName) -> None:
        self.cluster = cluster
        self.name = name
        self.schedule = cluster.schedule
        self.random = cluster.random
        self.bus = Bus(self, cluster.plan.edges)
        self.boots = 0
        self.boot = BootId("")
        self.powered = False
        self.stalled = 0
        """For how many reasons all of user space stands still."""
        self.suspended: float | None = None
        """Since when the whole machine stands still, its kernel too: a virtual machine that was paused."""
        self.virtual = False
        self.lag = 0.0
        """Seconds by which standstills have put its clock back against all others, in this boot."""
        self.slow_disk = False
        self.full_disk = False
        self.processes: dict[DaemonName, Process] = {}
        self.journals: dict[DaemonName, Journal] = {}
        self.rate = 1.0
        self.configuration = cluster.configuration
        """As this node has it by now."""
        self.kernel: Any = None
        """What the drivers made here since the boot; it goes with the power (truecl.sim.kernel)."""
        self.watchdog: Device | None = None
        """Of this boot."""
        self.before_feed: Callable[[Callable[[], None]], None] | None = None
        """A fault that waits for reqd's decision to feed the watchdog the last time before its lease ends."""
        self._booted_at = 0.0
        self._base = 0.0
        self._guard_moved = 0.0
        self._lives: dict[DaemonName, int] = {}
        self._readers: dict[str, tuple[Process, Reader]] = {}

    # ---- time -------------------------------------------------------------------------------------------------------

    def clock(self) -> float:
        now = self.schedule.now if self.suspended is None else self.suspended
        return self._base + (now - self._booted_at) * self.rate

    def true_time(self, local: float) -> float:
        """When this node's clock will show `local`, if it is not switched off before."""
        return self._booted_at + (local - self._base) / self.rate

    # ---- power ------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Boot, and let the cluster's supervision start what starts by itself. Harmless when on."""
        if self.powered:
            return
        self.powered = True
        self.boots += 1
        self.boot = BootId(f"{self.name}-{self.boots}")
        self.stalled = 0
        self.suspended, self.lag = None, 0.0
        self.slow_disk = False
        self._booted_at = self.schedule.now
        self._base = 2.0 + self.random.random() * 10.0
        self.cluster.powered_on(self)

    def power_off(self) -> None:
        """A power cut: every daemon dies, nothing that was not synced remains."""
        if not self.powered:
            return
        self.powered = False
        self.suspended = None
        self.watchdog = None
        for process in list(self.processes.values()):
            self._end(process, quietly=True)
        for journal in self.journals.values():
            journal.power_cut()
        self.cluster.powered_off(self)

    def stall(self) -> None:
        """All user space stands still; the clock and the kernel do not."""
        self.stalled += 1
        if self.watchdog is not None:
            self.watchdog.stood_still()
        for process in self.processes.values():
            process.hold()

    def resume(self) -> None:
        self.stalled -= 1
        if self.watchdog is not None and not self.stalled:
            self.watchdog.went_on()
        self._guard_moved = self.schedule.now
        for process in list(self.processes.values()):
            process.let_go()

    def suspend(self) -> None:
        """The whole machine stands still, as a virtual one does that is paused."""
        self.stall()
        self.suspended = self.schedule.now

    def wake(self, clock_ran: bool) -> None:
        """`clock_ran`: CLOCK_BOOTTIME counts the time of the standstill (as after a suspend to memory); else nothing in
        the machine knows of it (as QEMU continues a guest). What the kernel itself times never counts it."""
        assert self.suspended is not None
        seconds = self.schedule.now - self.suspended
        self.suspended = None
        if not clock_ran or self.cluster.variant.monotonic:
            self._base -= seconds * self.rate
        if not clock_ran:
            self.lag += seconds
        self.cluster.drivers.woke(self, seconds)
        for process in self.processes.values():
            process.rearm()
        self.resume()

    def stood_still(self) -> float:
        """True time at which this node's guard (reqd and netd) was last unable to act."""
        for daemon in (REQD, NETD):
            process = self.processes.get(daemon)
            if process is None or process.held:
                return self.schedule.now
        return self._guard_moved

    def let_go(self, process: Process) -> None:
        """After a hang of one daemon."""
        self._guard_moved = self.schedule.now
        process.let_go()

    # ---- daemons ----------------------------------------------------------------------------------------------------

    def spawn(self, daemon: DaemonName) -> Process:
        """Start a daemon on what its journal holds. Raises ValueError while it runs."""
        if daemon in self.processes:
            raise ValueError(f"{daemon} runs already on {self.name}")
        cluster = self.cluster
        life = self._lives[daemon] = self._lives.get(daemon, 0) + 1
        journal = self.journals.get(daemon)
        if journal is None:
            journal = self.journals[daemon] = cluster.variant.journal()
            if isinstance(journal, UnsyncedJournal) and cluster.variant.flush is not None:
                self.schedule.after(cluster.variant.flush, self._flush, journal, cluster.variant.flush)
        journal.ballast = journal.ballast or not self.full_disk
        core = cluster.build(daemon, self.name, self.boot, journal.open(), self.clock())
        process = self.processes[daemon] = Process(self, daemon, life, core, cluster.variant)
        for _ in range(self.stalled):
            process.hold()
        self._guard_moved = self.schedule.now
        process.start()
        if process.alive:
            self.bus.started(process)
            cluster.network.started(process)
        return process

    def kill(self, daemon: DaemonName) -> None:
        """kill -9. What was being written may have become durable or not."""
        process = self.processes.get(daemon)
        if process is not None:
            self._end(process, quietly=False)

    def die_in_gap(self, process: Process, stage: str) -> None:
        """The fault aimed at the gaps of an output: take the daemon or the whole node."""
        self.cluster.met(f"death inside an output: {stage}")
        self.cluster.note("cut", f"{process} dies inside its output")
        if self.random.random() < self.cluster.faults.gap_power:
            self.cluster.power_cut(self)
        else:
            self._end(process, quietly=False)

    def _end(self, process: Process, quietly: bool) -> None:
        if not process.alive:
            return
        process.alive = False
        if process.saving:
            self.cut_short(process)
        process.inbox.clear()
        del self.processes[process.daemon]
        for who in [who for who, (server, _) in self._readers.items() if server is process]:
            del self._readers[who]
        if self.watchdog is not None:
            self.watchdog.died(process)
        self.bus.died(process)
        self.cluster.network.died(process, quietly)
        if not quietly:
            self.cluster.died(process)

    def _flush(self, journal: UnsyncedJournal, period: float) -> None:
        if self.powered:
            journal.flush()
        self.schedule.after(period, self._flush, journal, period)

    # ---- what a process's output asks for ---------------------------------------------------------------------------

    def started(self, process: Process, output: Output) -> Output:
        self.cluster.started(process, output)
        return output

    def handled(self, process: Process, event: Event, output: Output) -> None:
        self.cluster.handled(process, event, output)

    def draw_gap(self, output: Output) -> tuple[str, int] | None:
        """Whether, and where, the daemon dies while it carries this output out."""
        cluster = self.cluster
        if cluster.gap == 0.0 or self.random.random() >= cluster.gap:
            return None
        points = [("save", 0), ("save", 1)] if output.save else []
        for stage in ("send", "do", "tell"):
            points += [(stage, count) for count in range(len(getattr(output, stage)))]
        return points[int(self.random.random() * len(points))]

    def fsync_time(self) -> float:
        mean = self.cluster.faults.slow_fsync if self.slow_disk else self.cluster.faults.fsync
        return mean * (0.2 + self.random.expovariate(1.25))

    def save(self, process: Process, saves: tuple[Save, ...]) -> None:
        self.journals[process.daemon].write(saves)

    def make_room(self, process: Process) -> bool:
        """A save on a full disk: the ballast's blocks take it and some more, and the core hears of that. False: there
        are none left."""
        journal = self.journals[process.daemon]
        if journal.ballast:
            journal.ballast, journal.room = False, self.random.randint(1, 40)
            process.deliver(Noted(DiskFull()))
        if journal.room > 0:
            journal.room -= 1
            return True
        self.cluster.met("full disk, the reserve is used up")
        return False

    def give_up(self, process: Process) -> None:
        """A daemon ends whose save has failed."""
        self.lose(process, process.saving)
        process.saving = ()
        self._end(process, quietly=False)

    def cut_short(self, process: Process) -> None:
        """The daemon dies while it saves: that became durable, or was written and not synced, or did not get so far."""
        journal, fate = self.journals[process.daemon], self.random.random()
        if fate < self.cluster.faults.half_written:
            self.cluster.met("death between write and sync")
            journal.write_unsynced(process.saving)
            if self.random.random() < 0.5:  # whatever ended it may end the node soon
                self.schedule.after(0.6 * self.random.random(), self._power_fails, self.boot)
        elif self.random.random() < 0.5:
            journal.write(process.saving)
        else:
            self.lose(process, process.saving)
        process.saving = ()

    def _power_fails(self, boot: BootId) -> None:
        if self.powered and self.boot == boot:
            self.cluster.power_cut(self)

    def lose(self, process: Process, saves: tuple[Save, ...]) -> None:
        """The transaction did not become durable; what goes to the run directory may have got there."""
        if self.random.random() < 0.5:
            self.journals[process.daemon].write_run(saves)

    def send(self, process: Process, each: Send) -> None:
        self.cluster.network.send(process, each.node, each.message)

    def perform(self, process: Process, order: Do) -> None:
        self.cluster.drivers.perform(process, order)

    def tell(self, process: Process, told: Tell) -> None:
        reader = self._readers.get(told.who)
        if reader is not None:
            if reader[0] is process:
                reader[1](told.message)
        elif told.who == "parent":
            self.cluster.supervision.told(process, told.message)
        elif isinstance(told.message, Ready):
            self.cluster.supervision.asked(self, DaemonName(told.who))
        else:
            self.bus.tell(process, DaemonName(told.who), told.message)

    # ---- what comes in from outside ---------------------------------------------------------------------------------

    def done(self, process: Process, number: int, result: Any) -> None:
        process.deliver(Done(number, result))

    def noted(self, daemon: DaemonName, message: Any) -> None:
        """A driver of this daemon noticed something by itself; lost if the daemon does not run."""
        process = self.processes.get(daemon)
        if process is not None:
            process.deliver(Noted(message))

    def command(self, who: str, server: DaemonName, message: Any, reader: Reader) -> bool:
        """An operator's command connects and says one thing. False: the daemon does not run."""
        process = self.processes.get(server)
        if process is None or self.stalled:
            return False
        self._readers[who] = (process, reader)
        process.deliver(Joined(who))
        process.deliver(Told(who, message))
        return True

    def tell_as(self, who: DaemonName, server: DaemonName, message: Any) -> None:
        """In the name of a daemon, for what an operator's tool would have had it say."""
        process = self.processes.get(server)
        if process is not None:
            process.deliver(Told(who, message))

    def hang_up(self, who: str) -> None:
        """The command goes away."""
        entry = self._readers.pop(who, None)
        if entry is not None:
            entry[0].deliver(Left(who))
