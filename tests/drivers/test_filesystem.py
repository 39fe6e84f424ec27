"""Exit codes and superblocks as the drivers read them, and real file systems on loop devices."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realhost import RealHost

from truecl.drivers.contract import Result, StepFailed
from truecl.drivers.filesystem import argv, parse
from truecl.drivers.filesystem.driver import FileSystemDriver
from truecl.drivers.storage.file import FileStorageDriver
from truecl.model.config import FileStorage, FileSystem
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance, Probe, Step, StepKind

INSTANCE = Instance(AppName("web"), Generation(5))
TYPES = ("ext3", "ext4", "xfs")


# ---- parsing and arguments ------------------------------------------------------------------------------------------


def filesystem(**values: object) -> FileSystem:
    return msgspec.convert(values, FileSystem)


def ended(code: int | None, stdout: bytes = b"", signal: int | None = None) -> Result:
    return Result(("x",), code, signal, stdout, b"", 0.1)


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        (0, ""),
        (1, ""),
        (2, "in use elsewhere"),
        (3, "in use elsewhere"),
        (4, "damaged beyond"),
        (5, "damaged beyond"),
        (8, "cannot be checked"),
        (12, "damaged beyond"),
        (16, "e2fsck failed (exit code 16)"),
        (32, "was cancelled"),
        (128, "e2fsck failed (exit code 128)"),
    ],
)
def test_e2fsck_exit_codes(code: int, refused: str) -> None:
    reason = parse.e2fsck_refusal(ended(code))
    assert refused in reason and bool(reason) == bool(refused)


@given(st.integers(0, 255))
def test_only_0_and_1_let_a_file_system_be_mounted(code: int) -> None:
    assert (parse.e2fsck_refusal(ended(code)) == "") is (code in (0, 1))
    assert (parse.xfs_repair_refusal(ended(code)) == "") is (code == 0)


def test_checks_without_an_end_refuse() -> None:
    for refusal in (parse.e2fsck_refusal, parse.xfs_repair_refusal):
        assert "killed by signal 9" in refusal(ended(None, signal=9))
        assert "stopped after" in refusal(replace(ended(0), timed_out=True))


@given(st.binary(max_size=5000))
def test_any_device_can_be_looked_at(start: bytes) -> None:
    assert parse.signature(start) in ("", "ext2", "ext3", "ext4", "xfs")


def test_arguments() -> None:
    spec = FileSystem(type="ext4", mount="/srv/web", options=("noatime", "data=ordered"))
    assert argv.mount(spec, "/dev/loop1") == (
        "/usr/bin/mount", "-i", "-n", "-t", "ext4", "-o", "noatime,data=ordered", "--", "/dev/loop1", "/srv/web",
    )  # fmt: skip
    assert "-l" not in argv.umount("/srv/web") and "-f" not in argv.umount("/srv/web")
    checks = {
        (kind, fsck): argv.check(filesystem(type=kind, mount="/m", fsck=fsck), "/dev/d")
        for kind in TYPES
        for fsck in ("never", "preen", "always")
    }
    assert checks == {
        ("ext3", "never"): (),
        ("ext4", "never"): (),
        ("xfs", "never"): (),
        ("ext3", "preen"): ("/usr/sbin/e2fsck", "-p", "/dev/d"),
        ("ext4", "preen"): ("/usr/sbin/e2fsck", "-p", "/dev/d"),
        ("xfs", "preen"): (),
        ("ext3", "always"): ("/usr/sbin/e2fsck", "-p", "-f", "/dev/d"),
        ("ext4", "always"): ("/usr/sbin/e2fsck", "-p", "-f", "/dev/d"),
        ("xfs", "always"): ("/usr/sbin/xfs_repair", "-n", "/dev/d"),
    }


@pytest.mark.parametrize("option", ["bind", "loop", "loop=/dev/loop1", "a,b", "a b", "", "-x", "remount", "a\nb"])
def test_options_that_would_do_something_else_are_refused(option: str) -> None:
    with pytest.raises(StepFailed, match="cannot be used here"):
        argv.mount(FileSystem(type="ext4", mount="/m", options=(option,)), "/dev/d")


# ---- the real thing -------------------------------------------------------------------------------------------------


class Bench:
    """One volume and a file system on it; `make` formats the image anew."""

    def __init__(self, real: RealHost, directory: Path) -> None:
        self.real = real
        self.image = directory / "web.img"
        self.mount = directory / "mnt dir"
        self.storage = FileStorage(image=str(self.image))
        self.files = FileStorageDriver(real.runner, real.loop, f"test{os.getpid()}")
        self.notes: list[str] = []
        self.systems = FileSystemDriver(real.runner, real.loop, self.files.device, note=self.notes.append)
        self.volume = Step("volume data", StepKind.STORAGE, self.storage)

    def make(self, kind: str) -> None:
        with self.image.open("wb") as file:
            file.truncate((320 if kind == "xfs" else 16) * 1024 * 1024)
        quiet = ["-f", "-q"] if kind == "xfs" else ["-q", "-F"]
        subprocess.run([f"/usr/sbin/mkfs.{kind}", *quiet, self.image], check=True, capture_output=True)

    def step(self, kind: str = "ext4", fsck: str = "preen", options: tuple[str, ...] = ()) -> Step:
        spec = filesystem(type=kind, mount=str(self.mount), fsck=fsck, options=options)
        return Step("file system /m", StepKind.FILESYSTEM, spec, self.storage)

    def attach(self) -> str:
        self.real.do(self.files.up(self.volume, INSTANCE))
        device = self.real.do(self.files.device(self.storage))
        assert device is not None
        return device

    def detach(self) -> None:
        self.real.do(self.files.down(self.volume, INSTANCE, False))

    def up(self, step: Step) -> None:
        self.real.do(self.systems.up(step, INSTANCE))

    def down(self, step: Step, force: bool = False) -> None:
        self.real.do(self.systems.down(step, INSTANCE, force))

    def probe(self, step: Step) -> Probe:
        return self.real.do(self.systems.probe(step, INSTANCE))


@pytest.fixture
def bench(real: RealHost, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(real, tmp_path)
    yield made
    left = os.path.ismount(made.mount)
    if left:
        subprocess.run(["umount", "-R", made.mount], check=True)
    if made.image.exists():
        real.do(made.files.down(made.volume, INSTANCE, True))
    assert not left, "the test has left a mount"


@contextmanager
def process(*argv: str | Path) -> Iterator[subprocess.Popen[str]]:
    """One that has said a line when the body begins, and is killed at its end."""
    with subprocess.Popen([str(arg) for arg in argv], stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None and running.stdout.readline()
            yield running
        finally:
            running.kill()


@pytest.mark.root
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("fsck", ["never", "preen", "always"])
def test_up_and_down(bench: Bench, kind: str, fsck: str) -> None:
    bench.make(kind)
    step = bench.step(kind, fsck, ("noatime",))
    assert bench.probe(step) is Probe.INACTIVE
    device = bench.attach()
    assert bench.probe(step) is Probe.INACTIVE
    bench.up(step)
    bench.up(step)  # idempotent
    assert bench.probe(step) is Probe.ACTIVE
    (bench.mount / "file").write_text("kept")
    facts = bench.real.do(bench.systems.detail(step, INSTANCE))
    assert facts["device"] == f"/dev/{device}" and 0 < int(facts["used"]) < 90
    assert 0 < int(facts["available"]) < int(facts["size"]) <= bench.image.stat().st_size
    for force in (False, True):
        bench.down(step, force)
        assert bench.probe(step) is Probe.INACTIVE
    assert bench.real.do(bench.systems.detail(step, INSTANCE)) == {}
    bench.up(step)
    assert (bench.mount / "file").read_text() == "kept"
    bench.down(step)
    bench.detach()


@pytest.mark.root
def test_what_is_on_the_device_must_be_what_was_configured(bench: Bench) -> None:
    bench.make("ext4")
    step = bench.step("xfs")
    with pytest.raises(StepFailed, match="its volume is not attached"):
        bench.up(step)
    bench.attach()
    with pytest.raises(StepFailed, match=r"there is ext4 on /dev/loop\d+, but the configuration says xfs"):
        bench.up(step)
    with pytest.raises(StepFailed, match=r"there is ext4 on .* says ext3"):
        bench.up(bench.step("ext3"))
    with bench.image.open("r+b") as file:
        file.write(bytes(65536))
    bench.detach()
    bench.attach()
    with pytest.raises(StepFailed, match="there is no file system of a known type on"):
        bench.up(bench.step("ext4"))


@pytest.mark.root
def test_damage_beyond_preening_is_refused(bench: Bench) -> None:
    bench.make("ext4")
    subprocess.run(
        ["/usr/sbin/debugfs", "-w", "-R", "clri <2>", bench.image], check=True, capture_output=True
    )  # no root directory any more
    bench.attach()
    for fsck in ("preen", "always"):
        # A file system that says of itself to be clean is not looked at by `preen`; so it has to say the truth first.
        subprocess.run(["/usr/sbin/tune2fs", "-E", "force_fsck", bench.image], check=True, capture_output=True)
        with pytest.raises(StepFailed, match=r"damaged beyond what can be repaired safely; .* by hand: .*MANUALLY"):
            bench.up(bench.step("ext4", fsck))
        assert bench.probe(bench.step()) is Probe.INACTIVE


@pytest.mark.root
def test_small_damage_is_repaired(bench: Bench) -> None:
    bench.make("ext4")
    subprocess.run(
        ["/usr/sbin/debugfs", "-w", "-R", "set_super_value free_blocks_count 7", bench.image],
        check=True,
        capture_output=True,
    )
    bench.attach()
    bench.up(bench.step("ext4", "always"))
    assert [run.code for run in bench.real.runs if run.argv[0] == argv.E2FSCK] == [1]
    bench.down(bench.step())


@pytest.mark.root
def test_damaged_xfs_is_refused_by_a_full_check(bench: Bench) -> None:
    bench.make("xfs")
    for where, change in (("agf 1", "write freeblks 17"), ("agi 2", "write count 4242")):
        subprocess.run(
            ["/usr/sbin/xfs_db", "-x", "-c", where, "-c", change, bench.image], check=True, capture_output=True
        )
    bench.attach()
    with pytest.raises(StepFailed, match="damaged; run xfs_repair by hand"):
        bench.up(bench.step("xfs", "always"))
    assert bench.probe(bench.step("xfs")) is Probe.INACTIVE


@pytest.mark.root
def test_a_mount_point_in_use_is_refused(bench: Bench) -> None:
    bench.make("ext4")
    bench.attach()
    bench.mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "other", bench.mount], check=True)
    try:
        with pytest.raises(StepFailed, match=r"mount point .* is in use: other \(tmpfs\) is mounted there"):
            bench.up(bench.step())
    finally:
        subprocess.run(["umount", bench.mount], check=True)
    bench.mount.rmdir()
    bench.mount.write_text("a file")
    with pytest.raises(StepFailed, match="is not a directory"):
        bench.up(bench.step())
    bench.mount.unlink()


@pytest.mark.root
def test_a_device_that_is_mounted_elsewhere_is_refused(bench: Bench, tmp_path: Path) -> None:
    bench.make("ext4")
    device = bench.attach()
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["mount", f"/dev/{device}", other], check=True)
    try:
        assert bench.probe(bench.step()) is Probe.ACTIVE
        with pytest.raises(StepFailed, match=f"is in use already: mounted at {other}"):
            bench.up(bench.step())
    finally:
        bench.down(bench.step())  # wherever it is mounted in this namespace
    assert not os.path.ismount(other)


@pytest.mark.root
@pytest.mark.parametrize(
    ("does", "force", "ends"),
    [
        ("exec sleep 60", False, ["SIGTERM"]),
        ("exec sleep 60", True, ["SIGKILL"]),
        ("trap '' TERM; sleep 60 <&-", False, ["SIGTERM", "SIGKILL"]),
    ],
)
def test_who_keeps_it_busy_is_named_and_ended(bench: Bench, does: str, force: bool, ends: list[str]) -> None:
    bench.make("ext4")
    bench.attach()
    step = bench.step()
    bench.up(step)
    with process("/bin/sh", "-c", f'cd "$0"; echo; {does}', bench.mount) as user:
        bench.down(step, force)
        assert bench.probe(step) is Probe.INACTIVE
        assert user.wait() == -getattr(signal, ends[-1])
    own = [note for note in bench.notes if f"process {user.pid} " in note]
    assert [note.split(": ")[1].split()[0] for note in own] == ends
    assert re.fullmatch(
        rf"{bench.mount} is to be unmounted: SIG\w+ to process \d+ \(s\w+\) works in {bench.mount}", own[0]
    )


@pytest.mark.root
def test_nobody_is_ended_while_it_is_not_busy(bench: Bench) -> None:
    bench.make("ext4")
    bench.attach()
    bench.up(bench.step())
    with process("/bin/sh", "-c", 'cd "$0"; echo; exec sleep 60', bench.image.parent) as stranger:
        bench.down(bench.step())
        assert stranger.poll() is None
    assert bench.notes == []


@pytest.mark.root
@pytest.mark.parametrize("kind", TYPES)
def test_another_file_system_than_was_built_is_not_mounted(bench: Bench, kind: str) -> None:
    bench.make(kind)
    uuid = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "UUID", bench.image], capture_output=True, text=True
    ).stdout.strip()
    bench.attach()
    built = msgspec.structs.replace(bench.step(kind), uuid=uuid)
    bench.up(built)
    bench.down(built)
    another = msgspec.structs.replace(built, uuid="5c5f3e4a-0000-0000-0000-000000000000")
    with pytest.raises(StepFailed, match=rf"has another file system than was built: {uuid}, not 5c5f3e4a-"):
        bench.up(another)
    assert bench.probe(another) is Probe.INACTIVE


@pytest.mark.root
def test_a_mount_below_it_is_named(bench: Bench) -> None:
    bench.make("ext4")
    bench.attach()
    bench.up(bench.step())
    below = bench.mount / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "other", below], check=True)
    with process("/bin/sh", "-c", 'cd "$0"; echo; exec sleep 60', bench.mount) as user:
        with pytest.raises(StepFailed, match=rf"other \(tmpfs\) is mounted below it at {below}"):
            bench.down(bench.step())
        assert user.poll() is None, "its end would not have helped"
    subprocess.run(["umount", below], check=True)
    bench.down(bench.step())


@pytest.mark.root
@pytest.mark.parametrize("force", [False, True])
def test_a_copy_in_another_namespace_is_unmounted_too(bench: Bench, force: bool) -> None:
    bench.make("ext4")
    bench.attach()
    step = bench.step()
    bench.up(step)
    with process("/usr/bin/unshare", "-m", "--propagation", "private", "/bin/sh", "-c", "echo; exec sleep 60") as copy:
        bench.down(step, force)
        assert bench.probe(step) is Probe.INACTIVE
        bench.detach()
        assert copy.poll() is None
        assert f"was unmounted in the namespace of process {copy.pid} (sleep) too" in "".join(bench.notes)


@pytest.mark.root
def test_a_copy_in_another_namespace_that_is_busy_is_seen(bench: Bench) -> None:
    """umount returns 0, nothing is mounted here any more, and the file system can still be written."""
    bench.make("ext4")
    bench.attach()
    step = bench.step()
    bench.up(step)
    script = f"cd '{bench.mount}'; echo; exec sleep 60"
    with process("/usr/bin/unshare", "-m", "--propagation", "private", "/bin/sh", "-c", script) as copy:
        # A process with a file there would be ended while the mount is seen here too: so take it away by hand first.
        subprocess.run(["umount", bench.mount], check=True)
        for force in (False, True):
            with pytest.raises(
                StepFailed, match=rf"yet still in use: process {copy.pid} \(sleep\) has a copy of the mount.*busy"
            ):
                bench.down(step, force)
            assert bench.probe(step) is Probe.ACTIVE
        with pytest.raises(StepFailed, match=rf"is in use already: process {copy.pid} \(sleep\)"):
            bench.up(step)
        with pytest.raises(StepFailed, match=rf"still in use: process {copy.pid} \(sleep\) has a copy of the mount"):
            bench.detach()
        assert bench.real.do(bench.files.probe(bench.volume, INSTANCE)) is Probe.ACTIVE
    bench.down(step)
    assert bench.probe(step) is Probe.INACTIVE
    bench.real.until(lambda: bench.real.do(bench.files.probe(bench.volume, INSTANCE)) is Probe.INACTIVE)


@pytest.mark.root
def test_a_file_system_that_turned_read_only_has_failed(bench: Bench) -> None:
    bench.make("ext4")
    bench.attach()
    step = bench.step()
    bench.up(step)
    subprocess.run(["mount", "-o", "remount,ro", bench.mount], check=True)
    assert bench.probe(step) is Probe.FAILED
    assert bench.probe(bench.step(options=("ro",))) is Probe.ACTIVE
    bench.down(step)


def test_without_sysfs_nothing_can_be_told(real: RealHost, tmp_path: Path) -> None:
    async def device(storage: FileStorage) -> str:
        return "loop0"

    systems = FileSystemDriver(real.runner, real.loop, device, sys=tmp_path)
    step = Step("x", StepKind.FILESYSTEM, FileSystem(type="ext4", mount="/x"), FileStorage(image="/x"))
    assert real.do(systems.probe(step, INSTANCE)) is Probe.UNKNOWN
    with pytest.raises(StepFailed, match="No such file"):
        real.do(systems.down(step, INSTANCE, True))
