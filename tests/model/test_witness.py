"""What a witness must keep, and that three voters are never stuck after one is gone: the log's own core (core/raft/).

The world: n1 and n2 run applications, n3 is a witness, which is a voter like the others. Elections and replication
happen between two voters at a time, in every order; n1 or the witness may die for good (n2 is as n1). Wrong is a state
in which voters know different entries as committed in one place; stuck is one from which none comes to commit again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as changed
from itertools import permutations
from random import Random

from msgspec.structs import replace
from raft_cluster import apply_saves, copy_records

from truecl.core.contract import Records
from truecl.core.raft import CommittedConflict, Raft, Role
from truecl.core.raft.journal import BIRTH_INDEX
from truecl.model.config import Timing
from truecl.model.ids import Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import Append, AppendAnswer, PreVote, PreVoteAnswer, RaftMessage, Vote, VoteAnswer

from .lives import Lives, picture_of
from .search import search, stuck

N1, N2, WITNESS = VOTERS = tuple(NodeName(name) for name in ("n1", "n2", "n3"))
TIMING = Timing(election=1000.0)
"""Raft's own timeouts are not needed: the search says who stands."""
LAST_TERM = 3


class Middling(Random):
    def random(self) -> float:
        return 0.5


LEFT_OUT = frozenset(
    """_random _timing _writer _sends _told _deadline _patience heard_at _heard_at part_sent_at faults round _last_round
    _first_round heartbeat_at _round_told acknowledged_at lease_bound _granted""".split()  # noqa: SIM905
)
"""Of a Raft: times, and the numbers of rounds. Nothing is late here."""


@dataclass(frozen=True)
class Picture:
    up: bool
    term: int
    leads: bool
    length: int
    commit: int
    known: tuple[tuple[Index, Term], ...]
    """Every entry that it ever knew to be committed."""
    conflict: bool = False
    all: int = 0


Act = tuple[object, ...]
Sent = tuple[tuple[NodeName, RaftMessage], ...]


class Voter:
    def __init__(self, name: NodeName, kind: type[Raft]) -> None:
        self.name, self.kind = name, kind
        self.up, self.conflict = True, False
        self.records: Records = {}
        self.known: dict[Index, Term] = {}
        self.start()

    def start(self) -> None:
        membership = Membership(VOTERS)
        self.raft = self.kind(self.name, "c", membership, copy_records(self.records), Middling(), TIMING)
        self.raft.start(0.0)

    def take(self) -> Sent:
        step, log = self.raft.take(), self.raft.log
        apply_saves(self.records, step.saves)
        for index in range(max(BIRTH_INDEX + 1, log.first), log.commit + 1):
            self.known[Index(index)] = log.entry(Index(index)).term
        return tuple((send.node, send.message) for send in step.sends)

    def picture(self) -> Picture:
        raft = self.raft
        known = tuple(sorted(self.known.items()))
        if not self.up:
            return Picture(False, 0, False, 0, 0, known, self.conflict)
        leads, length = raft.role is Role.LEADER, raft.log.last_index
        return Picture(
            True, raft.term, leads, length, raft.log.commit, known, self.conflict, picture_of(raft, LEFT_OUT)
        )


def live(voter: Voter, act: Act) -> Sent:
    """Returns what it sends at the end."""
    raft = voter.raft
    match act:
        case ("dies",):
            voter.up = False
            return ()
        case ("receives", source, message):
            try:
                raft.receive(source, message, 0.0)
            except CommittedConflict:
                voter.conflict, voter.up = True, False
        case ("stands",):
            raft.campaign(0.0)
        case ("alone with", other):
            for node in VOTERS:
                if node not in (voter.name, other):
                    raft.peer_died(node, 0.0)
        case ("begins a round and hears", *answers):
            raft.start_round(0.0)
            for source, answer in answers:
                voter.take()
                raft.receive(source, answer, 0.0)
    return voter.take()


@dataclass(frozen=True)
class World:
    voters: tuple[Picture, Picture, Picture]
    deaths: int = 0


class Game:
    def __init__(self, witness: type[Raft]) -> None:
        kinds = zip(VOTERS, (Raft, Raft, witness), strict=True)
        self.lives = tuple(Lives(lambda name=name, kind=kind: Voter(name, kind), live, Voter.picture)
                           for name, kind in kinds)  # fmt: skip
        self.first = World(tuple(each.first for each in self.lives))

    def moves(self, world: World) -> Iterator[tuple[str, World]]:
        for at, voter in zip(VOTERS, world.voters, strict=True):
            if voter.up and not world.deaths and at != N2:
                yield f"{at} dies", changed(self._act(world, at, "dies")[0], deaths=1)
        for at, other in permutations(VOTERS, 2):
            here, there = (world.voters[VOTERS.index(each)] for each in (at, other))
            if not here.up or not there.up:
                continue
            if not here.leads and max(here.term, there.term) < LAST_TERM:
                yield f"{other} elects {at}", self._elected(world, at, other)
            if here.leads:
                for after in self._replicated(world, at, other):
                    yield f"{at} replicates to {other}", after

    def _act(self, world: World, at: NodeName, *act: object) -> tuple[World, Sent]:
        number = VOTERS.index(at)
        picture, sent = self.lives[number].after(world.voters[number], act)
        return changed(world, voters=(*world.voters[:number], picture, *world.voters[number + 1 :])), sent

    def _elected(self, world: World, at: NodeName, other: NodeName) -> World:
        """By the one vote; what the new leader begins with is lost, and a move of its own."""
        world, _ = self._act(world, other, "alone with", at)
        world, _ = self._act(world, at, "alone with", other)
        world, sent = self._act(world, at, "stands")
        while asked := _to(other, sent, PreVote, Vote):
            world, answers = self._received(world, other, at, asked)
            world, sent = self._received(world, at, other, _to(at, answers, PreVoteAnswer, VoteAnswer))
        return world

    def _replicated(self, world: World, at: NodeName, other: NodeName) -> Iterator[World]:
        """Without a break, to each point where it could break off."""
        begun, place = world, VOTERS.index(at)
        answers: list[tuple[NodeName, RaftMessage]] = []
        more = True
        while more:
            done, sent = self._act(begun, at, "begins a round and hears", *answers)
            world, said = self._received(world, other, at, _to(other, sent, Append))
            yield changed(world, voters=(*world.voters[:place], done.voters[place], *world.voters[place + 1 :]))
            more = [(other, answer) for answer in _to(at, said, AppendAnswer)]
            answers += more

    def _received(
        self, world: World, at: NodeName, source: NodeName, messages: list[RaftMessage]
    ) -> tuple[World, Sent]:
        all: Sent = ()
        for message in messages:
            world, sent = self._act(world, at, "receives", source, message)
            all += sent
        return world, all


def _to(node: NodeName, sent: Sent, *kinds: type) -> list[RaftMessage]:
    return [message for to, message in sent if to == node and isinstance(message, kinds)]


def wrong(world: World) -> bool:
    places: dict[Index, Term] = {}
    for voter in world.voters:
        if any(places.setdefault(index, term) != term for index, term in voter.known):
            return True
    return any(voter.conflict for voter in world.voters)


def well(world: World) -> bool:
    """A leader has committed all that it has."""
    return any(voter.leads and voter.commit == voter.length for voter in world.voters)


def edge(world: World) -> bool:
    """There is no other term to elect anybody in."""
    return any(voter.term == LAST_TERM for voter in world.voters)


def test_with_a_whole_witness_nothing_is_lost_and_nobody_is_stuck() -> None:
    game = Game(Raft)
    states, way = search(game.first, game.moves, wrong)
    assert way is None, way
    assert states > 1_000
    assert stuck(game.first, game.moves, well, edge) == (states, None)


class TakesAnyLog(Raft):
    """Without memory it cannot know better: it votes for whoever asks."""

    def receive(self, node: NodeName, message: RaftMessage, now: float) -> None:
        if isinstance(message, (PreVote, Vote)):
            message = replace(message, last_index=Index(1 << 40), last_term=Term(1 << 40))
        super().receive(node, message, now)


class NeverLeads(Raft):
    """It knows how far the log goes, and has nothing to lead with."""

    def campaign(self, now: float) -> None:
        """It never stands."""


def test_a_witness_that_would_vote_for_any_log_loses_commits() -> None:
    game = Game(TakesAnyLog)
    assert search(game.first, game.moves, wrong)[1] is not None


def test_with_a_witness_that_could_not_lead_one_failure_leaves_the_rest_stuck() -> None:
    game = Game(NeverLeads)
    assert stuck(game.first, game.moves, well, edge)[1] is not None
