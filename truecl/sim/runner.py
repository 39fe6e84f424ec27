"""One seed from the first boot to the verdict: a bad day with safety looked at after every event, then healing."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from traceback import extract_tb

from msgspec import MsgspecError

from truecl.core.contract import Event, Outdated, Output
from truecl.core.lockd import Lockd
from truecl.core.raft import CommittedConflict, ForeignJournal, JournalDamaged, Role
from truecl.model.config import AppConfig
from truecl.model.ids import CLUSTERD, LOCKD, STATD, SYNCD, AppName, NodeName
from truecl.model.ledger import AppState, Ledger, Wanted
from truecl.model.mirror import CopyState, Mirror
from truecl.model.step import StepKind, steps_of
from truecl.sim import scenario
from truecl.sim.chaos import Chaos
from truecl.sim.checker import World
from truecl.sim.cluster import Assemble, Cluster, Story, Violation
from truecl.sim.coverage import Coverage
from truecl.sim.drivers import SimulatedDrivers
from truecl.sim.faults import CALM, Faults, draw
from truecl.sim.linear import Undecided
from truecl.sim.machine import Machine
from truecl.sim.membership import Reshapes
from truecl.sim.mutants.build import production
from truecl.sim.process import PROPER, Process, Variant
from truecl.sim.schedule import Runaway
from truecl.sim.supervision import WarmParent
from truecl.sim.thawing import Thawing
from truecl.wire.messages import Notes

WORLDS = (
    *[(2, False)] * 3, *[(3, False)] * 8, *[(3, True)] * 3, *[(4, False)] * 3, (4, True), *[(5, False)] * 2, (8, False),
)  # fmt: skip
"""Nodes, and whether the last of them is a witness."""
REPLICATED = 0.25
"""Share of the days that have an application on replicated storage."""
CALM_BEFORE = 3.0
BAD_DAY = 15.0
HEALING = 60.0
"""Seconds within which everything must run again once all faults are healed."""
_CORES_RAISE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
    CommittedConflict, JournalDamaged, ForeignJournal, Outdated, MsgspecError,
)  # fmt: skip
STAYS = "it stays there"
"""In the master's word on an application of a node on standby that no other node will do for."""
RESUME = "is on standby (lha_node resume"
"""In its word on one that failed on all others, or waits for them."""
FINAL = "FAILED on every node"
"""Begins the master's word on an application that no time will mend."""


@dataclass
class Result:
    """`problem` is '' if every promise was kept."""

    seed: int
    nodes: int
    problem: str = ""
    digest: int = 0
    events: int = 0
    healed_after: float = 0.0
    """Seconds from the end of the faults until everything ran."""
    starts: int = 0
    grants: int = 0
    overlaps: int = 0
    freezes: int = 0
    thaws: int = 0
    coverage: dict[str, int] = field(default_factory=dict)
    """What was met, and how often."""
    answers: dict[int | None, int] = field(default_factory=dict)
    last: list[str] = field(default_factory=list)
    """The last events, when there is a problem."""


class Liveness:
    """Listens to what the masters say of their applications, and judges whether all is well."""

    def __init__(self, cluster: Cluster, world: World) -> None:
        self._cluster = cluster
        self._world = world
        self._notes: dict[NodeName, dict[AppName, str]] = {}

    def started(self, process: Process, output: Output) -> None: ...

    def powered_off(self, machine: Machine) -> None: ...

    def handled(self, process: Process, event: Event, output: Output) -> None:
        if process.daemon != CLUSTERD:
            return
        for told in output.tell:
            if told.who == STATD and isinstance(told.message, Notes):
                self._notes[process.machine.name] = {each.app: each.text for each in told.message.notes}

    def trouble(self) -> str:
        """What is not as it should be; '' when all is well."""
        leader = self._leader()
        if leader is None:
            return "no master that all follow"
        ledger = self._world.log.ledger
        for app in self._cluster.configuration.apps:
            trouble = self._trouble_of(app, ledger, self._notes.get(leader, {}))
            if trouble:
                return f"{app.name}: {trouble}; the master says: {self._notes.get(leader, {}).get(app.name, '')}"
        return ""

    def _leader(self) -> NodeName | None:
        leaders = set()
        for machine in self._cluster.machines.values():
            if machine.name in self._cluster.outside:
                continue
            process = machine.processes.get(LOCKD)
            if process is None or not isinstance(process.core, Lockd):
                return None
            raft = process.core.raft
            leaders.add((raft.term, raft.leader))
            if raft.role is Role.LEADER and not raft.ready:
                return None
            if process.core.ledger.index != self._world.log.ledger.index:
                return None
        return leaders.pop()[1] if len(leaders) == 1 else None

    def _trouble_of(self, app: AppConfig, ledger: Ledger, notes: dict[AppName, str]) -> str:
        state = ledger.apps.get(app.name, AppState())
        where = [name for name, machine in self._cluster.machines.items() if self._traces(machine, app)]
        if state.wanted is Wanted.STOPPED:
            return f"wanted stopped, granted {state.grant}, on {where}" if state.grant or where else ""
        if state.grant is None:
            in_use = [node for node in app.nodes if node not in ledger.standby]
            note = notes.get(app.name, "")
            failed = [each.node for each in state.failures]
            left = [node for node in in_use if node not in failed and node not in self._cluster.outside]
            final = note.startswith(FINAL) or RESUME in note or not left
            return "" if final else f"wanted, runs nowhere: {state}"
        standby = ledger.standby.get(state.grant.node)
        if standby is not None and not standby.keep and STAYS not in notes.get(app.name, ""):
            return f"on {state.grant.node}, which is on standby"
        if where != [state.grant.node]:
            return f"granted to {state.grant}, on {where}"
        machine = self._cluster.machines[state.grant.node]
        missing = [step.name for step in steps_of(app) if not _active(machine, app, step.kind, step.name)]
        if missing:
            return f"{missing} not up on {machine.name}"
        mirror = ledger.mirrors.get(app.name, Mirror(0, (), ()))
        behind = [node for node, copy in mirror.copies.items() if copy.state is not CopyState.CURRENT]
        return f"the copies on {behind} are not current" if behind else ""

    def _traces(self, machine: Machine, app: AppConfig) -> bool:
        if not machine.powered:
            return False
        return any(_active(machine, app, step.kind, step.name) for step in steps_of(app))


def _active(machine: Machine, app: AppConfig, kind: StepKind, name: str) -> bool:
    if kind is StepKind.ADDRESS:
        return name.removeprefix("address ") in machine.kernel.addresses
    return (app.name, name) in machine.kernel.active


def run(
    seed: int,
    nodes: int | None = None,
    assemble: Assemble | None = None,
    variant: Variant = PROPER,
    adjust: Callable[[Faults], Faults] | None = None,
    faults: Faults | None = None,
    bad_day: float = BAD_DAY,
    deep: bool = False,
    trace: Callable[[str], None] | None = None,
    replicated: bool | None = None,
) -> Result:
    """Simulate one seed. `nodes` None: drawn. `adjust` aims the drawn faults; `faults` takes their place.
    `replicated`: with an application on replicated storage; None: drawn, on days whose faults are.

    What a core itself raises is a problem like a broken promise.
    """
    random = Random(f"world {seed}")
    size, witness = random.choice(WORLDS)
    count = size if nodes is None else nodes
    witness = witness and count > 2
    drawn = draw(random) if faults is None else faults
    if adjust is not None:
        drawn = adjust(drawn)
    lots = Random(f"membership {seed}")  # of its own: the days that others have been tried with stay as they are
    if faults is None and adjust is None and lots.random() < 0.15:
        drawn = replace(drawn, memberships=lots.uniform(0.1, 0.8))
    later = lots.choice((1, 2)) if drawn.memberships else 0
    config = scenario.configuration(random, count + later, witness and not later, drawn.guarded)
    if replicated is None:
        replicated = faults is None and adjust is None and Random(f"copies {seed}").random() < REPLICATED
    if replicated and not later:
        config = scenario.with_replicated(config, Random(f"mail {seed}"))
    story = Story(deep=deep, print=trace)
    cluster = Cluster(config, scenario.PLAN, assemble or production, seed, drawn, variant, story)
    if random.random() < 0.75 or later:
        cluster.quiet = (STATD, SYNCD)
    if later:
        scenario.begin_without(cluster, later)
    world = World(cluster)
    liveness = Liveness(cluster, world)
    cluster.supervision = WarmParent(cluster)
    drivers = cluster.drivers = SimulatedDrivers(cluster, world)
    drivers.replicas.build(lambda: world.log.ledger)
    thawing = Thawing()
    cluster.checks = [world, liveness, thawing, *([Reshapes(cluster)] if later else [])]
    operators = scenario.Operators(cluster)
    cluster.checks += [operators.histories, Coverage(cluster)]
    result = Result(seed, count)
    try:
        result.healed_after = _day(cluster, operators, liveness, bad_day)
    except (Violation, Runaway, Undecided) as problem:
        result.problem = f"{type(problem).__name__}: {problem}"
    except _CORES_RAISE as problem:
        # A core that raises is a finding like any other; its seed and story must not be lost.
        where = extract_tb(problem.__traceback__)[-1]
        result.problem = f"{type(problem).__name__}: {problem} ({where.filename}:{where.lineno})"
    result.digest, result.events = story.digest, cluster.schedule.count
    result.starts, result.grants, result.overlaps = world.starts, world.grants, world.overlaps
    result.freezes, result.thaws = thawing.freezes, thawing.thaws
    result.answers, result.coverage = operators.answers, cluster.coverage
    result.last = story.lines() if result.problem else []
    return result


def _day(cluster: Cluster, operators: scenario.Operators, liveness: Liveness, bad_day: float) -> float:
    """Returns how long the healing took. Raises Violation."""
    schedule = cluster.schedule
    faults, cluster.faults, cluster.gap = cluster.faults, _healed(cluster.faults), 0.0
    scenario.formed(cluster)
    for machine in cluster.machines.values():
        if machine.name not in cluster.outside:
            machine.power_on()
    operators.begin()
    schedule.run(CALM_BEFORE)
    cluster.faults, cluster.gap = faults, faults.gap
    chaos = Chaos(cluster)
    chaos.begin()
    schedule.run(CALM_BEFORE + bad_day)
    operators.end()
    chaos.end()
    cluster.faults = _healed(faults)
    cluster.note("all", "HEALED")
    began = schedule.now
    while True:
        schedule.run(schedule.now + 0.25)
        trouble = "lha_node has no end" if chaos.growth.busy else liveness.trouble()
        if not trouble:
            operators.histories.judge()
            return schedule.now - began
        if schedule.now - began > HEALING:
            raise Violation(f"liveness: {HEALING:.0f} s after all faults were healed: {trouble}")


def _healed(faults: Faults) -> Faults:
    """Speeds stay, faults go; the network is one that the timing is made for."""
    return replace(
        CALM, latency=min(faults.latency, 0.001), jitter=min(faults.jitter, 0.005), fsync=faults.fsync,
        driver_time=faults.driver_time, drift=faults.drift, fence_slow=faults.fence_slow,
        fence_slow_length=faults.fence_slow_length, wishes=faults.wishes, memberships=faults.memberships,
        no_watchdog=faults.no_watchdog, toothless=faults.toothless,
    )  # fmt: skip
