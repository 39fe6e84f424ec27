"""What DRBD said on a real kernel (recorded/), what it would say as version 9, and the driver on a made-up DRBD.

The events of version 9 are those of drbd-utils' own tests (tests/v9/events2-*.test): no kernel here has it.
"""

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realhost import RealHost

from truecl.drivers.contract import Facts, Result, StepFailed
from truecl.drivers.storage.drbd import argv, parse, resource, token
from truecl.drivers.storage.drbd.driver import BUSY, SETTLE, ReplicaDriver
from truecl.drivers.storage.drbd.kernel import Kernel, link_of, role_of
from truecl.drivers.storage.drbd.metadata import Metadata
from truecl.drivers.storage.drbd.parse import Seen
from truecl.drivers.storage.drbd.replicas import Replicas
from truecl.drivers.storage.drbd.token import Token
from truecl.lab.vm.packages import Packages
from truecl.model.build import Initialise
from truecl.model.config import DiskStorage, LvmStorage
from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.replica import Disk, Layout, LayoutHost, LayoutVolume, Link, Role
from truecl.model.step import Instance, Over, Probe, ReplicaSpec, ReplicaVolume, Step, StepKind

RECORDED: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "recorded/drbd-8.4.11.json").read_text())
APP = AppName("db")
LAYOUT = Layout(
    APP,
    7789,
    (LayoutHost(NodeName("n1"), "10.77.2.1"), LayoutHost(NodeName("n2"), "fd77:2::2")),
    (
        LayoutVolume("data", 0, 0, LvmStorage(group="vg", volume="data")),
        LayoutVolume("log", 1, 1, DiskStorage(device="/dev/disk/by-id/x")),
    ),
)

# ---- parsing --------------------------------------------------------------------------------------------------------

UP, BAD, OLD, NO, ANY = Disk.UP_TO_DATE, Disk.INCONSISTENT, Disk.OUTDATED, Disk.DISKLESS, Disk.UNKNOWN
SCENES: dict[str, tuple[Role, Link, Disk, Disk, bool]] = {
    "no disk yet": (Role.SECONDARY, Link.STANDALONE, NO, ANY, False),
    "attached alone": (Role.SECONDARY, Link.STANDALONE, BAD, OLD, False),
    "new, waiting": (Role.SECONDARY, Link.CONNECTING, BAD, BAD, False),
    "new, connected": (Role.SECONDARY, Link.CONNECTED, BAD, BAD, False),
    "sync source": (Role.PRIMARY, Link.SYNC_SOURCE, UP, BAD, False),
    "sync target": (Role.SECONDARY, Link.SYNC_TARGET, BAD, UP, False),
    "sync paused, source": (Role.PRIMARY, Link.SYNC_SOURCE, UP, BAD, False),
    "sync paused, target": (Role.SECONDARY, Link.SYNC_TARGET, BAD, UP, False),
    "connected, primary": (Role.PRIMARY, Link.CONNECTED, UP, UP, False),
    "connected, secondary": (Role.SECONDARY, Link.CONNECTED, UP, UP, False),
    "verifying": (Role.PRIMARY, Link.VERIFYING, UP, UP, False),
    "being verified": (Role.SECONDARY, Link.VERIFYING, UP, UP, False),
    "frozen": (Role.PRIMARY, Link.CONNECTING, UP, ANY, True),
    "waiting, secondary": (Role.SECONDARY, Link.CONNECTING, UP, ANY, False),
    "frozen alone": (Role.PRIMARY, Link.STANDALONE, UP, ANY, True),
    "frozen without disk": (Role.PRIMARY, Link.STANDALONE, NO, ANY, True),
    "without disk": (Role.PRIMARY, Link.STANDALONE, NO, ANY, False),
    "severed": (Role.SECONDARY, Link.STANDALONE, NO, ANY, False),
    "alone, secondary": (Role.SECONDARY, Link.STANDALONE, UP, ANY, False),
}


def essence(seen: Seen) -> tuple[Role, Link, Disk, Disk, bool]:
    return seen.role, seen.link, seen.disk, seen.peer, seen.suspended


@pytest.mark.parametrize("scene", SCENES)
def test_both_accounts_of_the_kernel_say_the_same(scene: str) -> None:
    proc, events = parse.proc_drbd(RECORDED[scene]["proc"]), parse.events(RECORDED[scene]["events2"])["db"]
    assert set(proc) == set(events) == {0, 1}
    assert essence(proc[0]) == essence(events[0]) == SCENES[scene]


def test_every_scene_that_was_recorded_is_looked_at() -> None:
    assert set(RECORDED) == {*SCENES, "nothing", "show"}
    assert parse.proc_drbd(RECORDED["nothing"]["proc"]) == parse.events(RECORDED["nothing"]["events2"]) == {}
    assert parse.version(RECORDED["nothing"]["proc"]) == (8, 4, 11)


def test_how_far_it_is() -> None:
    for scene in ("sync source", "sync target", "verifying", "being verified"):
        seen = parse.proc_drbd(RECORDED[scene]["proc"])[0]
        assert 0 < seen.done < 100 and 1 << 20 < seen.rate < 10 << 20 and 1 <= seen.left <= 60, scene
        assert (seen.behind > 0) is scene.startswith("sync")
    idle = parse.proc_drbd(RECORDED["connected, primary"]["proc"])[0]
    assert (idle.done, idle.rate, idle.left, idle.behind) == (100.0, 0, 0.0, 0)


def test_the_progress_of_a_large_volume() -> None:
    block = RECORDED["sync source"]["proc"].split(" 1: cs")[0]
    large = block.replace("/32728)K", "/2000000)M")
    start, amounts = large.split("% (")
    text = f"{start}% (500000/{amounts.split('/', 1)[1]}".replace("finish: 0:", "finish: 12:")
    seen = parse.proc_drbd(text)[0]
    assert seen.done == 75.0 and 12 * 3600 <= seen.left < 13 * 3600


NINE = """\
exists resource name:some-resource role:Primary suspended:no force-io-failures:no write-ordering:flush may_promote:no promotion_score:10102
exists connection name:some-resource peer-node-id:1 conn-name:some-peer connection:Connected role:Secondary congested:no ap-in-flight:10 rs-in-flight:20
exists device name:some-resource volume:0 minor:1000 backing_dev:/dev/sda disk:UpToDate client:no open:no quorum:yes size:5 read:10 written:15 al-writes:40 bm-writes:50 upper-pending:60 lower-pending:70 al-suspended:no blocked:no
exists peer-device name:some-resource peer-node-id:1 conn-name:some-peer volume:0 replication:SyncSource peer-disk:Inconsistent done:25.00 peer-client:no resync-suspended:no received:5 sent:10 out-of-sync:3072 pending:30 unacked:40 dbdt1:2.50 eta:7
exists path name:some-resource peer-node-id:1 conn-name:some-peer local:ipv4:1.2.3.4:7789 peer:ipv4:5.6.7.8:7790 established:yes
exists -
"""  # noqa: E501


def test_version_9() -> None:
    seen = parse.events(NINE)["some-resource"][1000]
    assert essence(seen) == (Role.PRIMARY, Link.SYNC_SOURCE, UP, BAD, False)
    assert (seen.done, seen.rate, seen.left, seen.behind) == (25.0, 2_621_440, 7.0, 3 << 20)
    frozen = NINE.replace("suspended:no", "suspended:fencing,quorum", 1).replace("connection:Connected", "connection:X")
    seen = parse.events(frozen.replace("eta:7", "eta:nan"))["some-resource"][1000]
    assert (seen.suspended, seen.link, seen.left) == (True, Link.UNKNOWN, 0.0)
    severed = NINE.replace("role:Primary", "role:Secondary", 1).replace("failures:no", "failures:yes")
    assert parse.events(severed)["some-resource"][1000].role is Role.UNKNOWN, "while somebody has it open"


@given(st.sampled_from(sorted(SCENES)), st.data())
def test_a_torn_account_is_no_traceback(scene: str, data: st.DataObject) -> None:
    for account, of in ((RECORDED[scene]["proc"], parse.proc_drbd), (RECORDED[scene]["events2"], parse.events)):
        cut = data.draw(st.integers(0, len(account)))
        with suppress(StepFailed):
            cast(Callable[[str], object], of)(account[:cut] + data.draw(st.text(max_size=20)) + account[cut + 5 :])


@pytest.mark.parametrize("account", ["", NINE[:-9], NINE[:200] + "\n[70 bytes left out]\n" + NINE[300:]])
def test_half_an_account_is_none(account: str) -> None:
    with pytest.raises(StepFailed, match="not whole"):
        parse.events(account)


def test_what_freezes() -> None:
    assert parse.fencing(RECORDED["show"]["resource-and-stonith"]) == ("resource-and-stonith",) * 2
    assert parse.fencing(RECORDED["show"]["mixed"]) == ("resource-and-stonith", "resource-only")
    assert parse.fencing("resource db {\n  net {\n    fencing  resource-and-stonith;\n }}") == ("resource-and-stonith",)
    assert parse.fencing("# No currently configured DRBD found.\n") == ()


def test_several_volumes_are_as_one() -> None:
    good = Seen(Role.SECONDARY, Link.CONNECTED, UP, UP)
    assert link_of({0: good, 1: good}) is Link.CONNECTED and link_of({}) is Link.UNKNOWN
    for link in (Link.SYNC_TARGET, Link.STANDALONE, Link.UNKNOWN):
        assert link_of({0: good, 1: Seen(Role.SECONDARY, link, UP)}) is link
    assert role_of(LAYOUT, {}) is Role.DOWN
    assert role_of(LAYOUT, {0: good, 1: Seen(Role.PRIMARY, Link.CONNECTED, UP)}) is Role.PRIMARY
    assert role_of(LAYOUT, {0: good, 1: Seen(Role.UNKNOWN, Link.CONNECTED, UP)}) is Role.UNKNOWN


# ---- the resource file ----------------------------------------------------------------------------------------------


def made(layout: Layout, version: tuple[int, int, int] = (8, 4, 11), hostname: str = "n1") -> str:
    return resource.text(
        layout, NodeName("n1"), {0: "/dev/vg/data", 1: "/dev/disk/by-id/x"}, "/x/handler", version, hostname
    )


def test_the_file_says_what_it_was_made_from() -> None:
    text = made(LAYOUT)
    assert text.startswith("# made by truecl") and resource.layout_of(text) == LAYOUT
    assert resource.layout_of("resource db { }\n") is None and resource.layout_of("# layout {}\n") is None


def test_8_4_and_9_want_the_policy_in_different_places() -> None:
    eight, nine = made(LAYOUT), made(LAYOUT, (9, 2, 0))
    assert "fencing resource-and-stonith;" in eight.split("disk {")[1] and "node-id" not in eight
    assert "fencing resource-and-stonith;" in nine.split("net {")[1].split("}")[0]
    assert "auto-promote no; quorum off;" in nine and nine.count("node-id") == 2
    for text in (eight, nine):
        assert text.count("fencing ") == 1 and text.count("protocol C") == 1
        assert 'fence-peer "/x/handler fence-peer";' in text and 'split-brain "/x/handler split-brain";' in text
        assert "address ipv4 10.77.2.1:7789;" in text and "address ipv6 [fd77:2::2]:7789;" in text


def test_drbdadm_knows_this_machine_by_its_own_name() -> None:
    text = made(LAYOUT, hostname="server7.example")
    assert 'on "server7.example" {' in text and 'on "n2" {' in text and 'on "n1"' not in text


def test_a_resynchronisation_has_a_most_and_a_least() -> None:
    assert "c-max-rate 102400k; c-min-rate 10240k;" in made(LAYOUT)
    slow = Layout(APP, 7789, LAYOUT.hosts, LAYOUT.volumes, rate=1 << 20)
    assert "c-max-rate 1024k; c-min-rate 1024k;" in made(slow)


TOOLS = Path(Packages().tools) / "usr"
ADM = {8: TOOLS / "lib/drbd/drbdadm-84", 9: TOOLS / "sbin/drbdadm"}
CONNECT_8 = (
    "connect db ipv4:10.77.2.1:7789 ipv6:\\[fd77:2::2\\]:7789 --protocol=C --ping-int=1 --ping-timeout=5 --timeout=9"
)


@pytest.mark.skipif(not ADM[9].exists(), reason="no drbd-utils: 'make vm-packages' unpacks them")
@pytest.mark.parametrize("version", [(8, 4, 11), (9, 2, 0)])
def test_what_drbdadm_would_do(tmp_path: Path, version: tuple[int, int, int]) -> None:
    """The order of its own `up` or `adjust`, and with the policy where this version wants it."""
    (tmp_path / "db.res").write_text(made(LAYOUT, version, os.uname().nodename))

    def would(verb: str) -> list[str]:
        command = [str(ADM[version[0]]), "-c", str(tmp_path / "db.res"), "-d", verb, "db"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return [line.split("drbdsetup-84 ")[-1].split("drbdsetup ")[-1] for line in said]

    nine = version[0] == 9
    own = [line for verb in (*(argv.MAKE_9 if nine else argv.MAKE_8), "connect") for line in would(verb)]
    theirs = [line.replace("--set-defaults ", "") for line in would("adjust" if nine else "up")]
    assert own == theirs
    (frozen,) = {line.split()[0] for line in own if "--fencing=resource-and-stonith" in line}
    assert frozen == ("new-peer" if nine else "attach")
    assert nine or own[-1].startswith(CONNECT_8)
    assert not nine or own[0].endswith("--auto-promote=no --quorum=off --on-no-data-accessible=io-error")


# ---- a made-up DRBD -------------------------------------------------------------------------------------------------


class Drbd:
    """8.4 with one resource of two volumes: takes orders as the tools do, and says in /proc/drbd what is. It is also
    the Runner. `refuse`: what a tool says instead, by a word of its order."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.states = {minor: ["StandAlone", "Secondary", "UpToDate", "r"] for minor in (0, 1)}
        self.orders: list[str] = []
        self.refuse: dict[str, str] = {}
        self.policy, self.shown = "resource-and-stonith", 2
        self.identifier = "A" * 16
        """Of the generation of data in every volume's metadata."""
        self.before: Callable[[str], None] = lambda _: None
        """Called with each order before it is carried out."""
        self.show()

    def show(self) -> None:
        lines = [
            f" {minor}: cs:{state} ro:{role}/Unknown ds:{disk}/DUnknown C {flag}-----"
            for minor, (state, role, disk, flag) in self.states.items()
        ]
        (self.proc / "drbd").write_text("\n".join(["version: 8.4.11 (api:1/proto:86-101)", *lines, ""]))

    def set(self, **what: str) -> None:
        for each in self.states.values():
            for index, name in enumerate(("state", "role", "disk", "flag")):
                each[index] = what.get(name, each[index])
        self.show()

    async def run(self, argv: tuple[str, ...], *, timeout: float, **_: Any) -> Result:
        order = " ".join((Path(argv[0]).name, *argv[1:]))
        self.before(order)
        if "events2" not in order and "show" not in order:
            self.orders.append(order)
        for word, said in self.refuse.items():
            if word in order:
                return Result(argv, 11, None, b"", said.encode(), 0.1)
        return Result(argv, 0, None, self.carry_out(argv).encode(), b"", 0.1)

    def carry_out(self, argv: tuple[str, ...]) -> str:
        match argv[1:]:
            case [*_, "get-gi"]:
                return f"{self.identifier}:0:0:0:1:1\n"
            case ["show", *_]:
                return f"disk {{\n  fencing {self.policy};\n}}\n" * self.shown
            case ["events2", *_]:
                state, role, _, _ = next(iter(self.states.values()), ("", "", "", ""))
                link = {"WFConnection": "Connecting"}.get(state, state)
                rows = [
                    f"exists resource name:db role:{role} suspended:no",
                    f"exists connection name:db connection:{link}",
                    "exists peer-device name:db replication:Established",
                ]
                rows += [f"exists device name:db volume:{m} minor:{m} disk:{x[2]}" for m, x in self.states.items()]
                return "\n".join([*(rows if self.states else []), "exists -", ""])
            case ["primary" | "secondary" as verb, minor]:
                self.states[int(minor)][1] = verb.capitalize()
            case ["disconnect", *_]:
                self.set(state="StandAlone")
            case ["connect", *_]:
                self.set(state="WFConnection")
            case ["detach", *_]:
                self.set(disk="Diskless")
            case ["attach", *_]:
                self.set(disk="UpToDate")
            case ["resume-io", minor]:
                assert self.states[int(minor)][2] == "Diskless", (
                    "resumed with a disk: what was never acknowledged is written"
                )
                self.states[int(minor)][3] = "r"
            case ["down", *_]:
                self.states.clear()
            case ["new-minor", *_]:
                self.states = {minor: ["StandAlone", "Secondary", "Diskless", "r"] for minor in (0, 1)}
        self.show()
        return ""


class Beneath:
    """What lies beneath is up or down."""

    def __init__(self) -> None:
        self.active: set[object] = set()

    async def up(self, step: Step, instance: Instance) -> None:
        self.active.add(step.spec)

    async def down(self, step: Step, instance: Instance, force: bool) -> None:
        self.active.discard(step.spec)

    async def probe(self, step: Step, instance: Instance) -> Probe:
        return Probe.ACTIVE if step.spec in self.active else Probe.INACTIVE

    async def detail(self, step: Step, instance: Instance) -> Facts:
        return {}

    async def device(self, over: Over) -> str | None:
        return "dm-0" if over in self.active else None


class Bench:
    def __init__(self, tmp_path: Path, settle: float = SETTLE, busy: float = BUSY) -> None:
        self.real = RealHost()
        for name in ("proc", "run", "etc"):
            (tmp_path / name).mkdir()
        self.path, self.run = tmp_path, tmp_path / "run"
        self.adm = tmp_path / "drbdadm"
        self.adm.touch()
        self.drbd = Drbd(tmp_path / "proc")
        self.kernel = Kernel(
            cast(Any, self.drbd), self.real.loop, NodeName("n1"), self.run, "/x/handler",
            proc=tmp_path / "proc", etc=tmp_path / "etc", adm=self.adm,
        )  # fmt: skip
        self.driver = ReplicaDriver(self.kernel, settle, busy)
        self.beneath = Beneath()
        self.replicas = Replicas(self.kernel, self.driver, self.beneath)
        self.kernel.write(LAYOUT, {0: "/dev/vg/data", 1: "/dev/disk/by-id/x"}, (8, 4, 11))

    def up(self, generation: int, alone: bool = False) -> None:
        self.real.do(self.driver.up(SPEC, Instance(APP, Generation(generation), alone)))

    def down(self, generation: int, force: bool = False) -> None:
        self.real.do(self.driver.down(SPEC, Instance(APP, Generation(generation)), force))

    def probe(self) -> Probe:
        return self.real.do(self.driver.probe(SPEC, Instance(APP, Generation(1))))

    @property
    def token(self) -> Token | None:
        return token.read(self.run, APP)

    def work(self, words: str) -> None:
        """A process of a tool."""
        process = self.path / "proc" / "77"
        process.mkdir(exist_ok=True)
        (process / "comm").write_text("drbdsetup-84\n")
        (process / "cmdline").write_text("\0".join(words.split()) + "\0")


SPEC = Step("replica db", StepKind.STORAGE, ReplicaSpec(APP, ("data", "log")))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_promotion_names_its_generation_before_and_its_end_while_it_lasts(bench: Bench) -> None:
    tokens = []
    bench.drbd.before = lambda order: tokens.append(bench.token) if "primary" in order else None
    bench.up(7)
    assert [each and (each.generation, each.until is not None, each.over) for each in tokens] == [(7, True, False)] * 2
    assert bench.token == Token(7) and bench.probe() is Probe.ACTIVE
    assert bench.drbd.orders == ["drbdsetup primary 0", "drbdsetup primary 1"]
    bench.up(7)
    assert len(bench.drbd.orders) == 2
    with pytest.raises(StepFailed, match="primary for generation 7"):
        bench.up(8)


def test_one_that_goes_on_alone_stands_alone_first(bench: Bench) -> None:
    bench.drbd.set(state="Connected")
    bench.up(7, alone=True)
    assert bench.drbd.orders[0] == "drbdadm disconnect --force db"
    bench.down(7)
    bench.drbd.orders.clear()
    bench.up(8, alone=True)  # nobody to let go of
    assert bench.drbd.orders == ["drbdsetup primary 0", "drbdsetup primary 1"]


def test_one_that_does_not_get_to_stand_alone_is_not_promoted(bench: Bench) -> None:
    bench.drbd.set(state="Connected")
    bench.drbd.refuse["disconnect"] = "no"
    with pytest.raises(StepFailed, match="no"):
        bench.up(7, alone=True)
    assert not any("primary" in order for order in bench.drbd.orders)


def test_a_disconnect_that_returns_0_proves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settle=0.1)
    bench.drbd.set(state="Connected")
    carry_out = bench.drbd.carry_out
    bench.drbd.carry_out = lambda argv: "" if "disconnect" in argv else carry_out(argv)
    with pytest.raises(StepFailed, match="does not let go of its peer"):
        bench.up(7, alone=True)
    assert not any("primary" in order for order in bench.drbd.orders)


def test_a_promotion_that_fails_takes_its_token_away(bench: Bench) -> None:
    bench.drbd.refuse["primary 1"] = "1: State change failed: (-7) Refusing to be Primary while peer is not outdated"
    with pytest.raises(StepFailed, match="does not call the other copy outdated"):
        bench.up(7)
    assert bench.token is not None and bench.token.over
    assert bench.probe() is Probe.FAILED  # one volume is primary: there is something to stop
    bench.down(7)
    assert bench.probe() is Probe.INACTIVE


@pytest.mark.parametrize("disk", ["Inconsistent", "Outdated", "Diskless", "Failed", "DUnknown", "Negotiating"])
def test_a_copy_that_is_not_whole_is_not_promoted(bench: Bench, disk: str) -> None:
    bench.drbd.set(disk=disk)
    with pytest.raises(StepFailed, match="this node's copy is"):
        bench.up(7, alone=True)
    assert bench.drbd.orders == [] and bench.token is None


@pytest.mark.parametrize("policy", ["resource-only", "dont-care"])
def test_what_does_not_freeze_is_not_promoted(bench: Bench, policy: str) -> None:
    bench.drbd.policy = policy
    with pytest.raises(StepFailed, match=policy):
        bench.up(7)
    assert bench.drbd.orders == []


def test_a_volume_of_which_no_policy_is_shown_does_not_freeze(bench: Bench) -> None:
    """The default is not shown."""
    bench.drbd.shown = 1
    with pytest.raises(StepFailed, match="dont-care"):
        bench.up(7)


def test_an_end_does_not_wait_for_a_promotion_but_ends_it(bench: Bench) -> None:
    """Its handler looks at the token, and lets go."""
    seen: list[bool] = []

    async def until_given_up(argv: tuple[str, ...], *, timeout: float, **_: Any) -> Result:
        while (noted := bench.token) is None or not noted.over:
            await bench.real.loop.sleep(0.001)
        seen.append(True)
        return Result(argv, 11, None, b"", b"Refusing to be Primary while peer is not outdated", 0.1)

    run = bench.drbd.run
    bench.drbd.run = lambda argv, **more: (until_given_up if "primary" in argv else run)(argv, **more)  # type: ignore[method-assign,assignment]
    bench.real.loop.launch("up", bench.driver.up(SPEC, Instance(APP, Generation(7))))
    bench.real.until(lambda: bench.token is not None)
    bench.down(7, force=True)
    assert seen and bench.probe() is Probe.INACTIVE


def test_nothing_is_concluded_while_a_tool_that_was_given_up_is_at_work(bench: Bench) -> None:
    bench.work("drbdsetup primary 1")
    assert bench.probe() is Probe.UNKNOWN
    with pytest.raises(StepFailed, match=r"drbdsetup primary 1 \(77\) is still at work"):
        bench.up(7)
    with pytest.raises(StepFailed, match="still at work"):
        bench.down(7)
    for words in ("drbdsetup primary 5", "drbdsetup events2 --now db", "drbdsetup show db"):
        bench.work(words)
        assert bench.probe() is Probe.INACTIVE, words


def test_an_end_ends_the_handlers_answers_first(bench: Bench) -> None:
    bench.up(7)
    tokens: list[Token | None] = []
    bench.drbd.before = lambda _: tokens.append(bench.token)
    bench.down(7)
    assert tokens[0] is not None and tokens[0].over
    bench.down(7)
    assert bench.probe() is Probe.INACTIVE


def test_an_older_end_does_not_end_a_newer_instance(bench: Bench) -> None:
    bench.up(7)
    with pytest.raises(StepFailed, match="which is a newer one"):
        bench.down(6, force=True)
    with pytest.raises(StepFailed, match="which is a newer one"):
        bench.real.do(bench.driver.sever(Instance(APP, Generation(6))))
    assert bench.probe() is Probe.ACTIVE and bench.token == Token(7)


def test_what_is_frozen_is_severed_in_this_order(bench: Bench) -> None:
    bench.up(7)
    bench.drbd.set(state="WFConnection", flag="s")
    bench.drbd.orders.clear()
    bench.real.do(bench.driver.sever(Instance(APP, Generation(7))))
    severed = [
        "drbdadm disconnect --force db",
        "drbdadm detach --force db",
        "drbdsetup resume-io 0",
        "drbdsetup resume-io 1",
    ]
    assert bench.drbd.orders == severed
    bench.real.do(bench.driver.sever(Instance(APP, Generation(7))))
    assert bench.drbd.orders == severed  # nothing waits there any more
    bench.down(7, force=True)
    assert bench.probe() is Probe.INACTIVE


def test_io_is_not_resumed_before_every_disk_is_gone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settle=0.05)
    bench.up(7)
    bench.drbd.set(state="WFConnection", flag="s")
    bench.drbd.refuse["detach"] = "device hangs"
    with pytest.raises(StepFailed, match="its disk does not let go"):
        bench.down(7, force=True)
    assert not any("resume" in order for order in bench.drbd.orders)


def test_what_is_not_frozen_is_not_severed(bench: Bench) -> None:
    bench.up(7)
    bench.drbd.orders.clear()
    bench.real.do(bench.driver.sever(Instance(APP, Generation(7))))
    assert bench.drbd.orders == []


def test_what_is_open_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path, busy=0.05)
    bench.up(7)
    bench.drbd.refuse["secondary"] = "0: State change failed: (-12) Device is held open by someone"
    with pytest.raises(StepFailed, match="something has it open"):
        bench.down(7)
    assert bench.probe() is Probe.ACTIVE


def test_what_is_told_to_be_secondary_and_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, busy=0.05)
    bench.up(7)
    carried_out = bench.drbd.carry_out
    monkeypatch.setattr(bench.drbd, "carry_out", lambda argv: "" if argv[1] == "secondary" else carried_out(argv))
    with pytest.raises(StepFailed, match="it stays what it is"):
        bench.down(7)


def test_without_a_file_only_what_is_not_there_counts_as_gone(bench: Bench) -> None:
    bench.kernel.remove(APP)
    assert bench.probe() is Probe.UNKNOWN  # a resource of its name by another hand
    with pytest.raises(StepFailed, match="by another hand"):
        bench.down(7)
    with pytest.raises(StepFailed, match="is not there"):
        bench.up(7)
    bench.drbd.states.clear()
    assert bench.probe() is Probe.INACTIVE
    bench.down(7)


def test_a_kernel_without_drbd(bench: Bench) -> None:
    (bench.path / "proc/drbd").unlink()
    assert bench.probe() is Probe.INACTIVE
    bench.drbd.refuse["modprobe"] = "modprobe: FATAL: Module drbd not found in directory /lib/modules/6.1"
    assert "has no DRBD: modprobe: FATAL" in bench.real.do(bench.replicas.up(LAYOUT, True)).reason
    bench.adm.unlink()
    assert "install drbd-utils" in bench.real.do(bench.replicas.up(LAYOUT, True)).reason


def test_proc_drbd_that_says_something_else_is_no_word_at_all(bench: Bench) -> None:
    (bench.path / "proc/drbd").write_text("?")
    assert bench.probe() is Probe.UNKNOWN


def test_a_tool_that_hangs_is_named(bench: Bench) -> None:
    hangs = Result(("/sbin/drbdsetup", "secondary", "0"), None, None, b"", b"", 13.0, timed_out=True)
    assert parse.refusal(hangs) == "/sbin/drbdsetup does not end, not even killed, after 13.0 s (waits for a device?)"


def test_the_file_system_is_told_the_device(bench: Bench) -> None:
    assert bench.real.do(bench.driver.device(ReplicaVolume(APP, "log"))) == "drbd1"
    assert bench.real.do(bench.driver.device(ReplicaVolume(APP, "other"))) is None
    assert bench.real.do(bench.driver.device(ReplicaVolume(AppName("x"), "log"))) is None


def test_a_replica_is_made_from_nothing_and_unmade(bench: Bench) -> None:
    bench.drbd.states.clear()
    bench.drbd.show()
    bench.kernel.remove(APP)
    report = bench.real.do(bench.replicas.up(LAYOUT, True)).report
    assert (report.role, report.link, report.disk) == (Role.SECONDARY, Link.CONNECTING, UP)
    verbs = [order.split()[1] for order in bench.drbd.orders]
    assert verbs == ["new-resource", "new-minor", "attach", "connect"]
    assert len(bench.beneath.active) == 2 and "include" in (bench.path / "etc/truecl.res").read_text()
    bench.drbd.orders.clear()
    assert bench.real.do(bench.replicas.up(LAYOUT, True)).reason == "" and bench.drbd.orders == []
    assert bench.real.do(bench.replicas.down(LAYOUT)).report.role is Role.DOWN
    assert not bench.beneath.active and not (bench.run / "drbd/db.res").exists()


def test_a_replica_is_left_alone_beside_a_tool_that_was_given_up(bench: Bench) -> None:
    """A connection that came late would let a frozen primary go on."""
    bench.work("drbdsetup primary 1")
    for work in (bench.replicas.up(LAYOUT, True), bench.replicas.connect(LAYOUT), bench.replicas.down(LAYOUT)):
        assert "still at work" in bench.real.do(work).reason
    assert bench.drbd.orders == []


def test_a_changed_layout_is_taken_down_and_made_anew(bench: Bench) -> None:
    changed = Layout(APP, 7790, LAYOUT.hosts, LAYOUT.volumes)
    assert bench.real.do(bench.replicas.up(changed, False)).reason == ""
    assert [order.split()[1] for order in bench.drbd.orders] == ["down", "new-resource", "new-minor", "attach"]


def test_what_is_not_of_it_any_more_is_let_go_beneath(bench: Bench) -> None:
    """A volume that was taken out of the application, while it ran or after its stop."""
    fewer = Layout(APP, LAYOUT.port, LAYOUT.hosts, LAYOUT.volumes[:1])
    for leave in (bench.replicas.up(fewer, False), bench.replicas.down(fewer)):
        bench.kernel.write(LAYOUT, {0: "/dev/vg/data", 1: "/dev/disk/by-id/x"}, (8, 4, 11))
        bench.beneath.active = {volume.backing for volume in LAYOUT.volumes}
        assert bench.real.do(leave).reason == ""
        assert LAYOUT.volumes[1].backing not in bench.beneath.active


def test_a_disk_that_failed_is_not_taken_back_while_the_peer_is_there(bench: Bench) -> None:
    bench.drbd.set(state="Connected", disk="Diskless")
    assert "its disk failed" in bench.real.do(bench.replicas.up(LAYOUT, True)).reason
    bench.drbd.set(state="StandAlone")  # severed: the disk is well
    assert bench.real.do(bench.replicas.up(LAYOUT, True)).report.disk is UP


def compared(bench: Bench, ends: str, behind: int = 0, at_once: float = 2.0) -> dict[str, int] | None:
    """`ends`: the connection's state after the order."""

    def after(order: str) -> None:
        if order == "drbdadm verify db":
            bench.drbd.set(state=ends)
            text = (bench.path / "proc" / "drbd").read_text()
            (bench.path / "proc" / "drbd").write_text(text.replace(" r-----", f" r-----\n    oos:{behind}", 1))
            bench.drbd.show = lambda: None  # type: ignore[method-assign]

    bench.drbd.set(state="Connected")
    bench.drbd.before = after
    return bench.real.do(Metadata(cast(Any, bench.drbd), bench.replicas, at_once).verify(LAYOUT))


def test_what_a_short_comparison_found_is_its_answer(bench: Bench) -> None:
    assert compared(bench, "Connected", 8) == {"data": 8192}


def test_a_comparison_that_takes_longer_is_not_waited_for(bench: Bench) -> None:
    assert compared(bench, "VerifyS", at_once=0.05) is None


def test_a_comparison_whose_connection_was_lost_is_none(bench: Bench) -> None:
    with pytest.raises(StepFailed, match="connection was lost"):
        compared(bench, "WFConnection")


def test_only_a_connected_secondary_with_a_difference_leaves_to_be_mended(bench: Bench) -> None:
    tools = metadata(bench)
    for role, state, said in (
        ("Primary", "Connected", "only a secondary"),
        ("Secondary", "SyncTarget", "only a secondary"),
        ("Secondary", "Connected", "no comparison found a difference"),
    ):
        bench.drbd.set(state=state, role=role)
        with pytest.raises(StepFailed, match=said):
            bench.real.do(tools.resync(LAYOUT))
    assert bench.drbd.orders == []
    text = (bench.path / "proc" / "drbd").read_text()
    (bench.path / "proc" / "drbd").write_text(text.replace(" r-----", " r-----\n    oos:4", 1))
    assert bench.real.do(tools.resync(LAYOUT)) == "4096 bytes that differ will be copied from the owner"
    assert bench.drbd.orders == ["drbdadm disconnect db"], "without force: its own disk is outdated first"


def test_a_split_is_reported_while_it_stands_alone(bench: Bench) -> None:
    token.note_split(bench.run, APP)
    assert bench.real.do(bench.replicas.look(APP)).report.split
    bench.drbd.set(state="WFConnection")
    assert not bench.real.do(bench.replicas.look(APP)).report.split
    bench.drbd.set(state="Connected")
    bench.real.do(bench.replicas.look(APP))
    bench.drbd.set(state="StandAlone")
    assert not bench.real.do(bench.replicas.look(APP)).report.split, "it is over once they met"


# ---- metadata, for lha_buildapp -------------------------------------------------------------------------------------

OWN = {"metadata data": f"a copy of DRBD, generation {'A' * 16}"}


def metadata(bench: Bench) -> Metadata:
    return Metadata(cast(Any, bench.drbd), bench.replicas)


def one_failed(bench: Bench) -> None:
    bench.drbd.set(state="Connected")
    bench.drbd.states[0][2] = "Diskless"
    bench.drbd.show()


def test_a_disk_that_failed_is_missing_with_what_is_seen_of_it(bench: Bench) -> None:
    one_failed(bench)
    seen = bench.real.do(metadata(bench).look(LAYOUT))
    assert list(seen.missing) == ["metadata data"] and "it failed" in seen.missing["metadata data"]
    assert seen.data == OWN
    bench.drbd.refuse = {"get-gi": "Input/output error"}
    assert bench.real.do(metadata(bench).look(LAYOUT)).data == {}


def test_a_severed_copy_has_its_disks(bench: Bench) -> None:
    bench.drbd.set(disk="Diskless")
    assert bench.real.do(metadata(bench).look(LAYOUT)).missing == {}


def test_a_disk_that_was_mended_gets_new_metadata_once_the_resource_is_down(bench: Bench) -> None:
    one_failed(bench)
    assert bench.real.do(metadata(bench).initialise(Initialise(LAYOUT, ("data",), "", OWN)))
    down, *others = bench.drbd.orders
    assert down == "drbdadm down db" and "create-md" in others[-1]
    bench.drbd.states[0] = ["Connected", "Primary", "Diskless", "r"]
    bench.drbd.show()
    with pytest.raises(StepFailed, match="is primary on this node"):
        bench.real.do(metadata(bench).initialise(Initialise(LAYOUT, ("data",), "", OWN)))


def test_a_look_takes_down_what_was_made_for_other_volumes(bench: Bench) -> None:
    """Attached, it would say nothing of a new volume's metadata."""
    fewer = Layout(APP, LAYOUT.port, LAYOUT.hosts, LAYOUT.volumes[:1])
    bench.kernel.write(fewer, {0: "/dev/vg/data"}, (8, 4, 11))
    assert set(bench.real.do(metadata(bench).look(LAYOUT)).identifiers) == {"data", "log"}
    assert bench.drbd.orders[0] == "drbdadm down db"
    bench.drbd.states[0] = ["Connected", "Primary", "UpToDate", "r"]
    bench.drbd.show()
    bench.kernel.write(fewer, {0: "/dev/vg/data"}, (8, 4, 11))
    bench.drbd.orders.clear()
    bench.real.do(metadata(bench).look(LAYOUT))
    assert bench.drbd.orders == [], "what runs is left as it is"
