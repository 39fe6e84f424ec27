"""A mounted file system grows to the size of what it lies on."""

import os
from pathlib import Path

from truecl.drivers import holders
from truecl.drivers.contract import Runner, StepFailed
from truecl.model.config import FileSystem

_TIMEOUT = 300.0


async def spread(runner: Runner, filesystem: FileSystem, device: str, proc: Path = Path("/proc")) -> str:
    """`device`: the path of what it lies on; '': what it is mounted from. What was done. Raises StepFailed."""
    point = os.path.realpath(filesystem.mount)
    mount = next((each for each in reversed(holders.own_mounts(proc)) if each.point == point), None)
    if mount is None:
        raise StepFailed(f"{filesystem.mount} is not mounted")
    before = _size(filesystem.mount)
    command = (
        ("/usr/sbin/xfs_growfs", filesystem.mount)
        if filesystem.type == "xfs"
        else ("/usr/sbin/resize2fs", device or mount.source)
    )
    result = await runner.run(command, timeout=_TIMEOUT)
    if not result.ok:
        raise StepFailed(f"{filesystem.mount}: {command[0]}: {result.last_lines() or result.ending()}")
    return f"{filesystem.mount} grew from {before >> 20} MiB to {_size(filesystem.mount) >> 20} MiB"


def _size(mount: str) -> int:
    status = os.statvfs(mount)
    return status.f_blocks * status.f_frsize
