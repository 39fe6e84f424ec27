"""Storage `file`: a raw image attached to a loop device.

Several nodes may share one kernel (the lab), and then each sees the others' loop devices. So every device that is
attached here carries a mark in its lo_file_name: whose, which image, for which generation. Only what carries this
owner's mark is ever detached. The mark is set by the very ioctl that attaches (LOOP_CONFIGURE, Linux 5.8), so that no
crash can leave a device that nobody knows.

Whatever touches the image, and even LOOP_GET_STATUS64 (it asks the image's file system for attributes), may hang on a
dead NFS server, and runs in a child. What is known of a device stays true while its diskseq (Linux 5.15) does not
change; so most probes need no child.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

import msgspec

from truecl.drivers.contract import Facts, Loop, Runner, StepFailed, eventually, spec_of
from truecl.drivers.storage import argv, block, parse
from truecl.drivers.storage.parse import Attachment
from truecl.model.config import FileStorage
from truecl.model.step import Instance, Over, Probe, Step

_ATTEMPTS = 32
"""Free devices tried in a row, when others take them first."""
_LEAVE = 2.0
"""Seconds that a device may stay after LOOP_CLR_FD: udev looks at new devices for a moment."""


class FileStorageDriver:
    """`owner` names this node among all that share its kernel, and must stay the same over restarts."""

    def __init__(
        self,
        runner: Runner,
        loop: Loop,
        owner: str,
        *,
        sys: Path = Path("/sys"),
        dev: Path = Path("/dev"),
        proc: Path = Path("/proc"),
        timeout: float = 10.0,
    ) -> None:
        self._runner = runner
        self._loop = loop
        self._owner = owner
        self._sys = sys
        self._dev = dev
        self._proc = proc
        self._timeout = timeout
        self._known: dict[str, Attachment] = {}

    async def up(self, step: Step, instance: Instance) -> None:
        image = spec_of(step, FileStorage).image
        own = argv.key(self._owner, image)
        mark = argv.mark(self._owner, image, instance.generation)

        def attach() -> bytes:
            return msgspec.msgpack.encode(_attach(self._sys, self._dev, image, own, mark))

        answer = await self._child(f"attach {image}", attach)
        attached = msgspec.msgpack.decode(answer, type=Attachment)
        self._remember(attached)
        if await self.probe(step, instance) is not Probe.ACTIVE:
            raise StepFailed(f"{image}: attached to /dev/{attached.name}, but it is not there any more")

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        image = spec_of(step, FileStorage).image
        for attached in await self._own(image):
            if attached.generation > instance.generation:
                raise StepFailed(f"{image}: attached for generation {attached.generation}, which is a newer one")
            await self._detach(image, attached, flush=not force)
        others = await self._by_hand(image)
        if others:
            names = ", ".join(f"/dev/{other.name}" for other in others)
            raise StepFailed(f"{image}: {names} is attached to it by hand; 'losetup -d {names}' detaches it")

    async def probe(self, step: Step, instance: Instance) -> Probe:
        image = spec_of(step, FileStorage).image
        try:
            there = await self._own(image) or await self._by_hand(image)
        except StepFailed:
            return Probe.UNKNOWN
        return Probe.ACTIVE if there else Probe.INACTIVE

    async def detail(self, step: Step, instance: Instance) -> Facts:
        image = spec_of(step, FileStorage).image
        try:
            own = await self._own(image)
        except StepFailed:
            return {}
        if not own:
            return {}
        size = str(block.size(self._sys, own[0].name))
        facts = {"device": f"/dev/{own[0].name}", "type": "file", "size": size}
        if not parse.number(self._sys / "block" / own[0].name / "loop" / "dio"):
            facts["note"] = "through the page cache"
        return facts

    async def device(self, over: Over) -> str | None:
        """Name ('loop3') of the device with this node's mark for the image. Raises StepFailed: that cannot be told."""
        if not isinstance(over, FileStorage):
            raise TypeError(f"{type(over).__name__} is no image")
        own = await self._own(over.image)
        return own[0].name if own else None

    async def _own(self, image: str) -> list[Attachment]:
        key = argv.key(self._owner, image)
        return [attached for attached in await self._attachments() if attached.key == key]

    async def _by_hand(self, image: str) -> list[Attachment]:
        """Writable attachments of the image that carry no mark at all: an operator's losetup. They can be written."""
        unmarked = [attached for attached in await self._attachments() if not attached.key and attached.writable]
        if not unmarked:
            return []

        def identify() -> bytes:
            try:
                return msgspec.msgpack.encode(_identity(image))
            except (FileNotFoundError, NotADirectoryError):
                return msgspec.msgpack.encode((0, 0))

        identity = msgspec.msgpack.decode(await self._child(f"look at {image}", identify), type=tuple[int, int])
        return [attached for attached in unmarked if attached.backing == identity]

    async def _attachments(self) -> list[Attachment]:
        """All of this kernel. Raises StepFailed if that cannot be told."""
        try:
            bound = parse.bound(self._sys)
        except OSError as error:
            raise StepFailed(f"cannot read {self._sys}/block: {error.strerror}") from None
        self._known = {name: known for name, known in self._known.items() if bound.get(name, 0) == known.sequence > 0}
        unknown = tuple(name for name in bound if name not in self._known)
        if unknown:
            answer = await self._child(
                "look at loop devices", lambda: msgspec.msgpack.encode(_survey(self._sys, self._dev, unknown))
            )
            found = msgspec.msgpack.decode(answer, type=list[Attachment])
        else:
            found = []
        complete = [self._known[name] for name in bound if name in self._known] + found
        for attached in found:
            self._remember(attached)
        return complete

    async def _detach(self, image: str, attached: Attachment, flush: bool) -> None:
        node = self._dev / attached.name
        await self._child(f"detach {node}", lambda: _clear(self._sys, node, attached, flush))
        if not await eventually(self._loop, _LEAVE, lambda: not self._still(attached)):
            raise StepFailed(f"{image}: {node} is still in use: {block.why_busy(self._sys, self._proc, attached.name)}")

    def _still(self, attached: Attachment) -> bool:
        there = self._sys / "block" / attached.name
        return (there / "loop" / "backing_file").exists() and (
            not attached.sequence or parse.number(there / "diskseq") == attached.sequence
        )

    def _remember(self, attached: Attachment) -> None:
        if attached.sequence:
            self._known[attached.name] = attached

    async def _child(self, what: str, function: Callable[[], bytes]) -> bytes:
        try:
            return await self._runner.call(what, function, timeout=self._timeout)
        except TimeoutError:
            late = f"no answer within {self._timeout:.0f} s; does the file system of the image hang?"
            raise StepFailed(f"cannot {what}: {late}") from None
        except OSError as error:
            raise StepFailed(f"cannot {what}: {error.strerror}") from None


# ---- what runs in a child -------------------------------------------------------------------------------------------


def _identity(image: str) -> tuple[int, int]:
    """Device and inode numbers, as loop_info64 has them (the kernel's and glibc's encodings of a device agree)."""
    status = Path(image).stat()
    return status.st_dev, status.st_ino


def _survey(sys: Path, dev: Path, names: tuple[str, ...]) -> list[Attachment]:
    """What is behind each of the devices; those that lost their file meanwhile are left out."""
    found = []
    for name in names:
        sequence = parse.number(sys / "block" / name / "diskseq")
        descriptor = os.open(dev / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            info = bytearray(parse.LOOP_INFO.size)
            ioctl(descriptor, argv.LOOP_GET_STATUS64, info)
        except OSError as error:
            if error.errno == errno.ENXIO:
                continue
            raise
        finally:
            os.close(descriptor)
        unchanged = parse.number(sys / "block" / name / "diskseq") == sequence
        found.append(parse.attachment(name, sequence if unchanged else 0, bytes(info)))
    return found


def _attach(sys: Path, dev: Path, image: str, own: str, mark: str) -> Attachment:
    """Attach the image, unless it is attached for this mark already. Raises StepFailed with the operator's reason."""
    descriptor = _open_image(image)
    identity = _identity(image)
    for attached in _survey(sys, dev, tuple(parse.bound(sys))):
        if attached.mark == mark and not attached.leaving:
            return attached
        if attached.key == own:
            state = "is being detached from" if attached.leaving else "is in use on this node already, by"
            raise StepFailed(f"image {image} {state} /dev/{attached.name} (generation {attached.generation})")
        if not attached.key and attached.writable and attached.backing == identity:
            raise StepFailed(f"image {image} is in use on this node already: /dev/{attached.name}, attached by hand")
    control = os.open(dev / "loop-control", os.O_RDWR | os.O_CLOEXEC)
    for _ in range(_ATTEMPTS):
        name = f"loop{ioctl(control, argv.LOOP_CTL_GET_FREE)}"
        device = os.open(dev / name, os.O_RDWR | os.O_CLOEXEC)
        try:
            ioctl(device, argv.LOOP_CONFIGURE, argv.configuration(descriptor, mark))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        else:
            return _survey(sys, dev, (name,))[0]
        finally:
            os.close(device)
    raise StepFailed(f"image {image}: no loop device is free for long enough to take it")


def _open_image(image: str) -> int:
    try:
        descriptor = os.open(image, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise StepFailed(f"image {image} is missing") from None
    except IsADirectoryError:
        raise StepFailed(f"image {image} is a directory, not a file") from None
    except OSError as error:
        raise StepFailed(f"image {image} cannot be opened: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise StepFailed(f"image {image} is not a regular file")
    if status.st_size < 512:
        raise StepFailed(f"image {image} is empty")
    return descriptor


def _clear(sys: Path, node: Path, attached: Attachment, flush: bool) -> bytes:
    """LOOP_CLR_FD, after one more look whether it is still the same attachment."""
    descriptor = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        now = _survey(sys, node.parent, (node.name,))
        if not now or (now[0].mark, now[0].sequence) != (attached.mark, attached.sequence):
            return b""
        if flush:
            with suppress(OSError):  # a broken image must be detachable; the file system above it has seen the error
                os.fsync(descriptor)
        ioctl(descriptor, argv.LOOP_CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(descriptor)
    return b""
