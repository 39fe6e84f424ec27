"""A database on DRBD on LVM, on two nodes with kernels of their own, while a client commits rows: no acknowledged row
is ever lost, no two nodes can write at once, and no copy is promoted that lacks something.

One lab for all; each test leaves both nodes on, the database running and both copies equal. `make faults-vm` draws many
more such rounds.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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
HELD = 1.5
"""Seconds for which the log is held up under a primary that waits for its word."""


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


@contextmanager
def watched(cluster: Cluster, told: set[str], prefix: str) -> Iterator[ReplicaWatch]:
    """While a client commits rows: none is lost, no two nodes can write, nothing moves, and in the end all is well."""
    owner = cluster.wait("the database runs", cluster.owner)
    cluster.wait("both copies are equal", cluster.equal)
    with ReplicaWatch(cluster.lab, cluster.minor()) as watch, cluster.lab.writer(app.TARGET, prefix) as writer:
        writer.wait_answer(30.0, node=owner)
        yield watch
        cluster.wait("both copies are equal", cluster.equal)
        writer.wait_answer(10.0, node=owner)
    told |= acknowledged(prefix, writer.result.answered)
    cluster.wait("the log calls both current", lambda: log_says(cluster) == {"current"})
    assert watch.both_write() == [] and {span.role for span in watch.spans[cluster.other(owner)]} == {"Secondary"}
    assert cluster.owner() == owner and cluster.agree() == []
    assert app.lost(cluster.lab, told) == []


def log_says(cluster: Cluster) -> set[str]:
    return {state for state, _ in cluster.copies().values()}


@contextmanager
def nobody_to_ask(cluster: Cluster, node: str) -> Iterator[None]:
    """The node's fence-peer handler finds no clusterd; the daemons, which have found each other, go on."""
    cluster.shell(node, "mv /run/truecl/clusterd.sock /run/truecl/clusterd.away")
    try:
        yield
    finally:
        cluster.shell(node, "mv /run/truecl/clusterd.away /run/truecl/clusterd.sock")


def freeze(cluster: Cluster, watch: ReplicaWatch, owner: str) -> None:
    cluster.lab.cut(owner, source=cluster.other(owner), port=cluster.port())
    watch.wait(owner, "the primary freezes", 10.0, io="suspended")


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


def test_a_primary_goes_on_no_sooner_than_the_log_calls_its_peers_copy_outdated(
    cluster: Cluster, told: set[str]
) -> None:
    """Nor is the peer's promoted by hand meanwhile, nor current again before it is equal."""
    lab, owner = cluster.lab, cluster.wait("the database runs", cluster.owner)
    other = cluster.other(owner)
    with watched(cluster, told, "log") as watch:
        with nobody_to_ask(cluster, owner):
            freeze(cluster, watch, owner)
            watch.wait(other, "its peer has noticed", 10.0, connection="WFConnection")
            assert lab.exec(other, ["drbdadm", "primary", app.APP], 30.0).code != 0
            cluster.shell(other, "pkill -STOP -x lockd")  # no entry is committed without it
        asked_at = time.time()
        time.sleep(HELD)
        held_until = time.time()
        cluster.shell(other, "pkill -CONT -x lockd")
        going_on = watch.wait(owner, "it goes on", 20.0, io="running")
        assert going_on.since > held_until > asked_at + HELD / 2 and going_on.connection == "WFConnection"
        assert cluster.copies()[other][0] == "outdated"
        lab.heal()
        while cluster.copies()[other][0] != "current":
            pass
        state = watch.state(other)
        assert state is not None and (state.connection, state.disk) == ("Connected", "UpToDate")


def test_a_link_that_is_back_before_the_handler_has_an_answer_leaves_the_log_as_it_was(
    cluster: Cluster, told: set[str]
) -> None:
    owner = cluster.wait("the database runs", cluster.owner)
    before = cluster.copies()
    with watched(cluster, told, "back") as watch:
        with nobody_to_ask(cluster, owner):
            freeze(cluster, watch, owner)
            cluster.lab.heal()
            watch.wait(owner, "it goes on with its peer", 10.0, io="running", connection="Connected")
        handlers = "pgrep -f truecl.cli.fence_pee[r] || true"
        cluster.wait("the handler has ended", lambda: not cluster.shell(owner, handlers), 10.0)
    assert cluster.copies() == before


def test_a_peer_that_leaves_in_good_order_freezes_nobody_and_is_outdated_without_a_handler(
    cluster: Cluster, told: set[str]
) -> None:
    """By hand, as the daemons would not do it under a running database."""
    owner = cluster.wait("the database runs", cluster.owner)
    other = cluster.other(owner)
    before = cluster.copies()
    with watched(cluster, told, "down") as watch:
        cluster.shell(other, f"pkill -STOP -x reqd; drbdadm down {app.APP}")  # it would bring it up again
        try:
            cluster.wait("the log calls it outdated", lambda: cluster.copies()[other][0] == "outdated", 10.0)
        finally:
            cluster.shell(other, "pkill -CONT -x reqd")
        cluster.wait("both copies are equal", cluster.equal)
        assert watch.frozen() == 0.0
    assert cluster.copies()[owner] == before[owner]


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
