"""Where a daemon's files are, that it is alone, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from truecl.runtime.paths import Paths
from truecl.runtime.process import EXIT_BUSY, Account, CannotStart, Loaded, boot_id, claim, open_log
from truecl.service.warm import Files

ROOT = Path(__file__).parents[2]


def python(code: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT), "D": str(directory)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30)


BEGIN = """
import os
from pathlib import Path
from truecl.runtime.process import *
from truecl.runtime.journal import JournalFull
from truecl.model.ids import LOCKD
D = Path(os.environ['D'])
daemon = begin(LOCKD, Paths(D / 'etc', D / 'run', D / 'state', D / 'log'), Loaded(), None)
"""


EDGE = """
from truecl.runtime.process import *
with Edge(lambda text: os.write(1, text.encode() + b"\\n")):
"""


def test_paths_can_be_moved_one_by_one() -> None:
    assert Paths.of_environment({}) == Paths()
    moved = Paths.of_environment({"TRUECL_RUN": "/lab/n1/run", "TRUECL_LOG": "/lab/n1/log"})
    assert moved == Paths(run=Path("/lab/n1/run"), log=Path("/lab/n1/log"))


def test_a_boot_id_lasts_until_the_run_directory_is_emptied(tmp_path: Path) -> None:
    first = boot_id(tmp_path)
    assert len(first) == 16
    assert boot_id(tmp_path) == first
    (file,) = tmp_path.iterdir()
    file.unlink()
    assert boot_id(tmp_path) != first


def test_a_boot_id_does_not_outlive_the_kernel_it_was_made_under(tmp_path: Path) -> None:
    """Even if the run directory does: the lease that is remembered there was by another clock."""
    kernel, run = tmp_path / "kernel", tmp_path / "run"
    run.mkdir()
    kernel.write_text("aaaa\n")
    first = boot_id(run, kernel)
    assert boot_id(run, kernel) == first
    kernel.write_text("bbbb\n")
    assert boot_id(run, kernel) != first


def test_a_lock_names_its_owner(tmp_path: Path) -> None:
    held = claim(tmp_path / "lockd.lock", "lockd runs already", 0.0)
    other = (
        "import sys\nfrom truecl.runtime.process import *\n"
        "try: claim(Path(os.environ['D']) / 'lockd.lock', 'lockd runs already', 0.05)\n"
        "except CannotStart as error: print(error); sys.exit(error.code)\n"
    )
    refused = python(other, tmp_path)
    assert refused.returncode == EXIT_BUSY
    assert refused.stdout == f"lockd runs already (process {os.getpid()})\n"
    os.close(held)
    assert python(other, tmp_path).returncode == 0


def test_a_missing_user_and_an_unwritable_place_are_said(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="user 'nosuch' does not exist; make it with"):
        Account.of_system("nosuch")
    with pytest.raises(CannotStart, match="No such file"):
        open_log(Paths(log=tmp_path / "missing"), "hbd", None)


def test_a_failed_save_ends_the_daemon_at_once(tmp_path: Path) -> None:
    ended = python(BEGIN + "daemon.failed_save(JournalFull('the disk is full'))", tmp_path)
    assert ended.returncode == 74
    assert "ERROR ends with exit code 74: JournalFull: the disk is full" in (tmp_path / "log/lockd.log").read_text()


def test_a_defect_leaves_a_bounded_number_of_reports(tmp_path: Path) -> None:
    for number in range(5):
        code = f"daemon.defect('Traceback\\n  File\\nKeyError: {number}\\nwhile handling Woke()\\n')"
        assert python(BEGIN + code, tmp_path).returncode == 70
    reports = {path.name: path.read_text() for path in (tmp_path / "log").glob("*.crash*")}
    assert sorted(reports) == ["lockd.crash", "lockd.crash.1", "lockd.crash.2"]
    assert "KeyError: 4" in reports["lockd.crash"]
    assert "KeyError: 2" in reports["lockd.crash.2"]
    assert "a defect in truecl: " in (tmp_path / "log/lockd.log").read_text()


def test_what_twisted_reports_is_logged_in_one_line(tmp_path: Path) -> None:
    code = "daemon.reactor.callLater(0, lambda: 1 / 0)\ndaemon.reactor.callLater(0.05, daemon.exit, 0, 'over')\n"
    ended = python(BEGIN + code + "daemon.run()", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    log = (tmp_path / "log/lockd.log").read_text().splitlines()
    assert any("ZeroDivisionError: division by zero at" in line for line in log)


def test_terminate_ends_a_daemon_through_its_own_word(tmp_path: Path) -> None:
    code = "daemon.reactor.callWhenRunning(daemon.reactor.callLater, 0.01, os.kill, os.getpid(), 15)\n"
    assert python(BEGIN + code + "daemon.run(lambda: daemon.exit(5, 'asked'))", tmp_path).returncode == 5
    assert python(BEGIN + code + "daemon.run()", tmp_path).returncode == 0


def test_edge_says_what_left_it(tmp_path: Path) -> None:
    for body, code, said in (
        ("pass", 0, ""),
        ("raise SystemExit(9)", 9, ""),
        ("raise CannotStart('no user', 78)", 78, "no user\n"),
        ("{}['x']", 70, "a defect in truecl: KeyError: 'x' at <string>:"),
    ):
        ended = python(f"{EDGE}    {body}\n", tmp_path)
        assert ended.returncode == code
        assert said in ended.stdout or not said


def test_files_are_read_again_only_when_they_change(tmp_path: Path) -> None:
    files = Files(tmp_path)
    nothing = files.load()
    assert isinstance(nothing, Loaded)
    assert nothing.configuration is None
    assert any("cluster.yaml" in problem for problem in nothing.problems)
    assert files.load() is nothing
    (tmp_path / "cluster.yaml").write_text("name: [\n")
    again = files.load()
    assert again is not nothing
    assert any(problem.startswith("cluster.yaml:") for problem in again.problems)
