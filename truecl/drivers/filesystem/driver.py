"""File systems: ext3, ext4 and xfs on a block device.

"Unmounted" is one thing only: the kernel has no superblock on the device (/sys/fs/ext4/DEVICE, /sys/fs/xfs/DEVICE). A
copy of the mount in another namespace keeps the superblock, and writes, while `umount` and `losetup -d` both return 0:
it is unmounted there too.
Mounts and checks run in children, since they wait for disks.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from truecl.drivers import holders
from truecl.drivers.contract import Facts, Loop, Runner, StepFailed, eventually, spec_of
from truecl.drivers.filesystem import argv, namespaces, parse
from truecl.drivers.holders import Mount
from truecl.model.config import FileSystem
from truecl.model.step import Instance, Over, Probe, Step

_BUSY = 1.0
"""Seconds for which an unmount is tried again while the device is busy: a dying process lets go of its files late."""
_ASKED = 3.0
"""The same, for processes that were asked to end."""
_MANY = 1000
"""Users that are ended at a time."""
_SHOWN = 5
_SETTLE = 2.0
"""Seconds that a superblock may stay after the last unmount."""


class FileSystemDriver:
    """`device_of` gives the name ('loop3') of the device that a volume's storage driver found by probing; `note` takes
    what is for the log alone."""

    def __init__(
        self,
        runner: Runner,
        loop: Loop,
        device_of: Callable[[Over], Awaitable[str | None]],
        *,
        note: Callable[[str], None] = lambda text: None,
        sys: Path = Path("/sys"),
        dev: Path = Path("/dev"),
        proc: Path = Path("/proc"),
        mount_timeout: float = 60.0,
        check_timeout: float = 3600.0,
    ) -> None:
        self._runner = runner
        self._loop = loop
        self._device_of = device_of
        self._note = note
        self._sys = sys
        self._dev = dev
        self._proc = proc
        self._mount_timeout = mount_timeout
        self._check_timeout = check_timeout

    async def up(self, step: Step, instance: Instance) -> None:
        spec = spec_of(step, FileSystem)
        try:
            await self._up(spec, step)
        except OSError as error:
            raise StepFailed(f"{spec.mount}: {error.strerror} ({error.filename})") from None

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        spec = spec_of(step, FileSystem)
        try:
            await self._down(spec, step, force)
        except OSError as error:
            raise StepFailed(f"{spec.mount}: {error.strerror} ({error.filename})") from None

    async def _up(self, spec: FileSystem, step: Step) -> None:
        device = await self._device(step)
        if device is None:
            raise StepFailed(f"{spec.mount}: its volume is not attached")
        if self._mounted_in_place(spec, device):
            return
        self._refuse_if_in_use(spec, device)
        command = argv.mount(spec, str(self._dev / device))
        await self._refuse_another(spec, device, step.uuid)
        _make_mount_point(spec)
        if spec.type == "xfs" and spec.fsck == "always":
            await self._replay_log(spec, device, command)
        await self._check(spec, device)
        await self._mount(spec, device, command)

    async def _down(self, spec: FileSystem, step: Step, force: bool) -> None:
        device = await self._device(step)
        if device is None:
            return
        deadline = self._loop.now() + _BUSY
        ends = [signal.SIGKILL] if force else [signal.SIGTERM, signal.SIGKILL]
        pause = 0.002
        while said := await self._unmount_all(device):
            if self._loop.now() >= deadline:
                if not ends or self._below(device):
                    raise StepFailed(f"{spec.mount}: cannot be unmounted: {self._why_busy(device) or said}")
                how = ends.pop(0)
                self._end_users(spec, device, how)
                deadline = self._loop.now() + (_ASKED if how is signal.SIGTERM else _BUSY)
            await self._loop.sleep(pause)
            pause = min(2 * pause, 0.05)
        said = await self._unmount_copies(spec, device)
        if not await eventually(self._loop, _SETTLE, lambda: not self._superblock(device)):
            why = "; ".join(str(holder) for holder in holders.elsewhere(self._proc, self._number(device)))
            why = said or why or "by the kernel itself (an NFS export?)"
            raise StepFailed(f"{spec.mount}: unmounted, yet still in use: {why}")

    async def probe(self, step: Step, instance: Instance) -> Probe:
        spec = spec_of(step, FileSystem)
        try:
            device = await self._device(step)
            if device is None or not parse.superblock(self._sys, device):
                return Probe.INACTIVE
            own = self._mounts(device)
        except (OSError, StepFailed):
            return Probe.UNKNOWN
        wanted = "ro" not in spec.options
        broken = wanted and any("ro" in mount.super_options or "shutdown" in mount.super_options for mount in own)
        return Probe.FAILED if broken else Probe.ACTIVE

    async def detail(self, step: Step, instance: Instance) -> Facts:
        spec = spec_of(step, FileSystem)
        try:
            device = await self._device(step)
            if device is None or not self._mounted_in_place(spec, device):
                return {}
            status = os.statvfs(spec.mount)
        except (OSError, StepFailed):
            return {}
        used = status.f_blocks - status.f_bfree
        percent = -(-100 * used // max(1, used + status.f_bavail))  # rounded up, as df does
        facts = {
            "device": str(self._dev / device),
            "type": spec.type,
            "size": str(status.f_blocks * status.f_frsize),
            "available": str(status.f_bavail * status.f_frsize),
            "used": str(percent),
        }
        if noted := parse.errors(self._sys, device):
            facts["note"] = f"the file system has noted {noted} error(s); run fsck"
        return facts

    # ---- up ---------------------------------------------------------------------------------------------------------

    def _refuse_if_in_use(self, spec: FileSystem, device: str) -> None:
        point = os.path.realpath(spec.mount)
        for mount in reversed(holders.own_mounts(self._proc)):
            if mount.point == point:
                raise StepFailed(f"mount point {spec.mount} is in use: {mount.source} ({mount.type}) is mounted there")
        if not self._superblock(device):
            return
        own = [f"mounted at {mount.point}" for mount in self._mounts(device)]
        far = [str(holder) for holder in holders.elsewhere(self._proc, self._number(device))]
        who = "; ".join(own + far) or "by the kernel itself"
        raise StepFailed(f"{spec.mount}: {self._dev / device} is in use already: {who}")

    async def _refuse_another(self, spec: FileSystem, device: str, uuid: str) -> None:
        """What is there must be the file system that was built: of its type, and of its UUID if that is known."""
        path = self._dev / device

        def read() -> bytes:
            with path.open("rb") as file:
                return file.read(parse.SUPERBLOCKS)

        try:
            start = await self._runner.call(f"read {path}", read, timeout=self._mount_timeout)
        except TimeoutError:
            raise StepFailed(f"{spec.mount}: {path} gives no answer within {self._mount_timeout:.0f} s") from None
        except OSError as error:
            raise StepFailed(f"{spec.mount}: cannot read {path}: {error.strerror}") from None
        found = parse.signature(start)
        if found != spec.type and not (spec.type == "ext4" and found in ("ext2", "ext3")):
            shown = found or "no file system of a known type"
            raise StepFailed(f"{spec.mount}: there is {shown} on {path}, but the configuration says {spec.type}")
        has = parse.uuid(start)
        if uuid and has != uuid:
            what = f"{path} has another file system than was built: {has}, not {uuid}"
            raise StepFailed(f"{spec.mount}: {what}; if that is meant: lha_buildapp --force")

    async def _replay_log(self, spec: FileSystem, device: str, command: tuple[str, ...]) -> None:
        """xfs_repair -n reports nonsense on a log that was not replayed, and only a mount replays it."""
        await self._mount(spec, device, command)
        if said := await self._unmount_all(device):
            raise StepFailed(f"{spec.mount}: {said}")
        if not await eventually(self._loop, _SETTLE, lambda: not self._superblock(device)):
            raise StepFailed(f"{spec.mount}: somebody uses it before its check")

    async def _check(self, spec: FileSystem, device: str) -> None:
        command = argv.check(spec, str(self._dev / device))
        if not command:
            return
        result = await self._runner.run(command, timeout=self._check_timeout)
        refusal = parse.xfs_repair_refusal(result) if spec.type == "xfs" else parse.e2fsck_refusal(result)
        if refusal:
            raise StepFailed(f"{spec.mount}: file system on {self._dev / device}: {refusal}")

    async def _mount(self, spec: FileSystem, device: str, command: tuple[str, ...]) -> None:
        result = await self._runner.run(command, timeout=self._mount_timeout)
        if not self._mounted_in_place(spec, device):
            raise StepFailed(f"{spec.mount}: not mounted: {parse.mount_refusal(result)}")

    # ---- down -------------------------------------------------------------------------------------------------------

    async def _unmount_all(self, device: str) -> str:
        """Unmount it everywhere in this namespace, the last mounted first. What umount said if one stays."""
        said = ""
        for mount in reversed(self._mounts(device)):
            result = await self._runner.run(argv.umount(mount.point), timeout=self._mount_timeout)
            if result.timed_out:
                raise StepFailed(f"{mount.point}: umount {result.ending()}")
            said = result.last_lines() or result.ending()
        return said if self._mounts(device) else ""

    async def _unmount_copies(self, spec: FileSystem, device: str) -> str:
        """In every other namespace that has a copy. Who keeps one, '' if nobody does."""
        said = []
        number = self._number(device)
        for holder in holders.elsewhere(self._proc, number, _MANY) if self._superblock(device) else ():
            work = partial(namespaces.unmount, self._proc, holder.pid, number)
            try:
                await self._runner.call(f"unmount {device} for process {holder.pid}", work, timeout=self._mount_timeout)
                self._note(
                    f"{spec.mount} was unmounted in the namespace of process {holder.pid} ({holder.command}) too"
                )
            except TimeoutError:
                said.append(f"{holder}, and it cannot be unmounted there within {self._mount_timeout:.0f} s")
            except OSError as error:
                said.append(f"{holder}, and it cannot be unmounted there: {error.strerror}")
        return "; ".join(said)

    def _why_busy(self, device: str) -> str:
        users = holders.users(self._proc, self._points(device), _SHOWN)
        return "; ".join([*self._below(device), *(str(user) for user in users)])

    def _below(self, device: str) -> list[str]:
        """What else is mounted below it: nobody's end would let it go."""
        points = self._points(device)
        return [
            f"{mount.source} ({mount.type}) is mounted below it at {mount.point}"
            for mount in holders.own_mounts(self._proc)
            if mount.device != self._number(device) and any(mount.point.startswith(point + "/") for point in points)
        ]

    def _points(self, device: str) -> tuple[str, ...]:
        return tuple(mount.point for mount in self._mounts(device))

    def _end_users(self, spec: FileSystem, device: str, how: signal.Signals) -> None:
        """Its programs have ended by now, so these are strangers: a shell that works there, a backup. An unmount that
        fails ends in a reset of the node, which ends these processes and all others."""
        held: dict[int, int] = {}
        try:
            for user in holders.users(self._proc, self._points(device), _MANY):
                with suppress(ProcessLookupError):
                    held[user.pid] = os.pidfd_open(user.pid)
            # Once more, now that no number can become another process's.
            for user in holders.users(self._proc, self._points(device), _MANY):
                if user.pid in held:
                    with suppress(ProcessLookupError):
                        signal.pidfd_send_signal(held[user.pid], how)
                        self._note(f"{spec.mount} is to be unmounted: {how.name} to {user}")
        finally:
            for descriptor in held.values():
                os.close(descriptor)

    # ---- what is there ----------------------------------------------------------------------------------------------

    async def _device(self, step: Step) -> str | None:
        return await self._device_of(step.over) if step.over is not None else None

    def _number(self, device: str) -> str:
        return (self._sys / "class" / "block" / device / "dev").read_text().strip()

    def _superblock(self, device: str) -> bool:
        return bool(parse.superblock(self._sys, device))

    def _mounts(self, device: str) -> list[Mount]:
        number = self._number(device)
        return [mount for mount in holders.own_mounts(self._proc) if mount.device == number]

    def _mounted_in_place(self, spec: FileSystem, device: str) -> bool:
        """At its mount point, on top, and writable unless the options say otherwise."""
        point = os.path.realpath(spec.mount)
        there = [mount for mount in holders.own_mounts(self._proc) if mount.point == point]
        if not there or there[-1].device != self._number(device):
            return False
        return "ro" in spec.options or not there[-1].read_only


def _make_mount_point(spec: FileSystem) -> None:
    path = Path(spec.mount)
    if not path.is_absolute():
        raise StepFailed(f"mount point {spec.mount} is not an absolute path")
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    except FileExistsError:
        raise StepFailed(f"mount point {spec.mount} is not a directory") from None
    except OSError as error:
        raise StepFailed(f"mount point {spec.mount} cannot be made: {error.strerror}") from None
