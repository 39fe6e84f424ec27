"""What `lha_check` says of an application's storage on this node: tools, kernel modules, volumes, what a boot does."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from truecl.commands.finding import Finding, error, warning
from truecl.commands.machine import Machine
from truecl.drivers.storage.lvm import argv, parse
from truecl.model.config import AppConfig, Backing, DiskStorage, DrbdStorage, FileStorage, LvmStorage, NoStorage

_TOOLS = {
    "ext3": ("e2fsck", "mkfs.ext3", "e2fsprogs"),
    "ext4": ("e2fsck", "mkfs.ext4", "e2fsprogs"),
    "xfs": ("xfs_repair", "mkfs.xfs", "xfsprogs"),
}
"""What checks a file system before a mount, what makes one, and the Debian package that has both."""
_DRBD_UNIT = "drbd.service"
_HANDLER = "/sbin/drbdadm"
"""What DRBD's module calls when it lost its peer; it must be the one that reads our resource file."""
_UNSTEADY = re.compile(r"/dev/(sd[a-z]+|vd[a-z]+|xvd[a-z]+|nvme\d+n\d+)(p?\d+)?")
_NEARLY_FULL = 90.0
"""Percent of a pool."""


def storage(machine: Machine, app: AppConfig) -> Iterator[Finding]:
    kinds = {type(_beneath(volume.storage)) for volume in app.volumes}
    who = f"application {app.name!r}"
    if FileStorage in kinds and not machine.program("losetup"):
        yield error("losetup is missing; install mount")
    if LvmStorage in kinds:
        yield from _lvm_tools(machine)
    if any(isinstance(volume.storage, DrbdStorage) for volume in app.volumes):
        yield from _drbd_tools(machine)
    for volume in app.volumes:
        match _beneath(volume.storage):
            case FileStorage(image):
                yield from _image(who, image)
            case DiskStorage(device):
                yield from _disk(who, device)
            case LvmStorage() as lvm:
                yield from _logical(machine, who, lvm)
    for filesystem in app.filesystems:
        fsck, mkfs, package = _TOOLS[filesystem.type]
        if not machine.program(fsck):
            yield error(f"{fsck} is missing, for {filesystem.type} of {app.name!r}; install {package}")
        if not machine.program(mkfs):
            yield warning(f"{mkfs} is missing, which makes {filesystem.type}; install {package}")
        yield from _mount_point(who, Path(filesystem.mount))


def _beneath(storage: Backing | DrbdStorage | NoStorage) -> Backing | NoStorage:
    return storage.on if isinstance(storage, DrbdStorage) else storage


def _image(who: str, image: str) -> Iterator[Finding]:
    try:
        mode = Path(image).stat().st_mode
    except OSError as problem:
        yield warning(f"{who}: image {image}: {problem.strerror}; it must be there before a start (NFS mounted?)")
        return
    if not stat.S_ISREG(mode):
        yield error(f"{who}: image {image} is no regular file")


def _disk(who: str, device: str) -> Iterator[Finding]:
    if _UNSTEADY.fullmatch(device):
        yield warning(f"{who}: {device} may be another disk after a boot; /dev/disk/by-id has names that stay")
    try:
        mode = Path(device).stat().st_mode
    except OSError as problem:
        yield warning(f"{who}: disk {device}: {problem.strerror}; it must be there before a start")
        return
    if not stat.S_ISBLK(mode):
        yield error(f"{who}: {device} is no disk")


# ---- LVM -------------------------------------------------------------------------------------------------------------


def _lvm_tools(machine: Machine) -> Iterator[Finding]:
    if not machine.program("lvm"):
        yield error("lvm is missing; install lvm2")
    if not machine.program("dmsetup"):
        yield error("dmsetup is missing; install dmsetup")
    if not machine.module("dm_mod"):
        yield error("the kernel has no device mapper (module dm_mod)")


def _logical(machine: Machine, who: str, spec: LvmStorage) -> Iterator[Finding]:
    for device in spec.physical:
        yield from _disk(who, device)
    if not machine.program("lvm"):
        return
    found = machine.volumes(spec.group)
    what = f"{who}: volume {argv.name(spec)}"
    if isinstance(found, str):
        if found:
            makes = "; lha_buildapp --create makes it" if spec.physical else ""
            yield warning(f"{what}: {found}{makes}")
        return
    own = next((each for each in found if each.name == spec.volume), None)
    if own is None:
        yield warning(f"{what}: there is none; lha_buildapp --create makes it")
    elif why := parse.refusal(spec, found):
        yield error(f"{what}: {why}")
    elif own.degraded:
        yield warning(f"{what}: it runs with a physical volume missing; 'pvs' says which")
    for pool in found:
        if own is not None and pool.name == own.pool and max(pool.full) >= _NEARLY_FULL:
            yield warning(f"{what}: its pool {pool.name} is filled to {max(pool.full):.0f}%")


# ---- DRBD ------------------------------------------------------------------------------------------------------------


def _drbd_tools(machine: Machine) -> Iterator[Finding]:
    for tool in ("drbdadm", "drbdsetup", "drbdmeta"):
        if not machine.program(tool):
            yield error(f"{tool} is missing; install drbd-utils")
    if complaint := machine.drbd_complaint():
        text = "until that is mended no replica starts, and a primary that lost its peer stays frozen"
        yield error(f"drbdadm cannot read its files (/etc/drbd.conf, /etc/drbd.d): {complaint}; {text}")
    if not machine.module("drbd"):
        text = "on Ubuntu it is in linux-modules-extra; on Debian in the kernel's own package"
        yield error(f"the kernel has no module drbd: {text}")
    if machine.program("lvm") and machine.lvm_reads_replicas():
        text = "any lvs by hand hangs while a replica stands still, and keeps it from becoming secondary"
        yield warning(
            f'LVM looks at /dev/drbd*: {text}; in /etc/lvm/lvm.conf, devices: global_filter=["r|/dev/drbd.*|"]'
        )
    helper = machine.parameter("drbd", "usermode_helper")
    if helper and helper != _HANDLER:
        text = f"it must be {_HANDLER}, or nothing asks the cluster when the peer is lost"
        yield error(f"module drbd calls {helper} (usermode_helper): {text}")
    if machine.starts_at_boot(_DRBD_UNIT):
        text = "it would bring replicas up at a boot, before truecl says so"
        yield error(f"{_DRBD_UNIT} is enabled: {text}; `systemctl disable {_DRBD_UNIT}`")


# ---- mount points ----------------------------------------------------------------------------------------------------


def _mount_point(who: str, mount: Path) -> Iterator[Finding]:
    try:
        with os.scandir(mount) as entries:
            occupied = not os.path.ismount(mount) and any(True for _ in entries)
    except FileNotFoundError:
        return
    except OSError as problem:
        yield error(f"{who}: mount point {mount}: {problem.strerror}")
        return
    if occupied:
        yield warning(f"{who}: mount point {mount} is not empty; a mount hides what is in it")
