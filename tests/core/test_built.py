"""The file systems that were built: an order names them, and nothing else is mounted."""

from truecl.core.contract import Told
from truecl.model.actions import StepProbe, StepUp
from truecl.model.config import AppConfig, FileStorage, FileSystem, Volume
from truecl.model.ids import CLUSTERD, AppName, Generation, Term
from truecl.model.step import Step, StepKind, steps_of
from truecl.wire.messages import Order

from .reqd_bench import CONFIGURATION, N1, N2, ReqdBench

DB = AppName("db")
APP = AppConfig(
    name=DB,
    nodes=(N1, N2),
    volumes=tuple(Volume(name=name, storage=FileStorage(image=f"/shared/{name}.img")) for name in ("data", "log")),
    filesystems=(
        FileSystem(type="ext4", mount="/srv/db", volume="data"),
        FileSystem(type="xfs", mount="/srv/db/log", volume="log"),
    ),
)
BUILT = {"data": "aaaa", "log": "bbbb"}


def mounts(steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    return [(step.name, step.uuid) for step in steps if step.kind is StepKind.FILESYSTEM]


def test_a_file_system_s_step_names_what_must_be_on_its_volume() -> None:
    assert mounts(steps_of(APP, built=BUILT)) == [("file system /srv/db", "aaaa"), ("file system /srv/db/log", "bbbb")]
    assert {uuid for _, uuid in mounts(steps_of(APP))} == {""}


def test_one_volume_need_not_be_named() -> None:
    one = AppConfig(name=DB, nodes=(), volumes=APP.volumes[:1], filesystems=(FileSystem(type="ext4", mount="/srv/db"),))
    assert mounts(steps_of(one, built=BUILT)) == [("file system /srv/db", "aaaa")]


def test_what_an_order_names_is_mounted_also_by_a_daemon_that_came_back() -> None:
    configuration = CONFIGURATION.__class__(cluster=CONFIGURATION.cluster, apps=(APP,))
    bench = ReqdBench(configuration)
    bench.lease((DB, 7))
    bench.feed(Told(CLUSTERD, Order("start", DB, Generation(7), Term(1), built=BUILT)))
    bench.restart()
    bench.lease((DB, 7))
    seen: set[tuple[str, str]] = set()
    while bench.asked:
        action = bench.answer()
        if isinstance(action, StepUp | StepProbe) and action.step.kind is StepKind.FILESYSTEM:
            seen.add((action.step.name, action.step.uuid))
    assert seen == {("file system /srv/db", "aaaa"), ("file system /srv/db/log", "bbbb")}
