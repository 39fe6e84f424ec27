"""Running LVM so that it hangs on nothing of ours.

LVM reads the start of every block device that its configuration does not leave out, DRBD's too. Where such a device
stands still (a primary that lost its peer), the read never ends, and not even KILL ends the command (seen on a real
kernel); and while LVM has one open, it cannot become secondary. So DRBD's devices are left out, on top of whatever the
operator's own filter leaves out.
"""

from pathlib import Path

from truecl.drivers.contract import Result, Runner
from truecl.drivers.storage.lvm import argv, parse

_CONFIGURATION = ("lvm.conf", "lvmlocal.conf")


class Lvm:
    """`udev`: the socket that is there while udevd runs. `timeout`: seconds, where a call names none."""

    def __init__(
        self,
        runner: Runner,
        *,
        etc: Path = Path("/etc/lvm"),
        udev: Path = Path("/run/udev/control"),
        timeout: float = 20.0,
    ) -> None:
        self._runner = runner
        self._etc = etc
        self._udev = udev
        self._timeout = timeout
        self._stamps: tuple[int, ...] = ()
        self._filter: tuple[str, ...] = ()

    async def run(self, command: tuple[str, ...], timeout: float | None = None) -> Result:
        """One of `argv`'s commands, dmsetup's too. Raises StepFailed if it cannot be executed at all."""
        if command[0] == argv.LVM:
            command = argv.sparing(command, await self._own_filter())
        return await self._execute(command, timeout)

    async def _execute(self, command: tuple[str, ...], timeout: float | None) -> Result:
        """Without udevd nobody else would make or remove the device nodes, nor answer LVM's question whether it did."""
        environment = {} if self._udev.exists() else {"DM_DISABLE_UDEV": "1"}
        return await self._runner.run(command, timeout=timeout or self._timeout, environment=environment)

    async def _own_filter(self) -> tuple[str, ...]:
        """The operator's, asked again when a file of LVM's configuration has changed."""
        stamps = tuple(_stamp(self._etc / name) for name in _CONFIGURATION)
        if stamps != self._stamps:
            result = await self._execute(argv.own_filter(), None)
            self._filter = parse.patterns(result.stdout) if result.ok else ()
            self._stamps = stamps
        return self._filter


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
