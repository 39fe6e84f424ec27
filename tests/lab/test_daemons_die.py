"""Death of daemons, of the service itself and of programs: applications run on, and all of it comes back."""

import signal

import pytest
from clusterlib import Cluster, kill, program, shell, until, web

pytestmark = pytest.mark.lab

APPS = {"web": web(1), "often": program(run=shell("exec sleep 600"), restarts=1, nodes=("n1", "n2"))}
TARGET = "10.77.1.101:80"
DAEMONS = ("reqd", "hbd", "lockd", "syncd", "statd", "netd", "clusterd")


def running_web(cluster: Cluster) -> int:
    """Its process; n1 is owner and master."""
    if cluster.master() != "n1":
        cluster.run("n1", "lha_dissolve", "--force")
        cluster.form()
        cluster.wait_up()
    cluster.start("web", "-N", "n1")
    (pid,) = cluster.programs("n1", "web")
    return pid


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_is_killed_on_owner_and_master(cluster: Cluster, daemon: str) -> None:
    """The application is the same process, the client sees nothing, and the daemon is back at once."""
    pid = running_web(cluster)
    before = cluster.pid("n1", daemon)
    with cluster.watched("web", 1, "/srv/web1") as watch, cluster.lab.probe(TARGET) as probe:
        probe.wait_answer()
        kill(before, signal.SIGKILL)
        until(lambda: cluster.pid("n1", daemon) not in (0, before), f"{daemon} again")
        cluster.wait_up(at="n2")
        cluster.wait_app("web", at="n3", status="UP")
    assert cluster.programs("n1", "web") == (pid,)
    assert probe.result.longest < 0.5, probe.result
    assert all(held["n1"] == ("mount", "address", "programs") for _, held in watch.history), watch.history
    # It is no shadow of itself: what needs each daemon still works.
    cluster.stop("web", node="n2")
    assert cluster.holds("n1", "web", 1, "/srv/web1") == ()


def test_the_service_itself_is_killed_beside_the_owner(cluster: Cluster) -> None:
    """All daemons go with their parent, and come back with the next one; the rest of the cluster sees to itself."""
    pid = running_web(cluster)
    before = {daemon: cluster.pid("n2", daemon) for daemon in ("truecld", *DAEMONS)}
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer()
        kill(before["truecld"], signal.SIGKILL)
        for daemon, old in before.items():
            until(lambda daemon=daemon, old=old: cluster.pid("n2", daemon) not in (0, old), f"{daemon} again")
        cluster.wait_up(at="n2")
    assert cluster.programs("n1", "web") == (pid,)
    assert probe.result.longest < 0.5, probe.result
    cluster.stop("web", node="n2")


def test_the_service_itself_is_killed_on_the_owner(cluster: Cluster) -> None:
    """A node whose every daemon is gone longer than the detection time is a dead node: fenced, and taken over."""
    running_web(cluster)
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n1")
        kill(cluster.pid("n1", "truecld"), signal.SIGKILL)
        probe.wait_answer(node="n2")
    assert probe.result.longest < 3.0, probe.result
    assert cluster.lab.state("n1") == "off"
    cluster.lab.boot("n1")
    cluster.wait_up(at="n2")
    cluster.stop("web", node="n2")


def test_a_daemon_that_dies_again_and_again_is_left_in_peace_for_a_while(cluster: Cluster) -> None:
    running_web(cluster)
    seen = set()
    for _ in range(4):
        old = until(lambda: cluster.pid("n2", "statd"), "statd on n2")
        seen.add(old)
        kill(old, signal.SIGKILL)
        until(lambda old=old: cluster.pid("n2", "statd") != old, "it is gone")
    until(lambda: cluster.pid("n2", "statd"), "statd on n2, after back-off")
    assert len(seen) == 4
    cluster.wait_up(at="n2")
    cluster.stop("web")


def test_a_program_that_dies_is_started_again_here(cluster: Cluster) -> None:
    pid = running_web(cluster)
    with cluster.lab.probe(TARGET) as probe:
        probe.wait_answer()
        kill(pid, signal.SIGKILL)
        until(lambda: cluster.programs("n1", "web") not in ((), (pid,)), "another process")
        until(lambda: "started" in fetch(cluster), "it answers")
        probe.wait_answer()
    assert probe.result.longest < 1.0, probe.result
    row = cluster.app("web")
    assert (row["status"], row["node"], row["failovers"]) == ("UP", "n1", 0)
    cluster.stop("web")


def fetch(cluster: Cluster) -> str:
    """What the application answers its users; '' while it does not."""
    script = (
        "import contextlib, urllib.request as u\n"
        f"with contextlib.suppress(OSError): print(u.urlopen('http://{TARGET}/', timeout=2).read().decode())"
    )
    return cluster.run("client", "/usr/bin/python3", "-c", script, code=None).out


def test_a_program_that_dies_too_often_moves_on(cluster: Cluster) -> None:
    cluster.start("often", "-N", "n1")
    for _ in range(2):
        (pid,) = until(lambda: cluster.programs("n1", "often"), "its process")
        kill(pid, signal.SIGKILL)
        until(lambda pid=pid: pid not in cluster.programs("n1", "often"), "it is dead")
    assert cluster.wait_app("often", status="UP", node="n2")["failovers"] == 1
    cluster.stop("often")
