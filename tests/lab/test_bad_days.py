"""A node with foreign keys, a full disk, two configurations, the whole cluster restarted, a daemon run by hand."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from clusterlib import NODES, Cluster, light, running, steps, until, web, write_apps

from truecl.lab import provision
from truecl.lab.description import LabNode

pytestmark = pytest.mark.lab

APPS = {"web": web(1), "light": light(2)}
FILLED = "/var/lib/truecl/filled"


def test_a_node_with_the_wrong_key() -> None:
    """It is left out with a clear word, whatever it tries; the others go on."""

    def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
        provision.configure(nodes, links)
        with tempfile.TemporaryDirectory() as directory:
            foreign = [replace(node, directory=f"{directory}/{node.name}") for node in nodes]
            for node in foreign:
                node.etc.mkdir(parents=True)
            provision.configure(foreign, links)  # the same names, and an authority of its own
            shutil.rmtree(nodes[2].etc)
            shutil.copytree(foreign[2].etc, nodes[2].etc)
            for path in [nodes[2].etc, *nodes[2].etc.rglob("*")]:
                theirs = (foreign[2].etc / path.relative_to(nodes[2].etc)).stat()
                shutil.chown(path, theirs.st_uid, theirs.st_gid)
        write_apps(nodes, {"light": light(2)})

    with running("key", {}, form=False, provide=provide) as cluster:
        formed = cluster.form("-V")
        assert "n3 : no Request Daemon answers there; going on without it" in steps(formed)
        cluster.wait_up("n1", "n2")
        cluster.start("light")
        assert cluster.stat("n2")["nodes_up"] == 2
        alone = cluster.form(node="n3", code=1)
        assert "only 1 of 3 voters answer" in alone.err
        until(lambda: "certificate" in cluster.log("n1", "reqd") + cluster.log("n3", "reqd"), "the log says why")
        refusals = [line for line in cluster.log("n1", "reqd").splitlines() if "10.77.1.3" in line or "n3" in line]
        assert refusals and len(refusals) < 10, refusals
        assert cluster.app("light")["status"] == "UP" and cluster.pid("n3", "lockd") == 0
        cluster.run("n1", "lha_dissolve", "--force")


def fill(cluster: Cluster, node: str) -> None:
    """Not a block is left under the node's journals."""
    write = f"dd if=/dev/zero of={FILLED} bs=1M; dd if=/dev/zero of={FILLED}.too bs=512; true"
    cluster.run(node, "/bin/sh", "-c", write)


def make_room(cluster: Cluster, node: str) -> None:
    cluster.run(node, "rm", FILLED, f"{FILLED}.too")


def test_a_full_disk_under_the_masters_journal(cluster: Cluster) -> None:
    """The node steps aside and says so; nothing that was acknowledged is lost; with space again, all is well again."""
    assert cluster.master() == "n1"
    cluster.start("web", "-N", "n2")
    (pid,) = cluster.programs("n2", "web")
    with cluster.watched("web", 1, "/srv/web1"), cluster.lab.probe("10.77.1.101:80") as probe:
        probe.wait_answer(node="n2")
        fill(cluster, "n1")
        cluster.start("light", "-N", "n3", node="n3")  # must be written to the log
        until(lambda: cluster.stat("n3")["master"] in ("n2", "n3"), "another node leads")
        assert "the disk is full" in cluster.log("n1", "lockd")
        cluster.move("light", "-N", "n2", node="n3")
        make_room(cluster, "n1")
        cluster.wait_up(at="n3", seconds=30)
    assert cluster.programs("n2", "web") == (pid,)
    assert probe.result.longest < 0.5, probe.result
    assert cluster.app("light", "n1")["node"] == "n2"
    cluster.move("light", "-N", "n1", node="n1")
    cluster.stop("light")
    cluster.stop("web")


def test_a_full_disk_on_the_owner(cluster: Cluster) -> None:
    """What runs there can still be stopped for good: the reserve holds the record that it is closed."""
    cluster.start("light", "-N", "n1")
    with cluster.watched("light", 2):
        fill(cluster, "n1")
        cluster.stop("light", node="n3")
        assert cluster.holds("n1", "light", 2) == ()
        cluster.start("light", "-N", "n2", node="n3")
        make_room(cluster, "n1")
        cluster.wait_up(at="n3", seconds=30)
    cluster.move("light", "-N", "n1", node="n3")
    cluster.stop("light", node="n3")


def test_a_different_configuration_on_one_node(cluster: Cluster) -> None:
    """Forming refuses and names it; --sync brings this node's version everywhere."""
    cluster.run("n1", "lha_dissolve", "--force")
    path = cluster.lab.description.node("n2").etc / "apps" / "light.yaml"
    text = path.read_text()
    path.write_text(text + "autostart: yes\n")
    refused = cluster.form(code=1)
    assert "n2" in refused.err and "apps/light.yaml" in refused.err and "lha_form --sync" in refused.err, refused
    assert all(cluster.pid(node, "lockd") == 0 for node in NODES)
    synced = cluster.form("--sync")
    assert synced.code == 0
    assert path.read_text() == text
    cluster.wait_up()
    assert cluster.app("light")["status"] == "DOWN"


def test_the_whole_cluster_is_restarted() -> None:
    """State is kept; what says `autostart` runs again where it ran, and nothing else."""
    apps = {"always": web(1, autostart=True), "else": light(2)}
    with running("restart", apps) as cluster:
        cluster.wait_app("always", status="UP", node="n1")  # forming starts it
        cluster.move("always", "-N", "n2")
        cluster.start("else", "-N", "n3")
        before = cluster.stat()
        for node in NODES:
            cluster.lab.kill(node)
        for node in NODES:
            cluster.lab.boot(node)
        with cluster.watched("always", 1, "/srv/web1"):
            cluster.wait_up(seconds=30)
            row = cluster.wait_app("always", status="UP", node="n2", seconds=30)
        after = cluster.stat()
        assert after["term"] > before["term"]
        assert row["generation"] > next(each["generation"] for each in before["apps"] if each["name"] == "always")
        assert cluster.wait_app("else", status="DOWN")["wanted"] == "stopped"
        assert all(cluster.holds(node, "else", 2) == () for node in NODES)
        # Nobody was taken for lost because the lease of the time before was over.
        assert "switch: off" not in Path(cluster.lab.paths.power_log).read_text()
        assert "fence order" not in cluster.run("n1", "lha_log").out
        cluster.start("else")


def test_a_daemon_by_hand(cluster: Cluster) -> None:
    """In the foreground, with its log on standard error; not beside the service's own."""
    daemon = str(Path(__file__).parents[2] / "daemons" / "hbd")
    busy = cluster.run("n1", daemon, "--foreground", code=75)
    assert "hbd runs already" in busy.err
    assert "usage" in cluster.run("n1", daemon, code=2).err
    cluster.run("n1", "lha_dissolve", "--force")
    by_hand = cluster.lab.popen("n1", [daemon, "--foreground"], stdout=-1, stderr=-1)
    until(lambda: ":7425" in cluster.run("n1", "ss", "-uln").out, "it listens")
    held = cluster.run("n1", daemon, "--foreground", code=75).err
    cluster.run("n1", "kill", "-TERM", held.split("(process ")[1].split(")")[0])
    _, said = by_hand.communicate(timeout=10)
    assert by_hand.returncode == 0 and "told to end" in said, said
    cluster.form()
    cluster.wait_up()
