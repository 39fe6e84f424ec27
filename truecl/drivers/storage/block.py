"""What sysfs and /proc say of a block device: who has it, how large it is. Nothing here touches the device itself."""

from collections.abc import Iterator
from pathlib import Path

from truecl.drivers import holders
from truecl.drivers.storage.parse import number

SECTOR = 512
"""Bytes of the unit in which sysfs counts, whatever the device's own."""

_ALIVE = "by a file system"


def size(sys: Path, name: str) -> int:
    """Bytes of the device ('dm-3'); 0 if it is not there."""
    return SECTOR * number(sys / "class" / "block" / name / "size")


def users(sys: Path, proc: Path, name: str) -> Iterator[str]:
    """What the kernel itself has on the device or a partition of it: file systems, other devices. Raises OSError."""
    for each in (name, *_partitions(sys, name)):
        above = sorted(entry.name for entry in (sys / "class" / "block" / each / "holders").iterdir())
        yield from (f"by {device}" for device in above)
        device = (sys / "class" / "block" / each / "dev").read_text().strip()
        mounts = [f"mounted at {mount.point}" for mount in holders.own_mounts(proc) if mount.device == device]
        yield from mounts
        if not mounts and any((kind / each).exists() for kind in (sys / "fs").iterdir()):
            yield _ALIVE


def why_busy(sys: Path, proc: Path, name: str) -> str:
    """For an error message: who keeps the device from being detached."""
    try:
        here = list(users(sys, proc, name))
        device = (sys / "class" / "block" / name / "dev").read_text().strip()
    except OSError:
        return "by something unknown"
    far = [str(holder) for holder in holders.elsewhere(proc, device)]
    if far and _ALIVE in here:
        here.remove(_ALIVE)  # they say whose it is
    return "; ".join(here + far) or "opened by a process"


def _partitions(sys: Path, name: str) -> list[str]:
    block = sys / "class" / "block" / name
    return sorted(entry.name for entry in block.iterdir() if (entry / "partition").exists())
