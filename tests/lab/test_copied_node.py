"""A machine that is a copy of a node, with its name, keys and journals, beside the node itself: nothing runs twice."""

import shutil
from collections.abc import Iterator

import pytest
from clusterlib import Cluster, lines, running, until, web

from truecl.core.leases import expired_after
from truecl.core.ledger import lease_timing
from truecl.model.config import Timing

pytestmark = pytest.mark.lab

TARGET = "10.77.1.101:80"
ALL = ("mount", "address", "programs")
COPY = "n4"
"""The machine that holds what was n2's."""
SECOND = "a second machine says that it is n2 (a copy?), and is not listened to: take it off the network"
SURELY_OVER = expired_after((lease_timing(Timing()),))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """n2 owns the application, and n4, switched off, is a copy of its machine as it was before that."""
    with running("copied-node", {"web": web(1)}) as made:
        lab = made.lab
        lab.add_node(COPY)
        lab.kill(COPY)
        lab.kill("n2")
        original, copy = (lab.description.node(node) for node in ("n2", COPY))
        shutil.rmtree(copy.etc)
        shutil.copytree(original.etc, copy.etc, symlinks=True)
        for one, other in zip([original.etc, *original.etc.rglob("*")], [copy.etc, *copy.etc.rglob("*")], strict=True):
            owner = one.stat()
            shutil.chown(other, owner.st_uid, owner.st_gid)
        shutil.copyfile(lab.paths.image("n2"), lab.paths.image(COPY))
        lab.boot("n2")
        made.wait_up(seconds=30)
        made.start("web", "-N", "n2")
        made.nodes = (*made.nodes, COPY)
        yield made


@pytest.fixture(autouse=True)
def gone(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.lab.kill(COPY)


def take_addresses(cluster: Cluster) -> None:
    for link in (1, 2):
        for verb, number in (("del", 4), ("add", 2)):
            cluster.run(COPY, "ip", "address", verb, f"10.77.{link}.{number}/24", "dev", f"eth{link - 1}")


def told(cluster: Cluster, node: str, *command: str) -> str:
    return " ".join(lines(cluster.run(node, *(command or ("lha_stat",)), code=None).out))


def test_with_addresses_of_its_own_it_reaches_nobody_and_says_where_to_look(cluster: Cluster) -> None:
    before = cluster.programs("n2", "web")
    with cluster.watched("web", 1, "/srv/web1"):
        cluster.lab.boot(COPY)
        until(lambda: "n2 hears no other node" in told(cluster, COPY), "the copy says that it hears nobody")
        assert "lha_check tells whether this machine has its addresses" in told(cluster, COPY)
        checked = told(cluster, COPY, "lha_check")
        assert "this is node 'n2', but no interface here has its address 10.77.1.2 (link1)" in checked, checked
        assert "'lha_node add' gives it a name of its own" in checked, checked
    assert cluster.programs("n2", "web") == before
    assert SECOND not in told(cluster, "n1")


def test_with_the_addresses_of_the_first_it_is_named_and_not_listened_to(cluster: Cluster) -> None:
    """The network goes on sending to the first one."""
    before = cluster.programs("n2", "web")
    for node in ("n1", "n3"):
        for link in (1, 2):
            known = (f"10.77.{link}.2", "lladdr", f"02:77:{link:02x}:00:00:02", "dev", f"eth{link - 1}")
            cluster.run(node, "ip", "neighbour", "replace", *known, "nud", "permanent")
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n2")
        cluster.lab.boot(COPY)
        take_addresses(cluster)
        until(lambda: SECOND in told(cluster, "n1"), "lha_stat names it")
        assert "a second machine says that it is node n2" in told(cluster, "n1", "lha_log")
        cluster.lab.kill(COPY)
        until(lambda: SECOND not in told(cluster, "n1"), "it is forgotten once it is gone")
    assert cluster.programs("n2", "web") == before
    assert probe.result.longest < 0.3, probe.result
    for node in ("n1", "n3"):
        for link in (1, 2):
            cluster.run(node, "ip", "neighbour", "del", f"10.77.{link}.2", "dev", f"eth{link - 1}")


def test_when_it_draws_the_first_ones_addresses_to_itself_it_gets_nothing_before_the_first_has_stopped(
    cluster: Cluster,
) -> None:
    """To the others it looks as if n2 had rebooted, quicker than its fence device answers."""
    cluster.lab.power("n2", "slow 30")
    with cluster.watched("web", 1, "/srv/web1") as watch:
        cluster.lab.boot(COPY)
        take_addresses(cluster)
        until(lambda: cluster.holds("n2", "web", 1, "/srv/web1") == (), "n2 stops when its lease ends", 20)

        def runs_again() -> bool:
            return any(cluster.holds(node, "web", 1, "/srv/web1") == ALL for node in cluster.nodes)

        until(runs_again, "it runs again", SURELY_OVER + 20)
    assert ALL in [held["n2"] for _, held in watch.history]
