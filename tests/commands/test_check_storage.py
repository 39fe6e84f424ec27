"""lha_check on storage: a table of machines that lack something, and what is said of each."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from truecl.commands.check_storage import storage
from truecl.commands.machine import Machine, this_machine
from truecl.drivers.fence.parse import Metadata
from truecl.drivers.storage.lvm import parse
from truecl.model.config import AppConfig, DiskStorage, DrbdStorage, FileStorage, FileSystem, LvmStorage, Volume
from truecl.model.config import Storage as AnyStorage
from truecl.model.ids import AppName

RECORDED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "drivers/recorded/lvm-2.03.16.json").read_text()
)
LIN = LvmStorage(group="pair", volume="lin")


def machine(scene: str = "whole", **other: Any) -> Machine:
    """One that lacks nothing; `scene`: what LVM says."""
    said = RECORDED[scene]
    found = parse.volumes(said["stdout"].encode()) if said["code"] == 0 else said["stderr"].strip().splitlines()[0]
    facts: dict[str, Any] = {
        "program": lambda name: True,
        "fence_agent": lambda name: Metadata((), ()),
        "user": lambda name: 0,
        "interfaces": tuple,
        "dropping_networkd": tuple,
        "module": lambda name: True,
        "volumes": lambda group: found,
    }
    return Machine(**(facts | other))


def said(machine: Machine, *volumes: AnyStorage) -> list[str]:
    app = AppConfig(
        name=AppName("db"),
        nodes=(),
        volumes=tuple(Volume(name=f"v{n}", storage=each) for n, each in enumerate(volumes)),
    )
    return [f"{finding.severity} {finding.text}" for finding in storage(machine, app)]


def without(*names: str) -> dict[str, Any]:
    return {"program": lambda name: name not in names}


@pytest.mark.parametrize(
    ("facts", "volume", "expected"),
    [
        ({}, LIN, []),
        ({}, DrbdStorage(on=LIN), []),
        (without("lvm"), LIN, ["ERROR lvm is missing; install lvm2"]),
        (
            {"drbd_complaint": lambda: "drbd.d/other.res:2: Parse error"},
            DrbdStorage(on=LIN),
            [
                "ERROR drbdadm cannot read its files (/etc/drbd.conf, /etc/drbd.d): drbd.d/other.res:2: Parse error;"
                " until that is mended no replica starts, and a primary that lost its peer stays frozen"
            ],
        ),
        ({"drbd_complaint": lambda: "drbd.d/other.res:2: Parse error"}, LIN, []),
        (without("dmsetup"), DrbdStorage(on=LIN), ["ERROR dmsetup is missing; install dmsetup"]),
        ({"module": lambda name: name != "dm_mod"}, LIN, ["ERROR the kernel has no device mapper (module dm_mod)"]),
        (
            {"scene": "no group"},
            LIN,
            ['WARN application \'db\': volume pair/lin: Volume group "nope" not found'],
        ),
        (
            {},
            LvmStorage(group="pair", volume="nope"),
            ["WARN application 'db': volume pair/nope: there is none; lha_buildapp --create makes it"],
        ),
        (
            {"scene": "missing disk"},
            LvmStorage(group="pair", volume="both"),
            [
                "ERROR application 'db': volume pair/both: a physical volume that it lies on is missing; 'pvs' says"
                " which"
            ],
        ),
        (
            {"scene": "raid1 missing disk"},
            LvmStorage(group="pair", volume="mirrored"),
            ["WARN application 'db': volume pair/mirrored: it runs with a physical volume missing; 'pvs' says which"],
        ),
        (
            {"scene": "raid1"},
            LvmStorage(group="pair", volume="mirrored"),
            [
                "ERROR application 'db': volume pair/mirrored: any boot would activate it; 'lvchange -ky"
                " --setautoactivation n pair/mirrored' ends that"
            ],
        ),
        (
            {"scene": "thin full"},
            LvmStorage(group="pair", volume="thin"),
            [
                "ERROR application 'db': volume pair/thin: its pool pool is full (data); 'lvextend' makes it larger",
                "WARN application 'db': volume pair/thin: its pool pool is filled to 100%",
            ],
        ),
        ({"volumes": lambda group: ""}, LIN, []),
        (
            {},
            DiskStorage(device="/dev/sdb"),
            [
                "WARN application 'db': /dev/sdb may be another disk after a boot; /dev/disk/by-id has names that stay",
                "WARN application 'db': disk /dev/sdb: No such file or directory; it must be there before a start",
            ],
        ),
        ({}, DiskStorage(device="/dev/null"), ["ERROR application 'db': /dev/null is no disk"]),
        (without("losetup"), FileStorage(image="/dev/null"), [
            "ERROR losetup is missing; install mount", "ERROR application 'db': image /dev/null is no regular file"]),
        (without("drbdadm"), DrbdStorage(on=LIN), ["ERROR drbdadm is missing; install drbd-utils"]),
        (
            {"module": lambda name: name != "drbd"},
            DrbdStorage(on=LIN),
            [
                "ERROR the kernel has no module drbd: on Ubuntu it is in linux-modules-extra; on Debian in the kernel's"
                " own package"
            ],
        ),
        (
            {"parameter": lambda module, name: "/bin/true"},
            DrbdStorage(on=LIN),
            [
                "ERROR module drbd calls /bin/true (usermode_helper): it must be /sbin/drbdadm, or nothing asks the"
                " cluster when the peer is lost"
            ],
        ),
        (
            {"lvm_reads_replicas": lambda: True},
            DrbdStorage(on=LIN),
            [
                "WARN LVM looks at /dev/drbd*: any lvs by hand hangs while a replica stands still, and keeps it from"
                ' becoming secondary; in /etc/lvm/lvm.conf, devices: global_filter=["r|/dev/drbd.*|"]'
            ],
        ),
        (
            {"starts_at_boot": lambda unit: unit == "drbd.service"},
            DrbdStorage(on=LIN),
            [
                "ERROR drbd.service is enabled: it would bring replicas up at a boot, before truecl says so;"
                " `systemctl disable drbd.service`"
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_said(facts: dict[str, Any], volume: AnyStorage, expected: list[str]) -> None:
    assert said(machine(**facts), volume) == expected


def test_tools_of_a_file_system() -> None:
    app = AppConfig(
        name=AppName("db"), nodes=(), volumes=(Volume(name="v", storage=LIN),),
        filesystems=(FileSystem(type="xfs", mount="/srv/none"),),
    )  # fmt: skip
    lacks = machine(**without("xfs_repair", "mkfs.xfs"))
    assert [finding.text for finding in storage(lacks, app)] == [
        "xfs_repair is missing, for xfs of 'db'; install xfsprogs",
        "mkfs.xfs is missing, which makes xfs; install xfsprogs",
    ]


def test_a_machine_is_asked_by_its_files(tmp_path: Path) -> None:
    release = tmp_path / "lib/modules" / os.uname().release
    release.mkdir(parents=True)
    (release / "modules.dep").write_text("kernel/drivers/md/dm-mod.ko:\nkernel/drivers/block/drbd/drbd.ko.xz: x.ko\n")
    (release / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    (tmp_path / "sys/module/loop").mkdir(parents=True)
    (tmp_path / "sys/module/drbd/parameters").mkdir(parents=True)
    (tmp_path / "sys/module/drbd/parameters/usermode_helper").write_text("/sbin/drbdadm\n")
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "drbd.service").symlink_to(release)
    asked = this_machine(tmp_path)
    assert [asked.module(name) for name in ("dm_mod", "drbd", "ext4", "loop", "dm_raid")] == [True] * 4 + [False]
    assert asked.parameter("drbd", "usermode_helper") == "/sbin/drbdadm"
    assert asked.parameter("drbd", "nope") == ""
    assert asked.starts_at_boot("drbd.service") and not asked.starts_at_boot("other.service")
