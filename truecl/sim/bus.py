"""The local sockets of one node: ordered, quick, and gone with either end."""

from typing import TYPE_CHECKING, Any

from truecl.core.contract import Event, Joined, Left, Told
from truecl.model.ids import DaemonName
from truecl.sim.process import Process

if TYPE_CHECKING:
    from truecl.sim.machine import Machine


class _Edge:
    """One client's connection to one server. `since` ends: the processes that it joins, None while down."""

    __slots__ = ("ends", "last")

    def __init__(self) -> None:
        self.ends: dict[DaemonName, Process] | None = None
        self.last: dict[DaemonName, float] = {}
        """When the newest event towards each end arrives; none may overtake it."""


class Bus:
    """All edges of a node. A client that lost its server tries again at short random intervals."""

    def __init__(self, machine: "Machine", edges: tuple[tuple[DaemonName, DaemonName], ...]) -> None:
        self._machine = machine
        self._edges: dict[tuple[DaemonName, DaemonName], _Edge] = {}
        self._of: dict[DaemonName, list[tuple[DaemonName, _Edge]]] = {}
        for client, server in edges:
            edge = _Edge()
            self._edges[client, server] = self._edges[server, client] = edge
            self._of.setdefault(client, []).append((server, edge))
            self._of.setdefault(server, []).append((client, edge))

    def started(self, process: Process) -> None:
        for other, edge in self._of.get(process.daemon, []):
            peer = self._machine.processes.get(other)
            if peer is not None and peer.alive:
                self._machine.schedule.after(self._draw(0.0002, 0.02), self._connect, edge, process, peer)

    def died(self, process: Process) -> None:
        """What was already written may still be read; then the other end sees the connection closed."""
        for other, edge in self._of.get(process.daemon, []):
            if edge.ends is not None:
                peer = edge.ends[other]
                edge.ends = None
                self._deliver(edge, peer, Left(process.daemon))

    def tell(self, process: Process, who: DaemonName, message: Any) -> None:
        edge = self._edges.get((process.daemon, who))
        if edge is not None and edge.ends is not None:
            self._deliver(edge, edge.ends[who], Told(process.daemon, message))

    def _connect(self, edge: _Edge, one: Process, other: Process) -> None:
        if edge.ends is not None or not (one.alive and other.alive):
            return
        edge.ends = {one.daemon: one, other.daemon: other}
        edge.last = {}
        for greeted, who in ((other, one), (one, other)):
            self._deliver(edge, greeted, Joined(who.daemon))

    def _deliver(self, edge: _Edge, to: Process, event: Event) -> None:
        schedule = self._machine.schedule
        arrival = max(schedule.now + self._draw(0.00002, 0.0003), edge.last.get(to.daemon, 0.0))
        edge.last[to.daemon] = arrival
        schedule.at(arrival, to.deliver, event)

    def _draw(self, low: float, high: float) -> float:
        return low + (high - low) * self._machine.random.random()
