"""Parsing of what the kernel says about loop devices, and images attached to real ones."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realhost import RealHost

from truecl.drivers.contract import StepFailed
from truecl.drivers.storage import argv, parse
from truecl.drivers.storage.file import FileStorageDriver
from truecl.model.config import FileStorage
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance, Probe, Step, StepKind

MEBIBYTE = 1024 * 1024


# ---- parsing --------------------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=300), st.text(min_size=1), st.integers(0, 2**63 - 1))
def test_a_mark_fits_and_says_whose_it_is(owner: str, image: str, generation: int) -> None:
    mark = argv.mark(owner, image, Generation(generation))
    info = argv.configuration(3, mark)[8:-64]
    attachment = parse.attachment("loop0", 7, info)
    assert attachment.mark == mark
    assert attachment.key == argv.key(owner, image)
    assert attachment.generation == generation
    assert attachment.key != argv.key(owner + "x", image)


def test_an_image_of_another_owner_never_has_the_same_key() -> None:
    assert argv.key("node1", "/x/a") != argv.key("node1/x", "/a") != argv.key("node2", "/x/a")


@given(st.binary(max_size=64))
def test_other_names_are_nobodys(name: bytes) -> None:
    info = parse.LOOP_INFO.pack(1, 2, 0, 0, 0, 0, 0, 0, parse.READ_ONLY | parse.AUTOCLEAR, name, b"", b"", 0, 0)
    attachment = parse.attachment("loop0", 7, info)
    assert attachment.key == "" and attachment.generation == 0
    assert attachment.backing == (1, 2) and not attachment.writable and attachment.leaving


@given(st.binary(max_size=300))
def test_info_of_another_size_is_an_error(info: bytes) -> None:
    if len(info) != parse.LOOP_INFO.size:
        with pytest.raises(ValueError, match="loop_info64"):
            parse.attachment("loop0", 0, info)


def test_structures_have_the_kernels_sizes() -> None:
    assert parse.LOOP_INFO.size == 232
    assert len(argv.configuration(0, "x")) == 304


def test_bound_devices_by_sysfs(tmp_path: Path) -> None:
    for name, backing, sequence in (("loop0", "/a\n", "12\n"), ("loop1", None, "9\n"), ("loop7", "/b\n", None)):
        block = tmp_path / "block" / name
        (block / "loop").mkdir(parents=True)
        if backing:
            (block / "loop" / "backing_file").write_text(backing)
        if sequence:
            (block / "diskseq").write_text(sequence)
    (tmp_path / "block" / "sda").mkdir()
    assert parse.bound(tmp_path) == {"loop0": 12, "loop7": 0}


# ---- real devices ---------------------------------------------------------------------------------------------------


def instance(generation: int = 5) -> Instance:
    return Instance(AppName("web"), Generation(generation))


def step(image: Path | str) -> Step:
    return Step("volume data", StepKind.STORAGE, FileStorage(image=str(image)))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "web.img"
    with path.open("wb") as file:
        file.truncate(8 * MEBIBYTE)
    yield path
    left = subprocess.run(["losetup", "-n", "-O", "NAME", "-j", path], capture_output=True, text=True, check=True)
    for device in left.stdout.split():
        subprocess.run(["losetup", "-d", device], check=True)
    assert left.stdout == "", "the test has left a loop device"


def driver(real: RealHost, owner: str = "node1") -> FileStorageDriver:
    return FileStorageDriver(real.runner, real.loop, owner)


@contextmanager
def by_hand(image: Path, *options: str) -> Iterator[str]:
    made = subprocess.run(
        ["losetup", "-f", "--show", *options, image], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        yield made
    finally:
        subprocess.run(["losetup", "-d", made], check=True)


@pytest.mark.root
def test_attach_and_detach(real: RealHost, image: Path) -> None:
    files = driver(real)
    assert real.do(files.probe(step(image), instance())) is Probe.INACTIVE
    assert real.do(files.detail(step(image), instance())) == {}
    real.do(files.up(step(image), instance()))
    real.do(files.up(step(image), instance()))  # idempotent
    assert real.do(files.probe(step(image), instance())) is Probe.ACTIVE
    facts = real.do(files.detail(step(image), instance()))
    device = real.do(files.device(FileStorage(image=str(image))))
    assert facts["device"] == f"/dev/{device}" and facts["size"] == str(8 * MEBIBYTE)
    assert Path(f"/sys/block/{device}/loop/backing_file").read_text().strip() == str(image)
    Path(f"/dev/{device}").open("r+b").close()
    for force in (False, True):
        real.do(files.down(step(image), instance(), force))
        assert real.do(files.probe(step(image), instance())) is Probe.INACTIVE


@pytest.mark.root
def test_a_new_life_of_the_daemon_finds_its_devices(real: RealHost, image: Path) -> None:
    real.do(driver(real).up(step(image), instance()))
    after = driver(real)
    assert real.do(after.probe(step(image), instance())) is Probe.ACTIVE
    real.do(after.up(step(image), instance()))
    real.do(after.down(step(image), instance(), False))
    assert real.do(after.probe(step(image), instance())) is Probe.INACTIVE


@pytest.mark.root
def test_other_nodes_on_this_kernel_keep_theirs(real: RealHost, image: Path) -> None:
    """The lab: two nodes see each other's loop devices, and the image is on a directory they share."""
    one, two = driver(real, "node1"), driver(real, "node2")
    real.do(one.up(step(image), instance(5)))
    assert real.do(two.probe(step(image), instance(6))) is Probe.INACTIVE
    real.do(two.down(step(image), instance(6), True))
    assert real.do(one.probe(step(image), instance(5))) is Probe.ACTIVE
    real.do(two.up(step(image), instance(6)))
    real.do(one.down(step(image), instance(5), True))
    assert real.do(one.probe(step(image), instance(5))) is Probe.INACTIVE
    assert real.do(two.probe(step(image), instance(6))) is Probe.ACTIVE
    real.do(two.down(step(image), instance(6), True))


@pytest.mark.root
def test_an_image_that_is_in_use_is_refused(real: RealHost, image: Path) -> None:
    files = driver(real)
    real.do(files.up(step(image), instance(5)))
    with pytest.raises(StepFailed, match=r"in use on this node already, by /dev/loop\d+ \(generation 5\)"):
        real.do(files.up(step(image), instance(6)))
    with pytest.raises(StepFailed, match="generation 5, which is a newer one"):
        real.do(files.down(step(image), instance(4), True))
    real.do(files.down(step(image), instance(6), False))  # an older generation's remains go with the newer one


@pytest.mark.root
def test_what_an_operator_attached_is_seen_and_kept(real: RealHost, image: Path) -> None:
    files = driver(real)
    link = image.with_name("link.img")
    link.symlink_to(image)
    with by_hand(image) as device:
        with pytest.raises(StepFailed, match=f"in use on this node already: {device}, attached by hand"):
            real.do(files.up(step(link), instance()))
        assert real.do(files.probe(step(link), instance())) is Probe.ACTIVE
        with pytest.raises(StepFailed, match=f"'losetup -d {device}'"):
            real.do(files.down(step(link), instance(), True))
    with by_hand(image, "-r"):
        assert real.do(files.probe(step(link), instance())) is Probe.INACTIVE


@pytest.mark.root
def test_bad_images(real: RealHost, tmp_path: Path) -> None:
    files = driver(real)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    for name, reason in (
        ("none", "is missing"),
        (".", "is a directory"),
        ("empty", "is empty"),
        ("fifo", "is not a regular file"),
        ("empty/x", "cannot be opened: Not a directory"),
    ):
        with pytest.raises(StepFailed, match=reason):
            real.do(files.up(step(tmp_path / name), instance()))
        assert real.do(files.probe(step(tmp_path / name), instance())) is Probe.INACTIVE
        real.do(files.down(step(tmp_path / name), instance(), False))


@pytest.mark.root
def test_detached_is_what_the_probe_says(real: RealHost, image: Path) -> None:
    """LOOP_CLR_FD returns 0 on a device that is in use; it goes when its last user does."""
    files = driver(real)
    real.do(files.up(step(image), instance()))
    device = real.do(files.device(FileStorage(image=str(image))))
    descriptor = os.open(f"/dev/{device}", os.O_RDWR)
    try:
        with pytest.raises(StepFailed, match="still in use: opened by a process"):
            real.do(files.down(step(image), instance(), True))
        assert real.do(files.probe(step(image), instance())) is Probe.ACTIVE
        with pytest.raises(StepFailed, match="is being detached"):
            real.do(files.up(step(image), instance()))
    finally:
        os.close(descriptor)
    assert real.do(files.probe(step(image), instance())) is Probe.INACTIVE


@pytest.mark.root
def test_a_missing_image_does_not_hide_its_device(real: RealHost, image: Path) -> None:
    files = driver(real)
    real.do(files.up(step(image), instance()))
    image.unlink()
    assert real.do(driver(real).probe(step(image), instance())) is Probe.ACTIVE
    real.do(files.down(step(image), instance(), False))
    assert real.do(files.probe(step(image), instance())) is Probe.INACTIVE


def test_without_sysfs_nothing_can_be_told(real: RealHost, tmp_path: Path) -> None:
    files = FileStorageDriver(real.runner, real.loop, "node1", sys=tmp_path)
    assert real.do(files.probe(step("/x"), instance())) is Probe.UNKNOWN
    assert real.do(files.detail(step("/x"), instance())) == {}
    with pytest.raises(StepFailed, match="cannot read"):
        real.do(files.down(step("/x"), instance(), True))


@pytest.mark.root
def test_known_devices_are_probed_without_a_child(real: RealHost, image: Path) -> None:
    files = driver(real)
    real.do(files.up(step(image), instance()))
    before = len(real.runs)
    assert real.do(files.probe(step(image), instance())) is Probe.ACTIVE
    real.do(files.detail(step(image), instance()))
    assert len(real.runs) == before
    real.do(files.down(step(image), instance(), False))
