"""Who holds a lock is what the kernel says, and only as long as he lives."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from truecl.runtime.locks import Holder, Taken, holder, take

ROOT = Path(__file__).parents[2]
HOLD = """
import os, subprocess, sys, time
from pathlib import Path
from truecl.runtime.locks import take
take(Path(sys.argv[1]), "2.0", 0.0)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


class Other:
    """Another process that has taken the lock, and its child, which has not."""

    def __init__(self, path: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    def die(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.die()
        os.kill(self.child, 9)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reqd.lock"


@pytest.fixture
def other(path: Path) -> Iterator[Other]:
    made = Other(path)
    yield made
    made.end()


def found(path: Path) -> Holder:
    holding = holder(path)
    assert holding is not None
    return holding


def test_nobody_holds_what_is_not_there_or_only_lies_there(path: Path) -> None:
    assert holder(path) is None
    path.write_text("2.0\n")
    assert holder(path) is None


def test_the_holder_is_named_with_its_note_and_seen_to_end(path: Path, other: Other) -> None:
    holding = found(path)
    assert (holding.pid, holding.note, holding.ended()) == (other.process.pid, "2.0", False)
    with pytest.raises(Taken) as taken:
        take(path, "3.0", 0.02)
    assert taken.value.owner == other.process.pid
    assert path.read_text() == "2.0\n"
    other.die()
    assert holding.ended()
    os.close(holding.pidfd)


def test_a_child_does_not_keep_its_parents_lock(path: Path, other: Other) -> None:
    os.close(found(path).pidfd)
    other.die()
    assert holder(path) is None
    os.close(take(path, "3.0", 0.0))


def test_what_was_written_into_the_file_names_nobody(path: Path, other: Other) -> None:
    path.write_text(f"{os.getpid()} x" * 50)
    holding = found(path)
    assert holding.pid == other.process.pid
    assert len(holding.note) <= 64
    os.close(holding.pidfd)
