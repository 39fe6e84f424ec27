"""When one of two nodes has the other fenced, and which word of the devices counts."""

from dataclasses import dataclass, field

import pytest

from truecl.core.duel import DOUBT, LOOK_AGAIN, ORDER_AGAIN, REPEAT, Duel
from truecl.core.fencing import ORDER_KEPT
from truecl.core.outbox import Outbox
from truecl.model.actions import Power
from truecl.model.config import ClusterConfig, FenceConfig, NodeConfig
from truecl.model.ids import REQD, Generation, Index, NodeName
from truecl.wire.messages import AskFences, FenceResult, FencesSeen, FenceView, OrderFenceOff

N1, N2 = NodeName("n1"), NodeName("n2")
DELAY = 10.0
DEVICE = FenceConfig(agent="f", timeout=2.0)
GENERATIONS = (Generation(4), Generation(7))


def cluster(delay: float) -> ClusterConfig:
    nodes = (
        NodeConfig(name=N1, addresses={}, fence=((DEVICE,),), fence_delay=delay),
        NodeConfig(name=N2, addresses={}),
    )
    return ClusterConfig(name="c", links=(), nodes=nodes)


@dataclass
class Bench:
    """The duel of n2 against n1, which fell silent at 100."""

    delay: float = DELAY
    now: float = 100.0
    since: float | None = 100.0
    heard: bool = False
    told: list[object] = field(default_factory=list)
    ended: list[tuple[Generation, ...]] = field(default_factory=list)
    wake_at: float | None = None

    def __post_init__(self) -> None:
        self.out = Outbox()
        self.duel = Duel(N2, cluster(self.delay), self.out, lambda node: GENERATIONS)
        self.duel.start(self.now)
        self.duel.reqd_joined = True
        self.step()

    def step(self) -> None:
        ended = self.duel.step(N1, self.since, self.heard, self.now)
        if ended is not None:
            self.ended.append(ended)
        self.told += [tell.message for tell in self.out.take().tell if tell.who == REQD]
        self.wake_at = self.duel.wake_at(N1, self.since, self.heard, self.now)

    def wait(self, seconds: float) -> None:
        """Woken only when it asked for it."""
        end = self.now + seconds
        while self.wake_at is not None and self.wake_at <= end:
            self.now = max(self.now, self.wake_at)
            self.step()
        self.now = end

    def answer(self, off: bool, number: Index | None = None, over: bool = True) -> None:
        at = number if number is not None else self.orders[-1].index
        self.duel.fenced(FenceResult(N1, at, off, "" if off else "no answer", over=over), self.now)
        self.step()

    def status(self, *devices: tuple[int, Power]) -> None:
        views = tuple(FenceView(level, "f", power) for level, power in devices)
        self.duel.seen(FencesSeen(self.looks[-1].number, N2, N1, views), self.now)
        self.step()

    @property
    def orders(self) -> list[OrderFenceOff]:
        return [each for each in self.told if isinstance(each, OrderFenceOff)]

    @property
    def looks(self) -> list[AskFences]:
        return [each for each in self.told if isinstance(each, AskFences)]


def test_without_a_delay_the_order_goes_out_at_once() -> None:
    bench = Bench(delay=0.0)
    assert (len(bench.orders), bench.looks) == (1, [])


def test_the_delay_is_waited_for_and_counts_from_the_silence() -> None:
    bench = Bench()
    bench.wait(DELAY - 0.1)
    assert bench.orders == []
    bench.wait(0.1)
    assert len(bench.orders) == 1


def test_who_has_no_power_is_not_waited_for_and_is_switched_off_all_the_same() -> None:
    """Its status alone proves nothing: only the order's own answer does."""
    bench = Bench()
    bench.status((0, Power.OFF))
    assert (len(bench.orders), bench.ended) == (1, [])
    bench.answer(True)
    assert bench.ended == [GENERATIONS]


@pytest.mark.parametrize(
    ("devices", "powerless"),
    [
        ([(0, Power.ON)], False),
        ([(0, Power.UNKNOWN)], False),
        ([], False),
        ([(0, Power.OFF), (0, Power.ON)], False),
        ([(0, Power.OFF), (0, Power.OFF)], True),
        ([(0, Power.UNKNOWN), (1, Power.OFF), (1, Power.OFF)], True),
    ],
)
def test_one_whole_level_must_call_it_off(devices: list[tuple[int, Power]], powerless: bool) -> None:
    bench = Bench()
    bench.status(*devices)
    assert bool(bench.orders) is powerless


def test_its_status_is_asked_for_again_and_by_one_question_at_a_time() -> None:
    bench = Bench()
    bench.wait(LOOK_AGAIN * 1.5)
    assert len(bench.looks) == 1
    bench.status((0, Power.ON))
    bench.wait(LOOK_AGAIN - 0.1)
    assert len(bench.looks) == 1
    bench = Bench(delay=60.0)
    for _ in range(3):
        bench.status((0, Power.ON))
        bench.wait(LOOK_AGAIN)
    assert len(bench.looks) == 4


def test_a_status_that_was_asked_for_before_it_was_heard_again_says_nothing() -> None:
    bench = Bench()
    bench.duel.void(bench.now)
    bench.status((0, Power.OFF))
    assert bench.orders == []


def test_an_order_is_repeated_with_its_number_so_that_reqd_does_not_let_it_lapse() -> None:
    bench = Bench(delay=0.0)
    bench.wait(3 * REPEAT)
    assert len(bench.orders) == 4
    assert len({order.index for order in bench.orders}) == 1
    assert REPEAT < ORDER_KEPT / 2


def test_an_order_that_was_voided_and_is_never_answered_does_not_stand_in_the_way() -> None:
    bench = Bench(delay=0.0)
    bench.duel.void(bench.now)
    bench.step()
    bench.wait(ORDER_AGAIN)
    assert len({order.index for order in bench.orders}) == 2


def test_the_word_of_an_order_that_was_voided_is_none() -> None:
    bench = Bench(delay=0.0)
    old = bench.orders[-1].index
    bench.duel.void(bench.now)
    bench.answer(True, old)
    bench.wait(ORDER_AGAIN)
    bench.answer(True, old)
    assert bench.ended == []
    bench.answer(True)
    assert bench.ended == [GENERATIONS]


def test_a_level_that_failed_is_said_and_waited_for_and_the_last_one_orders_anew() -> None:
    bench = Bench(delay=0.0)
    bench.answer(False, over=False)
    assert (bench.duel.trouble, bench.duel.ordered) == ("no answer", True)
    bench.answer(False)
    assert not bench.duel.ordered
    bench.wait(ORDER_AGAIN)
    assert bench.duel.ordered


def test_a_node_that_is_called_off_and_still_heard_is_doubted_and_not_fenced_again_while_it_is_heard() -> None:
    bench = Bench(delay=0.0, heard=True)
    bench.answer(True)
    bench.wait(DOUBT - 0.1)
    assert (bench.ended, bench.duel.trouble) == ([], "")
    bench.wait(0.1)
    assert "still heard" in bench.duel.trouble
    bench.wait(60.0)
    assert len({order.index for order in bench.orders}) == 1
    bench.heard = False
    bench.step()
    assert len({order.index for order in bench.orders}) == 2, "its silence may have another cause: asked anew"


def test_the_word_counts_when_hbd_falls_silent_in_time() -> None:
    bench = Bench(delay=0.0, heard=True)
    bench.answer(True)
    bench.wait(0.3)
    bench.heard = False
    bench.step()
    assert bench.ended == [GENERATIONS]


def test_with_reqd_goes_the_order_and_it_is_given_anew() -> None:
    bench = Bench(delay=0.0)
    bench.duel.reqd_left()
    bench.step()
    assert bench.wake_at is None
    bench.duel.reqd_joined = True
    bench.step()
    assert len({order.index for order in bench.orders}) == 2
