"""Carries out what lha_buildapp asks of this node (`truecl.model.build`); always ends in a `Seen`."""

from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from truecl.drivers.build import requirements, versions
from truecl.drivers.build.volumes import Volumes, joined
from truecl.drivers.contract import Runner, StepFailed
from truecl.drivers.filesystem import grow
from truecl.model.actions import BuildWork
from truecl.model.build import (
    Adopt,
    Discard,
    Grow,
    GrowStage,
    Initialise,
    Look,
    Make,
    Reconcile,
    Resync,
    Seen,
    Spread,
    Verify,
    verified_fact,
)
from truecl.model.config import AppConfig
from truecl.model.replica import Layout
from truecl.model.step import replicated, volume_of

_LOOK_TIME = 20.0


class ReplicaTools(Protocol):
    """What DRBD has to do for it. All raise StepFailed."""

    async def check(self) -> None:
        """The module can be had, and is of a version that will do."""
        ...

    async def look(self, layout: Layout) -> Seen:
        """Metadata: which volumes have them, what stands in their place, what this copy wrote by itself."""
        ...

    async def initialise(self, work: Initialise) -> tuple[str, ...]: ...

    async def resize(self, layout: Layout, volume: str, clean: bool) -> str:
        """The device's path, after it grew to what lies beneath. `clean`: nothing reads what it grew by before it is
        written, so it need not be sent."""
        ...

    async def note_size(self, app: AppConfig, volume: str) -> None:
        """Have its tools know where the metadata are, now that the volume has grown."""
        ...

    async def adopt(self, layout: Layout) -> str: ...

    async def discard(self, layout: Layout) -> str: ...

    async def reconcile(self, layout: Layout) -> str: ...

    async def verify(self, layout: Layout) -> dict[str, int] | None:
        """Volumes that differ, to how many bytes do; None: it goes on."""
        ...

    async def resync(self, layout: Layout) -> str: ...


class Worker:
    def __init__(self, runner: Runner, volumes: Volumes, replicas: ReplicaTools) -> None:
        self._runner, self._volumes, self._replicas = runner, volumes, replicas

    async def do(self, action: BuildWork) -> Seen:
        app = action.app
        match action.work:
            case Look(quick=True):
                return Seen(facts=await self._scripts(app))
            case Look(layout=layout):
                return await self._look(action, layout)
            case Make(volumes, agreed, sizes):
                return await self._each(
                    [
                        self._volumes.make(app, name, agreed.get(f"volume {name}", ""), sizes.get(name, 0))
                        for name in volumes
                    ]
                )
            case Grow(volume, size, GrowStage.NOTE):
                return await self._each([self._note(app, volume)])
            case Grow(volume, size, stage):
                return await self._each([self._volumes.grow(app, volume, size, stage is GrowStage.TRY)])
            case Spread(volume, layout):
                return await self._each([self._spread(app, volume, layout)])
            case Initialise() as work:
                try:
                    return Seen(done=await self._replicas.initialise(work))
                except StepFailed as failed:
                    return Seen(problems=(failed.reason,))
            case Adopt(layout):
                return await self._each([self._replicas.adopt(layout)])
            case Discard(layout):
                return await self._each([self._replicas.discard(layout)])
            case Reconcile(layout):
                return await self._each([self._replicas.reconcile(layout)])
            case Verify(layout):
                return await self._verify(app, layout)
            case Resync(layout):
                return await self._each([self._replicas.resync(layout)])

    async def _each(self, works: list[Coroutine[Any, Any, str]]) -> Seen:
        """One after another, until one fails."""
        done: list[str] = []
        problems: tuple[str, ...] = ()
        for work in works:
            if problems:
                work.close()
                continue
            try:
                done += [said] if (said := await work) else []
            except StepFailed as failed:
                problems = (failed.reason,)
        return Seen(problems=problems, done=tuple(done))

    async def _verify(self, app: AppConfig, layout: Layout) -> Seen:
        try:
            differing = await self._replicas.verify(layout)
        except StepFailed as failed:
            return Seen(problems=(failed.reason,))
        if differing is None:
            return Seen(done=("comparing the copies, block by block",))
        text = ", ".join(f"{size} bytes of volume {name} differ" for name, size in differing.items())
        done = f"the copies were compared: {text or 'they are equal'}"
        return Seen(done=(done,), facts=verified_fact(app.name, differing))

    # ---- looks ------------------------------------------------------------------------------------------------------

    async def _look(self, action: BuildWork, layout: Layout | None) -> Seen:
        app, cluster, active = action.app, action.cluster, action.active
        answer = await self._call(lambda: msgspec.msgpack.encode(requirements.look(app, cluster, active)))
        seen = msgspec.msgpack.decode(answer, type=Seen) if answer else Seen(problems=("a look at files hangs",))
        seen = joined(seen, await versions.look(self._runner, app))
        seen = joined(seen, await self._volumes.look(app))
        if replicated(app):
            seen = joined(seen, await self._look_at_replica(layout, seen))
        return seen

    async def _look_at_replica(self, layout: Layout | None, seen: Seen) -> Seen:
        try:
            await self._replicas.check()
            there = layout is not None and not any(name.startswith("volume ") for name in seen.missing)
            return await self._replicas.look(layout) if there and layout is not None else Seen()
        except StepFailed as failed:
            return Seen(problems=(failed.reason,))

    async def _scripts(self, app: AppConfig) -> dict[str, str]:
        answer = await self._call(lambda: msgspec.msgpack.encode(requirements.scripts(app)))
        return msgspec.msgpack.decode(answer, type=dict[str, str]) if answer else {}

    async def _call(self, look: Any) -> bytes:
        try:
            return await self._runner.call("look at what the application needs", look, timeout=_LOOK_TIME)
        except (TimeoutError, OSError):
            return b""

    # ---- while it runs ----------------------------------------------------------------------------------------------

    async def _note(self, app: AppConfig, volume: str) -> str:
        await self._replicas.note_size(app, volume)
        return ""

    async def _spread(self, app: AppConfig, volume: str, layout: Layout | None) -> str:
        filesystem = next((each for each in app.filesystems if volume_of(app, each) == volume), None)
        clean = filesystem is not None
        device = await self._replicas.resize(layout, volume, clean) if layout is not None else ""
        if filesystem is None:
            return f"volume {volume} has grown; there is no file system of ours on it"
        return await grow.spread(self._runner, filesystem, device)
