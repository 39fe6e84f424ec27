"""A build's own step: the file system on a volume is found, or made.

It is the only place where a file system is made, and it runs under a grant: nobody else has the volume.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from truecl.drivers.build.signatures import Signature, described, signatures, wipe
from truecl.drivers.contract import Facts, Result, Runner, StepFailed, last_lines, spec_of
from truecl.model.ledger import Format
from truecl.model.step import FormatSpec, Instance, Over, Probe, ReplicaVolume, Step

_MAKE_TIME = 600.0
_MAX_KNOWN = 64
_KINDS = {"ext3": ("ext2", "ext3"), "ext4": ("ext2", "ext3", "ext4"), "xfs": ("xfs",)}
"""What may stand where one is configured: ext4's driver mounts the older ones too."""


class FormatDriver:
    """`device_of` gives the name ('drbd100') of the device that a volume's storage driver found by probing."""

    def __init__(
        self, runner: Runner, device_of: Callable[[Over], Awaitable[str | None]], *, dev: Path = Path("/dev")
    ) -> None:
        self._runner, self._device_of, self._dev = runner, device_of, dev
        self._known: dict[tuple[Instance, str], Facts] = {}
        """What was found, or made, by instance and step."""

    async def up(self, step: Step, instance: Instance) -> None:
        wanted = spec_of(step, FormatSpec).format
        device = await self._device_of(step.over) if step.over is not None else None
        if device is None:
            raise StepFailed(f"volume {wanted.volume} is not active")
        path = str(self._dev / device)
        there = await signatures(self._runner, path)
        facts = _found(wanted, there)
        if facts["found"] == "none" and wanted.make or wanted.agreed and wanted.agreed == described(there):
            if there:
                await wipe(self._runner, path)
            await self._make(wanted, path, isinstance(step.over, ReplicaVolume))
            facts = _found(wanted, await signatures(self._runner, path)) | {"note": f"{wanted.type} made on {path}"}
            if facts["found"] != wanted.uuid:
                raise StepFailed(f"volume {wanted.volume}: mkfs ended well, but there is {facts['found']} on {path}")
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[instance, step.name] = facts | {"device": path}

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        """Nothing of it is active once its tool has ended."""
        self._known.pop((instance, step.name), None)

    async def probe(self, step: Step, instance: Instance) -> Probe:
        return Probe.ACTIVE if (instance, step.name) in self._known else Probe.INACTIVE

    async def detail(self, step: Step, instance: Instance) -> Facts:
        return self._known.get((instance, step.name), {})

    async def _make(self, wanted: Format, path: str, replicated: bool) -> None:
        result = await self._runner.run(command(wanted, path, replicated), timeout=_MAKE_TIME)
        if not result.ok:
            raise StepFailed(f"volume {wanted.volume}: mkfs.{wanted.type}: {refusal(result)}")


def command(wanted: Format, path: str, replicated: bool) -> tuple[str, ...]:
    """What is there was looked at before, so the tools are not to ask. To discard a whole replicated volume first
    would put all of it out of sync with a peer that is away. Raises StepFailed."""
    if wanted.type == "xfs":
        keep: tuple[str, ...] = ("-K",) if replicated else ()
        return ("/usr/sbin/mkfs.xfs", "-q", "-f", *keep, "-m", f"uuid={wanted.uuid}", path)
    if wanted.type in ("ext3", "ext4"):
        keep = ("-E", "nodiscard") if replicated else ()
        return (f"/usr/sbin/mkfs.{wanted.type}", "-q", "-F", *keep, "-U", wanted.uuid, path)
    raise StepFailed(f"volume {wanted.volume}: file systems of type {wanted.type} are not made here")


def refusal(result: Result) -> str:
    """mkfs.xfs says how it is called after the reason."""
    reason, usage, _ = result.stderr.partition(b"\nUsage:")
    return last_lines(reason) if usage else result.last_lines() or result.ending()


def _found(wanted: Format, there: tuple[Signature, ...]) -> Facts:
    if not there:
        return {"found": "none", "note": "there is none"}
    if len(there) == 1 and there[0].type in _KINDS.get(wanted.type, ()) and there[0].uuid:
        return {"found": there[0].uuid, "note": f"{there[0].type} {there[0].uuid}"}
    return {"found": f"other {described(there)}", "note": f"there is {described(there)}"}
