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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from truecl.lab import sample
from truecl.lab.bench.cluster import WEB, Cluster
from truecl.lab.bench.failovers import Collected, Values, cutoff, paused, powercut, reelection
from truecl.lab.bench.processes import Usage, program_pids, spent, usage
from truecl.lab.errors import LabError
from truecl.model.config import Profile

IDLE_SECONDS = 30.0
SETTLE = 2.0
"""Seconds of quiet before processor time is measured."""
CUT_SECONDS = 3.0
LOAD_SECONDS = 600.0
LOOPS_PER_CORE = 4
TOOK = re.compile(r"\[(\d+) ms\]")
LOOP = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"


@dataclass(frozen=True, order=True)
class Setting:
    """A lab: one for all cases that want the same."""

    nodes: int
    apps: int = 0
    """How many applications without storage there are beside the sample."""
    profile: Profile = "normal"
    bare: bool = False
    """The sample has no storage, and the nodes no fence devices."""


@dataclass(frozen=True)
class Case:
    """`many`: False for one that takes its minutes once, whatever number of runs is asked for, and only when it is
    named."""

    name: str
    setting: Setting
    run: Callable[[Cluster, int], Values]
    many: bool = True


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
        cluster.built()
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


def footprint(suffix: str) -> Callable[[Cluster, int], Values]:
    """Idle: formed, no application; then with it. Memory of every node, the greatest counts."""

    def run(cluster: Cluster, runs: int) -> Values:
        found = Collected()
        cluster.stopped()
        time.sleep(SETTLE)
        master = cluster.nodes.index(cluster.master())
        for _ in range(runs):
            shares, last = _shares(cluster, IDLE_SECONDS)
            found.add(f"cpu master{suffix}", shares[master])
            found.add(f"cpu other{suffix}", max(share for index, share in enumerate(shares) if index != master))
            found.add(f"pss{suffix}", max(each.pss for each in last))
            found.add(f"pss alone{suffix}", max(each.alone for each in last))
        owner = cluster.nodes.index(cluster.running())
        time.sleep(SETTLE)
        for _ in range(runs):
            shares, last = _shares(cluster, IDLE_SECONDS / 3)
            found.add(f"cpu owner{suffix}", shares[owner])
        return found.values

    return run


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


_FOUR, _EIGHT = Setting(4), Setting(8)
_SETTINGS = (("", Setting(3), Setting(3, bare=True)),
             (" fast", Setting(3, profile="fast"), Setting(3, profile="fast", bare=True)))  # fmt: skip


def _failovers() -> Iterator[Case]:
    for suffix, fenced, bare in _SETTINGS:
        name = suffix.strip()
        yield Case(f"powercut3{name}", fenced, powercut(f"powercut3{suffix}"))
        yield Case(f"cutoff{name}", fenced, cutoff(f"cutoff{suffix}"))
        yield Case(f"reelection{name}", fenced, reelection(f"reelection{suffix}"))
        yield Case(f"expired{name}", bare, powercut(f"expired{suffix}"))
        yield Case(f"expiredcutoff{name}", bare, cutoff(f"expired cutoff{suffix}"))


CASES: tuple[Case, ...] = (
    Case("form4", _FOUR, form),
    Case("application", _FOUR, application),
    Case("stat", _FOUR, stat),
    Case("move", _FOUR, move),
    Case("death", _FOUR, death),
    Case("linkcut", _FOUR, linkcut),
    Case("powercut4", _FOUR, powercut("powercut4")),
    Case("footprint", _FOUR, footprint("")),
    Case("powercut2", Setting(2), powercut("powercut2")),
    *_failovers(),
    Case("paused", Setting(3, bare=True), paused),
    Case("footprintfast", Setting(4, profile="fast"), footprint(" fast"), many=False),
    Case("form8", _EIGHT, form),
    Case("powercut8", _EIGHT, powercut("powercut8")),
    Case("stat100", Setting(8, apps=100), stat_of_many),
    Case("load", Setting(3), load, many=False),
)
