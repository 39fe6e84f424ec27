"""All kinds of storage, as reqd drives them."""

import sys
from pathlib import Path
from shlex import quote

import truecl
from truecl.drivers.build.volumes import Volumes
from truecl.drivers.build.worker import Worker
from truecl.drivers.contract import Loop, Runner
from truecl.drivers.storage.disk import DiskDriver
from truecl.drivers.storage.drbd.driver import ReplicaDriver
from truecl.drivers.storage.drbd.kernel import Kernel
from truecl.drivers.storage.drbd.metadata import Metadata
from truecl.drivers.storage.drbd.replicas import Replicas
from truecl.drivers.storage.driver import StorageDriver, StorageKind
from truecl.drivers.storage.file import FileStorageDriver
from truecl.drivers.storage.lvm.driver import LvmDriver
from truecl.drivers.storage.lvm.tool import Lvm
from truecl.model.config import DiskStorage, FileStorage, LvmStorage
from truecl.model.ids import NodeName
from truecl.model.step import ReplicaSpec, ReplicaVolume


def storage_drivers(runner: Runner, loop: Loop, node: NodeName, boot: str, run: Path) -> tuple[StorageDriver, Replicas]:
    """`boot`: this boot's id. It is the same over restarts of the daemon, and no other node that shares this kernel has
    it. `run`: the run directory."""
    kernel = Kernel(runner, loop, node, run, fence_peer(run))
    replica = ReplicaDriver(kernel)
    kinds: dict[type, StorageKind] = {
        FileStorage: FileStorageDriver(runner, loop, boot),
        DiskStorage: DiskDriver(runner, loop, run_directory=run / "disks"),
        LvmStorage: LvmDriver(Lvm(runner), loop),
        ReplicaSpec: replica,
        ReplicaVolume: replica,
    }
    storage = StorageDriver(kinds)
    return storage, Replicas(kernel, replica, storage)


def worker(runner: Runner, replicas: Replicas) -> Worker:
    """For lha_buildapp."""
    return Worker(runner, Volumes(runner, Lvm(runner)), Metadata(runner, replicas))


_HANDLER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from truecl.cli.fence_peer import main; sys.exit(main())"
"""Neither a module nor a script: `-m` brings runpy, which takes as long as all the rest, and a script is compiled
anew."""


def fence_peer(run: Path) -> str:
    """What DRBD is to call: the kernel gives it no environment, and drbdadm hands it to a shell. Without `site`, which
    takes as long as all the rest too."""
    root = Path(truecl.__file__).parents[1]
    return f"TRUECL_RUN={quote(str(run))} {quote(sys.executable)} -I -S -c {quote(_HANDLER)} {quote(str(root))}"
