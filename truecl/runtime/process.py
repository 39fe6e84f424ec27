"""One daemon as a process: where its files are, who it runs as, how it ends.

Order of a life: fork or start by hand; `begin` (lock, directories, log, reactor, random source); the service module's
`main(daemon)` opens what needs root (sockets, credentials were read before) and calls `daemon.run`, which takes the
priority, gives up root and turns the reactor until the process ends.
"""

import ctypes
import os
import pwd
import signal
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from types import FrameType, TracebackType
from typing import NoReturn

from truecl import __version__
from truecl.core.contract import EXIT_JOURNAL, EXIT_OUTDATED, Outdated
from truecl.model.config import Configuration
from truecl.model.ids import NETD, REQD, BootId, DaemonName, NodeName
from truecl.runtime import locks, priority
from truecl.runtime.clock import BootClock, Clock, Reactor, new_reactor
from truecl.runtime.credentials import Credentials
from truecl.runtime.host import EXIT_DEFECT
from truecl.runtime.journal import JournalFault
from truecl.runtime.line import ParentLink
from truecl.runtime.log import Log, LogFile, take_twisted, to_stderr
from truecl.runtime.paths import Paths
from truecl.wire.frame import brief

EXIT_BUSY = 75
"""EX_TEMPFAIL: the same daemon runs already."""
EXIT_CONFIG = 78
"""EX_CONFIG: the configuration, the credentials or the installation will not do."""
LOCK_PATIENCE = 5.0
"""Seconds for which a daemon waits for its former life to be gone."""
BY_HAND = "by hand"
"""The note in the lock of a daemon in the foreground; the service's have truecl's version there."""
KEPT_REPORTS = 3
PRIVILEGED = frozenset({REQD, NETD})
PR_SET_NAME = 15


class CannotStart(Exception):
    """A daemon or the service cannot start: the text is for the operator, and names the way out."""

    def __init__(self, text: str, code: int = EXIT_CONFIG) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Account:
    """The user that daemons without need of root run as."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of_system(cls, name: str) -> "Account":
        """Raises CannotStart."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise CannotStart(
                f"user {name!r} does not exist; make it with `useradd --system --user-group "
                f"--home-dir /var/lib/truecl --shell /usr/sbin/nologin {name}`"
            ) from None
        return cls(name, entry.pw_uid, entry.pw_gid)


@dataclass(frozen=True)
class Loaded:
    """What the files in `Paths.etc` say. `problems`: a line each, when configuration or credentials are None."""

    configuration: Configuration | None = None
    credentials: Credentials | None = None
    problems: tuple[str, ...] = ()

    @property
    def node(self) -> NodeName:
        """From the certificate; the host's name until there is one."""
        return self.credentials.node if self.credentials is not None else NodeName(socket.gethostname())


@dataclass
class Daemon:
    """What a service module gets, and all that it may ask of the process it is."""

    name: DaemonName
    paths: Paths
    boot: BootId
    loaded: Loaded
    account: Account | None
    """Whom to become once started; None: stay who we are."""
    clock: Clock
    log: Log
    reactor: Reactor
    random: Random
    """Seeded after the fork: a copy of the parent's would draw the same in every daemon."""
    parent: ParentLink | None = None
    """reqd's way to the warm parent; None in the foreground, and in the other daemons."""
    foreground: bool = False
    locks: list[int] = field(default_factory=list)
    _settled: bool = False

    @property
    def node(self) -> NodeName:
        return self.loaded.node

    def home(self) -> Path:
        """This daemon's own directory under `Paths.state`, made if missing. Raises CannotStart."""
        home = self.paths.state / self.name
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.account is not None:
                os.chown(home, self.account.uid, self.account.gid)
        except OSError as error:
            raise CannotStart(f"{home}: {error.strerror}") from error
        return home

    def drop_privileges(self) -> None:
        """For good. Everything that needs root is open by now. Raises OSError."""
        if self.account is None or os.getuid() != 0:
            return
        os.setgroups([])
        os.setresgid(self.account.gid, self.account.gid, self.account.gid)
        os.setresuid(self.account.uid, self.account.uid, self.account.uid)
        self.account = None

    def settle(self) -> None:
        """Takes the daemon's priority and gives up root. `run` does it; earlier for files that must be the user's."""
        if self._settled:
            return
        self._settled = True
        if not self.foreground:
            priority.apply(self.name, self.log.warning)
        self.drop_privileges()

    def run(self, on_terminate: Callable[[], None] | None = None) -> None:
        """Turns the reactor. On SIGTERM and SIGINT `on_terminate` is called, which ends with `exit`; None: that."""
        self.settle()

        def terminate(number: int, frame: FrameType | None) -> None:
            self.reactor.callFromThread(on_terminate or self._terminated)

        def running() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, terminate)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})

        self.reactor.callWhenRunning(running)
        self.reactor.run()

    def exit(self, code: int, why: str) -> NoReturn:
        """At once: nothing that is buffered still leaves. (reqd's watchdog stays armed, which is meant.)"""
        (self.log.info if code == 0 else self.log.error)(f"ends with exit code {code}: {why}")
        os._exit(code)

    def failed_save(self, fault: JournalFault) -> None:
        """`Host.on_failed_save`."""
        self.exit(EXIT_JOURNAL, f"{type(fault).__name__}: {fault}")

    def defect(self, report: str) -> None:
        """`Host.on_defect`: keeps the report beside the log and ends the process."""
        where = self.paths.log / f"{self.name}.crash"
        try:
            for number in range(KEPT_REPORTS - 1, 0, -1):
                newer = where if number == 1 else where.with_name(f"{where.name}.{number - 1}")
                if newer.exists():
                    newer.replace(where.with_name(f"{where.name}.{number}"))
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(where, flags, 0o640), "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(report)
        except OSError as error:
            self.log.error(f"the report cannot be kept at {where}: {error.strerror}")
        lines = report.splitlines() or [""]
        problem = next((line for line in reversed(lines[:200]) if line and not line[0].isspace()), lines[0])
        self.exit(EXIT_DEFECT, f"a defect in truecl: {problem[:300]}; the last events are in {where}")

    def outdated(self, error: Outdated) -> None:
        """`Host.on_outdated`."""
        self.exit(EXIT_OUTDATED, f"{error}; install here what the other nodes run (docs/upgrade.md)")

    def _terminated(self) -> None:
        self.exit(0, "told to end")


class Edge:
    """The edge of a process: whatever leaves the block ends it here, with its reason said and an exit code.

    `say` takes one line. A block that simply ends, ends the process with code 0.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def __enter__(self) -> "Edge":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> NoReturn:
        code = 0
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else 1
        elif isinstance(error, CannotStart):
            code = error.code
            self.say(str(error))
        elif error is not None:
            code = EXIT_DEFECT
            steps = [f"{Path(each.filename).name}:{each.lineno}" for each in traceback.extract_tb(where)[-6:]]
            self.say(f"a defect in truecl: {type(error).__name__}: {brief(error)} at {' '.join(steps)}")
        os._exit(code)


def begin(
    name: DaemonName,
    paths: Paths,
    loaded: Loaded,
    account: Account | None,
    *,
    foreground: bool = False,
) -> Daemon:
    """The daemon of this very process, once its lock says that there is no other. Raises CannotStart."""
    prepare_directories(paths, account)
    clock = BootClock()
    own = None if name in PRIVILEGED else account
    if foreground:
        log = Log(loaded.node, name, to_stderr, clock)
    else:
        log = Log(loaded.node, name, open_log(paths, name, own).write, clock)
    take_twisted(log)
    patience, note = (0.0, BY_HAND) if foreground else (LOCK_PATIENCE, __version__)
    lock = claim(lock_of(paths, name), f"{name} runs already", patience, note)
    return Daemon(
        name=name,
        paths=paths,
        boot=boot_id(paths.run),
        loaded=loaded,
        account=own,
        clock=clock,
        log=log,
        reactor=new_reactor(),
        random=Random(os.urandom(32)),
        parent=ParentLink(paths.run, log) if name == REQD and not foreground else None,
        foreground=foreground,
        locks=[lock],
    )


def open_log(paths: Paths, name: str, account: Account | None) -> LogFile:
    """Raises CannotStart."""
    path = paths.log / f"{name}.log"
    try:
        log = LogFile(path)
        if account is not None and os.getuid() == 0:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}") from error
    return log


def prepare_directories(paths: Paths, account: Account | None) -> None:
    """Makes what is missing. The log directory is the user's, so that logs can rotate. Raises CannotStart."""
    for path in (paths.run, paths.state, paths.log):
        try:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise CannotStart(f"{path}: {error.strerror}") from error
    if account is not None and os.getuid() == 0:
        try:
            os.chown(paths.log, account.uid, account.gid)
        except OSError as error:
            raise CannotStart(f"{paths.log}: {error.strerror}") from error


def lock_of(paths: Paths, name: str) -> Path:
    """Held by the one process that is this daemon; taken before its journal is opened or its socket made."""
    return paths.run / f"{name}.lock"


def claim(path: Path, taken: str, patience: float, note: str = __version__) -> int:
    """Locks `path` for the life of this process; the lock goes with it, however it ends. Raises CannotStart."""
    try:
        return locks.take(path, note, patience)
    except locks.Taken as error:
        raise CannotStart(f"{taken} (process {error.owner or 'unknown'})", EXIT_BUSY) from None
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}") from error


def boot_id(run: Path, kernel: Path = Path("/proc/sys/kernel/random/boot_id")) -> BootId:
    """This start of the node: made by whoever asks first, the same until a reboot.

    Not the kernel's own, which nodes in namespaces share. But one that was made under another kernel is none: what a
    run directory keeps that outlived its boot (a lease above all) would count again. Raises CannotStart.
    """
    fresh = run / f".boot_id.{os.getpid()}"
    try:
        path = run / f"boot_id.{kernel.read_text(encoding='ascii').strip()}"
        if not path.exists():
            fresh.write_text(os.urandom(8).hex(), encoding="utf-8")
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return BootId(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"boot id in {run}: {error}") from error


_LIBRARY = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int | bytes) -> None:
    """Raises OSError."""
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if _LIBRARY.prctl(option, argument, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_title(title: str) -> None:
    """What ps and top show: the process's name, and its arguments as far as the old ones had room."""
    prctl(PR_SET_NAME, title.encode()[:15])
    start, end = _arguments()
    if 1 < end - start < 1 << 20:
        ctypes.memmove(start, title.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)


@lru_cache(maxsize=1)
def _arguments() -> tuple[int, int]:
    """Where the kernel looks for the process's arguments: the same addresses in everything that it forks."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    # Fields 48 and 49 of proc_pid_stat(5), arg_start and arg_end; the first after the name is field 3.
    return int(fields[45]), int(fields[46])
