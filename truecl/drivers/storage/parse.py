"""What the kernel says about loop devices: `struct loop_info64` (linux/loop.h), sysfs, and our own mark in it."""

import re
import struct
from pathlib import Path

import msgspec

from truecl.model.ids import Generation

LOOP_INFO = struct.Struct("=5Q4I64s64s32s2Q")
"""struct loop_info64: device, inode, rdevice, offset, sizelimit; number, 2 × encrypt, flags; file, crypt, key; init."""

READ_ONLY = 1
AUTOCLEAR = 4
DIRECT_IO = 16

_MARK = re.compile(r"truecl:[^:]*:([0-9a-f]{16}):([0-9]{1,19})")


class Attachment(msgspec.Struct, frozen=True):
    """One loop device with a file behind it."""

    name: str
    """'loop3'."""
    sequence: int
    """The kernel's diskseq: never used twice in one boot, changed by every attach and detach. 0: kernel has none."""
    backing: tuple[int, int]
    """Device and inode numbers of the file."""
    flags: int
    mark: str
    """lo_file_name: our mark, or the path that losetup left there."""

    @property
    def key(self) -> str:
        """The part of our mark that says whose and which image; '' if it is not ours."""
        match = _MARK.fullmatch(self.mark)
        return match[1] if match else ""

    @property
    def generation(self) -> Generation:
        match = _MARK.fullmatch(self.mark)
        return Generation(int(match[2]) if match else 0)

    @property
    def writable(self) -> bool:
        return not self.flags & READ_ONLY

    @property
    def leaving(self) -> bool:
        """It detaches itself when its last user is gone."""
        return bool(self.flags & AUTOCLEAR)


def attachment(name: str, sequence: int, info: bytes) -> Attachment:
    """Of LOOP_GET_STATUS64's answer. Raises ValueError if it has another size."""
    if len(info) != LOOP_INFO.size:
        raise ValueError(f"loop_info64 of {len(info)} bytes, expected {LOOP_INFO.size}")
    fields = LOOP_INFO.unpack(info)
    mark = fields[9].split(b"\0", 1)[0].decode("utf-8", "replace")
    return Attachment(name, sequence, (fields[0], fields[1]), fields[8], mark)


def bound(sys: Path) -> dict[str, int]:
    """Loop devices that have a file behind them, with their diskseq. Raises OSError without sysfs."""
    found = {}
    for block in sorted((sys / "block").iterdir()):
        if block.name.startswith("loop") and (block / "loop" / "backing_file").exists():
            found[block.name] = number(block / "diskseq")
    return found


def number(path: Path) -> int:
    """A number that sysfs shows; 0 if it does not (any more)."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
