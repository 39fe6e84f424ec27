"""What a lab of kernels needs besides the machine's own tools: fetched once, unpacked, never installed.

CACHE has, when it is whole: `kernel/` (Debian's user-mode-linux), `tools/` (LVM, DRBD's tools, PostgreSQL and what they
lean on, with the kernel's modules: a layer that lies over the nodes' root), `xstate.so` (see xstate.c).
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from truecl.lab.errors import LabError, Unavailable
from truecl.lab.locks import locked

CACHE = Path("/var/cache/truecl-lab/vm")
KERNEL, COMPILER = "user-mode-linux", "tcc"
TOOLS = ("lvm2", "thin-provisioning-tools", "drbd-utils", "xfsprogs", "kmod", "postgresql-15")
"""What is installed on the machine already is not fetched: the nodes see it."""
UNUSED = ("libllvm",)
"""What the others depend on and the nodes do without, by how the names begin: 110 MB for PostgreSQL's compiler."""
KEPT = ("postgresql", "zoneinfo")
"""Of /usr/share."""
MERGED = ("bin", "sbin", "lib", "lib64")
"""Directories that are links into /usr on a node, and may be none in a package."""
SOURCE = Path(__file__).with_name("xstate.c")
MODULES = "usr/lib/modules"
APT_TIMEOUT = 300
"""Seconds."""


class Packages:
    """Paths of an unpacked cache."""

    def __init__(self, cache: Path = CACHE) -> None:
        self.cache = cache
        self.linux = str(cache / "kernel/usr/bin/linux.uml")
        self.tools = str(cache / "tools")
        self.xstate = str(cache / "xstate.so")

    @property
    def release(self) -> str:
        """The kernel's, as `uname -r` says it. Raises LabError."""
        try:
            return max(path.name for path in (self.cache / "tools" / MODULES).iterdir())
        except (OSError, ValueError):
            raise LabError(f"{self.cache} has no kernel modules: remove it, and make vm-packages") from None

    @property
    def overlay(self) -> str:
        """The module that the node's root needs before there is a root with modules."""
        return f"{self.tools}/{MODULES}/{self.release}/kernel/fs/overlayfs/overlay.ko"


def prepare(cache: Path = CACHE) -> Packages:
    """The packages, fetched when they are not here yet. Raises Unavailable with the words of what failed."""
    with locked(f"{cache}.lock"):
        if not cache.exists():
            making = Path(tempfile.mkdtemp(prefix=f".{cache.name}.", dir=cache.parent))
            try:
                _make(making)
                making.rename(cache)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return Packages(cache)


def _make(place: Path) -> None:
    place.chmod(0o755)
    _fetch(place / "debs.tools", TOOLS, resolve=True)
    _fetch(place / "debs.kernel", (KERNEL, COMPILER), resolve=False)
    _unpack(place / "debs.kernel", place / "kernel")
    _unpack(place / "debs.tools", place / "tools")
    _compile(place / "kernel/usr/bin/tcc", place / "xstate.so")
    modules = place / "tools" / MODULES
    modules.parent.mkdir(parents=True, exist_ok=True)
    (place / "kernel/usr/lib/uml/modules").rename(modules)
    for path in ("debs.kernel", "debs.tools", "kernel/usr/share"):
        shutil.rmtree(place / path, ignore_errors=True)
    for shared in (place / "tools/usr/share").glob("*"):
        if shared.name not in KEPT:
            shutil.rmtree(shared)


def _fetch(place: Path, names: Sequence[str], resolve: bool) -> None:
    """The packages' files into `place`; with `resolve` what they lean on too, less what the machine has."""
    (place / "partial").mkdir(parents=True)
    apt = ["apt-get", "--quiet", "--yes", "--option=APT::Sandbox::User=root", "--option=Debug::NoLocking=1"]
    if resolve:
        where = f"--option=Dir::Cache::archives={place}"
        command = [*apt, where, "--no-install-recommends", "--download-only", "install", *names]
    else:
        command = [*apt, "download", *names]
    try:
        _run(command, place)
    except Unavailable:
        _run([*apt, "update"], place)  # the lists may be old, or none
        _run(command, place)


def _unpack(debs: Path, target: Path) -> None:
    target.mkdir()
    for deb in sorted(debs.glob("*.deb")):
        if not deb.name.startswith(UNUSED):
            _run(["dpkg-deb", "--extract", str(deb), str(target)], debs)
    for name in MERGED:
        if (target / name).is_dir():
            shutil.copytree(target / name, target / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(target / name)


def _compile(compiler: Path, target: Path) -> None:
    _run([str(compiler), "-nostdlib", "-nostdinc", "-shared", "-o", str(target), str(SOURCE)], target.parent)


def _run(command: Sequence[str], directory: Path) -> None:
    """Raises Unavailable with the last of what the command said."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    with contextlib.suppress(KeyError):
        environment["http_proxy"] = os.environ["http_proxy"]
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=APT_TIMEOUT, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Unavailable(f"the packages for --vm cannot be had: {problem}") from None
    if done.returncode:
        words = "; ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
        raise Unavailable(f"the packages for --vm cannot be had: {' '.join(command)}: {words}")


if __name__ == "__main__":
    print(f"kernel {prepare().release} in {CACHE}")
