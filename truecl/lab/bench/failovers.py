"""Fail-overs, measured by a client that asks every 5 ms, and where their time goes by phase."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from truecl.core.clocks import Clocks
from truecl.core.timeline import timelines
from truecl.lab import holding, sample
from truecl.lab.bench.cluster import WEB, Cluster
from truecl.lab.errors import LabError
from truecl.model.ids import NodeName
from truecl.model.report import EventRecord, Moment

Values = dict[str, list[float]]
PHASES = {
    "last sign of life": "last sign of life",
    "suspected": "detected",
    "elected": "elected",
    "fence ordered": "fence ordered",
    "fence confirmed": "fenced",
    "lease expired": "lease expired",
    "granted": "granted",
    "storage": "storage",
    "file systems": "file systems",
    "addresses": "addresses",
    "program": "program",
    "answered": "answered",
}
"""Of a timeline (`truecl.core.timeline`), and their figures' names."""


PAUSE = 10.0


@dataclass
class Collected:
    """Values by figure."""

    values: Values = field(default_factory=dict)

    def add(self, key: str, value: float) -> None:
        self.values.setdefault(key, []).append(value)


def now() -> float:
    """The clock of all nodes of a lab, seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def powercut(key: str) -> Callable[[Cluster, int], Values]:
    """Of the node that is owner and master; then it boots and joins again."""

    def run(cluster: Cluster, runs: int) -> Values:
        found = Collected()
        for number in range(runs):
            victim = _owner_and_master(cluster, number)
            _taken_over(cluster, victim, found, key, cluster.lab.kill)
            cluster.lab.boot(victim)
            cluster.whole()
        return found.values

    return run


def cutoff(key: str) -> Callable[[Cluster, int], Values]:
    """Of the same node all links, from everybody. It is healed when another one answers."""

    def run(cluster: Cluster, runs: int) -> Values:
        found = Collected()
        for number in range(runs):
            victim = _owner_and_master(cluster, number)
            began = now()
            cut_at = _taken_over(cluster, victim, found, key, cluster.lab.cut)
            healed = now()
            cluster.lab.heal()
            if cluster.lab.state(victim) == "off":
                cluster.lab.boot(victim)
            cluster.whole()
            events = [event for event in _events(cluster, cluster.nodes, began) if cut_at <= event.uptime < healed]
            _stopped_before(events, victim, cut_at, found, key)
        return found.values

    return run


def paused(cluster: Cluster, runs: int) -> Values:
    """All processes of the owner stand still for 10 s while its kernel answers, and no fence device is there."""
    found = Collected()
    for number in range(runs):
        _paused(cluster, _owner_and_master(cluster, number), found)
    return found.values


def _paused(cluster: Cluster, victim: NodeName, found: Collected) -> None:
    with cluster.lab.probe(sample.TARGET) as probing:
        probing.wait_answer(node=victim)
        cluster.lab.pause(victim)
        at = now()
        gone = _until(lambda: not holding.has_address(cluster.lab, victim, sample.ADDRESS), "the address down")
        cluster.wait("an answer from another node", lambda: probing.wait_answer() != victim)
        time.sleep(max(0.0, at + PAUSE - now()))
        cluster.lab.resume(victim)
        woken = now()
        stopped = _until(lambda: WEB not in holding.programs(cluster.lab, victim), "the program gone")
        cluster.whole()
    if len(probing.result.changes) != 2:
        raise LabError(f"the paused owner answered again: {probing.result.changes}")
    found.add("paused", probing.result.longest * 1000)
    found.add("paused address", (gone - at) * 1000)
    found.add("paused woken", (stopped - woken) * 1000)


def _until(so: Callable[[], bool], what: str) -> float:
    """When it was so first. Raises LabError."""
    deadline = now() + PAUSE
    while not so():
        if now() > deadline:
            raise LabError(f"not in {PAUSE:g} s: {what}")
        time.sleep(0.002)
    return now()


def reelection(key: str) -> Callable[[Cluster, int], Values]:
    """The master's node loses power, and an application runs elsewhere."""

    def run(cluster: Cluster, runs: int) -> Values:
        found = Collected()
        for number in range(runs):
            cluster.running()
            master = cluster.master()
            owner = cluster.running(next(node for node in cluster.nodes if node != master))
            time.sleep(0.5 + 0.037 * number)
            with cluster.lab.probe(sample.TARGET) as probing:
                probing.wait_answer(node=owner)
                cut_at = now()
                cluster.lab.kill(master)
                others = [node for node in cluster.nodes if node != master]
                _wait_for_master(cluster, others)
            found.add(f"{key} longest", probing.result.longest * 1000)
            events = [event for node in others for event in cluster.events(node) if event.uptime >= cut_at]
            elected = [event.uptime for event in events if event.mark and event.mark.what == Moment.ELECTED]
            if not elected or len(probing.result.nodes) != 1:
                raise LabError(f"no election noted, or the application moved: {probing.result.nodes}")
            found.add(key, (min(elected) - cut_at) * 1000)
            cluster.lab.boot(master)
            cluster.whole()
        return found.values

    return run


def _owner_and_master(cluster: Cluster, number: int) -> NodeName:
    cluster.running()
    victim = cluster.running(cluster.master())
    time.sleep(0.5 + 0.037 * number)  # not always at the same moment of a heartbeat's period
    return victim


def _taken_over(cluster: Cluster, victim: NodeName, found: Collected, key: str, fault: Callable[[str], None]) -> float:
    """Returns when the fault came."""
    began = now()
    with cluster.lab.probe(sample.TARGET) as probing:
        probing.wait_answer(node=victim)
        cut_at = now()
        fault(victim)
        cluster.wait("an answer from another node", lambda: probing.wait_answer() != victim)
    found.add(key, probing.result.longest * 1000)
    survivors = [node for node in cluster.nodes if node != victim]
    _wait_for_master(cluster, survivors)
    for phase, at in phases(_events(cluster, survivors, began), victim):
        found.add(f"{key} {phase}", (at - cut_at) * 1000)
    return cut_at


def _events(cluster: Cluster, nodes: Sequence[NodeName], since: float) -> list[EventRecord]:
    return [event for node in nodes for event in cluster.events(node) if event.uptime >= since]


def _stopped_before(events: Sequence[EventRecord], victim: NodeName, cut_at: float, found: Collected, key: str) -> None:
    """When the old owner's own guard had stopped it, where it lived to say so (one that was fenced finds at its next
    boot that all is gone, which comes later). Raises LabError if that was too late."""
    stopped, started = [], []
    for event in events:
        if event.app == WEB and event.mark:
            if event.mark.what == Moment.STOPPED and event.node == victim:
                stopped.append(event.uptime)
            if event.mark.what == Moment.STARTED and event.node != victim:
                started.append(event.mark.since)
    if not stopped:
        return
    if not started or min(started) < min(stopped):
        raise LabError(f"the new owner began before the old one had stopped: {started}, {stopped}")
    found.add(f"{key} stopped", (min(stopped) - cut_at) * 1000)
    found.add(f"{key} begun", (min(started) - cut_at) * 1000)


def _wait_for_master(cluster: Cluster, nodes: Sequence[NodeName]) -> None:
    cluster.wait("a master among the others", lambda: any(_leads(cluster, node) for node in nodes))


def _leads(cluster: Cluster, node: NodeName) -> bool:
    status = cluster.status(node)
    return status is not None and status.master == node


def phases(events: Sequence[EventRecord], victim: NodeName) -> list[tuple[str, float]]:
    """When each phase of the latest fail-over from it was over, by the clock that all nodes of a lab share."""
    found = timelines(events, Clocks(events, shared=True), WEB)
    latest = next((timeline for timeline in found if timeline.origin == victim), None)
    if latest is None:
        return []
    return [(PHASES[phase.name], latest.began + phase.at) for phase in latest.phases if phase.name in PHASES]
