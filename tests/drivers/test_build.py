"""What lha_buildapp looks at and makes on a node: files, tools, file systems; LVM as it was recorded."""

import json
import os
import subprocess
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from realhost import RealHost

from truecl.commands.build import parse_growth
from truecl.commands.node import Ended
from truecl.drivers.build import requirements, versions
from truecl.drivers.build.signatures import Signature, parse
from truecl.drivers.build.volumes import Volumes
from truecl.drivers.contract import Result, StepFailed
from truecl.drivers.filesystem.make import FormatDriver, command, refusal
from truecl.drivers.storage.lvm import argv
from truecl.drivers.storage.lvm.tool import Lvm
from truecl.model.build import Seen
from truecl.model.config import (
    AppConfig,
    ClusterConfig,
    DrbdStorage,
    FenceConfig,
    FileStorage,
    FileSystem,
    LvmStorage,
    Monitor,
    NodeConfig,
    Program,
    Volume,
)
from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.ledger import Format
from truecl.model.step import FormatSpec, Instance, Probe, Step, StepKind

RECORDED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "recorded/lvm-2.03.16.json").read_text())
APP = AppConfig(name=AppName("web"), nodes=(NodeName("n1"),))
CLUSTER = ClusterConfig(name="c", links=(), nodes=(NodeConfig(name=NodeName("n1"), addresses={}),))
UUID = "5c5f8a3e-8f3e-8c11-9b7a-0123456789ab"


def program(*run: str, **more: Any) -> AppConfig:
    return replace(APP, programs=(Program(name="it", run=run, **more),))


@pytest.fixture
def real() -> Iterator[RealHost]:
    yield RealHost()


# ---- programs and places --------------------------------------------------------------------------------------------


def test_programs_users_directories_and_agents_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    app = program(str(tmp_path / "plain"), user="nobody-here", directory=str(tmp_path / "nowhere"))
    cluster = replace(CLUSTER, nodes=(replace(CLUSTER.nodes[0], fence=((FenceConfig(agent="fence_of_nobody"),),)),))
    problems = "\n".join(requirements.look(app, cluster, active=False).problems)
    for text in (
        "plain of program it cannot be run",
        "no user nobody-here",
        "nowhere",
        "fence_of_nobody cannot be run",
    ):
        assert text in problems
    assert requirements.look(program("/bin/true"), CLUSTER, active=False) == Seen()


def test_what_lies_on_the_applications_own_file_system_is_there_only_while_it_runs() -> None:
    app = replace(program("/srv/own/it"), filesystems=(FileSystem(type="ext4", mount="/srv/own"),))
    assert requirements.look(app, CLUSTER, active=True) == Seen()


def test_scripts_have_checksums_and_machine_code_and_data_have_none(tmp_path: Path) -> None:
    script, data = tmp_path / "script.py", tmp_path / "data"
    script.write_text("print()")
    data.write_text("changes all the time")
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monitor = Monitor(command=(str(tool), "-x"))
    app = program("/usr/bin/python3", str(script), str(data), "relative", monitor=monitor)
    before = requirements.scripts(app)
    assert sorted(before) == [f"script {script}", f"script {tool}"]
    script.write_text("print(1)")
    assert {name for name, value in requirements.scripts(app).items() if before[name] != value} == {f"script {script}"}


@pytest.mark.parametrize(
    ("mount", "said"),
    [("/proc", "/proc is in use"), ("/etc/passwd/x", "/etc/passwd is no directory"), ("/mnt/not/there", "")],
)
def test_mount_points_must_be_free_and_makeable(mount: str, said: str) -> None:
    app = replace(APP, filesystems=(FileSystem(type="ext4", mount=mount),))
    problems = requirements.look(app, CLUSTER, active=False).problems
    assert (said in problems[0]) if said else not problems
    assert not requirements.look(app, CLUSTER, active=True).problems, "what is up uses its own"


# ---- tools ----------------------------------------------------------------------------------------------------------

DRBDADM = "DRBDADM_BUILDTAG=GIT-hash:\\ 409097\\ debian/9.22.0-2\nDRBD_KERNEL_VERSION=8.4.11\nDRBDADM_VERSION=9.22.0\n"


@pytest.mark.parametrize(
    ("said", "is_version"),
    [
        ("mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library version 1.47.0\n", "1.47.0"),
        ("  LVM version:     2.03.16(2) (2022-05-18)\n  Library version: 1.02.185 (2022-05-18)\n", "2.03.16"),
        ("mkfs.xfs version 6.1.0\n", "6.1.0"),
        (DRBDADM, "9.22.0"),
        ("usage: nothing of the sort", ""),
    ],
)
def test_versions_as_the_tools_tell_them(said: str, is_version: str) -> None:
    assert versions.version(said) == is_version


def test_which_tools_an_application_needs() -> None:
    copied = DrbdStorage(on=LvmStorage(group="vg", volume="v"))
    app = replace(APP, volumes=(Volume(name="a", storage=copied),), filesystems=(FileSystem(type="xfs", mount="/x"),))
    assert versions.kinds(app) == ("xfs", "drbd", "lvm")


# ---- volumes --------------------------------------------------------------------------------------------------------


class Tools:
    """A runner that says what was recorded; what it was asked to do is in `ran`."""

    def __init__(self, busy: str = "", **scenes: str) -> None:
        """`busy`: what is said where a volume is to be deactivated."""
        self.ran: list[tuple[str, ...]] = []
        self._busy = busy
        self._scenes = {"lvs": "whole", "vgs": "groups", "everywhere": "everywhere"} | scenes

    async def run(self, command: tuple[str, ...], **options: Any) -> Result:
        if command == argv.own_filter():
            return Result(command, 5, None, b"", b"", 0.0)
        at = command.index("--config")
        command = command[:at] + command[at + 2 :]
        self.ran.append(command)
        if command == argv.everywhere():
            return self._said(command, "everywhere")
        if command[1] in self._scenes and command[2] in ("-a", "--reportformat"):
            return self._said(command, self._scenes[command[1]])
        if self._busy and command[1:3] == ("lvchange", "-an"):
            return Result(command, 5, None, b"", self._busy.encode(), 0.0)
        return Result(command, 0, None, b"", b"", 0.0)

    def _said(self, command: tuple[str, ...], scene: str) -> Result:
        found = RECORDED[scene]
        return Result(command, found["code"], None, found["stdout"].encode(), found.get("stderr", "").encode(), 0.0)

    def words(self) -> list[str]:
        return [" ".join(command[1:]) for command in self.ran]


def done(work: Coroutine[Any, Any, Any]) -> Any:
    """What comes of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def logical(tools: Tools) -> Volumes:
    runner: Any = tools
    return Volumes(runner, Lvm(runner))


def on_lvm(volume: str, group: str = "pair", **more: Any) -> AppConfig:
    storage = LvmStorage(**({"group": group, "volume": volume} | more))
    return replace(APP, volumes=(Volume(name="data", storage=DrbdStorage(on=storage)),))


def test_a_logical_volume_is_there_or_missing_or_cannot_be_made() -> None:
    volumes = logical(Tools())
    assert done(volumes.look(on_lvm("lin"))).facts == {"volume data": str(24 << 20)}
    missing = done(volumes.look(on_lvm("new", size=8 << 20)))
    assert missing.missing == {"volume data": "logical volume pair/new of 8M"} and not missing.problems
    assert "no size to make it with" in done(volumes.look(on_lvm("new"))).problems[0]
    assert "25M" in done(volumes.look(on_lvm("lin", size=25 << 20))).problems[0]


def test_a_volume_that_any_boot_would_activate_is_to_be_marked() -> None:
    seen = done(logical(Tools(lvs="raid1")).look(on_lvm("mirrored")))
    assert "a mark on logical volume pair/mirrored" in seen.missing["volume data"]


def test_a_group_is_made_only_of_named_devices() -> None:
    volumes = logical(Tools(lvs="no group"))
    assert "there is no volume group nope" in done(volumes.look(on_lvm("v", "nope", size=1 << 20))).problems[0]


def test_a_volume_is_made_marked_and_left_inactive() -> None:
    tools = Tools()
    assert "made logical volume pair/new of 8M" in done(logical(tools).make(on_lvm("new", size=8 << 20), "data", ""))
    made, left, marked = tools.words()[-3:]
    assert made.startswith("lvcreate") and "-L 8388608b -n new pair" in made
    assert marked.startswith("lvchange -qq -ky --setautoactivation n") and left == "lvchange -an pair/new"


def test_a_volume_that_somebody_has_is_not_marked() -> None:
    """The mark would keep it from him after the next boot."""
    tools = Tools(busy="is used by another device")
    with pytest.raises(StepFailed, match="used by another device"):
        done(logical(tools).make(on_lvm("lin", size=8 << 20), "data", ""))
    assert not any("-ky" in words for words in tools.words())


def test_a_volume_that_grew_elsewhere_is_made_as_large() -> None:
    tools = Tools()
    done(logical(tools).make(on_lvm("new", size=8 << 20), "data", "", 16 << 20))
    assert any("-L 16777216b -n new pair" in words for words in tools.words())


def test_a_volume_that_is_there_is_never_made_again() -> None:
    tools = Tools()
    done(logical(tools).make(on_lvm("lin", size=8 << 20), "data", ""))
    assert not any("lvcreate" in words for words in tools.words())


def test_a_volume_grows_and_never_shrinks() -> None:
    tools = Tools()
    assert "already" in done(logical(tools).grow(on_lvm("lin"), "data", 1 << 20))
    assert not any("lvextend" in words for words in tools.words())
    done(logical(tools).grow(on_lvm("lin"), "data", 48 << 20))
    assert tools.words()[-1] == "lvextend -qq -L 50331648b pair/lin"
    assert done(logical(tools).grow(on_lvm("lin"), "data", 48 << 20, only_try=True)) == ""
    assert tools.words()[-1] == "lvextend -qq --test -L 50331648b pair/lin", "changes nothing"


def test_an_image_must_be_there(real: RealHost, tmp_path: Path) -> None:
    image = tmp_path / "web.img"
    app = replace(APP, volumes=(Volume(name="data", storage=FileStorage(image=str(image))),))
    assert "is NFS mounted?" in real.do(Volumes(real.runner, Lvm(real.runner)).look(app)).problems[0]
    image.write_bytes(b"x" * 1000)
    assert real.do(Volumes(real.runner, Lvm(real.runner)).look(app)).facts == {"volume data": "1000"}


# ---- file systems ---------------------------------------------------------------------------------------------------

INSTANCE = Instance(AppName("web"), Generation(5))


class Image:
    """A file in the place of a volume's device."""

    def __init__(self, real: RealHost, directory: Path) -> None:
        self.path, self._real = directory / "loop9", real
        self.path.write_bytes(b"")
        os.truncate(self.path, 16 << 20)
        self.driver = FormatDriver(real.runner, self._device, dev=directory)

    async def _device(self, over: Any) -> str | None:
        return "loop9"

    def up(self, **more: Any) -> dict[str, str]:
        wanted = Format(**({"volume": "data", "type": "ext4", "uuid": UUID} | more))
        step = Step("file system data", StepKind.FORMAT, FormatSpec(wanted), FileStorage(image="/x"))
        self._real.do(self.driver.up(step, INSTANCE))
        assert self._real.do(self.driver.probe(step, INSTANCE)) is Probe.ACTIVE
        found = self._real.do(self.driver.detail(step, INSTANCE))
        self._real.do(self.driver.down(step, INSTANCE, False))
        assert self._real.do(self.driver.probe(step, INSTANCE)) is Probe.INACTIVE
        return found


def test_a_file_system_is_found_or_made_and_nothing_else_is_overwritten(real: RealHost, tmp_path: Path) -> None:
    image = Image(real, tmp_path)
    assert image.up()["found"] == "none"
    assert image.up(make=True)["found"] == UUID
    assert image.up(make=True, uuid=UUID.replace("5c5f", "0000"))["found"] == UUID, "one that is there stays"
    subprocess.run(["mkswap", "-q", image.path], check=True, capture_output=True)
    found = image.up(make=True)["found"]
    assert found.startswith("other ") and "swap" in found
    assert image.up(make=True, agreed="something else")["found"] == found
    assert image.up(make=True, agreed=found.removeprefix("other "))["found"] == UUID


def test_a_volume_that_is_not_active_is_a_failure(real: RealHost) -> None:
    async def nothing(over: Any) -> str | None:
        return None

    step = Step("file system data", StepKind.FORMAT, FormatSpec(Format("data", "ext4", UUID)), FileStorage(image="/x"))
    with pytest.raises(StepFailed, match="volume data is not active"):
        real.do(FormatDriver(real.runner, nothing).up(step, INSTANCE))


def test_nothing_of_a_replicated_volume_is_discarded() -> None:
    assert "nodiscard" in command(Format("d", "ext4", UUID), "/dev/drbd100", True)
    assert "-K" in command(Format("d", "xfs", UUID), "/dev/drbd100", True)
    assert "nodiscard" not in command(Format("d", "ext4", UUID), "/dev/loop1", False)
    with pytest.raises(StepFailed):
        command(Format("d", "btrfs", UUID), "/dev/loop1", False)


def test_the_reason_comes_before_how_the_tool_is_called() -> None:
    said = b"Filesystem must be larger than 300MB.\nUsage: mkfs.xfs\n/* x */\t[-b size=num]\n<num> is xxx (bytes)\n"
    assert refusal(Result((), 1, None, b"", said, 0.0)) == "Filesystem must be larger than 300MB."
    assert refusal(Result((), 1, None, b"", b"mkfs.ext4: No space left on device\n", 0.0)).startswith(
        "mkfs.ext4: No space"
    )


def test_signatures_as_wipefs_reports_them() -> None:
    row = {"device": "x", "offset": "0x438", "type": "ext4", "uuid": "1-2", "label": None}
    report = json.dumps({"signatures": [row, row, row | {"type": "drbd", "uuid": "9"}]}).encode()
    assert parse(Result((), 0, None, report, b"", 0.0)) == (Signature("ext4", "1-2"), Signature("drbd", "9"))
    assert parse(Result((), 0, None, b"", b"", 0.0)) == ()
    with pytest.raises(StepFailed):
        parse(Result((), 0, None, b"nonsense", b"", 0.0))


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "size"), [("data=20G", 20 << 30), ("data=5m", 5 << 20), ("data=4096", 4096)])
def test_growth(text: str, size: int) -> None:
    assert parse_growth(text) == ("data", size)


@pytest.mark.parametrize("text", ["data", "=5G", "data=", "data=0", "data=5X", "data=-1G", "data=1.5G"])
def test_what_is_no_growth_says_how_one_is_written(text: str) -> None:
    with pytest.raises(Ended, match="expected VOLUME=SIZE"):
        parse_growth(text)
