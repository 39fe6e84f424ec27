"""syncd as a process: the configuration's files, read and replaced by a thread of their own."""

import os
from collections.abc import Callable
from typing import Any

from truecl.core.rotation import DrawnRings, DrawRings, KeepRing, KeptRing
from truecl.core.versions import (
    ActivatedFiles,
    ActivateFiles,
    FinishActivation,
    Gathered,
    GatherFiles,
    StagedFiles,
    StageFiles,
)
from truecl.runtime.process import CannotStart, Daemon
from truecl.runtime.ring import RingFile
from truecl.runtime.versions import Versions, give_way
from truecl.runtime.worker import Worker
from truecl.service.joint import Joint


def main(daemon: Daemon) -> None:
    versions = Versions(daemon.node, daemon.paths.etc, daemon.home())
    ring = RingFile(daemon.paths.etc)
    if os.getuid() == 0 and daemon.account is not None:
        try:
            give_way(daemon.paths.etc, daemon.account.gid)
        except OSError as error:
            raise CannotStart(f"{error.filename}: {error.strerror}") from error
    worker = Worker(daemon.reactor, "files")
    joint = Joint(daemon)

    def done(result: Any) -> Any:
        """This daemon's own sessions follow what it puts in force."""
        if isinstance(result, ActivatedFiles) and result.configuration is not None:
            joint.reconfigure(result.configuration)
        return result

    joint.run(lambda action: worker(_work(versions, ring, action)).addCallback(done), failed)


def _work(versions: Versions, ring: RingFile, action: Any) -> Callable[[], Any]:
    match action:
        case GatherFiles():
            return versions.gather
        case StageFiles(digest=digest, files=files):
            return lambda: versions.stage(digest, files)
        case ActivateFiles(digest=digest):
            return lambda: versions.activate(digest)
        case FinishActivation():
            return versions.finish
        case DrawRings():
            return ring.draw
        case KeepRing(text=text):
            return lambda: ring.keep(text)
    raise AssertionError(f"syncd has no driver for {type(action).__name__}")


def failed(action: Any, error: BaseException) -> Gathered | StagedFiles | ActivatedFiles | DrawnRings | KeptRing:
    """An action that ended in an exception."""
    reason = f"{type(error).__name__}: {error}"
    match action:
        case StageFiles():
            return StagedFiles(reason)
        case ActivateFiles() | FinishActivation():
            return ActivatedFiles(None, reason)
        case DrawRings():
            return DrawnRings((), reason)
        case KeepRing():
            return KeptRing(reason)
        case _:
            return Gathered(None, (reason,))
