"""DRBD on this node: what it says, its tools, and its files. Decides nothing."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from truecl.drivers.contract import Loop, Result, Runner, StepFailed, eventually
from truecl.drivers.storage.drbd import argv, parse, resource, token
from truecl.drivers.storage.drbd.parse import Seen
from truecl.drivers.storage.drbd.token import Token, boottime
from truecl.model.ids import AppName, NodeName
from truecl.model.replica import Disk, Layout, Link, ReplicaReport, Role, VolumeReport

TOOL_TIME = 10.0
"""Seconds for one order to DRBD that waits for nobody else."""
TURN_TIME = 30.0
"""Seconds that one action on a resource waits for another to end."""


class Kernel:
    """`handler`: the command that DRBD calls when a primary lost its peer. `run`: truecl's run directory."""

    def __init__(
        self,
        runner: Runner,
        loop: Loop,
        me: NodeName,
        run: Path,
        handler: str,
        *,
        proc: Path = Path("/proc"),
        etc: Path = Path("/etc/drbd.d"),
        adm: Path = Path(argv.ADM),
    ) -> None:
        self.loop = loop
        self.run = run
        self._runner = runner
        self._me = me
        self._handler = handler
        self._proc = proc
        self._etc = etc
        self._adm = adm
        self._busy: set[AppName] = set()

    # ---- what there is ----------------------------------------------------------------------------------------------

    def version(self) -> tuple[int, int, int] | None:
        """None: the module is not loaded, so nothing of DRBD is there. Raises StepFailed."""
        text = self._text()
        return parse.version(text) if text is not None else None

    def _text(self) -> str | None:
        try:
            return (self._proc / "drbd").read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StepFailed(f"cannot read {self._proc / 'drbd'}: {error.strerror}") from None

    async def seen(self, layout: Layout) -> dict[int, Seen]:
        """Of the layout's minors, those that are there. Raises StepFailed: it cannot be told."""
        text = self._text()
        if text is None:
            return {}
        if parse.version(text)[0] >= 9:
            there = (await self.resources()).get(layout.resource, {})
        else:
            there = parse.proc_drbd(text)
        minors = [volume.minor for volume in layout.volumes]
        return {minor: there[minor] for minor in minors if minor in there}

    async def resources(self) -> dict[str, dict[int, Seen]]:
        """All of this kernel by their names. On 8.4 it may wait for a promotion. Raises StepFailed."""
        if self.version() is None:
            return {}
        result = await self._runner.run(argv.look(), timeout=TOOL_TIME)
        if not result.ok:
            raise StepFailed(f"DRBD gives no account of itself: {parse.refusal(result)}")
        return parse.events(result.stdout.decode(errors="replace"))

    def forget_split(self, resource: str) -> None:
        """The copies have met again, or the operator has thrown one of them away."""
        with suppress(OSError):
            Path(token.split_path(self.run, resource)).unlink(missing_ok=True)

    async def report(self, layout: Layout, trouble: str = "") -> ReplicaReport:
        """Raises StepFailed."""
        seen = await self.seen(layout)
        link = link_of(seen)
        split = Path(token.split_path(self.run, layout.resource))
        if link in (Link.CONNECTED, Link.SYNC_SOURCE, Link.SYNC_TARGET):
            self.forget_split(layout.resource)
        volumes = tuple(
            VolumeReport(volume.name, each.disk, each.peer, each.done, each.rate, each.left, each.behind)
            for volume in layout.volumes
            if (each := seen.get(volume.minor)) is not None
        )
        return ReplicaReport(
            layout.resource,
            role_of(layout, seen),
            link,
            any(each.suspended for each in seen.values()),
            volumes,
            link is Link.STANDALONE and split.exists(),
            trouble,
        )

    async def refuse_other_policy(self, layout: Layout) -> None:
        """Raises StepFailed unless a primary of it is sure to stand still when it loses its peer."""
        result = await self._runner.run(argv.show(layout.resource), timeout=TOOL_TIME)
        found = parse.fencing(result.stdout.decode(errors="replace")) if result.ok else ()
        version = self.version()
        nine = version is not None and version[0] >= 9
        expected = 1 if nine else len(layout.volumes)  # for each connection, or each volume; the default is not shown
        others = sorted({policy for policy in found if policy != resource.POLICY})
        if others or len(found) < expected:
            raise StepFailed(
                f"DRBD resource {layout.resource} does not freeze when it loses its peer: its fencing policy is"
                f" {' and '.join(others) or 'dont-care'}, and not {resource.POLICY}"
            )

    # ---- its files --------------------------------------------------------------------------------------------------

    def layout(self, app: AppName) -> Layout | None:
        """What its resource file was made from; None: it has none here. Raises StepFailed."""
        path = self._file(app)
        try:
            return resource.layout_of(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StepFailed(f"cannot read {path}: {error}") from None

    def write(self, layout: Layout, disks: dict[int, str], version: tuple[int, int, int]) -> None:
        """The resource file, and the one that has drbdadm find it. Raises StepFailed."""
        path = self._file(layout.resource)
        text = resource.text(layout, self._me, disks, self._handler, version, os.uname().nodename)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(path, text)
            _replace(self._etc / "truecl.res", resource.include(str(path.parent)))
        except OSError as error:
            raise StepFailed(f"cannot write {error.filename or path}: {error.strerror}") from None

    def remove(self, app: AppName) -> None:
        """Raises StepFailed."""
        try:
            for path in (self._file(app), token.path(self.run, app), token.split_path(self.run, app)):
                Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise StepFailed(f"cannot remove {error.filename}: {error.strerror}") from None

    def _file(self, app: AppName) -> Path:
        return self.run / "drbd" / f"{app}.res"

    def note(self, app: AppName, noted: Token | None) -> None:
        """Which answers of the fence-peer handler hold from here on; None: none. Raises StepFailed."""
        try:
            if noted is None:
                token.end(self.run, app)
            else:
                token.write(self.run, app, noted)
        except OSError as error:
            raise StepFailed(f"cannot write {token.path(self.run, app)}: {error.strerror}") from None

    def noted(self, app: AppName) -> Token | None:
        return token.read(self.run, app)

    def now(self) -> float:
        """On the handler's clock."""
        return boottime()

    # ---- its tools --------------------------------------------------------------------------------------------------

    async def load(self) -> tuple[int, int, int]:
        """Have the module in the kernel. Its version. Raises StepFailed."""
        if not self._adm.exists():
            raise StepFailed(f"{argv.ADM} is missing: install drbd-utils")
        if self.version() is None:
            result = await self._runner.run(argv.load(), timeout=TOOL_TIME)
            if not result.ok:
                raise StepFailed(
                    f"this kernel ({os.uname().release}) has no DRBD: {result.last_lines() or result.ending()}"
                )
        version = self.version()
        if version is None or version < (8, 4, 0):
            raise StepFailed(f"this kernel has DRBD {version or '(none)'}; 8.4 or 9 is needed")
        return version

    async def order(self, command: tuple[str, ...], timeout: float = TOOL_TIME) -> None:
        """Raises StepFailed with DRBD's reason."""
        result = await self.ask(command, timeout)
        if not result.ok:
            raise StepFailed(parse.refusal(result))

    async def ask(self, command: tuple[str, ...], timeout: float = TOOL_TIME) -> Result:
        return await self._runner.run(command, timeout=timeout)

    async def until(self, layout: Layout, seconds: float, so: Callable[[Seen], bool]) -> bool:
        """Wait until it is so of every volume, and all are there."""
        deadline = self.loop.now() + seconds
        while True:
            seen = await self.seen(layout)
            if len(seen) == len(layout.volumes) and all(so(each) for each in seen.values()):
                return True
            if self.loop.now() >= deadline:
                return False
            await self.loop.sleep(0.02)

    def still_at_work(self, layout: Layout) -> str:
        """A tool of DRBD that was given up, is in the kernel still, and may do its work yet; '' if there is none."""
        names = {str(layout.resource), *(str(volume.minor) for volume in layout.volumes)}
        for directory in self._proc.iterdir():
            if not directory.name.isdigit():
                continue
            with suppress(OSError):
                if not (directory / "comm").read_text().startswith("drbdsetup"):
                    continue
                words = (directory / "cmdline").read_text(errors="replace").split("\0")
                if words[1:2] not in (["events2"], ["show"]) and names & set(words[2:]):
                    return f"{' '.join(words).strip()[:80]} ({directory.name}) is still at work"
        return ""

    @asynccontextmanager
    async def turn(self, app: AppName) -> AsyncIterator[None]:
        """One action at a time changes a resource. Raises StepFailed."""
        if not await eventually(self.loop, TURN_TIME, lambda: app not in self._busy):
            raise StepFailed(f"DRBD resource {app}: another action on it does not end")
        self._busy.add(app)
        try:
            yield
        finally:
            self._busy.discard(app)


def role_of(layout: Layout, seen: dict[int, Seen]) -> Role:
    """One volume that is primary makes the resource so; it is down only when nothing of it is there."""
    roles = {each.role for each in seen.values()}
    for role in (Role.PRIMARY, Role.UNKNOWN, Role.SECONDARY):
        if role in roles:
            return role
    return Role.DOWN


_NEWS = (Link.STANDALONE, Link.UNKNOWN, Link.CONNECTING, Link.SYNC_TARGET, Link.SYNC_SOURCE, Link.VERIFYING)


def link_of(seen: dict[int, Seen]) -> Link:
    """Of several volumes: what is furthest from connected and equal."""
    links = {each.link for each in seen.values()}
    return next((link for link in _NEWS if link in links), Link.CONNECTED if links else Link.UNKNOWN)


def diskless(each: Seen) -> bool:
    return each.disk is Disk.DISKLESS


def gave_up(each: Seen) -> bool:
    """Its disk failed. One that was severed stands alone, and its disk is well."""
    return diskless(each) and each.link is not Link.STANDALONE


def _replace(path: Path, text: str) -> None:
    """Whole or not at all; nothing is done where it says so already."""
    with suppress(OSError):
        if path.read_text() == text:
            return
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)
