"""The kernel's watchdog interface (Documentation/watchdog/watchdog-api.rst): its calls, as numbers and bytes.

The numbers are those of asm-generic/ioctl.h: x86, ARM, RISC-V, s390.
"""

import fcntl
import os
import struct
from typing import Protocol

GETSUPPORT = 0x80285700
KEEPALIVE = 0x80045705
SETTIMEOUT = 0xC0045706
GETTIMEOUT = 0x80045707

HAS_SETTIMEOUT = 0x0080
HAS_MAGICCLOSE = 0x0100
"""It stops only when 'V' was written before it was closed. Without that it stops when whoever feeds it dies."""

_INFO = struct.Struct("=II32s")
_INT = struct.Struct("=i")


class Calls(Protocol):
    """The system calls. All raise OSError."""

    def open(self, path: str) -> int: ...
    def ioctl(self, descriptor: int, request: int, buffer: bytearray) -> None: ...
    def write(self, descriptor: int, data: bytes) -> None: ...
    def close(self, descriptor: int) -> None: ...


class KernelCalls:
    """The real ones."""

    def open(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def ioctl(self, descriptor: int, request: int, buffer: bytearray) -> None:
        fcntl.ioctl(descriptor, request, buffer)

    def write(self, descriptor: int, data: bytes) -> None:
        os.write(descriptor, data)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)


def support(calls: Calls, descriptor: int) -> tuple[int, str]:
    """What it can do (HAS_…), and what it calls itself."""
    buffer = bytearray(_INFO.size)
    calls.ioctl(descriptor, GETSUPPORT, buffer)
    options, _, identity = _INFO.unpack(buffer)
    return options, identity.split(b"\0")[0].decode("utf-8", "replace").strip()


def timeout(calls: Calls, descriptor: int) -> int:
    """Seconds."""
    buffer = bytearray(_INT.size)
    calls.ioctl(descriptor, GETTIMEOUT, buffer)
    return int(_INT.unpack(buffer)[0])


def set_timeout(calls: Calls, descriptor: int, seconds: int) -> None:
    """This feeds it as well."""
    calls.ioctl(descriptor, SETTIMEOUT, bytearray(_INT.pack(seconds)))


def feed(calls: Calls, descriptor: int) -> None:
    calls.ioctl(descriptor, KEEPALIVE, bytearray(_INT.size))
