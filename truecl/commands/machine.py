"""What `lha_check` asks of the machine it runs on; a test answers for a machine of its own."""

import ipaddress
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import netifaces

from truecl.commands.clock import Steering, steering
from truecl.drivers.contract import last_lines
from truecl.drivers.fence import parse
from truecl.drivers.fence.parse import Metadata
from truecl.drivers.storage.drbd import argv as drbd_argv
from truecl.drivers.storage.lvm import argv as lvm_argv
from truecl.drivers.storage.lvm import parse as lvm_parse
from truecl.drivers.storage.lvm.parse import LogicalVolume
from truecl.drivers.watchdog.virtual import virtual

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

METADATA_TIME = 10.0
"""Seconds for an agent to describe itself."""

LVM_TIME = 20.0
"""Seconds for LVM to read the disks."""

DRBD_TIME = 10.0
"""Seconds for drbdadm to read its files."""

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class WatchdogFacts(NamedTuple):
    """What can be said of a device without opening it, which would arm it."""

    present: bool
    identity: str = ""
    """'' where the kernel does not say."""
    nowayout: bool = False
    """Once armed it cannot be stopped."""
    virtual: str = ""
    """What says that this is a virtual machine."""


class Machine(NamedTuple):
    """Each field asks one question when it is called."""

    program: Callable[[str], bool]
    """A name in the system's path, or an absolute path: is it a program that can be run?"""
    fence_agent: Callable[[str], Metadata | str]
    """What a fence agent says of itself, or why it says nothing."""
    user: Callable[[str], int | None]
    """A user's id, None: there is no such user."""
    interfaces: Callable[[], tuple[Interface, ...]]
    """Addresses with their networks, of all interfaces."""
    dropping_networkd: Callable[[], tuple[str, ...]]
    """Files of systemd-networkd that manage a link here and let it drop foreign addresses."""
    watchdog: Callable[[str], WatchdogFacts] = lambda device: WatchdogFacts(False)
    module: Callable[[str], bool] = lambda name: False
    """Does the kernel have it: built in, loaded, or to be loaded?"""
    parameter: Callable[[str, str], str] = lambda module, name: ""
    """Of a module that is loaded; '' otherwise."""
    starts_at_boot: Callable[[str], bool] = lambda unit: False
    """Is this unit of systemd enabled?"""
    lvm_reads_replicas: Callable[[], bool] = lambda: False
    """Does an LVM command by hand look at DRBD's devices?"""
    volumes: Callable[[str], tuple[LogicalVolume, ...] | str] = lambda group: ""
    """All of a volume group, or why they cannot be told; '': that is not known, as only root may look."""
    drbd_complaint: Callable[[], str] = lambda: ""
    """What drbdadm finds wrong with its files, '' for nothing."""
    steering: Callable[[], Steering] = Steering
    """How fast the clock is, and may be, corrected."""


def this_machine(root: Path = Path("/")) -> Machine:
    return Machine(
        program=lambda name: shutil.which(name, path=SYSTEM_PATH) is not None,
        fence_agent=_fence_agent,
        user=user_id,
        interfaces=lambda: tuple(_interfaces()),
        dropping_networkd=lambda: tuple(_dropping(root)),
        watchdog=lambda device: _watchdog(root, device),
        module=lambda name: _module(root, name),
        parameter=lambda module, name: " ".join(_lines(root / "sys/module" / module / "parameters" / name)).strip(),
        starts_at_boot=lambda unit: any((root / "etc/systemd/system").glob(f"*.wants/{unit}")),
        lvm_reads_replicas=_lvm_reads_replicas,
        volumes=_volumes,
        drbd_complaint=_drbd_complaint,
        steering=lambda: steering(root),
    )


def _module(root: Path, name: str) -> bool:
    if (root / "sys/module" / name).exists():
        return True
    modules = root / "lib/modules" / os.uname().release
    listed = re.compile(rf"(^|.*/){name.replace('_', '[-_]')}\.ko\b.*")
    return any(
        listed.match(line) for file in ("modules.builtin", "modules.dep") for line in _lines(modules / file, None)
    )


def _lvm_reads_replicas() -> bool:
    environment = {"PATH": SYSTEM_PATH, "LANG": "C"}
    said = b""
    for key in ("devices/filter", "devices/global_filter", "devices/use_devicesfile"):
        command = (lvm_argv.LVM, "lvmconfig", key)
        try:
            said += subprocess.run(command, capture_output=True, cwd="/", env=environment, timeout=LVM_TIME).stdout
        except (OSError, subprocess.TimeoutExpired):
            return False
    return b"drbd" not in said and b"use_devicesfile=1" not in said


def _volumes(group: str) -> tuple[LogicalVolume, ...] | str:
    if os.geteuid() != 0:
        return ""
    environment = {"PATH": SYSTEM_PATH, "LANG": "C"}
    command = lvm_argv.sparing(lvm_argv.look(group), ())
    try:
        said = subprocess.run(command, capture_output=True, cwd="/", env=environment, timeout=LVM_TIME)
        if said.returncode == 0:
            return lvm_parse.volumes(said.stdout)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"LVM gives no answer within {LVM_TIME:g} s; is a disk dead?"
    except ValueError as error:
        return str(error)
    return last_lines(said.stderr, 2)


def _drbd_complaint() -> str:
    environment = {"PATH": SYSTEM_PATH, "LANG": "C"}
    command = drbd_argv.read()
    try:
        said = subprocess.run(command, capture_output=True, cwd="/", env=environment, timeout=DRBD_TIME)
    except OSError:
        return ""  # that it is missing is said elsewhere
    except subprocess.TimeoutExpired:
        return f"no end within {DRBD_TIME:g} s"
    return last_lines(said.stderr, 2) or f"exit code {said.returncode}" if said.returncode else ""


def _fence_agent(name: str) -> Metadata | str:
    """Its metadata are part of the program: no device is asked, and no secret needed."""
    path = shutil.which(name, path=SYSTEM_PATH) or name
    pipe = subprocess.PIPE
    environment = {"PATH": SYSTEM_PATH, "LANG": "C"}
    try:
        agent = subprocess.Popen(
            [path], stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", env=environment, start_new_session=True
        )
    except OSError as error:
        return error.strerror or str(error)
    with agent:
        try:
            said, complaint = agent.communicate(b"action=metadata\n", METADATA_TIME)
        except subprocess.TimeoutExpired:
            os.killpg(agent.pid, signal.SIGKILL)
            return f"no end within {METADATA_TIME:g} s"
    if agent.returncode:
        return f"exit code {agent.returncode}: {last_lines(complaint)}"
    try:
        return parse.metadata(said.decode(errors="replace"))
    except ValueError as error:
        return f"what it says {error}"


def _watchdog(root: Path, device: str) -> WatchdogFacts:
    name = Path(device).name
    about = root / "sys/class/watchdog" / ("watchdog0" if name == "watchdog" else name)
    identity, nowayout = (" ".join(_lines(about / key)).strip() for key in ("identity", "nowayout"))
    return WatchdogFacts((root / device.lstrip("/")).is_char_device(), identity, nowayout == "1", virtual(root))


def user_id(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _interfaces() -> Iterator[Interface]:
    for name in sorted(netifaces.interfaces()):
        for family, addresses in netifaces.ifaddresses(name).items():
            if family not in (netifaces.AF_INET, netifaces.AF_INET6):
                continue
            for each in addresses:
                try:
                    prefix = int(ipaddress.ip_address(each.get("mask", ""))).bit_count()
                    yield ipaddress.ip_interface(f"{each.get('addr', '').split('%')[0]}/{prefix}")
                except ValueError:
                    continue


def _dropping(root: Path) -> Iterator[str]:
    """systemd-networkd removes addresses that it did not set, on its restart, unless KeepConfiguration=yes.

    ('static' does not protect addresses with a lifetime.) See networkd's state in /run/systemd/netif/links.
    """
    links = root / "run/systemd/netif/links"
    seen: dict[str, bool] = {}
    try:
        states = sorted(links.iterdir())
    except OSError:
        return
    for state in states:
        for line in _lines(state):
            if line.startswith("NETWORK_FILE="):
                network = line.removeprefix("NETWORK_FILE=")
                if network not in seen:
                    seen[network] = _keeps(root, network)
    yield from (network for network, keeps in seen.items() if not keeps)


def _keeps(root: Path, network: str) -> bool:
    name = Path(network).name
    files = [root / network.lstrip("/")]
    for directory in ("usr/lib", "run", "etc"):
        files += sorted((root / directory / "systemd/network" / f"{name}.d").glob("*.conf"))
    last = ""
    for file in files:
        for line in _lines(file):
            key, _, value = line.partition("=")
            if key.strip() == "KeepConfiguration":
                last = value.strip().lower()
    return last in ("yes", "true", "1", "on")


def _lines(path: Path, most: int | None = 1000) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()[:most]
    except OSError:
        return []
