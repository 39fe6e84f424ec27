"""What a lab's nodes are made of: namespaces (`truecl.lab.namespaces`), or kernels (`truecl.lab.vm.kernels`).

The verbs are `truecl.lab.cluster.Lab`'s; here is what differs, and what both sorts of node find inside.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from truecl.lab.description import Description, LabNode
from truecl.lab.paths import Paths

PACKAGE = str(Path(__file__).resolve().parents[2])
"""The directory that holds the package truecl."""
SERVICE_SOCKET = "/run/truecl/reqd.sock"
"""Where a node's request daemon answers."""


class Machines(Protocol):
    """One sort of node. All methods raise LabError and OSError."""

    order: str
    """To the power switch (`truecl.lab.power`): start a node."""
    carrier: bool
    """Whether a node sees that its cable is out."""
    disk_size: int
    """Bytes of a node's disk, by default."""

    def prepare(self) -> None:
        """What must be there before the lab is laid out."""

    def make_disk(self, node: LabNode, size: int) -> "subprocess.Popen[str]":
        """Start to make the node's disk image."""

    def boot_order(self, node: LabNode) -> dict[str, object]:
        """What the node's first process reads."""

    def plug_in(self, node: LabNode, pid: int) -> None:
        """Connect a node that starts, whose first process is `pid`, to the lab's network."""

    def enter(self, node: LabNode, pid: int, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in a node whose first process is `pid`."""

    def pause(self, node: LabNode, silent: bool) -> None:
        """Stop the node; with `silent` its kernel too."""

    def resume(self, node: LabNode) -> None:
        """Let it run on, or be ready to; harmless for one that runs or is off."""

    def paused(self, node: LabNode) -> bool:
        """Of a node that is on."""

    def wait_service(self, node: LabNode, pid: int) -> bool:
        """Wait until commands on the node find its request daemon; False when that takes too long."""


def disk_maker(image: str, size: int, *options: str) -> "subprocess.Popen[str]":
    """An ext4 file system of `size` bytes in the making."""
    with Path(image).open("wb") as file:
        file.truncate(size)
    # All of it written now: no kernel thread that goes on initialising while the node runs.
    extended = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    command = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", extended, "-L", "truecl", *options, image]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def boot_order(paths: Paths, description: Description, node: LabNode) -> dict[str, object]:
    """What every node's first process reads."""
    hosts = ["127.0.0.1 localhost", "::1 localhost"]
    for other in description.nodes:
        hosts += [f"{other.port.ipv4(1)} {other.name}", f"{other.port.ipv6(1)} {other.name}"]
    agent = Path(__file__).with_name("fence_agent.py").read_text(encoding="utf-8")
    return {
        "name": node.name,
        "directory": node.directory,
        "shared": description.shared,
        "shared_inside": paths.shared_inside(node.name),
        "hosts": "".join(f"{line}\n" for line in hosts),
        "agent": f"#!{sys.executable} -IS\n{agent}",
        "service": list(description.service),
        "environment": environment(),
    }


def environment() -> dict[str, str]:
    """What the node's service and commands find in their environment."""
    path = [str(Path(sys.executable).parent), f"{PACKAGE}/bin"]
    path += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    found = {"PATH": ":".join(path), "HOME": "/root", "LANG": "C.UTF-8"}
    if Path(PACKAGE).name not in ("site-packages", "dist-packages"):
        found["PYTHONPATH"] = PACKAGE
    return found
