"""Storage `disk`: a block device that is there already, as a shared LUN.

There is nothing to activate, and so nothing in the kernel says whether an instance has it. A note in the run directory
does, which a boot takes away and a restart of the daemon does not: from up to down the disk is ACTIVE. Without a note
it is so too while the kernel has something on it, whoever put that there.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from truecl.drivers.contract import Facts, Loop, Runner, StepFailed, eventually, spec_of
from truecl.drivers.storage import block
from truecl.drivers.storage.parse import number
from truecl.model.config import DiskStorage
from truecl.model.step import Instance, Over, Probe, Step

_LEAVE = 2.0
"""Seconds for which a device may stay in use after what was on it has ended."""


class _Note(msgspec.Struct, frozen=True):
    """An instance of this node has the disk."""

    device: str
    """As the configuration names it."""
    name: str
    """The kernel's: 'sdb'. What is mounted from it may outlive the other name."""
    sequence: int
    """The kernel's diskseq (Linux 5.15); 0: it has none."""


class DiskDriver:
    """`run_directory`: this node's alone, emptied by a boot."""

    def __init__(
        self,
        runner: Runner,
        loop: Loop,
        *,
        run_directory: Path,
        sys: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        timeout: float = 10.0,
    ) -> None:
        self._runner = runner
        self._loop = loop
        self._run = run_directory
        self._sys = sys
        self._proc = proc
        self._timeout = timeout

    async def up(self, step: Step, instance: Instance) -> None:
        device = spec_of(step, DiskStorage).device
        name = self._name(device)
        if name is None:
            raise StepFailed(f"disk {device} is missing on this node")
        note = _Note(device, name, self._sequence(name))
        if self._noted(device) == note:
            return
        if users := self._users(name):
            raise StepFailed(f"disk {device} is in use on this node already: {'; '.join(users)}")
        if number(self._sys / "class" / "block" / name / "ro"):
            raise StepFailed(f"disk {device} is read-only")
        await self._refuse_unfit(device)
        try:
            self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._path(device)
            new = path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(note))
            new.replace(path)
        except OSError as error:
            raise StepFailed(f"disk {device}: cannot write {error.filename}: {error.strerror}") from None

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        """`force`: what programs wrote to the disk itself, and the kernel still has, is not waited for."""
        device = spec_of(step, DiskStorage).device
        note = self._noted(device)
        name = note.name if note is not None else self._name(device)
        if name is not None:
            if not await eventually(self._loop, _LEAVE, lambda: not self._users(name)):
                raise StepFailed(f"disk {device} is still in use: {'; '.join(self._users(name))}")
            if note is not None and not force and self._there(note):
                await self._flush(device)
        self._path(device).unlink(missing_ok=True)

    async def probe(self, step: Step, instance: Instance) -> Probe:
        device = spec_of(step, DiskStorage).device
        try:
            note = self._noted(device)
            if note is not None:
                return Probe.ACTIVE if self._there(note) else Probe.FAILED
            name = self._name(device)
            return Probe.ACTIVE if name is not None and self._users(name) else Probe.INACTIVE
        except StepFailed:
            return Probe.UNKNOWN

    async def detail(self, step: Step, instance: Instance) -> Facts:
        device = spec_of(step, DiskStorage).device
        with suppress(StepFailed):
            note = self._noted(device)
            if note is not None:
                return {"device": device, "type": "disk", "size": str(block.size(self._sys, note.name))}
        return {}

    async def device(self, over: Over) -> str | None:
        """The kernel's name of the disk, also of one that went while an instance had it."""
        if not isinstance(over, DiskStorage):
            raise TypeError(f"{type(over).__name__} is no disk")
        note = self._noted(over.device)
        return note.name if note is not None else self._name(over.device)

    # ---- what is there ----------------------------------------------------------------------------------------------

    def _name(self, device: str) -> str | None:
        """Raises StepFailed for what is no block device."""
        try:
            status = Path(device).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StepFailed(f"disk {device}: {error.strerror}") from None
        if not stat.S_ISBLK(status.st_mode):
            raise StepFailed(f"{device} is no disk")
        known = self._sys / "dev" / "block" / f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        try:
            return known.readlink().name
        except OSError:
            return None  # a device node without its device

    def _sequence(self, name: str) -> int:
        return number(self._sys / "class" / "block" / name / "diskseq")

    def _there(self, note: _Note) -> bool:
        return (self._sys / "class" / "block" / note.name).exists() and self._sequence(note.name) == note.sequence

    def _users(self, name: str) -> list[str]:
        """Raises StepFailed: that cannot be told."""
        if not (self._sys / "class" / "block" / name).exists():
            # A file system may outlive its disk.
            return ["by a file system"] if any((each / name).exists() for each in (self._sys / "fs").iterdir()) else []
        try:
            return list(block.users(self._sys, self._proc, name))
        except OSError as error:
            raise StepFailed(f"cannot tell who has {name}: {error.strerror}") from None

    def _path(self, device: str) -> Path:
        return self._run / hashlib.sha256(device.encode()).hexdigest()[:16]

    def _noted(self, device: str) -> _Note | None:
        try:
            return msgspec.json.decode(self._path(device).read_bytes(), type=_Note)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise StepFailed(f"disk {device}: cannot read {self._path(device)}: {error}") from None

    # ---- what may hang ----------------------------------------------------------------------------------------------

    async def _refuse_unfit(self, device: str) -> None:
        """An open that excludes all others fails where anything in the kernel has the disk: swap, a bridge of disks."""

        def look() -> bytes:
            descriptor = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return str(os.lseek(descriptor, 0, os.SEEK_END)).encode()
            finally:
                os.close(descriptor)

        if int(await self._child(f"open {device}", device, look)) == 0:
            raise StepFailed(f"disk {device} has no size: no medium, or no path to it")

    async def _flush(self, device: str) -> None:
        def flush() -> bytes:
            descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            return b""

        await self._child(f"write out {device}", device, flush)

    async def _child(self, what: str, device: str, function: Callable[[], bytes]) -> bytes:
        try:
            return await self._runner.call(what, function, timeout=self._timeout)
        except TimeoutError:
            raise StepFailed(f"disk {device} gives no answer within {self._timeout:.0f} s") from None
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise StepFailed(f"disk {device} is in use on this node already, by something in the kernel") from None
            raise StepFailed(f"cannot {what}: {error.strerror}") from None
