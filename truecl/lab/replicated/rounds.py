"""One round: a fault while a client commits rows, then peace; what it saw, and whether every promise was kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from truecl.lab.cluster import Lab
from truecl.lab.faults.round import Violation
from truecl.lab.probing import Probing
from truecl.lab.replicated import app
from truecl.lab.replicated.cluster import Cluster, acknowledged
from truecl.lab.replicated.draw import (
    CUT,
    HEARTBEAT,
    PAUSE,
    PEER_POWER,
    POWER,
    REPLICATION,
    REQD,
    RETURN,
    Fault,
)
from truecl.lab.replicated.watch import ReplicaWatch

HEALING = 120.0
"""Seconds within which the database runs again, and both copies are equal."""
ANSWERED = 5.0
"""Seconds for which a primary's I/O may stand still until its handler has an answer, where the log can go on: drbdadm,
the handler and a commit, on kernels whose forks cost twenty times as much."""
EXCLUDED = 5.0
"""Seconds more where the log cannot go on without the other node: it is noticed, switched off and excluded first."""
ENDED = 10.0
"""Seconds where no word can come: the lease ends, and all is down by the end of the stop allowance (docs/timing.md)."""
UNTOUCHED = 4.0
"""Seconds for which a node that is off stays so: who switches one on again that is just being fenced takes from the
others the proof that it is off."""
OVERLAP = 0.05
"""Seconds by which two kernels' looks may seem to overlap."""
BULK = "create table bulk as select g, md5(g::text) || repeat('x', 1000) as text from generate_series(1, {rows}) g"
BULK_ROWS = 20000
"""Of a kilobyte: what a node that is away misses, so that it has something to catch up with."""
FOR_IT = 30.0


@dataclass
class Outcome:
    """Of one round. Seconds."""

    number: int
    fault: Fault
    owner: str
    after: str = ""
    outage: float = 0.0
    """The longest time between two acknowledgements."""
    frozen: float = 0.0
    """The longest time for which a primary's I/O stood still."""
    rows: int = 0
    healed: float = 0.0
    """From the end of the fault until the database runs and both copies are equal."""


class Round:
    """`told`: names of the rows that were acknowledged, over all rounds."""

    def __init__(self, cluster: Cluster, told: set[str]) -> None:
        self._cluster, self._lab, self._told = cluster, cluster.lab, told

    def play(self, fault: Fault, number: int) -> Outcome:
        """Raises Violation, LabError."""
        cluster = self._cluster
        owner = cluster.wait("the database runs", cluster.owner)
        cluster.wait("both copies are equal", cluster.equal)
        cluster.wait("both nodes are up", cluster.whole)
        outcome = Outcome(number, fault, owner)
        prefix = f"r{number}"
        with ReplicaWatch(self._lab, cluster.minor()) as watch, self._lab.writer(app.TARGET, prefix) as writer:
            try:
                writer.wait_answer(30.0)
                time.sleep(fault.delay)
                self._do(fault, owner, watch)
                ended = time.monotonic()
                self._settle(writer)
                outcome.healed = time.monotonic() - ended
                time.sleep(0.5)
            finally:
                writer.stop()
        self._told |= acknowledged(prefix, writer.result.answered)
        outcome.outage, outcome.rows = writer.result.longest, writer.result.answers
        outcome.frozen = watch.frozen()
        outcome.after = cluster.owner()
        self._judge(outcome, watch)
        return outcome

    # ---- the fault --------------------------------------------------------------------------------------------------

    def _do(self, fault: Fault, owner: str, watch: ReplicaWatch) -> None:
        for node in self._cluster.nodes:
            self._lab.power(node, "refuse" if fault.refuse else "ok")
        try:
            if fault.kind == RETURN:
                self._lose_it_in_a_resync(fault, owner, watch)
            else:
                self._begin(fault, owner)
                time.sleep(fault.length)
        finally:
            self._lab.heal()
            for node in self._cluster.nodes:
                if self._lab.state(node) == "paused":
                    self._lab.resume(node)
                self._lab.power(node, "ok")

    def _begin(self, fault: Fault, owner: str) -> None:
        lab, cluster = self._lab, self._cluster
        other = cluster.other(owner)
        beginnings: dict[str, Callable[[], object]] = {
            POWER: lambda: lab.kill(owner),
            PEER_POWER: lambda: lab.kill(other),
            REPLICATION: lambda: lab.cut(owner, source=other, port=cluster.port()),
            HEARTBEAT: lambda: lab.cut(owner, source=other, spared=cluster.port()),
            CUT: lambda: lab.cut(owner),
            REQD: lambda: cluster.shell(owner, "pkill -KILL -x reqd"),
            PAUSE: lambda: lab.pause(owner, fault.silent),
        }
        beginnings[fault.kind]()

    def _lose_it_in_a_resync(self, fault: Fault, owner: str, watch: ReplicaWatch) -> None:
        """The other node was away while data changed; in the middle of its catching up the only good copy goes.

        The other must not be promoted then: what it has is neither the old data nor the new.
        """
        other = self._cluster.other(owner)
        self._lab.kill(other)
        self._cluster.wait("the database goes on alone", self._cluster.answers, FOR_IT)
        app.ask(self._lab, "drop table if exists bulk; " + BULK.format(rows=BULK_ROWS), 60.0)
        self._lab.boot(other)
        watch.wait(other, "the resync begins", FOR_IT, disk="Inconsistent", connection="SyncTarget")
        self._lab.kill(owner)
        time.sleep(fault.length)

    # ---- peace ------------------------------------------------------------------------------------------------------

    def _settle(self, writer: Probing) -> None:
        """Switch on what is off and wait until all is well."""
        deadline = time.monotonic() + HEALING
        off: dict[str, float] = {}
        while not self._well():
            now = time.monotonic()
            if now > deadline:
                raise Violation(f"not well {HEALING:.0f} s after the fault: {self._what_is()}")
            for node in self._cluster.nodes:
                if self._lab.state(node) == "off" and now - off.setdefault(node, now) > UNTOUCHED:
                    self._lab.boot(node)
                    del off[node]
            time.sleep(0.2)

    def _well(self) -> bool:
        cluster = self._cluster
        return cluster.equal() and cluster.whole() and bool(cluster.owner()) and cluster.answers()

    def _what_is(self) -> str:
        row = self._cluster.row()
        kernels = {node: self._cluster.replica(node) for node in self._cluster.nodes}
        return f"lha_stat says {row}; the kernels {kernels}"

    # ---- the promises -----------------------------------------------------------------------------------------------

    def _judge(self, outcome: Outcome, watch: ReplicaWatch) -> None:
        problems = [f"two nodes could write at the same time: {pair}" for pair in watch.both_write(OVERLAP)]
        if lost := app.lost(self._lab, self._told):
            problems.append(f"{len(lost)} acknowledged rows are lost: {', '.join(lost[:5])} …")
        problems += self._cluster.agree()
        if outcome.frozen > (most := longest_freeze(outcome.fault)):
            problems.append(f"I/O stood still for {outcome.frozen:.1f} s, {most:g} at most")
        if outcome.fault.kind in (REPLICATION, REQD) and outcome.after != outcome.owner:
            problems.append(f"it moved to {outcome.after}, and had no cause")
        if outcome.fault.kind == RETURN and outcome.after != outcome.owner:
            problems.append(f"{outcome.after} was promoted, which had not caught up")
        if problems:
            raise Violation("; ".join(problems))


def longest_freeze(fault: Fault) -> float:
    """Seconds from when DRBD has noticed that the peer is gone, until the primary goes on, or is none any more."""
    if fault.kind == PAUSE:  # it was taken over from, and knows nothing of it before it goes on
        return fault.length + ENDED
    if fault.refuse:
        return ENDED
    return ANSWERED if fault.kind in (REPLICATION, REQD) else ANSWERED + EXCLUDED


def keep_logs(lab: Lab, directory: Path) -> None:
    """The daemons' logs, the kernels' and DRBD's state, of every node that is on."""
    for node in lab.description.nodes:
        place = directory / node.name
        place.mkdir(parents=True, exist_ok=True)
        (place / "console.log").write_text(lab.console(node.name), encoding="utf-8")
        if lab.state(node.name) != "on":
            continue
        script = "cd /var/log/truecl; tail -n 3000 *; echo; cat /proc/drbd; dmesg | tail -n 300"
        (place / "log.txt").write_text(lab.exec(node.name, ["/bin/sh", "-c", script], 60.0).out, encoding="utf-8")
