"""Keeps this node's daemons running: the first death is mended at once, back-off begins with the second.

The warm parent forks and reaps; this decides. A daemon is up once it said `Ready` over reqd's socket.
"""

from dataclasses import dataclass, field

from truecl.core.outbox import Outbox
from truecl.model.ids import DAEMONS, DaemonName
from truecl.wire.messages import End, Exited, Fork, Forked

PARENT = "parent"
"""The warm parent's name on the local bus."""
FIRST_BACKOFF = 0.1
MAX_BACKOFF = 5.0
FORGET_AFTER = 60.0
"""Seconds after which a death no longer counts."""


@dataclass
class _Child:
    wanted: bool = False
    forked: bool = False
    pid: int | None = None
    ready: bool = False
    restart_at: float | None = None
    deaths: list[float] = field(default_factory=list)
    last: str = "not started"


class Supervisor:
    def __init__(self, outbox: Outbox) -> None:
        self._out = outbox
        self._children = {daemon: _Child() for daemon in DAEMONS if daemon != "reqd"}

    @property
    def wake_at(self) -> float | None:
        return min((each.restart_at for each in self._children.values() if each.restart_at is not None), default=None)

    def up(self) -> tuple[DaemonName, ...]:
        return tuple(daemon for daemon, child in self._children.items() if child.ready)

    def wanted(self) -> tuple[DaemonName, ...]:
        return tuple(daemon for daemon, child in self._children.items() if child.wanted)

    def alive(self) -> tuple[DaemonName, ...]:
        """Still there, wanted or not."""
        return tuple(daemon for daemon, child in self._children.items() if child.forked)

    def states(self) -> dict[DaemonName, str]:
        """For lha_stat."""
        return {daemon: "up" if child.ready else child.last for daemon, child in self._children.items()}

    def start(self, daemons: tuple[DaemonName, ...]) -> None:
        for daemon in daemons:
            child = self._children.get(daemon)
            if child is None:
                continue
            child.wanted = True
            if not child.forked and child.restart_at is None:
                self._fork(daemon, child)

    def stop(self, daemons: tuple[DaemonName, ...]) -> None:
        for daemon in daemons:
            child = self._children.get(daemon)
            if child is None:
                continue
            child.wanted, child.restart_at = False, None
            if child.forked:
                self._out.tell(PARENT, End(daemon))

    def _fork(self, daemon: DaemonName, child: _Child) -> None:
        child.forked, child.ready, child.restart_at, child.last = True, False, None, "starting"
        self._out.tell(PARENT, Fork(daemon))

    def forked(self, message: Forked) -> None:
        """Also at reqd's own restart: the parent names those that live."""
        child = self._children.get(message.daemon)
        if child is None:
            return
        if not child.forked:  # an orphan of an earlier reqd; a child of this one may be unwanted again by now
            child.forked = child.wanted = True
            child.last = "starting"
        child.pid = message.pid

    def ready(self, daemon: DaemonName) -> None:
        child = self._children.get(daemon)
        if child is not None and child.forked:
            child.ready = True

    def exited(self, message: Exited, now: float) -> None:
        child = self._children.get(message.daemon) if message.daemon is not None else None
        if child is None or (child.pid is not None and child.pid != message.pid):
            return
        child.forked, child.ready, child.pid = False, False, None
        child.last = "stopped" if not child.wanted else ending(message.status)
        if not child.wanted:
            return
        child.deaths = [each for each in child.deaths if now - each < FORGET_AFTER] + [now]
        if len(child.deaths) == 1:
            assert message.daemon is not None
            self._fork(message.daemon, child)
        else:
            exponent = min(len(child.deaths) - 2, 16)
            child.restart_at = now + min(FIRST_BACKOFF * 2**exponent, MAX_BACKOFF)

    def wake(self, now: float) -> None:
        for daemon, child in self._children.items():
            if child.restart_at is not None and now >= child.restart_at:
                self._fork(daemon, child)


def ending(status: int) -> str:
    """How a process ended, in words."""
    return f"killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
