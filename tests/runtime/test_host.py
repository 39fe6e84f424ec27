"""The host's order, and what it does when a save, an action or the core itself fails."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as Time

from truecl.core.contract import (
    NOTHING,
    Connected,
    Do,
    Done,
    Event,
    Noted,
    Output,
    Put,
    Received,
    Save,
    Send,
    Tell,
    Told,
    Woke,
)
from truecl.model.ids import NodeName
from truecl.runtime.host import MAX_WAITING, Host
from truecl.runtime.journal import JournalFailed, JournalFault, JournalFull

A, B = NodeName("a"), NodeName("b")
SAVE = Put("log", 1, b"entry")
FULL = Noted("journal full")


class Script:
    """A core that answers each event with what the test laid out for it, and writes down what it was given."""

    def __init__(self, answers: dict[Any, Output], begin: Output = NOTHING) -> None:
        self.answers = answers
        self.begin = begin
        self.seen: list[tuple[Event, float]] = []

    def start(self, now: float) -> Output:
        return self.begin

    def handle(self, event: Event, now: float) -> Output:
        self.seen.append((event, now))
        if isinstance(event, Told) and event.message == "defect":
            raise ValueError("a defect in the core")
        return self.answers.get(event, Output())

    @property
    def events(self) -> list[Event]:
        return [event for event, _ in self.seen]


@dataclass
class World:
    """Everything around the host, recording the order of what happens."""

    core: Script
    when_full: Event | None = None
    done: list[Any] = field(default_factory=list)
    full: int = 0
    broken: bool = False
    ballast: bool = True
    during_send: tuple[Event, ...] = ()
    time: Time = field(default_factory=Time)
    actions: dict[str, Deferred[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.host = Host(
            self.core,
            clock=self,
            timers=self.time,
            journal=self,
            mesh=self,
            bus=self,
            actions=self.act,
            failed=lambda action, error: ("failed", action, str(error)),
            on_failed_save=lambda fault: self.done.append(type(fault)),
            on_defect=self.done.append,
            on_outdated=self.done.append,
            when_full=self.when_full,
        )

    def now(self) -> float:
        return self.time.seconds()

    def save(self, saves: Iterable[Save]) -> None:
        if self.broken:
            raise JournalFailed("disk I/O error")
        if self.full > 0:
            self.full -= 1
            raise JournalFull("full")
        self.done.append(("save", *saves))

    def release(self) -> bool:
        self.done.append("release")
        return self.ballast

    def send(self, node: NodeName, message: Any) -> None:
        self.done.append(("send", node, message))
        events, self.during_send = self.during_send, ()
        for event in events:
            self.host.feed(event)

    def tell(self, who: str, message: Any) -> None:
        self.done.append(("tell", who, message))

    def act(self, action: str) -> Deferred[Any]:
        self.done.append(("do", action))
        if action == "raise":
            raise OSError("no such driver")
        return self.actions.setdefault(action, Deferred())


ALL = Output(save=(SAVE,), send=(Send(A, 1), Send(B, 2)), do=(Do(7, "mount"),), tell=(Tell("statd", 3),), wake_at=5.0)
ORDER = [("save", SAVE), ("send", A, 1), ("send", B, 2), ("do", "mount"), ("tell", "statd", 3)]


def test_an_output_is_carried_out_in_the_contracts_order() -> None:
    world = World(Script({Connected(A): ALL}))
    world.host.feed(Connected(A))
    assert world.done == ORDER
    world.time.advance(4.9)
    assert Woke() not in world.core.events
    world.time.advance(0.2)
    assert world.core.events == [Connected(A), Woke()]


def test_start_is_carried_out_too() -> None:
    world = World(Script({}, begin=ALL))
    world.host.start()
    assert world.done == ORDER


def test_an_event_that_comes_during_an_output_waits_until_it_is_carried_out() -> None:
    second = Output(send=(Send(B, "second"),))
    world = World(Script({Connected(A): ALL, Connected(B): second}))
    world.during_send = (Connected(B),)
    world.host.feed(Connected(A))
    assert world.done == [*ORDER, ("send", B, "second")]


def test_nothing_after_a_failed_save_happens_and_nothing_is_handled_any_more() -> None:
    world = World(Script({Connected(A): ALL}))
    world.broken = True
    world.host.feed(Connected(A))
    world.host.feed(Connected(B))
    world.time.advance(100)
    assert world.done == [JournalFailed]
    assert world.core.events == [Connected(A)]
    assert world.host.dead


def test_a_full_disk_without_a_plan_for_it_ends_the_daemon() -> None:
    world = World(Script({Connected(A): ALL}), full=1)
    world.host.feed(Connected(A))
    assert world.done == [JournalFull]


def test_a_full_disk_gives_the_ballast_and_tells_the_core_after_the_output() -> None:
    closing = Output(save=(Put("log", 2, b"closed"),))
    world = World(Script({Connected(A): ALL, FULL: closing}), when_full=FULL, full=1)
    world.host.feed(Connected(A))
    assert world.done == ["release", *ORDER, ("save", Put("log", 2, b"closed"))]
    assert world.core.events == [Connected(A), FULL]


def test_a_full_disk_whose_ballast_is_used_up_ends_the_daemon() -> None:
    for world in (World(Script({Connected(A): ALL}), when_full=FULL, full=2), World(Script({Connected(A): ALL}))):
        world.ballast, world.full = world.full == 2, 2
        world.host.feed(Connected(A))
        assert world.done[-1] is JournalFull
        assert ("send", A, 1) not in world.done


def test_an_actions_end_is_one_done_whatever_it_is() -> None:
    orders = Output(do=(Do(1, "mount"), Do(2, "raise"), Do(3, "umount")))
    world = World(Script({Connected(A): orders}))
    world.host.feed(Connected(A))
    assert world.core.events == [Connected(A), Done(2, ("failed", "raise", "no such driver"))]
    world.actions["umount"].errback(TimeoutError("hangs"))
    world.actions["mount"].callback("mounted")
    assert world.core.events[2:] == [Done(3, ("failed", "umount", "hangs")), Done(1, "mounted")]


def test_a_defect_in_the_core_ends_the_daemon_with_the_last_events() -> None:
    world = World(Script({}))
    world.host.feed(Connected(A))
    world.host.feed(Told("lha_stat", "defect"))
    world.host.feed(Connected(B))
    assert world.host.dead
    [report] = world.done
    assert "a defect in the core" in report
    assert "Connected(node='a')" in report
    assert "Connected(node='b')" not in report


def test_waiting_events_are_bounded_and_only_messages_are_lost() -> None:
    world = World(Script({Connected(A): ALL}))

    world.during_send = tuple(Received(A, number) for number in range(MAX_WAITING + 10)) + (Done(7, "kept"),)
    world.host.feed(Connected(A))
    assert len(world.core.events) == MAX_WAITING + 1
    assert world.core.events[-1] == Done(7, "kept")
    assert world.core.events[1] == Received(A, 11)


def test_now_never_goes_back() -> None:
    world = World(Script({}))
    world.time.advance(10)
    world.host.feed(Connected(A))
    world.time.rightNow = 3.0
    world.host.feed(Connected(B))
    assert [now for _, now in world.core.seen] == [10.0, 10.0]


def test_a_fault_is_a_journal_fault() -> None:
    assert issubclass(JournalFull, JournalFault)
