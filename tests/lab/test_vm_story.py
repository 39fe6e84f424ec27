"""A database on DRBD on LVM, on two nodes with kernels of their own, while a client commits rows: no acknowledged row
is ever lost, no two nodes can write at once, and no copy is promoted that lacks something.

One lab for all; each test leaves both nodes on, the database running and both copies equal. `make faults-vm` draws many
more such rounds.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lablib import assert_no_trace, lab_name

from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError
from truecl.lab.faults.round import Violation
from truecl.lab.replicated import app
from truecl.lab.replicated.cluster import Cluster, acknowledged
from truecl.lab.replicated.draw import HEARTBEAT, POWER, REPLICATION, Fault
from truecl.lab.replicated.rounds import Outcome, Round, keep_logs
from truecl.lab.replicated.watch import ReplicaWatch

pytestmark = [pytest.mark.lab, pytest.mark.vm]

LOOKS = 5.0
"""Seconds for which a stale copy is watched that must not be promoted."""


@pytest.fixture(scope="module")
def cluster(kernels: None) -> Iterator[Cluster]:
    name = lab_name("story")
    with Lab.up(2, name=name, provide=app.provide, vm=True) as lab:
        made = Cluster(lab)
        made.built()
        yield made
    assert_no_trace(name)


@pytest.fixture(scope="module")
def told() -> set[str]:
    """Names of all rows that were acknowledged."""
    return set()


def play(cluster: Cluster, told: set[str], fault: Fault, number: int, logs: Path) -> Outcome:
    try:
        return Round(cluster, told).play(fault, number)
    except (Violation, LabError) as problem:
        keep_logs(cluster.lab, logs)
        raise AssertionError(f"{problem}; logs kept in {logs}") from problem


def fault(kind: str, length: float = 3.0) -> Fault:
    return Fault(kind, length, delay=1.0, refuse=False, silent=False)


def test_every_acknowledged_row_survives_the_power_cut_of_the_primary(
    cluster: Cluster, told: set[str], tmp_path: Path
) -> None:
    """The lost node comes back, takes over what it has missed, and gets the database back."""
    outcome = play(cluster, told, fault(POWER), 1, tmp_path)
    assert outcome.after == cluster.other(outcome.owner) and outcome.rows > 50
    cluster.run(outcome.owner, "lha_moveapp", "-A", app.APP, "-N", outcome.owner)
    cluster.wait("the database answers", cluster.answers)
    assert cluster.owner() == outcome.owner and app.lost(cluster.lab, told) == []


def test_a_cut_of_the_replication_alone_moves_nothing_and_the_copies_do_not_part(
    cluster: Cluster, told: set[str], tmp_path: Path
) -> None:
    """The primary stands still until the log calls the other copy outdated, then it goes on."""
    outcome = play(cluster, told, fault(REPLICATION), 2, tmp_path)
    assert 0.0 < outcome.frozen < outcome.outage and outcome.after == outcome.owner


def test_a_cut_of_the_heartbeats_alone_leaves_one_that_can_write(
    cluster: Cluster, told: set[str], tmp_path: Path
) -> None:
    """DRBD is connected all the time; one of the two is switched off."""
    outcome = play(cluster, told, fault(HEARTBEAT), 3, tmp_path)
    assert outcome.rows > 50


def test_a_node_that_was_away_is_never_promoted_also_after_a_cold_start_in_the_wrong_order(
    cluster: Cluster, told: set[str]
) -> None:
    lab, owner = cluster.lab, cluster.wait("the database runs", cluster.owner)
    away = cluster.other(owner)
    lab.kill(away)
    with lab.writer(app.TARGET, "alone") as writer:
        writer.wait_answer(30.0, node=owner)
        time.sleep(2.0)
    told |= acknowledged("alone", writer.result.answered)
    minor = cluster.minor()
    lab.kill(owner)
    with ReplicaWatch(lab, minor) as watch:
        lab.boot(away)
        time.sleep(LOOKS)
        alone = lab.exec(away, ["lha_startapp", "-A", app.APP, "-N", away, "-t", "3"], 30.0)
        lab.boot(owner)
        cluster.wait("both nodes are up", cluster.whole)
        stale = lab.exec(owner, ["lha_startapp", "-A", app.APP, "-N", away, "-t", "20"], 60.0)
        cluster.run(owner, "lha_startapp", "-A", app.APP)
        cluster.wait("the database answers", cluster.answers)
        cluster.wait("both copies are equal", cluster.equal)
    assert alone.code != 0 and stale.code == 1, (alone, stale)
    assert f"the copy of '{app.APP}' on '{away}' is not current" in stale.err
    assert {span.role for span in watch.spans[away]} == {"Secondary"}
    assert cluster.owner() == owner and cluster.agree() == []
    assert app.lost(lab, told) == []
