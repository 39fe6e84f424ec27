"""Nodes that are kernels: a process of user-mode Linux each, in a cage, with taps for cables and images for disks."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from truecl.lab import cgroups
from truecl.lab.description import Description, LabNode
from truecl.lab.errors import LabError, Unavailable
from truecl.lab.machines import SERVICE_SOCKET, boot_order, disk_maker, environment
from truecl.lab.network import IP, Network, run_batch
from truecl.lab.paths import AGENT_GROUP, SCOPE, Paths
from truecl.lab.vm import root
from truecl.lab.vm.packages import Packages, prepare

MEMORY = 384
"""Megabytes of a node: with 256, the daemons and a database have too little left for the files that they run from, and
stand still for ten seconds at a time."""
SPARE_DISK = 512 << 20
"""Bytes of /dev/ubdb, which is empty: for LVM and DRBD."""
MODULES = ("ipv6", "loop", "softdog")
"""Loaded before the service starts."""
PAUSE_TIMEOUT = 60.0
SERVICE_TIMEOUT = 60.0
FREEZE = """\
cd /sys/fs/cgroup
for group in */; do
    [ $group = lab/ ] || echo {0} >$group/cgroup.freeze
done
for group in */; do
    [ $group = lab/ ] || until grep -q "frozen {0}" $group/cgroup.events; do sleep 0.1; done
done
"""
"""Of all that runs in a node, but the agent."""
HERE = Path(__file__).parent


def check_seen(*needed: Path) -> None:
    """Nodes run from this machine's files, but for directories that are their own. Raises LabError."""
    for path in needed:
        for own in root.MEMORY:
            if path.resolve().is_relative_to(own):
                raise LabError(f"{path} is not seen by nodes with a kernel (--vm), which have {own} of their own")


@dataclass(frozen=True)
class Management:
    """The link that only the lab uses, by the node's number: commands go in, requests to the power switch come out."""

    index: int

    @property
    def interface(self) -> str:
        return f"m{self.index}"

    @property
    def outer(self) -> str:
        return f"169.254.{self.index}.1"

    @property
    def inner(self) -> str:
        return f"169.254.{self.index}.2"

    @property
    def mac(self) -> str:
        return f"02:77:00:00:00:{self.index:02x}"


class Kernels:
    """See `truecl.lab.machines.Machines`."""

    order = "kernel"
    carrier = False
    disk_size = 256 << 20

    def __init__(self, paths: Paths, description: Description, network: Network) -> None:
        self._paths = paths
        self._description = description
        self._network = network
        self._mount_point = cgroups.mount_point()
        self._packages = Packages()

    def prepare(self) -> None:
        check()
        check_seen(HERE, Path(sys.prefix))
        self._packages = prepare()

    def make_disk(self, node: LabNode, size: int) -> "subprocess.Popen[str]":
        with Path(f"{node.directory}/spare.img").open("wb") as file:
            file.truncate(SPARE_DISK)
        return disk_maker(self._paths.image(node.name), size, "-N", "16384", "-J", "size=4")

    def boot_order(self, node: LabNode) -> dict[str, object]:
        management = Management(node.index)
        links = range(1, self._description.links + 1)
        rename = [f"link set vec{link - 1} name eth{link - 1}" for link in links]
        return boot_order(self._paths, self._description, node) | {
            "ports": [node.port.interface(link) for link in links],
            "macs": [*(node.port.mac(link) for link in links), management.mac],
            "inside": [*rename, *self._network.inside(node.port)],
            "management": management.interface,
            "interface": f"vec{self._description.links}",
            "outer": management.outer,
            "inner": management.inner,
            "modules": list(MODULES),
            "tools": self._packages.tools,
            "overlay": self._packages.overlay,
            "scratch": self._paths.scratch(node.name),
            "writable": [node.directory, self._description.shared],
            "cpu": self._cpu(node),
            "kernel": self._kernel(node),
            "kernel_environment": {"LD_PRELOAD": self._packages.xstate, "TMPDIR": "/dev/shm"},
            "first": ["-I", "-S", str(HERE / "init.py"), node.directory],
        }

    def _cpu(self, node: LabNode) -> int:
        usable = sorted(os.sched_getaffinity(0))
        return usable[(node.index - 1) % len(usable)]

    def _kernel(self, node: LabNode) -> list[str]:
        return [
            self._packages.linux,
            f"mem={MEMORY}M",
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "panic=1"),
            *("con=null", "con0=null,fd:1", "ssl=null"),
            f"uml_dir={self._paths.scratch(node.name)}/",
            f"ubda={self._paths.image(node.name)}",
            f"ubdb={node.directory}/spare.img",
            f"init={sys.executable}",
        ]

    def plug_in(self, node: LabNode, pid: int) -> None:
        management = Management(node.index)
        up = [f"addr add {management.outer}/30 dev {management.interface}", f"link set {management.interface} up"]
        run_batch(IP, up, f"--net={self._paths.switch_namespace}")
        self._network.plug_in(node.port)

    def enter(self, node: LabNode, pid: int, argv: Sequence[str]) -> list[str]:
        return self._remote(node, SCOPE, argv)

    def _remote(self, node: LabNode, group: str, argv: Sequence[str]) -> list[str]:
        python = [sys.executable, "-I", "-S", str(HERE / "remote.py"), Management(node.index).inner, group]
        return ["nsenter", f"--net={self._paths.switch_namespace}", "--", *python, *argv]

    def _done(self, node: LabNode, script: str, timeout: float) -> bool:
        """Whether a shell script in the node, in the agent's own cgroup, ended well and in time."""
        command = self._remote(node, AGENT_GROUP, ["/bin/sh", "-c", script])
        try:
            done = subprocess.run(command, env=environment(), capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def pause(self, node: LabNode, silent: bool) -> None:
        if silent:
            stopped = cgroups.freeze(self._group(node), PAUSE_TIMEOUT)
        else:
            Path(self._paths.paused_file(node.name)).touch()
            stopped = self._done(node, FREEZE.format(1), PAUSE_TIMEOUT)
        if not stopped:
            raise LabError(f"{node.name} does not stop; lha_lab kill {node.name} ends it")

    def resume(self, node: LabNode) -> None:
        cgroups.thaw(self._group(node))
        marked = Path(self._paths.paused_file(node.name))
        if not marked.exists():
            return
        on = cgroups.event(self._group(node), "populated")
        if on and not self._done(node, FREEZE.format(0), PAUSE_TIMEOUT):
            raise LabError(f"{node.name} does not run on; lha_lab kill {node.name} ends it")
        marked.unlink(missing_ok=True)

    def paused(self, node: LabNode) -> bool:
        return cgroups.frozen(self._group(node)) or Path(self._paths.paused_file(node.name)).exists()

    def wait_service(self, node: LabNode, pid: int) -> bool:
        return self._done(node, f"until [ -S {SERVICE_SOCKET} ]; do sleep 0.2; done", SERVICE_TIMEOUT)

    def _group(self, node: LabNode) -> str:
        return self._paths.node_group(self._mount_point, node.name)


def check() -> None:
    """Raises Unavailable when this machine cannot run the kernels, LabError when this checkout cannot."""
    if os.uname().machine != "x86_64":
        raise Unavailable("--vm needs a 64-bit x86 processor: user-mode Linux has no other")
    if not Path("/dev/net/tun").exists():
        raise Unavailable("--vm needs /dev/net/tun: modprobe tun")
    for path in (sys.executable, str(HERE)):
        if " " in path:
            raise LabError(f"--vm: a kernel's command line cannot hold the blank in {path}")
