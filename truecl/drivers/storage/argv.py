"""What is told to the kernel about loop devices: ioctl numbers and structures (linux/loop.h), and our mark."""

import hashlib
import struct

from truecl.drivers.storage.parse import DIRECT_IO, LOOP_INFO
from truecl.model.ids import Generation

LOOP_CLR_FD = 0x4C01
LOOP_GET_STATUS64 = 0x4C05
LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82

_HEAD = struct.Struct("=2I")
_RESERVED = bytes(64)


def key(owner: str, image: str) -> str:
    """Names one image at one node, whatever the image's path means to others who see the same kernel."""
    return hashlib.sha256(f"{owner}\0{image}".encode()).hexdigest()[:16]


def mark(owner: str, image: str, generation: Generation) -> str:
    """At most 63 bytes, as lo_file_name allows; the owner's name in it is for people who look with losetup."""
    shown = "".join(c if c.isascii() and c.isalnum() or c in "-._" else "_" for c in owner)[:16]
    return f"truecl:{shown}:{key(owner, image)}:{generation}"


def configuration(descriptor: int, marked: str) -> bytes:
    """struct loop_config: all of the file, read and written, past the page cache where its file system can."""
    name = marked.encode("ascii")
    if len(name) > 63:
        raise ValueError(f"{marked!r} does not fit into lo_file_name")
    info = LOOP_INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, DIRECT_IO, name, b"", b"", 0, 0)
    return _HEAD.pack(descriptor, 0) + info + _RESERVED
