"""DRBD's metadata on what lies beneath, and the first or the last word on whose copy counts. For lha_buildapp.

Everything here takes the resource file as it is (`Replicas.prepare` writes it).
"""

from truecl.drivers.contract import StepFailed
from truecl.drivers.storage.drbd import argv, generations
from truecl.drivers.storage.drbd.generations import Generations
from truecl.drivers.storage.drbd.kernel import Kernel, link_of, role_of
from truecl.model.replica import Disk, Layout, LayoutVolume, Link, Role

_CREATION = 60.0
"""Seconds: the whole bitmap is written."""
_FORCED = 60.0


class Metadata:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def generations(self, layout: Layout) -> dict[str, Generations | None]:
        """Of each volume by its name, attached or not; None: there is no metadata. Raises StepFailed."""
        found: dict[str, Generations | None] = {}
        for volume in layout.volumes:
            result = await self._kernel.ask(argv.adm("get-gi", _name(layout, volume)))
            if result.timed_out or result.stuck:
                raise StepFailed(f"volume {volume.name}: drbdadm get-gi {result.ending()}")
            said = generations.generations(result.stdout.decode(errors="replace"))
            found[volume.name] = said[0] if result.ok and said else None
        return found

    async def create(self, layout: Layout, volume: LayoutVolume, force: bool = False) -> None:
        """New metadata: the copy knows nothing, and is worth nothing. Without `force` DRBD refuses where it finds
        metadata or a file system; with it they are destroyed, on the operator's word. Raises StepFailed."""
        seen = await self._kernel.seen(layout)
        if volume.minor in seen and seen[volume.minor].disk is not Disk.DISKLESS:
            raise StepFailed(f"volume {volume.name}: it is attached; 'lha_stopapp' the application first")
        if (await self.generations(layout))[volume.name] is not None and not force:
            raise StepFailed(f"volume {volume.name}: there is DRBD metadata on it already")
        command = argv.adm("create-md", _name(layout, volume), *argv.create_options(self._major(), force))
        result = await self._kernel.ask(command, _CREATION)
        if force and not result.ok and b"Operation refused" in result.stdout + result.stderr:
            # It sees a file system that reaches to the end; whoever forces this gives that up.
            await self._kernel.order(argv.wipe(await self._beneath(layout, volume)))
            result = await self._kernel.ask(command, _CREATION)
        if not result.ok:
            raise StepFailed(
                f"volume {volume.name}: {_why_not_created(result.stdout + result.stderr) or result.ending()}"
            )
        if (await self.generations(layout))[volume.name] is None:
            raise StepFailed(f"volume {volume.name}: no metadata is on it, although drbdadm made it")

    async def begin_equal(self, layout: Layout) -> None:
        """Two copies that never held anything are equal: nothing is copied. On one node, both connected."""
        seen = await self._kernel.seen(layout)
        if link_of(seen) is not Link.CONNECTED or len(seen) < len(layout.volumes):
            raise StepFailed(f"DRBD resource {layout.resource} is not connected to its peer")
        if any(each is None or not each.new for each in (await self.generations(layout)).values()):
            raise StepFailed(f"DRBD resource {layout.resource}: it has held data; only new copies are equal unseen")
        for volume in layout.volumes:
            await self._kernel.order(argv.adm("new-current-uuid", _name(layout, volume), "--clear-bitmap"))
        if not await self._kernel.until(layout, _FORCED, lambda each: each.disk is each.peer is Disk.UP_TO_DATE):
            raise StepFailed(f"DRBD resource {layout.resource}: its copies did not become equal")

    async def begin_from_here(self, layout: Layout) -> None:
        """This node's copy is the one that counts, whatever DRBD thinks of it: the other becomes a copy of it once
        they are connected. The operator's word. Ends secondary. Raises StepFailed."""
        seen = await self._kernel.seen(layout)
        if len(seen) < len(layout.volumes) or role_of(layout, seen) is not Role.SECONDARY:
            raise StepFailed(f"DRBD resource {layout.resource} is not there, or it is primary")
        minors = [volume.minor for volume in layout.volumes]
        try:
            for command in argv.role("primary", self._major(), layout.resource, minors):
                await self._kernel.order((*command, "--force"), _FORCED)
        finally:
            for command in argv.role("secondary", self._major(), layout.resource, minors):
                await self._kernel.ask(command)
        seen = await self._kernel.seen(layout)
        if role_of(layout, seen) is not Role.SECONDARY or any(
            each.disk is not Disk.UP_TO_DATE for each in seen.values()
        ):
            raise StepFailed(f"DRBD resource {layout.resource}: this node's copy did not become the one that counts")

    async def give_way(self, layout: Layout) -> None:
        """After both were written: this node's copy becomes the other's, what was written here alone is lost. The
        operator's word. The other node connects as always. Raises StepFailed."""
        seen = await self._kernel.seen(layout)
        if role_of(layout, seen) is not Role.SECONDARY:
            raise StepFailed(f"DRBD resource {layout.resource} is not secondary here")
        if link_of(seen) is not Link.STANDALONE:
            await self._kernel.order(argv.adm("disconnect", layout.resource))
        await self._kernel.order(argv.adm("connect", layout.resource, "--discard-my-data"))

    async def verify(self, layout: Layout) -> None:
        """Compare the copies block by block, in the background; `VolumeReport.behind` says what differs."""
        await self._kernel.order(argv.adm("verify", layout.resource))

    async def resize(self, layout: Layout, volume: LayoutVolume) -> None:
        """Take the whole of what lies beneath, after it grew on both nodes. On one of them, connected."""
        await self._kernel.order(argv.adm("resize", _name(layout, volume)))

    async def _beneath(self, layout: Layout, volume: LayoutVolume) -> str:
        result = await self._kernel.ask(argv.adm("sh-ll-dev", _name(layout, volume)))
        device = result.stdout.decode(errors="replace").strip()
        if not result.ok or not device.startswith("/dev/"):
            raise StepFailed(f"volume {volume.name}: drbdadm does not say what lies beneath it")
        return device

    def _major(self) -> int:
        version = self._kernel.version()
        if version is None:
            raise StepFailed("this kernel has no DRBD")
        return version[0]


def _name(layout: Layout, volume: LayoutVolume) -> str:
    return f"{layout.resource}/{volume.number}"


def _why_not_created(said: bytes) -> str:
    text = said.decode(errors="replace")
    for found, words in (
        ("existing meta-data", "there is DRBD metadata on it already"),
        ("already\nin place", "there is DRBD metadata on it already"),
        ("would be truncated", "there is a file system on it, and no room for the metadata behind it"),
        ("you still need to confirm", "there is data on it"),
        ("too small", "it is too small"),
        ("Device or resource busy", "it is in use"),
    ):
        if found in text:
            return words
    return "; ".join(line.strip() for line in text.splitlines()[-3:] if line.strip())
