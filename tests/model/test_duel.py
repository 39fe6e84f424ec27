"""Two nodes that lose each other: who is off in the end, for every time that verdicts and devices may take.

Each node is the real `Duel` (which orders) and the real `Fences` (which has the devices asked), with a clock that both
share. A device cuts the power at some moment before it answers, within its timeout; its first attempt may fail; the
verdicts come within a detection time of each other. Wrong is an end in which both are off.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import pytest
from msgspec.structs import replace

from truecl.core.contract import Output
from truecl.core.duel import Duel
from truecl.core.fencing import Fences
from truecl.core.outbox import Outbox
from truecl.model.actions import AskDevice, FenceOutcome, Power
from truecl.model.config import ClusterConfig, Configuration, FenceConfig, NodeConfig, worst_time
from truecl.model.ids import LOCKD, REQD, NodeName
from truecl.wire.messages import AskFences, FenceResult, FencesSeen, FenceView, OrderFenceOff

NAMES = (NodeName("n1"), NodeName("n2"))
DEVICE = FenceConfig(agent="f", timeout=3.0, retries=1, delay=0.5)
CLUSTER = ClusterConfig(
    name="c", links=(), nodes=tuple(NodeConfig(name=name, addresses={}, fence=((DEVICE,),)) for name in NAMES)
)
QUICK, WORST = 0.2, DEVICE.timeout
EPSILON = 1e-6
LEAST = worst_time(((DEVICE,),)) + CLUSTER.timing.detection
"""The law (`truecl.config.law.check_duel`): more than that."""


@dataclass(frozen=True)
class Day:
    """Of each node in turn: when hbd's verdict comes there, and how the device that it asks answers."""

    verdicts: tuple[float, float]
    takes: tuple[float, float]
    """Seconds of each attempt."""
    cuts_late: tuple[bool, bool]
    """It cuts the power just before it answers, not at once."""
    fails_first: tuple[bool, bool]


def days() -> Iterator[Day]:
    skew = CLUSTER.timing.detection
    for verdicts in ((0.0, 0.0), (0.0, skew), (skew, 0.0)):
        for takes, late, fails in product(
            product((QUICK, WORST), repeat=2), *[list(product((False, True), repeat=2))] * 2
        ):
            yield Day(verdicts, takes, late, fails)


@dataclass
class Node:
    place: int
    cluster: ClusterConfig
    day: Day
    up: bool = True
    attempts: int = 0
    work: list[tuple[float, str, int]] = field(default_factory=list)
    """What the device that it asks does, when: 'cut' or 'answer', for an action."""

    def __post_init__(self) -> None:
        self.name, self.other = NAMES[self.place], NAMES[1 - self.place]
        self.said, self.asked = Outbox(), Outbox()
        self.duel = Duel(self.name, self.cluster, self.said, lambda node: ())
        self.duel.reqd_joined = True
        self.fences = Fences(self.asked, Configuration(cluster=self.cluster))

    @property
    def since(self) -> float:
        return self.day.verdicts[self.place]

    def step(self, now: float) -> None:
        """Both cores at that moment, until they have nothing more to say to each other."""
        for id in [id for at, what, id in self.work if what == "answer" and at <= now]:
            self.work = [each for each in self.work if each[1:] != ("answer", id)]
            fails = self.day.fails_first[self.place] and self.attempts == 1
            self.fences.done(id, FenceOutcome(not fails), now)
        for _ in range(8):
            if self.duel.step(self.other, self.since if now >= self.since else None, False, now) is not None:
                self.duel.reqd_joined = False  # it goes on alone
            self._order(self.said.take(), now)
            self.fences.wake(now)
            self._tell(self.asked.take(), now)

    def _order(self, output: Output, now: float) -> None:
        for told in output.tell:
            match told.message:
                case OrderFenceOff() as order if told.who == REQD:
                    self.fences.off(order, now, LOCKD)
                case AskFences(number, asker, node):
                    self.duel.seen(FencesSeen(number, asker, node, (FenceView(0, "f", Power.ON),)), now)

    def _tell(self, output: Output, now: float) -> None:
        for told in output.tell:
            if isinstance(told.message, FenceResult):
                self.duel.fenced(told.message, now)
        for do in output.do:
            assert isinstance(do.action, AskDevice)
            self.attempts += 1
            takes = self.day.takes[self.place]
            fails = self.day.fails_first[self.place] and self.attempts == 1
            if not fails:
                cut = now + (takes - EPSILON if self.day.cuts_late[self.place] else 0.0)
                self.work.append((cut, "cut", do.id))
            self.work.append((now + takes, "answer", do.id))

    def next(self, now: float) -> list[float]:
        times = [at for at, _, _ in self.work] + [self.since, self.fences.wake_at or 0.0]
        times.append(self.duel.wake_at(self.other, self.since, False, now) or 0.0)
        return [at for at in times if at > now]


def off(cluster: ClusterConfig, day: Day) -> tuple[NodeName, ...]:
    """Who is off in the end."""
    nodes = [Node(place, cluster, day) for place in (0, 1)]
    now = 0.0
    while True:
        for node in nodes:
            if node.up:
                node.step(now)
        for node, victim in (nodes, nodes[::-1]):
            # What a device was told it does, even if who asked is off by then.
            if any(what == "cut" and at <= now for at, what, _ in node.work):
                node.work = [each for each in node.work if not (each[1] == "cut" and each[0] <= now)]
                victim.up = False
        times = [
            at for node in nodes for at in (node.next(now) if node.up else [at for at, _, _ in node.work if at > now])
        ]
        if not times or now > 60.0:
            return tuple(node.name for node in nodes if not node.up)
        now = min(times)


def with_delay(first: float | None) -> ClusterConfig:
    return replace(CLUSTER, nodes=(replace(CLUSTER.nodes[0], fence_delay=first), CLUSTER.nodes[1]))


@pytest.mark.parametrize("delay", [None, LEAST + 2 * EPSILON])
def test_with_the_delay_of_the_law_only_the_second_is_ever_off(delay: float | None) -> None:
    ends = {off(with_delay(delay), day) for day in days()}
    assert ends == {(NAMES[1],)}


class IgnoresTheDelay(ClusterConfig, frozen=True):
    def fence_delay(self, name: NodeName) -> float:
        return 0.0


@pytest.mark.parametrize("cluster", [with_delay(2.0), IgnoresTheDelay(**{
    name: getattr(CLUSTER, name) for name in CLUSTER.__struct_fields__
})], ids=["too short a delay", "the delay ignored"])  # fmt: skip
def test_without_it_both_may_be(cluster: ClusterConfig) -> None:
    assert NAMES in {off(cluster, day) for day in days()}
