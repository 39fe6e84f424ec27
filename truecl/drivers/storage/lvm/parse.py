"""What LVM's reports say, and which volumes may be used after that."""

import json
import re
from typing import Any

import msgspec

from truecl.model.config import LvmStorage

FIELDS = (
    *("vg_name", "lv_name", "lv_size", "lv_attr", "segtype", "lv_skip_activation", "lv_autoactivation"),
    *("lv_health_status", "pool_lv", "data_percent", "metadata_percent", "origin", "lv_merging", "vg_free"),
)

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NO_VOLUME = ("thin-pool", "cache-pool", "vdo-pool", "error", "zero")
"""Segment types on which nothing can lie."""


class LogicalVolume(msgspec.Struct, frozen=True):
    group: str
    name: str
    size: int
    """Bytes."""
    attributes: str
    """lv_attr, ten letters (lvs(8))."""
    segment: str
    reserved: bool
    """Neither a boot nor an ordinary activation command activates it (`argv.reserve`)."""
    health: str
    """'' if all is well."""
    pool: str
    origin: str
    merging: bool
    full: tuple[float, float]
    """Percent of a pool's data and of its metadata."""
    free: int
    """Bytes of its group that no volume has."""

    @property
    def writable(self) -> bool:
        return self.attributes[1:2] in ("w", "")

    @property
    def degraded(self) -> bool:
        """A physical volume beneath it is missing. LVM activates what still has all its data: raid."""
        return self.health == "partial" or self.attributes[8:9] == "p"

    @property
    def snapshot(self) -> bool:
        """One that lives as long as its origin; a thin volume that began as a snapshot is none."""
        return self.segment == "snapshot" or self.attributes[:1] in ("s", "S")


def patterns(output: bytes) -> tuple[str, ...]:
    """Of `argv.own_filter`: 'filter=["a|/dev/sda|","r|.*|"]', each as it is written there."""
    return tuple(_QUOTED.findall(output.decode(errors="replace")))


def volumes(output: bytes) -> tuple[LogicalVolume, ...]:
    """Raises ValueError for what is no report of `argv.look`."""
    return tuple(_volume(row) for row in _rows(output, "lv"))


def groups(output: bytes) -> dict[str, bool]:
    """Names of the volume groups: is it exported? Raises ValueError."""
    return {str(row.get("vg_name", "")): bool(row.get("vg_exported")) for row in _rows(output, "vg")}


def held(output: bytes) -> tuple[str, tuple[str, ...]]:
    """Of `argv.held`: the group, '' for none, and its volumes that lie there. Raises ValueError."""
    rows = _rows(output, "pv")
    group = next((str(row["vg_name"]) for row in rows if row.get("vg_name")), "")
    return group, tuple(sorted({str(row["lv_name"]).strip("[]") for row in rows if row.get("lv_name")}))


def refusal(spec: LvmStorage, found: tuple[LogicalVolume, ...]) -> str:
    """Why the volume may not be activated; '' if it may be. `found` are all volumes of its group."""
    own = next((each for each in found if each.name == spec.volume), None)
    if own is None:
        return f"there is no such volume in group {spec.group}"
    if own.segment in _NO_VOLUME:
        return f"it is of type {own.segment}, not a volume"
    if own.snapshot:
        return f"it is a snapshot of {own.origin}, and lives only as long"
    if own.merging:
        return "a snapshot is being merged into it; wait until that has ended"
    if not own.writable:
        return "it is read-only; 'lvchange -prw' changes that"
    if own.degraded and not own.segment.startswith("raid"):
        return "a physical volume that it lies on is missing; 'pvs' says which"
    if own.size < spec.size:
        return f"it has {shown(own.size)}, and the configuration says {shown(spec.size)}"
    if why := _pool_refusal(own, found):
        return why
    if not own.reserved:
        return f"any boot would activate it; 'lvchange -ky --setautoactivation n {spec.group}/{spec.volume}' ends that"
    return ""


def _pool_refusal(own: LogicalVolume, found: tuple[LogicalVolume, ...]) -> str:
    pool = next((each for each in found if own.pool and each.name == own.pool), None)
    if pool is None:
        return ""
    data, metadata = pool.full
    if pool.health in ("out_of_data", "metadata_read_only", "failed") or max(data, metadata) >= 100:
        what = "metadata" if metadata >= 100 or pool.health == "metadata_read_only" else "data"
        return f"its pool {pool.name} is full ({what}); 'lvextend' makes it larger"
    return ""


def elsewhere(spec: LvmStorage, groups: dict[str, bool], found: tuple[LogicalVolume, ...]) -> str:
    """Why the group cannot be looked at, from what there is instead; '' if that is not known."""
    if groups.get(spec.group):
        return f"group {spec.group} is exported; 'vgimport {spec.group}' takes it back"
    if spec.group in groups:
        return ""
    same = sorted({each.group for each in found if each.name == spec.volume})
    hint = f"; a volume of that name is in group {', '.join(same)}: was the group renamed?" if same else ""
    return f"there is no volume group {spec.group}{hint}"


def shown(size: int) -> str:
    """Bytes as the configuration has them: '128M'."""
    for unit, factor in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.6g}{unit}"
    return str(size)


def _rows(output: bytes, kind: str) -> list[dict[str, Any]]:
    try:
        report = json.loads(output)["report"]
        rows = [row for part in report for row in part.get(kind, [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"no report of LVM: {output[:60]!r}") from None
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a report of LVM has rows that are none")
    return rows


def _volume(row: dict[str, Any]) -> LogicalVolume:
    try:
        return LogicalVolume(
            group=str(row["vg_name"]),
            name=str(row["lv_name"]).strip("[]"),
            size=int(row["lv_size"]),
            attributes=str(row["lv_attr"]),
            segment=str(row["segtype"]),
            reserved=bool(row["lv_skip_activation"]),
            health=str(row["lv_health_status"]),
            pool=str(row["pool_lv"]).strip("[]"),
            origin=str(row["origin"]).strip("[]"),
            merging=str(row["lv_merging"]) == "merging",
            full=(float(row["data_percent"] or 0), float(row["metadata_percent"] or 0)),
            free=int(row["vg_free"]),
        )
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"a report of LVM lacks fields: {str(row)[:200]}") from None
