"""The network between the nodes: datagrams on each link for hbd, ordered sessions for the others' mesh.

Cuts are directed and per link, and may lie over one another. A session of the mesh runs over one link at a time. While
that link is cut it stalls, as TCP does, and goes on if the cut heals soon; else both ends see it break and it is made
anew over a link that works. Where the seed says `raw`, the mesh behaves like datagrams, as the contract allows.
(After TigerBeetle's packet simulator and Twisted's iosim.)
"""

from typing import TYPE_CHECKING, Any

from truecl.core.contract import Connected, Disconnected, Event, Received
from truecl.model.ids import DaemonName, LinkName, NodeName
from truecl.sim.process import Process

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster

_STALLED = 1000
"""Messages that a stalled session's sender keeps."""


class Session:
    """The connection between the same daemon of two nodes."""

    __slots__ = ("checking", "daemon", "epoch", "held", "last", "link", "names", "processes", "stalled_since", "trying")

    def __init__(self, daemon: DaemonName, one: NodeName, other: NodeName) -> None:
        self.daemon = daemon
        self.names = (one, other)
        self.processes: dict[NodeName, Process] = {}
        """Both ends while it is up, nothing while it is down."""
        self.epoch = 0
        self.link = LinkName("")
        self.last: dict[NodeName, float] = {}
        """When the newest event towards each end arrives."""
        self.held: dict[NodeName, list[Any]] = {one: [], other: []}
        """Messages towards each end that wait for the link."""
        self.stalled_since: float | None = None
        self.trying = False
        self.checking = False


class Network:
    """Carries what the daemons send."""

    def __init__(self, cluster: "Cluster", links: tuple[LinkName, ...]) -> None:
        self._cluster = cluster
        self._schedule = cluster.schedule
        self._random = cluster.random
        self.links = links
        self._cuts: dict[tuple[NodeName, NodeName, LinkName], int] = {}
        self._sessions: dict[tuple[DaemonName, NodeName, NodeName], Session] = {}
        names = cluster.names
        self._of: dict[tuple[DaemonName, NodeName], list[Session]] = {}
        for daemon in cluster.plan.mesh:
            for position, one in enumerate(names):
                for other in names[position + 1 :]:
                    session = Session(daemon, one, other)
                    for here, there in ((one, other), (other, one)):
                        self._sessions[daemon, here, there] = session
                        self._of.setdefault((daemon, here), []).append(session)

    # ---- cuts -------------------------------------------------------------------------------------------------------

    def cut(self, source: NodeName, target: NodeName, link: LinkName) -> None:
        """Nothing gets from `source` to `target` on this link, until as many heals."""
        key = (source, target, link)
        self._cuts[key] = self._cuts.get(key, 0) + 1

    def heal(self, source: NodeName, target: NodeName, link: LinkName) -> None:
        key = (source, target, link)
        left = self._cuts.get(key, 0) - 1
        if left > 0:
            self._cuts[key] = left
        else:
            self._cuts.pop(key, None)

    def heal_all(self) -> None:
        self._cuts.clear()

    def open(self, source: NodeName, target: NodeName, link: LinkName) -> bool:
        return (source, target, link) not in self._cuts

    # ---- sending ----------------------------------------------------------------------------------------------------

    def send(self, process: Process, target: NodeName, message: Any) -> None:
        if process.daemon in self._cluster.plan.datagrams:
            self._datagram(process, target, message)
            return
        source = process.machine.name
        session = self._sessions.get((process.daemon, source, target))
        if session is None or session.processes.get(source) is not process:
            return
        to = session.processes[target]
        faults = self._cluster.faults
        if faults.raw:
            if self.open(source, target, session.link) and self._random.random() >= faults.loss:
                self._fly(to, source, message)
                if faults.double and self._random.random() < faults.double:
                    self._fly(to, source, message)
            return
        held = session.held[target]
        if held or (self._cuts and not self._whole(session)):
            self._stall(session)
            if held or not self.open(source, target, session.link):
                if len(held) < _STALLED:
                    held.append(message)
                return
        self._in_order(session, to, Received(source, message), faults.loss)

    def _datagram(self, process: Process, target: NodeName, message: Any) -> None:
        source = process.machine.name
        if self._cuts and not self.open(source, target, message.link):
            return
        faults = self._cluster.faults
        random = self._random.random
        if faults.loss and random() < faults.loss:
            self._cluster.met("message lost")
            return
        self._schedule.after(self._flight(), self._arrive, process.daemon, source, target, message)
        if faults.double and random() < faults.double:
            self._cluster.met("message doubled")
            self._schedule.after(self._flight(), self._arrive, process.daemon, source, target, message)

    def _arrive(self, daemon: DaemonName, source: NodeName, target: NodeName, message: Any) -> None:
        to = self._cluster.machines[target].processes.get(daemon)
        if to is not None:
            to.deliver(Received(source, message))

    def _fly(self, to: Process, source: NodeName, message: Any) -> None:
        self._schedule.after(self._flight(), to.deliver, Received(source, message))

    def _flight(self) -> float:
        faults = self._cluster.faults
        random = self._random
        time = faults.latency + random.expovariate(1.0) * faults.jitter
        if faults.spike and random.random() < faults.spike:
            self._cluster.met("message late")
            time += random.random() * faults.spike_length
        return time

    def _in_order(self, session: Session, to: Process, event: Event, loss: float = 0.0) -> None:
        arrival = self._schedule.now + self._flight()
        if loss and self._random.random() < loss:
            arrival += 0.2
        name = to.machine.name
        arrival = max(arrival, session.last.get(name, 0.0))
        session.last[name] = arrival
        self._schedule.at(arrival, to.deliver, event)

    # ---- sessions ---------------------------------------------------------------------------------------------------

    def started(self, process: Process) -> None:
        for session in self._of.get((process.daemon, process.machine.name), []):
            self._try_later(session, 0.0005, 0.02)

    def died(self, process: Process, quietly: bool) -> None:
        """`quietly`: with its node's power, so that nobody closes its connections."""
        source = process.machine.name
        for session in self._of.get((process.daemon, source), []):
            if session.processes.get(source) is not process:
                continue
            other = session.names[0] if session.names[1] == source else session.names[1]
            peer = session.processes[other]
            reached = not quietly and self.open(source, other, session.link)
            self._break(session)
            delay = 0.0 if reached else self._patience()
            self._schedule.after(delay, self._tell_broken, session, peer, source)

    def _tell_broken(self, session: Session, peer: Process, source: NodeName) -> None:
        self._in_order(session, peer, Disconnected(source))
        self._try_later(session, 0.005, 0.2)

    def _patience(self) -> float:
        """How long TCP waits for an acknowledgement before it gives a connection up (as we set it)."""
        return 0.3 + 2.0 * self._random.random()

    def _try_later(self, session: Session, low: float, high: float) -> None:
        if not session.trying and not session.processes:
            session.trying = True
            self._schedule.after(low + (high - low) * self._random.random(), self._try, session)

    def _try(self, session: Session) -> None:
        session.trying = False
        if session.processes:
            return
        machines = self._cluster.machines
        one, other = session.names
        ends = machines[one].processes.get(session.daemon), machines[other].processes.get(session.daemon)
        if ends[0] is None or ends[1] is None:
            return
        links = [each for each in self.links if self.open(one, other, each) and self.open(other, one, each)]
        if not links or ends[0].held or ends[1].held:
            self._try_later(session, 0.05, 0.3)
            return
        session.link = links[int(self._random.random() * len(links))]
        session.processes = {one: ends[0], other: ends[1]}
        session.stalled_since = None
        for to, node in ((ends[0], other), (ends[1], one)):
            self._in_order(session, to, Connected(node))

    def _whole(self, session: Session) -> bool:
        one, other = session.names
        return self.open(one, other, session.link) and self.open(other, one, session.link)

    def _stall(self, session: Session) -> None:
        """Something was sent that cannot be acknowledged: retransmit for a while, then give the connection up."""
        if session.stalled_since is None:
            session.stalled_since = self._schedule.now
        if not session.checking:
            session.checking = True
            self._schedule.after(0.2, self._retransmit, session, session.epoch, self._schedule.now + self._patience())

    def _retransmit(self, session: Session, epoch: int, until: float) -> None:
        session.checking = False
        if session.epoch != epoch or not session.processes:
            return
        if self._whole(session):
            session.stalled_since = None
            for name in session.names:
                held, session.held[name] = session.held[name], []
                source = session.names[0] if session.names[1] == name else session.names[1]
                for message in held:
                    self._in_order(session, session.processes[name], Received(source, message))
        elif self._schedule.now >= until:
            one, other = session.names
            ends = session.processes
            self._break(session)
            self._cluster.met("session broken")
            self._in_order(session, ends[one], Disconnected(other))
            self._in_order(session, ends[other], Disconnected(one))
            self._try_later(session, 0.005, 0.2)
        else:
            session.checking = True
            self._schedule.after(0.2, self._retransmit, session, epoch, until)

    def _break(self, session: Session) -> None:
        session.epoch += 1
        session.checking = False
        session.processes = {}
        for name in session.names:
            session.held[name] = []
