"""lha_buildapp on real kernels, LVM and DRBD 8.4: from two empty disks to the end of a split brain.

The tests follow one another: each begins with what the one before left.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusterlib import Cluster, until
from lablib import assert_no_trace, lab_name

from truecl.lab import provision
from truecl.lab.cluster import Lab
from truecl.lab.vm.kernels import SPARE_DISK

pytestmark = [pytest.mark.lab, pytest.mark.vm]

SCRIPT = "/usr/local/sbin/it"
DB: dict[str, Any] = {
    "nodes": ["n1", "n2"],
    "volumes": {
        "data": {
            "type": "drbd",
            "on": {"type": "lvm", "group": "testvg", "volume": "test1", "size": "64M", "physical": ["/dev/ubdb"]},
        }
    },
    "filesystems": [{"type": "ext4", "mount": "/srv/db"}],
    "replication": {"link": "link2"},
    "programs": {"it": {"run": [SCRIPT]}},
}
TIMING = {"heartbeat": "300ms", "detection": "2s", "lease": "4s", "renewal": "1s", "election": "4s"}
"""Two kernels without processors of their own are not to fence each other while this goes on."""


@pytest.fixture(scope="module")
def cluster(kernels: None) -> Iterator[Cluster]:
    name = lab_name("vmbuild")
    with Lab.up(2, name=name, provide=provision.configure, vm=True) as lab:
        for node in lab.description.nodes:
            path = node.etc / "cluster.yaml"
            path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"timing": TIMING}, sort_keys=False))
            (node.etc / "apps").mkdir(exist_ok=True)
            (node.etc / "apps" / "db.yaml").write_text(yaml.safe_dump(DB, sort_keys=False))
        made = Cluster(lab)
        for node in ("n1", "n2"):
            script(made, node, "exec sleep 1000000")
        made.form()
        made.wait_up(seconds=60)
        yield made
    assert_no_trace(name)


def script(cluster: Cluster, node: str, text: str) -> None:
    shell(cluster, node, f"mkdir -p /usr/local/sbin; printf '#!/bin/sh\\n{text}\\n' > {SCRIPT}; chmod +x {SCRIPT}")


def shell(cluster: Cluster, node: str, text: str, code: int | None = 0) -> str:
    return cluster.run(node, "/bin/sh", "-c", text, code=code).out


def build(cluster: Cluster, *options: str, node: str = "n1", typed: str = "", code: int = 0) -> str:
    words = " ".join(options)
    result = cluster.run(node, "/bin/sh", "-c", f"echo {typed} | lha_buildapp -A db {words}", code=code, timeout=120.0)
    return result.out + result.err


def copies(cluster: Cluster, node: str = "n1") -> dict[str, str]:
    return {copy["node"]: copy["state"] for copy in cluster.app("db", node)["copies"]}


def equal(cluster: Cluster, node: str = "n1") -> None:
    until(lambda: set(copies(cluster, node).values()) == {"current"}, "both copies current", 120)


def test_nothing_is_made_without_a_word(cluster: Cluster) -> None:
    refused = cluster.start("db", validated=True, code=1).err
    assert "is not validated: lha_buildapp -A db" in refused
    said = build(cluster, code=1)
    assert "n2 : missing: volume group testvg on /dev/ubdb" in said and "--create makes it" in said
    assert "testvg" not in shell(cluster, "n1", "vgs")


def test_all_is_made_from_two_empty_disks(cluster: Cluster) -> None:
    build(cluster, "--create")
    row = cluster.app("db")
    assert (row["status"], row["validated"], row["valid_nodes"]) == ("DOWN", True, ["n1", "n2"])
    assert copies(cluster) == {"n1": "current", "n2": "current"}
    for node in ("n1", "n2"):
        assert shell(cluster, node, "dmsetup ls") == "No devices found\n", "nothing stays active"


def test_copies_that_begin_as_equals_are_not_synchronised(cluster: Cluster) -> None:
    cluster.start("db", "-N", "n1", validated=True)
    assert " oos:0" in shell(cluster, "n1", "cat /proc/drbd")
    shell(cluster, "n1", "echo kept > /srv/db/file; sync")


def test_a_check_of_what_runs_disturbs_nothing(cluster: Cluster) -> None:
    build(cluster)
    assert cluster.app("db")["status"] == "UP" and cluster.app("db")["validated"]


def configure(cluster: Cluster, **replication: str) -> None:
    """Of the copies, on a cluster that runs."""
    node = cluster.lab.description.nodes[0]
    changed = DB | {"replication": DB["replication"] | replication}
    (node.etc / "apps" / "db.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    cluster.form("--sync")


def test_what_the_other_disk_changed_by_itself_is_found_on_time_and_mended(cluster: Cluster) -> None:
    spoil = "dd if=/dev/urandom of=/dev/testvg/test1 bs=4096 seek=10000 count=3 conv=notrunc oflag=direct"
    shell(cluster, "n2", spoil)
    configure(cluster, verify="10s")
    assert cluster.app("db")["validated"], "when copies are compared is nothing that nodes must be ready for"
    found = until(lambda: cluster.app("db")["verified"], "the copies were compared", 60)
    assert (found["node"], found["differing"]) == ("n1", {"data": 12288})
    until(lambda: "WARN db: the copies differ: 12 KiB of data" in cluster.run("n1", "lha_stat").out, "it is told", 20)
    configure(cluster)
    assert "nothing was done" in build(cluster, "--resync", typed="no", code=1)
    said = build(cluster, "--resync", typed="db")
    assert "volume data: 12288 bytes differed" in said and "what n1 has, where 'db' runs, is kept" in said
    until(lambda: "copies differ" not in cluster.run("n1", "lha_stat").out, "they are equal again", 60)
    equal(cluster)
    assert " oos:0\n" in shell(cluster, "n1", "cat /proc/drbd")
    sums = {shell(cluster, node, "dd if=/dev/testvg/test1 bs=4096 skip=10000 count=3 iflag=direct 2>&- | md5sum")
            for node in ("n1", "n2")}  # fmt: skip
    assert len(sums) == 1 and cluster.app("db")["status"] == "UP"


def test_copies_are_compared_at_the_operators_word(cluster: Cluster) -> None:
    before = cluster.app("db")["verified"]["at"]
    build(cluster, "--verify")
    until(lambda: cluster.app("db")["verified"]["at"] > before, "they were compared", 60)
    assert cluster.app("db")["verified"]["differing"] == {}
    assert "db: copies last compared 0:00:" in cluster.run("n1", "lha_stat", "-A", "db").out
    assert "no comparison found a difference" in build(cluster, "--resync", typed="db", code=1)


def test_a_volume_grows_while_it_is_in_use(cluster: Cluster) -> None:
    build(cluster, "--grow", "data=96M")
    assert int(shell(cluster, "n1", "df --output=size /srv/db | tail -1")) > 80000
    assert copies(cluster) == {"n1": "current", "n2": "current"}, "nothing had to be sent"
    assert "larger than that already" in build(cluster, "--grow", "data=64M", code=1)


def test_a_script_that_changed_on_one_node_is_named(cluster: Cluster) -> None:
    script(cluster, "n2", "exec sleep 1000001")
    refused = cluster.move("db", "-N", "n2", code=1, validated=True).err
    assert f"changed since it was validated: script {SCRIPT} on n2; lha_buildapp -A db" in refused
    assert f"script {SCRIPT} differs: n1 " in build(cluster, code=1)
    script(cluster, "n2", "exec sleep 1000000")
    cluster.move("db", "-N", "n2")
    assert shell(cluster, "n2", "cat /srv/db/file") == "kept\n"
    cluster.move("db", "-N", "n1")


def new_disk(cluster: Cluster, *command: str) -> None:
    """n2 gets another disk while its power is off; `command` is given its image."""
    cluster.lab.kill("n2")
    node = next(each for each in cluster.lab.description.nodes if each.name == "n2")
    image = Path(node.directory, "spare.img")
    with image.open("wb") as file:
        file.truncate(SPARE_DISK)
    if command:
        subprocess.run([*command, str(image)], check=True, capture_output=True)
    until(lambda: "n2    FENCED" in cluster.run("n1", "lha_stat").out, "n1 goes on alone", 60)
    cluster.wait_app("db", status="UP", seconds=60)
    cluster.lab.boot("n2")
    cluster.wait_up("n2", seconds=150)


def test_a_new_disk_gets_a_copy_while_the_application_runs(cluster: Cluster) -> None:
    new_disk(cluster)
    assert "n2 has lost its copy: lha_buildapp -A db --replace n2" in build(cluster, code=1)
    build(cluster, "--replace", "n2")
    equal(cluster)
    assert cluster.app("db")["status"] == "UP" and cluster.app("db")["validated"]


def test_other_data_is_not_touched_unless_the_operator_agrees(cluster: Cluster) -> None:
    new_disk(cluster, "mkfs.ext4", "-q", "-F")
    assert "nothing was done" in build(cluster, "--replace", "n2", typed="no", code=1)
    assert "ext4" in shell(cluster, "n2", "blkid -p /dev/ubdb")
    said = build(cluster, "--replace", "n2", typed="db")
    assert "n2 : volume data: /dev/ubdb: ext4" in said and "which would be lost" in said
    equal(cluster)


def test_older_data_is_gone_on_with_at_the_operators_word_alone(cluster: Cluster) -> None:
    """And what comes of it when the newer is back: a split brain, which is named, and ended."""
    cluster.lab.cut("n2", link=2)
    until(lambda: copies(cluster)["n2"] == "outdated", "n1 goes on without n2's copy", 60)
    shell(cluster, "n1", "echo newer > /srv/db/file; sync")
    cluster.lab.kill("n1")
    cluster.lab.heal()
    cluster.wait_app("db", at="n2", note="--accept-data n2", seconds=60)
    assert "nothing was done" in build(cluster, "--accept-data", "n2", node="n2", typed="yes", code=1)
    said = build(cluster, "--accept-data", "n2", node="n2", typed="db")
    assert "the copy of n2 will count as the data" in said
    cluster.wait_app("db", at="n2", status="UP", node="n2", seconds=60)
    assert shell(cluster, "n2", "cat /srv/db/file") == "kept\n"
    assert "accepts the copy of n2" in cluster.run("n2", "lha_log", "-n", "200").out
    shell(cluster, "n2", "echo other > /srv/db/file; sync")

    cluster.lab.boot("n1")
    cluster.wait_up("n1", at="n2", seconds=150)
    until(lambda: "SPLIT BRAIN" in cluster.run("n2", "lha_stat").out, "a split brain is named", 60)
    said = build(cluster, "--resolve", "--keep", "n2", node="n2", typed="db")
    assert "n1 : " in said and "written since the two copies parted" in said
    equal(cluster, "n2")
    assert "SPLIT BRAIN" not in cluster.run("n2", "lha_stat").out
    cluster.move("db", "-N", "n1", node="n2")
    assert shell(cluster, "n1", "cat /srv/db/file") == "other\n"
    cluster.stop("db")
