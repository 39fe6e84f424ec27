"""The file system that a node with a kernel sees: the machine's own under an overlay that is kept on the node's disk.

Called by the node's first process (`truecl.lab.vm.init`), whose root is still the machine's, read-only, through hostfs.
"""

import os
import shutil
from typing import Any

from truecl.lab import kernel

DISK = "/dev/ubda"
"""Keeps what the node writes: all but what is in memory below, as a real machine."""
MEMORY = {"/run": "mode=755", "/tmp": "mode=1777"}
OWN = ("/etc/truecl", "/var/lib/truecl", "/var/log/truecl")
"""Of a machine that is itself a node of a cluster, the lab's node sees nothing."""
STAGE = "/mnt"
LVM = "/etc/lvm/lvmlocal.conf", "activation {\n\tudev_sync = 0\n\tudev_rules = 0\n}\n"
"""Without it LVM makes no device node, and leaves that to udevd, which does not run."""
SOFTDOG = "options softdog soft_reboot_cmd=reset\n"
"""The reset from a kernel thread. By default it comes from the timer's interrupt, where user-mode Linux hangs over it.
"""


def build(boot: dict[str, Any]) -> None:
    """Put the root together and move into it. Raises OSError."""
    new = _overlay(boot["tools"], boot["overlay"])
    for path, options in MEMORY.items():
        _mount("tmpfs", new + path, "tmpfs", options)
    _mount("proc", f"{new}/proc", "proc")
    _mount("sysfs", f"{new}/sys", "sysfs")
    _mount("cgroup2", f"{new}/sys/fs/cgroup", "cgroup2")
    _devices(new)
    _share(boot, new)
    os.mkdir(f"{new}/run/.old")
    kernel.pivot_root(new, f"{new}/run/.old")
    os.chdir("/")
    kernel.unmount("/run/.old", kernel.MNT_DETACH)
    os.rmdir("/run/.old")
    _texts(boot)


def _overlay(tools: str, module: str) -> str:
    """The new root, not yet moved into."""
    kernel.load_module(module)
    kernel.mount("tmpfs", STAGE, "tmpfs", 0, "mode=755")
    for name in ("disk", "tools", "root"):
        os.mkdir(f"{STAGE}/{name}")
    # A layer may not lie within another: seen through a second hostfs, it does not.
    kernel.mount("none", f"{STAGE}/tools", "hostfs", kernel.MS_RDONLY, tools)
    kernel.mount(DISK, f"{STAGE}/disk", "ext4")
    fresh = not os.path.exists(f"{STAGE}/disk/upper")
    for name in ("upper", "work"):
        os.makedirs(f"{STAGE}/disk/{name}", exist_ok=True)
    new = f"{STAGE}/root"
    upper = f"upperdir={STAGE}/disk/upper,workdir={STAGE}/disk/work"
    kernel.mount("overlay", new, "overlay", 0, f"lowerdir={STAGE}/tools:/,{upper}")
    if fresh:
        for path in OWN:
            shutil.rmtree(new + path, ignore_errors=True)
            os.makedirs(new + path)
        _write(new + LVM[0], LVM[1])
    return new


def _mount(source: str, target: str, kind: str, options: str = "") -> None:
    os.makedirs(target, exist_ok=True)
    kernel.mount(source, target, kind, kernel.MS_NOSUID, options)


def _devices(new: str) -> None:
    """The kernel's own /dev, with what a service manager adds."""
    kernel.mount("/dev", f"{new}/dev", flags=kernel.MS_MOVE)
    for name, kind, options in (("pts", "devpts", "ptmxmode=0666,mode=620"), ("shm", "tmpfs", "mode=1777")):
        _mount(kind, f"{new}/dev/{name}", kind, options)
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        os.symlink(f"/proc/self/fd{target}", f"{new}/dev/{name}")


def _share(boot: dict[str, Any], new: str) -> None:
    """Directories of the machine that the node writes, too."""
    for source, target in ((f"{boot['directory']}/etc", "/etc/truecl"), (boot["shared"], boot["shared_inside"])):
        os.makedirs(new + target, exist_ok=True)
        kernel.mount("none", new + target, "hostfs", kernel.MS_NOSUID | kernel.MS_NODEV, source)
    if not os.path.islink(f"{new}/shared"):
        os.symlink(boot["shared_inside"], f"{new}/shared")


def _texts(boot: dict[str, Any]) -> None:
    for path, text in {
        "/etc/hosts": boot["hosts"],
        "/etc/hostname": f"{boot['name']}\n",
        "/lab/fence_truecl_lab": boot["agent"],
        "/etc/modprobe.d/truecl-lab.conf": SOFTDOG,
    }.items():
        _write(path, text)
    os.chmod("/lab/fence_truecl_lab", 0o755)
    os.makedirs("/run/lock", exist_ok=True)
    os.chmod("/run/lock", 0o1777)


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
