"""A simulated cluster: machines, network and drivers around real cores, watched by checks after every event."""

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from truecl.core.contract import NOTHING, Core, Event, Output, Records
from truecl.model.config import Configuration
from truecl.model.ids import BootId, DaemonName, LinkName, NodeName
from truecl.sim.faults import CALM, Faults
from truecl.sim.machine import Machine
from truecl.sim.network import Network
from truecl.sim.process import PROPER, Process, Variant
from truecl.sim.schedule import Schedule
from truecl.sim.supervision import KeepAll, Supervision

Assemble = Callable[[DaemonName, NodeName, Configuration, BootId, Records, Random, float], Core]
_STRANGER = 4.0
"""Seconds for which a stranger comes or stays away."""
LAST = 50
"""Events kept for the story of a failure."""


class Drivers(Protocol):
    """Carries out actions on the simulated kernel and answers each with one Done."""

    def powered_on(self, machine: Machine) -> None: ...

    def powered_off(self, machine: Machine) -> None: ...

    def started(self, process: Process) -> None:
        """Before the first event of a new life: what tools of the last one still did is over."""

    def died(self, process: Process) -> None: ...

    def woke(self, machine: Machine, seconds: float) -> None:
        """The whole machine stood still for so long, its kernel's timers too."""

    def perform(self, process: Process, order: Any) -> None: ...

    def primaries(self) -> list[Machine]:
        """Nodes with power that have a primary replica."""


class Check(Protocol):
    """Looks at the world after each event; raises Violation."""

    def started(self, process: Process, output: Output) -> None: ...

    def handled(self, process: Process, event: Event, output: Output) -> None: ...

    def powered_off(self, machine: Machine) -> None: ...


class Violation(AssertionError):
    """A promise was broken. The text names which one, and by what."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which daemons there are and who talks to whom."""

    daemons: tuple[DaemonName, ...]
    mesh: tuple[DaemonName, ...]
    """Those with sessions to the same daemon on other nodes."""
    datagrams: frozenset[DaemonName] = frozenset()
    """Those that send datagrams over each link instead."""
    edges: tuple[tuple[DaemonName, DaemonName], ...] = ()
    """(client, server) on one node."""


@dataclass
class Story:
    """The last events, and a digest of all: two runs with equal digests had the same history."""

    digest: int = 0
    deep: bool = False
    """Digest whole events, not only their kinds."""
    print: Callable[[str], None] | None = None
    last: deque[tuple[float, str, Any]] = field(default_factory=lambda: deque(maxlen=LAST))

    def add(self, now: float, who: str, what: Any) -> None:
        self.last.append((now, who, what))
        if self.deep:
            self.digest = zlib.crc32(f"{now!r}{who}{what!r}".encode(), self.digest)
        else:
            self.digest = zlib.crc32(who.encode(), self.digest)
        if self.print is not None:
            self.print(line(now, who, what))

    def output(self, now: float, who: str, output: Output) -> None:
        """For a trace: what came of the event, but for the everyday."""
        if self.print is not None:
            for each in (*output.save, *output.do):
                self.print(line(now, who, f"    {each!r}"))

    def lines(self) -> list[str]:
        return [line(*each) for each in self.last]


def line(now: float, who: str, what: Any) -> str:
    return f"{now:10.6f}  {who:16}  {what if isinstance(what, str) else repr(what)}"[:400]


class Cluster:
    """Everything of one simulated world. All randomness comes from `random`."""

    def __init__(
        self,
        configuration: Configuration,
        plan: Plan,
        assemble: Assemble,
        seed: int,
        faults: Faults = CALM,
        variant: Variant = PROPER,
        story: Story | None = None,
    ) -> None:
        self.configuration = configuration
        self.plan = plan
        self.assemble = assemble
        self.seed = seed
        self.random = Random(seed)
        self.faults = faults
        self.gap = faults.gap
        self.variant = variant
        self.story = story if story is not None else Story()
        self.schedule = Schedule()
        self.names = tuple(node.name for node in configuration.cluster.nodes)
        self.machines: dict[NodeName, Machine] = {}
        self.network = Network(self, tuple(LinkName(link.name) for link in configuration.cluster.links))
        for name in self.names:
            machine = self.machines[name] = Machine(self, name)
            timing = configuration.cluster.timing
            bound = timing.drift / timing.lease * 0.48
            machine.rate = 1.0 + bound * faults.drift * self.random.choice((-1.0, 1.0, self.random.uniform(-1, 1)))
        self.supervision: Supervision = KeepAll(self)
        self.drivers: Drivers = NoDrivers()
        self.checks: list[Check] = []
        self.outside: tuple[NodeName, ...] = ()
        """Machines that are no nodes of the cluster now (truecl.sim.membership)."""
        self.coverage: dict[str, int] = {}
        """What was met, and how often."""
        self.quiet: tuple[DaemonName, ...] = ()
        """Daemons that are there and do nothing: they cost time, and nothing that is promised hangs on them."""
        self.on_power_cut: Callable[[Machine], None] | None = None
        """Told after a power cut by a fault, to see to it that somebody switches the node on again."""

    def build(self, daemon: DaemonName, me: NodeName, boot: BootId, records: Records, now: float) -> Core:
        seeded = Random(self.random.getrandbits(64))
        if daemon in self.quiet:
            return Quiet()
        return self.assemble(daemon, me, self.machines[me].configuration, boot, records, seeded, now)

    def note(self, who: str, what: str) -> None:
        """Something that the simulator itself did."""
        self.story.add(self.schedule.now, who, what)

    def power_cut(self, machine: Machine, why: str = "POWER CUT") -> None:
        self.note(machine.name, why)
        machine.power_off()
        if self.on_power_cut is not None:
            self.on_power_cut(machine)

    def power_on(self, machine: Machine) -> None:
        if not machine.powered:
            machine.power_on()

    def stranger(self, address: str, when: float) -> bool:
        """Has somebody else on the network this address at true time `when`? For seconds on end, or not at all."""
        share = self.faults.conflicts
        return share > 0.0 and Random(f"{self.seed} {address} {when // _STRANGER}").random() < share

    def met(self, kind: str) -> None:
        """Something that days are drawn for has happened (truecl.sim.coverage)."""
        self.coverage[kind] = self.coverage.get(kind, 0) + 1

    # ---- what machines report ---------------------------------------------------------------------------------------

    def powered_on(self, machine: Machine) -> None:
        self.note(machine.name, f"BOOT {machine.boot}")
        self.drivers.powered_on(machine)
        self.supervision.powered_on(machine)

    def powered_off(self, machine: Machine) -> None:
        self.drivers.powered_off(machine)
        for check in self.checks:
            check.powered_off(machine)

    def started(self, process: Process, output: Output) -> None:
        self.story.add(self.schedule.now, repr(process), "STARTED")
        self.drivers.started(process)
        for check in self.checks:
            check.started(process, output)

    def died(self, process: Process) -> None:
        self.story.add(self.schedule.now, repr(process), "DIED")
        self.drivers.died(process)
        self.supervision.died(process)

    def handled(self, process: Process, event: Event, output: Output) -> None:
        who = f"{process.machine.name}/{process.daemon}"
        self.story.add(self.schedule.now, who, event)
        if self.story.print is not None:
            self.story.output(self.schedule.now, who, output)
        for check in self.checks:
            check.handled(process, event, output)


class Quiet:
    """In the place of a daemon that takes no part in what is checked."""

    def start(self, now: float) -> Output:
        return NOTHING

    def handle(self, event: Event, now: float) -> Output:
        return NOTHING


class NoDrivers:
    """For cores that ask nothing of drivers."""

    def powered_on(self, machine: Machine) -> None: ...

    def powered_off(self, machine: Machine) -> None: ...

    def started(self, process: Process) -> None: ...

    def died(self, process: Process) -> None: ...

    def woke(self, machine: Machine, seconds: float) -> None: ...

    def perform(self, process: Process, order: Any) -> None:
        raise TypeError(f"{process} asks for {order}, and there are no drivers")

    def primaries(self) -> list[Machine]:
        return []
