"""cluster.yaml: how it is written, and what must agree within it."""

import ipaddress
from typing import Any

import msgspec

from truecl.config import law, scalars
from truecl.config.tree import Mapping, Scalar, Sequence, Tree
from truecl.config.typed import (
    Path,
    Read,
    Shape,
    Source,
    choice,
    distinct,
    entries,
    items,
    key_of,
    suggestion,
    text,
    texts,
)
from truecl.model.config import (
    MAX_FENCING,
    PROFILES,
    ClusterConfig,
    FenceConfig,
    FenceLevel,
    LinkConfig,
    NodeConfig,
    Ports,
    Timing,
    WatchdogConfig,
    worst_time,
)
from truecl.model.ids import LinkName, NodeName

FILE = "cluster.yaml"

_RESERVED = ("fence", "witness", "observer", "watchdog", "fence_delay")
"""Keys of a node beside its links."""


MAX_LEVELS = 9
MAX_DEVICES = 8
"""Of one level."""


def _parameter(value: str) -> str:
    if not value or len(value) > 64 or not value.isprintable() or any(each in value for each in "=\n "):
        raise scalars.Unfit("expected the name of a parameter of the fence agent, as ip")
    if value in ("action", "option"):
        raise scalars.Unfit("expected other parameters", f"{value!r} is truecl's own matter: it says off, on or status")
    return value


def _secrets(source: Source, tree: Tree, path: Path) -> Any:
    """A mapping of parameters to the files that hold their values."""
    found = entries(tree, source, path, "the agent's parameters to files that hold their values")
    if found is None:
        return None
    files = {}
    for key, inner in found:
        name = key_of(source, key, _parameter, path)
        file = text(scalars.file_path)(source, inner, (*path, key.text))
        if name is not None and file is not None:
            files[name] = file
    return files


_DEVICE = Shape(
    FenceConfig,
    {
        "agent": text(scalars.agent),
        "parameters": texts(_parameter, "the agent's parameters"),
        "secrets": _secrets,
        "retries": text(lambda value: scalars.integer(value, 0, 10)),
        "delay": text(scalars.duration_or_zero),
    },
)


def _device(source: Source, tree: Tree, path: Path) -> FenceConfig | None:
    device = _DEVICE(source, tree, path)
    for name in device.secrets if device is not None else ():
        if device is not None and name in device.parameters:
            what = f"{name!r} stands in parameters and in secrets"
            source.note(source.line(*path, "secrets", name), what, "expected one of them")
    return device


def _level(source: Source, tree: Tree, path: Path) -> FenceLevel | None:
    """A device, or a list of devices that must all confirm."""
    if not isinstance(tree, Sequence):
        device = _device(source, tree, path)
        return (device,) if device is not None else None
    if len(tree.items) > MAX_DEVICES:
        source.note(tree.line, f"a level of 'fence' has {len(tree.items)} devices", f"expected at most {MAX_DEVICES}")
        return None
    level: FenceLevel | None = items(_device, "fence devices that must all confirm")(source, tree, path)
    return level


def _fence(source: Source, tree: Tree, path: Path) -> tuple[FenceLevel, ...] | None:
    """One device, or a list of levels."""
    levels: tuple[FenceLevel, ...] | None
    if isinstance(tree, Sequence):
        levels = items(_level, "fence devices or levels of them")(source, tree, path)
    else:
        level = _level(source, tree, path)
        levels = (level,) if level is not None else None
    if levels is None:
        return None
    if len(levels) > MAX_LEVELS:
        source.note(tree.line, f"'fence' has {len(levels)} levels", f"expected at most {MAX_LEVELS}")
    elif (worst := worst_time(levels)) > MAX_FENCING:
        what = f"'fence' may take {law.shown(worst)} until every level failed"
        source.note(tree.line, what, f"expected at most {law.shown(MAX_FENCING)}; see docs/fencing.md")
    return levels


_WATCHDOG = Shape(WatchdogConfig, {"device": text(scalars.device), "timeout": text(scalars.whole_seconds)})
_USES = choice(("off", "automatic", "required"))


def _watchdog(source: Source, tree: Tree, path: Path) -> WatchdogConfig | None:
    """`watchdog: required`, or a mapping with `use: required`."""
    if isinstance(tree, Mapping):
        return _WATCHDOG(source, tree, path)
    use = _USES(source, tree, path)
    return WatchdogConfig(use=use) if use is not None else None


_TIMING = Shape(
    Timing,
    {
        "drift": text(scalars.duration_or_zero),
        "stop_allowance": text(scalars.duration_or_zero),
        "address_allowance": text(scalars.duration_or_zero),
    },
)
_PROFILE = choice(tuple(PROFILES))
_PORTS = Shape(Ports, {field.name: text(scalars.port) for field in msgspec.structs.fields(Ports)})


def _timing(profile: Timing) -> Read:
    """The law is asked only of durations that could all be read."""

    def read(source: Source, tree: Tree, path: Path) -> Timing | None:
        before = len(source.problems)
        timing = _TIMING.read(source, tree, path, {}, defaults=msgspec.structs.asdict(profile))
        if timing is not None and len(source.problems) == before:
            law.check(source, timing)
        return timing

    return read


def _link_name(value: str) -> LinkName:
    if value in _RESERVED:
        raise scalars.Unfit("expected another name", f"a link cannot be called {value!r}, a key of nodes")
    return LinkName(scalars.name(value))


def _link(source: Source, tree: Tree, path: Path) -> LinkConfig | None:
    name = text(_link_name)(source, tree, path)
    return LinkConfig(name=name) if name is not None else None


def read_cluster(source: Source, tree: Mapping) -> ClusterConfig | None:
    """None: something required is missing, and noted. Fields that failed have their defaults, and are noted."""
    profile = _written_profile(tree)
    shape = Shape(
        ClusterConfig,
        {
            "name": text(scalars.name),
            "links": distinct(items(_link, "link names")),
            "nodes": _nodes(_written_links(tree)),
            "profile": _PROFILE,
            "timing": _timing(profile),
            "ports": _PORTS,
        },
        keys={"name": "cluster"},
    )
    cluster = shape.read(source, tree, (), {}, defaults={"timing": profile})
    if cluster is not None:
        _check_addresses(source, cluster)
        _check_ports(source, cluster.ports)
        if cluster.nodes and not cluster.voters:
            source.note(source.line("nodes"), "every node is an observer", "expected one at least that votes")
        law.check_watchdogs(source, cluster)
        law.check_duel(source, cluster)
    return cluster


def _written_profile(tree: Mapping) -> Timing:
    """The durations that stand where `timing:` says nothing, wherever in the file `profile:` is."""
    for key, inner in tree.entries:
        if key.text == "profile" and isinstance(inner, Scalar):
            for name, timing in PROFILES.items():
                if inner.text == name:
                    return timing
    return Timing()


def _written_links(tree: Mapping) -> tuple[str, ...]:
    """The names under `links:` as they stand, to tell a node's addresses from misspelt keys."""
    for key, inner in tree.entries:
        if key.text == "links" and isinstance(inner, Sequence):
            names = [item.text for item in inner.items if isinstance(item, Scalar)]
            return tuple(name for name in dict.fromkeys(names) if name not in _RESERVED)
    return ()


def _nodes(links: tuple[str, ...]) -> Read:
    def read(source: Source, tree: Tree, path: Path) -> Any:
        found = entries(tree, source, path, "node names to their addresses")
        if found is None:
            return None
        nodes = []
        for key, inner in found:
            name = key_of(source, key, scalars.node_name, path)
            node = _node(source, inner, (*path, key.text), NodeName(name or key.text), links)
            if node is not None and name is not None:
                nodes.append(node)
        return tuple(nodes)

    return read


def _node(source: Source, tree: Tree, path: Path, name: NodeName, links: tuple[str, ...]) -> NodeConfig | None:
    addresses: dict[LinkName, str] = {}
    shape = Shape(NodeConfig, {"fence": _fence, "watchdog": _watchdog, "fence_delay": text(scalars.duration_or_zero)})
    node = shape.read(source, tree, path, {"name": name, "addresses": addresses}, also=links)
    if node is None or not isinstance(tree, Mapping):
        return None
    if node.witness and node.observer:
        what = f"node {name!r} is a witness, which votes, and an observer, which does not"
        source.note(tree.line, what, "expected one of them")
    written = []
    for key, inner in tree.entries:
        if key.text in links:
            written.append(key.text)
            address = text(scalars.ip_address)(source, inner, (*path, key.text))
            if address is not None:
                addresses[LinkName(key.text)] = address
    for link in links:
        if link not in written:
            source.note(tree.line, f"node {name!r} has no address on link {link!r}", f"expected {link}: ADDRESS")
    return node


def _check_addresses(source: Source, cluster: ClusterConfig) -> None:
    owner: dict[str, str] = {}
    family: dict[LinkName, tuple[int, NodeName]] = {}
    for node in cluster.nodes:
        for link, address in node.addresses.items():
            line = source.line("nodes", node.name, link)
            here = f"node {node.name!r}, link {link!r}"
            if address in owner:
                source.note(line, f"{address} is already the address of {owner[address]}", "expected each address once")
            owner.setdefault(address, here)
            version = ipaddress.ip_address(address).version
            first, by = family.setdefault(link, (version, node.name))
            if version != first:
                what = f"{address} is IPv{version}, but link {link!r} is IPv{first} on node {by!r}"
                source.note(line, what, "expected one address family on a link")


def _check_ports(source: Source, ports: Ports) -> None:
    users: dict[int, str] = {}
    for field in msgspec.structs.fields(ports):
        number = getattr(ports, field.name)
        if number in users:
            what = f"port {number} of {field.name} is already that of {users[number]}"
            source.note(source.line("ports", field.name), what, "expected a port for each daemon")
        users.setdefault(number, field.name)


def node_names(source: Source) -> list[str]:
    """All that are written in cluster.yaml, readable or not."""
    return source.keys("nodes")


def unknown_node(name: str, known: list[str]) -> str:
    return suggestion(name, known) if known else "expected a node of cluster.yaml"
