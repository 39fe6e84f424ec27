"""Nothing belongs to two: addresses, volumes and mount points of all applications.

A volume under a replica is each node's own, so two applications may call it the same where no node runs both. Any other
volume may be one that all nodes see, and has one owner in the whole cluster.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from truecl.config.cluster import FILE
from truecl.config.typed import Path, Source
from truecl.model.config import (
    Address,
    AppConfig,
    ClusterConfig,
    DiskStorage,
    FileStorage,
    FileSystem,
    LvmStorage,
    Value,
)

_UNDER_A_REPLICA = "on"
"""The key under which `truecl.model.config.DrbdStorage` has what it lies on."""


class _Claim(NamedTuple):
    """What an application says is its own, on which nodes."""

    line: int
    thing: str
    nodes: frozenset[str]
    own: bool
    """Each node has one of its own by this name."""

    def meets(self, other: "_Claim") -> bool:
        return not (self.own and other.own) or bool(self.nodes & other.nodes)


def check_shared(
    cluster_source: Source, cluster: ClusterConfig | None, apps: Mapping[str, tuple[Source, AppConfig | None]]
) -> None:
    """Notes everything that has a second owner, at the second."""
    addresses: dict[str, str] = {}
    if cluster is not None:
        for node in cluster.nodes:
            for address in node.addresses.values():
                line = cluster_source.line("nodes", node.name)
                addresses[address] = f"node {node.name!r} ({FILE}:{line})"
    volumes: list[tuple[_Claim, str]] = []
    mounts: list[tuple[_Claim, str]] = []
    groups: dict[str, list[tuple[_Claim, str]]] = {}
    for name, (source, app) in apps.items():
        nodes = frozenset(app.nodes) if app is not None else frozenset(source.words.values())
        who = f"application {name!r}"
        for _, line, address in _once_each(source, "address", _fields(source, Address, "address")):
            if address in addresses:
                source.note(line, f"{address} already belongs to {addresses[address]}", "expected one owner")
            addresses.setdefault(address, f"{who} ({source.file}:{line})")
        _volumes(source, nodes, who, volumes)
        _physical(source, nodes, groups)
        _mounts(source, nodes, name, mounts)


def _volumes(source: Source, nodes: frozenset[str], who: str, owners: list[tuple[_Claim, str]]) -> None:
    claims = []
    kinds = (
        ("image", _fields(source, FileStorage, "image")),
        ("device", _fields(source, DiskStorage, "device")),
        ("logical volume", _logical(source)),
    )
    for kind, found in kinds:
        for path, line, thing in _once_each(source, kind, found):
            claim = _Claim(line, thing, nodes, path[-1] == _UNDER_A_REPLICA)
            for other, owner in owners:
                if other.thing == thing and claim.meets(other):
                    source.note(line, f"{thing} already belongs to {owner}", "expected one owner")
                    break
            claims.append((claim, f"{who} ({source.file}:{line})"))
    owners += claims


def _physical(source: Source, nodes: frozenset[str], groups: dict[str, list[tuple[_Claim, str]]]) -> None:
    """A disk is of one volume group, or a volume itself."""
    claims = [
        (source.line(*path, "physical"), device, f"volume group {found.group!r}", path)
        for path, found in source.found(LvmStorage)
        for device in found.physical
    ]
    claims += [
        (source.line(*path, "device"), each.device, "a volume", path) for path, each in source.found(DiskStorage)
    ]
    for line, device, use, path in claims:
        claim = _Claim(line, device, nodes, path[-1] == _UNDER_A_REPLICA)
        for other, taken in groups.get(device, []):
            if taken != use and claim.meets(other):
                source.note(line, f"{device} is of {taken} already", "expected a disk of its own")
                break
        groups.setdefault(device, []).append((claim, use))


def _mounts(source: Source, nodes: frozenset[str], name: str, owners: list[tuple[_Claim, str]]) -> None:
    mine = []
    for _, line, mount in _once_each(source, "mount", _fields(source, FileSystem, "mount")):
        claim = _Claim(line, mount, nodes, own=True)
        for other, owner in owners:
            if claim.meets(other) and _nested(mount, other.thing):
                how = "is already used by" if mount == other.thing else f"is nested with {other.thing} of"
                source.note(line, f"{mount} {how} application {owner!r}", "expected a mount point of its own")
        mine.append((claim, name))
    owners += mine


def _fields(source: Source, made: type[Value], field: str) -> Iterator[tuple[Path, int, str]]:
    """Place, line and value of a field of all structs of a type."""
    for path, value in source.found(made):
        yield path, source.line(*path, field), getattr(value, field)


def _logical(source: Source) -> Iterator[tuple[Path, int, str]]:
    for path, value in source.found(LvmStorage):
        yield path, source.line(*path, "volume"), f"{value.group}/{value.volume}"


def _once_each(source: Source, what: str, found: Iterator[tuple[Path, int, str]]) -> Iterator[tuple[Path, int, str]]:
    """All of them; a second one within the application is a problem."""
    first: dict[str, int] = {}
    for path, line, thing in found:
        if thing in first:
            source.note(line, f"{thing} was already given in line {first[thing]}", f"expected each {what} once")
            continue
        first[thing] = line
        yield path, line, thing


def _nested(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")
