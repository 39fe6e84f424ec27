"""Drawn configurations written and read back, and drawn nonsense that must only ever be refused."""

import ipaddress
import json
from typing import Any

import msgspec
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from truecl.config.law import shown
from truecl.config.reader import read
from truecl.model.config import (
    COPIES,
    Address,
    AppConfig,
    ClusterConfig,
    Configuration,
    DiskStorage,
    DrbdStorage,
    FenceConfig,
    FenceLevel,
    FileStorage,
    FileSystem,
    LinkConfig,
    LvmStorage,
    Monitor,
    NodeConfig,
    NoStorage,
    Ports,
    Program,
    Replication,
    Storage,
    Timing,
    Volume,
)
from truecl.model.ids import AppName, LinkName, NodeName

STORAGE = (FileStorage, DiskStorage, LvmStorage, DrbdStorage, NoStorage)

# ---- writing: the inverse of the reader, plainly ---------------------------------------------------------------------


def written(value: Any) -> Any:
    """A struct, or what is in it, as the operator would write it; `name` is written by whoever holds the struct."""
    if isinstance(value, msgspec.Struct):
        fields = {
            field.name: getattr(value, field.name) for field in msgspec.structs.fields(value) if field.name != "name"
        }
        tag = {"type": value.__struct_config__.tag} if isinstance(value, STORAGE) else {}
        if isinstance(value, LvmStorage | Replication):
            fields |= {name: in_kilobytes(fields[name]) for name in ("size", "rate") if name in fields}
            fields = {name: each for name, each in fields.items() if each != 0.0}
        if isinstance(value, Replication) and value.verify_between is not None:
            fields["verify_between"] = "-".join(f"{each // 60:02d}:{each % 60:02d}" for each in value.verify_between)
        return tag | {name: written(each) for name, each in fields.items() if each not in (None, (), {}, "")}
    if isinstance(value, float):
        return shown(value)
    if isinstance(value, tuple):
        return [written(each) for each in value]
    return value


def in_kilobytes(size: int) -> str:
    return f"{size // 1024}K" if size else ""


def files_of(cluster: ClusterConfig, apps: tuple[AppConfig, ...]) -> dict[str, str | bytes]:
    nodes = {}
    for node in cluster.nodes:
        fields = written(node)
        nodes[node.name] = fields.pop("addresses") | fields
    document = written(cluster) | {
        "cluster": cluster.name,
        "links": [link.name for link in cluster.links],
        "nodes": nodes,
    }
    files: dict[str, str | bytes] = {"cluster.yaml": yaml.safe_dump(document, sort_keys=False)}
    for app in apps:
        fields = written(app)
        if app.replication == Replication():
            del fields["replication"]
        if app.volumes:
            fields["volumes"] = {volume.name: written(volume.storage) for volume in app.volumes}
        if app.programs:
            fields["programs"] = {program.name: written(program) for program in app.programs}
        files[f"apps/{app.name}.yaml"] = yaml.safe_dump(fields, sort_keys=False)
    return files


# ---- drawing --------------------------------------------------------------------------------------------------------

WORDS = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
TEXTS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc", "Zs", "Cf"]), max_size=12
)
SECONDS = st.integers(1, 50_000).map(lambda milliseconds: milliseconds / 1000)
TAKEN = ("auto", "bind", "move", "loop")
"""Words that are no mount options here."""
PATHS = st.lists(WORDS, min_size=1, max_size=3).map(lambda parts: "/opt/" + "/".join(parts))
COMMANDS = st.tuples(PATHS, st.lists(TEXTS.filter(bool), max_size=3)).map(lambda pair: (pair[0], *pair[1]))


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    """Some that obey the law, built from the smallest up."""
    heartbeat = draw(st.integers(10, 500)) / 1000
    detection = round(3 * heartbeat + draw(st.integers(0, 500)) / 1000, 3)
    renewal = draw(st.integers(10, 500)) / 1000
    lease = round(max(3 * renewal, detection + renewal) + draw(st.integers(0, 2000)) / 1000, 3)
    return Timing(
        heartbeat=heartbeat,
        detection=detection,
        renewal=renewal,
        lease=lease,
        election=round(2 * detection + draw(st.integers(0, 900)) / 1000, 3),
        drift=round(min(lease, 0.001 * lease + draw(st.integers(1, 90)) / 1000), 3),
        stop_allowance=draw(st.integers(2, 9)) / 2,
        address_allowance=draw(st.integers(0, 9)) / 10,
    )


def fences() -> st.SearchStrategy[tuple[FenceLevel, ...]]:
    device = st.builds(
        FenceConfig,
        agent=WORDS | PATHS,
        parameters=st.dictionaries(WORDS.map("a_{}".format), TEXTS.filter(bool), max_size=3),
        secrets=st.dictionaries(WORDS.map("s_{}".format), PATHS, max_size=2),
        timeout=SECONDS,
        verify=st.booleans(),
        retries=st.integers(0, 2),
        delay=SECONDS,
    )
    level = st.lists(device, min_size=1, max_size=2).map(tuple)
    return st.lists(level, max_size=2).map(tuple)


@st.composite
def clusters(draw: st.DrawFn) -> ClusterConfig:
    links = [LinkName(f"{each}{n}") for n, each in enumerate(draw(st.lists(WORDS, min_size=1, max_size=3)))]
    count = draw(st.just(2) | st.integers(1, 8))
    six = [draw(st.booleans()) for _ in links]
    nodes = []
    for n in range(count):
        addresses = {
            link: str(ipaddress.ip_address(f"fd00:{k}::{n + 1}" if six[k] else f"10.{k}.0.{n + 1}"))
            for k, link in enumerate(links)
        }
        name = NodeName(f"n{n}")
        nodes.append(
            NodeConfig(name=name, addresses=addresses, fence=draw(fences()), witness=n > 0 and draw(st.booleans()))
        )
    count_of_ports = len(Ports.__struct_fields__)
    ports = draw(st.lists(st.integers(1, 65535), min_size=count_of_ports, max_size=count_of_ports, unique=True))
    return ClusterConfig(
        name=draw(WORDS),
        links=tuple(LinkConfig(name=link) for link in links),
        nodes=tuple(nodes),
        profile=draw(st.sampled_from(["normal", "fast"])),
        timing=draw(timings()),
        ports=Ports(**dict(zip(Ports.__struct_fields__, ports, strict=True))),
        on_quorum_loss="stop",
    )


def programs(name: str) -> st.SearchStrategy[Program]:
    monitors = st.none() | st.builds(
        Monitor, command=COMMANDS, interval=SECONDS, timeout=SECONDS, failures=st.integers(1, 9)
    )
    common: dict[str, st.SearchStrategy[Any]] = {
        "name": st.just(name),
        "monitor": monitors,
        "user": WORDS,
        "directory": PATHS,
        "environment": st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), TEXTS, max_size=2),
        "settle": st.integers(0, 99).map(lambda number: number / 100),
        "stop_timeout": SECONDS,
        "restarts": st.integers(0, 9),
    }
    run = st.builds(Program, run=COMMANDS, stop=st.just(()) | COMMANDS, **common)
    return run | st.builds(Program, start=COMMANDS, stop=COMMANDS, **common)


SIZES = st.just(0) | st.integers(1, 1 << 30).map(lambda kilobytes: kilobytes * 1024)


def storages(name: str, drbd: bool) -> st.SearchStrategy[Storage]:
    lvm = st.builds(
        LvmStorage,
        group=st.just("vg"),
        volume=st.just(f"lv.{name}"),
        size=SIZES,
        physical=st.just(()) | st.just((f"/dev/disk/by-id/ata-{name}",)),
    )
    images = st.just(FileStorage(image=f"/srv/{name}.img"))
    backing = images | st.just(DiskStorage(device=f"/dev/disk/by-id/wwn-{name}")) | lvm
    return backing | backing.map(lambda on: DrbdStorage(on=on)) if drbd else backing


@st.composite
def apps(draw: st.DrawFn, cluster: ClusterConfig, number: int) -> AppConfig:
    workers = [node.name for node in cluster.nodes if not node.witness]
    name = f"{draw(WORDS)}{number}"
    volumes, filesystems = [], []
    for n in range(draw(st.integers(0, 2))):
        volumes.append(Volume(name=f"v{n}", storage=draw(storages(f"{name}-{n}", drbd=len(workers) == COPIES))))
        filesystems.append(
            FileSystem(
                type=draw(st.sampled_from(("ext3", "ext4", "xfs"))),
                mount=f"/srv/{name}/m{n}",
                volume=f"v{n}",
                options=tuple(draw(st.lists(WORDS.filter(lambda each: each not in TAKEN), max_size=2))),
                fsck=draw(st.sampled_from(("never", "preen", "always"))),
            )
        )
    copied = any(isinstance(volume.storage, DrbdStorage) for volume in volumes)
    replication = st.builds(
        Replication,
        link=st.sampled_from([link.name for link in cluster.links]),
        rate=SIZES,
        disk_failure=st.sampled_from(("stay", "move")),
        verify=st.integers(10, 999_999).map(float),
        verify_between=st.none() | st.tuples(st.integers(0, 719), st.integers(720, 1439)),
    )
    bare = [Volume(name="nothing", storage=NoStorage())] if draw(st.booleans()) else []
    address = Address(
        address=f"10.99.0.{number + 1}",
        prefix=draw(st.none() | st.integers(1, 32)),
        interface=draw(st.just("") | WORDS),
        conflict=draw(st.sampled_from(("refuse", "warn"))),
    )
    return AppConfig(
        name=AppName(name),
        nodes=tuple(draw(st.permutations(workers))),
        volumes=tuple(volumes + (bare if volumes else [])),
        filesystems=tuple(filesystems),
        addresses=(address,),
        programs=tuple(draw(programs(f"p{n}")) for n in range(draw(st.integers(0, 2)))),
        replication=draw(replication) if copied else Replication(),
        autostart=draw(st.booleans()),
        start_timeout=draw(SECONDS),
        stop_timeout=draw(SECONDS),
    )


@st.composite
def configurations(draw: st.DrawFn) -> tuple[ClusterConfig, tuple[AppConfig, ...]]:
    cluster = draw(clusters())
    drawn = [draw(apps(cluster, number)) for number in range(draw(st.integers(0, 2)))]
    return cluster, tuple(sorted(drawn, key=lambda app: f"apps/{app.name}.yaml"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(configurations())
def test_what_is_written_is_read_back(drawn: tuple[ClusterConfig, tuple[AppConfig, ...]]) -> None:
    cluster, found = drawn
    configuration, problems = read(files_of(cluster, found))
    assert [str(each) for each in problems] == []
    assert configuration is not None
    assert configuration == Configuration(cluster=cluster, apps=found, digest=configuration.digest)


# ---- nonsense -------------------------------------------------------------------------------------------------------

STRUCTS = (ClusterConfig, NodeConfig, FenceConfig, Timing, AppConfig, FileSystem, Address, Program, Monitor)
NAMES = sorted({name for made in STRUCTS for name in made.__struct_fields__})
KEYS = st.sampled_from([*NAMES, "cluster", "lan", "type", "image", "n1", ""])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | KEYS | st.just("5s")
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


def assert_only_refused(files: dict[str, str | bytes]) -> None:
    configuration, problems = read(files)
    assert (configuration is None) == bool(problems)
    for problem in problems:
        assert problem.what
        assert str(problem).isprintable()
        assert 0 <= problem.line <= max(str(text).count("\n") + len(text) + 1 for text in files.values())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, TREES, max_size=8), st.dictionaries(KEYS, TREES, max_size=8))
def test_any_tree_is_only_ever_refused(cluster: dict[str, Any], app: dict[str, Any]) -> None:
    assert_only_refused({"cluster.yaml": json.dumps(cluster), "apps/web.yaml": json.dumps(app)})


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.sampled_from("ab: -[]{}\n\t'\"#&*!|>?,%@`\x00\ufeff\u2028é")),
    st.text(max_size=50),
    st.binary(max_size=80),
)
def test_any_text_is_only_ever_refused(syntax: str, name: str, binary: bytes) -> None:
    assert_only_refused({"cluster.yaml": syntax, f"apps/{name}.yaml": binary, name: syntax})


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_configuration_is_only_ever_refused(data: st.DataObject) -> None:
    good = "cluster: demo\nlinks: [lan]\nnodes:\n  n1: {lan: 10.0.0.1}\n  n2: {lan: 10.0.0.2}\ntiming: {lease: 2s}\n"
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 8)))
    assert_only_refused({"cluster.yaml": good[:start] + data.draw(st.text(max_size=4)) + good[end:]})
