"""The steps that an application instance is made of, and what probing one can say."""

from enum import StrEnum
from typing import Union

import msgspec

from truecl.model.config import Address, AppConfig, FileStorage, FileSystem, Program
from truecl.model.ids import AppName, Generation
from truecl.model.ledger import Proof

Spec = Union[FileStorage, FileSystem, Address, Program]


class StepKind(StrEnum):
    STORAGE = "storage"
    FILESYSTEM = "filesystem"
    ADDRESS = "address"
    PROGRAM = "program"


class Step(msgspec.Struct, frozen=True):
    """One thing to bring up. `name` is unique within its application."""

    name: str
    kind: StepKind
    spec: Spec
    over: FileStorage | None = None
    """A file system's volume: the storage it is mounted from."""


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


def accepted(app: AppConfig) -> tuple[Proof, ...]:
    """The proofs that end a grant of this application: what all its steps accept."""
    specs = [*(volume.storage for volume in app.volumes), *app.filesystems, *app.addresses, *app.programs]
    return tuple(proof for proof in Proof if all(proof in spec.proofs for spec in specs))


def addressed(app: AppConfig) -> bool:
    """Is it without storage, and reached by floating addresses? Then their lifetime in the kernel guards it."""
    kinds = {step.kind for step in steps_of(app)}
    return StepKind.ADDRESS in kinds and not kinds & {StepKind.STORAGE, StepKind.FILESYSTEM}


def steps_of(app: AppConfig) -> tuple[Step, ...]:
    """In start order: storage, file systems (parents of nested mounts first), addresses, programs."""
    storage = {volume.name: volume.storage for volume in app.volumes}
    steps = [
        Step(f"volume {name}", StepKind.STORAGE, spec)
        for name, spec in storage.items()
        if isinstance(spec, FileStorage)
    ]
    only = next(iter(storage), "")
    for filesystem in sorted(app.filesystems, key=lambda each: each.mount.rstrip("/").count("/")):
        over = storage.get(filesystem.volume or only)
        steps.append(
            Step(
                f"file system {filesystem.mount}",
                StepKind.FILESYSTEM,
                filesystem,
                over if isinstance(over, FileStorage) else None,
            )
        )
    steps += [Step(f"address {each.address}", StepKind.ADDRESS, each) for each in app.addresses]
    steps += [Step(f"program {each.name}", StepKind.PROGRAM, each) for each in app.programs]
    return tuple(steps)
