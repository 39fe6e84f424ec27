"""Argument lists of mount, umount, e2fsck and xfs_repair."""

import re

from truecl.drivers.contract import StepFailed
from truecl.model.config import FileSystem

MOUNT = "/usr/bin/mount"
UMOUNT = "/usr/bin/umount"
E2FSCK = "/usr/sbin/e2fsck"
XFS_REPAIR = "/usr/sbin/xfs_repair"

_OPTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=/+@%-]*")
_NOT_OURS = {"bind", "rbind", "move", "remount", "loop", "user", "users", "fstab", "noauto", "owner", "group"}


def mount(spec: FileSystem, device: str) -> tuple[str, ...]:
    """No helper programs (-i), no mtab (-n); the type is given, so nothing is guessed. Raises StepFailed."""
    for option in spec.options:
        if not _OPTION.fullmatch(option) or option.partition("=")[0] in _NOT_OURS:
            raise StepFailed(f"{spec.mount}: mount option {option!r} cannot be used here")
    options = ("-o", ",".join(spec.options)) if spec.options else ()
    return (MOUNT, "-i", "-n", "-t", spec.type, *options, "--", device, spec.mount)


def umount(point: str) -> tuple[str, ...]:
    """Never lazily, never by force: what is still used must stay visible. The path is not followed if it is a link."""
    return (UMOUNT, "-i", "-n", "-c", "--", point)


def check(spec: FileSystem, device: str) -> tuple[str, ...]:
    """What is run before mounting; () if nothing. `preen` of XFS is the mount itself, which replays the log."""
    if spec.fsck == "never":
        return ()
    if spec.type == "xfs":
        return (XFS_REPAIR, "-n", device) if spec.fsck == "always" else ()
    return (E2FSCK, "-p", *(("-f",) if spec.fsck == "always" else ()), device)
