"""Nodes come and go while an application runs: lha_node add and remove, as the operator types them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from clusterlib import Cluster, light, running, until

APPS = {"web1": light(1, ("n1", "n2"))}


def add(cluster: Cluster, name: str, *options: str) -> str:
    """A new machine, taken in by two hands: one types lha_node add, the other unpacks the bundle there."""
    node = cluster.lab.add_node(name)
    addresses = [f"--address={link}={address}" for link, address in node.addresses.items()]
    argv = ["lha_node", "add", name, *addresses, *options, "-V"]
    with cluster.lab.popen("n1", argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as talk:
        bundle = Path(cluster.lab.description.node("n1").directory) / "etc" / "bundles" / f"{name}.tar"
        until(bundle.exists, f"a bundle for {name}")
        shutil.copy(bundle, node.shared)
        cluster.run(name, "lha_init", "--join", f"/shared/{name}.tar")
        out, _ = talk.communicate(timeout=60.0)
        assert talk.returncode == 0, out
    cluster.nodes = (*cluster.nodes, name)
    return str(out)


def row(cluster: Cluster, name: str, at: str = "n1") -> dict[str, Any]:
    return next((each for each in cluster.stat(at)["nodes"] if each["name"] == name), {})


def test_a_fourth_node_makes_up_for_one_that_fails_and_is_taken_out() -> None:
    with running("membership", APPS) as cluster:
        cluster.start("web1", "-N", "n2")
        with cluster.lab.probe("10.77.1.101:80", seconds=120.0) as probing:
            assert "Node 'n4' Added successfully, it votes" in steps_of(add(cluster, "n4"))
            until(lambda: row(cluster, "n4").get("role") == "voter", "n4 votes")
            assert [each["name"] for each in cluster.stat("n4")["nodes"]] == ["n1", "n2", "n3", "n4"]
            assert "it is an observer" in steps_of(add(cluster, "n5", "--observer"))
            until(lambda: row(cluster, "n5").get("role") == "observer", "n5 follows the log")

            # What owns an application stays, and so does what applications name.
            refused = cluster.run("n1", "lha_node", "remove", "n2", code=1)
            assert "apps/web1.yaml names n2" in refused.err

            # Of n1, n2, n3 and n4 three are left: with n3 dead there is a majority, thanks to n4.
            cluster.lab.kill("n3")
            until(lambda: row(cluster, "n3")["status"] in ("DOWN", "FENCED"), "n3 is down")
            assert cluster.stat()["state"] == "UP"
            cluster.run("n1", "lha_node", "remove", "n3")
            assert row(cluster, "n3") == {}
            assert row(cluster, "n5")["role"] == "observer"

            # Its return changes nothing: nobody speaks to it, and it leads nobody.
            term = cluster.stat()["term"]
            cluster.lab.boot("n3")
            until(lambda: cluster.lab.exec("n3", ["lha_stat", "--json"]).code == 0, "n3 has a statd")
            until(lambda: cluster.stat("n3")["state"] == "NO QUORUM", "n3 is alone")
            assert cluster.stat()["term"] == term

            # A node that is up when it goes is told so, and stops.
            assert "stopping the daemons of n4" in steps_of(cluster.run("n1", "lha_node", "remove", "n4", "-V").out)
            assert "was removed from the cluster" in cluster.run("n4", "lha_stat", code=3).err
            assert "was removed from the cluster" in cluster.run("n4", "lha_form", code=1).err
            assert [each["name"] for each in cluster.stat()["nodes"]] == ["n1", "n2", "n5"]
            probing.stop()
            assert probing.result.answers > 100, probing.result


def steps_of(out: str) -> str:
    return " ".join(line.split("] ", 1)[-1].split(" ", 1)[-1] for line in out.splitlines())


def test_beyond_seven_nodes_observe_and_one_of_them_takes_a_voters_place() -> None:
    with running("many", {}, names=[f"n{number}" for number in range(1, 8)]) as cluster:
        for name in ("n8", "n9"):
            assert "it is an observer" in steps_of(add(cluster, name))
        roles = {each["name"]: each["role"] for each in until(lambda: cluster.stat()["nodes"], "nodes")}
        assert roles == {f"n{number}": "voter" if number < 8 else "observer" for number in range(1, 10)}
        out = steps_of(cluster.run("n1", "lha_node", "remove", "n7", "-V").out)
        assert "n8 votes in its place" in out, out
        until(lambda: row(cluster, "n8").get("role") == "voter", "n8 votes")
        assert row(cluster, "n9")["role"] == "observer" and row(cluster, "n7") == {}
