"""The device mapper's devices, as sysfs shows them: no LVM command is needed, and none can hang here."""

from pathlib import Path
from typing import NamedTuple

_UUID = "LVM-"
"""The beginning of the UUID of every device that LVM made."""
_PARTS = ("_rimage_", "_rmeta_", "_mimage_", "_mlog", "_corig", "_wcorig", "_iorig", "_imeta", "_cvol", "_vorigin")
"""Hidden volumes that a volume is made of. LVM lets nobody else have such names."""


class Mapped(NamedTuple):
    device: str
    """'dm-3'."""
    name: str
    suspended: bool
    stacked: bool
    """It lies on other mapped devices."""


def mapper_name(group: str, volume: str) -> str:
    """Hyphens within a name are doubled, so that the one between the names can be told."""
    return f"{group.replace('-', '--')}-{volume.replace('-', '--')}"


def mapped(sys: Path, group: str, volume: str) -> tuple[Mapped | None, tuple[Mapped, ...]]:
    """The volume's device, None if it is not active, and what it was made of that is there. Raises OSError."""
    own = mapper_name(group, volume)
    main: Mapped | None = None
    parts: list[Mapped] = []
    for block in (sys / "block").iterdir():
        if not block.name.startswith("dm-"):
            continue
        try:
            name = (block / "dm" / "name").read_text().strip()
            if not name.startswith(own) or not (block / "dm" / "uuid").read_text().startswith(_UUID):
                continue
            suspended = (block / "dm" / "suspended").read_text().strip() != "0"
            below = any(slave.name.startswith("dm-") for slave in (block / "slaves").iterdir())
        except FileNotFoundError:
            continue  # it went while it was looked at
        found = Mapped(block.name, name, suspended, below)
        if name == own:
            main = found
        elif is_part(name, own):
            parts.append(found)
    return main, tuple(parts)


def is_part(name: str, own: str) -> bool:
    """'vg-lv_rimage_0', 'vg-lv-real' of 'vg-lv'; not 'vg-lv--2', which is another volume."""
    rest = name.removeprefix(own)
    if rest == name or not rest:
        return False
    return rest in ("-real", "-cow") or any(rest.startswith(part) for part in _PARTS)
