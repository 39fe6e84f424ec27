"""What LVM said on a real kernel (recorded/), and the driver on a made-up device mapper, also when LVM fails."""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.drivers.contract import Result, StepFailed
from truecl.drivers.storage.lvm import argv, parse
from truecl.drivers.storage.lvm.driver import LvmDriver
from truecl.drivers.storage.lvm.mapper import is_part, mapped, mapper_name
from truecl.drivers.storage.lvm.tool import Lvm
from truecl.model.config import LvmStorage
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance, Probe, Step, StepKind

MEBIBYTE = 1 << 20
INSTANCE = Instance(AppName("web"), Generation(5))
RECORDED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "recorded/lvm-2.03.16.json").read_text())
"""Name of a scene to the command, its exit code and its words."""


def recorded(scene: str) -> bytes:
    return str(RECORDED[scene]["stdout"]).encode()


def lvm(volume: str, size: int = 0, group: str = "pair") -> LvmStorage:
    return LvmStorage(group=group, volume=volume, size=size)


# ---- reports --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scene", "volume", "why"),
    [
        ("whole", "lin", ""),
        ("whole", "nope", "there is no such volume in group pair"),
        ("missing disk", "lin", ""),
        ("missing disk", "both", "a physical volume that it lies on is missing; 'pvs' says which"),
        ("raid1 missing disk", "mirrored", ""),
        ("snapshot", "lin", ""),
        ("snapshot", "snap", "it is a snapshot of lin, and lives only as long"),
        ("snapshot full", "lin", ""),
        ("snapshot", "a-b", "it is read-only; 'lvchange -prw' changes that"),
        ("thin", "thin", ""),
        ("thin", "pool", "it is of type thin-pool, not a volume"),
        ("thin full", "thin", "its pool pool is full (data); 'lvextend' makes it larger"),
        (
            "raid1",
            "mirrored",
            "any boot would activate it; 'lvchange -ky --setautoactivation n pair/mirrored' ends that",
        ),
    ],
)
def test_what_may_be_activated(scene: str, volume: str, why: str) -> None:
    assert parse.refusal(lvm(volume), parse.volumes(recorded(scene))) == why


def test_a_volume_must_be_large_enough_and_may_be_larger() -> None:
    found = parse.volumes(recorded("whole"))
    assert [parse.refusal(lvm("lin", size), found) for size in (MEBIBYTE, 24 * MEBIBYTE)] == ["", ""]
    assert parse.refusal(lvm("lin", 25 * MEBIBYTE), found) == "it has 24M, and the configuration says 25M"


@pytest.mark.parametrize(
    ("groups", "spec", "why"),
    [
        ("exported groups", lvm("lin"), "group pair is exported; 'vgimport pair' takes it back"),
        ("groups", lvm("lin"), ""),
        (
            "groups",
            lvm("two", group="gone"),
            "there is no volume group gone; a volume of that name is in group testvg: was the group renamed?",
        ),
        ("groups", lvm("nope", group="gone"), "there is no volume group gone"),
    ],
)
def test_why_a_group_cannot_be_looked_at(groups: str, spec: LvmStorage, why: str) -> None:
    every = parse.volumes(recorded("everywhere"))
    assert parse.elsewhere(spec, parse.groups(recorded(groups)), every) == why


JSON = st.recursive(
    st.integers() | st.text(max_size=5),
    lambda each: st.dictionaries(st.sampled_from(["report", "lv", "vg", "lv_name"]), st.lists(each, max_size=3)),
    max_leaves=9,
)


@given(st.binary(max_size=200) | JSON.map(json.dumps).map(str.encode))
def test_what_is_no_report_is_a_value_error(output: bytes) -> None:
    for read in (parse.volumes, parse.groups):
        try:
            read(output)
        except ValueError:
            continue


def test_the_commands_are_those_that_were_recorded() -> None:
    assert tuple(RECORDED["whole"]["argv"]) == argv.look("pair")
    assert tuple(RECORDED["groups"]["argv"]) == argv.groups()
    assert tuple(RECORDED["everywhere"]["argv"]) == argv.everywhere()


# ---- the device mapper ----------------------------------------------------------------------------------------------


class Mapper:
    """sysfs of a kernel with mapped devices, as it was seen on a real one."""

    def __init__(self, root: Path) -> None:
        self.sys = root / "sys"
        for directory in ("block", "class/block", "fs"):
            (self.sys / directory).mkdir(parents=True)
        self.proc = root / "proc"
        (self.proc / "self" / "ns").mkdir(parents=True)
        (self.proc / "self" / "mountinfo").write_text("")

    def add(self, number: int, name: str, below: str = "sda", uuid: str = "LVM-x", sectors: int = 65536) -> None:
        block = self.sys / "block" / f"dm-{number}"
        for directory in ("dm", f"slaves/{below}", "holders"):
            (block / directory).mkdir(parents=True)
        (block / "dm" / "name").write_text(f"{name}\n")
        (block / "dm" / "uuid").write_text(f"{uuid}\n")
        (block / "dm" / "suspended").write_text("0\n")
        (block / "size").write_text(f"{sectors}\n")
        (block / "dev").write_text(f"254:{number}\n")
        (self.sys / "class" / "block" / block.name).symlink_to(block)

    def remove(self, name: str) -> None:
        for block in (self.sys / "block").iterdir():
            if (block / "dm" / "name").read_text().strip() == name:
                (self.sys / "class" / "block" / block.name).unlink()
                block.rename(self.sys / f"gone-{block.name}")

    def suspend(self, number: int) -> None:
        (self.sys / "block" / f"dm-{number}" / "dm" / "suspended").write_text("1\n")


@pytest.fixture
def mapper(tmp_path: Path) -> Mapper:
    return Mapper(tmp_path)


NAMES = st.from_regex(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,9}", fullmatch=True)


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_volumes_have_one_mapped_name(group: str, volume: str, other: str, another: str) -> None:
    if (group, volume) != (other, another):
        assert mapper_name(group, volume) != mapper_name(other, another)


@pytest.mark.parametrize("part", ["-real", "-cow", "_rimage_0", "_rmeta_11", "_corig", "_mlog"])
def test_parts_of_a_volume_are_told_from_other_volumes(part: str) -> None:
    own = mapper_name("v-g", "a")
    assert own == "v--g-a"
    assert is_part(own + part, own)
    for other in ("a-real", "a-cow", "ab", "a_b", "a--cow"):
        assert not is_part(mapper_name("v-g", other), own)


def test_only_what_lvm_made_counts(mapper: Mapper) -> None:
    mapper.add(0, "pair-lin", uuid="CRYPT-LUKS2-x")
    mapper.add(1, "pair-lin--2")
    assert mapped(mapper.sys, "pair", "lin") == (None, ())
    mapper.add(2, "pair-lin", below="dm-3")
    mapper.add(3, "pair-lin-real")
    main, parts = mapped(mapper.sys, "pair", "lin")
    assert main is not None and main.device == "dm-2" and main.stacked
    assert [part.device for part in parts] == ["dm-3"]


# ---- the driver -----------------------------------------------------------------------------------------------------


class Commands:
    """Runner and loop at once: what commands do is up to the test; time goes on with every sleep."""

    def __init__(self, mapper: Mapper) -> None:
        self.mapper = mapper
        self.answers: dict[tuple[str, ...], tuple[str, Callable[[], None]]] = {}
        self.hung: set[str] = set()
        self.ran: list[str] = []
        self.time = 0.0
        self.filter = b""
        self.filters: list[str] = []
        self.asked = 0

    def answers_with(self, command: tuple[str, ...], scene: str = "", does: Callable[[], None] = lambda: None) -> None:
        self.answers[command] = (scene, does)

    async def run(self, command: tuple[str, ...], *, timeout: float, environment: dict[str, str]) -> Result:
        assert environment == {"DM_DISABLE_UDEV": "1"}, "there is no udevd in the test"
        if command == argv.own_filter():
            self.asked += 1
            return Result(command, 0 if self.filter else 5, None, self.filter, b"", 0.1)
        self.ran.append(command[1] if command[0] == argv.LVM else "dmsetup")
        if command[0] == argv.LVM:
            assert command[2] == "--config"
            self.filters.append(command[3])
            command = (*command[:2], *command[4:])
        if command[0] in self.hung:
            self.time += timeout
            return Result(command, None, 15, b"", b"", timeout, timed_out=True)
        scene, does = self.answers.get(command, ("", lambda: None))
        does()
        said = RECORDED.get(
            scene, {"code": 0 if command in self.answers else 5, "stdout": "", "stderr": "no such thing"}
        )
        return Result(command, said["code"], None, said["stdout"].encode(), said["stderr"].encode(), 0.1)

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class Bench:
    def __init__(self, mapper: Mapper) -> None:
        self.runner = Commands(mapper)
        self.etc = mapper.sys.parent / "etc"
        self.etc.mkdir()
        tool = Lvm(self.runner, etc=self.etc, udev=mapper.sys / "none")
        self.driver = LvmDriver(tool, self.runner, sys=mapper.sys, proc=mapper.proc)  # type: ignore[arg-type]

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            work.send(None)
        except StopIteration as ended:
            return ended.value
        raise AssertionError("it waits for something")

    def failure(self, work: Coroutine[Any, Any, Any]) -> str:
        with pytest.raises(StepFailed) as failed:
            self.do(work)
        return failed.value.reason


def step(spec: LvmStorage) -> Step:
    return Step("volume data", StepKind.STORAGE, spec)


@pytest.fixture
def bench(mapper: Mapper) -> Bench:
    return Bench(mapper)


def test_up_activates_and_down_deactivates(bench: Bench, mapper: Mapper) -> None:
    spec = lvm("lin", 24 * MEBIBYTE)
    bench.runner.answers_with(argv.look("pair"), "whole")
    bench.runner.answers_with(argv.activate(spec), does=lambda: mapper.add(0, "pair-lin"))
    bench.runner.answers_with(argv.deactivate(spec), does=lambda: mapper.remove("pair-lin"))
    assert bench.do(bench.driver.probe(step(spec), INSTANCE)) is Probe.INACTIVE
    bench.do(bench.driver.up(step(spec), INSTANCE))
    assert bench.do(bench.driver.probe(step(spec), INSTANCE)) is Probe.ACTIVE
    assert bench.do(bench.driver.device(spec)) == "dm-0"
    assert bench.do(bench.driver.detail(step(spec), INSTANCE)) == {
        "device": "/dev/pair/lin", "type": "lvm", "size": str(32 * MEBIBYTE)
    }  # fmt: skip
    bench.do(bench.driver.down(step(spec), INSTANCE, False))
    assert bench.do(bench.driver.probe(step(spec), INSTANCE)) is Probe.INACTIVE
    assert bench.runner.ran == ["lvs", "lvchange", "lvchange"]


def test_a_command_that_returns_0_proves_nothing(bench: Bench) -> None:
    spec = lvm("lin")
    bench.runner.answers_with(argv.look("pair"), "whole")
    bench.runner.answers_with(argv.activate(spec))
    assert "cannot be activated" in bench.failure(bench.driver.up(step(spec), INSTANCE))


@pytest.mark.parametrize(
    ("scene", "volume", "why"),
    [
        ("activate partial", "lin", "Refusing activation of partial LV pair/both"),
        ("activate duplicate", "lin", "Cannot activate LVs in VG pair while PVs appear on duplicate devices."),
    ],
)
def test_a_refusal_of_lvm_is_told_in_its_words(bench: Bench, scene: str, volume: str, why: str) -> None:
    bench.runner.answers_with(argv.look("pair"), "whole")
    bench.runner.answers_with(argv.activate(lvm(volume)), scene)
    assert why in bench.failure(bench.driver.up(step(lvm(volume)), INSTANCE))


def test_a_group_that_is_exported_is_told(bench: Bench) -> None:
    bench.runner.answers_with(argv.look("pair"), "exported")
    bench.runner.answers_with(argv.groups(), "exported groups")
    bench.runner.answers_with(argv.everywhere(), "everywhere")
    assert bench.failure(bench.driver.up(step(lvm("lin")), INSTANCE)) == (
        "pair/lin: group pair is exported; 'vgimport pair' takes it back"
    )


def test_a_group_on_a_dead_disk_is_not_waited_for(bench: Bench) -> None:
    bench.runner.hung.add(argv.LVM)
    assert "stopped after 20.0 s" in bench.failure(bench.driver.up(step(lvm("lin")), INSTANCE))


def test_a_volume_goes_away_also_when_lvm_hangs(bench: Bench, mapper: Mapper) -> None:
    mapper.add(0, "pair-lin")
    bench.runner.hung.add(argv.LVM)
    bench.runner.answers_with(argv.remove("pair-lin"), does=lambda: mapper.remove("pair-lin"))
    bench.do(bench.driver.down(step(lvm("lin")), INSTANCE, False))
    assert bench.runner.ran == ["lvchange", "dmsetup"]


def test_by_force_lvm_is_not_even_asked(bench: Bench, mapper: Mapper) -> None:
    mapper.add(0, "pair-lin")
    bench.runner.answers_with(argv.remove("pair-lin"), does=lambda: mapper.remove("pair-lin"))
    bench.do(bench.driver.down(step(lvm("lin")), INSTANCE, True))
    assert bench.runner.ran == ["dmsetup"]


@pytest.mark.parametrize("force", [False, True])
def test_a_volume_that_stays_is_not_gone(bench: Bench, mapper: Mapper, force: bool) -> None:
    mapper.add(0, "pair-lin")
    (mapper.sys / "block/dm-0/holders/drbd3").mkdir()
    why = bench.failure(bench.driver.down(step(lvm("lin")), INSTANCE, force))
    assert why.startswith("pair/lin: pair-lin is still there: ") and why.endswith("it is in use: by drbd3")
    assert bench.do(bench.driver.probe(step(lvm("lin")), INSTANCE)) is Probe.ACTIVE


def test_what_a_volume_was_made_of_goes_with_it(bench: Bench, mapper: Mapper) -> None:
    spec = lvm("m")
    mapper.add(0, "pair-m_rimage_0")
    mapper.add(1, "pair-m", below="dm-0")
    bench.runner.answers_with(argv.remove("pair-m"), does=lambda: mapper.remove("pair-m"))
    why = bench.failure(bench.driver.down(step(spec), INSTANCE, True))
    assert why == "pair/m: pair-m_rimage_0 is still there: no such thing"
    assert bench.do(bench.driver.probe(step(spec), INSTANCE)) is Probe.FAILED
    bench.runner.answers_with(argv.deactivate(spec), does=lambda: mapper.remove("pair-m_rimage_0"))
    bench.do(bench.driver.down(step(spec), INSTANCE, True))
    assert bench.do(bench.driver.probe(step(spec), INSTANCE)) is Probe.INACTIVE


def test_a_suspended_volume_has_failed(bench: Bench, mapper: Mapper) -> None:
    mapper.add(0, "pair-lin")
    mapper.suspend(0)
    bench.runner.answers_with(argv.look("pair"), "whole")
    assert bench.do(bench.driver.probe(step(lvm("lin")), INSTANCE)) is Probe.FAILED
    assert "'dmsetup resume pair-lin'" in bench.failure(bench.driver.up(step(lvm("lin")), INSTANCE))


def test_a_full_pool_tells_only_once_it_is_active(bench: Bench, mapper: Mapper) -> None:
    spec = lvm("thin")

    def activate() -> None:
        mapper.add(0, "pair-thin", below="dm-1")
        bench.runner.answers_with(argv.look("pair"), "thin full")

    bench.runner.answers_with(argv.look("pair"), "thin")
    bench.runner.answers_with(argv.activate(spec), does=activate)
    bench.runner.answers_with(argv.deactivate(spec), does=lambda: mapper.remove("pair-thin"))
    assert "its pool pool is full (data)" in bench.failure(bench.driver.up(step(spec), INSTANCE))
    assert bench.do(bench.driver.probe(step(spec), INSTANCE)) is Probe.INACTIVE


def test_what_is_in_use_goes_on_without_a_look(bench: Bench, mapper: Mapper) -> None:
    """A restarted daemon finds its own: LVM need not answer for it."""
    mapper.add(0, "pair-lin")
    (mapper.sys / "fs/ext4/dm-0").mkdir(parents=True)
    bench.runner.hung.add(argv.LVM)
    bench.do(bench.driver.up(step(lvm("lin")), INSTANCE))
    assert bench.runner.ran == []


def test_what_somebody_activated_is_looked_at_all_the_same(bench: Bench, mapper: Mapper) -> None:
    mapper.add(0, "pair-mirrored")
    bench.runner.answers_with(argv.look("pair"), "raid1")
    assert "any boot would activate it" in bench.failure(bench.driver.up(step(lvm("mirrored")), INSTANCE))


def test_without_sysfs_nothing_is_known(tmp_path: Path, mapper: Mapper) -> None:
    bench = Bench(mapper)
    mapper.sys.rename(tmp_path / "gone")
    assert bench.do(bench.driver.probe(step(lvm("lin")), INSTANCE)) is Probe.UNKNOWN
    assert "cannot read" in bench.failure(bench.driver.down(step(lvm("lin")), INSTANCE, True))


# ---- what LVM looks at ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "filters"),
    [
        (b"", 'devices/filter=["r|/dev/drbd.*|"]'),
        (b'filter=["a|/dev/mapper/|","r|.*|"]', 'devices/filter=["r|/dev/drbd.*|","a|/dev/mapper/|","r|.*|"]'),
        (rb'filter="a|/dev/sd\"x|"', r'devices/filter=["r|/dev/drbd.*|","a|/dev/sd\"x|"]'),
    ],
)
def test_lvm_never_looks_at_a_replica(bench: Bench, own: bytes, filters: str) -> None:
    """It would hang for ever where that stands still. What the operator leaves out stays left out."""
    bench.runner.filter = own
    assert "no such thing" in bench.failure(bench.driver.up(step(lvm("lin")), INSTANCE))
    assert bench.runner.ran == ["lvs", "vgs", "lvs"]
    assert set(bench.runner.filters) == {filters}


def test_the_operators_filter_is_asked_for_again_when_it_may_have_changed(bench: Bench) -> None:
    for asked in (1, 1, 2, 2):
        if asked == 2 and bench.runner.asked == 1:
            (bench.etc / "lvmlocal.conf").write_text("devices {}")
        bench.failure(bench.driver.up(step(lvm("lin")), INSTANCE))
        assert bench.runner.asked == asked
