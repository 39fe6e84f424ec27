"""Nodes that are namespaces of this machine's kernel, each with a cgroup, an image and cables of its own."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from truecl.lab import cgroups
from truecl.lab.description import Description, LabNode
from truecl.lab.errors import LabError
from truecl.lab.machines import PACKAGE, SERVICE_SOCKET, boot_order, disk_maker
from truecl.lab.network import Network
from truecl.lab.paths import Paths

PAUSE_TIMEOUT = 60.0
SERVICE_TIMEOUT = 20.0


class Namespaces:
    """See `truecl.lab.machines.Machines`."""

    order = "spawn"
    carrier = True
    disk_size = 64 << 20

    def __init__(self, paths: Paths, description: Description, network: Network) -> None:
        self._paths = paths
        self._description = description
        self._network = network
        self._mount_point = cgroups.mount_point()

    def prepare(self) -> None:
        """Nothing but what `check_machine` asks for."""

    def make_disk(self, node: LabNode, size: int) -> "subprocess.Popen[str]":
        return disk_maker(self._paths.image(node.name), size)

    def boot_order(self, node: LabNode) -> dict[str, object]:
        more = {"power": self._paths.power_directory, "keep": sorted({sys.prefix, sys.base_prefix, PACKAGE})}
        return boot_order(self._paths, self._description, node) | more

    def plug_in(self, node: LabNode, pid: int) -> None:
        self._network.disconnect(node.port)
        self._network.connect(node.port, str(pid), f"--target={pid}", "--net")

    def enter(self, node: LabNode, pid: int, argv: Sequence[str]) -> list[str]:
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return ["nsenter", f"--target={pid}", *namespaces, "--", *argv]

    def pause(self, node: LabNode, silent: bool) -> None:
        if not cgroups.freeze(self._group(node), PAUSE_TIMEOUT):
            name = node.name
            raise LabError(f"{name} does not stop: a process hangs in the kernel; lha_lab kill {name} ends it")

    def resume(self, node: LabNode) -> None:
        cgroups.thaw(self._group(node))

    def paused(self, node: LabNode) -> bool:
        return cgroups.frozen(self._group(node))

    def wait_service(self, node: LabNode, pid: int) -> bool:
        deadline = time.monotonic() + SERVICE_TIMEOUT
        socket_path = Path(f"/proc/{pid}/root{SERVICE_SOCKET}")
        while not socket_path.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _group(self, node: LabNode) -> str:
        return self._paths.node_group(self._mount_point, node.name)
