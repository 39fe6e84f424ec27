"""`lha_lab down`: nothing stays, whatever state the lab is in; a half-dead one, or none, is no error."""

import contextlib
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from truecl.lab import cgroups, loops, powercut
from truecl.lab.errors import LabError
from truecl.lab.paths import BASE, Paths

TIMEOUT = 10.0
LOOPS_BEFORE = f"{BASE}/.loops"
"""Loop devices that the machine had when its first lab came up."""


def tear_down(paths: Paths) -> bool:
    """Remove a lab; the caller holds its lock. False when there was none. Raises LabError naming what is left."""
    group = paths.group(cgroups.mount_point())
    existed = Path(paths.root).exists() or Path(group).exists()
    problems = _cut_all(paths)
    if Path(group).exists():
        cgroups.kill(group)
        if not cgroups.wait_event(group, "populated", False, TIMEOUT):
            raise LabError(f"processes {cgroups.members(group)} do not die; try lha_lab down again")
    left = _free_loops(paths)
    _unmount(paths.root)
    if left or problems:
        raise LabError("; ".join([*problems, *(f"/dev/loop{n} is still in use" for n in left)]))
    cgroups.remove(group)
    with contextlib.suppress(OSError):
        Path(group).parent.rmdir()
    shutil.rmtree(paths.root, ignore_errors=True)
    if Path(paths.root).exists():
        raise LabError(f"cannot remove {paths.root}")
    return existed


def tidy_machine() -> None:
    """After the last lab: give back the loop devices that labs made, remove the empty directory."""
    base = Path(BASE)
    if not base.exists() or any(str(path) != LOOPS_BEFORE for path in base.iterdir()):
        return
    with contextlib.suppress(OSError):
        before = {int(word) for word in Path(LOOPS_BEFORE).read_text(encoding="utf-8").split()}
        for number in sorted(loops.numbers() - before):
            loops.discard(number)
        Path(LOOPS_BEFORE).unlink()
    with contextlib.suppress(OSError):
        base.rmdir()


def remember_loops() -> None:
    """Before the first lab."""
    if not Path(LOOPS_BEFORE).exists():
        Path(LOOPS_BEFORE).write_text(" ".join(str(number) for number in sorted(loops.numbers())), encoding="utf-8")


def _cut_all(paths: Paths) -> list[str]:
    mount_point = cgroups.mount_point()
    directory = Path(paths.root) / "nodes"
    nodes = sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    def cut(node: str) -> str:
        try:
            powercut.cut(paths, node, mount_point, in_switch=False, timeout=TIMEOUT)
        except (powercut.CutFailed, OSError) as problem:
            return str(problem)
        return ""

    if not nodes:
        return []
    with ThreadPoolExecutor(len(nodes)) as pool:
        return [problem for problem in pool.map(cut, nodes) if problem]


def _free_loops(paths: Paths) -> list[int]:
    """Devices whose node is forgotten, told by their backing file alone."""
    prefixes = (f"{paths.root}/", f"/shared.{paths.name}.")
    found = {n: loops.sequence(n) for n, file in loops.attached().items() if file.startswith(prefixes)}
    return powercut.free_loops(found, time.monotonic() + TIMEOUT)


def _unmount(root: str) -> None:
    """Everything mounted below `root` in the machine's own namespace: the network namespaces' files."""
    points = [mount.point for mount in powercut.mounts_of(os.getpid()) if mount.point.startswith(f"{root}/")]
    for point in reversed(points):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
