"""The tools that an application's storage needs, and their versions."""

import re

from truecl.drivers.build.requirements import executable
from truecl.drivers.contract import Runner, StepFailed
from truecl.model.build import Seen
from truecl.model.config import AppConfig, DrbdStorage, LvmStorage

_TIMEOUT = 10.0
_NUMBER = re.compile(r"(?:DRBDADM_VERSION=|^(?!.*DRBD)[^\n]*?)(\d+(?:\.\d+)+)", re.MULTILINE)
"""drbdadm tells more than its own."""

_TOOLS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "ext3": (("mkfs.ext3", ("-V",)), ("e2fsck", ("-V",))),
    "ext4": (("mkfs.ext4", ("-V",)), ("e2fsck", ("-V",))),
    "xfs": (("mkfs.xfs", ("-V",)), ("xfs_repair", ("-V",))),
    "lvm": (("lvm", ("version",)),),
    "drbd": (("drbdadm", ("--version",)),),
}
"""What each kind needs, and how it tells its version."""
_PACKAGES = {"ext3": "e2fsprogs", "ext4": "e2fsprogs", "xfs": "xfsprogs", "lvm": "lvm2", "drbd": "drbd-utils"}


def kinds(app: AppConfig) -> tuple[str, ...]:
    found: list[str] = [filesystem.type for filesystem in app.filesystems]
    for volume in app.volumes:
        storage = volume.storage
        if isinstance(storage, DrbdStorage):
            found.append("drbd")
            storage = storage.on
        if isinstance(storage, LvmStorage):
            found.append("lvm")
    return tuple(dict.fromkeys(found))


async def look(runner: Runner, app: AppConfig) -> Seen:
    problems: list[str] = []
    facts: dict[str, str] = {}
    for kind in kinds(app):
        for tool, options in _TOOLS[kind]:
            path = executable(tool)
            if not path:
                problems.append(f"{tool} is missing; install {_PACKAGES[kind]}")
            else:
                facts[f"tool {tool}"] = await _version(runner, path, options)
    return Seen(problems=tuple(problems), facts=facts)


async def _version(runner: Runner, path: str, options: tuple[str, ...]) -> str:
    try:
        result = await runner.run((path, *options), timeout=_TIMEOUT)
    except StepFailed as failed:
        return failed.reason
    return version((result.stdout + b"\n" + result.stderr).decode(errors="replace"))


def version(said: str) -> str:
    """The first that looks like one; '' if nothing does."""
    found = _NUMBER.search(said)
    return found[1] if found is not None else ""
