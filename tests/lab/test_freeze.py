"""on_quorum_loss: freeze, with real processes and without fence devices: they stand still without a majority, and go on
with one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from clusterlib import NODES, Cluster, images, light, running, until, web, write_apps

from truecl.lab import cgroups, provision
from truecl.lab.description import LabNode
from truecl.lab.sample import make_image

pytestmark = pytest.mark.lab

APPS = {"web": web(1), "light": light(2)}


def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    provision.configure(nodes, links)
    for image in images(APPS):
        make_image(nodes[0].shared / image)
    write_apps(nodes, APPS)
    for node in nodes:
        path = node.etc / "cluster.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8")) | {"on_quorum_loss": "freeze"}
        for each in NODES:
            del config["nodes"][each]["fence"]
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def freezing() -> Iterator[Cluster]:
    with running("freeze", APPS, provide=provide) as made:
        yield made


def stands_still(cluster: Cluster, node: str, app: str) -> bool:
    group = Path(cluster.lab.paths.node_group(cgroups.mount_point(), node))
    events = [path.read_text() for path in group.glob(f"truecl/{app}.*/cgroup.events")]
    return bool(events) and all("frozen 1" in each for each in events)


def part_all(cluster: Cluster) -> None:
    for node in NODES:
        cluster.lab.cut(node)


def test_while_nobody_has_a_majority_all_stand_still_and_then_go_on_where_they_are(freezing: Cluster) -> None:
    cluster = freezing
    cluster.start("web", "-N", "n1")
    cluster.start("light", "-N", "n2")
    pids = cluster.programs("n1", "web"), cluster.programs("n2", "light")
    part_all(cluster)
    until(lambda: stands_still(cluster, "n1", "web") and stands_still(cluster, "n2", "light"), "both stand still")
    until(lambda: cluster.holds("n2", "light", 2) == ("programs",), "its address is down")
    assert cluster.holds("n1", "web", 1, "/srv/web1") == ("mount", "programs"), "its file system stays mounted"
    cluster.lab.heal()
    with cluster.lab.probe("10.77.1.101:80") as one, cluster.lab.probe("10.77.1.102:80") as other:
        one.wait_answer(node="n1")
        other.wait_answer(node="n2")
    assert (cluster.programs("n1", "web"), cluster.programs("n2", "light")) == pids, "not started again"
    cluster.wait_app("web", status="UP", node="n1")
    log = cluster.run("n1", "lha_log").out
    assert "frozen until there is one" in log and "it goes on" in log, log
    cluster.stop("web")
    cluster.stop("light")


def test_a_frozen_owner_that_was_taken_over_is_stopped_and_never_goes_on(freezing: Cluster) -> None:
    """Address-only: the others take it over on 'expired'. Its program answers nobody again."""
    cluster = freezing
    cluster.start("light", "-N", "n3")
    cluster.lab.cut("n3")
    until(lambda: stands_still(cluster, "n3", "light"), "it stands still")
    (pid,) = cluster.programs("n3", "light")
    cluster.wait_app("light", at="n1", status="UP", node="n1", seconds=30)
    assert stands_still(cluster, "n3", "light") and cluster.programs("n3", "light") == (pid,)
    cluster.lab.heal()
    until(lambda: cluster.holds("n3", "light", 2) == (), "it is stopped there")
    cluster.wait_up()
    assert cluster.app("light")["node"] == "n1"
    cluster.stop("light")
