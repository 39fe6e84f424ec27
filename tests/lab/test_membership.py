"""Nodes come and go while an application runs: lha_node add and remove, as the operator types them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from clusterlib import Cluster, light, running, until

APPS = {"web1": light(1, ("n1", "n2", "n3"))}


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


def test_a_fourth_node_makes_up_for_one_that_fails_and_goes_again() -> None:
    with running("membership", APPS) as cluster:
        cluster.start("web1", "-N", "n2")
        with cluster.lab.probe("10.77.1.101:80", seconds=60.0) as probing:
            out = add(cluster, "n4")
            print(out)
            assert "Node 'n4' Added successfully" in steps_of(out)
            until(lambda: row(cluster, "n4").get("status") == "UP", "n4 is up")
            assert [each["name"] for each in cluster.stat("n4")["nodes"]] == ["n1", "n2", "n3", "n4"]
            cluster.lab.kill("n3")
            until(lambda: row(cluster, "n3")["status"] in ("DOWN", "FENCED"), "n3 is down")
            # Three of four: with n4, or else there would be no majority any more when n3 is gone.
            refused = cluster.run("n1", "lha_node", "remove", "n2", code=1)
            assert "lha_moveapp -A web1" in refused.err
            probing.stop()
            assert probing.result.longest < 0.5, probing.result


def steps_of(out: str) -> str:
    return " ".join(line.split("] ", 1)[-1].split(" ", 1)[-1] for line in out.splitlines())
