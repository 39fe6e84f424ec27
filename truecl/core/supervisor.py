"""Keeps this node's daemons running: the first death is mended at once, back-off begins with the second.

The warm parent forks and reaps; this decides. A daemon is up once it said `Ready` over reqd's socket. The parent may
die and be followed by another: what is asked for in between is lost, so the next one's `Living` is compared with what
is wanted. Daemons of another version of truecl than the parent's are replaced one at a time (an upgrade).

A daemon that hangs keeps its sockets and its lock: nobody else does its work, and no death says so. So each is asked
again and again whether it is `Ready`, and one that does not answer is killed. The parent is asked for a daemon that
runs, which it only says again (so does one of any release); killed, it is followed by another, and nobody misses it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from truecl.core.contract import EXIT_JOURNAL, EXIT_OUTDATED
from truecl.core.happenings import Happening
from truecl.core.outbox import Outbox
from truecl.model.actions import KillParent
from truecl.model.ids import DAEMONS, REQD, DaemonName
from truecl.model.report import Severity
from truecl.wire.messages import UNSEEN, End, Exited, Fork, Forked, Living, Ready

PARENT = "parent"
"""The warm parent's name on the local bus."""
FIRST_BACKOFF = 0.1
MAX_BACKOFF = 5.0
FORGET_AFTER = 60.0
"""Seconds after which a death no longer counts."""
REPLACEMENT_TIME = 5.0
"""Seconds for a replaced daemon to be up again, before the next one's turn."""
LOOK_EVERY = 1.0
"""Seconds between two looks whether all daemons answer. reqd wakes that often anyway, so they have no timer."""
MAX_UNANSWERED = 4
"""Looks in a row without an answer, at the next one of which a daemon is killed. They are counted, not timed: a node
that stood still as a whole has had none."""
MAX_NOTED = 3
"""Deaths within FORGET_AFTER that go to the history; of one that dies all the time no more is to be learnt."""
HUNG = f"hangs: no answer for {MAX_UNANSWERED * LOOK_EVERY:g} s"


@dataclass
class _Child:
    wanted: bool = False
    forked: bool = False
    pid: int | None = None
    ready: bool = False
    restart_at: float | None = None
    outdated: bool = False
    replaced: bool = False
    """Its KILL was asked for, to start the present version in its place: no death to learn from."""
    unanswered: int = 0
    """Looks since it last said that it is ready."""
    deaths: list[float] = field(default_factory=list)
    last: str = "not started"


class Supervisor:
    """`note` takes what is for the history."""

    def __init__(self, outbox: Outbox, note: Callable[[Happening], None]) -> None:
        self._out, self._note = outbox, note
        self._children = {daemon: _Child() for daemon in DAEMONS if daemon != "reqd"}
        self._look_at = 0.0
        self._parent_unanswered: int | None = None
        """Looks since the parent's last word; None: it is not asked before it greets."""
        self._replacing: tuple[DaemonName, float] | None = None
        """Whose turn it is, and until when."""

    @property
    def wake_at(self) -> float | None:
        times = [each.restart_at for each in self._children.values() if each.restart_at is not None]
        if self._replacing is not None:
            times.append(self._replacing[1])
        return min(times, default=None)

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

    def parent_lives(self) -> None:
        """Whatever it said."""
        if self._parent_unanswered is not None:
            self._parent_unanswered = 0

    def living(self, message: Living, now: float) -> None:
        """A line to a parent begins: at this daemon's start, or because the former parent has died."""
        self._parent_unanswered = 0
        alive = {each.daemon: each for each in message.daemons}
        for daemon, child in self._children.items():
            if daemon in alive:
                self.forked(alive[daemon])
                if not child.wanted:
                    self._out.tell(PARENT, End(daemon))
            elif child.pid is not None:
                self.exited(Exited(child.pid, UNSEEN, daemon), now)
            elif child.forked and child.wanted:
                self._fork(daemon, child)
            elif child.forked:
                child.forked, child.last = False, "stopped"
        self._replace(now)

    def forked(self, message: Forked) -> None:
        child = self._children.get(message.daemon)
        if child is None:
            return
        if not child.forked:  # an orphan of an earlier reqd; a child of this one may be unwanted again by now
            child.forked = child.wanted = True
            child.last, child.restart_at = "starting", None
        child.pid, child.outdated = message.pid, message.outdated

    def ready(self, daemon: DaemonName, now: float) -> None:
        child = self._children.get(daemon)
        if child is not None and child.forked and not child.replaced:
            child.ready, child.unanswered = True, 0
            self._replace(now)

    def exited(self, message: Exited, now: float) -> None:
        child = self._children.get(message.daemon) if message.daemon is not None else None
        if child is None or (child.pid is not None and child.pid != message.pid):
            return
        replaced = child.replaced
        child.forked, child.ready, child.pid, child.outdated, child.replaced = False, False, None, False, False
        child.last = "stopped" if not child.wanted else ending(message.status)
        if not child.wanted:
            return
        if not replaced:
            child.deaths = [each for each in child.deaths if now - each < FORGET_AFTER] + [now]
            if len(child.deaths) <= MAX_NOTED:
                text = f"{message.daemon} died and is started again: {child.last}"
                self._note(Happening(REQD, Severity.WARN, text))
        if replaced or len(child.deaths) == 1:
            assert message.daemon is not None
            self._fork(message.daemon, child)
        else:
            exponent = min(len(child.deaths) - 2, 16)
            child.restart_at = now + min(FIRST_BACKOFF * 2**exponent, MAX_BACKOFF)

    def wake(self, now: float) -> None:
        for daemon, child in self._children.items():
            if child.restart_at is not None and now >= child.restart_at:
                self._fork(daemon, child)
        self._replace(now)
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._look()
            self._look_at_parent()

    def _look_at_parent(self) -> None:
        known = next((daemon for daemon, child in self._children.items() if child.ready and child.wanted), None)
        if known is None or self._parent_unanswered is None:
            return
        if self._parent_unanswered < MAX_UNANSWERED:
            self._parent_unanswered += 1
            self._out.tell(PARENT, Fork(known))
        else:
            self._parent_unanswered = None
            self._note(Happening(REQD, Severity.WARN, f"truecld {HUNG}; it is killed"))
            self._out.do(KillParent())

    def _look(self) -> None:
        """By KILL, as in `_replace`; and nothing else ends a process that was stopped. One of an older release is about
        to be replaced, and may not know the question."""
        for daemon, child in self._children.items():
            if not child.ready or child.outdated:
                continue
            if child.unanswered < MAX_UNANSWERED:
                child.unanswered += 1
                self._out.tell(daemon, Ready(REQD, 0))
            else:
                child.ready, child.last = False, HUNG
                self._note(Happening(REQD, Severity.WARN, f"{daemon} {HUNG}; it is killed"))
                self._out.tell(PARENT, End(daemon, 0.0))

    def _replace(self, now: float) -> None:
        """The next outdated daemon's turn, once the one before is up again or its time is over.

        By KILL: hbd takes TERM for the end of the service, and says goodbye to the other nodes.
        """
        if self._replacing is not None:
            daemon, until = self._replacing
            child = self._children[daemon]
            if child.wanted and not child.ready and now < until:
                return
            self._replacing = None
        for daemon, child in self._children.items():
            if child.outdated and child.wanted:
                child.outdated, child.replaced, child.ready = False, True, False
                self._replacing = daemon, now + REPLACEMENT_TIME
                self._out.tell(PARENT, End(daemon, 0.0))
                return


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status == UNSEEN:
        return "ended while truecld was away"
    if status == EXIT_OUTDATED:
        return "this release is too old for the cluster's log: install here what the other nodes run"
    if status == EXIT_JOURNAL:
        return "its journal cannot be used: the end of its log says which file, and what to do"
    return f"killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
