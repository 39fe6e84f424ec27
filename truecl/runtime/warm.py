"""The warm parent: the service's main process. It has imported all daemons, forks them, and reaps whatever ends.

One thread, no reactor, nothing that could block or fail while a node's life hangs on it. It starts reqd and keeps it
alive; which other daemons run is reqd's word (`Fork`, `End`). As the subreaper of everything below it, it also sees the
exit codes of applications' processes whose reqd has died, and keeps them for the next reqd.

When it dies itself, the kernel kills the daemons (PR_SET_PDEATHSIG, and a pipe that ends); applications run on. A new
warm parent waits for the lock, its reqd for the old one's lock, and adopts.
"""

import gc
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from truecl.model.ids import REQD, DaemonName
from truecl.runtime.clock import Clock
from truecl.runtime.log import Log
from truecl.runtime.process import (
    EXIT_BUSY,
    Account,
    Daemon,
    Edge,
    Loaded,
    ParentLink,
    Paths,
    begin,
    claim,
    prctl,
    prepare_directories,
    set_title,
)
from truecl.wire.codec import Codec, Framer, ProtocolFault
from truecl.wire.messages import PARENT, End, Exited, Fork, Forked

PR_SET_CHILD_SUBREAPER = 36
RESTART_WINDOW = 10.0
FIRST_DELAY = 0.1
LAST_DELAY = 5.0
MAX_ORPHANS = 1024
MAX_WAITING = 8192
STOP_TIMEOUT = 120.0
"""Seconds that reqd has for stopping the applications when the service is stopped."""
END_GRACE = 3.0
"""Seconds between TERM and KILL for the other daemons then."""
LOCK_PATIENCE = 5.0

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
class _Reqd:
    """The present reqd and the stream to it."""

    pid: int
    connection: socket.socket
    framer: Framer = field(default_factory=Framer)
    waiting: deque[bytes] = field(default_factory=deque)


class WarmParent:
    """`mains`: what each daemon runs after its fork; `load` reads the configuration as it is now (and may cache)."""

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
        self._codec = Codec(PARENT)
        self._daemons: dict[DaemonName, int] = {}
        """Living ones, reqd not among them."""
        self._kills: dict[int, float] = {}
        """Process id to when it is killed."""
        self._orphans: deque[Exited] = deque(maxlen=MAX_ORPHANS)
        self._reqd: _Reqd | None = None
        self._restarts = Restarts()
        self._start_at: float | None = None
        self._stop_by: float | None = None
        self._ending = False
        """The other daemons are being ended, reqd is gone."""
        self._signals: set[int] = set()
        self._wake = (-1, -1)
        self._lifeline = (-1, -1)
        self._poll = select.poll()

    def run(self) -> int:
        """Until the service is stopped; the exit code. Raises CannotStart."""
        prepare_directories(self._paths, self._account)
        lock = claim(self._paths.run / "truecld.lock", "truecl runs already on this node", LOCK_PATIENCE)
        self._prepare()
        self._log.info("started")
        self._start_at = self._clock.now()
        while True:
            now = self._clock.now()
            if self._start_at is not None and now >= self._start_at:
                self._start_at = None
                self._start_reqd()
            self._kill_late(now)
            if self._ending and not self._daemons:
                self._log.info("stopped")
                os.close(lock)
                return 0
            self._wait(now)
            self._take_signals()
            self._reap()

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with suppress(OSError):
            set_title("truecld")
        os.chdir("/")
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lifeline = os.pipe2(os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._noted)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._poll.register(self._wake[0], select.POLLIN)
        # What is imported by now is never collected, so that the children go on sharing it.
        gc.collect()
        gc.freeze()

    def _noted(self, number: int, frame: FrameType | None) -> None:
        self._signals.add(number)

    def _wait(self, now: float) -> None:
        times = [*self._kills.values(), *(each for each in (self._start_at, self._stop_by) if each is not None)]
        timeout = None if not times else max(0.0, min(times) - now) * 1000.0 + 1.0
        for descriptor, events in self._poll.poll(timeout):
            if descriptor == self._wake[0]:
                with suppress(BlockingIOError):
                    os.read(descriptor, 4096)
            elif self._reqd is not None and descriptor == self._reqd.connection.fileno():
                if events & select.POLLOUT:
                    self._flush(self._reqd)
                if events & ~select.POLLOUT:
                    self._listen(self._reqd)

    def _take_signals(self) -> None:
        taken, self._signals = self._signals, set()
        if taken & {signal.SIGTERM, signal.SIGINT} and self._stop_by is None and not self._ending:
            self._log.info("told to stop: reqd stops the applications first")
            self._stop_by = self._clock.now() + self._stop_timeout
            if self._reqd is not None:
                _signal(self._reqd.pid, signal.SIGTERM)

    def _kill_late(self, now: float) -> None:
        if self._stop_by is not None and now >= self._stop_by:
            self._log.error(f"reqd did not end within {self._stop_timeout:g} s; its watchdog decides what is left")
            self._stop_by = None
            self._start_at = None
            if self._reqd is not None:
                _signal(self._reqd.pid, signal.SIGKILL)
            self._end_all()
        for pid in [pid for pid, at in self._kills.items() if now >= at]:
            del self._kills[pid]
            _signal(pid, signal.SIGKILL)

    def _end_all(self) -> None:
        self._ending = True
        for pid in self._daemons.values():
            _signal(pid, signal.SIGTERM)
            self._kills[pid] = self._clock.now() + END_GRACE

    # ---- children ---------------------------------------------------------------------------------------------------

    def _start_reqd(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        pid = self._fork(REQD, theirs)
        theirs.close()
        if pid is None:
            ours.close()
            self._start_at = self._clock.now() + LAST_DELAY
            return
        ours.setblocking(False)
        self._reqd = _Reqd(pid, ours)
        self._poll.register(ours, select.POLLIN)
        for orphan in self._orphans:
            self._tell(orphan)
        for name, living in self._daemons.items():
            self._tell(Forked(name, living))
        if self._stop_by is not None:
            _signal(pid, signal.SIGTERM)

    def _fork(self, name: DaemonName, connection: socket.socket | None) -> int | None:
        """The child's process id, None when the kernel gives none.

        TERM stays blocked in the child until it can act on it (`Daemon.run`).
        """
        loaded = self._load()
        blocked = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        try:
            pid = os.fork()
            if pid == 0:
                with Edge(self._log.error) as edge:
                    self._child(name, loaded, connection, edge)
        except OSError as error:
            self._log.error(f"{name} cannot be started: {error.strerror}")
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        self._log.info(f"{name} started as process {pid}")
        return pid

    def _child(self, name: DaemonName, loaded: Loaded, connection: socket.socket | None, edge: Edge) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        kept = {0, 1, 2, self._lifeline[0]}
        link = None
        if connection is not None:
            kept.add(connection.fileno())
            link = ParentLink(connection)
        edge.say = _say
        close_all_but(kept)
        with suppress(OSError):
            set_title(name)
        daemon = begin(name, self._paths, loaded, self._account, lifeline=self._lifeline[0], parent=link)
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
            self._kills.pop(pid, None)
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, status: int) -> None:
        if self._reqd is not None and pid == self._reqd.pid:
            self._reqd_ended(status)
            return
        name = next((name for name, living in self._daemons.items() if living == pid), None)
        exited = Exited(pid, status, name)
        if name is None:
            self._orphans.append(exited)
        else:
            del self._daemons[name]
            self._log.info(f"{name} (process {pid}) {words(status)}")
        self._tell(exited)

    def _reqd_ended(self, status: int) -> None:
        if self._reqd is not None:
            # What it had asked for and was not read yet is void: the next one asks anew.
            self._poll.unregister(self._reqd.connection)
            self._reqd.connection.close()
            self._reqd = None
        if self._ending:
            return
        if self._stop_by is not None and status == 0:
            self._log.info("reqd has stopped the applications")
            self._stop_by = None
            self._end_all()
            return
        delay = self._restarts.died(self._clock.now())
        self._log.error(f"reqd {words(status)}; starting it again {f'in {delay:g} s' if delay else 'at once'}")
        self._start_at = self._clock.now() + delay

    # ---- reqd's word ------------------------------------------------------------------------------------------------

    def _listen(self, reqd: _Reqd) -> None:
        try:
            data = reqd.connection.recv(65536)
            messages = [self._codec.decode(payload) for payload in reqd.framer.feed(data)]
        except BlockingIOError:
            return
        except ConnectionResetError:
            data, messages = b"", []
        except ProtocolFault as fault:
            self._log.error(f"reqd speaks nonsense and is killed: {fault}")
            data, messages = b"", []
            _signal(reqd.pid, signal.SIGKILL)
        if not data:
            # It is ending; the rest follows when it is reaped.
            self._poll.modify(reqd.connection, 0)
        for message in messages:
            self._obey(message)

    def _obey(self, message: Any) -> None:
        match message:
            case Fork(daemon=name) if name in self._mains and name != REQD:
                pid = self._daemons.get(name) or self._fork(name, None)
                if pid is None:
                    self._tell(Exited(0, EXIT_BUSY, name))
                    return
                self._daemons[name] = pid
                self._tell(Forked(name, pid))
            case End(daemon=name, grace=grace) if name in self._daemons:
                pid = self._daemons[name]
                _signal(pid, signal.SIGTERM)
                self._kills.setdefault(pid, self._clock.now() + max(0.0, min(grace, STOP_TIMEOUT)))
            case _:
                self._log.warning(f"reqd asks for what cannot be: {message!r:.200}")

    def _tell(self, message: Any) -> None:
        reqd = self._reqd
        if reqd is None:
            return
        if len(reqd.waiting) >= MAX_WAITING:
            self._log.error("reqd does not listen and is killed")
            reqd.waiting.clear()
            _signal(reqd.pid, signal.SIGKILL)
            return
        reqd.waiting.append(self._codec.encode(message))
        self._flush(reqd)

    def _flush(self, reqd: _Reqd) -> None:
        try:
            while reqd.waiting:
                sent = reqd.connection.send(reqd.waiting[0], socket.MSG_NOSIGNAL)
                if sent == len(reqd.waiting[0]):
                    reqd.waiting.popleft()
                else:
                    reqd.waiting[0] = reqd.waiting[0][sent:]
        except BlockingIOError:
            self._poll.modify(reqd.connection, select.POLLIN | select.POLLOUT)
            return
        except OSError:
            reqd.waiting.clear()
            return
        self._poll.modify(reqd.connection, select.POLLIN)


def close_all_but(kept: set[int]) -> None:
    """A fork ignores close-on-exec: locks, the parent's ends of pipes, other daemons' sockets would stay open here."""
    for entry in sorted(Path("/proc/self/fd").iterdir()):
        descriptor = int(entry.name)
        if descriptor not in kept:
            with suppress(OSError):
                os.close(descriptor)


def words(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _signal(pid: int, number: signal.Signals) -> None:
    """To a child that was not reaped yet, so the process id is still its own."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _say(text: str) -> None:
    """Before there is a log of its own: to the service's standard error."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
