"""What an application needs of a node besides its volumes: programs, users, agents, mount points, networks.

All of it touches files and netlink, so it runs in a child process: a file on a dead server hangs there.
"""

import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from truecl.core.interfaces import Interface, place
from truecl.drivers import holders
from truecl.drivers.address.interfaces import read
from truecl.drivers.address.netlink import Netlink
from truecl.drivers.contract import SYSTEM_PATH
from truecl.model.build import MAX_SCRIPT, Seen
from truecl.model.config import AppConfig, ClusterConfig, Program

MAX_SCRIPTS = 100
_ELF = b"\x7fELF"


def look(app: AppConfig, cluster: ClusterConfig, active: bool) -> Seen:
    """`active`: something of the application is up here, so that its mount points and addresses are its own."""
    problems = [*_programs(app), *_agents(cluster)]
    if not active:
        problems += [*_mount_points(app)]
    if app.addresses:
        problems += [*_addresses(app, _interfaces())]
    return Seen(problems=tuple(dict.fromkeys(problems)), facts=scripts(app))


# ---- programs -------------------------------------------------------------------------------------------------------


def _commands(program: Program) -> Iterator[tuple[str, ...]]:
    monitor = program.monitor.command if program.monitor is not None else ()
    yield from (command for command in (program.run, program.start, program.stop, monitor) if command)


def _own(app: AppConfig, path: str) -> bool:
    """On its own file systems: there only while it runs."""
    return any(path.startswith(filesystem.mount.rstrip("/") + "/") for filesystem in app.filesystems)


def _programs(app: AppConfig) -> Iterator[str]:
    for program in app.programs:
        for command in _commands(program):
            if not _own(app, command[0]) and not executable(command[0]):
                yield f"{command[0]} of program {program.name} cannot be run: it is not there, or not executable"
        try:
            pwd.getpwnam(program.user)
        except KeyError:
            yield f"there is no user {program.user}, as whom program {program.name} runs"
        if not _own(app, program.directory + "/") and not Path(program.directory).is_dir():
            yield f"directory {program.directory} of program {program.name} is not there"


def executable(name: str) -> str:
    """Its path; '' if it cannot be run."""
    paths = [name] if "/" in name else [f"{directory}/{name}" for directory in SYSTEM_PATH.split(":")]
    return next((path for path in paths if Path(path).is_file() and os.access(path, os.X_OK)), "")


def scripts(app: AppConfig) -> dict[str, str]:
    """Checksums of what its commands name by absolute path, but for machine code: that is the distribution's."""
    found: dict[str, str] = {}
    for program in app.programs:
        for command in _commands(program):
            for position, word in enumerate(command):
                if word.startswith("/") and not _own(app, word) and len(found) < MAX_SCRIPTS:
                    value = _checksum(word, position)
                    if value:
                        found[f"script {word}"] = value
    return found


def _checksum(path: str, position: int) -> str:
    """'' for what is no script: a program's data may change. Whatever stands right behind an interpreter is one."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SCRIPT:
            return ""
        if position > 1 and not status.st_mode & 0o111:
            return ""
        content = Path(path).read_bytes()
    except OSError:
        return ""
    return "" if content.startswith(_ELF) else hashlib.sha256(content).hexdigest()


def _agents(cluster: ClusterConfig) -> Iterator[str]:
    """Any node may become master, and has to fence the others then."""
    devices = [device for node in cluster.nodes for level in node.fence for device in level]
    for agent in dict.fromkeys(device.agent for device in devices):
        if not executable(agent):
            yield f"fence agent {agent} cannot be run"


# ---- where it goes --------------------------------------------------------------------------------------------------


def _mount_points(app: AppConfig) -> Iterator[str]:
    mounts = holders.own_mounts(Path("/proc"))
    for filesystem in app.filesystems:
        point = os.path.realpath(filesystem.mount)
        taken = next((mount for mount in mounts if mount.point == point), None)
        if taken is not None:
            yield f"mount point {filesystem.mount} is in use: {taken.source} ({taken.type}) is mounted there"
            continue
        there = Path(point)
        while not os.path.lexists(there):
            there = there.parent
        if not there.is_dir():
            yield f"mount point {filesystem.mount} cannot be made: {there} is no directory"
        elif str(there) != point and not os.access(there, os.W_OK):
            yield f"mount point {filesystem.mount} cannot be made: {there} is read-only"


def _interfaces() -> tuple[Interface, ...]:
    netlink = Netlink()
    try:
        return read(netlink).all
    finally:
        netlink.close()


def _addresses(app: AppConfig, interfaces: tuple[Interface, ...]) -> Iterator[str]:
    for each in app.addresses:
        where = place(each, interfaces)
        if isinstance(where, str):
            yield f"address {each.address}: {where}"
