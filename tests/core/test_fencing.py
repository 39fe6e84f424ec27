"""Levels, retries and overtaken orders of fencing, without any device."""

from dataclasses import dataclass, field

from msgspec.structs import replace

from truecl.core.fence_questions import FenceQuestions
from truecl.core.fencing import NO_DEVICE, ORDER_KEPT, Course, Fences
from truecl.core.outbox import Outbox
from truecl.model.actions import AskDevice, FenceOutcome, Power
from truecl.model.config import ClusterConfig, Configuration, FenceConfig, FenceLevel, NodeConfig, worst_time
from truecl.model.ids import CLUSTERD, LOCKD, Index, NodeName
from truecl.wire.messages import AskFences, FenceResult, FencesSeen, FenceView, OrderFenceOff, OrderPowerOn, PoweredOn

N1, N2 = NodeName("n1"), NodeName("n2")
BOARD = FenceConfig(agent="board", timeout=5.0)
A, B = FenceConfig(agent="a", timeout=8.0), FenceConfig(agent="b", timeout=10.0)
YES, NO = FenceOutcome(True, "is off", Power.OFF), FenceOutcome(False, "no answer")


def configuration(*levels: FenceLevel) -> Configuration:
    nodes = (NodeConfig(name=N1, addresses={}), NodeConfig(name=N2, addresses={}, fence=levels))
    return Configuration(cluster=ClusterConfig(name="c", links=(), nodes=nodes))


@dataclass
class Bench:
    """reqd's fences with a clock of their own."""

    levels: tuple[FenceLevel, ...]
    now: float = 100.0
    out: Outbox = field(default_factory=Outbox)
    open: dict[int, AskDevice] = field(default_factory=dict)
    told: list[object] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    """Whom each of `told` was told."""

    def __post_init__(self) -> None:
        self.fences = Fences(self.out, configuration(*self.levels))

    def order(self, index: int, who: str = CLUSTERD) -> None:
        self.fences.off(OrderFenceOff(N2, Index(index)), self.now, who)
        self.wake()

    def wake(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.fences.wake(self.now)
        output = self.out.take()
        self.open |= {do.id: do.action for do in output.do}
        self.told += [tell.message for tell in output.tell]
        self.by += [tell.who for tell in output.tell]

    @property
    def asked(self) -> list[str]:
        return [action.device.agent for action in self.open.values()]

    def answer(self, agent: str, outcome: FenceOutcome) -> None:
        id = next(id for id, action in self.open.items() if action.device.agent == agent)
        del self.open[id]
        self.fences.done(id, outcome, self.now)
        self.wake()


def test_all_devices_of_a_level_are_asked_at_once_and_all_must_confirm() -> None:
    bench = Bench(((A, B),))
    bench.order(7)
    assert bench.asked == ["a", "b"]
    bench.answer("a", YES)
    assert bench.told == []
    bench.answer("b", YES)
    assert bench.told == [FenceResult(N2, Index(7), True, "is off; is off")]


def test_one_feed_that_stays_on_is_not_off() -> None:
    bench = Bench(((A, B),))
    bench.order(7)
    bench.answer("a", YES)
    bench.answer("b", NO)
    assert bench.told == [FenceResult(N2, Index(7), False, "no answer")]


def test_the_next_level_is_tried_and_the_trouble_is_told_meanwhile() -> None:
    bench = Bench(((BOARD,), (A, B)))
    bench.order(7)
    bench.answer("board", NO)
    assert bench.told == [FenceResult(N2, Index(7), False, "level 1: no answer; trying level 2", 0, over=False)]
    assert bench.asked == ["a", "b"]
    bench.answer("b", YES)
    bench.answer("a", YES)
    assert bench.told[1] == FenceResult(N2, Index(7), True, "is off; is off", 1)


def test_when_every_level_failed_that_is_said_and_a_repeated_order_begins_anew() -> None:
    bench = Bench(((BOARD,), (A,)))
    bench.order(7)
    bench.answer("board", NO)
    bench.answer("a", FenceOutcome(False, "refused"))
    assert bench.told[-1] == FenceResult(N2, Index(7), False, "level 1: no answer; level 2: refused", 1)
    bench.order(7)
    assert bench.asked == ["board"]


def test_a_retry_asks_all_of_the_level_again() -> None:
    bench = Bench(((A, replace(B, retries=1)), (BOARD,)))
    bench.order(7)
    bench.answer("a", YES)
    bench.answer("b", NO)
    assert bench.asked == ["a", "b"] and bench.told == []
    bench.answer("a", NO)
    bench.answer("b", YES)
    assert bench.asked == ["board"], "what the first attempt said of 'a' counts no more"


def test_a_delay_is_waited_for_before_off_and_not_before_on() -> None:
    bench = Bench(((replace(A, delay=3.0),),))
    bench.order(7)
    assert bench.asked == [] and bench.fences.wake_at == 103.0
    bench.wake(3.0)
    assert bench.asked == ["a"]
    course = Course(N2, ((replace(A, delay=3.0),),), Power.ON, 0.0)
    assert course.due == 0.0


def test_an_order_that_nobody_repeats_is_not_carried_on() -> None:
    """The node came back, or another node is master: what a device was told is told, and nothing more."""
    bench = Bench(((BOARD,), (A,)))
    bench.order(7)
    bench.wake(ORDER_KEPT - 1.0)
    bench.order(7)
    bench.wake(ORDER_KEPT + 0.1)
    bench.answer("board", NO)
    assert bench.asked == []
    bench.order(8)
    assert bench.asked == ["board"]


def test_a_newer_order_follows_when_the_devices_have_answered_to_the_older() -> None:
    bench = Bench(((BOARD,), (A,)))
    bench.order(7)
    bench.order(9)
    assert bench.asked == ["board"]
    bench.answer("board", YES)
    assert bench.told == [FenceResult(N2, Index(7), True, "is off")]
    assert bench.asked == ["board"], "asked anew for the newer order"
    bench.answer("board", YES)
    assert bench.told[1] == FenceResult(N2, Index(9), True, "is off")


def test_a_newer_order_keeps_the_older_from_its_next_level() -> None:
    bench = Bench(((BOARD,), (A,)))
    bench.order(7)
    bench.order(9)
    bench.answer("board", NO)
    assert bench.asked == ["board"] and bench.told == []


def test_two_askers_number_their_orders_apart_and_each_is_answered_with_its_own() -> None:
    """lockd counts from its clock: its number says nothing about the age of clusterd's."""
    bench = Bench(((BOARD,),))
    bench.order(9_000_000, LOCKD)
    bench.order(7)
    bench.order(7)
    bench.answer("board", YES)
    assert (bench.told, bench.by) == ([FenceResult(N2, Index(9_000_000), True, "is off")], [LOCKD])
    assert bench.asked == ["board"], "what was asked before the other order confirms nothing to it"
    bench.answer("board", YES)
    assert (bench.told[1:], bench.by[1:]) == ([FenceResult(N2, Index(7), True, "is off")], [CLUSTERD])


def test_orders_of_the_same_number_are_two_orders() -> None:
    bench = Bench(((BOARD,),))
    bench.order(7, LOCKD)
    bench.order(7)
    bench.answer("board", YES)
    bench.answer("board", YES)
    assert bench.by == [LOCKD, CLUSTERD]


def test_an_order_that_joins_begins_at_the_first_level_and_takes_the_other_along() -> None:
    bench = Bench(((BOARD,), (A,)))
    bench.order(7)
    bench.order(1, LOCKD)
    bench.answer("board", NO)
    assert (bench.told, bench.asked) == ([], ["board"])
    bench.answer("board", YES)
    assert sorted(bench.by) == [CLUSTERD, LOCKD]


def test_on_begins_with_the_level_that_switched_off() -> None:
    bench = Bench(((BOARD,), (A, B)))
    bench.fences.on(OrderPowerOn(N2, 1), bench.now)
    bench.wake()
    assert bench.asked == ["a", "b"]
    bench.answer("a", YES)
    bench.answer("b", YES)
    assert bench.told == [PoweredOn(N2, True, "is off; is off")]


def test_nothing_is_switched_on_while_it_is_being_switched_off() -> None:
    bench = Bench(((BOARD,),))
    bench.order(7)
    bench.fences.on(OrderPowerOn(N2), bench.now)
    bench.wake()
    assert bench.told == [PoweredOn(N2, False, "n2 is being switched off")]


def test_a_node_without_a_device() -> None:
    bench = Bench(())
    bench.order(7)
    bench.fences.on(OrderPowerOn(N2), bench.now)
    bench.wake()
    assert bench.told == [FenceResult(N2, Index(7), False, NO_DEVICE), PoweredOn(N2, False, NO_DEVICE)]


def test_the_worst_time_counts_every_attempt_of_every_level() -> None:
    assert worst_time(((BOARD,), (A, replace(B, retries=2, delay=1.0)))) == 5.0 + 1.0 + 3 * 10.0


def test_no_attempt_begins_after_the_worst_time() -> None:
    course = Course(N2, ((A,), (BOARD,)), Power.OFF, 0.0)
    course.ask(0.0)
    course.asked((1,))
    verdict = course.done(1, NO, 50.0)
    assert verdict is not None and verdict.over and not verdict.done


# ---- questions ------------------------------------------------------------------------------------------------------


def test_a_question_goes_to_the_node_that_is_to_ask_and_its_answer_comes_back() -> None:
    asking, asked = Outbox(), Outbox()
    here = FenceQuestions(N1, asking, configuration((A,), (BOARD,)))
    there = FenceQuestions(N2, asked, configuration((A,), (BOARD,)))
    here.told("command-1", AskFences(5, N2, N2))
    (sent,) = asking.take().send
    there.received(N1, sent.message)
    output = asked.take()
    assert [do.action for do in output.do] == [AskDevice(N2, each, Power.UNKNOWN) for each in (A, BOARD)]
    there.done(output.do[0].id, FenceOutcome(True, "", Power.ON))
    assert asked.take().send == ()
    there.done(output.do[1].id, FenceOutcome(False, "no answer"))
    (answer,) = asked.take().send
    here.received(NodeName("n9"), answer.message)
    assert asking.take().tell == (), "an answer of another node"
    here.received(N2, answer.message)
    (tell,) = asking.take().tell
    views = (FenceView(0, "a", Power.ON), FenceView(1, "board", Power.UNKNOWN, "no answer"))
    assert (tell.who, tell.message) == ("command-1", FencesSeen(5, N2, N2, views))
