"""lha_buildapp on real kernels, LVM and DRBD 8.4: from two empty disks to the end of a split brain.

The tests follow one another: each begins with what the one before left.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusterlib import Cluster, until, write_apps
from lablib import assert_no_trace, lab_name

from truecl.lab import provision
from truecl.lab.cluster import Lab
from truecl.lab.vm.kernels import SPARE_DISK

pytestmark = [pytest.mark.lab, pytest.mark.vm]

SCRIPT = "/usr/local/sbin/it"
App = dict[str, Any]


def copied(volume: str, size: str, group: str = "testvg", disk: str = "/dev/ubdb") -> App:
    on = {"type": "lvm", "group": group, "volume": volume, "size": size, "physical": [disk]}
    return {"type": "drbd", "on": on}


DB: App = {
    "nodes": ["n1", "n2"],
    "volumes": {"data": copied("test1", "64M")},
    "filesystems": [{"type": "ext4", "mount": "/srv/db", "volume": "data"}],
    "replication": {"link": "link2"},
    "programs": {"it": {"run": [SCRIPT]}},
}
WITH_LOG = DB | {
    "volumes": DB["volumes"] | {"log": copied("log1", "32M")},
    "filesystems": [*DB["filesystems"], {"type": "ext4", "mount": "/srv/db/log", "volume": "log"}],
}
OTHER = DB | {
    "volumes": {"data": copied("v", "24M", "other", "/dev/loop7")},
    "filesystems": [{"type": "ext4", "mount": "/srv/other"}],
    "programs": {"it": {"run": ["/bin/sleep", "infinity"]}},
}
HANGS = """
cat >/run/{tool} <<'END'
#!/bin/sh
case " $* " in *" {verb} "*) exec sleep 1000;; esac
exec /run/{tool}.real "$@"
END
chmod +x /run/{tool}; cp /usr/sbin/{tool} /run/{tool}.real; mount --bind /run/{tool} /usr/sbin/{tool}
"""
TIMING = {"heartbeat": "300ms", "detection": "2s", "lease": "4s", "renewal": "1s", "election": "4s"}
"""Two kernels without processors of their own are not to fence each other while this goes on."""


@pytest.fixture(scope="module")
def cluster(kernels: None) -> Iterator[Cluster]:
    name = lab_name("vmbuild")
    with Lab.up(2, name=name, provide=provision.configure, vm=True) as lab:
        for node in lab.description.nodes:
            path = node.etc / "cluster.yaml"
            path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"timing": TIMING}, sort_keys=False))
        made = Cluster(lab)
        written(made, db=DB)
        for node in ("n1", "n2"):
            script(made, node, "exec sleep 1000000")
        made.form()
        made.wait_up(seconds=60)
        yield made
    assert_no_trace(name)


def written(cluster: Cluster, **apps: App) -> None:
    write_apps(cluster.lab.description.nodes, apps)


def configured(cluster: Cluster, **apps: App) -> None:
    """In force while the cluster runs."""
    written(cluster, **apps)
    cluster.form("--sync")


def script(cluster: Cluster, node: str, text: str) -> None:
    shell(cluster, node, f"mkdir -p /usr/local/sbin; printf '#!/bin/sh\\n{text}\\n' > {SCRIPT}; chmod +x {SCRIPT}")


def shell(cluster: Cluster, node: str, text: str, code: int | None = 0) -> str:
    return cluster.run(node, "/bin/sh", "-c", text, code=code).out


def build(cluster: Cluster, *options: str, node: str = "n1", typed: str = "", code: int = 0, app: str = "db") -> str:
    words = " ".join((app, *options))
    result = cluster.run(node, "/bin/sh", "-c", f"echo {typed} | lha_buildapp -A {words}", code=code, timeout=120.0)
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


def test_a_volume_that_is_full_grows_while_it_is_in_use(cluster: Cluster) -> None:
    shell(cluster, "n1", "fallocate -l $(df -B1 --output=avail /srv/db | tail -1) /srv/db/all")
    until(lambda: "100% used" in cluster.run("n1", "lha_stat", "-A", "db").out, "it is seen to be full")
    assert cluster.app("db")["status"] == "UP"
    build(cluster, "--grow", "data=96M")
    shell(cluster, "n1", "rm /srv/db/all")
    assert int(shell(cluster, "n1", "df --output=size /srv/db | tail -1")) > 80000
    assert copies(cluster) == {"n1": "current", "n2": "current"}, "nothing had to be sent"
    assert "larger than that already" in build(cluster, "--grow", "data=64M", code=1)


def test_a_volume_grows_on_all_nodes_or_on_none(cluster: Cluster) -> None:
    shell(cluster, "n2", "lvcreate -qq -y -l 100%FREE -n filler testvg")
    assert "n2 : lvextend: Insufficient free space" in build(cluster, "--grow", "data=128M", code=1)
    shell(cluster, "n2", "lvremove -qq -y testvg/filler")
    for node in ("n1", "n2"):
        assert shell(cluster, node, "lvs --noheadings --units m -o lv_size testvg/test1").strip() == "96.00m"


def test_a_copy_whose_disk_was_made_larger_by_hand_keeps_its_present_metadata(cluster: Cluster) -> None:
    """Not those that the volume's first size left in its middle."""
    for node in ("n1", "n2"):
        shell(cluster, node, "lvextend -qq -L 128M testvg/test1")
    cluster.stop("db")
    cluster.start("db", "-N", "n1")
    equal(cluster)
    for node in ("n1", "n2"):
        assert " ds:UpToDate/UpToDate " in shell(cluster, node, "cat /proc/drbd")
    assert shell(cluster, "n1", "cat /srv/db/file") == "kept\n"


def test_a_script_that_changed_on_one_node_is_named(cluster: Cluster) -> None:
    script(cluster, "n2", "exec sleep 1000001")
    refused = cluster.move("db", "-N", "n2", code=1, validated=True).err
    assert f"changed since it was validated: script {SCRIPT} on n2; lha_buildapp -A db" in refused
    assert f"script {SCRIPT} differs: n1 " in build(cluster, code=1)
    script(cluster, "n2", "exec sleep 1000000")
    cluster.move("db", "-N", "n2")
    assert shell(cluster, "n2", "cat /srv/db/file") == "kept\n"
    cluster.move("db", "-N", "n1")


# ---- what can go wrong ----------------------------------------------------------------------------------------------


def test_an_owner_whose_disk_fails_goes_on_and_gets_a_new_copy_when_it_is_mended(cluster: Cluster) -> None:
    """The device mapper answers every request with an error."""
    table = shell(cluster, "n1", "dmsetup table testvg-test1").strip()
    reload = "dmsetup suspend --noflush {0}; dmsetup load {0} --table '{1}'; dmsetup resume {0}"
    shell(cluster, "n1", reload.format("testvg-test1", "0 196608 error") + "; echo later > /srv/db/later; sync")
    cluster.wait_app("db", status="UP", node="n1", note="the disk of n1 failed, it goes on with the other node's")
    assert copies(cluster) == {"n1": "inconsistent", "n2": "current"}
    assert "the copy of application 'db' on n1 is inconsistent" in cluster.run("n1", "lha_log", "-n", "20").out
    cluster.move("db", "-N", "n2")
    assert "n1 has not a disk that works under volume data: it failed" in build(cluster, code=1)
    shell(cluster, "n1", reload.format("testvg-test1", table))
    assert "a copy of DRBD, generation" in build(cluster, "--replace", "n1", typed="db")
    equal(cluster)
    assert shell(cluster, "n2", "cat /srv/db/later") == "later\n"


def test_a_kernel_without_drbd_is_told_in_one_line(cluster: Cluster) -> None:
    cluster.stop("db")
    modules = "/usr/lib/modules/$(uname -r)/kernel/drivers/block/drbd"
    shell(cluster, "n1", f"rmmod drbd; mount -t tmpfs none {modules}; depmod")
    assert "ERROR the kernel has no module drbd: " in cluster.run("n1", "lha_check", code=1).err
    none = "has no DRBD: modprobe: FATAL: Module drbd not found"
    (line, _) = build(cluster, code=1).splitlines()
    assert line.startswith("lha_buildapp: ERROR n1 : this kernel") and none in line
    said = cluster.start("db", "-N", "n1")
    assert [none in each for each in said.err.splitlines()] == [True] and cluster.app("db")["node"] == "n2"
    assert none in cluster.run("n1", "lha_stat", "-A", "db").out
    shell(cluster, "n1", f"umount {modules}; depmod")
    equal(cluster)
    build(cluster)


def hangs(cluster: Cluster, node: str, tool: str, verb: str) -> None:
    shell(cluster, node, HANGS.format(tool=tool, verb=verb))


def works(cluster: Cluster, node: str, tool: str) -> None:
    shell(cluster, node, f"umount /usr/sbin/{tool}")


def test_a_new_volume_in_the_file_changes_nothing_that_runs(cluster: Cluster) -> None:
    configured(cluster, db=WITH_LOG)
    cluster.wait_app("db", status="UP", note="no other node can take it over: its replicated volumes are not those")
    assert "what is missing is made only while 'db' is stopped" in build(cluster, "--create", code=1)


def test_a_tool_that_hangs_at_a_stop_needs_a_fence_until_it_is_well(cluster: Cluster) -> None:
    hangs(cluster, "n2", "drbdsetup", "secondary")
    said = cluster.stop("db", code=1).err
    assert "drbdsetup stopped after 10." in said and "application 'db' cannot be stopped on 'n2'" in said
    assert cluster.app("db")["status"] == "NEEDS FENCE"
    works(cluster, "n2", "drbdsetup")
    cluster.wait_app("db", status="DOWN", seconds=60)


def test_a_volume_is_added_and_taken_out(cluster: Cluster) -> None:
    build(cluster, "--create")
    assert set(shell(cluster, "n2", "lvs --noheadings -o lv_name testvg").split()) == {"test1", "log1"}
    assert copies(cluster) == {"n1": "current", "n2": "current"}, "nothing had to be sent"
    configured(cluster, db=DB)
    assert "--create assigns them" in build(cluster, code=1)
    build(cluster, "--create")
    for node in ("n1", "n2"):
        assert shell(cluster, node, "dmsetup ls") == "No devices found\n", "it is left alone, and not active"


def test_a_tool_that_hangs_at_a_start_has_it_start_elsewhere(cluster: Cluster) -> None:
    hangs(cluster, "n1", "drbdadm", "attach")
    said = cluster.start("db", "-N", "n1", validated=True).err
    assert "n1 : /sbin/drbdadm stopped after 10." in said
    assert cluster.app("db")["node"] == "n2"
    works(cluster, "n1", "drbdadm")
    equal(cluster)
    cluster.move("db", "-N", "n1", validated=True)
    assert shell(cluster, "n1", "cat /srv/db/later") == "later\n"


def test_data_of_others_are_named_and_lost_only_at_the_operators_word(cluster: Cluster) -> None:
    for node, has in (("n1", "mkfs.ext4 -q /dev/loop7"), ("n2", "vgcreate -qq precious /dev/loop7; {}")):
        theirs = has.format("lvcreate -qq -y -n mail -L 8M precious")
        shell(cluster, node, f"truncate -s 64M /var/tmp/seven; losetup /dev/loop7 /var/tmp/seven; {theirs}")
    configured(cluster, other=OTHER)
    assert "n2 : volume data: /dev/loop7 is in use: by dm-" in build(cluster, "--create", app="other", code=1)
    shell(cluster, "n2", "vgchange -qq -an precious")
    said = build(cluster, "--create", app="other", code=1)
    assert "n1 : volume data: /dev/loop7: ext4 " in said and "of volume group precious (mail)" in said
    assert "is not touched without --create --force" in said
    assert "nothing was done" in build(cluster, "--create", "--force", app="other", typed="no", code=1)
    assert "mail" in shell(cluster, "n2", "lvs precious") and "ext4" in shell(cluster, "n1", "blkid -p /dev/loop7")


def test_metadata_of_another_resource_are_other_data(cluster: Cluster) -> None:
    make = "wipefs -qa /dev/loop7; vgcreate -qq other /dev/loop7; lvcreate -qq -y -n v -L 24M other"
    theirs = "drbdmeta --force 9 v08 /dev/other/v internal create-md 2>&1"
    theirs += "; drbdmeta --force 9 v08 /dev/other/v internal set-gi 5DD2A7CE8A2F1F40:0:0:0:1:1 2>&1"
    for node in ("n1", "n2"):
        shell(cluster, node, f"{make}; {theirs}; lvchange -an other/v")
    said = build(cluster, "--create", app="other", code=1)
    for node in ("n1", "n2"):
        assert f"{node} : metadata data: a copy of DRBD, generation 5DD2A7CE8A2F1F40" in said
    assert "nothing was done" in build(cluster, "--create", "--force", app="other", typed="no", code=1)


# ---- another disk, and what an operator overrules --------------------------------------------------------------------


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


OWN: dict[str, Any] = {
    "nodes": ["n1", "n2"],
    "volumes": {"data": {"type": "drbd", "on": {"type": "lvm", "group": "testvg", "volume": "own", "size": "16M"}}},
    "filesystems": [{"type": "ext4", "mount": "/srv/own"}],
}


def test_a_file_system_that_one_node_had_before_is_not_taken_for_that_of_both_copies(cluster: Cluster) -> None:
    """Nothing of it would ever be sent: the other copy would be called equal, and hold nothing of it."""
    for node in cluster.lab.description.nodes:
        (node.etc / "apps" / "own.yaml").write_text(yaml.safe_dump(OWN, sort_keys=False))
    shell(cluster, "n1", "lha_form --sync; lvcreate -qq -y -L 16M -n own testvg; mkfs.ext4 -q /dev/testvg/own 15M")
    old = shell(cluster, "n1", "blkid -p -s UUID -o value /dev/testvg/own").strip()
    assert f"ext4 {old}" in shell(cluster, "n1", "lha_buildapp -A own --create 2>&1", code=1)
    said = shell(cluster, "n1", "echo own | lha_buildapp -A own --create --force 2>&1")
    assert f"ext4 {old}, which would be lost" in said
    cluster.start("own", "-N", "n1", validated=True)
    assert old not in shell(cluster, "n1", "blkid -p $(findmnt -no SOURCE /srv/own)")
    shell(cluster, "n1", "echo kept > /srv/own/file")
    cluster.move("own", "-N", "n2", validated=True)
    assert shell(cluster, "n2", "cat /srv/own/file") == "kept\n"
    cluster.stop("own")


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
