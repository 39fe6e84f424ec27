"""The supervisor: the first death is mended at once, and what was told to stop stays stopped."""

import pytest

from truecl.core.outbox import Outbox
from truecl.core.supervisor import (
    FIRST_BACKOFF,
    FORGET_AFTER,
    HUNG,
    LOOK_EVERY,
    MAX_BACKOFF,
    MAX_NOTED,
    MAX_UNANSWERED,
    PARENT,
    REPLACEMENT_TIME,
    Supervisor,
    ending,
)
from truecl.model.actions import KillParent
from truecl.model.ids import HBD, LOCKD, REQD, DaemonName
from truecl.wire.messages import UNSEEN, End, Exited, Fork, Forked, Living, Ready


class Parent:
    def __init__(self) -> None:
        self.out = Outbox()
        self.noted: list[str] = []
        self.supervisor = Supervisor(self.out, lambda happening: self.noted.append(happening.text))
        self.pid = 0

    def told(self) -> list[object]:
        return [tell.message for tell in self.out.take().tell if tell.who == PARENT]

    def fork(self) -> None:
        self.pid += 1
        self.supervisor.forked(Forked(LOCKD, self.pid))

    def die(self, now: float) -> None:
        self.supervisor.exited(Exited(self.pid, -9, LOCKD), now)


def running() -> Parent:
    parent = Parent()
    parent.supervisor.start((LOCKD,))
    assert parent.told() == [Fork(LOCKD)]
    parent.fork()
    parent.supervisor.ready(LOCKD, 0.0)
    return parent


def test_a_daemon_is_up_once_it_said_so() -> None:
    parent = Parent()
    parent.supervisor.start((LOCKD,))
    parent.fork()
    assert parent.supervisor.up() == () and parent.supervisor.alive() == (LOCKD,)
    parent.supervisor.ready(LOCKD, 0.0)
    assert parent.supervisor.up() == (LOCKD,)
    parent.supervisor.ready(HBD, 0.0)
    assert parent.supervisor.up() == (LOCKD,), "nobody forked it"


def test_the_first_death_is_mended_at_once_and_the_next_ones_later_and_later() -> None:
    parent = running()
    parent.die(1.0)
    assert parent.told() == [Fork(LOCKD)]
    waits = []
    for _ in range(12):
        parent.fork()
        parent.die(2.0)
        assert parent.told() == []
        assert parent.supervisor.wake_at is not None
        waits.append(parent.supervisor.wake_at - 2.0)
        parent.supervisor.wake(parent.supervisor.wake_at)
        assert parent.told() == [Fork(LOCKD)]
    assert waits[:2] == pytest.approx([FIRST_BACKOFF, 2 * FIRST_BACKOFF]) and waits[-1] == pytest.approx(MAX_BACKOFF)
    parent.fork()
    parent.die(2.0 + FORGET_AFTER)
    assert parent.told() == [Fork(LOCKD)], "old deaths are forgotten"
    assert len(parent.noted) == MAX_NOTED + 1, "the history is not filled by what dies all the time"


def test_what_is_stopped_stays_stopped() -> None:
    parent = running()
    parent.supervisor.stop((LOCKD,))
    assert parent.told() == [End(LOCKD)]
    parent.die(1.0)
    assert parent.told() == [] and parent.supervisor.alive() == () and parent.supervisor.wake_at is None


def test_a_stop_between_the_order_to_fork_and_its_answer_counts() -> None:
    parent = Parent()
    parent.supervisor.start((LOCKD,))
    parent.supervisor.stop((LOCKD,))
    parent.fork()
    parent.told()
    parent.die(1.0)
    assert parent.told() == []


def test_an_orphan_of_an_earlier_reqd_is_taken_over_and_kept_alive() -> None:
    parent = Parent()
    parent.fork()
    assert parent.supervisor.alive() == parent.supervisor.wanted() == (LOCKD,)
    parent.die(1.0)
    assert parent.told() == [Fork(LOCKD)]


def test_the_end_of_an_older_process_is_not_the_present_one_s() -> None:
    parent = running()
    parent.supervisor.exited(Exited(99, 0, LOCKD), 1.0)
    assert parent.supervisor.up() == (LOCKD,)


def test_a_stop_while_it_waits_to_be_started_again_ends_the_waiting() -> None:
    parent = running()
    for _ in range(2):
        parent.die(1.0)
        parent.fork()
    parent.die(1.0)
    parent.supervisor.stop((LOCKD,))
    assert parent.supervisor.wake_at is None


# ---- another parent -------------------------------------------------------------------------------------------------


def living(*names: DaemonName, pid: int = 1, outdated: bool = False) -> Living:
    return Living(tuple(Forked(name, pid, outdated) for name in names))


def test_a_new_parent_that_has_found_it_changes_nothing() -> None:
    parent = running()
    parent.supervisor.living(living(LOCKD), 1.0)
    assert parent.told() == [] and parent.supervisor.up() == (LOCKD,)


def test_what_died_without_a_parent_is_started_by_the_next_one() -> None:
    parent = running()
    parent.supervisor.living(living(), 1.0)
    assert parent.told() == [Fork(LOCKD)] and parent.supervisor.up() == ()
    parent.fork()
    parent.die(2.0)
    assert parent.told() == [], "that was a death too"


def test_what_was_asked_for_without_a_parent_is_asked_for_again_and_counts_as_no_death() -> None:
    parent = Parent()
    parent.supervisor.start((LOCKD,))
    parent.told()
    parent.supervisor.living(living(), 1.0)
    assert parent.told() == [Fork(LOCKD)]
    parent.fork()
    parent.die(2.0)
    assert parent.told() == [Fork(LOCKD)], "the first death is mended at once"


def test_a_stop_that_no_parent_heard_is_said_again() -> None:
    parent = running()
    parent.supervisor.stop((LOCKD,))
    parent.told()
    parent.supervisor.living(living(LOCKD), 1.0)
    assert parent.told() == [End(LOCKD)]
    parent.supervisor.living(living(), 2.0)
    assert parent.told() == [] and parent.supervisor.alive() == ()
    assert parent.supervisor.states()[LOCKD] == "stopped"


def test_a_start_and_a_stop_that_no_parent_heard_leave_nothing_to_wait_for() -> None:
    parent = Parent()
    parent.supervisor.start((LOCKD,))
    parent.supervisor.stop((LOCKD,))
    parent.told()
    parent.supervisor.living(living(), 1.0)
    assert parent.told() == [] and parent.supervisor.alive() == ()


# ---- an upgrade -----------------------------------------------------------------------------------------------------


def outdated() -> Parent:
    """HBD and LOCKD of another version, found by a fresh reqd."""
    parent = Parent()
    parent.supervisor.living(living(HBD, LOCKD, outdated=True), 0.0)
    return parent


def replaced(parent: Parent, daemon: DaemonName, now: float) -> None:
    parent.supervisor.exited(Exited(1, -9, daemon), now)
    assert parent.told() == [Fork(daemon)]
    parent.supervisor.forked(Forked(daemon, 2))


def test_daemons_of_another_version_are_replaced_one_at_a_time() -> None:
    parent = outdated()
    assert parent.told() == [End(HBD, 0.0)]
    parent.supervisor.ready(HBD, 0.1)
    parent.supervisor.ready(LOCKD, 0.1)
    assert parent.told() == [], "that was the old one, still dying"
    replaced(parent, HBD, 0.2)
    parent.supervisor.ready(HBD, 0.3)
    assert parent.told() == [End(LOCKD, 0.0)]
    replaced(parent, LOCKD, 0.4)
    parent.supervisor.ready(LOCKD, 0.5)
    assert parent.told() == [] and parent.supervisor.up() == (HBD, LOCKD) and parent.supervisor.wake_at is None
    parent.supervisor.exited(Exited(2, -9, HBD), 1.0)
    assert parent.told() == [Fork(HBD)], "a replacement is no death"


def test_a_replaced_daemon_that_does_not_come_up_holds_the_others_up_for_a_while_only() -> None:
    parent = outdated()
    parent.told()
    replaced(parent, HBD, 0.1)
    assert parent.supervisor.wake_at == REPLACEMENT_TIME
    parent.supervisor.wake(REPLACEMENT_TIME)
    assert parent.told() == [End(LOCKD, 0.0)]


def test_a_parent_that_dies_over_a_replacement_is_followed_by_one_that_goes_on_with_it() -> None:
    parent = outdated()
    parent.told()
    parent.supervisor.living(Living((Forked(LOCKD, 1, True),)), 0.2)
    assert parent.told() == [Fork(HBD)]
    parent.supervisor.forked(Forked(HBD, 2))
    parent.supervisor.ready(HBD, 0.3)
    assert parent.told() == [End(LOCKD, 0.0)]
    parent.supervisor.living(Living((Forked(HBD, 2), Forked(LOCKD, 1, True))), 0.4)
    assert parent.told() == []
    parent.supervisor.wake(0.3 + REPLACEMENT_TIME)
    assert parent.told() == [End(LOCKD, 0.0), Fork(HBD)], "nobody had heard it; and a question whether the parent lives"


def test_a_stop_ends_an_upgrade() -> None:
    parent = outdated()
    parent.told()
    parent.supervisor.stop((HBD, LOCKD))
    assert parent.told() == [End(HBD), End(LOCKD)]
    parent.supervisor.exited(Exited(1, -9, HBD), 0.2)
    parent.supervisor.exited(Exited(1, 0, LOCKD), 0.2)
    assert parent.told() == [] and parent.supervisor.alive() == ()


@pytest.mark.parametrize(
    ("status", "words"),
    [(-9, "killed by signal 9"), (UNSEEN, "while truecld was away"), (0, "exit code 0"), (3, "exit code 3")],
)
def test_how_it_ended_in_words(status: int, words: str) -> None:
    assert words in ending(status)


def look(parent: Parent, now: float) -> list[tuple[str, object]]:
    parent.supervisor.wake(now)
    return [(tell.who, tell.message) for tell in parent.out.take().tell]


def test_a_daemon_that_answers_nothing_any_more_is_killed_and_started_again() -> None:
    parent = running()
    asked = [(LOCKD, Ready(REQD, 0))]
    for number in range(MAX_UNANSWERED):
        assert look(parent, 10.0 + number * LOOK_EVERY) == asked
        assert look(parent, 10.0 + (number + 0.9) * LOOK_EVERY) == [], "not more often"
    assert parent.supervisor.up() == (LOCKD,)
    assert look(parent, 20.0) == [(PARENT, End(LOCKD, 0.0))]
    assert parent.supervisor.up() == () and parent.supervisor.states()[LOCKD] == HUNG
    assert look(parent, 30.0) == [], "it is dying, perhaps not at once"
    parent.die(30.5)
    assert parent.told() == [Fork(LOCKD)]
    assert parent.noted == [f"lockd {HUNG}; it is killed", "lockd died and is started again: killed by signal 9"]
    parent.fork()
    assert look(parent, 40.0) == [], "its start takes the time that it takes"
    parent.supervisor.ready(LOCKD, 41.0)
    assert look(parent, 42.0) == asked


def greeted() -> Parent:
    parent = running()
    parent.supervisor.living(Living((Forked(LOCKD, 1),)), 1.0)
    return parent


def parent_looked_at(parent: Parent, now: float) -> list[object]:
    """What was asked of the parent, and done to it."""
    parent.supervisor.ready(LOCKD, now)
    parent.supervisor.wake(now)
    taken = parent.out.take()
    return [tell.message for tell in taken.tell if tell.who == PARENT] + [do.action for do in taken.do]


def test_a_parent_that_answers_nothing_any_more_is_killed_once() -> None:
    """It is asked for what runs, and only says so again."""
    parent = greeted()
    for number in range(MAX_UNANSWERED):
        assert parent_looked_at(parent, 10.0 + number * LOOK_EVERY) == [Fork(LOCKD)]
    assert parent_looked_at(parent, 20.0) == [KillParent()]
    assert parent.noted == [f"truecld {HUNG}; it is killed"]
    assert parent_looked_at(parent, 30.0) == [], "it is dying, and the next one greets"
    parent.supervisor.living(Living((Forked(LOCKD, 1),)), 30.5)
    assert parent_looked_at(parent, 31.5) == [Fork(LOCKD)]


def test_a_question_that_comes_just_after_a_death_starts_it_and_nothing_else_does() -> None:
    """The parent takes it for the order that it is otherwise."""
    parent = greeted()
    for death in (10.0, 10.1):
        parent.fork()
        parent.supervisor.ready(LOCKD, death)
        parent.die(death)
    parent.told()
    parent.fork()
    parent.supervisor.ready(LOCKD, 10.15)
    assert parent.supervisor.up() == (LOCKD,)
    parent.supervisor.wake(10.1 + MAX_BACKOFF)
    assert parent.supervisor.up() == (LOCKD,), "it is not begun anew, and waited for in vain"


def test_a_parent_that_says_anything_lives() -> None:
    parent = greeted()
    for number in range(3 * MAX_UNANSWERED):
        assert parent_looked_at(parent, 10.0 + number * LOOK_EVERY) == [Fork(LOCKD)]
        parent.supervisor.parent_lives()
    assert parent.noted == []


def test_one_that_has_not_greeted_is_not_asked() -> None:
    parent = running()
    parent.supervisor.parent_lives()
    assert parent_looked_at(parent, 10.0) == []


def test_looks_are_counted_and_an_answer_begins_anew() -> None:
    parent = running()
    for number in range(3 * MAX_UNANSWERED):
        assert (PARENT, End(LOCKD, 0.0)) not in look(parent, 10.0 + 60.0 * number), "the whole node stood still"
        if number % MAX_UNANSWERED == MAX_UNANSWERED - 1:
            parent.supervisor.ready(LOCKD, 11.0 + 60.0 * number)


def test_who_is_not_up_or_about_to_be_replaced_is_not_asked() -> None:
    parent = Parent()
    parent.supervisor.start((LOCKD,))
    assert look(parent, 10.0) == [(PARENT, Fork(LOCKD))]
    parent = running()
    parent.supervisor.start((HBD,))
    parent.supervisor.living(Living((Forked(LOCKD, 1, outdated=True), Forked(HBD, 2, outdated=True))), 1.0)
    parent.supervisor.ready(HBD, 1.0)
    parent.told()
    assert {who for who, _ in look(parent, 2.0)} == {PARENT}, "of an older release: it may not know the question"
    asked = look(parent, 10.0)
    assert {who for who, _ in asked} == {PARENT} and End in [type(each) for _, each in asked], "the other one's turn"
