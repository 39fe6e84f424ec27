"""Who begins, and who waits for whom."""

from dataclasses import dataclass, field

import msgspec

from truecl.core.outbox import Outbox
from truecl.core.turns import SLOW, Turns
from truecl.model.actions import Action, KillGroup, StepDown, StepProbe, StepUp
from truecl.model.config import FileStorage
from truecl.model.ids import AppName, Generation
from truecl.model.report import Phase
from truecl.model.step import Instance, Step, StepKind

from .reqd_bench import CONFIGURATION, DB, LEASE, WEB, ReqdBench

STEP = Step("volume d", StepKind.STORAGE, FileStorage(image="/i"))


def of(generation: int) -> Instance:
    return Instance(AppName(f"a{generation}"), Generation(generation))


def up(generation: int) -> StepUp:
    return StepUp(of(generation), STEP, 5.0)


def down(generation: int, force: bool = False) -> StepDown:
    return StepDown(of(generation), STEP, 5.0, force)


@dataclass
class Bench:
    waited: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.out = Outbox()
        self.turns = Turns(self.out, lambda step, seconds: self.waited.update({step.instance.generation: seconds}))
        self.turns.limit = 2

    def ask(self, *actions: Action, now: float = 0.0) -> list[int]:
        return [self.turns.ask(action, now) for action in actions]

    def begun(self) -> list[int]:
        """Since the last call, by generation."""
        return [do.action.instance.generation for do in self.out.take().do]


def test_as_many_as_the_limit_and_the_next_when_one_is_done() -> None:
    bench = Bench()
    first, *_ = bench.ask(up(1), up(2), up(3), up(4))
    assert bench.begun() == [1, 2]
    bench.turns.done(first, 0.1)
    assert bench.begun() == [3] and bench.waited == {3: 0.1}


def test_who_was_granted_first_is_finished_first() -> None:
    bench = Bench()
    first, *_ = bench.ask(up(1), up(2), up(9), up(8))
    bench.begun()
    bench.turns.done(first, 0.1)
    assert bench.begun() == [8]
    bench.ask(up(1), now=0.1)
    bench.turns.wake(SLOW)
    assert bench.begun() == [1], "the next step of the first one, before those that have not begun"


def test_a_slow_step_holds_nobody_up() -> None:
    bench = Bench()
    bench.ask(up(1), up(2), up(3))
    bench.begun()
    assert bench.turns.wake_at == SLOW
    bench.turns.wake(SLOW)
    assert bench.begun() == [3] and bench.turns.wake_at is None


def test_a_stop_waits_for_other_stops_alone_and_starts_wait_for_it() -> None:
    bench = Bench()
    first, _, *_ = bench.ask(up(1), up(2), up(3), down(14), down(15), down(16))
    assert bench.begun() == [1, 2, 14, 15]
    bench.turns.done(first, 0.1)
    assert bench.begun() == []


def test_the_guard_and_looks_never_wait() -> None:
    bench = Bench()
    bench.ask(up(1), up(2), up(3), down(4), down(5), down(6))
    bench.begun()
    bench.ask(down(7, force=True), KillGroup(of(8)), StepProbe(of(9), STEP))
    assert bench.begun() == [7, 8, 9]


def test_what_was_withdrawn_never_begins() -> None:
    bench = Bench()
    first, second, third = bench.ask(up(1), up(2), up(3))
    assert bench.turns.withdraw(third) and not bench.turns.withdraw(first) and not bench.turns.withdraw(third)
    bench.turns.done(second, 0.1)
    assert bench.begun() == [1, 2]


def test_a_lapse_stops_all_at_once_and_what_waited_never_begins() -> None:
    """In reqd: nothing of the guard's way is queued, and CLOSED waits for no start that did not begin."""
    other = msgspec.structs.replace(CONFIGURATION.apps[0], name=WEB)
    bench = ReqdBench(msgspec.structs.replace(CONFIGURATION, apps=(CONFIGURATION.apps[0], other)))
    bench.core.instances.turns.limit = 1
    bench.lease((DB, 7), (WEB, 8))
    bench.order("start", DB, 7)
    bench.order("start", WEB, 8)
    assert len(bench.ups()) == 1 and bench.line(WEB).phase is Phase.STARTING
    bench.wait(LEASE)
    bench.answer_all()
    assert [bench.line(app).phase for app in (DB, WEB)] == [Phase.CLOSED] * 2
    begun = [do.action for output in bench.outputs for do in output.do if isinstance(do.action, StepUp)]
    assert [action.instance.app for action in begun] == [DB]
