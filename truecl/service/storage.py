"""All kinds of storage, as reqd drives them."""

from pathlib import Path

from truecl.drivers.contract import Loop, Runner
from truecl.drivers.storage.disk import DiskDriver
from truecl.drivers.storage.driver import StorageDriver, StorageKind
from truecl.drivers.storage.file import FileStorageDriver
from truecl.drivers.storage.lvm.driver import LvmDriver
from truecl.model.config import DiskStorage, FileStorage, LvmStorage


def storage_driver(runner: Runner, loop: Loop, boot: str, run: Path) -> StorageDriver:
    """`boot`: this boot's id. It is the same over restarts of the daemon, and no other node that shares this kernel has
    it. `run`: the run directory."""
    kinds: dict[type, StorageKind] = {
        FileStorage: FileStorageDriver(runner, loop, boot),
        DiskStorage: DiskDriver(runner, loop, run_directory=run / "disks"),
        LvmStorage: LvmDriver(runner, loop),
    }
    return StorageDriver(kinds)
