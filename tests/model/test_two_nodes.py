"""Two nodes, every order of events: messages late, lost, overtaken; crashes, cold starts, late words of fences.

The nodes are the real `Raft` and `Pair`. Left out of them is only what guards liveness (pre-votes, and the refusal to
vote against a leader just heard), so more can happen here than really does; and the numbers of rounds, which are for
leases. One message is on its way to each node; a newer one takes its place, as if the older were lost. Wrong is a state
in which both may decide alone, or one has committed what contradicts what another had committed.
"""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from truecl.core.outbox import Outbox
from truecl.core.pair import Pair
from truecl.core.quorum import electors
from truecl.core.raft import CommittedConflict, Raft, Role
from truecl.core.raft.journal import Writer
from truecl.core.raft.log import Log
from truecl.model.config import ClusterConfig, FenceConfig, NodeConfig, Timing
from truecl.model.ids import BootId, Index, NodeName
from truecl.model.membership import Membership
from truecl.sim.mutants import pair as mutants
from truecl.wire.messages import FenceResult
from truecl.wire.raft import Append, AppendAnswer, Entry, Letter, PreVote

from .search import search

NAMES = (NodeName("a"), NodeName("b"))
CLUSTER = ClusterConfig(
    name="c",
    links=(),
    nodes=tuple(
        NodeConfig(name=name, addresses={}, fence=((FenceConfig(agent="f"),),), fence_delay=0.0) for name in NAMES
    ),
)
NOW, LONG_AGO = 0.0, -1000.0


def clone(value: Any) -> Any:
    """`copy.copy` of what keeps everything in its `__dict__`, four times as fast."""
    new = object.__new__(type(value))
    new.__dict__.update(value.__dict__)
    return new


class SimpleRaft(Raft):
    def _become_pre_candidate(self) -> None:
        self._turn(Role.PRE_CANDIDATE)
        self._become_candidate(False)

    def _in_lease(self) -> bool:
        return False


@dataclass(frozen=True)
class Rules:
    raft: type[SimpleRaft] = SimpleRaft
    pair: type[Pair] = Pair
    log: type[Log] = Log

    @property
    def others(self) -> list[type]:
        """What is not as in production."""
        return [each for each in (self.raft, self.pair, self.log) if each not in (SimpleRaft, Pair, Log)]


@dataclass(frozen=True)
class Bounds:
    term: int = 4
    entries: int = 6
    lives: int = 2
    depth: int = 12


class Node:
    """One node in one state. What is on disk is the log, the term and the vote; the rest goes with a crash."""

    def __init__(self, place: int, life: int, rules: Rules, disk: "Node | None" = None) -> None:
        self.place, self.life, self.up = place, life, True
        self._key: tuple[Any, ...] | None = None
        self.raft = rules.raft(NAMES[place], "c", Membership(NAMES), {}, Random(1), Timing())
        self.raft.log.__class__ = rules.log
        self._own()
        if disk is not None:
            self.raft.log._entries = list(disk.raft.log._entries)
            self.raft.log._memberships = list(disk.raft.log._memberships)
            self.raft.term, self.raft.voted_for = disk.raft.term, disk.raft.voted_for
        self.pair = rules.pair(self.raft, BootId(f"{NAMES[place]}{life}"), CLUSTER, Outbox(), lambda node: ())
        self.pair.start(NOW)
        self.pair.duel._number = life * 100

    def _own(self) -> None:
        self.raft._writer = self.raft.log._writer = Writer()
        self.raft._sends = []

    def copy(self) -> "Node":
        new: Node = clone(self)
        new._key = None
        raft = new.raft = clone(self.raft)
        log = raft.log = clone(raft.log)
        log._entries, log._memberships = list(log._entries), list(log._memberships)
        new._own()
        raft._tally = clone(raft._tally)
        raft._tally._granted, raft._tally._refused = dict(raft._tally._granted), dict(raft._tally._refused)
        if raft._tenure is not None:
            tenure = raft._tenure = clone(raft._tenure)
            tenure._log, tenure._peers = log, {name: copy(peer) for name, peer in tenure._peers.items()}
            for peer in tenure._peers.values():
                peer._window = copy(peer._window)
        new.pair = clone(self.pair)
        duel = new.pair.duel = clone(self.pair.duel)
        duel._out = new.pair._out = Outbox()
        new.pair.raft, duel._order = raft, copy(duel._order)
        return new

    def key(self) -> tuple[Any, ...]:
        if self._key is None:
            self._key = self._seen()
        return self._key

    def _seen(self) -> tuple[Any, ...]:
        raft, pair, tenure = self.raft, self.pair, self.raft._tenure
        disk = (self.up, self.life, raft.term, raft.voted_for, tuple(raft.log._entries))
        if not self.up:
            return disk
        peers = () if tenure is None else tuple((p.match, p.next, p.flow, p.probed) for p in tenure._peers.values())
        order = pair.duel._order and (pair.duel._order.number, pair.duel._order.off_at)
        votes = (tuple(raft._tally._granted), tuple(raft._tally._refused)) if raft.role is Role.CANDIDATE else ()
        return (*disk, raft.role, raft.leader, raft.log.commit, peers, order, votes, pair.current, pair._others_life)

    @property
    def alone(self) -> bool:
        return self.up and self.raft.alone


class World:
    """`wires`: what is on its way to each node. `devices`: of each node, who asked with which number, and whether it is
    done."""

    __slots__ = ("nodes", "wires", "devices", "committed", "bad", "depth", "_key")

    def __init__(
        self,
        nodes: tuple[Node, Node],
        wires: tuple[Letter | None, Letter | None] = (None, None),
        devices: tuple[tuple[int, bool] | None, ...] = (None, None),
        committed: tuple[Entry, ...] = (),
        bad: bool = False,
        depth: int = 0,
    ) -> None:
        self.nodes, self.wires, self.devices, self.committed = nodes, wires, devices, committed
        self.bad, self.depth = bad or (nodes[0].alone and nodes[1].alone), depth
        self._key = (nodes[0].key(), nodes[1].key(), wires, devices, committed, self.bad)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, World) and self._key == other._key

    def with_(self, place: int, node: Node, **more: Any) -> "World":
        nodes = (node, self.nodes[1]) if place == 0 else (self.nodes[0], node)
        parts = {"wires": self.wires, "devices": self.devices, "committed": self.committed} | more
        return World(nodes, bad=self.bad, depth=self.depth + 1, **parts)


def put(pair: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (value, pair[1]) if place == 0 else (pair[0], value)


def calm(message: Any) -> Any:
    return replace(message, round=0) if isinstance(message, (Append, AppendAnswer)) else message


def acted(
    world: World,
    place: int,
    act: Callable[[Node], object],
    hears: bool,
    silent: bool = False,
    leaving: bool | None = None,
) -> World:
    """`act` on a copy of one node, then what every event of lockd ends with."""
    node = world.nodes[place].copy()
    raft, pair = node.raft, node.pair
    pair._hbd_hears, pair._dead_since, pair.duel.reqd_joined = hears, LONG_AGO if silent else None, silent
    pair._heard_at = pair.duel._again_at = LONG_AGO if silent else NOW
    bad = world.bad
    try:
        act(node)
        pair.tend(NOW, leaving)
    except CommittedConflict:
        bad = True
    step = raft.take()
    sends = [pair.enclose(send) for send in step.sends if not isinstance(send.message, PreVote)]
    raft._last_round = 0
    if raft._tenure is not None:
        raft._tenure.round = raft._tenure._first_round = 0
    wires, devices = world.wires, world.devices
    if sends:
        letter = sends[-1].message
        wires = put(wires, 1 - place, replace(letter, message=calm(letter.message)))
    if pair.duel._out.take().tell and pair.duel._order is not None:
        devices = put(devices, 1 - place, (pair.duel._order.number, False))
    mine = tuple(raft.log._entries[: raft.log.commit - raft.log.first + 1])
    length = min(len(mine), len(world.committed))
    bad = bad or mine[:length] != world.committed[:length]
    after = world.with_(place, node, wires=wires, devices=devices, committed=max(world.committed, mine, key=len))
    after.bad = after.bad or bad
    return after


def moves_by(rules: Rules, bounds: Bounds) -> Callable[[World], Iterator[tuple[str, World]]]:
    def moves(world: World) -> Iterator[tuple[str, World]]:
        if world.depth >= bounds.depth:
            return
        for place in (0, 1):
            node, name, other = world.nodes[place], NAMES[place], NAMES[1 - place]
            yield from powers(world, place)
            if not node.up:
                continue
            raft = node.raft
            room = raft.log.last_index < bounds.entries
            if world.wires[place] is not None:
                yield f"{name} gets {world.wires[place]}", deliver(world, place)
            if raft.role is not Role.LEADER and raft.term < bounds.term and room:
                yield f"{name} stands", acted(world, place, lambda node: node.raft.campaign(NOW), True)
            if raft.role is Role.LEADER:
                yield f"{name} sends its log", acted(world, place, send_log, False)
                if room and raft.alone:
                    yield f"{name} may include {other}", acted(world, place, lambda node: None, True, leaving=False)
                if room and not raft.alone:
                    yield f"{name} lets {other} go", acted(world, place, lambda node: None, True, leaving=True)
                    if raft.membership.leaving:
                        yield f"{name} keeps {other}", acted(world, place, lambda node: None, True, leaving=False)
                if room and not any(entry.payload == b"x" for entry in raft.log._entries):
                    yield f"{name} appends", acted(world, place, lambda node: node.raft.propose((b"x",), NOW), False)
            order = node.pair.duel._order
            if order is None and world.devices[1 - place] is None:
                after = acted(world, place, lambda node: None, True, silent=True)
                if after.devices[1 - place] is not None:
                    yield f"{name} orders {other} to be fenced", after
            if order is not None and order.off_at is not None and raft.term < bounds.term:
                after = acted(world, place, lambda node: None, False)
                yield f"{name} acts on the confirmation", after
                lost = World(after.nodes, world.wires, after.devices, after.committed, after.bad, after.depth)
                yield f"{name} acts on it, what it sends is lost", lost

    def powers(world: World, place: int) -> Iterator[tuple[str, World]]:
        node, name = world.nodes[place], NAMES[place]
        device = world.devices[place]
        if device is not None and not device[1]:
            done = put(world.devices, place, (device[0], True))
            yield f"the device switches {name} off", world.with_(place, off(node), devices=done)
        if device is not None and device[1]:
            idle = put(world.devices, place, None)
            yield "its word is lost", world.with_(place, node, devices=idle)
            if world.nodes[1 - place].up:
                result = FenceResult(name, Index(device[0]), True)
                heard = acted(world, 1 - place, lambda node: node.pair.duel.fenced(result, NOW), True)
                yield f"{NAMES[1 - place]} gets its word", heard.with_(place, node, devices=idle)
        if not node.up and node.life < bounds.lives:
            yield f"{name} is booted", world.with_(place, booted(node))
        if node.up and node.life < bounds.lives:
            yield f"{name} crashes", world.with_(place, off(node))

    def off(node: Node) -> Node:
        new = node.copy()
        new.up = False
        return new

    def booted(node: Node) -> Node:
        return Node(node.place, node.life + 1, rules, node)

    def deliver(world: World, place: int) -> World:
        letter = world.wires[place]

        def receive(node: Node) -> None:
            node.pair.received(NAMES[1 - place], letter, NOW)

        left = World(world.nodes, put(world.wires, place, None), world.devices, world.committed, depth=world.depth)
        return acted(left, place, receive, True)

    return moves


def send_log(node: Node) -> None:
    tenure = node.raft._tenure
    assert tenure is not None
    for peer in tenure._peers.values():
        peer.probed = False
    node.raft._begin_round(tenure, observers=True)


def start(rules: Rules) -> World:
    return World((Node(0, 1, rules), Node(1, 1, rules)))


MET = ("a stands", "b gets", "a gets", "b gets", "a gets", "a sends", "b gets", "a gets")
"""a leads, b follows, both are current."""
CONFIRMED = (*MET, "a orders", "the device switches b", "a gets its word", "b is booted")
"""The device has told a that b is off, and b is booted."""
EXCLUDED = (*CONFIRMED[:-1], "a acts on the confirmation", "b is booted")
LATE = (*MET, "a sends", *CONFIRMED[len(MET) : -1], "a acts on it, what it sends is lost", "b is booted")
"""The same, while a letter to the earlier life of b is on its way."""
INCLUDED = (*EXCLUDED, *("a sends", "b gets", "a gets") * 2, "a may include", "b gets")
"""b has it all, and a does not know yet."""
LEAVING = (*MET, "a lets b go", "b gets")
"""b has the entry that it leaves, and a does not know yet."""
GONE = (*LEAVING, "a gets", "a lets b go")


def along(rules: Rules, steps: tuple[str, ...]) -> World:
    """The first move that begins so, each time."""
    world, moves = start(rules), moves_by(rules, Bounds(depth=99))
    for step in steps:
        found = {name: after for name, after in moves(world) if name.startswith(step)}
        assert found, (step, [name for name, _ in moves(world)])
        world = next(iter(found.values()))
    return World(world.nodes, world.wires, world.devices, world.committed, world.bad)


def bounded(depth: int, lives: int) -> Bounds:
    return Bounds(term=6, entries=12, depth=depth, lives=lives)


def test_the_pair_gets_where_it_should() -> None:
    world = along(Rules(), MET)
    assert [node.pair.current for node in world.nodes] == [True, True]
    world = along(Rules(), EXCLUDED)
    assert electors(world.nodes[0].raft.membership) == (NAMES[0],)
    world = along(Rules(), INCLUDED)
    assert [electors(node.raft.membership) for node in world.nodes] == [NAMES, NAMES]
    world = along(Rules(), LEAVING)
    assert [node.raft.may_lead for node in world.nodes] == [True, False]
    assert not world.nodes[0].alone
    world = along(Rules(), GONE)
    assert world.nodes[0].alone


@pytest.mark.parametrize(
    ("steps", "depth", "least"),
    [(MET, 6, 7000), (CONFIRMED, 7, 4000), (EXCLUDED, 8, 3000), (LATE, 8, 3000), (INCLUDED, 6, 3000),
     (LEAVING, 7, 3000)],
    ids=["met", "confirmed", "excluded", "late", "included", "leaving"],
)  # fmt: skip
def test_never_do_both_go_on_alone(steps: tuple[str, ...], depth: int, least: int) -> None:
    rules = Rules()
    states, way = search(along(rules, steps), moves_by(rules, bounded(depth, 3)), lambda world: world.bad)
    assert way is None, way
    assert states > least, states


def simple(mutant: type[Raft]) -> type[SimpleRaft]:
    return type(mutant.__name__, (mutant, SimpleRaft), {})


@pytest.mark.parametrize(
    ("rules", "steps", "depth"),
    [
        (Rules(pair=mutants.NeedsNoCurrency), EXCLUDED, 8),
        (Rules(pair=mutants.NeverVoids), (*CONFIRMED, "b stands", "a gets", "b gets", "a acts on the confirmation"), 5),
        (Rules(pair=mutants.ReadsOldLetters), LATE, 7),
        (Rules(raft=simple(mutants.LeavingLeads)), GONE, 5),
        (
            Rules(raft=simple(mutants.IncludesTooEarly)),
            (*EXCLUDED, "a may include", "b stands", "a gets", "a sends", "b gets"),
            5,
        ),
        (Rules(raft=simple(mutants.LetsGoAtOnce)), (*MET, "a lets b go"), 6),
        (Rules(log=mutants.InForceOnceCommitted), (*INCLUDED, "b orders"), 5),
    ],
    ids=lambda value: next((each.__name__ for each in value.others), "") if isinstance(value, Rules) else "",
)
def test_with_any_rule_left_out_they_do(rules: Rules, steps: tuple[str, ...], depth: int) -> None:
    _, way = search(along(rules, steps), moves_by(rules, bounded(depth, 3)), lambda world: world.bad)
    assert way is not None
