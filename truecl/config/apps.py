"""apps/NAME.yaml: how an application is written, and what must agree within it."""

import ipaddress
from typing import Any, get_args

from truecl.config import scalars
from truecl.config.tree import Mapping, Scalar, Tree, shown
from truecl.config.typed import (
    Path,
    Read,
    Shape,
    Source,
    arguments,
    choice,
    distinct,
    entries,
    items,
    key_of,
    label,
    named,
    suggestion,
    tagged,
    text,
    texts,
)
from truecl.model.config import (
    COPIES,
    Address,
    AppConfig,
    Backing,
    DiskStorage,
    DrbdStorage,
    FileStorage,
    FileSystem,
    LvmStorage,
    Monitor,
    NoStorage,
    Program,
    Replication,
    Storage,
    Volume,
)
from truecl.model.ids import AppName

_MAX_PREFIX = {4: 32, 6: 128}

# What the types of a storage's fields leave open. A new member of the union `Storage` is readable without an entry.
_STORAGE_READERS: dict[Any, dict[str, Read]] = {
    FileStorage: {"image": text(scalars.file_path)},
    DiskStorage: {"device": text(scalars.block_device)},
    LvmStorage: {
        "group": text(scalars.volume_group),
        "volume": text(scalars.logical_volume),
        "size": text(scalars.size),
        "physical": distinct(items(text(scalars.block_device), "devices of the volume group")),
    },
}


def _one_of(union: Any) -> Read:
    members = get_args(union)
    return tagged({str(each.__struct_config__.tag): Shape(each, _STORAGE_READERS.get(each)) for each in members})


_STORAGE_READERS[DrbdStorage] = {"on": _one_of(Backing)}
_read_storage = _one_of(Storage)


def _volumes(source: Source, tree: Tree, path: Path) -> Any:
    found = entries(tree, source, path, "volume names to their storage")
    if found is None:
        return None
    volumes = []
    for key, inner in found:
        name = key_of(source, key, scalars.name, path)
        storage = _read_storage(source, inner, (*path, key.text))
        if storage is not None and name is not None:
            volumes.append(Volume(name=name, storage=storage))
    return tuple(volumes)


def _mount_options(source: Source, tree: Tree, path: Path) -> Any:
    """A list, or one text with commas as in fstab."""
    if isinstance(tree, Scalar) and not tree.empty:
        try:
            return tuple(scalars.mount_option(each.strip()) for each in tree.text.split(","))
        except scalars.Unfit as unfit:
            source.note(tree.line, unfit.what or f"{label(path)} is {shown(tree.text)}", unfit.expected)
            return None
    return items(text(scalars.mount_option), "mount options")(source, tree, path)


_FILESYSTEM = Shape(
    FileSystem,
    {"mount": text(scalars.mount_point), "volume": text(scalars.name), "options": _mount_options},
)

_ADDRESS = Shape(
    Address,
    {"address": text(scalars.floating_address), "interface": text(scalars.interface)},
)


def _address(source: Source, tree: Tree, path: Path) -> Address | None:
    """The address alone, or a mapping with its details."""
    if isinstance(tree, Scalar):
        plain = text(scalars.floating_address)(source, tree, path)
        if plain is None:
            return None
        source.values[path] = Address(address=plain)
        return Address(address=plain)
    value = _ADDRESS(source, tree, path)
    if value is not None and value.prefix is not None:
        version = ipaddress.ip_address(value.address).version
        if not 1 <= value.prefix <= _MAX_PREFIX[version]:
            what = f"prefix {value.prefix} of {value.address}"
            source.note(source.line(*path, "prefix"), what, f"expected 1 to {_MAX_PREFIX[version]} for IPv{version}")
    return value


_COUNT = text(lambda value: scalars.integer(value, 1, 1000))

_MONITOR = Shape(Monitor, {"command": arguments, "failures": _COUNT})

_PROGRAM = Shape(
    Program,
    {
        "run": arguments,
        "start": arguments,
        "stop": arguments,
        "monitor": _MONITOR,
        "user": text(scalars.user),
        "directory": text(scalars.path),
        "environment": texts(scalars.variable, "variables to their values"),
        "settle": text(scalars.duration_or_zero),
        "restarts": text(lambda value: scalars.integer(value, 0, 1000)),
    },
)

_REPLICATION = Shape(
    Replication,
    {
        "link": text(scalars.name),
        "rate": text(scalars.size),
        "disk_failure": choice(("stay", "move")),
        "verify": text(scalars.period),
        "verify_between": text(scalars.hours),
    },
)

_APP = Shape(
    AppConfig,
    {
        "nodes": distinct(items(text(scalars.node_name), "node names")),
        "volumes": _volumes,
        "filesystems": items(_FILESYSTEM, "file systems"),
        "addresses": items(_address, "addresses"),
        "programs": named(_PROGRAM, scalars.name, "program names to their commands"),
        "replication": _REPLICATION,
    },
)


def app_name(file: str) -> str:
    """'apps/web.yaml' -> 'web'. Raises Unfit for a file that is no application's."""
    stem = file.removeprefix("apps/").removesuffix(".yaml")
    if file != f"apps/{stem}.yaml":
        raise scalars.Unfit("expected cluster.yaml or apps/NAME.yaml", f"{file!r} is no file of a configuration")
    return scalars.name(stem)


def read_app(source: Source, tree: Mapping, name: str) -> AppConfig | None:
    """None: something required is missing, and noted. Fields that failed have their defaults, and are noted."""
    app = _APP.read(source, tree, (), {"name": AppName(name)})
    _check_filesystems(source)
    _check_programs(source)
    _check_replication(source, app)
    if app is not None and not source.problems and not (app.volumes or app.addresses or app.programs):
        source.note(0, f"application {name!r} has nothing to run", "expected volumes, addresses or programs")
    return app


def _check_filesystems(source: Source) -> None:
    written = source.keys("volumes")
    users: dict[str, str] = {}
    for place, filesystem in source.found(FileSystem):
        line = source.line(*place)
        if filesystem.volume and filesystem.volume not in written:
            line = source.line(*place, "volume")
            source.note(line, f"unknown volume {filesystem.volume!r}", suggestion(filesystem.volume, written))
            continue
        if not filesystem.volume and len(written) != 1:
            what = f"the file system on {filesystem.mount} does not say its volume"
            choices = f"expected volume: {' or '.join(written)}" if written else "expected one in volumes:"
            source.note(line, what, choices)
            continue
        volume = filesystem.volume or written[0]
        if isinstance(source.values.get(("volumes", volume)), NoStorage):
            source.note(line, f"volume {volume!r} has type none", "expected storage under a file system")
        if volume in users:
            source.note(
                line, f"volume {volume!r} already holds {users[volume]}", "expected one file system on a volume"
            )
        users.setdefault(volume, filesystem.mount)


def _check_replication(source: Source, app: AppConfig | None) -> None:
    copied = source.found(DrbdStorage)
    if copied and app is not None and len(app.nodes) != COPIES:
        what = f"volumes of type drbd have {COPIES} copies, but the application has {len(app.nodes)} node(s)"
        source.note(source.line("nodes"), what, f"expected {COPIES} nodes")
    if source.found(Replication) and not copied and not source.problems:
        source.note(source.line("replication"), "no volume is replicated", "expected one of type drbd, or no such key")
    keys = source.keys("replication")
    if "verify_between" in keys and "verify" not in keys:
        line = source.line("replication", "verify_between")
        source.note(line, "verify_between stands without verify", "expected verify beside it, like verify: 7d")


def _check_programs(source: Source) -> None:
    for place, program in source.found(Program):
        keys = source.keys(*place)
        line = source.line(*place)
        if "run" in keys and "start" in keys:
            source.note(line, f"program {program.name!r} has both run and start", "expected one of them")
        elif "run" not in keys and "start" not in keys:
            source.note(line, f"program {program.name!r} has no command", "expected run, or start and stop")
        elif "start" in keys and "stop" not in keys:
            source.note(line, f"program {program.name!r} has start but no stop", "expected stop beside start")
