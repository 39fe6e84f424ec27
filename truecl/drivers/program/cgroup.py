"""Control groups: the only way to know, freeze and kill *all* processes of an application.

cgroup v2 where it is mounted (also in a hybrid, as a separate mount point), else the v1 freezer. The difference that
matters: v2 kills a frozen group as it is; v1 delivers SIGKILL only to thawed tasks, so there it is kill, then thaw.

Paths: ROOT/APP.GENERATION for an instance, below it one group for each program and one for its monitor.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from truecl.drivers.contract import Loop, StepFailed, eventually
from truecl.drivers.holders import own_mounts
from truecl.model.step import Instance

FREEZE_WAIT = 0.05
"""Seconds that a freeze is waited for; tasks in uninterruptible sleep never freeze."""


class Group(Protocol):
    """One directory of a hierarchy, with everything below it. A group that does not exist is empty."""

    path: Path

    def child(self, name: str) -> "Group": ...
    def freeze(self, frozen: bool) -> None: ...
    def is_frozen(self) -> bool: ...
    def kill(self) -> None: ...
    def populated(self) -> bool: ...


class GroupV2:
    def __init__(self, path: Path) -> None:
        self.path = path

    def child(self, name: str) -> Group:
        return GroupV2(self.path / name)

    def freeze(self, frozen: bool) -> None:
        with suppress(FileNotFoundError):
            _write(self.path / "cgroup.freeze", "1" if frozen else "0")

    def is_frozen(self) -> bool:
        return self._event("frozen")

    def kill(self) -> None:
        """Every process in the group and below, frozen or not, also those being forked (Linux 5.14)."""
        try:
            _write(self.path / "cgroup.kill", "1")
        except OSError:
            signal_all(self, signal.SIGKILL)

    def populated(self) -> bool:
        """Whether a live process is in the group or below. Raises OSError if that cannot be told."""
        return self._event("populated")

    def _event(self, name: str) -> bool:
        try:
            lines = (self.path / "cgroup.events").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if _is_gone(error):
                return False
            raise
        return f"{name} 1" in lines


class GroupV1:
    """In the freezer hierarchy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def child(self, name: str) -> Group:
        return GroupV1(self.path / name)

    def freeze(self, frozen: bool) -> None:
        with suppress(FileNotFoundError):
            _write(self.path / "freezer.state", "FROZEN" if frozen else "THAWED")

    def is_frozen(self) -> bool:
        try:
            return (self.path / "freezer.state").read_text().strip() == "FROZEN"
        except FileNotFoundError:
            return False

    def kill(self) -> None:
        """One round: stop the group so that nothing forks away, kill, and thaw so that the signals arrive."""
        self.freeze(True)
        signal_all(self, signal.SIGKILL)
        self.freeze(False)

    def populated(self) -> bool:
        return next(pids(self), None) is not None


def pids(group: Group) -> Iterator[int]:
    """Of the group and all below it."""
    for directory in _tree(group.path):
        try:
            text = (directory / "cgroup.procs").read_text()
        except OSError as error:
            if _is_gone(error):
                continue
            raise
        yield from (int(pid) for pid in text.split())


def signal_all(group: Group, number: signal.Signals) -> None:
    """To every process that is in the group now."""
    for pid in list(pids(group)):
        if pid > 0:  # 0: a process of another PID namespace
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Groups:
    """The groups of all instances. `root`: a directory in a cgroup hierarchy, made if missing, outside reqd's own."""

    def __init__(self, loop: Loop, root: Path, version: int = 2) -> None:
        self._loop = loop
        self._root = root
        self._kind: type[GroupV1] | type[GroupV2] = GroupV2 if version == 2 else GroupV1

    def now(self) -> float:
        return self._loop.now()

    def at(self, path: Path) -> Group:
        """Any group of the same hierarchy."""
        return self._kind(path)

    def of(self, instance: Instance) -> Group:
        return self._kind(self._root / f"{quote(instance.app, safe='')}.{instance.generation}")

    def program(self, instance: Instance, name: str) -> Group:
        return self.of(instance).child("program." + quote(name, safe=""))

    def monitor(self, instance: Instance, name: str) -> Group:
        return self.of(instance).child("monitor." + quote(name, safe=""))

    def create(self, group: Group) -> None:
        """Raises StepFailed."""
        try:
            group.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise StepFailed(f"cannot make the control group {group.path}: {error.strerror}") from None

    async def freeze(self, group: Group, frozen: bool = True) -> bool:
        """Whether it is as wanted within FREEZE_WAIT. A group that does not exist counts as frozen and as thawed."""
        if not group.path.exists():
            return True
        try:
            group.freeze(frozen)
            return await eventually(self._loop, FREEZE_WAIT, lambda: group.is_frozen() is frozen)
        except OSError as error:
            return _is_gone(error)

    async def kill(self, group: Group, seconds: float) -> bool:
        """Kill again and again until nothing is left. False if something still is after `seconds`."""
        deadline = self._loop.now() + seconds
        while group.populated():
            rest = deadline - self._loop.now()
            if rest <= 0:
                return False
            with suppress(FileNotFoundError):
                group.kill()
            await eventually(self._loop, min(0.2, rest), lambda: not group.populated())
        return True

    async def stop(self, group: Group, seconds: float) -> bool:
        """The guard's way (SAFETY.md section 6): freeze, so that nothing is written or forked any more, but wait for
        that no longer than FREEZE_WAIT; then kill. False if something is still there after `seconds`."""
        await self.freeze(group)
        return await self.kill(group, seconds)

    async def remove(self, group: Group) -> bool:
        """Remove the empty group and those below it. False if something is still in it."""

        def removed() -> bool:
            for directory in reversed(_tree(group.path)):
                with suppress(OSError):
                    directory.rmdir()
            return not group.path.exists()

        return await eventually(self._loop, 0.2, removed)


def find(proc: Path = Path("/proc")) -> tuple[Path, int]:
    """Mount point and version of the hierarchy to use. Raises StepFailed if neither is mounted."""
    mounts = own_mounts(proc)
    for mount in mounts:
        if mount.type == "cgroup2" and not mount.read_only:
            return Path(mount.point), 2
    for mount in mounts:
        if mount.type == "cgroup" and "freezer" in mount.super_options:
            return Path(mount.point), 1
    raise StepFailed("no cgroup v2 and no v1 freezer is mounted; programs cannot be run without either")


def _tree(path: Path) -> list[Path]:
    """The directory and all below it, parents first; [] if it does not exist."""
    return [Path(directory) for directory, _, _ in os.walk(path)]


def _write(path: Path, text: str) -> None:
    """Without O_CREAT: a control file that is missing is not to be made."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _is_gone(error: OSError) -> bool:
    """ENOENT before the group was opened, ENODEV when it was removed after that."""
    return error.errno in (errno.ENOENT, errno.ENODEV)
