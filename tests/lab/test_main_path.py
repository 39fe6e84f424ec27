"""The main path with the operator's commands on real daemons: form, start, report, move, stop, dissolve; repeats."""

import json
import re

import pytest
from clusterlib import NODES, Cluster, light, program, running, shell, steps, until, web

pytestmark = pytest.mark.lab

SLOW_START = "until [ -e /shared/go ]; do sleep 0.02; done; sleep 600 &"
APPS = {
    "web": web(1),
    "light": light(2),
    "slow": program(start=shell(SLOW_START), stop=["/bin/true"]),
}


def test_from_form_to_dissolve() -> None:
    with running("path", APPS, form=False) as cluster:
        refused = cluster.run("n2", "lha_startapp", "-A", "web", code=3)
        assert "lha_form" in refused.err
        formed = steps(cluster.form("-V"))
        for node in NODES:
            assert f"{node} : hbd YES,lockd YES,netd YES,statd YES,syncd YES" in formed
            assert f"{node} OK STARTED" in formed
        assert "n1 acting as current cluster master." in formed
        again = cluster.form(node="n2")
        assert "formed already; n1 is its master" in again.out
        cluster.wait_up(at="n3")

        refused = cluster.start("web", code=1, validated=True)
        assert "is not validated: lha_buildapp -A web" in refused.err
        built = steps(cluster.build("web", "-V", node="n2"))
        assert "file system data: ext4" in built and "Valid nodes: n1,n2,n3" in built
        assert all(cluster.holds(node, "web", 1, "/srv/web1") == () for node in NODES)
        started = steps(cluster.start("web", "-V", validated=True))
        for step in ("storage activation on node 'n1'", "File Systems mounted: OK=1, FAILED=0.", "Started program web"):
            assert step in started
        assert "Application Started successfully [RC=0]." in started
        (pid,) = cluster.programs("n1", "web")
        assert cluster.holds("n1", "web", 1, "/srv/web1") == ("mount", "address", "programs")
        with cluster.lab.probe("10.77.1.101:80") as probe:
            assert probe.wait_answer() == "n1"
        again = cluster.start("web", node="n2")
        assert "running on 'n1' already" in again.out
        assert cluster.programs("n1", "web") == (pid,)

        for node in NODES:  # whomever one asks, it is the master's word
            found = cluster.stat(node)
            assert found["complete"] and (found["master"], found["state"], found["nodes_up"]) == ("n1", "UP", 3)
            row = next(each for each in found["apps"] if each["name"] == "web")
            assert (row["status"], row["node"]) == ("UP", "n1")
        told = cluster.run("n2", "lha_stat", "-A", "web").out
        assert re.search(r"/shared/web1.img .* /srv/web1 .* Active", told) and "10.77.1.101" in told, told
        assert re.search(r"web +RUNNING +n1 +file1 +Y +n1,n2,n3", told), told

        refused = cluster.run("n3", "lha_dissolve", code=1)
        assert "applications are running: web" in refused.err
        assert cluster.programs("n1", "web") == (pid,)

        assert "Application Stopped successfully" in cluster.stop("web", node="n3").out
        assert cluster.holds("n1", "web", 1, "/srv/web1") == ()
        assert "not running: nothing to stop" in cluster.stop("web").out
        cluster.start("web", "-N", "n2")
        assert cluster.holds("n2", "web", 1, "/srv/web1") == ("mount", "address", "programs")

        done = steps(cluster.run("n1", "lha_dissolve", "--force", "-V"))
        assert "Application Stopped successfully" in done and "Cluster has been halted." in done
        assert cluster.holds("n2", "web", 1, "/srv/web1") == ()
        for node in NODES:
            assert all(
                not cluster.pid(node, daemon) for daemon in ("hbd", "lockd", "statd", "netd", "syncd", "clusterd")
            )
            assert cluster.pid(node, "reqd")
        cluster.run("n1", "lha_stat", code=3)
        cluster.run("n1", "lha_dissolve")  # harmless
        cluster.form()
        assert cluster.app("web")["status"] == "DOWN"


def test_move(cluster: Cluster) -> None:
    cluster.start("web")
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe("10.77.1.101:80") as probe:
        probe.wait_answer(node="n1")
        moved = cluster.move("web", "-N", "n3", node="n2")
        assert "Moved successfully to 'n3'" in moved.out
        probe.wait_answer(node="n3")
    assert "already" in cluster.move("web", "-N", "n3").out
    cluster.move("web")
    assert cluster.app("web")["node"] == "n1"
    refused = cluster.move("web", "-N", "n9", code=1)
    assert "'n9' is not one of the nodes of 'web': n1, n2, n3" in refused.err
    cluster.stop("web")
    refused = cluster.move("web", "-N", "n3", code=1)
    assert "lha_startapp -A web -N n3" in refused.err


def test_operators_take_turns(cluster: Cluster) -> None:
    """The second is told who holds the lock, waits, and finds the application started, once."""
    one = cluster.lab.popen("n1", ["lha_startapp", "-A", "slow", "--unvalidated", "-V"], stdout=-1, stderr=-1)
    until(lambda: cluster.programs("n1", "slow"), "the start is under way")
    other = cluster.lab.popen("n2", ["lha_startapp", "-A", "slow", "--unvalidated", "-V"], stdout=-1, stderr=-1)
    assert other.stdout is not None
    told = next(line for line in other.stdout if "WARN" in line)
    assert "waiting: 'slow' is locked" in told
    cluster.lab.exec("n3", ["touch", "/shared/go"]).check()
    first, second = one.communicate(timeout=30)[0], told + "".join(other.stdout)
    assert (one.wait(), other.wait()) == (0, 0), (first, second)
    assert "Started successfully" in first and "is running on 'n1'" in second, (first, second)
    assert "lha_startapp" in second
    assert len(cluster.programs("n1", "slow")) == 1
    cluster.stop("slow")


def test_three_operators_start_it_once(cluster: Cluster) -> None:
    processes = [
        cluster.lab.popen(node, ["lha_startapp", "-A", "light", "--unvalidated", "--json"], stdout=-1, stderr=-1)
        for node in NODES
    ]
    said = [process.communicate(timeout=30)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    results = [json.loads(each)["result"] for each in said]
    assert "Application Started successfully [RC=0]." in results, results
    assert all("Started successfully" in each or "' already" in each for each in results), results
    assert sorted(len(cluster.programs(node, "light")) for node in NODES) == [0, 0, 1]

    def starts() -> str:
        return "".join(cluster.lab.exec(node, ["cat", "/tmp/starts"]).out for node in NODES)

    until(lambda: "started on" in starts(), "it says so itself")  # it counts as started once it lived a moment
    assert starts().count("started on") == 1
    cluster.stop("light")


def test_start_and_stop_at_once_end_in_one_of_both(cluster: Cluster) -> None:
    cluster.start("light")
    one = cluster.lab.popen("n1", ["lha_stopapp", "-A", "light"], stdout=-1, stderr=-1)
    other = cluster.lab.popen("n2", ["lha_startapp", "-A", "light", "--unvalidated"], stdout=-1, stderr=-1)
    said = [process.communicate(timeout=30) for process in (one, other)]
    assert {one.returncode, other.returncode} <= {0, 1}, said
    row = until(lambda: (found := cluster.app("light"))["status"] in ("UP", "DOWN") and found, "it settles")
    ran = any(cluster.programs(node, "light") for node in NODES)
    assert ran is (row["status"] == "UP")
    cluster.stop("light")
