"""What is kept of a started program, in the run directory, so that a restarted reqd finds it again.

A process is known by its number, its start time (field 22 of /proc/PID/stat) and the boot that it belongs to. To take
one over: open the pidfd first, then compare, then see that the pidfd is still alive; in any other order the number may
have changed hands in between.
"""

import os
import select
from collections.abc import Collection
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import msgspec

from truecl.model.step import Instance

MAIN_UNKNOWN = 0


class Record(msgspec.Struct, frozen=True):
    boot: str
    state: Literal["starting", "started"]
    pid: int = MAIN_UNKNOWN
    """The foreground process; MAIN_UNKNOWN for start/stop commands."""
    ticks: int = 0
    """Its start time, in the kernel's clock ticks since boot."""
    leaves: bool = False
    """The start command left processes in its group, so their absence means death."""


class Records:
    """One small file for each program of each instance. All errors of reading count as 'no record'."""

    def __init__(self, directory: Path, proc: Path) -> None:
        self._directory = directory
        self.boot = (proc / "sys" / "kernel" / "random" / "boot_id").read_text().strip()

    def read(self, instance: Instance, name: str) -> Record | None:
        """None as well if it is of an earlier boot."""
        try:
            record = msgspec.json.decode(self._path(instance, name).read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None
        return record if record.boot == self.boot else None

    def write(self, instance: Instance, name: str, record: Record) -> None:
        """Whole or not at all; raises OSError. Not fsynced: it is worth nothing after a reboot."""
        path = self._path(instance, name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.rename(path)

    def remove(self, instance: Instance, name: str) -> None:
        self._path(instance, name).unlink(missing_ok=True)

    def _path(self, instance: Instance, name: str) -> Path:
        return self._directory / f"{quote(instance.app, safe='')}.{instance.generation}.{quote(name, safe='')}.json"


def start_ticks(stat: str) -> int:
    """Field 22 of /proc/PID/stat (proc_pid_stat(5)); the second field may hold anything, brackets and spaces too.

    Raises ValueError if it is not such a line.
    """
    _, bracket, rest = stat.rpartition(")")
    fields = rest.split()
    if not bracket or len(fields) < 20:
        raise ValueError("not a /proc/PID/stat line")
    return int(fields[19])


def ticks_of(proc: Path, pid: int) -> int:
    """Start time of a running process; 0 if there is none of that number."""
    try:
        return start_ticks((proc / str(pid) / "stat").read_text(errors="surrogateescape"))
    except (OSError, ValueError):
        return 0


def open_process(record: Record, proc: Path, members: Collection[int]) -> int | None:
    """A pidfd of the recorded process if it is alive, the same one, and among `members` of its group; else None."""
    if record.pid <= 0:
        return None
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return None
    if record.pid in members and ticks_of(proc, record.pid) == record.ticks > 0 and alive(pidfd):
        return pidfd
    os.close(pidfd)
    return None


def alive(pidfd: int) -> bool:
    """A pidfd is readable from the moment that the process has ended, whoever reaps it."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)
