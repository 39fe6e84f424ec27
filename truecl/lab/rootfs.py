"""The file system that a node sees: the machine's own, read-only, with private directories where a node differs.

Called by a node's first process (`truecl.lab.init`), alone in new namespaces.
"""

import os
import stat

from truecl.lab import kernel
from truecl.lab.loops import LOOP_MAJOR

LOOP_NODES = 256
"""Loop devices that a node can use: they are one pool for the machine."""
PRIVATE = ("etc", "var", "run", "tmp", "srv", "mnt", "media", "proc", "sys", "dev", "lab", "shared", "lost+found")
"""Top-level directories that are the node's own; all others are the machine's, read-only."""
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


class Layout:
    """What differs between nodes; paths are the machine's."""

    def __init__(self, fields: dict[str, object]) -> None:
        self.directory = str(fields["directory"])
        self.power = str(fields["power"])
        self.shared = str(fields["shared"])
        self.shared_inside = str(fields["shared_inside"])
        self.name = str(fields["name"])
        self.hosts = str(fields["hosts"])
        self.agent = str(fields["agent"])
        keep = fields["keep"]
        self.keep = [str(path) for path in keep] if isinstance(keep, list) else []
        """Directories of the machine (Python, truecl) that must be seen even below a private one."""


def build(layout: Layout, loop: int) -> None:
    """Put the node's root together and move into it. /var/lib/truecl is the ext4 file system on loop device `loop`.

    Raises OSError.
    """
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    new = f"{layout.directory}/root"
    kernel.mount("tmpfs", new, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=256m")
    _machine(new)
    _etc(new, layout)
    _private(new, layout, loop)
    _devices(new)
    _kernel_file_systems(new)
    for path in layout.keep:
        if path.split("/")[1] in PRIVATE:
            _bind(path, new + path, read_only=True)
    os.mkdir(f"{new}/.old")
    kernel.pivot_root(new, f"{new}/.old")
    os.chdir("/")
    kernel.unmount("/.old", kernel.MNT_DETACH)
    os.rmdir("/.old")


def _bind(source: str, target: str, read_only: bool) -> None:
    os.makedirs(target, exist_ok=True)
    kernel.mount(source, target, flags=kernel.MS_BIND | kernel.MS_REC)
    if read_only:
        kernel.make_read_only(target)


def _machine(new: str) -> None:
    for name in sorted(os.listdir("/")):
        path = f"/{name}"
        mode = os.lstat(path).st_mode
        if name in PRIVATE:
            continue
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(path), new + path)
        elif stat.S_ISDIR(mode):
            _bind(path, new + path, read_only=True)


def _etc(new: str, layout: Layout) -> None:
    """Links to the machine's /etc, so that single entries can differ without a trace outside."""
    _bind("/etc", f"{new}/.machine/etc", read_only=True)
    os.mkdir(f"{new}/etc")
    for name in os.listdir("/etc"):
        if name not in ("truecl", "hosts", "hostname", "mtab"):
            source = f"/etc/{name}"
            target = os.readlink(source) if os.path.islink(source) else f"/.machine{source}"
            os.symlink(target, new + source)
    os.symlink("/proc/self/mounts", f"{new}/etc/mtab")
    _text(f"{new}/etc/hosts", layout.hosts)
    _text(f"{new}/etc/hostname", f"{layout.name}\n")
    _bind(f"{layout.directory}/etc", f"{new}/etc/truecl", read_only=False)


def _private(new: str, layout: Layout, loop: int) -> None:
    for name in ("srv", "mnt", "media", "var/lib/truecl", "var/cache", "var/spool", "lab"):
        os.makedirs(f"{new}/{name}")
    for name in ("run", "tmp"):
        os.mkdir(f"{new}/{name}")
        options = "mode=1777" if name == "tmp" else "mode=755"
        kernel.mount("tmpfs", f"{new}/{name}", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"{options},size=256m")
    for name in ("run/lock", "var/tmp"):
        os.mkdir(f"{new}/{name}")
        os.chmod(f"{new}/{name}", 0o1777)
    os.symlink("/run", f"{new}/var/run")
    os.symlink("/run/lock", f"{new}/var/lock")
    _bind(f"{layout.directory}/log", f"{new}/var/log", read_only=False)
    kernel.mount(f"/dev/loop{loop}", f"{new}/var/lib/truecl", "ext4")
    _bind(layout.shared, new + layout.shared_inside, read_only=False)
    os.symlink(layout.shared_inside, f"{new}/shared")
    _bind(layout.power, f"{new}/lab/power", read_only=False)
    os.symlink("power/power.sock", f"{new}/lab/power.sock")
    _text(f"{new}/lab/fence_truecl_lab", layout.agent)
    os.chmod(f"{new}/lab/fence_truecl_lab", 0o755)


def _devices(new: str) -> None:
    """A /dev of the node's own, with loop devices but none of the machine's disks, watchdog or console."""
    dev = f"{new}/dev"
    os.mkdir(dev)
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=755,size=1m")
    for name, (major, minor) in DEVICES.items():
        _device(f"{dev}/{name}", stat.S_IFCHR | 0o666, major, minor)
    control = os.stat("/dev/loop-control").st_rdev
    _device(f"{dev}/loop-control", stat.S_IFCHR | 0o660, os.major(control), os.minor(control))
    for number in range(LOOP_NODES):
        _device(f"{dev}/loop{number}", stat.S_IFBLK | 0o660, LOOP_MAJOR, number)
    for name in ("pts", "shm"):
        os.mkdir(f"{dev}/{name}")
    options = "newinstance,ptmxmode=0666,mode=620"
    kernel.mount("devpts", f"{dev}/pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, options)
    kernel.mount("tmpfs", f"{dev}/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777,size=256m")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        os.symlink(f"/proc/self/{target}" if target.startswith("fd/") else target, f"{dev}/{name}")


def _device(path: str, mode: int, major: int, minor: int) -> None:
    os.mknod(path, mode, os.makedev(major, minor))
    os.chmod(path, mode & 0o777)


def _kernel_file_systems(new: str) -> None:
    hardened = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    for name in ("proc", "sys"):
        os.mkdir(f"{new}/{name}")
    kernel.mount("proc", f"{new}/proc", "proc", hardened)
    kernel.mount("sysfs", f"{new}/sys", "sysfs", hardened | kernel.MS_RDONLY)
    kernel.mount("cgroup2", f"{new}/sys/fs/cgroup", "cgroup2", hardened)


def _text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
