"""Power cuts and cut links with real daemons: what was acknowledged stays, and never two owners, seen from outside."""

import time
from collections.abc import Iterator

import pytest
import yaml
from clusterlib import NODES, Cluster, light, program, until, web

pytestmark = pytest.mark.lab

APPS = {"web": web(1), "light": light(2), "alone": program(run=["/bin/sleep", "infinity"])}
TARGET = "10.77.1.101:80"
ALL = ("mount", "address", "programs")


def fetch(cluster: Cluster, path: str = "/", target: str = TARGET) -> str:
    """What the application answers its users; '' without an answer."""
    script = f"import urllib.request as u; print(u.urlopen('http://{target}{path}', timeout=2).read().decode())"
    return cluster.run("client", "/usr/bin/python3", "-c", script, code=None).out


@pytest.fixture(autouse=True)
def whole_again(cluster: Cluster) -> Iterator[None]:
    """After each test, whatever became of it: all nodes on, all links whole, nothing runs."""
    yield
    cluster.lab.heal()
    for node in NODES:
        cluster.lab.power(node, "ok")
        if cluster.lab.state(node) == "off":
            cluster.lab.boot(node)
    cluster.wait_up(seconds=30)
    for app in APPS:
        cluster.stop(app)


def back(cluster: Cluster, node: str, at: str) -> None:
    """The node is booted, and a full member again."""
    cluster.lab.boot(node)
    cluster.wait_up(at=at)


def test_power_cut_of_owner_and_master(cluster: Cluster) -> None:
    cluster.start("web", "-N", "n1")
    assert cluster.master() == "n1"
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n1")
        assert "noted by n1" in fetch(cluster, "/add?acknowledged")
        cluster.lab.kill("n1")
        probe.wait_answer(node="n2")
    assert probe.result.longest < 5.0, probe.result
    answer = fetch(cluster)
    assert "acknowledged" in answer and "started on n2" in answer
    assert cluster.wait_app("web", at="n3", status="UP", node="n2")["failovers"] == 1
    assert cluster.master("n2") in ("n2", "n3")
    log = cluster.run("n3", "lha_log").out
    assert "node n1 is down" in log and "fenced" in log, log
    pid = cluster.programs("n2", "web")
    back(cluster, "n1", "n1")  # it comes back, joins by itself, and takes nothing
    assert cluster.programs("n2", "web") == pid
    assert cluster.holds("n1", "web", 1, "/srv/web1") == ()
    cluster.stop("web")


def test_power_cut_of_the_master_alone(cluster: Cluster) -> None:
    """Another node leads; what runs elsewhere is not touched."""
    master = cluster.master()
    owner, other = (node for node in NODES if node != master)
    cluster.start("web", "-N", owner, node=owner)
    (pid,) = cluster.programs(owner, "web")
    with cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node=owner)
        cluster.lab.kill(master)
        until(lambda: cluster.stat(other)["master"] in (owner, other), "another node leads")
    assert probe.result.longest < 0.5, probe.result
    assert cluster.programs(owner, "web") == (pid,)
    assert cluster.app("web", owner)["failovers"] == 0
    back(cluster, master, owner)


def test_one_link_of_the_owner_is_cut(cluster: Cluster) -> None:
    cluster.start("web", "-N", "n2")
    (pid,) = cluster.programs("n2", "web")
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n2")
        cluster.lab.cut("n2", link=2)
        until(lambda: "link link2 to n2 is down" in cluster.run("n1", "lha_log").out, "the others notice")
        cluster.wait_up(at="n2")  # all still report, over the other link
        cluster.lab.heal()
        until(lambda: "link link2 to n2 is up" in cluster.run("n1", "lha_log").out, "the others notice")
    assert cluster.programs("n2", "web") == (pid,)
    assert probe.result.longest < 0.5, probe.result
    cluster.stop("web")


def test_the_first_link_of_the_master_is_cut(cluster: Cluster) -> None:
    """Not even the log's leader is another one: sessions go over the other link."""
    cluster.start("web", "-N", "n2")
    master = cluster.master()
    (pid,) = cluster.programs("n2", "web")
    for node in NODES:
        for other in NODES:
            if node != other:
                cluster.lab.cut(node, link=1, source=other)
    until(lambda: "link link1 to" in cluster.run("n1", "lha_log").out, "they notice")
    cluster.wait_up(at="n2")
    cluster.lab.heal()
    cluster.wait_up(at="n3")
    assert cluster.programs("n2", "web") == (pid,)
    assert cluster.app("web")["failovers"] == 0 and cluster.master() == master
    cluster.stop("web")


def test_both_links_of_the_owner_are_cut(cluster: Cluster) -> None:
    """Its own guard stops everything when the lease ends, and the others start nothing before its power is off."""
    cluster.start("web", "-N", "n1")
    cluster.lab.power("n1", "slow 3")  # the guard has the time to be seen
    with cluster.watched("web", 1, "/srv/web1") as watch:
        cut = time.monotonic()
        cluster.lab.cut("n1")
        until(lambda: cluster.holds("n1", "web", 1, "/srv/web1") == (), "the guard stopped it", 10)
        guarded = time.monotonic() - cut
        assert cluster.lab.state("n1") == "on" and cluster.holds("n2", "web", 1, "/srv/web1") == ()
        note = cluster.wait_app("web", at="n2", note="being fenced")
        assert note["node"] == "n1"
        until(lambda: cluster.lab.state("n1") == "off", "it is fenced")
        until(lambda: cluster.holds("n2", "web", 1, "/srv/web1") == ALL, "it runs elsewhere")
    assert guarded < 2.5, guarded
    assert min(at for at, held in watch.history if held["n2"]) - cut >= 3.0, "before the device had confirmed"
    cluster.lab.power("n1", "ok")
    cluster.lab.heal()
    back(cluster, "n1", "n2")
    cluster.stop("web")


def test_a_device_that_refuses_keeps_everything_where_it_is(cluster: Cluster) -> None:
    cluster.start("web", "-N", "n1")
    cluster.lab.power("n1", "refuse")
    with cluster.watched("web", 1, "/srv/web1"):
        cluster.lab.cut("n1")
        cluster.wait_app("web", at="n2", note="refuses")
        until(lambda: cluster.holds("n1", "web", 1, "/srv/web1") == (), "the guard stopped it")
        assert all(cluster.holds(node, "web", 1, "/srv/web1") == () for node in ("n2", "n3"))
        cluster.wait_app("web", at="n1", status="WAITING", note="1 of 3 voters are up, 2 are needed")
        assert cluster.app("web", "n2")["status"] == "UNKNOWN"
        cluster.lab.heal()  # the node itself can say what it released
        cluster.wait_app("web", at="n2", status="UP")
    cluster.lab.power("n1", "ok")
    cluster.wait_up(at="n2")
    assert cluster.lab.state("n1") == "on"
    cluster.stop("web")


def test_without_storage_and_device_it_moves_when_the_lease_is_surely_over(cluster: Cluster) -> None:
    """A node without a fence device: only what has no storage may go on elsewhere, and not at once."""
    without_device(cluster, "n1")
    for app in APPS:
        cluster.start(app, "-N", "n1")
    with (
        cluster.watched("light", 2) as watch,
        cluster.watched("alone", 3) as slow,
        cluster.watched("web", 1, "/srv/web1"),
    ):
        cut = time.monotonic()
        cluster.lab.cut("n1")
        cluster.wait_app("light", at="n2", status="UP", node="n2", seconds=20)
        assert "lease has surely ended" in cluster.wait_app("alone", at="n2", note="lease")["note"]
        cluster.wait_app("alone", at="n2", status="UP", node="n2", seconds=20)
        stuck = cluster.app("web", "n2")
        assert stuck["node"] == "n1" and "no fence device" in stuck["note"]
        assert "proof: expired" in cluster.run("n3", "lha_log").out
        cluster.lab.heal()
        cluster.wait_app("web", at="n2", status="UP", seconds=20)  # it said by itself what it released
    # From the last renewal, at most 240 ms (and a bit) before the cut: lease 750 ms, drift 50 ms, and 100 ms until the
    # addresses are down, or 5 s until a program that nothing else guards is.
    for which, least in ((watch, 0.6), (slow, 5.5)):
        began = min(at for at, held in which.history if held["n2"]) - cut
        assert began >= least, f"it began after {began:.2f} s"
    for app in APPS:
        cluster.stop(app)


def without_device(cluster: Cluster, node: str) -> None:
    """The configuration of every node without that fence device, in force."""
    for each in cluster.lab.description.nodes:
        path = each.etc / "cluster.yaml"
        text = yaml.safe_load(path.read_text())
        text["nodes"][node].pop("fence", None)
        path.write_text(yaml.safe_dump(text, sort_keys=False))
    cluster.run("n1", "lha_dissolve", "--force")
    cluster.form()
    cluster.wait_up()
