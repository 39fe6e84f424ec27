"""Leases while the other of two voters is included again: whose word the leader's rounds need, and from when on. The
log's own core (core/raft/) on two voters, and the leader's side of the leases (core/leases.py).

The world: n1 leads alone, n2 is excluded and follows the log; a third node has a lease. n1 renews it, includes n2 as
soon as that has everything, and goes on renewing; then n2 fences n1 and leads alone. Messages are as late as they like,
time goes in whole steps. Wrong is a state in which that lease still holds when, by n2, it is surely over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as changed
from random import Random

import pytest

from truecl.core.leases import Leases
from truecl.core.quorum import has_quorum
from truecl.core.raft import Raft
from truecl.core.raft.tenure import Tenure
from truecl.model.config import Timing
from truecl.model.ids import BootId, NodeName
from truecl.model.ledger import LeaseTiming
from truecl.model.membership import Membership
from truecl.wire.messages import Renew
from truecl.wire.raft import RaftMessage

from .lives import Lives, picture_of
from .search import search

N1, N2 = VOTERS = NodeName("n1"), NodeName("n2")
OWNER, BOOT = NodeName("owner"), BootId("b")
LEASE, LAST = 2, 6
"""Its length, and the last moment."""
TIMINGS = (LeaseTiming(float(LEASE), 0.0, 0.0),)
LEFT_OUT = frozenset(
    """_random _timing _timings _since _writer _sends _told _deadline _patience heard_at _heard_at part_sent_at faults
    _round_told _now""".split()  # noqa: SIM905
)
"""Of a Raft and its leases: what changes nothing within the bounds of this search."""


class Middling(Random):
    def random(self) -> float:
        return 0.5


@dataclass(frozen=True)
class Rules:
    tenure: type[Tenure] = Tenure
    raft: type[Raft] = Raft


@dataclass(frozen=True)
class Picture:
    alone: bool
    elector: bool
    caught_up: bool
    over: float
    """When the owner's lease is surely over by this leader."""
    all: int


class Voter:
    def __init__(self, name: NodeName, rules: Rules) -> None:
        self.rules = rules
        self.raft = rules.raft(name, "c", Membership(VOTERS), {}, Middling(), Timing(election=1000.0))
        self.raft.start(0.0)
        self.leases: Leases | None = None

    def picture(self) -> Picture:
        raft, leases = self.raft, self.leases
        over = leases.surely_over(OWNER) if leases is not None else float("inf")
        return Picture(raft.alone, raft.may_lead, raft.caught_up, over, picture_of((raft, leases), LEFT_OUT))


Act = tuple[str, float, RaftMessage | None]
Outcome = tuple[tuple[RaftMessage, ...], int]
"""What it sends to the other, and when the latest request was sent that it answers now; -1: it answers none."""


def live(voter: Voter, act: Act) -> Outcome:
    what, now, message = act
    raft = voter.raft
    match what:
        case "receives":
            assert message is not None
            raft.receive(raft.other or N1, message, now)
        case "stands":
            raft.campaign(now)
        case "excludes":
            raft.exclude((), now)
        case "includes":
            raft.include(now)
        case "is asked":
            assert voter.leases is not None
            voter.leases.requested(Renew(OWNER, BOOT, int(now), ()), raft.next_round, now)
            raft.start_round(now)
        case "begins a round":
            raft.start_round(now)
    if raft._tenure is not None:
        raft._tenure.__class__ = voter.rules.tenure
    step = raft.take()
    if raft.lease_bound is None:
        voter.leases = None
    elif voter.leases is None:
        voter.leases = Leases(TIMINGS, raft.lease_bound, now)
    answered = voter.leases.completed(step.completed_round) if voter.leases is not None and step.completed_round else ()
    return tuple(send.message for send in step.sends), max((each.number for each in answered), default=-1)


@dataclass(frozen=True)
class World:
    now: int
    voters: tuple[Picture, Picture]
    asked: int = 0
    """When the owner last did, once a step at the most."""
    end: int = LEASE
    """Of the owner's lease."""
    wires: tuple[tuple[RaftMessage, ...], tuple[RaftMessage, ...]] = ((), ())
    """What is on its way to each; what is newer takes its place."""


class Game:
    def __init__(self, rules: Rules) -> None:
        self.lives = tuple(Lives(lambda name=name: Voter(name, rules), live, Voter.picture) for name in VOTERS)
        world = World(0, (self.lives[0].first, self.lives[1].first))
        for what in ("stands", "excludes", "begins a round"):
            world = self._settled(self._act(world, 0, what))
        self.first = world

    def _settled(self, world: World) -> World:
        while any(world.wires):
            world = self._arrives(world, 0 if world.wires[0] else 1)
        return world

    def _act(self, world: World, place: int, what: str, message: RaftMessage | None = None) -> World:
        picture, (sent, asked) = self.lives[place].after(world.voters[place], (what, float(world.now), message))
        voters = (picture, world.voters[1]) if place == 0 else (world.voters[0], picture)
        wires = world.wires
        if sent:
            wires = (wires[0], sent) if place == 0 else (sent, wires[1])
        return changed(world, voters=voters, wires=wires, end=max(world.end, asked + LEASE))

    def _arrives(self, world: World, place: int) -> World:
        messages = world.wires[place]
        world = changed(world, wires=((), world.wires[1]) if place == 0 else (world.wires[0], ()))
        for message in messages:
            world = self._act(world, place, "receives", message)
        return world

    def moves(self, world: World) -> Iterator[tuple[str, World]]:
        if world.now >= world.end:
            return
        first, second = world.voters
        if world.now < LAST:
            yield "time passes", changed(world, now=world.now + 1)
        if second.alone:
            return  # n1 is off
        for place in (0, 1):
            if world.wires[place]:
                names = "+".join(type(each).__name__ for each in world.wires[place])
                yield f"{VOTERS[place]} gets {names}", self._arrives(world, place)
        if world.asked < world.now:
            yield "the owner asks n1", changed(self._act(world, 0, "is asked"), asked=world.now)
        if first.caught_up:
            yield "n1 includes n2", self._act(world, 0, "includes")
        if second.elector:
            yield "n2 fences n1, and leads alone", changed(self._act(world, 1, "excludes"), wires=((), ()))


def wrong(world: World) -> bool:
    return world.voters[1].over <= world.now < world.end


def test_no_lease_outlives_what_the_included_node_reckons_with() -> None:
    game = Game(Rules())
    states, way = search(game.first, game.moves, wrong)
    assert way is None, way
    assert states > 1_000


class NeedsItOnceThatIsCommitted(Tenure):
    """The included node's word, for a round."""

    @property
    def round_acknowledged(self) -> int:
        settled = self._log.membership_at(self._log.commit)
        return self.round if has_quorum(settled, (self._me,)) else super().round_acknowledged


class DoesNotRememberAsALearner(Raft):
    """What it acknowledged while it was excluded, and with the entry that ends that."""

    def _acknowledge(self, node: NodeName) -> bool:
        before, excluded = self.acknowledged_at, not self.may_lead
        heard = super()._acknowledge(node)
        if excluded:
            self.acknowledged_at = before
        return heard


@pytest.mark.parametrize(
    "rules",
    [Rules(tenure=NeedsItOnceThatIsCommitted), Rules(raft=DoesNotRememberAsALearner)],
    ids=["commit", "learner"],
)
def test_with_any_rule_left_out_one_does(rules: Rules) -> None:
    game = Game(rules)
    _, way = search(game.first, game.moves, wrong)
    assert way is not None
