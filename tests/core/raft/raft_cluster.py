"""A cluster of Raft nodes in memory: journals that survive crashes, a network of loose messages, clocks by hand."""

from dataclasses import dataclass, field
from random import Random

import msgspec

from truecl.core.contract import Put, Records, Send
from truecl.core.raft import Committed, Raft, Step
from truecl.model.config import Timing
from truecl.model.ids import NodeName
from truecl.model.membership import Membership
from truecl.wire.raft import RaftMessage

CLUSTER = "demo"


def apply_saves(records: Records, saves) -> None:
    for save in saves:
        if isinstance(save, Put):
            records.setdefault(save.bucket, {})[save.key] = save.value
            continue
        bucket = records.get(save.bucket, {})
        for key in list(bucket):
            if (save.first is None or key >= save.first) and (save.last is None or key <= save.last):
                del bucket[key]


def copy_records(records: Records) -> Records:
    return {bucket: dict(sorted(values.items())) for bucket, values in records.items()}


@dataclass
class Flight:
    source: NodeName
    to: NodeName
    message: RaftMessage


@dataclass
class Node:
    name: NodeName
    membership: Membership
    records: Records = field(default_factory=dict)
    raft: Raft | None = None
    wake_at: float | None = None
    state: list[tuple[int, bytes]] = field(default_factory=list)
    """The state machine: everything ever applied."""
    lives: int = 0


class Cluster:
    """`observe` is called with every node, Step, and the time, after the saves."""

    def __init__(self, seed: int, timing: Timing, encode: bool = False) -> None:
        self.timing = timing
        self.seed = seed
        self.now = 100.0
        self.nodes: dict[NodeName, Node] = {}
        self.flights: list[Flight] = []
        self.observers = []
        self.skew: dict[NodeName, float] = {}
        """By how much a node's clock runs fast."""
        self._codec = msgspec.msgpack.Decoder(RaftMessage) if encode else None

    def add(self, name: str, membership: Membership) -> None:
        node = Node(NodeName(name), membership)
        self.nodes[node.name] = node
        self.restart(node.name)

    def clock(self, name: NodeName) -> float:
        return self.now * (1 + self.skew.get(name, 0.0)) + 1000.0 * (1 + sorted(self.nodes).index(name))

    def raft(self, name: str) -> Raft:
        raft = self.nodes[NodeName(name)].raft
        assert raft is not None, f"{name} is down"
        return raft

    def restart(self, name: str) -> None:
        node = self.nodes[NodeName(name)]
        node.lives += 1
        node.state = []
        random = Random(f"{self.seed} {name} {node.lives}")
        node.raft = Raft(node.name, CLUSTER, node.membership, copy_records(node.records), random, self.timing)
        node.raft.start(self.clock(node.name))
        self.carry_out(node)

    def crash(self, name: str) -> None:
        node = self.nodes[NodeName(name)]
        node.raft = None
        node.wake_at = None

    def carry_out(self, node: Node, crash: str = "") -> Step | None:
        """`crash`: '' not at all, 'save' before anything, 'send' after the saves."""
        assert node.raft is not None
        step = node.raft.take()
        if crash == "save":
            self.crash(node.name)
            return None
        apply_saves(node.records, step.saves)
        if crash == "send":
            self.crash(node.name)
            return None
        node.wake_at = step.wake_at
        for send in step.sends:
            self.post(node.name, send)
        if step.snapshot is not None:
            node.state = msgspec.msgpack.decode(step.snapshot.data, type=list[tuple[int, bytes]])
        for each in step.committed:
            self.apply(node, each)
        for observe in self.observers:
            observe(node, step)
        return step

    def apply(self, node: Node, committed: Committed) -> None:
        assert not node.state or node.state[-1][0] < committed.index
        node.state.append((committed.index, committed.payload))

    def post(self, source: NodeName, send: Send) -> None:
        message = send.message
        if self._codec is not None:
            data = msgspec.msgpack.encode(message)
            assert len(data) <= 512 * 1024
            message = self._codec.decode(data)
        self.flights.append(Flight(source, send.node, message))

    def deliver(self, flight: Flight, crash: str = "") -> Step | None:
        """A node that is down, or unknown, gets nothing."""
        node = self.nodes.get(flight.to)
        if node is None or node.raft is None:
            return None
        node.raft.receive(flight.source, flight.message, self.clock(node.name))
        return self.carry_out(node, crash)

    def wake_due(self) -> None:
        for name in sorted(self.nodes):
            node = self.nodes[name]
            if node.raft is not None and node.wake_at is not None and node.wake_at <= self.clock(name):
                node.raft.wake(self.clock(name))
                self.carry_out(node)

    def settle(self) -> None:
        """Delivers all that is on the way, in order, and what comes of it."""
        for _ in range(100_000):
            if not self.flights:
                return
            self.deliver(self.flights.pop(0))
        raise AssertionError("the conversation does not end")

    def run(self, seconds: float, slice_: float = 0.01) -> None:
        """Lets time pass on a perfect network."""
        end = self.now + seconds
        while self.now < end:
            self.now += slice_
            self.wake_due()
            self.settle()

    def compact(self, name: str, retain: int) -> None:
        node = self.nodes[NodeName(name)]
        raft = self.raft(name)
        raft.compact(raft.applied, msgspec.msgpack.encode(node.state), retain)
        self.carry_out(node)

    def leader(self) -> str:
        """The one with the highest term."""
        leaders = [node for node in self.nodes.values() if node.raft is not None and node.raft.role == "leader"]
        return max(leaders, key=lambda node: node.raft.term).name
