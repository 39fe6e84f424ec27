"""Owners that stand still, or are cut off: who takes over when, and what is left of them. Seen from outside."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from clusterlib import NODES, Cluster, Watch, light, running, until, web, write_apps

from truecl.lab import provision
from truecl.lab.description import LabNode
from truecl.lab.sample import make_image

pytestmark = pytest.mark.lab

APPS = {"web": web(1), "light": light(2)}
PAUSE = 10.0
LEASE, STOPPED_WITHIN = 0.75, 0.2


@pytest.fixture(scope="module")
def unfenced() -> Iterator[Cluster]:
    """No node has a fence device: only time proves anything."""

    def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
        provision.configure(nodes, links, fenced=False)
        make_image(nodes[0].shared / "web1.img")
        write_apps(nodes, APPS)

    with running("unfenced", {}, provide=provide) as made:
        yield made


@pytest.fixture(autouse=True)
def whole_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("cluster", "unfenced"):
        if name in request.fixturenames:
            whole(request.getfixturevalue(name))


def whole(cluster: Cluster) -> None:
    cluster.lab.heal()
    for node in NODES:
        cluster.lab.power(node, "ok")
        if cluster.lab.state(node) == "paused":
            cluster.lab.resume(node)
        if cluster.lab.state(node) == "off":
            cluster.lab.boot(node)
    cluster.wait_up(seconds=30)
    for app in APPS:
        cluster.stop(app)


def first(watch: Watch, node: str, thing: str) -> float:
    """When the node had it first."""
    return min(at for at, held in watch.history if thing in held[node])


def last(watch: Watch, node: str, thing: str) -> float:
    """When the node did not have it any more."""
    had = [index for index, (_, held) in enumerate(watch.history) if thing in held[node]]
    return watch.history[had[-1] + 1][0]


def test_a_paused_owner_with_storage_is_followed_only_when_its_power_is_cut(cluster: Cluster) -> None:
    cluster.start("web", "-N", "n1")
    cluster.lab.power("n1", "slow 2")
    with cluster.watched("web", 1, "/srv/web1") as watch:
        cluster.lab.pause("n1")
        paused = time.monotonic()
        until(lambda: cluster.lab.state("n1") == "off", "the fence cuts its power")
        off = time.monotonic()
        cluster.wait_app("web", at="n2", status="UP", node="n2")
    assert off - paused >= 2.0
    assert first(watch, "n2", "mount") >= last(watch, "n1", "mount") >= paused + 2.0
    assert "switch: off n1: ok off" in Path(cluster.lab.paths.power_log).read_text()


def test_a_paused_owner_with_storage_that_no_device_reaches_keeps_it_and_stops_when_it_wakes(cluster: Cluster) -> None:
    cluster.start("web", "-N", "n1")
    (pid,) = cluster.programs("n1", "web")
    cluster.lab.power("n1", "refuse")
    with cluster.watched("web", 1, "/srv/web1") as watch:
        cluster.lab.pause("n1")
        paused = time.monotonic()
        cluster.wait_app("web", at="n2", note="refuses", node="n1")
        until(lambda: time.monotonic() >= paused + PAUSE, "ten seconds are over")
        assert cluster.holds("n1", "web", 1, "/srv/web1") == ("mount", "programs"), "its kernel took the address down"
        assert cluster.programs("n1", "web") == (pid,)
        cluster.lab.resume("n1")
        woken = time.monotonic()
        until(lambda: pid not in cluster.programs("n1", "web"), "its guard")
        stopped = time.monotonic()
        cluster.wait_app("web", at="n2", status="UP")
    assert stopped - woken < STOPPED_WITHIN + 0.3, "with the machine's other work: half a second"
    assert all(first(watch, node, "mount") > woken for node in ("n2", "n3") if any(h[node] for _, h in watch.history))


def test_a_paused_owner_of_an_address_alone(unfenced: Cluster) -> None:
    """Taken over on 'expired'. Its kernel took the address down, nobody had an answer from it, its guard ended it."""
    unfenced.start("light", "-N", "n1")
    (pid,) = unfenced.programs("n1", "light")
    with unfenced.lab.probe("10.77.1.102:80") as probe:
        probe.wait_answer(node="n1")
        unfenced.lab.pause("n1")
        paused = time.monotonic()
        probe.wait_answer(node="n2")
        until(lambda: "address" not in unfenced.holds("n1", "light", 2), "the kernel takes it down")
        down = time.monotonic()
        assert unfenced.lab.state("n1") == "paused" and unfenced.programs("n1", "light") == (pid,)
        until(lambda: time.monotonic() >= paused + PAUSE, "ten seconds are over")
        unfenced.lab.resume("n1")
        woken = time.monotonic()
        until(lambda: pid not in unfenced.programs("n1", "light"), "its guard")
        stopped = time.monotonic()
        unfenced.wait_up(at="n2")
    assert down - paused < LEASE + 2.0 + 0.5, "the lease rounded up, a second more, the kernel's timer"
    assert [node for _, node in probe.result.changes] == ["n1", "n2"], "no answer from it afterwards"
    assert stopped - woken < STOPPED_WITHIN + 0.3, "with the machine's other work: half a second"


def test_an_owner_that_is_cut_off_has_stopped_before_the_next_begins(unfenced: Cluster) -> None:
    unfenced.start("light", "-N", "n1")
    with unfenced.watched("light", 2) as watch:
        cut = time.monotonic()
        unfenced.lab.cut("n1")
        unfenced.wait_app("light", at="n2", status="UP", node="n2")
    assert last(watch, "n1", "address") < first(watch, "n2", "address")
    assert last(watch, "n1", "programs") < first(watch, "n2", "programs")
    assert first(watch, "n2", "address") - cut >= LEASE - 0.3, "the lease, from the last renewal"
