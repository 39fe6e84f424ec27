"""Every order of events around a lease that several leaders may have given: lockd's own core (core/lockd.py with raft/
and leases.py) on three voters, and core/lease.py at the owner, which is none of them.

The world: n1 leads and the owner has its lease. Time goes in whole steps; of each kind one message at a time is on its
way between two nodes, for as long as it likes, or it is lost to a newer one. The hbd of n2 and of n3 may call n1 dead
though it lives, a voter may restart, and any leader's clusterd asks for the end of the grant on 'expired' whenever it
likes: lockd itself refuses that or not. Wrong is a state in which a voter has applied the end of the grant while the
owner's lease still names it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as changed
from random import Random
from typing import Any

import pytest
from raft_cluster import apply_saves, copy_records

from truecl.core.contract import Event, Output, Received, Records, Told, Woke
from truecl.core.lease import Lease
from truecl.core.leases import Leases
from truecl.core.ledger import app_state, lease_timing
from truecl.core.lockd import Lockd
from truecl.core.raft import Raft
from truecl.core.raft.tenure import Tenure
from truecl.model.config import ClusterConfig, Configuration, LinkConfig, NodeConfig, Timing
from truecl.model.ids import CLUSTERD, HBD, REQD, AppName, BootId, Generation, LinkName, NodeName, Term
from truecl.model.ledger import ALWAYS, Configure, EndGrant, GiveGrant, Proof, SetWanted, Wanted
from truecl.model.membership import Membership
from truecl.model.report import InstanceReport, Phase
from truecl.wire.messages import Campaign, NodeView, Propose, Renew, Renewed, StepDown, View

from .lives import Lives, picture_of
from .search import search

N1, N2, N3 = VOTERS = tuple(NodeName(name) for name in ("n1", "n2", "n3"))
OWNER, BOOT, WEB = NodeName("owner"), BootId("b"), AppName("web")
NEVER = 1000.0
"""Seconds: Raft's own timeouts are longer than the search goes; hbd's verdict elects."""
TIMING = Timing(election=NEVER, renewal=1.0, lease=3.0, drift=0.0, stop_allowance=0.0)
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="c",
        links=(LinkConfig(name=LinkName("lan")),),
        nodes=tuple(NodeConfig(name=name, addresses={}) for name in VOTERS),
        timing=TIMING,
    ),
    apps=(),
)
LAST = 4.0
"""The last moment."""
REQUESTS = 1
"""Of the owner, after the first."""
LAST_TERM = 3
CUT = frozenset({(N1, N2), (N2, N1)})
"""Between these two all is lost, but what an election needs: so n1 does not hear that it is deposed."""
GRANT = Generation(3)
"""After the birth of the log and the empty entry of its first term."""


class Middling(Random):
    def random(self) -> float:
        return 0.5


@dataclass(frozen=True)
class Rules:
    """The real ones; a test leaves one out."""

    raft: type[Raft] = Raft
    leases: type[Leases] = Leases
    lockd: type[Lockd] = Lockd


class Voter:
    """A lockd with its journal."""

    def __init__(self, name: NodeName, rules: Rules) -> None:
        self.name, self.rules = name, rules
        self.records: Records = {}
        raft = Raft(name, "c", Membership(VOTERS, (OWNER,)), {}, Middling(), TIMING)
        apply_saves(self.records, raft.take().saves)
        self.start(0.0)

    def start(self, now: float) -> Output:
        rules = self.rules
        self.core = rules.lockd(self.name, CONFIGURATION, copy_records(self.records), Middling(), BOOT)
        self.core.raft.__class__ = rules.raft
        return self._save_of(self.core.start(now))

    def handle(self, event: Event, now: float) -> Output:
        output = self._save_of(self.core.handle(event, now))
        if self.core._leases is not None:
            self.core._leases.__class__ = self.rules.leases
        return output

    def _save_of(self, output: Output) -> Output:
        apply_saves(self.records, output.save)
        return output

    def picture(self) -> "Picture":
        core, raft, leases = self.core, self.core.raft, self.core._leases
        ready = raft.ready and leases is not None
        return Picture(
            app_state(core.ledger, WEB).grant is not None,
            app_state(core.ledger, WEB).ended is not None,
            raft.ready,
            raft.term,
            leases.surely_over(OWNER) if ready else float("inf"),
            raft._tenure is not None,
            bool(core._early or (leases is not None and leases._pending)),
            raft._tenure.heartbeat_at if raft._tenure is not None else float("inf"),
            picture_of(core, LEFT_OUT),
        )


LEFT_OUT = frozenset(
    """_random _timing _writer _sends _out _told _nodes _leadership _members _applied_told _deadline _patience heard_at
    _heard_at part_sent_at faults _subscribers _round_told _cluster pair""".split()  # noqa: SIM905
)
"""Of a lockd: what changes nothing within the bounds of this search."""


@dataclass(frozen=True)
class Picture:
    granted: bool
    ended: bool
    """As far as it has applied the log."""
    ready: bool
    term: Term
    over: float
    """When the owner's lease is surely over, as this leader sees it."""
    leads: bool
    pending: bool
    """A request waits for a round."""
    round_at: float
    """When its next round is due."""
    all: int


class Owner:
    """The lease that its reqd keeps. It runs the grant from the beginning, and asks when the search says so."""

    def __init__(self) -> None:
        self.lease = Lease(OWNER, BOOT, TIMING.lease, NEVER, 0, 0.0)

    def picture(self) -> "OwnersPicture":
        lease = self.lease
        return OwnersPicture(lease.end, bool(lease.named), lease._number, lease._answered, tuple(lease._sent.items()))


@dataclass(frozen=True)
class OwnersPicture:
    end: float
    named: bool
    number: int
    answered: int
    sent: tuple[tuple[int, float], ...]


def live_at_voter(voter: Voter, act: tuple[float, Event | None]) -> tuple[tuple[NodeName, Any], ...]:
    """`None`: it restarts. Returns what it sends."""
    now, event = act
    output = voter.start(now) if event is None else voter.handle(event, now)
    return tuple((send.node, send.message) for send in output.send)


def live_at_owner(owner: Owner, act: tuple[float, Renewed | None]) -> Renew | None:
    """`None`: it asks."""
    now, answer = act
    if answer is None:
        return owner.lease.request((InstanceReport(WEB, GRANT, Phase.RUNNING),), False, now)
    owner.lease.answer(answer, now)
    return None


Flight = tuple[NodeName, NodeName, tuple[Any, ...]]
"""From, to, and what one event made it send."""


@dataclass(frozen=True)
class World:
    now: float
    voters: tuple[Picture, ...]
    owner: OwnersPicture
    flights: frozenset[Flight] = frozenset()
    request: Renew | None = None
    answer: Renewed | None = None
    restarts: int = 0
    cut: frozenset[tuple[NodeName, NodeName]] = frozenset()

    @property
    def fixed(self) -> bool:
        """Nothing can lengthen the owner's lease any more."""
        under_way = self.request or self.answer or any(voter.pending for voter in self.voters)
        return self.owner.number > REQUESTS and not under_way


class Game:
    """All moves, by the given rules."""

    def __init__(self, rules: Rules) -> None:
        self.voters = tuple(
            Lives(lambda name=name: Voter(name, rules), live_at_voter, Voter.picture) for name in VOTERS
        )
        self.owner = Lives(Owner, live_at_owner, Owner.picture)
        self.first = self._formed()

    def _formed(self) -> World:
        """n1 leads, the grant is committed everywhere, and the owner has its lease."""
        world = World(0.0, tuple(each.first for each in self.voters), self.owner.first)
        world = self._at_once(world, VOTERS, N1, Told(REQD, Campaign()))
        given = (
            Configure("", lease_timing(TIMING)),
            SetWanted(WEB, Wanted.RUNNING),
            GiveGrant(WEB, OWNER, proofs=(*ALWAYS, Proof.EXPIRED)),
        )
        world = self._at_once(world, VOTERS, N1, Told(CLUSTERD, Propose(1, Term(2), given)))
        owner, request = self.owner.after(world.owner, (0.0, None))
        world = self._at_once(changed(world, owner=owner), VOTERS, N1, Received(OWNER, request))
        owner, _ = self.owner.after(world.owner, (0.0, world.answer))
        return changed(world, owner=owner, answer=None, cut=CUT)

    # ---- what one event leads to ------------------------------------------------------------------------------------

    def _happens(self, world: World, at: NodeName, event: Event | None) -> World:
        number = VOTERS.index(at)
        picture, sent = self.voters[number].after(world.voters[number], (world.now, event))
        voters = (*world.voters[:number], picture, *world.voters[number + 1 :])
        flights, answer = world.flights, world.answer
        for to in VOTERS:
            bundle = tuple(message for node, message in sent if node == to)
            if bundle and (at, to) not in world.cut:
                flights = frozenset(each for each in flights if each[:2] != (at, to)) | {(at, to, bundle)}
        for to, message in sent:
            if to == OWNER and isinstance(message, Renewed):
                answer = message
        return changed(world, voters=voters, flights=flights, answer=answer)

    def _arrives(self, world: World, flight: Flight) -> World:
        source, to, bundle = flight
        world = changed(world, flights=world.flights - {flight})
        for message in bundle:
            world = self._happens(world, to, Received(source, message))
        return world

    def _at_once(self, world: World, among: tuple[NodeName, ...], at: NodeName, *events: Event) -> World:
        """Everything that follows among these, without delay. What they send to others is lost; what was on its way
        before stays so."""
        before, cut = world.flights, world.cut
        world = changed(world, flights=frozenset(), cut=frozenset())
        for event in events:
            world = self._happens(world, at, event)
        while inside := [each for each in world.flights if each[0] in among and each[1] in among]:
            world = self._arrives(world, min(inside, key=lambda each: each[:2]))
        return changed(world, flights=before, cut=cut)

    # ---- the moves --------------------------------------------------------------------------------------------------

    def moves(self, world: World) -> Iterator[tuple[str, World]]:
        if not world.owner.named or world.now >= world.owner.end:
            return  # its guard has closed it, for good
        if world.now < LAST:
            yield "time passes", changed(world, now=world.now + 1.0)
        if not world.fixed:
            yield from self._message_moves(world)
        for other in (N1, N3):
            yield from self._pair_moves(world, N2, other)

    def _message_moves(self, world: World) -> Iterator[tuple[str, World]]:
        yield from self._owner_moves(world)
        for flight in world.flights:
            names = "+".join(type(each).__name__ for each in flight[2])
            yield f"{flight[0]}'s {names} reaches {flight[1]}", self._arrives(world, flight)
        for at, voter in zip(VOTERS, world.voters, strict=True):
            if voter.round_at <= world.now:
                yield f"{at} begins a round", self._happens(world, at, Woke())
            if not world.restarts and at == N3:
                yield f"{at} restarts", changed(self._happens(world, at, None), restarts=1, flights=world.flights)

    def _owner_moves(self, world: World) -> Iterator[tuple[str, World]]:
        if world.owner.number <= REQUESTS:
            owner, request = self.owner.after(world.owner, (world.now, None))
            yield "the owner asks", changed(world, owner=owner, request=request)
        if world.request is not None:
            for at, voter in zip(VOTERS, world.voters, strict=True):
                if voter.leads:
                    arrived = self._happens(changed(world, request=None), at, Received(OWNER, world.request))
                    yield f"its request reaches {at}", arrived
        if world.answer is not None:
            owner, _ = self.owner.after(world.owner, (world.now, world.answer))
            yield "the owner takes its answer", changed(world, owner=owner, answer=None)

    def _pair_moves(self, world: World, at: NodeName, other: NodeName) -> Iterator[tuple[str, World]]:
        """What `at` can do with the help of `other` alone."""
        voter = world.voters[VOTERS.index(at)]
        if voter.ready and voter.granted and voter.over <= world.now:
            end = EndGrant(WEB, GRANT, Proof.EXPIRED)
            proposed = self._at_once(world, (at, other), at, Told(CLUSTERD, Propose(1, voter.term, (end,))))
            yield f"{at} ends it, and {other} acknowledges", proposed
        if voter.leads or voter.term == LAST_TERM:
            return
        if other == N1 and world.voters[0].ready:
            handed_over = self._at_once(world, (at, other), other, Told(CLUSTERD, StepDown()))
            yield f"{other} hands over to {at}", handed_over
        else:
            dead = tuple(NodeView(each, BootId("1"), False, ()) for each in VOTERS if each not in (at, other))
            alone = Told(HBD, View(dead))
            world = self._at_once(world, (), other, alone)
            yield f"{other} elects {at}", self._at_once(world, (at, other), at, alone, Told(REQD, Campaign()))


def wrong(world: World) -> bool:
    holds = world.owner.named and world.now < world.owner.end
    return holds and any(voter.ended for voter in world.voters)


PROPER = (Raft, Leases, Lockd)


class AnyRoundWillDo(Leases):
    """Also one that began before the request came."""

    def requested(self, request: Renew, next_round: int, now: float) -> None:
        super().requested(request, next_round - 1, now)


class OnlyItsOwnAnswers(Leases):
    """It knows only of its own answers."""

    def surely_over(self, node: NodeName, addressed: bool = False) -> float:
        return super().surely_over(node, addressed) if node in self._answered else float("-inf")


class OnlyItsOwnWord(Raft):
    """The bound is when the candidate itself last acknowledged a leader."""

    def _become_leader(self) -> None:
        super()._become_leader()
        if self._tenure is not None:
            self._tenure.lease_bound = self._tally._granted[self.me]


class ForgetsWithTheTerm(Raft):
    """What it acknowledged to leaders of older terms."""

    def _enter(self, term: Term, voted_for: NodeName | None) -> None:
        super()._enter(term, voted_for)
        self.acknowledged_at = 0.0


class ForgetsWhenItRestarts(Raft):
    def start(self, now: float) -> None:
        super().start(now)
        self.acknowledged_at = 0.0


class NotItsOwnRounds(Raft):
    """A leader does not count as having acknowledged itself."""

    def _begin_round(self, tenure: Tenure, observers: bool) -> int:
        before = self.acknowledged_at
        number = super()._begin_round(tenure, observers)
        self.acknowledged_at = before
        return number


class AnswersWithoutARound(Lockd):
    def _renew(self, message: Renew, now: float) -> None:
        super()._renew(message, now)
        self._answer(1 << 40)


def test_no_leader_takes_a_lease_for_over_that_another_gave() -> None:
    game = Game(Rules())
    states, way = search(game.first, game.moves, wrong)
    assert way is None, way
    assert states > 50_000


@pytest.mark.parametrize(
    "rules",
    [
        Rules(leases=AnyRoundWillDo),
        Rules(leases=OnlyItsOwnAnswers),
        Rules(raft=OnlyItsOwnWord),
        Rules(raft=ForgetsWithTheTerm),
        Rules(raft=ForgetsWhenItRestarts),
        Rules(raft=NotItsOwnRounds),
        Rules(lockd=AnswersWithoutARound),
    ],
    ids=lambda rules: next(each.__name__ for each in (rules.raft, rules.leases, rules.lockd) if each not in PROPER),
)
def test_with_any_rule_left_out_one_does(rules: Rules) -> None:
    game = Game(rules)
    _, way = search(game.first, game.moves, wrong)
    assert way is not None
