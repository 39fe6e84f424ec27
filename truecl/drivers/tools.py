"""What reqd runs (mount, umount, a check, what asks the kernel in a forked child) ends with the reqd that ran it.

Every life of reqd lives in a control group of its own, and whatever it starts is born in there: a child has no moment
outside of it, as it would if it entered a group by itself. Only programs leave it, for the group of their instance,
before their exec. So the next reqd kills what is left in the groups of earlier lives, and has seen the end of it when
they say `populated 0`. A task in uninterruptible sleep may take long for that; until then nobody knows what it will do.

Paths: ROOT/LIFE, with a ROOT for each run directory; lives are numbered.
"""

from contextlib import suppress
from pathlib import Path

from truecl.drivers.contract import StepFailed
from truecl.drivers.program.cgroup import Group, Groups, pids

_SHOWN = 5


class Tools:
    """`root` belongs to this daemon alone: whoever has the daemon's lock."""

    def __init__(self, groups: Groups, root: Path, proc: Path = Path("/proc")) -> None:
        self._groups = groups
        self._root = root
        self._proc = proc
        self._earlier: list[Group] = []

    def enter(self) -> None:
        """Kill what earlier lives left, and take this process into a group of its own. Raises StepFailed."""
        try:
            self._root.mkdir(mode=0o755, parents=True, exist_ok=True)
            lives = sorted(int(entry.name) for entry in self._root.iterdir() if entry.name.isdecimal())
            self._earlier = [self._groups.at(self._root / str(life)) for life in lives]
            for group in self._earlier:
                group.kill()
            own = self._root / str(lives[-1] + 1 if lives else 1)
            own.mkdir(mode=0o755)
            (own / "cgroup.procs").write_bytes(b"0")
        except OSError as error:
            raise StepFailed(f"cannot take a control group below {self._root}: {error.strerror}") from None

    async def ended(self, seconds: float) -> str:
        """'' when all of them have ended; else, after `seconds` at most, who has not. Raises OSError."""
        deadline = self._groups.now() + seconds
        for group in list(self._earlier):
            if not await self._groups.kill(group, deadline - self._groups.now()):
                return f"of an earlier life of reqd there is still {self._named(group)}; it waits for a device"
            await self._groups.remove(group)
            if group in self._earlier:
                self._earlier.remove(group)
        return ""

    def _named(self, group: Group) -> str:
        names = []
        for pid in list(pids(group))[:_SHOWN]:
            with suppress(OSError):
                name = (self._proc / str(pid) / "comm").read_text(errors="replace").strip()
                names.append(f"{name} ({pid})")
        return ", ".join(names) or "a process"
