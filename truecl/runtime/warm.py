"""The warm parent: the service's main process. It has imported all daemons, forks them, and reaps whatever ends.

One thread, no reactor, nothing that could block or fail while a node's life hangs on it. It keeps reqd alive; which
other daemons run is reqd's word (`Fork`, `End`). As the subreaper of everything below it, it also sees the exit codes
of applications' processes whose reqd has died, and keeps them for the next reqd.

When it dies, the daemons live on; only what dies after it stays dead for the moment. The next one finds them by the
locks they hold, and takes them over: it watches their pidfds, and reqd dials it. It starts a daemon only when nobody
holds that one's lock. (docs/decisions/0003-the-warm-parent-may-die.md)
"""

import gc
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from truecl import __version__
from truecl.model.ids import REQD, DaemonName
from truecl.runtime import locks
from truecl.runtime.clock import Clock
from truecl.runtime.line import ReqdLine
from truecl.runtime.log import Log
from truecl.runtime.paths import Paths
from truecl.runtime.process import (
    BY_HAND,
    EXIT_BUSY,
    Account,
    CannotStart,
    Daemon,
    Edge,
    Loaded,
    begin,
    claim,
    lock_of,
    prctl,
    prepare_directories,
    set_title,
)
from truecl.wire.messages import UNSEEN, End, Exited, Fork, Forked, Living

PR_SET_CHILD_SUBREAPER = 36
RESTART_WINDOW = 10.0
FIRST_DELAY = 0.1
LAST_DELAY = 5.0
MAX_ORPHANS = 1024
STOP_TIMEOUT = 120.0
"""Seconds that reqd has for stopping the applications when the service is stopped."""
END_GRACE = 3.0
"""Seconds between TERM and KILL for the other daemons then."""
STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})

Main = Callable[[Daemon], None]


class Restarts:
    """When a daemon that died may start again: the first time at once, then after delays that double.

    A death counts while it is younger than RESTART_WINDOW seconds, or than the delay that followed it.
    """

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=16)

    def died(self, now: float) -> float:
        """Seconds to wait."""
        while self._deaths and now - self._deaths[0] > RESTART_WINDOW:
            self._deaths.popleft()
        self._deaths.append(now)
        before = len(self._deaths) - 1
        return 0.0 if before == 0 else min(LAST_DELAY, FIRST_DELAY * 2.0 ** (before - 1))


@dataclass
class _Child:
    """A living daemon. `pidfd`: it was found alive and is watched by this; -1: it is a child, and is reaped."""

    pid: int
    pidfd: int = -1
    outdated: bool = False
    """Of another version of truecl."""
    kill_at: float | None = None

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, number)
            else:  # not reaped yet, so the process id is still its own
                os.kill(self.pid, number)


def alone(paths: Paths) -> None:
    """The service's own lock, held as long as this process lives. Raises CannotStart."""
    try:
        paths.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"{paths.run}: {error.strerror}") from error
    # The lock of one that died is gone before anybody hears of its death: there is nothing to wait for.
    claim(lock_of(paths, "truecld"), "truecl runs already on this node", 0.0)


class WarmParent:
    """`mains`: what each daemon runs after its fork; `load` reads the configuration as it is now (and may cache).

    The caller has the service's lock (`alone`).
    """

    def __init__(
        self,
        paths: Paths,
        mains: Mapping[DaemonName, Main],
        load: Callable[[], Loaded],
        account: Account | None,
        clock: Clock,
        log: Log,
        stop_timeout: float = STOP_TIMEOUT,
    ) -> None:
        self._paths = paths
        self._mains = mains
        self._load = load
        self._account = account
        self._clock = clock
        self._log = log
        self._stop_timeout = stop_timeout
        self._living: dict[DaemonName, _Child] = {}
        self._orphans: deque[Exited] = deque(maxlen=MAX_ORPHANS)
        self._restarts = Restarts()
        self._start_at: float | None = None
        """When reqd is to be started."""
        self._stop_by: float | None = None
        self._ending = False
        """The other daemons are being ended, reqd is gone."""
        self._signals: set[int] = set()
        self._wake = (-1, -1)
        self._poll = select.poll()

    def run(self) -> int:
        """Until the service is stopped; the exit code. Raises CannotStart."""
        prepare_directories(self._paths, self._account)
        self._prepare()
        self._log.info("started")
        self._find()
        self._start_at = self._clock.now()
        while True:
            now = self._clock.now()
            if self._start_at is not None and now >= self._start_at:
                self._start_at = None
                self._start_reqd()
            self._kill_late(now)
            if self._ending and not self._others():
                self._log.info("stopped")
                return 0
            self._wait(now)
            self._take_signals()
            self._reap()

    def _others(self) -> dict[DaemonName, _Child]:
        """The living ones without reqd."""
        return {name: child for name, child in self._living.items() if name != REQD}

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with suppress(OSError):
            set_title("truecld")
        os.chdir("/")
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._noted)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        self._poll.register(self._wake[0], select.POLLIN)
        try:
            self._line = ReqdLine(
                self._paths.run, self._poll, self._log, obey=self._obey, greet=self._greet, broken=self._broken
            )
        except OSError as error:
            raise CannotStart(f"no socket for reqd in {self._paths.run}: {error.strerror or error}") from error
        # What is imported by now is never collected, so that the children go on sharing it. Nor do they displace names
        # from the interpreter's cache of attributes: that would copy the page of each such name, half a MB in a daemon.
        gc.collect()
        gc.freeze()
        sys._clear_type_cache()

    def _noted(self, number: int, frame: FrameType | None) -> None:
        self._signals.add(number)

    def _wait(self, now: float) -> None:
        times = [self._start_at, self._stop_by, *(child.kill_at for child in self._living.values())]
        known = [each for each in times if each is not None]
        timeout = None if not known else max(0.0, min(known) - now) * 1000.0 + 1.0
        reqd = self._living.get(REQD)
        for descriptor, events in self._poll.poll(timeout):
            if descriptor == self._wake[0]:
                with suppress(BlockingIOError):
                    os.read(descriptor, 4096)
            elif name := next((name for name, child in self._living.items() if child.pidfd == descriptor), None):
                self._forget(self._living[name])
                self._ended(name, UNSEEN)
            else:
                self._line.happened(descriptor, events, None if reqd is None else reqd.pid)

    def _take_signals(self) -> None:
        taken, self._signals = self._signals, set()
        if taken & STOPPING and self._stop_by is None and not self._ending:
            self._log.info("told to stop: reqd stops the applications first")
            self._stop_by = self._clock.now() + self._stop_timeout
            if REQD in self._living:
                self._living[REQD].signal(signal.SIGTERM)

    def _kill_late(self, now: float) -> None:
        if self._stop_by is not None and now >= self._stop_by:
            self._log.error(f"reqd did not end within {self._stop_timeout:g} s; its watchdog decides what is left")
            self._stop_by = None
            self._start_at = None
            if REQD in self._living:
                self._living[REQD].signal(signal.SIGKILL)
            self._end_all()
        for child in self._living.values():
            if child.kill_at is not None and now >= child.kill_at:
                child.kill_at = None
                child.signal(signal.SIGKILL)

    def _end_all(self) -> None:
        self._ending = True
        self._find()
        for child in self._others().values():
            child.signal(signal.SIGTERM)
            child.kill_at = self._clock.now() + END_GRACE

    # ---- children ---------------------------------------------------------------------------------------------------

    def _find(self) -> None:
        """The other daemons that an earlier parent has left."""
        for name in self._mains:
            if name != REQD and name not in self._living:
                self._adopt(name)

    def _adopt(self, name: DaemonName) -> _Child | None:
        """The one that runs already; None: none does, or it was started by hand and is nobody's but its starter's."""
        try:
            found = locks.holder(lock_of(self._paths, name))
        except OSError as error:
            self._log.error(f"{lock_of(self._paths, name)}: {error.strerror}")
            return None
        if found is None:
            return None
        if found.note == BY_HAND:
            os.close(found.pidfd)
            return None
        child = self._living[name] = _Child(found.pid, found.pidfd, found.note != __version__)
        self._poll.register(found.pidfd, select.POLLIN)
        age = f", and is of truecl {found.note or 'unknown'}" if child.outdated else ""
        self._log.info(f"{name} runs already, as process {found.pid}{age}: taken over")
        return child

    def _forget(self, child: _Child) -> None:
        self._poll.unregister(child.pidfd)
        os.close(child.pidfd)

    def _start_reqd(self) -> None:
        """Or takes over the one that runs. An outdated one is killed after the fork of its successor, which waits for
        its lock: whenever this process dies, one of the two is there."""
        old = self._adopt(REQD)
        if old is None or old.outdated:
            fresh = self._fork(REQD)
            if fresh is None:
                self._start_at = self._clock.now() + LAST_DELAY if old is None else None
            elif old is not None:
                old.signal(signal.SIGKILL)
                self._forget(old)
        if self._stop_by is not None and REQD in self._living:
            self._living[REQD].signal(signal.SIGTERM)

    def _fork(self, name: DaemonName) -> _Child | None:
        """None when the kernel gives no process.

        TERM stays blocked in the child until it can act on it (`Daemon.run`).
        """
        loaded = self._load()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            pid = os.fork()
            if pid == 0:
                with Edge(self._log.error) as edge:
                    self._child(name, loaded, edge)
        except OSError as error:
            self._log.error(f"{name} cannot be started: {error.strerror}")
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        self._log.info(f"{name} started as process {pid}")
        child = self._living[name] = _Child(pid)
        return child

    def _child(self, name: DaemonName, loaded: Loaded, edge: Edge) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        edge.say = _say
        close_all_but({0, 1, 2})
        with suppress(OSError):
            set_title(name)
        daemon = begin(name, self._paths, loaded, self._account)
        edge.say = daemon.log.error
        self._mains[name](daemon)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            own = (name for name, child in self._living.items() if child.pid == pid and child.pidfd < 0)
            if name := next(own, None):
                self._ended(name, code)
            else:
                self._orphans.append(Exited(pid, code))
                self._line.tell(Exited(pid, code))

    def _ended(self, name: DaemonName, status: int) -> None:
        child = self._living.pop(name)
        if name == REQD:
            self._reqd_ended(status)
            return
        self._log.info(f"{name} (process {child.pid}) {words(status)}")
        self._line.tell(Exited(child.pid, status, name))

    def _reqd_ended(self, status: int) -> None:
        # What it had asked for and was not read yet is void: the next one asks anew.
        self._line.hang_up()
        if self._ending:
            return
        if self._stop_by is not None and status == 0:
            self._log.info("reqd has stopped the applications")
            self._stop_by = None
            self._end_all()
            return
        # Also one that was seen by nobody to end well when told to stop: the next one finds everything stopped.
        delay = self._restarts.died(self._clock.now())
        self._log.error(f"reqd {words(status)}; starting it again {f'in {delay:g} s' if delay else 'at once'}")
        self._start_at = self._clock.now() + delay

    # ---- reqd's word ------------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        self._line.tell(
            Living(tuple(Forked(name, child.pid, child.outdated) for name, child in self._others().items()))
        )
        for orphan in self._orphans:
            self._line.tell(orphan)

    def _obey(self, message: Any) -> None:
        match message:
            case Fork(daemon=name) if name in self._mains and name != REQD:
                child = self._living.get(name) or self._adopt(name) or self._fork(name)
                if child is None:
                    self._line.tell(Exited(0, EXIT_BUSY, name))
                else:
                    self._line.tell(Forked(name, child.pid, child.outdated))
            case End(daemon=name, grace=grace) if name in self._others():
                child = self._living[name]
                child.signal(signal.SIGTERM if grace > 0 else signal.SIGKILL)
                if child.kill_at is None:
                    child.kill_at = self._clock.now() + max(0.0, min(grace, STOP_TIMEOUT))
            case _:
                self._log.warning(f"reqd asks for what cannot be: {message!r:.200}")

    def _broken(self, why: str) -> None:
        self._log.error(f"reqd {why}, and is killed")
        if REQD in self._living:
            self._living[REQD].signal(signal.SIGKILL)


def close_all_but(kept: set[int]) -> None:
    """A fork ignores close-on-exec: locks, the parent's ends of pipes, other daemons' sockets would stay open here."""
    for entry in sorted(Path("/proc/self/fd").iterdir()):
        descriptor = int(entry.name)
        if descriptor not in kept:
            with suppress(OSError):
                os.close(descriptor)


def words(status: int) -> str:
    if status == UNSEEN:
        return "ended; nobody saw how"
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _say(text: str) -> None:
    """Before there is a log of its own: to the service's standard error."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
