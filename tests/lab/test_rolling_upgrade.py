"""A cluster upgraded node by node while its application runs, and nodes whose release fits no more: docs/upgrade.md."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterlib import Cluster, lines, until, web
from releases import archived, install, of_this, released, restart, unpack

from truecl import __version__
from truecl.model.ledger import LEVEL
from truecl.wire.frame import VERSIONS

pytestmark = pytest.mark.lab

COMMIT = "305c916"
"""The last one before the log had levels and sessions a range of formats."""
APPS = {"web": web(1)}
TARGET = "10.77.1.101:80"
ALL = ("mount", "address", "programs")
MOVE = 2.0
"""Seconds without an answer, at most, while the application moves to another node; 0.4 on an idle machine."""
ELSEWHERE = 0.3
"""The same while another node is upgraded."""
BEYOND = VERSIONS[1] + 1


def made_older(directory: Path) -> None:
    of_this(directory, "1.9.0", LEVEL - 1)


def beyond(directory: Path) -> None:
    of_this(directory, "9.0.0", LEVEL, (BEYOND, BEYOND))


def nodes(cluster: Cluster, at: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The log's level, and each node, as lha_node list shows them."""
    found = json.loads(cluster.run(at, "lha_node", "list", "--json").out)
    return found["level"], {node["name"]: node for node in found["nodes"]}


def upgrade(cluster: Cluster, node: str) -> None:
    install(cluster, node, "new")
    restart(cluster, node)
    cluster.wait_up(at=node, seconds=30)


def upgrade_all(cluster: Cluster, mixed: Callable[[str], None]) -> None:
    """The master and owner last. `mixed` looks at the cluster after each but the last."""
    with cluster.watched("web", 1, "/srv/web1"):
        with cluster.lab.probe(TARGET) as probe:
            probe.wait_answer(node="n1")
            for node in ("n3", "n2"):
                upgrade(cluster, node)
                mixed(node)
        assert probe.result.longest < ELSEWHERE, probe.result
        with cluster.lab.probe(TARGET) as probe:
            probe.wait_answer(node="n1")
            upgrade(cluster, "n1")
            moved_to = probe.wait_answer()
        print(f"without an answer while it moved: {probe.result.longest:.3f} s")
        assert probe.result.longest < MOVE, probe.result
        assert cluster.holds(moved_to, "web", 1, "/srv/web1") == ALL
    until(lambda: nodes(cluster, "n1")[0] == LEVEL, "the log is at the level of the new release")
    assert f"the log is at level {LEVEL}, all nodes know it" in cluster.run("n2", "lha_log").out
    now = nodes(cluster, "n3")[1]
    assert {(node["release"], node["losses"]) for node in now.values()} == {(__version__, 0)}, now
    assert not warnings(cluster, "n1")


def warnings(cluster: Cluster, node: str) -> list[str]:
    return [line for line in lines(cluster.run(node, "lha_stat").out) if line.startswith("WARN")]


def go_back(cluster: Cluster, release: str, says: str) -> None:
    """n3 gets the old release again, which cannot read the log any more; nothing else suffers."""
    install(cluster, "n3", release)
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer()
        restart(cluster, "n3")
        for node in ("n1", "n3"):
            until(lambda node=node: says in cluster.run(node, "lha_stat").out, f"{node} says: {says}", 30)
        upgrade(cluster, "n3")
    assert probe.result.longest < ELSEWHERE, probe.result


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    fill = {"old": made_older, "new": of_this, "beyond": beyond}
    with released("rolling", APPS, fill) as made:
        made.run("n1", "lha_startapp", "-A", "web", "-N", "n1", "--unvalidated")
        yield made


def test_node_by_node_and_no_way_back(cluster: Cluster) -> None:
    level, before = nodes(cluster, "n1")
    assert level == LEVEL - 1 and {node["release"] for node in before.values()} == {"1.9.0"}

    def mixed(upgraded: str) -> None:
        old, new = ("n1, n2", "n3") if upgraded == "n3" else ("n1", "n2, n3")
        told = (
            f"WARN nodes run different releases of truecl: 1.9.0 on {old}; {__version__} on {new}; finish the upgrade"
        )
        for node in cluster.nodes:
            assert any(line.startswith(told) for line in warnings(cluster, node)), cluster.run(node, "lha_stat").out
            assert told in " ".join(cluster.run(node, "lha_node", "list").out.split())
        assert nodes(cluster, upgraded)[0] == LEVEL - 1

    upgrade_all(cluster, mixed)
    go_back(cluster, "old", "n3: lockd is not up: this release is too old for the cluster's log")


def test_a_release_that_shares_no_format_is_refused_in_words(cluster: Cluster) -> None:
    install(cluster, "n3", "beyond")
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer()
        restart(cluster, "n3")
        told = f"n3 speaks formats {BEYOND} to {BEYOND}, this node {VERSIONS[0]} to {VERSIONS[1]}: upgrade this node"
        until(lambda: told in cluster.run("n1", "lha_stat").out, told, 30)
        upgrade(cluster, "n3")
    assert probe.result.longest < ELSEWHERE, probe.result


def test_from_a_release_as_it_was() -> None:
    """It wrote journals without an owner, knew no levels, and did not say what release it is."""
    archive = archived(COMMIT)
    if not archive:
        pytest.skip(f"this clone has no commit {COMMIT}: git fetch --unshallow")
    fill = {"old": lambda directory: unpack(archive, directory), "new": of_this}
    with released("rolling-commit", APPS, fill) as cluster:
        cluster.run("n1", "lha_startapp", "-A", "web", "-N", "n1")
        upgrade_all(cluster, lambda upgraded: None)
        go_back(cluster, "old", "n3: lockd is not up: ended with exit code 70")  # the old one has no better word
