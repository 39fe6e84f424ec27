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
from truecl.model.config import ClusterConfig, FenceConfig, NodeConfig, Timing
from truecl.model.ids import BootId, Index, NodeName
from truecl.model.membership import Membership
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
        self.raft = rules.raft(NAMES[place], "c", Membership(NAMES), {}, Random(1), Timing())
        self._own()
        if disk is not None:
            self.raft.log._entries = list(disk.raft.log._entries)
            self.raft.log._memberships = list(disk.raft.log._memberships)
            self.raft.term, self.raft.voted_for = disk.raft.term, disk.raft.voted_for
        self.pair = rules.pair(self.raft, BootId(f"{NAMES[place]}{life}"), CLUSTER, Outbox(), lambda node: ())
        self.pair.start(NOW)
        self.pair._number = life * 100

    def _own(self) -> None:
        self.raft._writer = self.raft.log._writer = Writer()
        self.raft._sends = []

    def copy(self) -> "Node":
        new = copy(self)
        raft = new.raft = copy(self.raft)
        log = raft.log = copy(raft.log)
        log._entries, log._memberships = list(log._entries), list(log._memberships)
        new._own()
        raft._tally = copy(raft._tally)
        raft._tally._granted, raft._tally._refused = dict(raft._tally._granted), dict(raft._tally._refused)
        if raft._tenure is not None:
            tenure = raft._tenure = copy(raft._tenure)
            tenure._log, tenure._peers = log, {name: copy(peer) for name, peer in tenure._peers.items()}
            for peer in tenure._peers.values():
                peer._window = copy(peer._window)
        new.pair = copy(self.pair)
        new.pair.raft, new.pair._out, new.pair._order = raft, Outbox(), copy(self.pair._order)
        return new

    def key(self) -> tuple[Any, ...]:
        raft, pair, tenure = self.raft, self.pair, self.raft._tenure
        disk = (self.up, self.life, raft.term, raft.voted_for, tuple(raft.log._entries))
        if not self.up:
            return disk
        peers = () if tenure is None else tuple((p.match, p.next, p.flow, p.probed) for p in tenure._peers.values())
        order = pair._order and (pair._order.record.number, pair._order.void, pair._order.off)
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


def acted(world: World, place: int, act: Callable[[Node], object], hears: bool, silent: bool = False) -> World:
    """`act` on a copy of one node, then what every event of lockd ends with."""
    node = world.nodes[place].copy()
    raft, pair = node.raft, node.pair
    pair._hbd_hears, pair._dead_since, pair.reqd_joined = hears, LONG_AGO if silent else None, silent
    pair._heard_at = pair._order_again_at = LONG_AGO if silent else NOW
    bad = world.bad
    try:
        act(node)
        pair.tend(NOW)
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
    if pair._out.take().tell:
        devices = put(devices, 1 - place, (pair._order.record.number, False)) if pair._order else devices
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
                    yield f"{name} may include {other}", acted(world, place, lambda node: None, True)
                if room and not any(entry.payload == b"x" for entry in raft.log._entries):
                    yield f"{name} appends", acted(world, place, lambda node: node.raft.propose((b"x",), NOW), False)
            if node.pair._order is None and world.devices[1 - place] is None:
                after = acted(world, place, lambda node: None, True, silent=True)
                if after.devices[1 - place] is not None:
                    yield f"{name} orders {other} to be fenced", after
            if node.pair._order is not None and node.pair._order.off and raft.term < bounds.term:
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
                heard = acted(world, 1 - place, lambda node: node.pair.fenced(result, NOW), True)
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


def met(rules: Rules) -> World:
    """a leads, b follows, both are current."""
    world = World((Node(0, 1, rules), Node(1, 1, rules)))
    moves = moves_by(rules, Bounds(depth=99))
    return along(world, moves, ("a stands", "b gets", "a gets", "b gets", "a gets", "a sends", "b gets", "a gets"))


def excluded(rules: Rules) -> World:
    """a has excluded b, which is booted."""
    steps = ("a orders", "the device switches b", "a gets its word", "a acts", "b is booted")
    return along(met(rules), moves_by(rules, Bounds(depth=99)), steps)


def confirmed(rules: Rules) -> World:
    """The device has told a that b is off, and b is booted."""
    steps = ("a orders", "the device switches b", "a gets its word", "b is booted")
    return along(met(rules), moves_by(rules, Bounds(depth=99)), steps)


def late(rules: Rules) -> World:
    """The same, while a letter to the earlier life of b is on its way; then a has excluded b."""
    steps = ("a sends", "a orders", "the device switches b", "a gets its word", "a acts on it", "b is booted")
    return along(met(rules), moves_by(rules, Bounds(depth=99)), steps)


def along(world: World, moves: Callable[[World], Iterator[tuple[str, World]]], steps: tuple[str, ...]) -> World:
    for step in steps:
        found = {name: after for name, after in moves(world) if name.startswith(step)}
        assert found, (step, [name for name, _ in moves(world)])
        world = next(iter(found.values()))
    return World(world.nodes, world.wires, world.devices, world.committed)


def bounded(depth: int, lives: int) -> Bounds:
    return Bounds(term=6, entries=12, depth=depth, lives=lives)


def test_the_pair_gets_where_it_should() -> None:
    world = met(Rules())
    assert [node.pair.current for node in world.nodes] == [True, True]
    steps = ("a sends", "b gets", "a gets Letter", "a sends", "b gets", "a gets Letter")
    moves = moves_by(Rules(), Bounds(depth=99))
    world = excluded(Rules())
    assert electors(world.nodes[0].raft.membership) == (NAMES[0],)
    world = along(world, moves, steps)
    assert electors(world.nodes[0].raft.membership) == NAMES


@pytest.mark.parametrize("first", [met, excluded, confirmed, late])
def test_never_do_both_go_on_alone(first: Callable[[Rules], World]) -> None:
    rules = Rules()
    depth = 7 if first is met else 9
    states, way = search(first(rules), moves_by(rules, bounded(depth, 3)), lambda world: world.bad)
    assert way is None, way
    assert states > 1000


class NeedsNoCurrency(Pair):
    def tend(self, now: float) -> float | None:
        self.current = True
        return super().tend(now)


class NeverVoids(Pair):
    def void(self) -> None: ...


class ReadsOldLetters(Pair):
    def received(self, node: NodeName, message: Any, now: float) -> None:
        super().received(node, replace(message, to=self.life), now)


class IncludesTooEarly(SimpleRaft):
    @property
    def caught_up(self) -> bool:
        return self.ready and self.alone


@pytest.mark.parametrize(
    ("rules", "first", "depth"),
    [
        (Rules(pair=NeedsNoCurrency), excluded, 8),
        (Rules(pair=NeverVoids), confirmed, 10),
        (Rules(pair=ReadsOldLetters), late, 7),
        (Rules(raft=IncludesTooEarly), excluded, 9),
    ],
    ids=["needs no currency", "never voids", "reads old letters", "includes too early"],
)
def test_with_any_rule_left_out_they_do(rules: Rules, first: Callable[[Rules], World], depth: int) -> None:
    _, way = search(first(rules), moves_by(rules, bounded(depth, 2)), lambda world: world.bad)
    assert way is not None
