"""Death of daemons, of the service itself and of programs: applications run on, and all of it comes back."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from clusterlib import Cluster, kill, program, shell, until, web

from truecl.lab.cluster import SERVICE

pytestmark = pytest.mark.lab

APPS = {"web": web(1), "often": program(run=shell("exec sleep 600"), restarts=1, nodes=("n1", "n2"))}
TARGET = "10.77.1.101:80"
DAEMONS = ("reqd", "hbd", "lockd", "syncd", "statd", "netd", "clusterd")
TITLES = (*DAEMONS, "truecld")


def running_web(cluster: Cluster) -> int:
    """Its process; n1 is owner and master."""
    if cluster.master() != "n1":
        cluster.run("n1", "lha_dissolve", "--force")
        cluster.form()
        cluster.wait_up()
    cluster.start("web", "-N", "n1")
    (pid,) = cluster.programs("n1", "web")
    return pid


def pids(cluster: Cluster, node: str) -> dict[str, int]:
    return {title: cluster.pid(node, title) for title in TITLES}


@contextmanager
def unharmed(cluster: Cluster) -> Iterator[None]:
    """Whatever happens inside on n1: 'web' is the same process there, its client sees nothing, nobody is fenced."""
    pid = running_web(cluster)
    with cluster.watched("web", 1, "/srv/web1") as watch, cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n1")
        yield
        cluster.wait_up(at="n2")
        row = cluster.wait_app("web", at="n3", status="UP", node="n1")
    assert cluster.programs("n1", "web") == (pid,)
    assert probe.result.longest < 0.5, probe.result
    assert all(held["n1"] == ("mount", "address", "programs") for _, held in watch.history), watch.history
    assert row["failovers"] == 0
    assert {node: cluster.lab.state(node) for node in cluster.nodes} == dict.fromkeys(cluster.nodes, "on")
    # It is no shadow of itself: what needs each daemon still works.
    cluster.stop("web", node="n2")
    assert cluster.holds("n1", "web", 1, "/srv/web1") == ()


def another(cluster: Cluster, node: str, title: str, before: int) -> int:
    pid: int = until(lambda: cluster.pid(node, title) not in (0, before) and cluster.pid(node, title), f"{title} again")
    return pid


def taken_over(cluster: Cluster, node: str, before: int) -> int:
    """The next truecld's process, once reqd has found it."""
    known = cluster.log(node, "reqd").count("there is a warm parent again")
    pid = another(cluster, node, "truecld", before)
    until(lambda: cluster.log(node, "reqd").count("there is a warm parent again") > known, "reqd has found it")
    return pid


@pytest.mark.parametrize("title", TITLES)
def test_a_daemon_or_their_parent_is_killed_on_owner_and_master(cluster: Cluster, title: str) -> None:
    """The application is the same process, the client sees nothing, and the victim is back at once, alone."""
    with unharmed(cluster):
        before = pids(cluster, "n1")
        kill(before[title], signal.SIGKILL)
        another(cluster, "n1", title, before[title])
        cluster.wait_up(at="n2")
        assert {name: pid for name, pid in pids(cluster, "n1").items() if name != title} == {
            name: pid for name, pid in before.items() if name != title
        }


def test_daemons_that_hang_on_owner_and_master_are_killed_and_started_again(cluster: Cluster) -> None:
    """Without its clusterd the master would do nothing, and without its statd say nothing, for ever."""
    hanging = ("clusterd", "statd", "syncd")
    with unharmed(cluster):
        before = pids(cluster, "n1")
        for daemon in hanging:
            kill(before[daemon], signal.SIGSTOP)
        for daemon in hanging:
            another(cluster, "n1", daemon, before[daemon])


def test_a_parent_that_hangs_is_killed_and_the_next_one_starts_what_dies(cluster: Cluster) -> None:
    with unharmed(cluster):
        before = pids(cluster, "n1")
        kill(before["truecld"], signal.SIGSTOP)
        taken_over(cluster, "n1", before["truecld"])
        kill(before["statd"], signal.SIGKILL)
        another(cluster, "n1", "statd", before["statd"])


def test_each_daemon_is_killed_under_a_parent_that_took_it_over(cluster: Cluster) -> None:
    with unharmed(cluster):
        before = pids(cluster, "n1")
        kill(before["truecld"], signal.SIGKILL)
        taken_over(cluster, "n1", before["truecld"])
        for daemon in DAEMONS:
            kill(before[daemon], signal.SIGKILL)
            another(cluster, "n1", daemon, before[daemon])
            cluster.wait_up(at="n2")


@pytest.mark.parametrize("also", ["reqd", "hbd"])
def test_the_parent_is_killed_together_with_a_daemon_beside_the_owner(cluster: Cluster, also: str) -> None:
    """Nobody can start it until systemd has started the parent, which takes longer than detection: n2 counts as dead
    without hbd. Then it comes back; what runs on n1 does not notice."""
    pid = running_web(cluster)
    before = pids(cluster, "n2")
    with cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n1")
        for title in ("truecld", also):
            kill(before[title], signal.SIGKILL)
        another(cluster, "n2", also, before[also])
        cluster.wait_up()
    others = [name for name in DAEMONS if name != also]
    assert [cluster.pid("n2", name) for name in others] == [before[name] for name in others]
    assert cluster.programs("n1", "web") == (pid,)
    assert probe.result.longest < 0.5, probe.result
    cluster.stop("web")


def test_the_parent_is_killed_again_and_again(cluster: Cluster) -> None:
    with unharmed(cluster):
        before = pids(cluster, "n1")
        last = before["truecld"]
        for _ in range(3):
            kill(last, signal.SIGKILL)
            last = another(cluster, "n1", "truecld", last)
        until(lambda: cluster.log("n1", "truecld").count("clusterd runs already"), "taken over")
        assert pids(cluster, "n1") == before | {"truecld": last}


def test_the_parent_is_killed_while_a_cluster_forms(cluster: Cluster) -> None:
    """Here and elsewhere: what was asked for without a parent is done by the next one."""
    cluster.run("n1", "lha_dissolve", "--force")
    victims = [cluster.pid(node, "truecld") for node in ("n1", "n2")]
    with ThreadPoolExecutor() as pool:
        for victim in victims:
            kill(victim, signal.SIGKILL)
        formed = pool.submit(cluster.form)
        assert formed.result(timeout=30).code == 0
    cluster.wait_up()
    # Not surely n1: its own daemons come with its next parent, and the others' log may not wait for them; nor may it
    # have heard of the master yet.
    until(lambda: cluster.master() in cluster.nodes, "n1 knows the master")


def test_a_second_service_by_hand_is_refused(cluster: Cluster) -> None:
    with unharmed(cluster):
        before = pids(cluster, "n1")
        inside = cluster.run("n1", "cat", "/run/truecl/truecld.lock").out  # the version
        refused = cluster.run("n1", *SERVICE, code=75)
        assert "truecld: truecl runs already on this node (process " in refused.err
        assert len(refused.err.splitlines()) == 1
        assert cluster.run("n1", "cat", "/run/truecl/truecld.lock").out == inside
        assert pids(cluster, "n1") == before


def test_an_upgrade_replaces_the_daemons_one_after_the_other(cluster: Cluster) -> None:
    """The new version's parent finds daemons of the old one."""
    with unharmed(cluster):
        before = pids(cluster, "n1")
        old = "; ".join(f"echo 1.9 > /run/truecl/{daemon}.lock" for daemon in DAEMONS)
        cluster.run("n1", "sh", "-c", old)
        kill(before["truecld"], signal.SIGKILL)
        for title in TITLES:
            another(cluster, "n1", title, before[title])
        cluster.wait_up(at="n2")
    assert "1.9" not in cluster.run("n1", "sh", "-c", "cat /run/truecl/*.lock").out


def test_a_stop_of_the_service_under_a_parent_that_took_over_moves_the_application(cluster: Cluster) -> None:
    running_web(cluster)
    before = pids(cluster, "n1")
    kill(before["truecld"], signal.SIGKILL)
    parent = taken_over(cluster, "n1", before["truecld"])
    with cluster.watched("web", 1, "/srv/web1"):
        kill(parent, signal.SIGTERM)
        cluster.wait_app("web", at="n2", status="UP", node="n2")
    for title, old in before.items():
        another(cluster, "n1", title, old)
    assert "reqd has stopped the applications" in cluster.log("n1", "truecld")
    cluster.wait_up(at="n2")
    assert cluster.lab.state("n1") == "on"
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
