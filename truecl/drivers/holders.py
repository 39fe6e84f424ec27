"""Who keeps a device or file system busy: mounts in any namespace, open files, working directories.

For error messages, and for the guard's last resort. Reads only /proc files that never touch the file system in question
nor wait for a task's memory lock (`comm`, not `cmdline`), so that a hanging disk cannot hang the answer.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")
_LINE = re.compile(
    r"(?P<id>\d+) (?P<parent>\d+) (?P<device>\d+:\d+) (?P<root>\S+) (?P<point>\S+) (?P<options>\S+)(?: \S+)*? - "
    r"(?P<type>\S+) (?P<source>\S*) (?P<super>\S+)"
)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

    id: int
    parent: int
    device: str
    """'MAJOR:MINOR' of the file system."""
    root: str
    point: str
    options: tuple[str, ...]
    type: str
    source: str
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    command: str
    what: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}) {self.what}"


def mounts(text: str) -> tuple[Mount, ...]:
    """The lines of a mountinfo file; ones that are not understood are left out."""
    found = []
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        found.append(
            Mount(
                id=int(match["id"]),
                parent=int(match["parent"]),
                device=match["device"],
                root=unescape(match["root"]),
                point=unescape(match["point"]),
                options=tuple(match["options"].split(",")),
                type=match["type"],
                source=unescape(match["source"]),
                super_options=tuple(match["super"].split(",")),
            )
        )
    return tuple(found)


def unescape(text: str) -> str:
    r"""Undo the kernel's octal escapes: space, tab, newline and backslash as \040, \011, \012, \134."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def own_mounts(proc: Path) -> tuple[Mount, ...]:
    """Of this process's namespace. Raises OSError without /proc."""
    return mounts((proc / "self" / "mountinfo").read_text(errors="surrogateescape"))


def elsewhere(proc: Path, device: str, limit: int = 5) -> tuple[Holder, ...]:
    """Processes in other mount namespaces that have a copy of a mount of `device` ('MAJOR:MINOR'), one for each."""
    found: list[Holder] = []
    seen = {_link(proc / "self" / "ns" / "mnt")}
    for pid in _pids(proc):
        namespace = _link(proc / str(pid) / "ns" / "mnt")
        if namespace in seen:
            continue
        seen.add(namespace)
        points = [mount.point for mount in mounts(_text(proc / str(pid) / "mountinfo")) if mount.device == device]
        if points:
            found.append(Holder(pid, _text(proc / str(pid) / "comm").strip(), f"has a copy of the mount, {points[0]}"))
        if len(found) >= limit:
            break
    return tuple(found)


def users(proc: Path, points: tuple[str, ...], limit: int = 20) -> tuple[Holder, ...]:
    """Processes with a file, directory, root or program below one of the mount points, by what /proc's links say.

    Memory that is mapped from a file closed since is not found: to list it means to wait for the memory lock.
    """
    found: list[Holder] = []
    for pid in _pids(proc):
        if pid == os.getpid():
            continue
        used = _used(proc / str(pid), points)
        if used:
            found.append(Holder(pid, _text(proc / str(pid) / "comm").strip(), used))
        if len(found) >= limit:
            break
    return tuple(found)


def _used(process: Path, points: tuple[str, ...]) -> str:
    """How the process uses what is below `points`, or ''."""
    for name, words in (("cwd", "works in"), ("root", "has its root at"), ("exe", "runs")):
        target = _link(process / name)
        if _below(target, points):
            return f"{words} {target}"
    try:
        with os.scandir(process / "fd") as entries:
            for entry in entries:
                target = _link(Path(entry.path))
                if _below(target, points):
                    return f"has open {target}"
    except OSError:
        return ""
    return ""


def _below(target: str, points: tuple[str, ...]) -> bool:
    return any(target == point or target.startswith(point.rstrip("/") + "/") for point in points)


def _pids(proc: Path) -> Iterator[int]:
    return iter(sorted(int(entry.name) for entry in os.scandir(proc) if entry.name.isdecimal()))


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""
