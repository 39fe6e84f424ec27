"""Every order of events around a fence: the device is slow, its word comes late, the node is booted by somebody.

The world: `n1` is granted an application with storage, `n2` leads and plans with the real planner on the real ledger
(entries are committed at once; what is slow here are the device, the orders and the node). Wrong is a state in which n1
runs a generation that the log says has ended.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as changed

import pytest

from truecl.core import ledger as ledgers
from truecl.core.fitness import PlanInput
from truecl.core.planner import plan
from truecl.model.config import (
    AppConfig,
    ClusterConfig,
    Configuration,
    FenceConfig,
    FileStorage,
    LinkConfig,
    NodeConfig,
    Volume,
)
from truecl.model.ids import NO_GENERATION, AppName, BootId, Generation, Index, LinkName, NodeName, Term
from truecl.model.ledger import AnyCommand, Batch, ConfirmFence, GiveGrant, Ledger, SetWanted, Wanted
from truecl.model.report import InstanceReport, Phase

from .search import search

DB, N1, N2 = AppName("db"), NodeName("n1"), NodeName("n2")
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="c",
        links=(LinkConfig(name=LinkName("lan")),),
        nodes=tuple(
            NodeConfig(name=name, addresses={}, fence=((FenceConfig(agent="/bin/fence"),),)) for name in (N1, N2)
        ),
    ),
    apps=(AppConfig(name=DB, nodes=(N1, N2), volumes=(Volume(name="d", storage=FileStorage(image="/i")),)),),
)
LAST_INDEX = 8
"""The search ends where the log is so long."""
Naming = Callable[[Ledger, NodeName], tuple[tuple[AppName, Generation], ...]]


@dataclass(frozen=True)
class World:
    """Of n1, `seen` is its durable record (the newest generation) and `named` what its lease names."""

    log: tuple[AnyCommand, ...]
    up: bool = True
    boots: int = 0
    running: Generation = NO_GENERATION
    seen: Generation = NO_GENERATION
    named: Generation = NO_GENERATION
    orders: frozenset[Generation] = frozenset()
    """Starts on their way to n1; each may come any number of times."""
    asked: Index = Index(0)
    """The order that the device has been asked for."""
    off: Index = Index(0)
    """The order that the device has carried out, and whose confirmation is on its way."""


_LEDGERS: dict[tuple[AnyCommand, ...], Ledger] = {}


def ledger_of(log: tuple[AnyCommand, ...]) -> Ledger:
    if log not in _LEDGERS:
        before = ledger_of(log[:-1]) if log else Ledger()
        _LEDGERS[log] = ledgers.apply(before, Index(len(log)), Term(1), Batch(log[-1:])) if log else before
    return _LEDGERS[log]


def grant_of(world: World) -> tuple[NodeName, Generation] | None:
    grant = ledgers.app_state(ledger_of(world.log), DB).grant
    return (grant.node, grant.generation) if grant is not None else None


def planned(world: World, heard: bool) -> Iterator[tuple[str, World]]:
    """One pass of the master, for which n1 is well (`heard`) or lost."""
    line = InstanceReport(DB, world.seen, Phase.RUNNING if world.running else Phase.CLOSED)
    lines = (line,) if world.seen else ()
    alive = frozenset({N1, N2} if heard else {N2})
    reports = {N1: (BootId(str(world.boots)), lines)} if heard else {}
    lost = frozenset() if heard else frozenset({N1})
    decided = plan(
        PlanInput(N2, CONFIGURATION, ledger_of(world.log), alive, frozenset(), lost, reports, frozenset(), {})
    )
    words = "hears n1" if heard else "calls n1 lost"
    starts = {order.generation for order in decided.orders if (order.node, order.verb) == (N1, "start")}
    if starts - world.orders:
        yield f"the master {words}, orders {starts}", changed(world, orders=world.orders | starts)
    if decided.fences and not world.asked:
        yield f"the master {words}, asks the device", changed(world, asked=decided.fences[0][1])
    for upto in range(1, len(decided.commands) + 1):  # the leader may be lost between any two of them
        if len(world.log) + upto <= LAST_INDEX:
            written = decided.commands[:upto]
            yield f"the master {words}, writes {written}", changed(world, log=world.log + written)


def moves_with(naming: Naming) -> Callable[[World], Iterator[tuple[str, World]]]:
    def moves(world: World) -> Iterator[tuple[str, World]]:
        yield from planned(world, heard=False)
        if world.asked:
            yield (
                "the device: off",
                changed(world, asked=Index(0), off=world.asked, up=False, running=NO_GENERATION, named=NO_GENERATION),
            )
        if world.off and len(world.log) < LAST_INDEX:
            confirmed = (*world.log, ConfirmFence(N1, world.off))
            yield "the confirmation is committed", changed(world, log=confirmed, off=Index(0))
        if not world.up:
            if world.boots == 0:
                yield "n1 is booted", changed(world, up=True, boots=1)
            return
        yield from planned(world, heard=True)
        named = dict(naming(ledger_of(world.log), N1)).get(DB, NO_GENERATION)
        if named != world.named:
            running = world.running if world.running == named else NO_GENERATION
            yield f"n1's lease names {named}", changed(world, named=named, running=running)
        for generation in sorted(world.orders):
            if generation == world.named and generation > world.seen:
                yield f"n1 starts {generation}", changed(world, seen=generation, running=generation)

    return moves


FIRST = World(log=(SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N1)))


def wrong(world: World) -> bool:
    return world.running != NO_GENERATION and grant_of(world) != (N1, world.running)


def test_a_late_confirmation_ends_nothing_that_runs() -> None:
    states, way = search(FIRST, moves_with(ledgers.named_to), wrong)
    assert way is None, way
    assert states > 1000


@pytest.mark.parametrize("naming", [ledgers.granted_to])
def test_it_would_if_leases_named_what_a_fence_order_names(naming: Naming) -> None:
    _, way = search(FIRST, moves_with(naming), wrong)
    assert way is not None
    assert way.index("n1 is booted") < way.index("n1 starts 2")
