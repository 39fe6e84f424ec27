"""cluster.yaml: how it is written, and what must agree within it."""

import ipaddress
from typing import Any

import msgspec

from truecl.config import law, scalars
from truecl.config.tree import Mapping, Scalar, Sequence, Tree
from truecl.config.typed import Path, Read, Shape, Source, distinct, entries, items, key_of, suggestion, text, texts
from truecl.model.config import ClusterConfig, FenceConfig, LinkConfig, NodeConfig, Ports, Timing
from truecl.model.ids import LinkName, NodeName

FILE = "cluster.yaml"

_RESERVED = ("fence", "witness", "fence_delay")
"""Keys of a node beside its links."""


def _parameter(value: str) -> str:
    if not value or len(value) > 64 or not value.isprintable() or any(each in value for each in "=\n "):
        raise scalars.Unfit("expected the name of a parameter of the fence agent, as ip")
    return value


_FENCE = Shape(
    FenceConfig,
    {"agent": text(scalars.agent), "parameters": texts(_parameter, "the agent's parameters")},
)
_TIMING = Shape(Timing, {"drift": text(scalars.duration_or_zero), "stop_allowance": text(scalars.duration_or_zero)})
_PORTS = Shape(Ports, {field.name: text(scalars.port) for field in msgspec.structs.fields(Ports)})


def _timing(source: Source, tree: Tree, path: Path) -> Timing | None:
    """The law is asked only of durations that could all be read."""
    before = len(source.problems)
    timing = _TIMING(source, tree, path)
    if timing is not None and len(source.problems) == before:
        law.check(source, timing)
    return timing


def _link_name(value: str) -> LinkName:
    if value in _RESERVED:
        raise scalars.Unfit("expected another name", f"a link cannot be called {value!r}, a key of nodes")
    return LinkName(scalars.name(value))


def _link(source: Source, tree: Tree, path: Path) -> LinkConfig | None:
    name = text(_link_name)(source, tree, path)
    return LinkConfig(name=name) if name is not None else None


def read_cluster(source: Source, tree: Mapping) -> ClusterConfig | None:
    """None: something required is missing, and noted. Fields that failed have their defaults, and are noted."""
    shape = Shape(
        ClusterConfig,
        {
            "name": text(scalars.name),
            "links": distinct(items(_link, "link names")),
            "nodes": _nodes(_written_links(tree)),
            "timing": _timing,
            "ports": _PORTS,
        },
        keys={"name": "cluster"},
    )
    cluster = shape(source, tree, ())
    if cluster is not None:
        _check_addresses(source, cluster)
        _check_ports(source, cluster.ports)
        _check_duel(source, cluster)
    return cluster


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
    shape = Shape(NodeConfig, {"fence": _FENCE, "fence_delay": text(scalars.duration_or_zero)})
    node = shape.read(source, tree, path, {"name": name, "addresses": addresses}, also=links)
    if node is None or not isinstance(tree, Mapping):
        return None
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


def _check_duel(source: Source, cluster: ClusterConfig) -> None:
    """Two nodes that cannot hear each other and can fence each other: one must be off before the other is asked for."""
    if len(cluster.voters) != 2:
        return
    delays = {name: cluster.fence_delay(name) for name in cluster.voters}
    one, two = sorted(cluster.voters, key=lambda name: delays[name])
    quick, protected = cluster.node(one), cluster.node(two)
    if quick.fence is None or protected.fence is None or delays[two] > delays[one] + quick.fence.timeout:
        return
    written = [node.name for node in (protected, quick) if node.fence_delay is not None]
    least = law.shown(delays[one] + quick.fence.timeout)
    source.note(
        source.line("nodes", written[0], "fence_delay"),
        f"{one} and {two} could switch each other off at the same time",
        f"expected a fence_delay of {two} above {least}, the time that the device of {one} may take",
    )


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
