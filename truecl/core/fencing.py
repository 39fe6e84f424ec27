"""How a node is switched off: which devices are asked, in which order, and when that has failed.

A node's devices stand in levels (after Pacemaker's fencing topology). All devices of a level are asked at the same
time, and the node counts as off only when every one of them confirmed it in the same attempt: a node with two power
supplies runs on with either. A level that failed is tried again `retries` times, then the next one. reqd's drivers ask
one device at a time for one thing; everything else is decided here.

An order to switch off is repeated by the master as long as it holds. One that is not repeated any more (the node came
back, another node is master now) is not carried on to another attempt: what a device was told cannot be taken back, and
nothing more is told to any.
"""

from dataclasses import dataclass

from truecl.core.outbox import Outbox
from truecl.model.actions import AskDevice, FenceOutcome, Power
from truecl.model.config import Configuration, FenceConfig, FenceLevel, worst_time
from truecl.model.ids import CLUSTERD, Index, NodeName
from truecl.wire.messages import FenceResult, OrderFenceOff, OrderPowerOn, PoweredOn

ORDER_KEPT = 5.0
"""Seconds for which an order holds that is not repeated; the master repeats it every two."""
NO_DEVICE = "no fence device is configured"


@dataclass(frozen=True)
class Verdict:
    """Where a course stands: at its end, or (`over` False) after a level that failed."""

    done: bool
    reason: str
    level: int = 0
    over: bool = True


class Course:
    """One node's way through its levels to a power state. It asks, is answered, and comes to a verdict."""

    def __init__(self, node: NodeName, levels: tuple[FenceLevel, ...], wanted: Power, now: float, first: int = 0):
        self.node, self.wanted = node, wanted
        ways = [(number, level) for number, level in enumerate(levels) if level]
        self._ways = [each for each in ways if each[0] == first] + [each for each in ways if each[0] != first]
        self._many = len(ways) > 1
        self._until = now + worst_time(levels)
        """No attempt begins after this, however the clock jumped meanwhile."""
        self._attempt = 0
        self._asked: dict[int, FenceOutcome | None] = {}
        """The attempt under way: action to its outcome."""
        self._failures: list[str] = []
        self.due: float | None = None
        """When the next attempt begins; None: one is under way, or all is over."""
        self._begin_level(now)

    @property
    def busy(self) -> bool:
        """A device was asked and has not answered."""
        return any(outcome is None for outcome in self._asked.values())

    def ask(self, now: float) -> tuple[FenceConfig, ...]:
        """The devices to be asked now; `asked` is to be told their actions' ids."""
        if self.due is None or now < self.due:
            return ()
        self.due = None
        return self._ways[0][1]

    def asked(self, ids: tuple[int, ...]) -> None:
        self._asked = dict.fromkeys(ids)

    def done(self, id: int, outcome: FenceOutcome, now: float) -> Verdict | None:
        """None: other devices of the level have not answered, the level is tried again, or the id is of no concern."""
        if self._asked.get(id, outcome) is not None:
            return None
        self._asked[id] = outcome
        outcomes = [each for each in self._asked.values() if each is not None]
        if len(outcomes) < len(self._asked):
            return None
        level, devices = self._ways[0]
        self._asked = {}
        if all(each.done for each in outcomes):
            return Verdict(True, "; ".join(each.reason for each in outcomes if each.reason), level)
        self._attempt += 1
        if self._attempt <= max(device.retries for device in devices) and now < self._until:
            self.due = now
            return None
        return self._level_failed("; ".join(each.reason for each in outcomes if not each.done), now)

    def _level_failed(self, reason: str, now: float) -> Verdict:
        level, _ = self._ways.pop(0)
        self._failures.append(f"level {level + 1}: {reason}" if self._many else reason)
        said = "; ".join(self._failures)
        if not self._ways or now >= self._until:
            return Verdict(False, said, level)
        self._begin_level(now)
        return Verdict(False, f"{said}; trying level {self._ways[0][0] + 1}", level, over=False)

    def _begin_level(self, now: float) -> None:
        """A head start is given before 'off' alone."""
        self._attempt = 0
        delay = max(device.delay for device in self._ways[0][1]) if self._ways else 0.0
        self.due = now + (delay if self.wanted is Power.OFF else 0.0)


@dataclass
class _Wish:
    """An order as it stands with one asker. `index` is None for 'on'."""

    index: Index | None
    until: float
    """It holds until then."""


@dataclass
class _Task:
    """A course with the orders that it carries out, by who gave them."""

    course: Course
    wishes: dict[str, _Wish]


class Fences:
    """reqd's part: one course a node at a time, under the newest order of each that gave one: the master's clusterd,
    and the lockd of one of two nodes. Each numbers its orders by itself, and each is answered with its own number."""

    _course = Course

    def __init__(self, out: Outbox, configuration: Configuration) -> None:
        self.configuration = configuration
        self._out = out
        self._tasks: dict[NodeName, _Task] = {}
        self._ids: dict[int, NodeName] = {}
        self._waiting: dict[NodeName, dict[str, _Wish]] = {}
        """Orders that follow when the devices have answered to what they were asked before."""

    @property
    def wake_at(self) -> float | None:
        return min((task.course.due for task in self._tasks.values() if task.course.due is not None), default=None)

    def off(self, order: OrderFenceOff, now: float, who: str) -> None:
        """Harmless when repeated. A newer order takes the place of an older one of the same asker, whose confirmation
        would end nothing that the newer one names. What devices were asked before an order, confirms nothing to it."""
        node, task, wish = order.node, self._tasks.get(order.node), _Wish(order.index, now + ORDER_KEPT)
        if task is not None and who in task.wishes and task.wishes[who].index == order.index:
            task.wishes[who] = wish
        elif task is not None and task.course.busy:
            waiting = self._waiting.setdefault(node, {})
            if who not in waiting or (waiting[who].index or 0) <= order.index:
                waiting[who] = wish
        elif self._levels(node):
            self._begin(node, (task.wishes if task is not None else {}) | {who: wish}, now)
        else:
            self._out.tell(who, FenceResult(node, order.index, False, NO_DEVICE))

    def _begin(self, node: NodeName, wishes: dict[str, _Wish], now: float) -> None:
        off = {who: wish for who, wish in wishes.items() if wish.index is not None and now < wish.until}
        if off:
            self._tasks[node] = _Task(self._course(node, self._levels(node), Power.OFF, now), off)

    def on(self, order: OrderPowerOn, now: float) -> None:
        node, task = order.node, self._tasks.get(order.node)
        if task is not None and task.course.wanted is Power.OFF:
            self._out.tell(CLUSTERD, PoweredOn(node, False, f"{node} is being switched off"))
        elif task is None and (levels := self._levels(node)):
            course = self._course(node, levels, Power.ON, now, order.first)
            self._tasks[node] = _Task(course, {CLUSTERD: _Wish(None, now + worst_time(levels))})
        elif task is None:
            self._out.tell(CLUSTERD, PoweredOn(node, False, NO_DEVICE))

    def done(self, id: int, outcome: FenceOutcome, now: float) -> bool:
        """False: not asked by a course."""
        node = self._ids.pop(id, None)
        task = self._tasks.get(node) if node is not None else None
        if node is None or task is None:
            return node is not None
        verdict = task.course.done(id, outcome, now)
        over = verdict is not None and verdict.over
        if verdict is not None and (over or node not in self._waiting):
            for who, wish in task.wishes.items():
                self._out.tell(who, _message(node, wish, verdict))
        if not task.course.busy and (over or node in self._waiting):
            del self._tasks[node]
            unanswered = {} if over else task.wishes
            self._begin(node, unanswered | self._waiting.pop(node, {}), now)
        return True

    def wake(self, now: float) -> None:
        for node, task in list(self._tasks.items()):
            if task.course.due is not None and all(now >= wish.until for wish in task.wishes.values()):
                del self._tasks[node]  # nobody wants it any more
                continue
            devices = task.course.ask(now)
            if devices:
                wanted = task.course.wanted
                ids = tuple(self._out.do(AskDevice(node, device, wanted)) for device in devices)
                task.course.asked(ids)
                self._ids |= dict.fromkeys(ids, node)

    def _levels(self, node: NodeName) -> tuple[FenceLevel, ...]:
        return next((each.fence for each in self.configuration.cluster.nodes if each.name == node), ())


def _message(node: NodeName, wish: _Wish, verdict: Verdict) -> FenceResult | PoweredOn:
    if wish.index is None:
        return PoweredOn(node, verdict.done, verdict.reason)
    return FenceResult(node, wish.index, verdict.done, verdict.reason, verdict.level, verdict.over)
