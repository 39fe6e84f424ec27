"""Orders that come late, again and again, in any order: what reqd's own core (core/reqd.py) makes of them.

The world: generation 1 is n1's, 2 is n2's, 3 is n1's again. Each ends by a proof: its node reported it closed, was
fenced, or its lease surely ended. Any order for a generation that was granted may come at any time, as often as it
likes; an answer about the lease may be as late as it likes; nodes reboot, and their reqd restarts. Wrong is a state in
which a node runs a generation that is not the live grant. Instances have no steps here: they run at once, and stop at
once (of what a stop may leave, the simulator knows more).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as changed

import pytest
from msgspec.structs import replace

from truecl.core.contract import Done, Drop, Event, Joined, Output, Records, Told, Woke
from truecl.core.orders import Orders
from truecl.core.reqd import Reqd
from truecl.model.actions import StepResult
from truecl.model.config import AppConfig, ClusterConfig, Configuration, LinkConfig, NodeConfig, Timing
from truecl.model.ids import (
    CLUSTERD,
    LOCKD,
    NO_GENERATION,
    AppName,
    BootId,
    Generation,
    Index,
    LinkName,
    NodeName,
    Term,
)
from truecl.model.report import Phase
from truecl.model.step import Probe
from truecl.wire.messages import Order, Renew, Renewed

from .lives import Lives
from .search import search

APP, N1, N2 = AppName("a"), NodeName("n1"), NodeName("n2")
TICK, LEASE = 5.0, 10.0
"""Seconds. A start waits for its lease for one tick (ORDER_LIFETIME)."""
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="c",
        links=(LinkConfig(name=LinkName("lan")),),
        nodes=tuple(NodeConfig(name=name, addresses={}) for name in (N1, N2)),
        timing=Timing(lease=LEASE, renewal=1000.0, drift=0.0),
    ),
    apps=(AppConfig(name=APP, nodes=(N1, N2)),),
)
LAST = 3
"""Generations."""
BOOTS = 1


@dataclass(frozen=True)
class Picture:
    """Of a node. Times are what is left of them, in ticks."""

    up: bool
    boots: int
    record: tuple[Generation, bool] = (NO_GENERATION, False)
    """The newest generation it saw, and whether it was open: durable."""
    phase: Phase = Phase.CLOSED
    lease: int = 0
    """How long the lease, or what a restarted reqd takes for it, goes on."""
    remembered: int = 0
    named: Generation = NO_GENERATION
    asked: int = 0
    """How long a lease would be that the latest request brings."""
    answer: tuple[int, Generation] | None = None
    """The one answer under way: how long a lease it brings, and what it names."""
    waits: tuple[Generation, int] | None = None
    """The start that waits for the lease to name it."""

    @property
    def running(self) -> Generation:
        return self.record[0] if self.phase in (Phase.STARTING, Phase.RUNNING) else NO_GENERATION


class Node:
    """A reqd with its journal, and with the one answer that is on its way to it. Its drivers do as they are told."""

    def __init__(self, name: NodeName, kind: type[Orders]) -> None:
        self.name, self.kind = name, kind
        self.now, self.boots = 100.0, 0
        self.records: Records = {}
        self.answer: Renewed | None = None
        self.start()

    def start(self) -> None:
        self.core: Reqd | None = Reqd(self.name, CONFIGURATION, BootId(str(self.boots)), self.records, self.now)
        self.core.orders.__class__ = self.kind
        self.request: Renew | None = None
        self._take(self.core.start(self.now))
        for who in (LOCKD, CLUSTERD):
            self.feed(Joined(who))

    def feed(self, event: Event) -> None:
        assert self.core is not None
        self._take(self.core.handle(event, self.now))

    def _take(self, output: Output) -> None:
        for save in output.save:
            if isinstance(save, Drop):
                self.records.pop(save.bucket, None)
            else:
                self.records.setdefault(save.bucket, {})[save.key] = save.value
        for tell in output.tell:
            if isinstance(tell.message, Renew):
                self.request = tell.message
        for do in output.do:
            self.feed(Done(do.id, StepResult(Probe.INACTIVE)))

    def ticks(self, until: float) -> int:
        return round(max(0.0, until - self.now) / TICK)

    def picture(self) -> Picture:
        core, answer = self.core, self.answer
        if core is None:
            record = Reqd(self.name, CONFIGURATION, BootId(""), self.records, 0.0).instances.records.get(APP)
            return Picture(False, self.boots, (record.generation, record.open) if record else (NO_GENERATION, False))
        record, machine, lease = core.instances.records.get(APP), core.instances.machines.get(APP), core._lease
        order, until = core.orders._waiting.get(APP, (None, 0.0))
        holds = self.ticks(lease.end)
        remembered = float(self.records.get("run.lease", {}).get("end", b"0"))
        return Picture(
            True,
            self.boots,
            (record.generation, record.open) if record else (NO_GENERATION, False),
            machine.phase if machine is not None else Phase.CLOSED,
            holds,
            self.ticks(remembered) if record and record.open else 0,
            lease.named.get(APP, NO_GENERATION) if holds else NO_GENERATION,
            self.ticks(self._sent(self.request.number) + LEASE) if self.request else 0,
            (self.ticks(self._sent(answer.number) + LEASE), dict(answer.named).get(APP, NO_GENERATION))
            if answer is not None and answer.boot == core.boot
            else None,
            (order.generation, self.ticks(until)) if order is not None else None,
        )

    def _sent(self, number: int) -> float:
        """When it was sent; long ago, if its answer says nothing new."""
        assert self.core is not None
        return self.core._lease._sent.get(number, float("-inf")) if number else float("-inf")


Act = tuple[str, Generation]


def live(node: Node, act: Act) -> None:
    verb, generation = act
    match verb:
        case "time passes":
            node.now += TICK
            node.feed(Woke())
        case "asks":
            node.core._urgent = True  # type: ignore[union-attr]
            node.feed(Woke())
        case "answered":
            assert node.request is not None
            named = ((APP, generation),) if generation else ()
            node.answer = Renewed(node.name, node.request.boot, node.request.number, Term(1), Index(9), named, LEASE)
        case "takes the answer":
            answer, node.answer = node.answer, None
            node.feed(Told(LOCKD, answer))
        case "start" | "stop":
            node.feed(Told(CLUSTERD, Order(verb, APP, generation, Term(1))))
        case "reqd restarts":
            node.answer = None
            node.start()
        case "off":
            node.core = node.answer = None
        case "boots":
            node.boots += 1
            node.records = {name: each for name, each in node.records.items() if not name.startswith("run.")}
            node.start()


@dataclass(frozen=True)
class World:
    current: Generation
    """The live grant."""
    nodes: tuple[Picture, Picture]


Kind = type[Orders]


def owner(generation: Generation) -> int:
    return (generation + 1) % 2


def acts(node: Picture, me: int, current: Generation) -> Iterator[Act]:
    """What may happen to a node, without the log's doing."""
    if not node.up:
        if node.boots < BOOTS:
            yield "boots", NO_GENERATION
        return
    if node.lease or node.remembered or node.asked or node.answer or node.waits:
        yield "time passes", NO_GENERATION
    if node.asked * TICK < LEASE:
        yield "asks", NO_GENERATION
    if node.asked and node.answer is None:
        yield "answered", current if owner(current) == me else NO_GENERATION
    if node.answer is not None:
        yield "takes the answer", NO_GENERATION
    yield "reqd restarts", NO_GENERATION
    for generation in range(1, current + 1):
        if owner(Generation(generation)) == me:
            yield "start", Generation(generation)
            yield "stop", Generation(generation)


def moves_by(kind: Kind) -> tuple[World, Callable[[World], Iterator[tuple[str, World]]]]:
    lives = tuple(Lives(lambda name=name: Node(name, kind), live, Node.picture) for name in (N1, N2))

    def after(world: World, me: int, act: Act) -> World:
        node, _ = lives[me].after(world.nodes[me], act)
        nodes = (node, world.nodes[1]) if me == 0 else (world.nodes[0], node)
        return changed(world, nodes=nodes)

    def moves(world: World) -> Iterator[tuple[str, World]]:
        for me, node in enumerate(world.nodes):
            for act in acts(node, me, world.current):
                yield f"n{me + 1}: {act}", after(world, me, act)
        if world.current == LAST:
            return
        me, following = owner(world.current), Generation(world.current + 1)
        node = world.nodes[me]
        if node.up and node.record == (world.current, False):
            yield f"n{me + 1} released it: {following}", changed(world, current=following)
        if not node.lease and not node.remembered and not node.answer:
            yield f"its lease is surely over: {following}", changed(world, current=following)
        off = after(world, me, ("off", NO_GENERATION)) if node.up else world
        yield f"n{me + 1} is fenced: {following}", changed(off, current=following)

    return World(Generation(1), (lives[0].first, lives[1].first)), moves


def wrong(world: World) -> bool:
    return any(node.running not in (NO_GENERATION, world.current) for node in world.nodes)


def test_no_late_order_starts_what_has_ended() -> None:
    first, moves = moves_by(Orders)
    states, way = search(first, moves, wrong)
    assert way is None, way
    assert states > 20_000


class Forgetful(Orders):
    """Of what is closed here it does not know any more that it was started."""

    def take(self, order: Order, now: float) -> bool:
        records = self._instances.records
        record = records.get(order.app)
        if record is None or record.open:
            return super().take(order, now)
        forgotten = records[order.app] = replace(record, generation=NO_GENERATION)
        taken = super().take(order, now)
        if records[order.app] is forgotten:
            records[order.app] = record
        return taken


class AnyLeaseWillDo(Orders):
    """Also one that names something else."""

    def _may_start(self, order: Order, now: float) -> bool:
        return self._lease.holds(now)


@pytest.mark.parametrize("kind", [Forgetful, AnyLeaseWillDo])
def test_with_any_rule_left_out_one_does(kind: Kind) -> None:
    _, way = search(*moves_by(kind), wrong)
    assert way is not None
