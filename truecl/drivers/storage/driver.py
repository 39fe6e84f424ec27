"""All kinds of storage behind one driver: each step goes to the one of its spec's type."""

from typing import Protocol

from truecl.drivers.contract import Driver, Facts
from truecl.model.step import Instance, Over, Probe, Step


class StorageKind(Driver, Protocol):
    """A driver of storage also tells which block device there is for a file system."""

    async def device(self, over: Over) -> str | None:
        """The kernel's name ('loop3', 'dm-0', 'drbd1') of the active device. Raises StepFailed: that cannot be told."""
        ...


class StorageDriver:
    """`kinds`: by the type of a step's spec, or of what a file system lies on."""

    def __init__(self, kinds: dict[type, StorageKind]) -> None:
        self._kinds = kinds

    async def up(self, step: Step, instance: Instance) -> None:
        await self._of(step.spec).up(step, instance)

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        await self._of(step.spec).down(step, instance, force)

    async def probe(self, step: Step, instance: Instance) -> Probe:
        return await self._of(step.spec).probe(step, instance)

    async def detail(self, step: Step, instance: Instance) -> Facts:
        return await self._of(step.spec).detail(step, instance)

    async def device(self, over: Over) -> str | None:
        return await self._of(over).device(over)

    def _of(self, spec: object) -> StorageKind:
        """Raises TypeError for a step that is no storage."""
        kind = self._kinds.get(type(spec))
        if kind is None:
            raise TypeError(f"{type(spec).__name__} is no storage")
        return kind
