"""The supervisor: the first death is mended at once, and what was told to stop stays stopped."""

import pytest

from truecl.core.outbox import Outbox
from truecl.core.supervisor import FIRST_BACKOFF, FORGET_AFTER, MAX_BACKOFF, PARENT, Supervisor, ending
from truecl.model.ids import HBD, LOCKD
from truecl.wire.messages import End, Exited, Fork, Forked


class Parent:
    def __init__(self) -> None:
        self.out = Outbox()
        self.supervisor = Supervisor(self.out)
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
    parent.supervisor.ready(LOCKD)
    return parent


def test_a_daemon_is_up_once_it_said_so() -> None:
    parent = Parent()
    parent.supervisor.start((LOCKD,))
    parent.fork()
    assert parent.supervisor.up() == () and parent.supervisor.alive() == (LOCKD,)
    parent.supervisor.ready(LOCKD)
    assert parent.supervisor.up() == (LOCKD,)
    parent.supervisor.ready(HBD)
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


@pytest.mark.parametrize(("status", "words"), [(-9, "killed by signal 9"), (0, "exit code 0"), (3, "exit code 3")])
def test_how_it_ended_in_words(status: int, words: str) -> None:
    assert words in ending(status)
