"""What file systems and their tools say: superblocks on a device, sysfs, exit codes of e2fsck and xfs_repair."""

import struct
from pathlib import Path
from uuid import UUID

from truecl.drivers.contract import Result

SUPERBLOCKS = 4096
"""Bytes from the start of a device that `signature` needs."""

_DMESG = "dmesg(1) may have more information after failed mount system call."
_EXT_MAGIC = 0xEF53
_HAS_JOURNAL = 0x4
_EXT3_INCOMPATIBLE = 0x2 | 0x4 | 0x10
"""filetype, needs recovery, meta_bg: ext3 knows these, and a file system with any other is ext4."""
_EXT3_RO_COMPATIBLE = 0x1 | 0x2 | 0x4
"""sparse_super, large_file, btree_dir."""


def signature(start: bytes) -> str:
    """'ext2', 'ext3', 'ext4' or 'xfs' by the superblock (Linux, Documentation/filesystems/ext4; XFS), '' if none."""
    if start[:4] == b"XFSB":
        return "xfs"
    block = start[1024:2048]
    if len(block) < 1024 or struct.unpack_from("<H", block, 0x38)[0] != _EXT_MAGIC:
        return ""
    compatible, incompatible, read_only = struct.unpack_from("<3I", block, 0x5C)
    if incompatible & ~_EXT3_INCOMPATIBLE or read_only & ~_EXT3_RO_COMPATIBLE:
        return "ext4"
    return "ext3" if compatible & _HAS_JOURNAL else "ext2"


def uuid(start: bytes) -> str:
    """Of the file system whose `signature` is there, as blkid writes it; '' if there is none."""
    found = signature(start)
    if not found:
        return ""
    at = 32 if found == "xfs" else 1024 + 0x68
    return str(UUID(bytes=start[at : at + 16]))


def superblock(sys: Path, device: str) -> str:
    """The kernel's driver ('ext4', 'xfs') that has a live superblock on the device ('loop3'); '' if there is none.

    It is there as long as the file system is mounted in any namespace. Raises OSError without sysfs.
    """
    drivers = {entry.name for entry in (sys / "fs").iterdir()}
    for driver in ("ext4", "xfs"):
        if driver in drivers and (sys / "fs" / driver / device).exists():
            return driver
    return ""


def errors(sys: Path, device: str) -> int:
    """How many errors ext3 or ext4 has noted in the superblock; 0 if unknown."""
    try:
        return int((sys / "fs" / "ext4" / device / "errors_count").read_text())
    except (OSError, ValueError):
        return 0


def e2fsck_refusal(result: Result) -> str:
    """Why a file system must not be mounted after this e2fsck run; '' if it may be (e2fsck(8), exit codes are bits)."""
    if result.timed_out or result.code is None:
        return f"e2fsck: {result.ending()}"
    code = result.code
    if code & ~3 == 0:
        # 2 asks for a reboot because a mounted file system was repaired. Ours is not mounted, so something else has it.
        return "e2fsck: it was repaired while in use elsewhere" if code & 2 else ""
    if code & 4:
        what = "damaged beyond what can be repaired safely; run e2fsck by hand"
    elif code & 8:
        what = "cannot be checked"
    elif code & 32:
        what = "the check was cancelled"
    else:
        what = f"e2fsck failed (exit code {code})"
    return f"{what}: {result.last_lines()}" if result.last_lines() else what


def xfs_repair_refusal(result: Result) -> str:
    """Why a file system must not be mounted after `xfs_repair -n` (xfs_repair(8): 1 is corruption); '' if it may be."""
    if result.timed_out or result.code is None:
        return f"xfs_repair: {result.ending()}"
    if result.code == 0:
        return ""
    what = "damaged; run xfs_repair by hand" if result.code == 1 else f"xfs_repair failed (exit code {result.code})"
    return f"{what}: {result.last_lines()}" if result.last_lines() else what


def mount_refusal(result: Result) -> str:
    """In the operator's words, why mount(8) failed."""
    said = result.last_lines(2).removeprefix("mount: ").replace(_DMESG, "")
    return said.strip(" ;") or f"mount: {result.ending()}"
