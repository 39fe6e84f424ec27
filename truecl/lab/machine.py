"""What the machine must have for a lab."""

import os
from pathlib import Path

from truecl.lab import cgroups
from truecl.lab.errors import LabError

TOOLS = ("ip", "tc", "nsenter", "unshare", "setsid", "mkfs.ext4")


def check_machine() -> None:
    """Raises LabError."""
    if os.geteuid() != 0:
        raise LabError("a lab needs root (namespaces, loop devices): run this as root")
    missing = [tool for tool in TOOLS if not _found(tool)]
    if missing:
        raise LabError(f"missing: {', '.join(missing)}; apt install iproute2 util-linux e2fsprogs")
    try:
        cgroups.mount_point()
    except FileNotFoundError as problem:
        raise LabError(f"{problem}: mount -t cgroup2 none /sys/fs/cgroup") from None


def _found(tool: str) -> bool:
    path = (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin")
    return any(Path(directory, tool).exists() for directory in path if directory)
