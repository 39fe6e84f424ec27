"""This node's copy beneath any instance: what lies under it active, attached, secondary, connected or not."""

from collections.abc import Coroutine, Mapping
from typing import Any

from truecl.drivers.contract import StepFailed
from truecl.drivers.storage.drbd import argv
from truecl.drivers.storage.drbd.driver import ReplicaDriver
from truecl.drivers.storage.drbd.kernel import Kernel, diskless, link_of
from truecl.drivers.storage.driver import StorageKind
from truecl.model.actions import ReplicaResult, StepResult
from truecl.model.config import Backing, DiskStorage, LvmStorage
from truecl.model.ids import NO_GENERATION, AppName
from truecl.model.replica import Layout, LayoutVolume, Link, ReplicaReport, Role
from truecl.model.step import Instance, Probe, Step, StepKind

_FOREIGN = "a DRBD resource of its name is there by another hand; 'drbdadm down' ends it"


class Replicas:
    """`beneath`: the driver of all kinds of storage."""

    def __init__(self, kernel: Kernel, driver: ReplicaDriver, beneath: StorageKind) -> None:
        self.kernel = kernel
        self._driver = driver
        self._beneath = beneath

    async def up(self, layout: Layout, connect: bool) -> ReplicaResult:
        """Raises StepFailed when not even a look can be had."""
        async with self.kernel.turn(layout.resource):
            return await self._result(layout, await self._reason(self._up(layout, connect)))

    async def down(self, layout: Layout) -> ReplicaResult:
        async with self.kernel.turn(layout.resource):
            return await self._result(layout, await self._reason(self._down(layout)))

    async def connect(self, layout: Layout) -> ReplicaResult:
        async with self.kernel.turn(layout.resource):
            return await self._result(layout, await self._reason(self._connect(layout)))

    async def look(self, app: AppName) -> ReplicaResult:
        layout = self.kernel.layout(app)
        if layout is not None:
            return await self._result(layout, "")
        if app in await self.kernel.resources():
            return ReplicaResult(ReplicaReport(app, Role.UNKNOWN), _FOREIGN)
        return ReplicaResult(ReplicaReport(app, Role.DOWN))

    async def sever(self, instance: Instance) -> StepResult:
        await self._driver.sever(instance)
        return StepResult(Probe.INACTIVE)

    async def prepare(self, layout: Layout) -> dict[int, str]:
        """Have what lies beneath active, and the resource file written. The path of each volume's device beneath.
        Raises StepFailed."""
        version = await self.kernel.load()
        disks = {volume.number: await self._activate(layout, volume) for volume in layout.volumes}
        self.kernel.write(layout, disks, version)
        return disks

    async def attach(self, layout: Layout) -> None:
        """What was prepared, to a resource that stands alone. Raises StepFailed."""
        version = await self.kernel.load()
        await self._make(layout, nine=version[0] >= 9)

    async def release(self, layout: Layout) -> None:
        """The opposite, where the resource is not there, and of volumes that it had before, too. Raises StepFailed."""
        known = self.kernel.layout(layout.resource)
        former = [each for each in known.volumes if each not in layout.volumes] if known is not None else []
        for volume in reversed([*layout.volumes, *former]):
            await self._beneath.down(_step(volume), _owner(layout), False)
        self.kernel.remove(layout.resource)

    async def leave_former(self, layout: Layout) -> None:
        """Take down what was made for another layout, with what lies beneath; a primary is left as it is. Raises
        StepFailed."""
        known = self.kernel.layout(layout.resource)
        if known is None or known == layout:
            return
        there = await self.kernel.seen(known)
        if any(each.role is not Role.SECONDARY for each in there.values()):
            return
        self._refuse_beside_another(known)
        if there:
            await self.kernel.order(argv.adm("down", layout.resource))
        await self.release(known)

    # ---- up and down ------------------------------------------------------------------------------------------------

    async def _up(self, layout: Layout, connect: bool) -> None:
        self._refuse_beside_another(layout)
        version = await self.kernel.load()
        await self.leave_former(layout)
        resources = await self.kernel.resources()
        self._refuse_taken(layout, resources)
        there = resources.get(layout.resource)
        if there is not None and self.kernel.layout(layout.resource) is None:
            raise StepFailed(_FOREIGN)
        primary = there is not None and any(each.role is Role.PRIMARY for each in there.values())
        if there is not None and not primary and set(there) != {volume.minor for volume in layout.volumes}:
            await self.kernel.order(argv.adm("down", layout.resource))
            there = None
        if not primary:
            await self.prepare(layout)
        if there is None:
            await self._make(layout, nine=version[0] >= 9)
        elif link_of(there) is Link.STANDALONE and any(diskless(each) for each in there.values()) and not primary:
            await self.kernel.order(argv.adm("attach", layout.resource))
        elif any(diskless(each) for each in there.values()):
            raise StepFailed("its disk failed and was given up; 'lha_stat' shows the copy that is left")
        await self.kernel.refuse_other_policy(layout)
        if connect:
            await self._connect(layout)

    async def _make(self, layout: Layout, nine: bool) -> None:
        for verb in argv.MAKE_9 if nine else argv.MAKE_8:
            await self.kernel.order(argv.adm(verb, layout.resource))

    async def _connect(self, layout: Layout) -> None:
        self._refuse_beside_another(layout)
        if link_of(await self.kernel.seen(layout)) is Link.STANDALONE:
            await self.kernel.order(argv.adm("connect", layout.resource))

    def _refuse_beside_another(self, layout: Layout) -> None:
        """A tool that was given up holds the resource: what is asked now would wait, and be done at another time."""
        if left := self.kernel.still_at_work(layout):
            raise StepFailed(left)

    async def _down(self, layout: Layout) -> None:
        self._refuse_beside_another(layout)
        there = (await self.kernel.resources()).get(layout.resource)
        if there is not None:
            if any(each.role is not Role.SECONDARY for each in there.values()):
                raise StepFailed("it is primary: an instance still runs on it")
            if self.kernel.layout(layout.resource) is None:
                raise StepFailed(_FOREIGN)
            await self.kernel.order(argv.adm("down", layout.resource))
            if layout.resource in await self.kernel.resources():
                raise StepFailed("told to go down, but it is still there")
        await self.release(layout)

    def _refuse_taken(self, layout: Layout, resources: Mapping[str, Mapping[int, object]]) -> None:
        for volume in layout.volumes:
            for name, minors in resources.items():
                if name != layout.resource and volume.minor in minors:
                    raise StepFailed(
                        f"volume {volume.name}: /dev/drbd{volume.minor} is in use by DRBD resource {name};"
                        f" 'drbdadm down {name}' frees it"
                    )

    async def _activate(self, layout: Layout, volume: LayoutVolume) -> str:
        step = _step(volume)
        device = await self._beneath.device(volume.backing)
        if device is None or await self._beneath.probe(step, _owner(layout)) is not Probe.ACTIVE:
            await self._beneath.up(step, _owner(layout))
            device = await self._beneath.device(volume.backing)
        if device is None:
            raise StepFailed(f"volume {volume.name}: what lies beneath it has no device")
        return lasting_path(volume.backing) or f"/dev/{device}"

    # ---- results ----------------------------------------------------------------------------------------------------

    async def _reason(self, work: Coroutine[Any, Any, None]) -> str:
        try:
            await work
        except StepFailed as failed:
            return failed.reason
        return ""

    async def _result(self, layout: Layout, reason: str) -> ReplicaResult:
        return ReplicaResult(await self.kernel.report(layout, reason), reason)


def lasting_path(backing: Backing) -> str:
    """A name of it that means the same after every boot; '' where there is none."""
    match backing:
        case LvmStorage():
            return f"/dev/{backing.group}/{backing.volume}"
        case DiskStorage():
            return backing.device
    return ""


def _step(volume: LayoutVolume) -> Step:
    return Step(f"beneath {volume.name}", StepKind.STORAGE, volume.backing)


def _owner(layout: Layout) -> Instance:
    """No instance: what lies beneath is there before and after them."""
    return Instance(layout.resource, NO_GENERATION)
