"""Several detectors and the links between them, in simulated time."""

import heapq
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from truecl.core.contract import Event, Noted, Output, Received, Told, Woke
from truecl.core.detector import Detector, Stopping
from truecl.model.config import ClusterConfig, LinkConfig, NodeConfig, Timing
from truecl.model.ids import BootId, LinkName, NodeName
from truecl.wire.messages import Subscribe, View

GOLDENS = Path(__file__).parent / "goldens"
DELAY = 0.001


def cluster(names: str, links: str = "AB", timing: Timing | None = None) -> ClusterConfig:
    """One letter a node, one a link."""
    return ClusterConfig(
        name="test",
        links=tuple(LinkConfig(name=LinkName(link)) for link in links),
        nodes=tuple(
            NodeConfig(
                name=NodeName(name),
                addresses={LinkName(link): f"10.{place}.0.{number}" for place, link in enumerate(links)},
            )
            for number, name in enumerate(names, 1)
        ),
        timing=timing or Timing(),
    )


class HeartbeatNet:
    """`told` is the conversation: what each node's subscriber was told, with the time."""

    def __init__(self, names: str, links: str = "AB", seed: int = 1) -> None:
        self.cluster = cluster(names, links)
        self.now = 100.0
        self.told: list[str] = []
        self.views: dict[str, View] = {}
        self.sent = 0
        self.cores: dict[str, Detector] = {}
        self.paused: dict[str, list[Event]] = {}
        self.cuts: set[tuple[str, str, str]] = set()
        """(sender, receiver, link)."""
        self.drop: Callable[[str, str, Any], bool] = lambda sender, receiver, message: False
        self._random = Random(seed)
        self._queue: list[tuple[float, int, str, Event, int]] = []
        self._count = 0
        self._alarms: dict[str, tuple[float, int]] = {}
        self._lives: dict[str, int] = {}

    def boot(self, name: str, boot: str) -> None:
        """Start hbd on a node: `boot` anew, or the same after its own death."""
        self._lives[name] = self._lives.get(name, 0) + 1
        core = Detector(self.cluster, NodeName(name), BootId(boot), self._random)
        self.cores[name] = core
        self.views.pop(name, None)
        self._carry_out(name, core.start(self.now))
        self.feed(name, Told("lockd", Subscribe()))

    def kill(self, name: str) -> None:
        self._lives[name] += 1
        del self.cores[name]
        self._alarms.pop(name, None)

    def stop(self, name: str) -> None:
        self.feed(name, Noted(Stopping()))
        self.kill(name)

    def pause(self, name: str) -> None:
        self.paused[name] = []

    def resume(self, name: str, timer_first: bool = False) -> None:
        """`timer_first`: its overdue timer goes off before the datagrams that waited are read."""
        waiting = self.paused.pop(name)
        waiting.insert(0 if timer_first else len(waiting), Woke())
        for event in waiting:
            self.feed(name, event)

    def cut(self, sender: str, receiver: str, links: str = "AB") -> None:
        """One way."""
        self.cuts |= {(sender, receiver, link) for link in links}

    def heal(self) -> None:
        self.cuts.clear()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, name, event, life = heapq.heappop(self._queue)
            if life != self._lives.get(name) or name not in self.cores:
                continue
            if isinstance(event, Woke):
                if self._alarms.get(name, (0.0, 0))[0] != self.now or name in self.paused:
                    continue
            elif name in self.paused:
                self.paused[name].append(event)
                continue
            self.feed(name, event)
        self.now = end

    def feed(self, name: str, event: Event) -> None:
        self._carry_out(name, self.cores[name].handle(event, self.now))

    def alive(self, name: str) -> str:
        """The nodes that `name` sees alive, itself not among them."""
        return "".join(each.node for each in self.views[name].nodes if each.alive)

    def _carry_out(self, name: str, output: Output) -> None:
        for send in output.send:
            self.sent += 1
            if (name, send.node, send.message.link) in self.cuts or self.drop(name, send.node, send.message):
                continue
            self._push(self.now + DELAY, send.node, Received(NodeName(name), send.message))
        for tell in output.tell:
            self.views[name] = tell.message
            self.told.append(f"{self.now - 100:7.3f} {name}: {shown(tell.message)}")
        if output.wake_at is not None:
            at = max(output.wake_at, self.now)
            self._alarms[name] = (at, self._count)
            self._push(at, name, Woke())

    def _push(self, at: float, name: str, event: Event) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, name, event, self._lives.get(name, 0)))


def shown(view: View) -> str:
    words = []
    for node in view.nodes:
        state = "left" if node.left else "alive" if node.alive else "-----"
        links = "".join(link.name if link.up else "." for link in node.links)
        words.append(f"{node.node}[{node.boot or '?'}] {state} {links}")
    return "  ".join(words)


def compare(name: str, lines: list[str], rewrite: bool) -> None:
    path = GOLDENS / f"{name}.txt"
    text = "\n".join(lines) + "\n"
    if rewrite:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    assert path.read_text() == text
