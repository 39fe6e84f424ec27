"""The same daemon's core on several nodes, with a network between them that the test holds in its hands."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from truecl.core.contract import Connected, Core, Disconnected, Done, Event, Output, Received, Told, Woke
from truecl.model.config import AppConfig, ClusterConfig, Configuration, LinkConfig, NodeConfig
from truecl.model.ids import AppName, LinkName, NodeName


def configuration(nodes: int = 3, apps: tuple[str, ...] = ("web",), digest: str = "d1") -> Configuration:
    names = [NodeName(f"n{number}") for number in range(1, nodes + 1)]
    return Configuration(
        cluster=ClusterConfig(
            name="c",
            links=(LinkConfig(name=LinkName("lan")),),
            nodes=tuple(NodeConfig(name=name, addresses={LinkName("lan"): f"10.0.0.{name[1:]}"}) for name in names),
        ),
        apps=tuple(AppConfig(name=AppName(app), nodes=tuple(names)) for app in apps),
        digest=digest,
    )


class Nodes:
    """`perform(node, action)` is the driver. Messages and results arrive in order, in `settle`."""

    def __init__(
        self, names: Iterable[str], build: Callable[[NodeName], Core], perform: Callable[[NodeName, Any], Any]
    ) -> None:
        self.now = 100.0
        self.cores = {NodeName(name): build(NodeName(name)) for name in names}
        self.told: dict[NodeName, list[tuple[str, Any]]] = {name: [] for name in self.cores}
        self.cut: set[NodeName] = set()
        """Nodes whose messages are lost, both ways."""
        self.sent: list[tuple[NodeName, NodeName, Any]] = []
        self.wake_at: dict[NodeName, float | None] = dict.fromkeys(self.cores)
        self._perform = perform
        self._queue: deque[tuple[NodeName, Event]] = deque()
        for name, core in self.cores.items():
            self._carry_out(name, core.start(self.now))
        self.settle()

    def connect(self) -> None:
        for one in self.cores:
            for other in self.cores:
                if one != other:
                    self.feed(one, Connected(other))

    def disconnect(self, node: str) -> None:
        for one in self.cores:
            if one != node:
                self.feed(one, Disconnected(NodeName(node)))

    def tell(self, node: str, who: str, message: Any) -> None:
        self.feed(node, Told(who, message))

    def feed(self, node: str, event: Event) -> None:
        name = NodeName(node)
        self._carry_out(name, self.cores[name].handle(event, self.now))
        self.settle()

    def settle(self) -> None:
        """Until nothing is under way."""
        for _ in range(10_000):
            if not self._queue:
                return
            node, event = self._queue.popleft()
            self._carry_out(node, self.cores[node].handle(event, self.now))
        raise AssertionError("they never stop talking")

    def wait(self, seconds: float) -> None:
        """Time passes; timers fire when they are due."""
        end = self.now + seconds
        while True:
            due = [(at, name) for name, at in self.wake_at.items() if at is not None and at <= end]
            if not due:
                break
            at, name = min(due)
            self.now = max(self.now, at)
            self.feed(name, Woke())
        self.now = end

    def heard(self, node: str, who: str, kind: type) -> list[Any]:
        """What `who` was told on that node, of one kind, and forgets it."""
        name = NodeName(node)
        found = [message for to, message in self.told[name] if to == who and isinstance(message, kind)]
        self.told[name] = [(to, each) for to, each in self.told[name] if to != who or not isinstance(each, kind)]
        return found

    def _carry_out(self, node: NodeName, output: Output) -> None:
        for send in output.send:
            self.sent.append((node, send.node, send.message))
            if node not in self.cut and send.node not in self.cut:
                self._queue.append((send.node, Received(node, send.message)))
        for do in output.do:
            result = self._perform(node, do.action)
            if result is not None:
                self._queue.append((node, Done(do.id, result)))
        for tell in output.tell:
            self.told[node].append((tell.who, tell.message))
        self.wake_at[node] = output.wake_at
