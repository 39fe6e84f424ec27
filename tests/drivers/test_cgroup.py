"""Control groups of both versions: freezing, killing, and nobody escapes."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from realhost import RealHost, Witness, no_children

from truecl.drivers.contract import StepFailed
from truecl.drivers.program.cgroup import Groups, find, pids
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance

INSTANCE = Instance(AppName("web"), Generation(5))
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def proc_with(tmp_path: Path, mountinfo: str) -> Path:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(mountinfo)
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ((0, 1, 2), ("/sys/fs/cgroup/unified", 2)),
        ((0, 1), ("/sys/fs/cgroup/freezer", 1)),
        ((0, 2), ("/sys/fs/cgroup/unified", 2)),
    ],
)
def test_v2_is_preferred(tmp_path: Path, lines: tuple[int, ...], found: tuple[str, int]) -> None:
    text = "".join(HYBRID.splitlines(keepends=True)[line] for line in lines)
    assert find(proc_with(tmp_path, text)) == (Path(found[0]), found[1])


def test_without_any_nothing_can_be_run(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="no cgroup v2 and no v1 freezer"):
        find(proc_with(tmp_path, HYBRID.splitlines(keepends=True)[0]))


def test_a_group_that_never_was_is_empty(real: RealHost, tmp_path: Path) -> None:
    for version in (1, 2):
        groups = Groups(real.loop, tmp_path / "none", version)
        group = groups.of(INSTANCE)
        assert not group.populated() and not group.is_frozen() and list(pids(group)) == []
        assert real.do(groups.freeze(group)) and real.do(groups.freeze(group, False))
        assert real.do(groups.kill(group, 0.1)) and real.do(groups.remove(group))


def test_names_cannot_leave_the_root(real: RealHost, tmp_path: Path) -> None:
    groups = Groups(real.loop, tmp_path)
    group = groups.program(Instance(AppName("../../x"), Generation(1)), "../y")
    assert group.path.resolve().is_relative_to(tmp_path.resolve())


# ---- the real thing -------------------------------------------------------------------------------------------------


@pytest.fixture(params=[2, 1], ids=["v2", "v1"])
def groups(request: pytest.FixtureRequest, real: RealHost, tmp_path: Path) -> Iterator[Groups]:
    """In a mount of the hierarchy made here, since a machine need not have both."""
    point = tmp_path / "cgroup"
    point.mkdir()
    kind = ["cgroup2"] if request.param == 2 else ["cgroup", "-o", "freezer"]
    subprocess.run(["mount", "-t", *kind, "truecl-test", point], check=True)
    made = Groups(real.loop, point / f"truecl-test-{os.getpid()}", request.param)
    yield made
    root = made.of(INSTANCE)
    gone = real.do(made.kill(root, 2)) and real.do(made.remove(root))
    if gone:
        root.path.parent.rmdir()
    subprocess.run(["umount", point], check=True)
    assert gone
    real.until(no_children)


def inside(real: RealHost, groups: Groups, name: str, script: str) -> Callable[[], None]:
    group = groups.program(INSTANCE, name)
    groups.create(group)

    async def run() -> None:
        await real.runner.run(("/bin/sh", "-c", script), timeout=60, cgroup=group.path)

    return real.loop.launch(name, run())


FORKER = "while :; do (sleep 0.05; exec setsid sleep 60) & sleep 0.002; done"


@pytest.mark.root
def test_everybody_is_killed(real: RealHost, groups: Groups, tmp_path: Path) -> None:
    """Also children that have a session of their own, forks in progress, and processes that are frozen."""
    group = groups.of(INSTANCE)
    inside(real, groups, "a", FORKER)
    inside(real, groups, "b", "trap '' TERM INT HUP; sleep 60; sleep 60")
    real.until(lambda: len(list(pids(group))) > 20)
    assert group.populated()
    assert not real.do(groups.remove(group))
    assert real.do(groups.freeze(group))
    frozen = sorted(pids(group))
    witness = Witness(real, tmp_path)
    witness.beats(20)
    witness.stop()
    assert group.is_frozen() and sorted(pids(group)) == frozen
    before = time.monotonic()
    assert real.do(groups.kill(group, 5))
    assert time.monotonic() - before < 2
    assert not group.populated() and list(pids(group)) == []
    assert real.do(groups.remove(group)) and not group.path.exists()


@pytest.mark.root
def test_freeze_and_thaw(real: RealHost, groups: Groups, tmp_path: Path) -> None:
    count = tmp_path / "count"
    inside(real, groups, "a", f"while :; do echo >> {count}; sleep 0.001; done")
    group = groups.of(INSTANCE)
    real.until(count.exists)
    assert real.do(groups.freeze(group))
    size = count.stat().st_size
    witness = Witness(real, tmp_path)
    witness.beats(20)
    witness.stop()
    assert count.stat().st_size == size
    assert real.do(groups.freeze(group, False)) and not group.is_frozen()
    real.until(lambda: count.stat().st_size > size)


@pytest.mark.root
def test_a_freeze_is_waited_for_50_ms_at_most(real: RealHost, groups: Groups) -> None:
    """A process between vfork and the child's exec is in D and does not freeze."""
    vfork = "import ctypes, time; c = ctypes.CDLL(None); p = c.vfork(); time.sleep(60) if p == 0 else None"
    group = groups.program(INSTANCE, "a")
    groups.create(group)

    async def run() -> None:
        await real.runner.run(("/usr/bin/python3", "-c", vfork), timeout=60, cgroup=group.path)

    real.loop.launch("vfork", run())

    def waits() -> bool:
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids(group)]
        return len(states) == 2 and "D" in states

    real.until(waits)
    before = time.monotonic()
    real.do(groups.freeze(groups.of(INSTANCE)))
    assert time.monotonic() - before < 0.15
    assert real.do(groups.kill(groups.of(INSTANCE), 5))


class Recorded:
    """A group that says in which order it was treated."""

    def __init__(self, path: Path, freezes: bool) -> None:
        self.path, self.freezes, self.log, self.alive = path, freezes, list[str](), True

    def child(self, name: str) -> "Recorded":
        return self

    def freeze(self, frozen: bool) -> None:
        self.log.append("freeze" if frozen else "thaw")

    def is_frozen(self) -> bool:
        return self.freezes

    def kill(self) -> None:
        self.log.append("kill")
        self.alive = False

    def populated(self) -> bool:
        return self.alive


@pytest.mark.parametrize("freezes", [True, False], ids=["freezes", "has a task in D"])
def test_the_guard_freezes_then_kills_and_waits_for_no_freeze(real: RealHost, tmp_path: Path, freezes: bool) -> None:
    group = Recorded(tmp_path, freezes)
    before = time.monotonic()
    assert real.do(Groups(real.loop, tmp_path).stop(group, 5.0))
    assert group.log == ["freeze", "kill"] and time.monotonic() - before < 1.0
