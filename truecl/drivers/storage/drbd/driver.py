"""The replica as a step of an instance: up is promoted, down is secondary (SAFETY.md section 5).

What lies beneath and the connection are another's (`truecl.drivers.storage.drbd.replicas`).
"""

from truecl.drivers.contract import Facts, StepFailed, spec_of
from truecl.drivers.storage.drbd import argv
from truecl.drivers.storage.drbd.kernel import Kernel, diskless, link_of, role_of
from truecl.drivers.storage.drbd.parse import Seen
from truecl.drivers.storage.drbd.token import Token
from truecl.model.ids import AppName
from truecl.model.replica import Disk, Layout, Link, Role
from truecl.model.step import Instance, Over, Probe, ReplicaSpec, ReplicaVolume, Step

PROMOTION = 10.0
"""Seconds in which a promotion succeeds, or is given up. The kernel calls the handler up to four times in it."""
AFTER = 2.0
"""Seconds longer that the promoting tool is waited for: the handler ends first."""
SETTLE = 3.0
"""Seconds for what DRBD does at once, or never: to stand alone, to give a disk up."""
BUSY = 2.0
"""Seconds for which `secondary` is tried again while something has the device open: a look by udev, a dying process."""


class ReplicaDriver:
    def __init__(self, kernel: Kernel, settle: float = SETTLE, busy: float = BUSY) -> None:
        self._kernel, self._settle, self._busy = kernel, settle, busy

    async def up(self, step: Step, instance: Instance) -> None:
        app = spec_of(step, ReplicaSpec).app
        layout = self._kernel.layout(app)
        if layout is None:
            raise StepFailed(f"DRBD resource {app} is not there: its replica was not activated on this node")
        async with self._kernel.turn(app):
            seen = await self._kernel.seen(layout)
            if _all_primary(layout, seen) and self._primary_for(app) == instance.generation:
                return
            self._refuse(layout, seen)
            await self._kernel.refuse_other_policy(layout)
            if instance.alone:
                await self._stand_alone(layout)
            await self._promote(layout, instance)

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        app = spec_of(step, ReplicaSpec).app
        self._end_answers(instance)
        async with self._kernel.turn(app):
            layout = self._kernel.layout(app)
            if layout is None:
                if await self._role_without_file(app) is Role.DOWN:
                    return
                raise StepFailed(f"DRBD resource {app} is there by another hand: 'drbdadm down {app}' ends it")
            self._refuse_older(app, instance)
            self._kernel.note(app, None)
            if force:
                await self._fail_what_waits(layout)
            await self._demote(layout)

    async def sever(self, instance: Instance) -> None:
        """Where I/O is suspended, have what is in flight fail. Returns when nothing waits there. Raises StepFailed."""
        layout = self._kernel.layout(instance.app)
        if layout is None:
            return
        self._end_answers(instance)
        async with self._kernel.turn(instance.app):
            self._refuse_older(instance.app, instance)
            await self._fail_what_waits(layout)

    async def probe(self, step: Step, instance: Instance) -> Probe:
        app = spec_of(step, ReplicaSpec).app
        try:
            layout = self._kernel.layout(app)
            if layout is None:
                role = await self._role_without_file(app)
                return Probe.INACTIVE if role is Role.DOWN else Probe.UNKNOWN
            seen = await self._kernel.seen(layout)
        except StepFailed:
            return Probe.UNKNOWN
        role = role_of(layout, seen)
        if role in (Role.DOWN, Role.SECONDARY):
            return Probe.UNKNOWN if self._kernel.still_at_work(layout) else Probe.INACTIVE
        if role is Role.UNKNOWN:
            return Probe.UNKNOWN
        return Probe.ACTIVE if _all_primary(layout, seen) and not _lost(seen) else Probe.FAILED

    async def detail(self, step: Step, instance: Instance) -> Facts:
        app = spec_of(step, ReplicaSpec).app
        try:
            layout = self._kernel.layout(app)
            seen = await self._kernel.seen(layout) if layout is not None else {}
        except StepFailed:
            return {}
        if layout is None or role_of(layout, seen) is not Role.PRIMARY:
            return {}
        facts = {"device": ", ".join(f"/dev/drbd{volume.minor}" for volume in layout.volumes), "type": "drbd"}
        if any(each.suspended for each in seen.values()):
            facts["note"] = "frozen: it lost its peer, and waits for the master's word"
        elif any(diskless(each) for each in seen.values()):
            facts["note"] = "its own disk failed: it goes on with the peer's"
        elif link_of(seen) not in (Link.CONNECTED, Link.VERIFYING):
            facts["note"] = f"{link_of(seen)}: the peer's copy is behind"
        return facts

    async def device(self, over: Over) -> str | None:
        if not isinstance(over, ReplicaVolume):
            raise TypeError(f"{type(over).__name__} is no replica's volume")
        layout = self._kernel.layout(over.app)
        if layout is None:
            return None
        seen = await self._kernel.seen(layout)
        return next((f"drbd{v.minor}" for v in layout.volumes if v.name == over.volume and v.minor in seen), None)

    # ---- up ---------------------------------------------------------------------------------------------------------

    def _refuse(self, layout: Layout, seen: dict[int, Seen]) -> None:
        if left := self._kernel.still_at_work(layout):
            raise StepFailed(f"DRBD resource {layout.resource}: {left}")
        if len(seen) < len(layout.volumes):
            raise StepFailed(f"DRBD resource {layout.resource} is not there, or not all of it")
        if role_of(layout, seen) is Role.PRIMARY and self._primary_for(layout.resource):
            raise StepFailed(
                f"DRBD resource {layout.resource} is primary for generation {self._primary_for(layout.resource)}"
            )
        for volume in layout.volumes:
            disk = seen[volume.minor].disk
            if disk not in (Disk.UP_TO_DATE, Disk.CONSISTENT):
                raise StepFailed(f"volume {volume.name} (/dev/drbd{volume.minor}): this node's copy is {disk}")

    async def _stand_alone(self, layout: Layout) -> None:
        """With force: a graceful disconnect would mark this node's own copy outdated."""
        if link_of(await self._kernel.seen(layout)) is Link.STANDALONE:
            return
        await self._kernel.order(argv.adm("disconnect", layout.resource, "--force"))
        if not await self._kernel.until(layout, self._settle, lambda each: each.link is Link.STANDALONE):
            raise StepFailed(f"DRBD resource {layout.resource} does not let go of its peer")

    async def _promote(self, layout: Layout, instance: Instance) -> None:
        app = layout.resource
        self._kernel.note(app, Token(instance.generation, self._kernel.now() + PROMOTION))
        promoted = False
        try:
            for command in self._roles("primary", layout):
                await self._kernel.order(command, PROMOTION + AFTER)
            if not _all_primary(layout, await self._kernel.seen(layout)):
                raise StepFailed(f"DRBD resource {app}: told to be primary, but it is not")
            self._kernel.note(app, Token(instance.generation))
            promoted = True
        finally:
            if not promoted:
                # First of all, and on a cancelled wait too: a handler that still thinks is not to be believed.
                self._kernel.note(app, None)

    # ---- down -------------------------------------------------------------------------------------------------------

    async def _demote(self, layout: Layout) -> None:
        deadline = self._kernel.loop.now() + self._busy
        said = ""
        while role_of(layout, await self._kernel.seen(layout)) not in (Role.DOWN, Role.SECONDARY):
            if said and self._kernel.loop.now() >= deadline:
                raise StepFailed(f"DRBD resource {layout.resource} cannot be made secondary: {said}")
            if said:
                await self._kernel.loop.sleep(0.05)
            said = await self._told_secondary(layout)
        if left := self._kernel.still_at_work(layout):
            raise StepFailed(f"DRBD resource {layout.resource}: {left}")

    async def _told_secondary(self, layout: Layout) -> str:
        """What DRBD said, for where it did not become so."""
        try:
            for command in self._roles("secondary", layout):
                await self._kernel.order(command)
        except StepFailed as failed:
            return failed.reason
        return "it stays what it is"

    async def _fail_what_waits(self, layout: Layout) -> None:
        """The peer goes on, or will: what is written here from now on must never be acknowledged, and what waits must
        not wait for ever. `resume-io` only when no volume has a disk."""
        seen = await self._kernel.seen(layout)
        if not any(each.suspended for each in seen.values()):
            return
        app = layout.resource
        self._kernel.note(app, None)
        await self._stand_alone(layout)
        if self._nine():
            await self._kernel.order(argv.force_secondary(app))
            return
        await self._kernel.ask(argv.adm("detach", app, "--force"))
        if not await self._kernel.until(
            layout, self._settle, lambda each: diskless(each) and each.link is Link.STANDALONE
        ):
            raise StepFailed(f"DRBD resource {app}: frozen, and its disk does not let go")
        for command in argv.resume(volume.minor for volume in layout.volumes):
            await self._kernel.order(command)
        if not await self._kernel.until(layout, self._settle, lambda each: not each.suspended):
            raise StepFailed(f"DRBD resource {app} stays frozen")

    # ---- what there is ----------------------------------------------------------------------------------------------

    async def _role_without_file(self, app: AppName) -> Role:
        """Somebody else may have made a resource of its name."""
        return Role.DOWN if app not in await self._kernel.resources() else Role.UNKNOWN

    def _end_answers(self, instance: Instance) -> None:
        """Before anything is waited for: a promotion under way, whose turn it is, ends by it."""
        if self._primary_for(instance.app) == instance.generation:
            self._kernel.note(instance.app, None)

    def _refuse_older(self, app: AppName, instance: Instance) -> None:
        newest = self._primary_for(app)
        if newest > instance.generation:
            raise StepFailed(f"DRBD resource {app}: primary for generation {newest}, which is a newer one")

    def _primary_for(self, app: AppName) -> int:
        noted = self._kernel.noted(app)
        return noted.generation if noted is not None and not noted.over else 0

    def _roles(self, verb: str, layout: Layout) -> tuple[tuple[str, ...], ...]:
        major = 9 if self._nine() else 8
        return argv.role(verb, major, layout.resource, (volume.minor for volume in layout.volumes))

    def _nine(self) -> bool:
        version = self._kernel.version()
        return version is not None and version[0] >= 9


def _all_primary(layout: Layout, seen: dict[int, Seen]) -> bool:
    return len(seen) == len(layout.volumes) and all(each.role is Role.PRIMARY for each in seen.values())


def _lost(seen: dict[int, Seen]) -> bool:
    """Neither this disk nor the peer's can be reached: every read fails."""
    return any(each.disk in (Disk.DISKLESS, Disk.FAILED) and each.peer is not Disk.UP_TO_DATE for each in seen.values())
