"""The measurements. Each takes a cluster and a number of runs and gives the values of its figures.

Before each run the state that it begins from is made and waited for; that costs no figure anything.
"""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from truecl.core.clocks import Clocks
from truecl.core.timeline import timelines
from truecl.lab import sample
from truecl.lab.bench.cluster import WEB, Cluster
from truecl.lab.bench.processes import Usage, program_pids, spent, usage
from truecl.lab.errors import LabError
from truecl.model.ids import NodeName
from truecl.model.report import EventRecord

Values = dict[str, list[float]]
IDLE_SECONDS = 30.0
SETTLE = 2.0
"""Seconds of quiet before processor time is measured."""
CUT_SECONDS = 3.0
LOAD_SECONDS = 600.0
LOOPS_PER_CORE = 4
PHASES = {
    "suspected": "detected",
    "elected": "elected",
    "fence ordered": "fence ordered",
    "fence confirmed": "fenced",
    "granted": "granted",
}
"""Of a timeline (`truecl.core.timeline`), and their figures' names."""
TOOK = re.compile(r"\[(\d+) ms\]")
LOOP = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"


@dataclass(frozen=True)
class Case:
    """`nodes`: of its lab; `apps`: how many applications without storage there are beside the sample; `many`: False for
    one that takes its minutes once, whatever number of runs is asked for, and only when it is named."""

    name: str
    nodes: int
    run: Callable[[Cluster, int], Values]
    apps: int = 0
    many: bool = True


@dataclass
class Collected:
    """Values by figure."""

    values: Values = field(default_factory=dict)

    def add(self, key: str, value: float) -> None:
        self.values.setdefault(key, []).append(value)


# ---- commands -------------------------------------------------------------------------------------------------------


def form(cluster: Cluster, runs: int) -> Values:
    """With reqd up on every node, and the journals of an earlier life."""
    found, count = Collected(), len(cluster.nodes)
    for _ in range(runs):
        cluster.dissolved()
        time.sleep(0.5)
        before = _usages(cluster)
        took, _ = cluster.run(cluster.nodes[0], "lha_form")
        after = _usages(cluster)
        found.add(f"form{count}", took)
        found.add(f"form{count} cpu", sum(map(spent, before, after)) * 1000 / count)
        cluster.whole()
    return found.values


def application(cluster: Cluster, runs: int) -> Values:
    """Start, stop, dissolve."""
    found, first = Collected(), cluster.nodes[0]
    for _ in range(runs):
        cluster.stopped()
        took, said = cluster.run(first, "lha_startapp", "-A", WEB, "--json")
        drivers = sum(float(each) for line in json.loads(said)["lines"] for each in TOOK.findall(line["text"]))
        found.add("start", took)
        found.add("start drivers", drivers)
        found.add("start overhead", took - drivers)
        cluster.running()
        found.add("stop", cluster.run(first, "lha_stopapp", "-A", WEB)[0])
        cluster.stopped()
        found.add("dissolve", cluster.run(first, "lha_dissolve")[0])
    return found.values


def stat(cluster: Cluster, runs: int) -> Values:
    """By turns on the master and on another node."""
    found = Collected()
    cluster.running()
    for number in range(max(runs, 10)):
        found.add("stat", cluster.run(cluster.nodes[number % 2], "lha_stat")[0])
    return found.values


def stat_of_many(cluster: Cluster, runs: int) -> Values:
    found = Collected()
    cluster.services_up()
    began = time.monotonic()
    cluster.formed()

    def all_run() -> bool:
        status = cluster.status(cluster.master())
        if status is None:
            return False
        phases = [instance.phase for report in status.reports.values() for instance in report.instances]
        return phases.count("running") >= len(status.apps) - 1  # all but the sample

    cluster.wait("all applications running", all_run)
    found.add("start100", (time.monotonic() - began) * 1000)
    for number in range(max(runs, 10)):
        found.add("stat100", cluster.run(cluster.nodes[number % 2], "lha_stat")[0])
    return found.values


def move(cluster: Cluster, runs: int) -> Values:
    found = Collected()
    for number in range(runs):
        owner = cluster.running()
        to = next(node for node in cluster.nodes[number % 2 :] if node != owner)
        with cluster.lab.probe(sample.TARGET) as probing:
            probing.wait_answer(node=owner)
            found.add("move", cluster.run(cluster.nodes[0], "lha_moveapp", "-A", WEB, "-N", to)[0])
            probing.wait_answer(node=to)
        found.add("move outage", probing.result.longest * 1000)
    return found.values


# ---- faults ---------------------------------------------------------------------------------------------------------


def powercut(cluster: Cluster, runs: int) -> Values:
    """Of the node that is owner and master; then it boots and joins again."""
    found, key = Collected(), f"powercut{len(cluster.nodes)}"
    for number in range(runs):
        cluster.running()
        victim = cluster.running(cluster.master())
        time.sleep(0.5 + 0.037 * number)  # not always at the same moment of a heartbeat's period
        _cut_power(cluster, victim, found, key)
        cluster.lab.boot(victim)
        cluster.whole()
    return found.values


def _cut_power(cluster: Cluster, victim: NodeName, found: Collected, key: str) -> None:
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    with cluster.lab.probe(sample.TARGET) as probing:
        probing.wait_answer(node=victim)
        cut_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        cluster.lab.kill(victim)
        cluster.wait("an answer from another node", lambda: probing.wait_answer() != victim)
    found.add(key, probing.result.longest * 1000)
    survivors = [node for node in cluster.nodes if node != victim]
    cluster.wait("a master among the others", lambda: any(_leads(cluster, node) for node in survivors))
    events = [event for node in survivors for event in cluster.events(node) if event.uptime >= began]
    for phase, at in _phases(events, victim):
        found.add(f"{key} {phase}", (at - cut_at) * 1000)


def _leads(cluster: Cluster, node: NodeName) -> bool:
    status = cluster.status(node)
    return status is not None and status.master == node


def _phases(events: Sequence[EventRecord], victim: NodeName) -> list[tuple[str, float]]:
    """When each phase of the latest fail-over from it was over, by the clock that all nodes of a lab share."""
    found = timelines(events, Clocks(events, shared=True), WEB)
    latest = next((timeline for timeline in found if timeline.origin == victim), None)
    if latest is None:
        return []
    return [(PHASES[phase.name], latest.began + phase.at) for phase in latest.phases if phase.name in PHASES]


def death(cluster: Cluster, runs: int) -> Values:
    """kill -9 of the supervised program; a fresh instance each time, since deaths in a row make it move."""
    found = Collected()
    for _ in range(runs):
        cluster.stopped()
        owner = cluster.running()
        own = _own_start() * 1000
        with cluster.lab.probe(sample.TARGET, gap=0.02) as probing:
            probing.wait_answer(node=owner)
            time.sleep(0.3)
            for pid in program_pids(cluster.lab, owner, str(sample.WEBAPP)):
                os.kill(pid, signal.SIGKILL)
            time.sleep(1.0)
        if len(probing.result.nodes) != 1:
            raise LabError("the application moved after one death of its program")
        outage = probing.result.longest * 1000
        found.add("death", outage)
        found.add("death start", own)
        found.add("death overhead", outage - own)
    return found.values


def _own_start() -> float:
    """Seconds from the program's exec until it listens, without a cluster around it."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        began = time.monotonic()
        argv = ["/usr/bin/python3", "-I", "-S", str(sample.WEBAPP), directory, "127.0.0.1", str(port)]
        process = subprocess.Popen(argv)
        try:
            while True:
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", port)) == 0:
                        return time.monotonic() - began
                if time.monotonic() > began + 10.0:
                    raise LabError("the sample application does not start")
                time.sleep(0.0005)
        finally:
            process.kill()
            process.wait()


def linkcut(cluster: Cluster, runs: int) -> Values:
    """One link at a time between the node that is owner and master, and all others; the client's way stays."""
    found = Collected()
    for number in range(runs):
        cluster.running()
        owner = cluster.running(cluster.master())
        before = cluster.status(owner)
        with cluster.lab.probe(sample.TARGET) as probing:
            probing.wait_answer(node=owner)
            link = 1 + number % 2
            for other in cluster.nodes:
                if other != owner:
                    cluster.lab.cut(owner, link=link, source=other)
            time.sleep(CUT_SECONDS)
            cluster.lab.heal()
            time.sleep(CUT_SECONDS / 2)
        after = cluster.status(owner)
        if before is None or after is None:
            raise LabError("statd does not answer")
        grants = [each.ledger.apps[WEB].grant for each in (before, after)]
        found.add("linkcut outages", float(len(probing.result.outages)))
        found.add("linkcut failovers", float((grants[0] != grants[1]) + (before.term != after.term)))
        found.add("linkcut longest", probing.result.longest * 1000)
    return found.values


# ---- footprint ------------------------------------------------------------------------------------------------------


def footprint(cluster: Cluster, runs: int) -> Values:
    """Idle: formed, no application; then with it. Memory of every node, the greatest counts."""
    found = Collected()
    cluster.stopped()
    time.sleep(SETTLE)
    master = cluster.nodes.index(cluster.master())
    for _ in range(runs):
        shares, last = _shares(cluster, IDLE_SECONDS)
        found.add("cpu master", shares[master])
        found.add("cpu other", max(share for index, share in enumerate(shares) if index != master))
        found.add("pss", max(each.pss for each in last))
        found.add("pss alone", max(each.alone for each in last))
    owner = cluster.nodes.index(cluster.running())
    time.sleep(SETTLE)
    for _ in range(runs):
        shares, last = _shares(cluster, IDLE_SECONDS / 3)
        found.add("cpu owner", shares[owner])
    return found.values


def _usages(cluster: Cluster) -> list[Usage]:
    return [usage(cluster.lab, node) for node in cluster.nodes]


def _shares(cluster: Cluster, seconds: float) -> tuple[list[float], list[Usage]]:
    """Percent of one core that each node's daemons take, and what they are at the end."""
    before, began = _usages(cluster), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    after = _usages(cluster)
    return [100 * spent(old, new) / took for old, new in zip(before, after, strict=True)], after


def load(cluster: Cluster, runs: int) -> Values:
    """Busy loops in the nodes, four for each core of the machine: nobody may be taken for dead."""
    found = Collected()
    owner = cluster.running()
    before = cluster.status(owner)
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    loops = []
    try:
        with cluster.lab.probe(sample.TARGET, gap=0.5) as probing:
            probing.wait_answer(node=owner)
            for number in range(LOOPS_PER_CORE * (os.cpu_count() or 1)):
                code = LOOP.format(seconds=LOAD_SECONDS)
                argv = ["/usr/bin/python3", "-I", "-S", "-c", code]
                node = cluster.nodes[number % len(cluster.nodes)]
                loops.append(cluster.lab.popen(node, argv, stdin=subprocess.DEVNULL))
            time.sleep(LOAD_SECONDS)
    finally:
        for process in loops:  # each ends by itself, at the latest with its node
            process.kill()
            process.wait()
    result = probing.result
    cluster.wait("a quiet cluster", lambda: cluster.status(owner) is not None)
    after = cluster.status(owner)
    events = [event for node in cluster.nodes for event in cluster.events(node) if event.uptime >= began]
    grants = [each.ledger.apps[WEB].grant for each in (before, after) if each is not None]
    found.add("load failovers", float(max(0, len(result.changes) - 1) + (grants[0] != grants[-1])))
    found.add("load down", float(sum("is down" in event.text and "node " in event.text for event in events)))
    found.add("load terms", float((after.term if after else 0) - (before.term if before else 0)))
    found.add("load longest", result.longest * 1000)
    return found.values


CASES: tuple[Case, ...] = (
    Case("form4", 4, form),
    Case("application", 4, application),
    Case("stat", 4, stat),
    Case("move", 4, move),
    Case("death", 4, death),
    Case("linkcut", 4, linkcut),
    Case("powercut4", 4, powercut),
    Case("footprint", 4, footprint),
    Case("powercut3", 3, powercut),
    Case("form8", 8, form),
    Case("powercut8", 8, powercut),
    Case("stat100", 8, stat_of_many, apps=100),
    Case("load", 3, load, many=False),
)
