"""Shared disks, with loop devices in their place: who has one, and what is remembered of that."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from realhost import RealHost

from truecl.drivers.contract import StepFailed
from truecl.drivers.storage.disk import DiskDriver
from truecl.model.config import DiskStorage, FileStorage
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance, Probe, Step, StepKind

INSTANCE = Instance(AppName("db"), Generation(5))
MEBIBYTE = 1 << 20


class Bench:
    def __init__(self, real: RealHost, directory: Path, device: str) -> None:
        self.real, self.directory, self.device = real, directory, device
        self.name = Path(device).resolve().name
        self.restart()

    def restart(self) -> None:
        """Another life of the daemon."""
        self.driver = DiskDriver(self.real.runner, self.real.loop, run_directory=self.directory / "run")

    def step(self, device: str = "") -> Step:
        return Step("volume data", StepKind.STORAGE, DiskStorage(device=device or self.device))

    def up(self, device: str = "") -> None:
        self.real.do(self.driver.up(self.step(device), INSTANCE))

    def down(self, force: bool = False) -> None:
        self.real.do(self.driver.down(self.step(), INSTANCE, force))

    def probe(self) -> Probe:
        return self.real.do(self.driver.probe(self.step(), INSTANCE))


@pytest.fixture
def bench(real: RealHost, tmp_path: Path) -> Iterator[Bench]:
    image = tmp_path / "lun.img"
    with image.open("wb") as file:
        file.truncate(16 * MEBIBYTE)
    made = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=True).stdout.strip()
    stable = tmp_path / "by-id"
    stable.symlink_to(made)
    yield Bench(real, tmp_path, str(stable))
    subprocess.run(["losetup", "-d", made], check=False, capture_output=True)


pytestmark = pytest.mark.root


def test_from_up_to_down_it_is_active_whatever_becomes_of_the_daemon(bench: Bench) -> None:
    assert bench.probe() is Probe.INACTIVE
    bench.up()
    bench.up()
    bench.restart()
    assert bench.probe() is Probe.ACTIVE
    facts = bench.real.do(bench.driver.detail(bench.step(), INSTANCE))
    assert facts == {"device": bench.device, "type": "disk", "size": str(16 * MEBIBYTE)}
    assert bench.real.do(bench.driver.device(DiskStorage(device=bench.device))) == bench.name
    bench.down()
    bench.down()
    assert bench.probe() is Probe.INACTIVE
    assert bench.real.do(bench.driver.detail(bench.step(), INSTANCE)) == {}


@pytest.mark.parametrize("force", [False, True])
def test_what_is_mounted_is_neither_taken_nor_let_go(bench: Bench, force: bool) -> None:
    subprocess.run(["mkfs.ext4", "-q", bench.device], check=True)
    mount = bench.directory / "mnt"
    mount.mkdir()
    bench.up()
    subprocess.run(["mount", bench.device, mount], check=True)
    try:
        bench.up()  # the file system on top of it is its own
        with pytest.raises(StepFailed, match=rf"is still in use: mounted at {mount}"):
            bench.down(force)
        (bench.directory / "run").rename(bench.directory / "booted")
        assert bench.probe() is Probe.ACTIVE, "it can be written, whoever mounted it"
        with pytest.raises(StepFailed, match=rf"is in use on this node already: mounted at {mount}"):
            bench.up()
    finally:
        subprocess.run(["umount", mount], check=True)
    bench.real.until(lambda: bench.probe() is Probe.INACTIVE)


def test_what_is_under_another_device_is_not_taken(bench: Bench) -> None:
    over = subprocess.run(
        ["losetup", "-f", "--show", bench.device], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        descriptor = os.open(bench.device, os.O_RDWR | os.O_EXCL)  # as the device mapper and DRBD open it
        with pytest.raises(StepFailed, match="in use on this node already, by something in the kernel"):
            bench.up()
        os.close(descriptor)
    finally:
        subprocess.run(["losetup", "-d", over], check=True)


def test_a_disk_that_went_has_failed_and_goes_down_all_the_same(bench: Bench) -> None:
    bench.up()
    subprocess.run(["losetup", "-d", bench.device], check=True)
    bench.real.until(lambda: bench.probe() is Probe.FAILED)
    bench.down()
    assert bench.probe() is Probe.INACTIVE


def test_what_cannot_be_taken_is_told(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="disk /dev/disk/none is missing on this node"):
        bench.up("/dev/disk/none")
    with pytest.raises(StepFailed, match="/dev/null is no disk"):
        bench.up("/dev/null")
    subprocess.run(["blockdev", "--setro", bench.device], check=True)
    try:
        with pytest.raises(StepFailed, match="is read-only"):
            bench.up()
    finally:
        subprocess.run(["blockdev", "--setrw", bench.device], check=True)  # a loop device keeps it for its next file
    assert bench.probe() is Probe.INACTIVE


def test_a_note_that_cannot_be_read_says_nothing(bench: Bench) -> None:
    bench.up()
    (note,) = (bench.directory / "run").iterdir()
    note.write_text("{")
    assert bench.probe() is Probe.UNKNOWN
    with pytest.raises(StepFailed, match="cannot read"):
        bench.down()


def test_other_storage_is_not_a_disk(bench: Bench) -> None:
    with pytest.raises(TypeError):
        bench.real.do(bench.driver.device(FileStorage(image="/x")))
