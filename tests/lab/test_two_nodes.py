"""Two nodes with real daemons: one goes on alone, only ever one, and the other is taken back by itself."""

import json
import signal
from collections.abc import Iterator, Sequence

import pytest
from clusterlib import Cluster, kill, lines, running, until, web

from truecl.lab import provision
from truecl.lab.description import LabNode

pytestmark = pytest.mark.lab

PAIR = ("n1", "n2")
TARGET = "10.77.1.101:80"
ALL = ("mount", "address", "programs")
ALONE = "{} goes on without {}, which is needed again once it is up and has caught up"
DEVICE = "timeout: 3s"
"""So n1's fence_delay is 4 s."""
LEASE = "timing: {lease: 3s}\n"
"""After law 9 of docs/timing.md: by default the one that is left stops what it runs when the device is not quick."""


def quick_devices(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    provision.configure(nodes, links)
    for node in nodes:
        file = node.etc / "cluster.yaml"
        text = file.read_text(encoding="utf-8").replace("timeout: 20s", DEVICE)
        file.write_text(text + LEASE, encoding="utf-8")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("two-nodes", {"web": web(1, nodes=PAIR, autostart=True)}, count=2, configure=quick_devices) as made:
        yield made


@pytest.fixture(autouse=True)
def whole_again(cluster: Cluster) -> Iterator[None]:
    """Each test begins and ends with both nodes up, needed and current, and the application on n1."""
    ready(cluster)
    yield
    cluster.lab.heal()
    for node in PAIR:
        cluster.lab.power(node, "ok")
        if cluster.lab.state(node) == "off":
            cluster.lab.boot(node)
    cluster.wait_up(seconds=30)


def ready(cluster: Cluster) -> None:
    cluster.wait_up(seconds=30)
    until(lambda: trouble(cluster, "n1") == trouble(cluster, "n2") == "", "both are needed", 20)
    app = cluster.app("web")
    if app["node"] is None:
        cluster.start("web", "-N", "n1")
    elif app["node"] != "n1":
        cluster.move("web", "-N", "n1")
    until(lambda: cluster.holds("n1", "web", 1, "/srv/web1") == ALL, "it runs on n1")


def let_n1_lead(cluster: Cluster) -> None:
    """A leader whose service is stopped hands over."""
    if cluster.master() == "n2":
        kill(cluster.pid("n2", "truecld"), signal.SIGTERM)
        until(lambda: cluster.master() == "n1", "n1 leads", 15)
        ready(cluster)


def trouble(cluster: Cluster, node: str) -> str:
    """The one line about the other node; '?' as long as nobody answers there."""
    result = cluster.lab.exec(node, ["lha_stat", "--json"])
    return str(json.loads(result.out)["trouble"]) if result.code == 0 else "?"


def wait_trouble(cluster: Cluster, node: str, text: str, seconds: float = 20.0) -> None:
    until(lambda: text in trouble(cluster, node), f"lha_stat at {node}: {text}", seconds)


def both_off(cluster: Cluster) -> None:
    for node in PAIR:
        cluster.lab.kill(node)


def test_power_cut_of_owner_and_master(cluster: Cluster) -> None:
    """n1 is the one that is waited for; its device says that it has no power, so nobody waits."""
    let_n1_lead(cluster)
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n1")
        cluster.lab.kill("n1")
        probe.wait_answer(node="n2")
    assert probe.result.longest < 3.0, probe.result  # less than n1's fence_delay; 0.4 s on an idle machine
    assert trouble(cluster, "n2") == ALONE.format("n2", "n1")
    assert lines(cluster.run("n2", "lha_stat").out)[-1] == ALONE.format("n2", "n1")
    log = cluster.run("n2", "lha_log").out
    assert "node n1 is off, confirmed by its fence device" in log and "n2 goes on without n1" in log, log
    cluster.lab.boot("n1")
    until(lambda: trouble(cluster, "n2") == "", "n1 is needed again", 30)
    assert "n1 is needed again" in cluster.run("n2", "lha_log").out
    assert cluster.app("web", "n2")["node"] == "n2"


def test_a_node_that_hangs_with_its_power_on_is_waited_for(cluster: Cluster) -> None:
    cluster.lab.pause("n1", silent=True)
    with cluster.watched("web", 1, "/srv/web1"):
        wait_trouble(cluster, "n2", "n1 is silent and will be fenced, 4 s after it fell silent (fence_delay)")
        until(lambda: cluster.lab.state("n1") == "off", "it is fenced", 15)
        until(lambda: cluster.holds("n2", "web", 1, "/srv/web1") == ALL, "n2 goes on")


def test_cut_from_each_other_exactly_one_goes_on(cluster: Cluster) -> None:
    before = cluster.programs("n1", "web")
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n1")
        cluster.lab.cut("n1", source="n2")
        cluster.lab.cut("n2", source="n1")
        until(lambda: cluster.lab.state("n2") == "off", "n1 has n2 fenced", 15)
        wait_trouble(cluster, "n1", ALONE.format("n1", "n2"))
        probe.wait_answer(node="n1")
    assert cluster.programs("n1", "web") == before
    assert cluster.lab.state("n1") == "on"
    cluster.lab.heal()
    cluster.lab.boot("n2")
    until(lambda: trouble(cluster, "n1") == "", "n2 is needed again", 30)
    assert cluster.programs("n1", "web") == before


@pytest.mark.parametrize("order", [PAIR, PAIR[::-1]], ids=["the one that went on first", "the excluded one first"])
def test_after_both_were_off_only_the_one_that_went_on_starts_alone(cluster: Cluster, order: tuple[str, ...]) -> None:
    cluster.lab.kill("n2")
    wait_trouble(cluster, "n1", ALONE.format("n1", "n2"))
    cluster.lab.kill("n1")
    with cluster.watched("web", 1, "/srv/web1"):
        cluster.lab.boot(order[0])
        if order[0] == "n1":
            until(lambda: cluster.holds("n1", "web", 1, "/srv/web1") == ALL, "n1 goes on alone", 30)
        else:
            wait_trouble(cluster, "n2", "n2 cannot know whether n1 went on alone since they last met: start n1")
            assert cluster.stat("n2")["state"] == "NO QUORUM"
            assert cluster.holds("n2", "web", 1, "/srv/web1") == ()
        cluster.lab.boot(order[1])
        cluster.wait_up(at=order[1], seconds=30)
        until(lambda: trouble(cluster, "n1") == "", "both are needed", 30)
        cluster.wait_app("web", status="UP")


def test_the_operators_word_on_a_node_that_cannot_know(cluster: Cluster) -> None:
    both_off(cluster)
    cluster.lab.boot("n2")
    wait_trouble(cluster, "n2", "or, if n1 is off for certain and did not: lha_fence n1 --confirm", 30)

    def confirm(typed: str) -> str:
        result = cluster.lab.exec("n2", ["lha_fence", "n1", "--confirm"], stdin=typed)
        return result.out + result.err

    until(lambda: "nothing was done: that was not 'all true'" in confirm("n1\nyes\n"), "it asks for more")
    said = confirm("n1\nall true\n")
    assert "n1 did not run alone since n2 last did" in said and "Confirmed off by" in said
    assert trouble(cluster, "n2") == ALONE.format("n2", "n1")
    assert "vouches that n1 is off, did not run alone" in " ".join(cluster.run("n2", "lha_log").out.split())
    cluster.start("web", node="n2", code=None)
    until(lambda: cluster.holds("n2", "web", 1, "/srv/web1") == ALL, "n2 goes on alone", 30)
    cluster.lab.boot("n1")
    until(lambda: trouble(cluster, "n2") == "", "n1 is needed again", 30)


def test_the_operators_word_in_place_of_a_device_that_does_not_answer(cluster: Cluster) -> None:
    cluster.lab.power("n1", "slow 60")
    cluster.lab.kill("n1")
    wait_trouble(cluster, "n2", "n1 is silent and is being fenced; the device: ", 30)
    line = trouble(cluster, "n2")
    assert "is not known to be off" in line and line.endswith("if it is off for certain: lha_fence n1 --confirm"), line
    result = cluster.lab.exec("n2", ["lha_fence", "n1", "--confirm"], stdin="n1\n")
    assert result.code == 0, result
    until(lambda: cluster.holds("n2", "web", 1, "/srv/web1") == ALL, "n2 goes on", 15)


def test_a_word_against_what_is_heard_is_refused(cluster: Cluster) -> None:
    assert "is heard" in cluster.run("n1", "lha_fence", "n2", "--confirm", "--yes", code=1).err


def test_a_node_that_leaves_in_good_order_is_not_fenced_and_not_missed(cluster: Cluster) -> None:
    before = cluster.programs("n1", "web")
    with cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n1")
        kill(cluster.pid("n2", "truecld"), signal.SIGTERM)
        until(lambda: "n1 goes on without n2" in cluster.run("n1", "lha_log").out, "n2 is let go")
        until(lambda: cluster.pid("n2", "truecld") == 0, "its service has ended")
        cluster.lab.kill("n2")  # before it is started again
        probe.wait_answer(node="n1")
    assert trouble(cluster, "n1") == ALONE.format("n1", "n2")
    assert cluster.programs("n1", "web") == before
    assert probe.result.longest < 0.5, probe.result
    assert "switched off" not in cluster.run("n1", "lha_log", "--last", "20", code=None).out


def test_the_owner_that_leaves_hands_everything_over(cluster: Cluster) -> None:
    with cluster.watched("web", 1, "/srv/web1"):
        kill(cluster.pid("n1", "truecld"), signal.SIGTERM)
        until(lambda: cluster.holds("n2", "web", 1, "/srv/web1") == ALL, "n2 has it", 15)
        until(lambda: "n2 goes on without n1" in cluster.run("n2", "lha_log").out, "n1 is let go")
    until(lambda: trouble(cluster, "n2") == "", "its service is started again, and it is needed", 30)
    assert cluster.lab.state("n1") == "on"
