"""Argument lists of LVM and dmsetup."""

from truecl.drivers.storage.lvm.parse import FIELDS
from truecl.model.config import LvmStorage

LVM = "/usr/sbin/lvm"
DMSETUP = "/usr/sbin/dmsetup"

_REPORT = ("--reportformat", "json", "--units", "b", "--nosuffix")


_NO_REPLICAS = "r|/dev/drbd.*|"


def own_filter() -> tuple[str, ...]:
    """Which devices the operator has LVM look at. Reads no disk; exit code 5 where nothing is said of that."""
    return (LVM, "lvmconfig", "devices/filter")


def sparing(command: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    """The command, without a look at DRBD's devices. `own`: the operator's filter, as `parse.patterns` gives it."""
    patterns = ",".join(f'"{pattern}"' for pattern in (_NO_REPLICAS, *own))
    return (*command[:2], "--config", f"devices/filter=[{patterns}]", *command[2:])


def name(spec: LvmStorage) -> str:
    return f"{spec.group}/{spec.volume}"


def look(group: str) -> tuple[str, ...]:
    """Of all volumes of a group, those that LVM hides too."""
    return (LVM, "lvs", "-a", *_REPORT, "-o", ",".join(FIELDS), group)


def groups() -> tuple[str, ...]:
    """Of every group: exported ones are here, and nowhere else."""
    return (LVM, "vgs", *_REPORT, "-o", "vg_name,vg_exported")


def everywhere() -> tuple[str, ...]:
    """Of every volume of every group."""
    return (LVM, "lvs", *_REPORT, "-o", ",".join(FIELDS))


def held(device: str) -> tuple[str, ...]:
    """Whose physical volume a device is, and what lies on it: a row for each piece of a volume."""
    return (LVM, "pvs", *_REPORT, "-o", "vg_name,lv_name", device)


def activate(spec: LvmStorage) -> tuple[str, ...]:
    """-K: in spite of the flag that keeps everybody else from it."""
    return (LVM, "lvchange", "-K", "-aey", name(spec))


def deactivate(spec: LvmStorage) -> tuple[str, ...]:
    return (LVM, "lvchange", "-an", name(spec))


def reserve(spec: LvmStorage) -> tuple[str, ...]:
    """Have neither a boot nor an ordinary `vgchange -ay` activate it. Writes the group's metadata."""
    return (LVM, "lvchange", "-qq", "-ky", "--setautoactivation", "n", name(spec))


def remove(mapped: str) -> tuple[str, ...]:
    """Take a mapped device away, whatever has become of its group. The kernel refuses while it is open."""
    return (DMSETUP, "remove", "--", mapped)


# ---- what lha_buildapp makes ----------------------------------------------------------------------------------------


def identity(spec: LvmStorage) -> tuple[str, ...]:
    return (LVM, "lvs", "--noheadings", "-o", "lv_uuid", name(spec))


def make_physical(device: str) -> tuple[str, ...]:
    """What stood there was looked at, and taken away."""
    return (LVM, "pvcreate", "-qq", "-y", "--", device)


def make_group(spec: LvmStorage) -> tuple[str, ...]:
    return (LVM, "vgcreate", "-qq", "-y", spec.group, *spec.physical)


def make(spec: LvmStorage, size: int) -> tuple[str, ...]:
    """What an older volume left in its place is taken away."""
    return (LVM, "lvcreate", "-qq", "-y", "-Wy", "-Zy", "-L", f"{size}b", "-n", spec.volume, spec.group)


def extend(spec: LvmStorage, size: int, only_try: bool = False) -> tuple[str, ...]:
    return (LVM, "lvextend", "-qq", *(("--test",) if only_try else ()), "-L", f"{size}b", name(spec))
