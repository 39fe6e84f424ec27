"""Joins one core with this machine: events in, one at a time; outputs carried out in the contract's order.

For each output (truecl/core/contract.py): save and fsync, send, do, tell, re-arm the timer. Events that come while an
output is being carried out wait their turn. When a save fails nothing after it happens, ever: the daemon ends, and the
core is built anew from what the disk really holds. When a core raises, that is a defect: the last events are written
down for the post-mortem, and the daemon ends with EXIT_DEFECT; its supervisor starts it again. (But for Outdated, which
says that this release is not up to what it was given.)
"""

import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from truecl.core.contract import Core, Do, Done, Event, Outdated, Output, Received, Save, Woke
from truecl.model.ids import NodeName
from truecl.runtime.clock import Alarm, Clock, Timers
from truecl.runtime.journal import JournalFault, JournalFull

EXIT_DEFECT = 70
"""EX_SOFTWARE: a core raised, or the events piled up."""
MAX_WAITING = 4096
MAX_RECORDED = 256
MAX_RECORD = 1000


class Store(Protocol):
    def save(self, saves: Iterable[Save]) -> None: ...
    def release(self) -> bool: ...


class Mesh(Protocol):
    def send(self, node: NodeName, message: Any) -> None: ...


class Bus(Protocol):
    def tell(self, who: str, message: Any) -> None: ...


class NoMesh:
    """Of a daemon that speaks to no other node."""

    def send(self, node: NodeName, message: Any) -> None:
        raise AssertionError(f"a daemon without sessions to other nodes sent {type(message).__name__} to {node}")


Actions = Callable[[Any], "Deferred[Any] | Coroutine[Deferred[Any], Any, Any]"]


class Host:
    """One core at work.

    actions -- carries one action out; what it returns at last is the result of `Done`.
    failed -- makes a typed result of an action and the exception that it ended with.
    on_failed_save -- called once, with the fault; logs it and ends the process with EXIT_JOURNAL.
    on_outdated -- called once, with the core's last word; logs it and ends the process with EXIT_OUTDATED.
    on_defect -- called once, with a report of many lines; keeps it and ends the process with EXIT_DEFECT.
    before_timer -- called before the core is woken by its timer; may feed.
    when_full -- the event that tells the core that its journal is full. With it, a save that meets a full disk is
        tried again on the ballast's space, and the core has what is left of that for closing what it has open.
    """

    def __init__(
        self,
        core: Core,
        *,
        clock: Clock,
        timers: Timers,
        journal: Store | None,
        mesh: Mesh,
        bus: Bus,
        actions: Actions,
        failed: Callable[[Any, BaseException], Any],
        on_failed_save: Callable[[JournalFault], None],
        on_defect: Callable[[str], None],
        on_outdated: Callable[[Outdated], None],
        when_full: Event | None = None,
        before_timer: Callable[[], None] = lambda: None,
    ) -> None:
        self.dead = False
        """Nothing is carried out any more; the process is about to end."""
        self.handled = 0
        self._core = core
        self._clock = clock
        self._journal = journal
        self._mesh = mesh
        self._bus = bus
        self._actions = actions
        self._failed = failed
        self._on_failed_save = on_failed_save
        self._on_defect = on_defect
        self._on_outdated = on_outdated
        self._when_full = when_full
        self._alarm = Alarm(timers, clock, lambda: self.feed(Woke()), before_timer)
        self._waiting: deque[Event | None] = deque()
        self._busy = False
        self._now = 0.0
        self._recent: deque[tuple[float, Event | None]] = deque(maxlen=MAX_RECORDED)

    def start(self) -> None:
        """Once, before the first event."""
        self.feed(None)

    def feed(self, event: Event | None) -> None:
        """From any driver, also while an output is carried out. (None is the start.)"""
        if self.dead:
            return
        if len(self._waiting) >= MAX_WAITING and not self._make_room():
            self._die(event, f"more than {MAX_WAITING} events wait")
            return
        self._waiting.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting and not self.dead:
                self._step(self._waiting.popleft())
        finally:
            self._busy = False

    def stop(self) -> None:
        """No more events. What was carried out stays so."""
        self.dead = True
        self._alarm.set(None)

    def report(self, problem: str) -> str:
        """The last events, newest last, for a post-mortem."""
        lines = [f"{at:.6f} {repr(event)[:MAX_RECORD]}" for at, event in self._recent]
        return "\n".join([problem, f"the last {len(lines)} events, newest last:", *lines, ""])

    def _step(self, event: Event | None) -> None:
        self._now = max(self._now, self._clock.now())
        self._recent.append((self._now, event))
        with _Guard(self, event):
            output = self._core.start(self._now) if event is None else self._core.handle(event, self._now)
            self.handled += 1
            self._carry_out(output)

    def _carry_out(self, output: Output) -> None:
        if output.save and not self._save(output.save):
            return
        for send in output.send:
            self._mesh.send(send.node, send.message)
        for do in output.do:
            self._do(do)
        for tell in output.tell:
            self._bus.tell(tell.who, tell.message)
        self._alarm.set(output.wake_at)

    def _save(self, saves: tuple[Save, ...]) -> bool:
        """Whether all of it is on the disk."""
        if self._journal is None:
            raise AssertionError("a core without a journal has something to save")
        try:
            try:
                self._journal.save(saves)
            except JournalFull:
                if self._when_full is None or not self._journal.release():
                    raise
                self._journal.save(saves)
                self._waiting.append(self._when_full)
        except JournalFault as fault:
            self.stop()
            self._on_failed_save(fault)
            return False
        return True

    def _do(self, do: Do) -> None:
        """Starts the action. Its end, of whatever kind, is one Done; also when the driver raises at once."""

        def succeeded(result: Any) -> None:
            self.feed(Done(do.id, result))

        def raised(failure: Failure) -> None:
            with _Guard(self, None):
                error = failure.value or RuntimeError(f"{type(do.action).__name__} ended without a result")
                self.feed(Done(do.id, self._failed(do.action, error)))

        maybeDeferred(self._actions, do.action).addCallbacks(succeeded, raised)

    def _make_room(self) -> bool:
        """Messages may be lost; the oldest that waits goes first. Nothing else may."""
        for position, event in enumerate(self._waiting):
            if isinstance(event, Received):
                del self._waiting[position]
                return True
        return False

    def _die(self, event: Event | None, problem: str) -> None:
        self.stop()
        self._on_defect(self.report(f"{problem}\nwhile handling {repr(event)[:MAX_RECORD]}"))


class _Guard:
    """The one place that any exception of a core ends in. It is the process's edge: nothing is carried on with."""

    def __init__(self, host: Host, event: Event | None) -> None:
        self._host = host
        self._event = event

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if isinstance(error, Outdated):
            self._host.stop()
            self._host._on_outdated(error)
            return True
        self._host._die(self._event, "".join(traceback.format_exception(kind, error, where)).rstrip())
        return True
