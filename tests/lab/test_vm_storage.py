"""Logical volumes, disks and file systems on kernels of their own: what LVM does with them, what a power cut leaves,
and an unmount that hangs.

One lab for all. Each node has disks of its own; those of n1 and n2 are twins, to the UUIDs of their volumes and file
systems, so that they pass for shared ones.
"""

from collections.abc import Iterator, Sequence

import pytest
import yaml
from clusterlib import Cluster, until, write_apps
from driven import Driven, mounted, volume
from lablib import assert_no_trace, lab_name

from truecl.lab import provision
from truecl.lab.cluster import Lab
from truecl.lab.description import LabNode
from truecl.model.config import DiskStorage, LvmStorage

pytestmark = [pytest.mark.lab, pytest.mark.vm]

WATCHDOG = {"use": "required", "timeout": "6s", "watchdog_survives_pause": True}
TIMING = {"heartbeat": "250ms", "detection": "1500ms", "election": "3s", "lease": "4s", "renewal": "1s"}
"""Patience with three kernels on a busy machine: no test here is about a node that is taken for dead."""
MEBIBYTE = 1 << 20
APPS = {
    "db": {
        "nodes": ["n1", "n2"],
        "volumes": {
            "data": {"type": "lvm", "group": "testvg", "volume": "data", "size": "48M"},
            "log": {"type": "lvm", "group": "second-vg", "volume": "log-1"},
        },
        "filesystems": [
            {"type": "ext4", "mount": "/srv/db", "volume": "data"},
            {"type": "ext4", "mount": "/srv/db/log", "volume": "log"},
        ],
        "programs": {"it": {"run": ["/bin/sleep", "infinity"]}},
        "stop_timeout": "3s",
    },
    "beside": {"nodes": ["n1", "n2"], "programs": {"it": {"run": ["/bin/sleep", "infinity"]}}},
}
DISK = "modprobe -a dm-mod dm-snapshot; truncate -s 64M /var/tmp/second; losetup /dev/loop7 /var/tmp/second"
GROUPS = "vgcreate -qq testvg /dev/ubdb; vgcreate -qq second-vg /dev/loop7"
VOLUMES = "lvcreate -qq -y -Wn -Zn -n data -L 48M testvg; lvcreate -qq -y -Wn -Zn -n log-1 -L 16M second-vg"
TWIN = """
copy() {
    vgcfgbackup -qq -f /shared/$1.cfg $1
    pvs --noheadings -o pv_uuid $2 | tr -d ' ' >/shared/$1.uuid
}
paste() {
    pvcreate -qq --uuid $(cat /shared/$1.uuid) --restorefile /shared/$1.cfg $2
    vgcfgrestore -qq -f /shared/$1.cfg $1
}
"""
FORMAT = """
for each in testvg/data second-vg/log-1; do
    lvchange -K -ay $each
    mkfs.ext4 -q -U $1 /dev/$each
    lvchange -qq -ky --setautoactivation n $each
    lvchange -an $each
done
"""
UUID = "5c5f3e4a-1111-4222-8333-944455556666"
REPLICA = """
resource r0 {
    protocol C; device /dev/drbd5; disk /dev/testvg/under; meta-disk internal;
    on n3 { address 10.77.2.3:7788; }
    on n1 { address 10.77.2.1:7788; }
}
"""
SECOND = "losetup /dev/loop7 /var/tmp/second"
"""After a boot: the second group's disk is there again."""


def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    provision.configure(nodes, links)
    write_apps(nodes, APPS)
    for node in nodes:
        path = node.etc / "cluster.yaml"
        configuration = yaml.safe_load(path.read_text())
        for entry in configuration["nodes"].values():
            entry["watchdog"] = dict(WATCHDOG)
        del configuration["nodes"]["n1"]["fence"]
        configuration["timing"] = dict(TIMING)
        path.write_text(yaml.safe_dump(configuration, sort_keys=False))


@pytest.fixture(scope="module")
def lab(kernels: None) -> Iterator[Lab]:
    name = lab_name("vm-storage")
    with Lab.up(3, name=name, provide=provide, vm=True) as made:
        for node in ("n1", "n2", "n3"):
            shell(made, node, DISK)
        shell(made, "n1", f"{GROUPS}; {VOLUMES}; {TWIN} copy testvg /dev/ubdb; copy second-vg /dev/loop7")
        shell(made, "n2", f"{TWIN} paste testvg /dev/ubdb; paste second-vg /dev/loop7")
        for node in ("n1", "n2"):
            shell(made, node, f"set {UUID}; {FORMAT}")
        shell(made, "n3", GROUPS)
        yield made
    assert_no_trace(name)


@pytest.fixture(scope="module")
def hand(lab: Lab) -> Iterator[Driven]:
    """reqd's drivers on n3, until it loses power."""
    made = Driven(lab, "n3")
    yield made
    made.close()


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Cluster:
    made = Cluster(lab)
    made.form()
    made.wait_up(seconds=60)
    made.run("n1", "lha_buildapp", "-A", "db")
    return made


def shell(lab: Lab, node: str, script: str, timeout: float = 60.0) -> str:
    """What a script in the node prints. Raises LabError when it fails."""
    return lab.exec(node, ["/bin/sh", "-ec", script], timeout).check().out


def boots(lab: Lab, node: str) -> int:
    return next(status.boots for status in lab.status() if status.name == node)


def active(lab: Lab, node: str) -> list[str]:
    """Mapped devices."""
    return sorted(shell(lab, node, "cat /sys/block/dm-*/dm/name 2>/dev/null || true").split())


def waiting(lab: Lab, node: str, program: str) -> bool:
    """Does it wait for a device, in a way that nothing ends?"""
    return f"D {program}" in shell(lab, node, "ps -eo stat=,comm= | sed 's/^D[^ ]* */D /'").splitlines()


def lvm(name: str, size: int = 0) -> LvmStorage:
    return LvmStorage(group="testvg", volume=name, size=size)


# ---- a volume --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(lab: Lab) -> LvmStorage:
    """A volume of 32 MiB on n3 with ext4, inactive, and so each test leaves it."""
    make = "lvcreate -qq -y -Wn -Zn -n it -L 32M testvg; mkfs.ext4 -q -m 0 /dev/testvg/it"
    shell(lab, "n3", f"{make}; lvchange -qq -ky --setautoactivation n testvg/it; lvchange -an testvg/it")
    return lvm("it", 32 * MEBIBYTE)


def test_a_volume_is_active_from_up_to_down_and_nobody_else_activates_it(
    lab: Lab, hand: Driven, made: LvmStorage
) -> None:
    for attempt in (
        "vgchange -aay testvg",
        "vgchange -ay",
        "lvchange -ay testvg/it",
        "vgchange -aay --autoactivation event testvg",
        "vgchange -K -aay testvg",
    ):
        shell(lab, "n3", attempt)
        assert active(lab, "n3") == [], attempt
    said = hand.up(volume(made))
    assert (said.probe, said.reason) == ("active", "")
    assert said.facts == {"device": "/dev/testvg/it", "type": "lvm", "size": str(32 * MEBIBYTE)}
    assert active(lab, "n3") == ["testvg-it"]
    assert hand.down(volume(made)).probe == "inactive"
    assert active(lab, "n3") == []


@pytest.mark.parametrize("force", [False, True])
def test_a_file_system_keeps_its_volume_until_it_is_unmounted(
    lab: Lab, hand: Driven, made: LvmStorage, force: bool
) -> None:
    step = mounted(made, "/srv/it")
    assert hand.up(volume(made)).reason == hand.up(step).reason == ""
    said = hand.down(volume(made), force)
    assert said.probe == "active" and "it is in use: mounted at /srv/it" in said.reason
    assert hand.down(step, force).probe == "inactive"
    assert hand.down(volume(made), force).probe == "inactive"


def test_who_uses_it_is_ended_and_the_copies_of_the_mount_go_too(lab: Lab, hand: Driven, made: LvmStorage) -> None:
    step = mounted(made, "/srv/it")
    assert hand.up(volume(made)).reason == hand.up(step).reason == ""
    shell(lab, "n3", "unshare -m --propagation private sleep 600 >/dev/null 2>&1 & sleep 0.3")
    shell(lab, "n3", "cd /srv/it; exec 5>open; (sleep 600 >/dev/null 2>&1 &)")
    assert hand.down(step).probe == "inactive"
    assert hand.down(volume(made)).reason == ""
    assert shell(lab, "n3", "pgrep -xc sleep || true") == "1\n", "the one with a copy lives on, without it"
    shell(lab, "n3", "pkill -x sleep")


def test_xfs_is_seen_where_the_driver_looks_for_it(lab: Lab, hand: Driven) -> None:
    make = "lvcreate -qq -y -Wn -Zn -n x-1 -L 320M testvg; mkfs.xfs -q -f /dev/testvg/x-1"
    shell(
        lab, "n3", f"modprobe xfs; {make}; lvchange -qq -ky --setautoactivation n testvg/x-1; lvchange -an testvg/x-1"
    )
    step = mounted(lvm("x-1"), "/srv/x", type="xfs", fsck="always")
    assert hand.up(volume(lvm("x-1"))).reason == hand.up(step).reason == ""
    assert shell(lab, "n3", "ls /sys/fs/xfs").split() == ["dm-0", "stats"]
    assert hand.down(step).probe == "inactive"
    assert hand.down(volume(lvm("x-1"))).probe == "inactive"
    shell(lab, "n3", "lvremove -qq -ff -y testvg/x-1")


SCENES = [
    # what is done to the group, what helps afterwards, size that is asked for, what is said
    ("", "", 33 * MEBIBYTE, "it has 32M, and the configuration says 33M"),
    ("lvrename -qq testvg it that", "lvrename -qq testvg that it", 0, "there is no such volume in group testvg"),
    ("vgrename -qq testvg new", "vgrename -qq new testvg", 0, "a volume of that name is in group new: was the group"),
    ("vgexport -qq testvg", "vgimport -qq testvg", 0, "group testvg is exported; 'vgimport testvg' takes it back"),
    ("lvchange -qq -pr testvg/it", "lvchange -qq -prw testvg/it", 0, "it is read-only"),
    ("lvchange -qq -kn testvg/it", "lvchange -qq -ky testvg/it", 0, "any boot would activate it"),
    (
        "lvchange -qq -K -ay testvg/it; dmsetup suspend testvg-it",
        "dmsetup resume testvg-it; lvchange -an testvg/it",
        0,
        "'dmsetup resume testvg-it' lets it go on",
    ),
    (
        "vgextend -qq testvg /dev/loop6; lvextend -qq -L +8M testvg/it /dev/loop6; losetup -d /dev/loop6",
        "losetup /dev/loop6 /var/tmp/third; lvreduce -qq -f -L -8M testvg/it; vgreduce -qq testvg /dev/loop6",
        0,
        "a physical volume that it lies on is missing; 'pvs' says which",
    ),
    (
        "head -c 2M /dev/ubdb >/var/tmp/copy; truncate -s 512M /var/tmp/copy; losetup /dev/loop5 /var/tmp/copy",
        "losetup -d /dev/loop5; rm /var/tmp/copy",
        0,
        "Cannot activate LVs in VG testvg while PVs appear on duplicate devices",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spoils", "mends", "size", "words"), SCENES, ids=[scene[3][:40] for scene in SCENES])
def test_a_volume_that_cannot_be_taken_is_told(
    lab: Lab, hand: Driven, made: LvmStorage, spoils: str, mends: str, size: int, words: str
) -> None:
    shell(lab, "n3", "truncate -s 64M /var/tmp/third; losetup /dev/loop6 /var/tmp/third; " + (spoils or "true"))
    said = hand.up(volume(lvm("it", size)))
    shell(lab, "n3", f"{mends or 'true'}; losetup -d /dev/loop6; rm /var/tmp/third")
    assert said.reason.startswith("testvg/it: ") and words in said.reason
    assert hand.up(volume(made)).reason == ""
    assert hand.down(volume(made)).reason == ""


def test_a_volume_goes_while_its_group_is_renamed_and_its_disk_dead(lab: Lab, hand: Driven, made: LvmStorage) -> None:
    """LVM knows nothing of it any more; the kernel does."""
    assert hand.up(volume(made)).reason == ""
    shell(
        lab,
        "n3",
        "dd if=/dev/ubdb of=/var/tmp/label bs=1M count=1 2>&1; dd if=/dev/zero of=/dev/ubdb bs=1M count=1 2>&1",
    )
    assert "not found" in lab.exec("n3", ["vgs", "testvg"]).err
    said = hand.down(volume(made))
    assert (said.probe, said.reason) == ("inactive", "")
    shell(lab, "n3", "dd if=/var/tmp/label of=/dev/ubdb bs=1M 2>&1; rm /var/tmp/label; vgs testvg")


def test_a_replica_that_stands_still_does_not_hang_lvm(lab: Lab, hand: Driven, made: LvmStorage) -> None:
    shell(lab, "n3", f"modprobe drbd; cat >/etc/drbd.d/r0.res <<'END'\n{REPLICA}END")
    shell(lab, "n3", "lvcreate -qq -y -Wn -Zn -n under -L 16M testvg")
    shell(lab, "n3", "dd if=/dev/zero of=/dev/testvg/under bs=1M count=16 2>&1; drbdadm create-md --force r0 2>&1")
    shell(lab, "n3", "drbdadm up r0; drbdadm primary --force r0; drbdsetup suspend-io 5")
    try:
        said = hand.up(volume(made))
        assert (said.probe, said.reason) == ("active", "") and said.seconds < 10
        assert hand.down(volume(made)).reason == ""
    finally:
        shell(lab, "n3", "drbdsetup resume-io 5; drbdadm down r0; rm /etc/drbd.d/r0.res; lvremove -qq -y testvg/under")


# ---- a disk ----------------------------------------------------------------------------------------------------------


def test_a_disk_is_taken_unless_somebody_has_it(lab: Lab, hand: Driven) -> None:
    shell(lab, "n3", "truncate -s 64M /var/tmp/lun; losetup /dev/loop6 /var/tmp/lun; mkfs.ext4 -q /dev/loop6")
    disk = DiskStorage(device="/dev/loop6")
    step = mounted(disk, "/srv/lun")
    assert hand.probe(volume(disk)).probe == "inactive"
    shell(lab, "n3", "mount /dev/loop6 /mnt")
    said = hand.up(volume(disk))
    assert said.reason == "disk /dev/loop6 is in use on this node already: mounted at /mnt"
    assert said.probe == "active", "it is written: nothing else may be concluded"
    shell(lab, "n3", "umount /mnt")
    said = hand.up(volume(disk))
    assert (said.probe, said.reason) == ("active", "")
    assert said.facts == {"device": "/dev/loop6", "type": "disk", "size": str(64 * MEBIBYTE)}
    assert hand.up(step).reason == hand.up(volume(disk)).reason == ""
    assert hand.down(volume(disk)).reason == "disk /dev/loop6 is still in use: mounted at /srv/lun"
    assert hand.down(step).reason == ""
    assert hand.down(volume(disk)).probe == "inactive"
    shell(lab, "n3", "losetup -d /dev/loop6; rm /var/tmp/lun")
    assert "has no size" in hand.up(volume(disk)).reason
    assert hand.up(volume(DiskStorage(device="/dev/disk/none"))).reason == "disk /dev/disk/none is missing on this node"
    assert hand.up(volume(DiskStorage(device="/dev/null"))).reason == "/dev/null is no disk"


# ---- a power cut -----------------------------------------------------------------------------------------------------


def test_after_a_power_cut_nothing_is_active_and_the_journal_is_replayed(lab: Lab, made: LvmStorage) -> None:
    hand = Driven(lab, "n3")
    step = mounted(made, "/srv/it")
    assert hand.up(volume(made)).reason == hand.up(step).reason == ""
    shell(
        lab, "n3", "echo kept >/srv/it/word; sync -f /srv/it/word; dd if=/dev/zero of=/srv/it/late bs=4k count=64 2>&1"
    )
    lab.kill("n3")
    hand.close()
    lab.boot("n3")
    shell(lab, "n3", f"modprobe -a dm-mod dm-snapshot; {SECOND}; vgchange -aay testvg; vgchange -ay testvg")
    assert active(lab, "n3") == []
    hand = Driven(lab, "n3")
    assert hand.up(volume(made)).reason == ""
    assert "needs_recovery" in shell(lab, "n3", "dumpe2fs -h /dev/testvg/it 2>/dev/null")
    assert hand.up(step).reason == ""
    assert shell(lab, "n3", "cat /srv/it/word") == "kept\n"
    assert hand.down(step).reason == ""
    shell(lab, "n3", "dd if=/dev/urandom of=/dev/testvg/it bs=1k seek=2 count=64 conv=notrunc 2>&1")
    said = hand.up(step)
    assert "damaged beyond what can be repaired safely; run e2fsck by hand" in said.reason
    assert said.probe == "inactive"
    assert hand.down(volume(made)).reason == ""
    hand.close()


# ---- truecl ----------------------------------------------------------------------------------------------------------


def test_an_application_on_two_volumes_of_two_groups(lab: Lab, cluster: Cluster) -> None:
    cluster.start("db")
    assert cluster.app("db")["node"] == "n1"
    assert active(lab, "n1") == ["second--vg-log--1", "testvg-data"]
    assert active(lab, "n2") == []
    cluster.move("db", "-N", "n2")
    assert active(lab, "n1") == []
    assert active(lab, "n2") == ["second--vg-log--1", "testvg-data"]
    cluster.stop("db")
    assert active(lab, "n2") == []


def spoil(lab: Lab) -> int:
    """The device beneath db's file system on n1 answers no more, and there is something to write to it: the unmount
    never ends. How often n1 had booted before: it has no fence device, so only its watchdog can boot it again."""
    dirty = "dd if=/dev/zero of=/srv/db/dirty bs=64k count=16 2>&1"
    shell(lab, "n1", f"{dirty}; dmsetup suspend --nolockfs --noflush testvg-data")
    return boots(lab, "n1")


def test_an_unmount_that_hangs_ends_in_a_reset_and_the_application_runs_elsewhere(lab: Lab, cluster: Cluster) -> None:
    cluster.start("db", "-N", "n1")
    before = spoil(lab)
    try:
        lab.cut("n1")
        until(lambda: waiting(lab, "n1", "umount"), "its unmount hangs", 30)
        until(lambda: boots(lab, "n1") > before, "n1 was reset", 60)
        cluster.wait_app("db", at="n2", status="UP", node="n2", seconds=90)
        assert boots(lab, "n1") == before + 1
        shell(lab, "n1", "modprobe dm-mod; vgchange -aay testvg")
        assert active(lab, "n1") == []
    finally:
        lab.heal()
    cluster.wait_up(at="n2", seconds=60)
    cluster.stop("db", node="n2")
    assert active(lab, "n2") == []


def test_so_does_one_on_a_node_that_keeps_its_lease_and_what_runs_beside_it_moves_in_order(
    lab: Lab, cluster: Cluster
) -> None:
    shell(lab, "n1", f"modprobe -a dm-mod dm-snapshot; losetup /dev/loop7 2>/dev/null || {SECOND}")
    cluster.start("db", "-N", "n1", node="n2")
    cluster.start("beside", "-N", "n1", node="n2")
    before = spoil(lab)
    cluster.move("db", "-N", "n2", node="n2", code=None)
    until(lambda: boots(lab, "n1") > before, "n1 was reset", 60)
    for app in ("db", "beside"):
        cluster.wait_app(app, at="n2", status="UP", node="n2", seconds=90)
    assert boots(lab, "n1") == before + 1
    said = " ".join(cluster.run("n2", "lha_log").out.split())
    assert "application 'db' cannot be stopped on n1: its lease is renewed no more" in said
    assert "of application 'beside' to n1 ended, proof: released" in said
    cluster.wait_up(at="n2", seconds=60)
    for app in ("db", "beside"):
        cluster.stop(app, node="n2")
    assert active(lab, "n1") == active(lab, "n2") == []
