"""`truecld`: the service's main process. Imports every daemon once, then is the warm parent of them all."""

import importlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from OpenSSL import SSL

from truecl.config import reader
from truecl.model.ids import CLUSTERD, HBD, LOCKD, NETD, REQD, STATD, SYNCD, DaemonName
from truecl.runtime.clock import BootClock
from truecl.runtime.credentials import BadCredentials, Credentials
from truecl.runtime.files import APPS, Unreadable, gather
from truecl.runtime.log import Log, to_stderr
from truecl.runtime.paths import Paths
from truecl.runtime.process import Account, CannotStart, Daemon, Loaded, open_log, prepare_directories
from truecl.runtime.tls import context_of
from truecl.runtime.warm import WarmParent, alone

ENTRIES: dict[DaemonName, str] = {
    REQD: "truecl.service.reqd:main",
    SYNCD: "truecl.service.syncd:main",
    HBD: "truecl.service.hbd:main",
    LOCKD: "truecl.service.lockd:main",
    NETD: "truecl.service.netd:main",
    STATD: "truecl.service.statd:main",
    CLUSTERD: "truecl.service.clusterd:main",
}
"""What each daemon runs: `main(daemon: Daemon) -> None`, which ends in `daemon.run()`."""


class Files:
    """Reads configuration and credentials, again only when a file has changed."""

    def __init__(self, etc: Path, wall: Callable[[], float] = time.time) -> None:
        self._etc = etc
        self._wall = wall
        self._seen: tuple[tuple[str, int, int, int], ...] | None = None
        self._loaded = Loaded()

    def load(self) -> Loaded:
        """Never raises for what is in the files: that is in `Loaded.problems`."""
        seen = tuple(self._stamps())
        if seen != self._seen:
            self._loaded = self._read()
            self._seen = seen
        return self._loaded

    def _stamps(self) -> list[tuple[str, int, int, int]]:
        stamps = []
        for directory in (self._etc, self._etc / APPS):
            # What goes while it is looked at is missing in the stamps, so that it is read again the next time.
            with suppress(OSError):
                for path in sorted(directory.iterdir()):
                    status = path.lstat()
                    stamps.append((str(path), status.st_ino, status.st_mtime_ns, status.st_size))
        return stamps

    def _read(self) -> Loaded:
        problems: list[str] = []
        configuration = credentials = None
        try:
            configuration, found = reader.read(gather(self._etc))
            problems += [str(each) for each in found]
        except Unreadable as error:
            problems.append(str(error))
        try:
            credentials = Credentials.load(self._etc, self._wall())
            with suppress(SSL.Error, ValueError):  # then each daemon says so
                context_of(credentials)
        except BadCredentials as error:
            problems += error.problems
        return Loaded(configuration, credentials, tuple(problems))


def entry(name: DaemonName) -> Callable[[Daemon], None]:
    """The daemon's `main`. Raises CannotStart."""
    module, _, function = ENTRIES[name].partition(":")
    try:
        found: Callable[[Daemon], None] = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise CannotStart(f"{name} cannot be loaded: {error}; install truecl again") from error
    return found


def main() -> int:
    """Exit codes: 0 stopped, 75 runs already, 78 cannot start (the reason is on standard error)."""
    clock = BootClock()
    paths = Paths.of_environment(os.environ)
    try:
        alone(paths)
        account = Account.of_system(os.environ.get("TRUECL_USER", "truecl"))
        mains = {name: entry(name) for name in ENTRIES}
        if "twisted.internet.reactor" in sys.modules:
            raise CannotStart("a module has started Twisted's reactor at import; no daemon could be forked")
        prepare_directories(paths, account)
        files = Files(paths.etc)
        log = Log(files.load().node, "truecld", open_log(paths, "truecld", None).write, clock)
        return WarmParent(paths, mains, files.load, account, clock, log).run()
    except CannotStart as error:
        to_stderr(f"truecld: {error}\n".encode(errors="backslashreplace"))
        return error.code
