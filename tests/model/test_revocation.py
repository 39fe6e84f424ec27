"""Every order of events around a takeover on 'expired': both sides of a lease as they are, core/lease.py and leases.py.

The world: one owner, and two leaders one after the other. Time goes in whole steps, messages are late and doubled, the
owner takes up its start at any moment. An application without storage is taken from the owner when its lease is surely
over. Wrong is a state in which the log has ended the grant while, by its own lease, the owner runs it or may start it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as changed

import pytest

from truecl.core.lease import Lease
from truecl.core.leases import Leases
from truecl.model.ids import AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.ledger import LeaseTiming
from truecl.model.report import InstanceReport, Phase
from truecl.wire.messages import Renew, Renewed

from .search import search

WEB, OWNER, BOOT, GENERATION = AppName("web"), NodeName("n1"), BootId("b"), Generation(7)
TIMING, RENEWAL = LeaseTiming(lease=2.0, drift=0.0, stop_allowance=1.0), 1.0
LAST = 5
"""The last moment."""
MOST_REQUESTS = 2
Pending = tuple[Renew, float, int]


@dataclass(frozen=True)
class World:
    now: float = 0.0
    term: int = 1
    ready: bool = True
    """The leader's entry of its own term is committed."""
    bound: float = 0.0
    acknowledged: float = 0.0
    """When a quorum last acknowledged a round."""
    grant: str = "live"
    """'live', 'proposed' (its end), 'ended'."""
    pending: tuple[Pending, ...] = ()
    answered: float | None = None
    revoked: bool = False
    # the owner
    end: float = 0.0
    named: bool = False
    number: int = 0
    latest: int = 0
    sent: tuple[tuple[int, float], ...] = ()
    seen: bool = False
    open: bool = False
    requests: frozenset[Renew] = frozenset()
    answers: frozenset[tuple[int, bool]] = frozenset()


@dataclass(frozen=True)
class Rules:
    """The real ones; a test leaves one out."""

    leases: type[Leases] = Leases
    waits_until_ready: bool = True
    takes_the_bound: bool = True
    lease: type[Lease] = Lease


def owner_of(world: World, rules: Rules) -> Lease:
    lease = rules.lease(OWNER, BOOT, TIMING.lease, RENEWAL, 0, 0.0)
    lease.end, lease.named = world.end, {WEB: GENERATION} if world.named else {}
    lease._number, lease._answered, lease._sent = world.number, world.latest, dict(world.sent)
    return lease


def leases_of(world: World, rules: Rules) -> Leases:
    leases = rules.leases((TIMING,), world.bound if rules.takes_the_bound else 0.0, world.now)
    for request, received, round in world.pending:
        leases.requested(request, round, received)
    if world.answered is not None:
        leases._answered[OWNER] = world.answered
    if world.revoked:
        leases.revoke(OWNER, WEB, GENERATION)
    return leases


def after_leases(world: World, leases: Leases) -> World:
    return changed(
        world,
        pending=tuple((each.request, each.received, each.round) for each in leases._pending),
        answered=leases._answered.get(OWNER),
        revoked=OWNER in leases._revoked,
    )


def owner_moves(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    lease = owner_of(world, rules)
    if world.open and not lease.holds(world.now):
        yield "the owner's guard closes it", changed(world, open=False)
        return  # a lapse comes first, whatever else is there
    if world.number < MOST_REQUESTS:
        phase = Phase.RUNNING if world.open else Phase.CLOSED
        line = (InstanceReport(WEB, GENERATION, phase),) if world.seen else ()
        request = lease.request(line, False, world.now)
        yield (
            "the owner asks",
            changed(world, number=lease._number, sent=tuple(lease._sent.items()), requests=world.requests | {request}),
        )
    for number, named in sorted(world.answers):
        lease = owner_of(world, rules)
        what = ((WEB, GENERATION),) if named else ()
        lease.answer(Renewed(OWNER, BOOT, number, Term(world.term), Index(9), what, TIMING.lease), world.now)
        yield f"the owner takes answer {number}, which names {what}", changed(
            world, end=lease.end, named=WEB in lease.named, latest=lease._answered, sent=tuple(lease._sent.items()),
            open=world.open and lease.names(WEB, GENERATION, world.now),
            answers=frozenset(each for each in world.answers if each[0] > lease._answered),
        )  # fmt: skip
    if not world.seen and owner_of(world, rules).names(WEB, GENERATION, world.now):
        yield "the owner starts it", changed(world, seen=True, open=True)


def leader_moves(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    may_answer = world.ready or not rules.waits_until_ready
    for request in sorted(world.requests, key=lambda each: each.number):
        if may_answer and len(world.pending) < 2:
            leases = leases_of(world, rules)
            live = [] if world.grant == "ended" and world.ready else [(WEB, GENERATION)]
            leases.reported(request, live)
            leases.requested(request, 1, world.now)
            yield (
                f"leader {world.term} gets request {request.number}",
                after_leases(changed(world, requests=world.requests - {request}), leases),
            )
    if world.pending:
        leases = leases_of(world, rules)
        numbers = [each.number for each in leases.completed(1)]
        names = world.grant != "ended" or not world.ready
        answers = world.answers | {(number, names) for number in numbers}
        done = changed(world, acknowledged=world.now if world.term == 1 else 0.0, answers=answers)
        yield f"a round of leader {world.term} answers {numbers}", after_leases(done, leases)
    leases = leases_of(world, rules)
    if world.ready and world.grant == "live" and world.now >= leases.surely_over(OWNER):
        leases.revoke(OWNER, WEB, GENERATION)
        yield f"leader {world.term} proposes the end", after_leases(changed(world, grant="proposed"), leases)
    if world.ready and world.grant == "proposed":
        yield "the end is committed", changed(world, grant="ended")


def elections(world: World) -> Iterator[tuple[str, World]]:
    if world.term == 1:
        after = changed(
            world, term=2, ready=False, bound=world.acknowledged, acknowledged=0.0, pending=(), answered=None,
            revoked=False,
        )  # fmt: skip
        yield "leader 2, with every entry", after
        if world.grant == "proposed":
            yield "leader 2, without the entry", changed(after, grant="live")
    elif not world.ready:
        grant = "ended" if world.grant == "proposed" else world.grant
        yield "leader 2 commits an entry of its own", changed(world, ready=True, grant=grant)


def moves_by(rules: Rules) -> Callable[[World], Iterator[tuple[str, World]]]:
    def moves(world: World) -> Iterator[tuple[str, World]]:
        if world.now < LAST:
            yield "time passes", changed(world, now=world.now + 1.0)
        yield from owner_moves(world, rules)
        yield from leader_moves(world, rules)
        yield from elections(world)

    return moves


def wrong(world: World) -> bool:
    runs_or_may_start = world.open or not world.seen
    return world.grant == "ended" and runs_or_may_start and world.named and world.now < world.end


def test_no_order_of_events_leaves_two_owners() -> None:
    states, way = search(World(), moves_by(Rules()), wrong)
    assert way is None, way
    assert states > 10_000


class NeverRevokes(Leases):
    def revoke(self, node: NodeName, app: AppName, generation: Generation) -> None:
        """The old owner is renewed as before."""


class RenewsWhoNeverSawIt(Leases):
    def reported(self, request: Renew, live: object) -> None:
        super().reported(request, ())


class CountsFromTheAnswer(Lease):
    """The lease would begin when the answer comes."""

    def answer(self, message: Renewed, now: float) -> bool:
        self._sent = dict.fromkeys(self._sent, now)
        return super().answer(message, now)


class NoMargin(Leases):
    def surely_over(self, node: NodeName, addressed: bool = False) -> float:
        timing = self._timings[0]
        return super().surely_over(node, addressed) - timing.lease - timing.stop_allowance


@pytest.mark.parametrize(
    "rules",
    [
        Rules(leases=NeverRevokes),
        Rules(leases=RenewsWhoNeverSawIt),
        Rules(leases=NoMargin),
        Rules(waits_until_ready=False),
        Rules(takes_the_bound=False),
        Rules(lease=CountsFromTheAnswer),
    ],
    ids=["never revokes", "renews who never saw it", "no margin", "answers before it is ready", "forgets the bound",
         "counts from the answer"],
)  # fmt: skip
def test_with_any_rule_left_out_there_is_one(rules: Rules) -> None:
    _, way = search(World(), moves_by(rules), wrong)
    assert way is not None
