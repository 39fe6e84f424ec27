"""What stands on a device or in an image: every signature that libblkid knows, wherever it is (wipefs(8)).

blkid(8) would say nothing of a device with two of them, as one that lay under DRBD has.
"""

import json
from pathlib import Path

import msgspec

from truecl.drivers.contract import Result, Runner, StepFailed

WIPEFS = "/usr/sbin/wipefs"
_TIMEOUT = 20.0


class Signature(msgspec.Struct, frozen=True):
    type: str
    """'ext4', 'LVM2_member', 'drbd', 'dos' …"""
    uuid: str = ""
    label: str = ""

    def __str__(self) -> str:
        return " ".join(each for each in (self.type, self.uuid, f"({self.label})" if self.label else "") if each)


async def signatures(runner: Runner, path: str | Path) -> tuple[Signature, ...]:
    """Raises StepFailed: that cannot be told."""
    result = await runner.run((WIPEFS, "--json", "--no-act", str(path)), timeout=_TIMEOUT)
    if not result.ok:
        raise StepFailed(f"cannot look at what is on {path}: {result.last_lines() or result.ending()}")
    return parse(result)


async def wipe(runner: Runner, path: str | Path) -> None:
    """Raises StepFailed."""
    result = await runner.run((WIPEFS, "--all", "--quiet", str(path)), timeout=_TIMEOUT)
    if not result.ok:
        raise StepFailed(f"cannot take away what is on {path}: {result.last_lines() or result.ending()}")


def parse(result: Result) -> tuple[Signature, ...]:
    """Each once: some stand in several places. Raises StepFailed for what is no report of wipefs."""
    if not result.stdout.strip():
        return ()
    try:
        rows = json.loads(result.stdout)["signatures"]
        found = [Signature(str(row["type"]), str(row["uuid"] or ""), str(row["label"] or "")) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StepFailed(f"wipefs said no report: {result.stdout[:60]!r}") from None
    return tuple(dict.fromkeys(found))


def described(found: tuple[Signature, ...]) -> str:
    return ", ".join(str(each) for each in found)
