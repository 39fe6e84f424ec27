"""Every order of events around 'expired + watchdog': reqd's own rule of when to feed, the leader's of when it is over.

The world: a node that has something to stop, its watchdog, and reqd, which may be held between a decision and the feed,
and may die: then the kernel feeds once more, and a new life looks again. The lease is not renewed any more. Time goes
in whole steps. Wrong is a state in which the leader takes the proof while what the node had is still there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as changed

import msgspec
import pytest

from truecl.core.contract import Records
from truecl.core.leases import WATCHDOG_TIMES, Leases
from truecl.core.outbox import Outbox
from truecl.core.watchdog import Watchdog, WatchdogRecord
from truecl.model.actions import ArmWatchdog, FeedWatchdog, WatchdogArmed
from truecl.model.config import WatchdogConfig
from truecl.model.ids import NodeName
from truecl.model.ledger import LeaseTiming

from .search import search

NODE, TIMEOUT, END = NodeName("n1"), 3, 2
"""The lease ends at END; the leader's view of it began at 0."""
TIMING = LeaseTiming(lease=float(END), drift=0.0, stop_allowance=1.0)
CONFIG = WatchdogConfig(use="required", timeout=float(TIMEOUT))
DEATHS = 3
LAST = END + (WATCHDOG_TIMES + 2) * TIMEOUT


@dataclass(frozen=True)
class World:
    now: int = 0
    fed: int = 0
    """When the watchdog was last fed, by whomever."""
    alive: bool = True
    open: bool = True
    """This life of reqd has the device open."""
    pending: bool = False
    """It has decided to feed (or to open) and has not done it yet."""
    deaths: int = 0
    left: bool = True
    """Something is left to stop."""
    reset: bool = False


@dataclass(frozen=True)
class Rules:
    """The real ones; a test leaves one out."""

    watchdog: type[Watchdog] = Watchdog
    leases: type[Leases] = Leases
    opens_by_the_rule: bool = True


def decides(world: World, rules: Rules) -> bool:
    """Does reqd's own code feed, or open, now?"""
    record = msgspec.msgpack.encode(WatchdogRecord("/dev/watchdog", float(TIMEOUT)))
    records: Records = {"run.watchdog": {"armed": record}}
    out = Outbox()
    guard = rules.watchdog(CONFIG, TIMING.stop_allowance, records, out)
    if world.open:
        guard._armed, guard._tried = WatchdogArmed("hardware", float(TIMEOUT)), True
    guard.step(world.now < END or not world.left, float(world.now))
    asked = out.take().do
    assert all(isinstance(each.action, FeedWatchdog if world.open else ArmWatchdog) for each in asked)
    return bool(asked)


def moves_by(rules: Rules) -> Callable[[World], Iterator[tuple[str, World]]]:
    def moves(world: World) -> Iterator[tuple[str, World]]:
        if world.reset:
            if world.now < LAST:
                yield "time passes", changed(world, now=world.now + 1)
            return
        if world.now >= world.fed + TIMEOUT:
            yield "the watchdog resets the node", changed(world, reset=True, left=False, alive=False, pending=False)
            return
        if world.now < LAST:
            yield "time passes", changed(world, now=world.now + 1)
        if not world.alive:
            yield "a new life of reqd", changed(world, alive=True, open=not rules.opens_by_the_rule)
            return
        if world.pending:
            yield "it feeds", changed(world, pending=False, open=True, fed=world.now)
        elif decides(world, rules):
            yield "it decides to feed", changed(world, pending=True)
        if world.left and not world.pending and world.now >= END:
            yield "it has stopped everything", changed(world, left=False)
        if world.deaths < DEATHS:
            fed = world.now if world.open else world.fed
            yield "it dies", changed(
                world, alive=False, open=False, pending=False, deaths=world.deaths + 1, fed=fed
            )  # fmt: skip

    return moves


def wrong_by(rules: Rules) -> Callable[[World], bool]:
    over = rules.leases((TIMING,), 0.0, 0.0).surely_reset(NODE, float(TIMEOUT))
    return lambda world: world.left and world.now >= over


def test_in_no_order_of_events_is_anything_left_when_the_proof_is_taken() -> None:
    states, way = search(World(), moves_by(Rules()), wrong_by(Rules()))
    assert way is None, way
    assert states > 500


class FeedsAlways(Watchdog):
    def step(self, may_feed: bool, now: float) -> None:
        super().step(True, now)


class Two(Leases):
    """As if nobody fed it when reqd dies."""

    def surely_reset(self, node: NodeName, timeout: float) -> float:
        return super().surely_reset(node, 2 * timeout / WATCHDOG_TIMES)


class One(Leases):
    def surely_reset(self, node: NodeName, timeout: float) -> float:
        return super().surely_reset(node, timeout / WATCHDOG_TIMES)


@pytest.mark.parametrize(
    "rules",
    [Rules(watchdog=FeedsAlways), Rules(leases=Two), Rules(leases=One), Rules(opens_by_the_rule=False)],
    ids=["feeds after the lapse", "two timeouts", "one timeout", "opens it whatever the lease says"],
)
def test_with_any_rule_left_out_there_is_one(rules: Rules) -> None:
    _, way = search(World(), moves_by(rules), wrong_by(rules))
    assert way is not None
