"""Volumes as lha_buildapp sees them: are they there, how large are they, what would have to be made?

Of a logical volume only LVM's metadata are read here; nothing is activated.
"""

import os
import stat
from pathlib import Path

from truecl.drivers.build.signatures import described, signatures, wipe
from truecl.drivers.contract import Runner, StepFailed
from truecl.drivers.storage import block
from truecl.drivers.storage.lvm import argv, parse
from truecl.drivers.storage.lvm.parse import LogicalVolume
from truecl.drivers.storage.lvm.tool import Lvm
from truecl.model.build import Seen
from truecl.model.config import AppConfig, Backing, DiskStorage, DrbdStorage, FileStorage, LvmStorage, NoStorage

_LOOK_TIME = 20.0
_MAKE_TIME = 120.0
PHYSICAL = "LVM2_member"
"""libblkid's name of a physical volume."""


def backing(app: AppConfig, name: str) -> Backing | None:
    """What the volume lies on, or is; None for one without storage."""
    storage = next((each.storage for each in app.volumes if each.name == name), None)
    storage = storage.on if isinstance(storage, DrbdStorage) else storage
    return None if isinstance(storage, NoStorage) else storage


class Volumes:
    def __init__(self, runner: Runner, lvm: Lvm, *, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._runner, self._tool, self._sys, self._proc = runner, lvm, sys, proc

    async def look(self, app: AppConfig) -> Seen:
        """All of the application's."""
        seen = Seen()
        for volume in app.volumes:
            on = backing(app, volume.name)
            if on is not None:
                seen = joined(seen, await self._look_at(f"volume {volume.name}", on, _replicated(app, volume.name)))
        return seen

    async def make(self, app: AppConfig, name: str, agreed: str, least: int = 0) -> str:
        """What was done, '' for nothing. `agreed`: what may be lost. `least`: bytes, where that is more than the
        configuration says. Raises StepFailed."""
        on = backing(app, name)
        if not isinstance(on, LvmStorage):
            raise StepFailed(f"volume {name} cannot be made here: only logical volumes are")
        done = []
        there = await self._volumes(on)
        if there is None:
            done.append(await self._make_group(on, agreed))
            there = ()
        if all(each.name != on.volume for each in there):
            if not on.size:
                raise StepFailed(f"volume {name} has no size in the application's file")
            size = max(on.size, least)
            await self._lvm(argv.make(on, size))
            done.append(f"made logical volume {argv.name(on)} of {parse.shown(size)}")
        await self._lvm(argv.deactivate(on))  # which fails for one that somebody else has
        await self._lvm(argv.reserve(on))
        return "; ".join(done) or f"reserved logical volume {argv.name(on)}: nothing but truecl activates it"

    async def grow(self, app: AppConfig, name: str, size: int, only_try: bool = False) -> str:
        """What was done, '' for nothing. Raises StepFailed."""
        on = backing(app, name)
        if not isinstance(on, LvmStorage):
            raise StepFailed(f"volume {name} is no logical volume")
        own = next((each for each in await self._volumes(on) or () if each.name == on.volume), None)
        if own is None:
            raise StepFailed(f"there is no logical volume {argv.name(on)}")
        if own.size >= size:
            return "" if only_try else f"logical volume {argv.name(on)} has {parse.shown(own.size)} already"
        await self._lvm(argv.extend(on, size, only_try))
        return "" if only_try else f"logical volume {argv.name(on)} grown to {parse.shown(size)}"

    # ---- looks ------------------------------------------------------------------------------------------------------

    async def _look_at(self, name: str, on: Backing, replicated: bool) -> Seen:
        try:
            match on:
                case LvmStorage():
                    return await self._look_at_logical(name, on, replicated)
                case DiskStorage():
                    return Seen(facts={name: str(self._size_of_disk(on.device))})
                case FileStorage():
                    return Seen(facts={name: str(await self._size_of_image(on.image))})
        except StepFailed as failed:
            return Seen(problems=(f"{name}: {failed.reason}",))

    async def _look_at_logical(self, name: str, on: LvmStorage, replicated: bool) -> Seen:
        there = await self._volumes(on)
        if there is None:
            return await self._look_at_devices(name, on)
        own = next((each for each in there if each.name == on.volume), None)
        shown = f"logical volume {argv.name(on)}"
        if own is None and not on.size:
            raise StepFailed(f"there is no {shown}, and no size to make it with")
        if own is None:
            return Seen(missing={name: f"{shown} of {parse.shown(on.size)}"})
        if not own.reserved:
            return Seen(
                facts={name: str(own.size)}, missing={name: f"a mark on {shown} that nothing but truecl activates it"}
            )
        if refusal := parse.refusal(on, there):
            raise StepFailed(f"{shown}: {refusal}")
        # The nodes must see one and the same, unless each has a copy.
        identity = {} if replicated else {f"identity of {name}": await self._identity(on)}
        return Seen(facts={name: str(own.size)} | identity)

    async def _look_at_devices(self, name: str, on: LvmStorage) -> Seen:
        if not on.physical:
            raise StepFailed(f"there is no volume group {on.group}, and no `physical:` devices to make it of")
        for device in on.physical:
            self._refuse_used(device)
        found = await self._found_on(on.physical)
        what = f"volume group {on.group} on {', '.join(on.physical)}, logical volume {argv.name(on)}"
        return Seen(missing={name: what}, data={name: found} if found else {})

    async def _found_on(self, devices: tuple[str, ...]) -> str:
        """What stands on them, in words that are the same at the next look; '' for nothing. Raises StepFailed."""
        found = []
        for device in devices:
            there = await signatures(self._runner, device)
            whose = await self._whose(device) if any(each.type == PHYSICAL for each in there) else ""
            if there:
                found.append(f"{device}: {described(there)}{whose}")
        return "; ".join(found)

    async def _whose(self, device: str) -> str:
        """The rest of such a group may lie on other disks: it would be lost as well."""
        result = await self._tool.run(argv.held(device), _LOOK_TIME)
        try:
            group, volumes = parse.held(result.stdout)
        except ValueError:
            return ""
        return f" of volume group {group} ({', '.join(volumes) or 'no volumes'})" if group else ""

    def _refuse_used(self, device: str) -> None:
        name = self._kernels_name(device)
        users = list(block.users(self._sys, self._proc, name))
        if users:
            raise StepFailed(f"{device} is in use: {'; '.join(users)}")

    async def _volumes(self, on: LvmStorage) -> tuple[LogicalVolume, ...] | None:
        """Of its group; None: there is no such group. Raises StepFailed."""
        result = await self._tool.run(argv.look(on.group), _LOOK_TIME)
        try:
            if result.ok:
                return parse.volumes(result.stdout)
            groups, every = (
                await self._tool.run(argv.groups(), _LOOK_TIME),
                await self._tool.run(argv.everywhere(), _LOOK_TIME),
            )
            known = parse.groups(groups.stdout)
            if groups.ok and on.group not in known and on.physical:
                return None
            why = parse.elsewhere(on, known, parse.volumes(every.stdout)) or result.last_lines() or result.ending()
        except ValueError as error:
            why = str(error)
        raise StepFailed(why)

    async def _identity(self, on: LvmStorage) -> str:
        result = await self._tool.run(argv.identity(on), _LOOK_TIME)
        return result.stdout.decode(errors="replace").strip() if result.ok else ""

    def _size_of_disk(self, device: str) -> int:
        return block.size(self._sys, self._kernels_name(device))

    def _kernels_name(self, device: str) -> str:
        try:
            status = Path(device).stat()
        except OSError as error:
            raise StepFailed(f"disk {device} is missing on this node: {error.strerror}") from None
        if not stat.S_ISBLK(status.st_mode):
            raise StepFailed(f"{device} is no disk")
        known = self._sys / "dev" / "block" / f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        try:
            return known.readlink().name
        except OSError:
            raise StepFailed(f"disk {device} has no device behind its name") from None

    async def _size_of_image(self, image: str) -> int:
        def look() -> bytes:
            status = Path(image).stat()
            return str(status.st_size if stat.S_ISREG(status.st_mode) else -1).encode()

        try:
            size = int(await self._runner.call(f"look at {image}", look, timeout=_LOOK_TIME))
        except TimeoutError:
            raise StepFailed(f"image {image}: its server gives no answer") from None
        except OSError as error:
            raise StepFailed(f"image {image}: {error.strerror}; it must be there (is NFS mounted?)") from None
        if size < 0:
            raise StepFailed(f"{image} is no image: it is no regular file")
        return size

    # ---- making -----------------------------------------------------------------------------------------------------

    async def _make_group(self, on: LvmStorage, agreed: str) -> str:
        found = await self._found_on(on.physical)
        if found and found != agreed:
            raise StepFailed(f"there is {found}: not what was agreed to be lost")
        for device in on.physical:
            if found:
                await wipe(self._runner, device)
            await self._lvm(argv.make_physical(device))
        await self._lvm(argv.make_group(on))
        return f"made volume group {on.group} on {', '.join(on.physical)}"

    async def _lvm(self, command: tuple[str, ...]) -> None:
        result = await self._tool.run(command, _MAKE_TIME)
        if not result.ok:
            raise StepFailed(f"{command[1]}: {result.last_lines(1) or result.ending()}")


def _replicated(app: AppConfig, name: str) -> bool:
    return any(each.name == name and isinstance(each.storage, DrbdStorage) for each in app.volumes)


def joined(one: Seen, other: Seen) -> Seen:
    """What two looks found."""
    return Seen(
        one.problems + other.problems,
        one.warnings + other.warnings,
        one.facts | other.facts,
        one.missing | other.missing,
        one.data | other.data,
        one.identifiers | other.identifiers,
        one.done + other.done,
        one.apart or other.apart,
    )
