"""How one of two nodes has the other switched off: from its silence to the word of its fence devices.

    wait    for the other's `fence_delay`, so that of two that cannot hear each other one goes first. Meanwhile its
            devices are asked for its status: a node without power fences nobody, and is not waited for
    order   reqd asks the devices, and is reminded for as long as the order stands
    doubt   the devices said 'off', and hbd hears the node all the same: their word counts if that ends soon

Anything that comes from the other ends all of this. Each order has a number of its own, so a word that comes later is
that of no order. (That its status is 'off' proves nothing: fence_virsh says so of a suspended machine. The order is
carried out in any case, and what it confirms counts.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from truecl.core.outbox import Outbox
from truecl.model.actions import Power
from truecl.model.config import ClusterConfig, FenceLevel
from truecl.model.ids import LOCKD, REQD, STATD, Generation, Index, NodeName
from truecl.model.report import EventRecord, Severity
from truecl.wire.messages import AskFences, FenceResult, FencesSeen, Note, OrderFenceOff

REPEAT = 2.0
"""Seconds between two reminders of an order; one that is not repeated lapses (`truecl.core.fencing.ORDER_KEPT`)."""
ORDER_AGAIN = 1.0
"""Seconds from the end of an order that led to nothing to the next one."""
LOOK_AGAIN = 5.0
"""Seconds from an answer about the other's status to the next question. (Many devices bear one session at a time.)"""
DOUBT = 2.0
"""Seconds for which a node may still be heard that its devices call off: hbd's verdict takes less."""


@dataclass
class _Order:
    """Of one life of lockd: the next one is not current, and may not exclude on it."""

    number: Index
    generations: tuple[Generation, ...]
    """All that this log, committed or not, granted to the other before any device was asked."""
    told_at: float
    off_at: float | None = None
    """When the devices confirmed it."""


class Duel:
    """`granted` tells what the whole log, committed or not, grants to a node."""

    def __init__(
        self,
        me: NodeName,
        cluster: ClusterConfig,
        out: Outbox,
        granted: Callable[[NodeName], tuple[Generation, ...]],
    ) -> None:
        self.me = me
        self.reqd_joined = False
        self.trouble = ""
        """What the devices last said."""
        self.cluster, self._out, self._granted = cluster, out, granted
        self._order: _Order | None = None
        self._again_at = 0.0
        self._number = 0
        self._look_at = 0.0
        self._powerless = False
        """The other's devices say, since it fell silent, that it has no power."""
        self._doubted = False

    def start(self, now: float) -> None:
        self._number = int(now * 1e6)  # rises over the lives within a boot

    # ---- what ends it -----------------------------------------------------------------------------------------------

    def void(self, now: float) -> None:
        """The other lives, or has lived since; or this node may exclude nobody now."""
        if self._order is not None:
            self._order, self._again_at = None, now + ORDER_AGAIN
        self._powerless = self._doubted = False
        self._look_at, self.trouble = 0.0, ""

    def reqd_left(self) -> None:
        """With it the answers."""
        self.reqd_joined, self._order, self._look_at = False, None, 0.0

    # ---- what reqd answers ------------------------------------------------------------------------------------------

    def seen(self, message: FencesSeen, now: float) -> None:
        """The status: at least one level of devices, all of it, must call the node off."""
        if message.number != self._number or self._look_at != inf:
            return
        self._look_at = now + LOOK_AGAIN
        levels: dict[int, list[Power]] = {}
        for device in message.devices:
            levels.setdefault(device.level, []).append(device.power)
        self._powerless = any(all(power is Power.OFF for power in level) for level in levels.values())

    def fenced(self, result: FenceResult, now: float) -> None:
        order = self._order
        if order is None or order.number != result.index:
            return
        if result.off:
            order.off_at, self.trouble = now, ""
            return
        self.trouble = result.reason
        if result.over:
            self._order, self._again_at = None, now + ORDER_AGAIN

    # ---- what is done -----------------------------------------------------------------------------------------------

    @property
    def ordered(self) -> bool:
        return self._order is not None

    def step(self, other: NodeName, since: float | None, heard: bool, now: float) -> tuple[Generation, ...] | None:
        """`since`: from when the other counts as dead, which may be to come; None: it does not. `heard`: hbd hears it.
        Returns what is proven to have ended there, once it is confirmed off; None before."""
        order = self._order
        if order is not None and order.off_at is None:
            if now >= order.told_at + REPEAT:
                self._tell(other, order, now)
            return None
        if order is not None and order.off_at is not None:
            if not heard:
                self._order = None
                return order.generations
            if now < order.off_at + DOUBT:
                return None
            self._order, self._doubted = None, True
            self.trouble = f"says that {other} is off, and it is still heard; does the device switch another one?"
        if since is not None and now >= since and self._may_order(other, heard):
            delay = self.cluster.fence_delay(other)
            if now >= self._again_at and (self._powerless or now >= since + delay):
                self._number += 1
                order = self._order = _Order(Index(self._number), self._granted(other), now)
                self._tell(other, order, now)
                text = f"{other} is silent: its fence devices are asked to switch it off"
                self._out.tell(STATD, Note(EventRecord(0.0, now, self.me, LOCKD, Severity.WARN, text)))
            elif now >= self._look_at and not self._powerless and now < since + delay:
                self._number += 1
                self._look_at = inf  # until it is answered
                self._out.tell(REQD, AskFences(self._number, self.me, other))
        return None

    def wake_at(self, other: NodeName, since: float | None, heard: bool, now: float) -> float | None:
        """When `step` has something to do next."""
        order = self._order
        if order is not None:
            return order.told_at + REPEAT if order.off_at is None else order.off_at + DOUBT
        if since is None or not self._may_order(other, heard):
            return None
        times = (since, since + self.cluster.fence_delay(other), self._again_at, self._look_at)
        return min((time for time in times if now < time < inf), default=None)

    def levels(self, other: NodeName) -> tuple[FenceLevel, ...]:
        """Its fence devices, as configured."""
        return next((node.fence for node in self.cluster.nodes if node.name == other), ())

    def _may_order(self, other: NodeName, heard: bool) -> bool:
        return self.reqd_joined and bool(self.levels(other)) and not (self._doubted and heard)

    def _tell(self, other: NodeName, order: _Order, now: float) -> None:
        order.told_at = now
        self._out.tell(REQD, OrderFenceOff(other, order.number))
