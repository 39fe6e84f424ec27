"""DRBD's metadata at the end of each volume: what lha_buildapp looks at, writes, and has an operator overrule.

They are written with drbdmeta while the resource is down. Two copies that get the same generation identifier are equal
to DRBD, so that nothing is synchronised; one that gets none is brought up to date from the other. No copy is
ever forced to be primary.
"""

import re
from contextlib import suppress

from truecl.drivers.build.signatures import described, signatures, wipe
from truecl.drivers.contract import Runner, StepFailed
from truecl.drivers.storage.drbd import argv, parse
from truecl.drivers.storage.drbd.kernel import diskless, gave_up, link_of, role_of
from truecl.drivers.storage.drbd.parse import Seen as Minor
from truecl.drivers.storage.drbd.replicas import Replicas
from truecl.model.build import Initialise, Seen
from truecl.model.config import AppConfig
from truecl.model.replica import Layout, LayoutVolume, Link, Role

_IDENTIFIER = re.compile(r"^([0-9A-Fa-f]{16}):", re.MULTILINE)
_NONE = ("No valid meta data found", "No valid meta-data")
_RESIZED = "Device seems to have been resized"
_LAST_KNOWN = "/var/lib/drbd/drbd-minor-{}.lkbd"
"""Where DRBD's tools note how large the disk of a minor was. They look there where its end has no metadata."""
AT_ONCE = 2.0
"""Seconds for what a small resource has done by then."""
_META_TIME = 120.0
"""Seconds for drbdmeta: it clears the bitmap, 32 KiB for each GiB."""


class Metadata:
    """`truecl.drivers.build.worker.ReplicaTools`."""

    def __init__(self, runner: Runner, replicas: Replicas, at_once: float = AT_ONCE) -> None:
        self._runner, self._kernel, self._replicas = runner, replicas.kernel, replicas
        self._at_once = at_once

    async def check(self) -> None:
        await self._kernel.load()

    # ---- looks ------------------------------------------------------------------------------------------------------

    async def look(self, layout: Layout) -> Seen:
        async with self._kernel.turn(layout.resource):
            await self._replicas.leave_former(layout)
            there = await self._kernel.seen(layout)
            failed = [each for each in layout.volumes if each.minor in there and gave_up(there[each.minor])]
            if any(not diskless(each) for each in there.values()) and not failed:
                return Seen(apart=_apart(there))  # attached: DRBD itself took them for good
            try:
                disks = await self._replicas.prepare(layout)
            except StepFailed:
                if not there:
                    with suppress(StepFailed):  # what was active before it failed
                        await self._replicas.release(layout)
                raise
            try:
                look = self._look_at_failed if failed else self._look_at
                seen = [await look(volume, disks[volume.number]) for volume in failed or layout.volumes]
            finally:
                if not there:
                    await self._replicas.release(layout)
            return Seen(
                missing={name: what for each in seen for name, what in each.missing.items()},
                data={name: what for each in seen for name, what in each.data.items()},
                identifiers={name: what for each in seen for name, what in each.identifiers.items()},
            )

    async def _look_at(self, volume: LayoutVolume, path: str) -> Seen:
        name = f"metadata {volume.name}"
        identifier = await self._identifier(volume, path)
        found = await self._found(path, identifier)
        return Seen(
            missing={} if identifier else {name: f"metadata of DRBD for volume {volume.name}"},
            data={name: found} if found else {},
            identifiers={volume.name: identifier} if identifier else {},
        )

    async def _look_at_failed(self, volume: LayoutVolume, path: str) -> Seen:
        """What is there can be seen when it was repaired, or another one is in its place."""
        found = ""
        with suppress(StepFailed):
            found = (await self._look_at(volume, path)).data.get(f"metadata {volume.name}", "")
        name = f"metadata {volume.name}"
        what = f"a disk that works under volume {volume.name}: it failed, and was given up"
        return Seen(missing={name: what}, data={name: found} if found else {})

    async def _found(self, path: str, identifier: str) -> str:
        """What stands there, in words that are the same at the next look. A copy that holds nothing is nothing."""
        others = tuple(each for each in await signatures(self._runner, path) if each.type != "drbd")
        own = f"a copy of DRBD, generation {identifier}" if identifier not in ("", _JUST_CREATED) else ""
        return ", ".join(each for each in (own, described(others)) if each)

    async def _identifier(self, volume: LayoutVolume, path: str) -> str:
        """'' where there are no metadata. Raises StepFailed."""
        result = await self._runner.run(argv.meta(self._nine(), volume.minor, path, "get-gi"), timeout=_META_TIME)
        found = _IDENTIFIER.search(result.stdout.decode(errors="replace"))
        if result.ok and found is not None:
            return found[1].upper()
        # Where there are none, get-gi fails without a word.
        dump = await self._runner.run(argv.meta(self._nine(), volume.minor, path, "dump-md"), timeout=_META_TIME)
        said = (result.stdout + result.stderr + dump.stdout + dump.stderr).decode(errors="replace")
        if _RESIZED in said:
            raise StepFailed(
                f"volume {volume.name}: {path} has another size than when DRBD last had it; a start takes the metadata"
                f" from where they were, unless the volume is a new one: rm {_LAST_KNOWN.format(volume.minor)}, then"
            )
        if any(text in said for text in _NONE):
            return ""
        raise StepFailed(f"volume {volume.name}: its metadata of DRBD cannot be read: {parse.refusal(result)}")

    # ---- before there is a resource ---------------------------------------------------------------------------------

    async def initialise(self, work: Initialise) -> tuple[str, ...]:
        layout = work.layout
        async with self._kernel.turn(layout.resource):
            there = await self._kernel.seen(layout)
            if any(gave_up(each) for each in there.values()):
                await self._down(layout, there)
                there = {}
            if any(not diskless(each) for each in there.values()):
                raise StepFailed(f"DRBD resource {layout.resource} is up: its metadata are in use")
            disks = await self._replicas.prepare(layout)
            volumes = [volume for volume in layout.volumes if volume.name in work.volumes]
            try:
                for volume in volumes:
                    await self._write(volume, disks[volume.number], work)
                if work.identifier:
                    await self._clear(layout, volumes)
                    for volume in volumes:
                        await self._identify(layout, volume, disks[volume.number], work.identifier)
            finally:
                if not there:
                    await self._replicas.release(layout)
        what = "up to date" if work.identifier else "to be synchronised"
        return tuple(f"volume {volume.name}: metadata of DRBD written, {what}" for volume in volumes)

    async def _write(self, volume: LayoutVolume, path: str, work: Initialise) -> None:
        found = await self._found(path, await self._identifier(volume, path))
        if found and found != work.agreed.get(f"metadata {volume.name}"):
            raise StepFailed(f"volume {volume.name}: there is {found}: not what was agreed to be lost")
        if found and work.equal:
            await wipe(self._runner, path)  # a file system that one copy alone has would be taken for that of both
        nine = self._nine()
        await self._meta(argv.meta(nine, volume.minor, path, "create-md", *(("1",) if nine else ())))

    async def _clear(self, layout: Layout, volumes: list[LayoutVolume]) -> None:
        """New metadata call every block out of sync: it would all be sent the first time that the copies part. Only the
        kernel can say otherwise, while the resource stands alone."""
        await self._replicas.attach(layout)
        try:
            for volume in volumes:
                name = f"{layout.resource}/{volume.number}"  # drbdadm takes no more than one
                await self._kernel.order(argv.adm("new-current-uuid", name, "--clear-bitmap"), _META_TIME)
        finally:
            await self._kernel.order(argv.adm("down", layout.resource))

    async def _identify(self, layout: Layout, volume: LayoutVolume, path: str, identifier: str) -> None:
        nine = self._nine()
        for node in range(len(layout.hosts)) if nine else (None,):
            await self._meta(argv.meta(nine, volume.minor, path, "set-gi", f"{identifier}:0:0:0:1:1", node=node))
        if await self._identifier(volume, path) != identifier:
            raise StepFailed(f"volume {volume.name}: the metadata that were written are not those that are there")

    async def _meta(self, command: tuple[str, ...]) -> None:
        await self._kernel.order(command, _META_TIME)

    # ---- an operator's word -----------------------------------------------------------------------------------------

    async def adopt(self, layout: Layout) -> str:
        """The flag that says 'outdated' goes; the generation stays, so that DRBD still knows what the copies share."""
        async with self._kernel.turn(layout.resource):
            there = await self._kernel.seen(layout)
            if there:
                await self._down(layout, there)
            disks = await self._replicas.prepare(layout)
            try:
                for volume in layout.volumes:
                    identifier = await self._identifier(volume, disks[volume.number])
                    if not identifier or identifier == _JUST_CREATED:
                        raise StepFailed(f"volume {volume.name} holds nothing yet: it cannot be the copy to go on with")
                    await self._outdated_no_more(layout, volume, disks[volume.number])
            finally:
                await self._replicas.release(layout)
        return "its copy counts as up to date"

    async def _outdated_no_more(self, layout: Layout, volume: LayoutVolume, path: str) -> None:
        nine = self._nine()
        for node in range(len(layout.hosts)) if nine else (None,):
            result = await self._runner.run(
                argv.meta(nine, volume.minor, path, "get-gi", node=node), timeout=_META_TIME
            )
            words = result.stdout.decode(errors="replace").strip().split(":")
            if len(words) < 6:
                raise StepFailed(f"volume {volume.name}: its metadata of DRBD cannot be read: {parse.refusal(result)}")
            generation = ":".join([*words[:4], "1", "1"])
            await self._meta(argv.meta(nine, volume.minor, path, "set-gi", generation, node=node))

    async def discard(self, layout: Layout) -> str:
        """All of it is taken from the other copy, the next time they meet."""
        async with self._kernel.turn(layout.resource):
            there = await self._kernel.seen(layout)
            if there:
                await self._down(layout, there)
            disks = await self._replicas.prepare(layout)
            try:
                nine = self._nine()
                for volume in layout.volumes:
                    path = disks[volume.number]
                    await self._meta(argv.meta(nine, volume.minor, path, "create-md", *(("1",) if nine else ())))
            finally:
                await self._replicas.release(layout)
            self._kernel.forget_split(layout.resource)
        return "its copy was thrown away, and will be synchronised anew"

    async def reconcile(self, layout: Layout) -> str:
        self._kernel.forget_split(layout.resource)
        return "its copy is kept, and waits for the other one"

    async def _down(self, layout: Layout, there: dict[int, Minor]) -> None:
        if any(each.role is not Role.SECONDARY for each in there.values()):
            raise StepFailed(f"DRBD resource {layout.resource} is primary on this node")
        await self._kernel.order(argv.adm("down", layout.resource))

    # ---- while it runs ----------------------------------------------------------------------------------------------

    async def resize(self, layout: Layout, volume: str, clean: bool) -> str:
        there = await self._kernel.seen(layout)
        if link_of(there) is not Link.CONNECTED:
            raise StepFailed(f"volume {volume} grows only while both copies are connected and equal")
        own = next((each for each in layout.volumes if each.name == volume), None)
        if own is None:
            raise StepFailed(f"DRBD resource {layout.resource} has no volume {volume}")
        await self._kernel.order(argv.resize(layout.resource, own.number, clean), _META_TIME)
        return f"/dev/drbd{own.minor}"

    async def note_size(self, app: AppConfig, volume: str) -> None:
        layout = self._kernel.layout(app.name)
        own = next((each for each in layout.volumes if each.name == volume), None) if layout is not None else None
        if layout is not None and own is not None and own.minor in await self._kernel.seen(layout):
            await self._kernel.order(argv.note_size(own.minor))

    async def verify(self, layout: Layout) -> dict[str, int] | None:
        there = await self._kernel.seen(layout)
        if link_of(there) is not Link.CONNECTED:
            raise StepFailed("copies are compared only while they are connected and equal")
        await self._kernel.order(argv.adm("verify", layout.resource))
        # A small one would be over before anybody looks.
        await self._kernel.until(layout, self._at_once, lambda each: each.link is not Link.VERIFYING)
        there = await self._kernel.seen(layout)
        if link_of(there) is Link.VERIFYING:
            return None
        if link_of(there) is not Link.CONNECTED:
            raise StepFailed("the connection was lost while the copies were compared")
        return {each.name: there[each.minor].behind for each in layout.volumes if there[each.minor].behind}

    async def resync(self, layout: Layout) -> str:
        async with self._kernel.turn(layout.resource):
            there = await self._kernel.seen(layout)
            if role_of(layout, there) is not Role.SECONDARY or link_of(there) is not Link.CONNECTED:
                raise StepFailed("only a secondary that is connected is brought what differs")
            behind = sum(each.behind for each in there.values())
            if not behind:
                raise StepFailed("no comparison found a difference that is still there")
            # In good order: its own disk is outdated before its primary goes on without it.
            await self._kernel.order(argv.adm("disconnect", layout.resource))
            if not await self._kernel.until(layout, self._at_once, lambda each: each.link is Link.STANDALONE):
                raise StepFailed(f"DRBD resource {layout.resource} does not let go of its peer")
        return f"{behind} bytes that differ will be copied from the owner"

    def _nine(self) -> bool:
        version = self._kernel.version()
        return version is not None and version[0] >= 9


_JUST_CREATED = "0000000000000004"


def _apart(there: dict[int, Minor]) -> str:
    """How much was written here without the other copy."""
    behind = sum(each.behind for each in there.values())
    if link_of(there) in (Link.CONNECTED, Link.SYNC_SOURCE, Link.SYNC_TARGET, Link.VERIFYING):
        return ""
    return f"{behind // 4096} blocks of 4 KiB were written since the two copies parted"
