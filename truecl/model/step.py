"""The steps that an application instance is made of, and what probing one can say."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Union

import msgspec

from truecl.model.config import (
    Address,
    AppConfig,
    DiskStorage,
    DrbdStorage,
    FileStorage,
    FileSystem,
    LvmStorage,
    NoStorage,
    Program,
    Storage,
)
from truecl.model.ids import AppName, Generation
from truecl.model.ledger import Format, Proof


class ReplicaSpec(msgspec.Struct, frozen=True, tag="replica", tag_field="kind"):
    """The application's replicated resource, as an instance's step: up is promoted, down is secondary. What lies
    beneath is there already, on every node that holds a copy (`truecl.model.replica`)."""

    app: AppName
    volumes: tuple[str, ...]


class ReplicaVolume(msgspec.Struct, frozen=True, tag="replica volume", tag_field="kind"):
    """One volume of it, under a file system."""

    app: AppName
    volume: str


class FormatSpec(msgspec.Struct, frozen=True, tag="format", tag_field="kind"):
    """A build's own step: up is found, or made."""

    format: Format


Spec = Union[FileStorage, DiskStorage, LvmStorage, ReplicaSpec, FileSystem, FormatSpec, Address, Program]
Over = Union[FileStorage, DiskStorage, LvmStorage, ReplicaVolume]


class StepKind(StrEnum):
    STORAGE = "storage"
    FORMAT = "format"
    FILESYSTEM = "filesystem"
    ADDRESS = "address"
    PROGRAM = "program"


class Step(msgspec.Struct, frozen=True):
    """One thing to bring up. `name` is unique within its application."""

    name: str
    kind: StepKind
    spec: Spec
    over: Over | None = None
    """A file system's volume: the storage it is mounted from."""
    uuid: str = ""
    """Of the file system that was built; '': that is not known, and any of its type is taken."""


class Probe(StrEnum):
    """What a driver's probe says. UNKNOWN: the probe itself failed, so nothing may be concluded."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Instance(msgspec.Struct, frozen=True):
    """One grant of one application to one node."""

    app: AppName
    generation: Generation
    alone: bool = False
    """Its grant says that all other copies of its data are outdated: it is promoted without them."""


def accepted(app: AppConfig) -> tuple[Proof, ...]:
    """The proofs that end a grant of this application: what all its steps accept."""
    storage = [volume.storage for volume in app.volumes]
    # A file system is guarded by what it lies on.
    filesystems = [each for each in app.filesystems if not isinstance(_beneath(app, each.volume), DrbdStorage)]
    specs = [*storage, *filesystems, *app.addresses, *app.programs]
    return tuple(proof for proof in Proof if all(proof in spec.proofs for spec in specs))


def addressed(app: AppConfig) -> bool:
    """Is it without storage, and reached by floating addresses? Then their lifetime in the kernel guards it."""
    kinds = {step.kind for step in steps_of(app)}
    return StepKind.ADDRESS in kinds and not kinds & {StepKind.STORAGE, StepKind.FILESYSTEM}


def replicated(app: AppConfig) -> tuple[str, ...]:
    """Names of its volumes that are replicated, in the file's order."""
    return tuple(volume.name for volume in app.volumes if isinstance(volume.storage, DrbdStorage))


def steps_of(
    app: AppConfig, build: tuple[Format, ...] = (), built: Mapping[str, str] = MappingProxyType({})
) -> tuple[Step, ...]:
    """In start order: storage, file systems (parents of nested mounts first), addresses, programs. Of a `build`:
    storage, and its file systems to be found or made. `built`: volumes to the UUIDs of the file systems on them."""
    steps = [
        Step(f"volume {volume.name}", StepKind.STORAGE, volume.storage)
        for volume in app.volumes
        if not isinstance(volume.storage, DrbdStorage | NoStorage)
    ]
    if copied := replicated(app):
        steps.append(Step(f"replica {app.name}", StepKind.STORAGE, ReplicaSpec(app.name, copied)))
    if build:
        steps += [
            Step(f"file system {each.volume}", StepKind.FORMAT, FormatSpec(each), _over(app, each.volume))
            for each in build
        ]
        return tuple(steps)
    for filesystem in sorted(app.filesystems, key=lambda each: each.mount.rstrip("/").count("/")):
        over = _over(app, filesystem.volume)
        uuid = built.get(volume_of(app, filesystem), "")
        steps.append(Step(f"file system {filesystem.mount}", StepKind.FILESYSTEM, filesystem, over, uuid))
    steps += [Step(f"address {each.address}", StepKind.ADDRESS, each) for each in app.addresses]
    steps += [Step(f"program {each.name}", StepKind.PROGRAM, each) for each in app.programs]
    return tuple(steps)


def volume_of(app: AppConfig, filesystem: FileSystem) -> str:
    """The name of the volume that it lies on."""
    return filesystem.volume or (app.volumes[0].name if app.volumes else "")


def _beneath(app: AppConfig, volume: str) -> Storage | None:
    """`volume`: '' where there is just one."""
    storage = {each.name: each.storage for each in app.volumes}
    return storage.get(volume or next(iter(storage), ""))


def _over(app: AppConfig, volume: str) -> Over | None:
    match _beneath(app, volume):
        case None | NoStorage():
            return None
        case DrbdStorage():
            return ReplicaVolume(app.name, volume or app.volumes[0].name)
        case storage:
            return storage
