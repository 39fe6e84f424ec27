"""The simulator itself: order of outputs, crashes in between, sessions, clocks, and one history a seed."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.sim import toys
from truecl.core.contract import (
    Connected,
    Disconnected,
    Drop,
    Event,
    Joined,
    Left,
    Output,
    Put,
    Received,
    Send,
    Tell,
    Told,
    Woke,
)
from truecl.model.ids import CLUSTERD, LOCKD, LinkName, NodeName
from truecl.sim import faults
from truecl.sim.cluster import Cluster, Plan, Story, Violation
from truecl.sim.journal import Journal, UnsyncedJournal
from truecl.sim.process import PROPER, Variant
from truecl.sim.schedule import MOMENT, Runaway, Schedule

SEND_FIRST = Variant(order=("send", "save", "do", "tell"))
NO_FSYNC = Variant(journal=UnsyncedJournal, flush=1.0)
N1, N2, N3 = (NodeName(name) for name in ("n1", "n2", "n3"))
LINKS = [LinkName("link1"), LinkName("link2")]


def test_schedule_keeps_time_and_order() -> None:
    schedule, seen = Schedule(), list[str]()
    schedule.at(2.0, seen.append, "late")
    schedule.at(1.0, seen.append, "one")
    schedule.at(1.0, seen.append, "two")
    schedule.run(until=1.5)
    assert (seen, schedule.now) == (["one", "two"], 1.5)
    schedule.run(until=3.0)
    assert seen == ["one", "two", "late"]


@pytest.mark.parametrize(("delay", "limit"), [(0.0, 2 * MOMENT), (1e-5, 1000)])
def test_schedule_stops_what_feeds_on_itself(delay: float, limit: int) -> None:
    schedule = Schedule()

    def again() -> None:
        schedule.after(delay, again)

    again()
    with pytest.raises(Runaway):
        schedule.run(until=1.0, limit=limit)
    assert schedule.count <= min(limit, MOMENT)


def test_journal_writes_drops_and_reads_in_order() -> None:
    journal = Journal()
    journal.write((Put("log", 3, b"c"), Put("log", 1, b"a"), Put("log", 2, b"b"), Put("run.x", "k", b"v")))
    journal.write((Drop("log", 3),))
    assert journal.read() == {"log": {1: b"a", 2: b"b"}, "run.x": {"k": b"v"}}
    assert list(journal.read()["log"]) == [1, 2]
    journal.power_cut()
    assert journal.read() == {"log": {1: b"a", 2: b"b"}}


def test_unsynced_journal_forgets() -> None:
    journal = UnsyncedJournal()
    journal.write((Put("log", 1, b"a"),))
    journal.flush()
    journal.write((Put("log", 2, b"b"),))
    journal.power_cut()
    assert journal.read() == {"log": {1: b"a"}}


def _storm(seed: int, variant: Variant = PROPER, seconds: float = 20.0) -> None:
    drawn = faults.draw(Random(seed))
    made = toys.cluster(seed, replace(drawn, gap=0.02), variant, checks=(toys.OneValueEach(),))
    toys.bad_day(made, seconds)


def test_the_right_order_keeps_promises() -> None:
    for seed in range(20):
        _storm(seed)


@pytest.mark.parametrize("variant", [SEND_FIRST, NO_FSYNC], ids=["send before save", "skip fsync"])
def test_host_mutants_are_caught(variant: Variant) -> None:
    caught = 0
    for seed in range(20):
        try:
            _storm(seed, variant)
        except Violation:
            caught += 1
    assert caught >= 10, f"caught in {caught} of 20 seeds"


def _digest(seed: int) -> int:
    story = Story(deep=True)
    toys.bad_day(toys.cluster(seed, faults.draw(Random(seed)), story=story), 10.0)
    return story.digest


def test_one_seed_has_one_history_under_any_hash_seed() -> None:
    program = "from tests.sim.test_host import _digest; print([_digest(seed) for seed in range(3)])"
    said = set()
    for hash_seed in ("0", "1", "4711"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(run.stdout)
    assert len(said) == 1
    assert len(set(map(int, said.pop().strip("[]\n").split(",")))) == 3


# ---- sessions -------------------------------------------------------------------------------------------------------


class Recorder:
    """Remembers all events, sends a number to everybody each 10 ms."""

    def __init__(self, others: list[NodeName], tells: tuple[Tell, ...] = ()) -> None:
        self.others = others
        self.tells = tells
        self.seen: list[Event] = []
        self.at: list[float] = []
        self.number = 0

    def start(self, now: float) -> Output:
        return Output(wake_at=now)

    def handle(self, event: Event, now: float) -> Output:
        self.at.append(now)
        if not isinstance(event, Woke):
            self.seen.append(event)
            return Output(wake_at=now + 0.01)
        self.number += 1
        return Output(send=tuple(Send(node, self.number) for node in self.others), tell=self.tells, wake_at=now + 0.01)


def _recorders(made: Cluster) -> dict[NodeName, Recorder]:
    result = {}
    for name, machine in made.machines.items():
        core = machine.processes[LOCKD].core
        assert isinstance(core, Recorder)
        result[name] = core
    return result


def _recording(nodes: int = 2) -> Cluster:
    made = toys.cluster(
        1,
        nodes=nodes,
        assemble=lambda daemon, me, config, *_: Recorder([n.name for n in config.cluster.nodes if n.name != me]),
    )
    made.schedule.run(until=0.5)
    return made


def _numbers(recorder: Recorder) -> list[int]:
    return [event.message for event in recorder.seen if isinstance(event, Received)]


def test_a_session_keeps_order_and_loses_nothing() -> None:
    numbers = _numbers(_recorders(_recording())[N1])
    assert len(numbers) > 10
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_short_cut_only_delays() -> None:
    made = _recording()
    for link in LINKS:
        made.network.cut(N1, N2, link)
    made.schedule.run(until=0.6)
    for link in LINKS:
        made.network.heal(N1, N2, link)
    made.schedule.run(until=1.5)
    numbers = _numbers(_recorders(made)[N2])
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert Disconnected(N1) not in _recorders(made)[N2].seen


def test_a_long_cut_breaks_the_session_and_it_comes_back() -> None:
    made = _recording()
    for link in LINKS:
        made.network.cut(N1, N2, link)
    made.schedule.run(until=6.0)
    for recorder, other in ((_recorders(made)[N1], N2), (_recorders(made)[N2], N1)):
        assert recorder.seen[-1] == Disconnected(other)
    made.network.heal_all()
    made.schedule.run(until=7.0)
    assert _recorders(made)[N1].seen.count(Connected(N2)) == 2
    assert _numbers(_recorders(made)[N1])


def test_a_cut_link_leaves_the_other() -> None:
    made = _recording()
    for source, target in ((N1, N2), (N2, N1)):
        made.network.cut(source, target, LINKS[0])
    made.schedule.run(until=10.0)
    assert _recorders(made)[N1].seen.count(Disconnected(N2)) <= 1
    assert isinstance(_recorders(made)[N1].seen[-1], Received)


def test_a_killed_daemon_is_seen_and_restarted() -> None:
    made = _recording()
    survivor = _recorders(made)[N2]
    made.machines[N1].kill(LOCKD)
    made.schedule.run(until=2.0)
    hints = [event for event in survivor.seen if isinstance(event, Connected | Disconnected)]
    assert hints == [Connected(N1), Disconnected(N1), Connected(N1)]


def test_a_pause_defers_events_while_the_clock_runs() -> None:
    made = _recording()
    recorder = _recorders(made)[N1]
    before = len(recorder.at)
    made.machines[N1].stall()
    made.schedule.run(until=3.5)
    assert len(recorder.at) == before
    made.machines[N1].resume()
    made.schedule.run(until=3.501)
    assert len(recorder.at) > before + 200
    assert recorder.at[before] - recorder.at[before - 1] > 2.9


def test_clocks_differ_and_drift() -> None:
    made = toys.cluster(3, replace(faults.CALM, drift=1.0), nodes=5)
    start = {name: machine.clock() for name, machine in made.machines.items()}
    made.schedule.run(until=100.0)
    passed = [machine.clock() - start[name] for name, machine in made.machines.items()]
    assert max(passed) - min(passed) > 1.0
    assert max(passed) / min(passed) < 1.0 + 0.05


# ---- the local bus --------------------------------------------------------------------------------------------------


def test_local_edges_join_tell_in_order_and_leave() -> None:
    def assemble(daemon: str, *_: object) -> Recorder:
        told = tuple(Tell("lockd", number) for number in range(3)) if daemon == CLUSTERD else ()
        return Recorder([], told)

    plan = Plan(daemons=(LOCKD, CLUSTERD), mesh=(), edges=((CLUSTERD, LOCKD),))
    made = toys.cluster(1, nodes=1, assemble=assemble, plan=plan)
    made.schedule.run(until=1.0)
    machine = made.machines[N1]
    core = machine.processes[LOCKD].core
    assert isinstance(core, Recorder)
    assert core.seen[0] == Joined(CLUSTERD)
    told = [event.message for event in core.seen if isinstance(event, Told)]
    assert told == [0, 1, 2] * (len(told) // 3)
    machine.kill(CLUSTERD)
    made.schedule.run(until=3.0)
    edges = [event for event in core.seen if isinstance(event, Joined | Left)]
    assert edges == [Joined(CLUSTERD), Left(CLUSTERD), Joined(CLUSTERD)]


def test_commands_are_answered_and_leave() -> None:
    class Polite(Recorder):
        def handle(self, event: Event, now: float) -> Output:
            output = super().handle(event, now)
            return Output(tell=(Tell("command-1", "done"),)) if isinstance(event, Told) else output

    made = toys.cluster(1, nodes=1, assemble=lambda *_: Polite([]))
    made.schedule.run(until=1.0)
    answers: list[object] = []
    assert made.machines[N1].command("command-1", LOCKD, "please", answers.append)
    made.machines[N1].hang_up("command-1")
    core = made.machines[N1].processes[LOCKD].core
    assert isinstance(core, Polite)
    assert answers == ["done"]
    assert core.seen[-3:] == [Joined("command-1"), Told("command-1", "please"), Left("command-1")]
