"""What a killed reqd leaves at work is ended, or known to be there, before the next one looks at anything."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from realhost import RealHost

from truecl.drivers.program.cgroup import Groups, find
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance

pytestmark = pytest.mark.root
ONE_LIFE = Path(__file__).with_name("one_life.py")
INSTANCE = Instance(AppName("web"), Generation(5))
TESTS = Path(__file__).parents[1]


@pytest.fixture
def groups(real: RealHost) -> Iterator[Groups]:
    root, version = find()
    made = Groups(real.loop, root / f"truecl-test-{os.getpid()}", version)
    yield made
    whole = made.at(made.of(INSTANCE).path.parent)
    assert real.do(made.kill(whole, 5)) and real.do(made.remove(whole))


def life(groups: Groups, *scripts: str) -> "subprocess.Popen[str]":
    root = groups.of(INSTANCE).path.parent
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    argv = [sys.executable, str(ONE_LIFE), str(root), *scripts]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment, text=True)


def killed(groups: Groups, tool: str) -> None:
    """A reqd that has `tool` at work, and a program, is killed."""
    with life(groups, tool, "exec sleep 60") as first:
        assert first.stdout is not None and first.stdout.readline() == "ready\n"
        first.send_signal(signal.SIGKILL)


def left(groups: Groups) -> str:
    """What the next life finds."""
    with life(groups) as following:
        output, _ = following.communicate(timeout=20)
    said, _, in_time = output.strip().rpartition(" ")
    assert in_time == "True"
    return str(ast.literal_eval(said))


def test_a_tool_ends_with_the_next_reqd_and_a_program_goes_on(real: RealHost, groups: Groups, tmp_path: Path) -> None:
    """Also one that ignores TERM, has children, and would do its work in a moment."""
    began, done = tmp_path / "began", tmp_path / "done"
    tool = f"trap '' TERM HUP; touch {began}; while [ -e {began} ]; do setsid sleep 0.01; done; touch {done}"
    killed(groups, tool)
    real.until(began.exists)
    assert groups.at(groups.of(INSTANCE).path.parent / "reqd" / "here" / "1").populated(), "else this proves nothing"
    assert left(groups) == ""
    assert not (groups.of(INSTANCE).path.parent / "reqd" / "here" / "1").exists(), "there is nobody who could"
    began.unlink()
    assert not done.exists()
    assert groups.of(INSTANCE).populated(), "the program is the application's"


def test_nothing_is_left_of_lives_without_work(groups: Groups) -> None:
    assert [left(groups) for _ in range(3)] == [""] * 3
    here = groups.of(INSTANCE).path.parent / "reqd" / "here"
    assert [entry.name for entry in here.iterdir() if entry.is_dir()] == ["3"], "the others' groups are removed"


def test_a_tool_that_no_kill_ends_is_named_and_waited_for_no_longer_than_asked(
    real: RealHost, groups: Groups, frozen: Path
) -> None:
    killed(groups, f"exec touch {frozen}/x")
    try:
        for _ in range(2):  # not by the life after the next one either
            assert "still touch (" in left(groups)
    finally:
        subprocess.run(["fsfreeze", "-u", frozen], check=True)
    real.until(lambda: not groups.at(groups.of(INSTANCE).path.parent / "reqd").populated())
    assert left(groups) == ""
