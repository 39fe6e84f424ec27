"""Storage `lvm`: a logical volume, which is active on this node or not.

Nothing but truecl activates it: a flag in the group's metadata (`argv.reserve`) has every boot and every ordinary
activation command skip it, and what lacks the flag is not taken. LVM itself knows nothing of other nodes here: that no
two have it active is what grants and proofs are for (docs/decisions/0009-lvm-without-locks.md).

The probe looks at the device mapper in sysfs alone. LVM's commands read every disk's labels and take locks, so they may
hang on a disk that is dead; where one fails or hangs on the way down, the mapped device itself is removed.
"""

from pathlib import Path

from truecl.drivers.contract import Facts, Loop, StepFailed, spec_of
from truecl.drivers.storage import block
from truecl.drivers.storage.lvm import argv, parse
from truecl.drivers.storage.lvm.mapper import Mapped, mapped
from truecl.drivers.storage.lvm.tool import Lvm
from truecl.model.config import LvmStorage
from truecl.model.step import Instance, Over, Probe, Step

_LEAVE = 2.0
"""Seconds for which a removal is tried again: udev looks at devices for a moment."""
_PAUSE = 0.1


class LvmDriver:
    def __init__(
        self,
        lvm: Lvm,
        loop: Loop,
        *,
        sys: Path = Path("/sys"),
        proc: Path = Path("/proc"),
    ) -> None:
        self._lvm = lvm
        self._loop = loop
        self._sys = sys
        self._proc = proc

    async def up(self, step: Step, instance: Instance) -> None:
        spec = spec_of(step, LvmStorage)
        there = self._main(spec)
        if there is None or not self._used(there):
            await self._refuse_unfit(spec)
        if there is None:
            there = await self._activate(spec)
        if there.suspended:
            raise StepFailed(f"{argv.name(spec)}: it is suspended; 'dmsetup resume {there.name}' lets it go on")
        has = block.size(self._sys, there.device)
        if has < spec.size:
            what = f"its device has {parse.shown(has)}, and the configuration says {parse.shown(spec.size)}"
            raise StepFailed(f"{argv.name(spec)}: {what}")

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        spec = spec_of(step, LvmStorage)
        main, parts = self._mapped(spec)
        if main is None and not parts:
            return
        said = ""
        if not force or main is None:
            said = await self._deactivate(spec)
        main, parts = self._mapped(spec)
        if main is not None:
            said = await self._remove(spec, main) or said
            if main.stacked:
                said = await self._deactivate(spec) or said
        main, parts = self._mapped(spec)
        if main is not None or parts:
            left = ", ".join(each.name for each in ((main,) if main else ()) + parts)
            raise StepFailed(f"{argv.name(spec)}: {left} is still there: {said}")

    async def probe(self, step: Step, instance: Instance) -> Probe:
        spec = spec_of(step, LvmStorage)
        try:
            main, parts = mapped(self._sys, spec.group, spec.volume)
        except OSError:
            return Probe.UNKNOWN
        if main is None:
            return Probe.FAILED if parts else Probe.INACTIVE
        return Probe.FAILED if main.suspended else Probe.ACTIVE

    async def detail(self, step: Step, instance: Instance) -> Facts:
        spec = spec_of(step, LvmStorage)
        try:
            main, _ = mapped(self._sys, spec.group, spec.volume)
        except OSError:
            return {}
        if main is None:
            return {}
        facts = {"device": f"/dev/{argv.name(spec)}", "type": "lvm", "size": str(block.size(self._sys, main.device))}
        return facts | ({"note": "suspended"} if main.suspended else {})

    async def device(self, over: Over) -> str | None:
        """Name ('dm-3') of the active volume's device. Raises StepFailed: that cannot be told."""
        if not isinstance(over, LvmStorage):
            raise TypeError(f"{type(over).__name__} is no logical volume")
        main = self._main(over)
        return main.device if main is not None else None

    # ---- what is there ----------------------------------------------------------------------------------------------

    def _mapped(self, spec: LvmStorage) -> tuple[Mapped | None, tuple[Mapped, ...]]:
        try:
            return mapped(self._sys, spec.group, spec.volume)
        except OSError as error:
            raise StepFailed(f"{argv.name(spec)}: cannot read {self._sys}/block: {error.strerror}") from None

    def _main(self, spec: LvmStorage) -> Mapped | None:
        return self._mapped(spec)[0]

    def _used(self, there: Mapped) -> bool:
        """Something lies on it already: it goes on as it is, and who asked next says whether that is its own."""
        try:
            return any(True for _ in block.users(self._sys, self._proc, there.device))
        except OSError:
            return False

    async def _refuse_unfit(self, spec: LvmStorage) -> None:
        result = await self._lvm.run(argv.look(spec.group))
        if not result.ok:
            why = await self._why_no_group(spec) or result.last_lines() or result.ending()
            raise StepFailed(f"{argv.name(spec)}: {why}")
        try:
            why = parse.refusal(spec, parse.volumes(result.stdout))
        except ValueError as error:
            why = str(error)
        if why:
            raise StepFailed(f"{argv.name(spec)}: {why}")

    async def _why_no_group(self, spec: LvmStorage) -> str:
        groups, every = await self._lvm.run(argv.groups()), await self._lvm.run(argv.everywhere())
        if not groups.ok or not every.ok:
            return ""
        try:
            return parse.elsewhere(spec, parse.groups(groups.stdout), parse.volumes(every.stdout))
        except ValueError:
            return ""

    # ---- doing ------------------------------------------------------------------------------------------------------

    async def _activate(self, spec: LvmStorage) -> Mapped:
        result = await self._lvm.run(argv.activate(spec))
        there = self._main(spec)
        if there is None:
            raise StepFailed(f"{argv.name(spec)}: cannot be activated: {result.last_lines() or result.ending()}")
        if there.stacked:
            # How full a pool is, it tells only while it is active.
            try:
                await self._refuse_unfit(spec)
            except StepFailed:
                await self._deactivate(spec)
                raise
        return there

    async def _deactivate(self, spec: LvmStorage) -> str:
        """What LVM said against it."""
        result = await self._lvm.run(argv.deactivate(spec))
        return "" if result.ok else result.last_lines() or result.ending()

    async def _remove(self, spec: LvmStorage, main: Mapped) -> str:
        """Why it is still there; '' if it is not."""
        deadline = self._loop.now() + _LEAVE
        while True:
            result = await self._lvm.run(argv.remove(main.name))
            if self._main(spec) is None:
                return ""
            if result.stuck or self._loop.now() >= deadline:
                said = result.last_lines(2) or result.ending()
                return f"{said}; it is in use: {block.why_busy(self._sys, self._proc, main.device)}"
            await self._loop.sleep(_PAUSE)
