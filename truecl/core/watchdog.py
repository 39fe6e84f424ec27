"""A node's watchdog, as reqd decides on it: when it is opened, when it is fed, whether it counts (SAFETY.md 3 and 6).

It is fed, and opened, only while the node's lease holds or nothing is left to stop. So a node that loses its lease and
cannot stop what it has is reset, and so is one whose reqd is dead, held or hung; the law "stop allowance + feed
interval < timeout" gives the forced stop its time before that. How long it takes at worst: `leases.WATCHDOG_TIMES`.

Opening is under the same rule for a reason: the kernel feeds an armed watchdog when the process that has it open dies,
so a daemon that dies again and again must not open it once the lease is over.

Record: bucket 'run.watchdog', key 'armed': the device and timeout of this boot, before it is opened. What an earlier
life of this daemon armed is fed on, whatever the configuration says by now, until it can be disarmed.
"""

import msgspec

from truecl.core.contract import Records
from truecl.core.outbox import Outbox
from truecl.model.actions import ArmWatchdog, DisarmWatchdog, FeedWatchdog, WatchdogArmed, WatchdogFed, WatchdogTrouble
from truecl.model.config import WATCHDOG_FEED, WatchdogConfig
from truecl.model.ledger import Proof
from truecl.model.report import WatchdogReport
from truecl.wire.messages import Order

SOFTDOG = "Software Watchdog"
"""What softdog calls itself: a timer of the kernel that it is to watch."""
RETRY = 5.0
"""Seconds until a device that could not be opened is tried again."""
_BUCKET, _KEY = "run.watchdog", "armed"


class WatchdogRecord(msgspec.Struct, frozen=True):
    """Bucket 'run.watchdog'."""

    device: str
    timeout: float


class Watchdog:
    """Mutable; a part of reqd's core. All times are CLOCK_BOOTTIME, seconds."""

    def __init__(self, config: WatchdogConfig, allowance: float, records: Records, out: Outbox) -> None:
        self._config = config
        self._allowance = allowance
        self._out = out
        record = records.get(_BUCKET, {}).get(_KEY)
        self._inherited = msgspec.msgpack.decode(record, type=WatchdogRecord) if record else None
        self._action: int | None = None
        """The one under way."""
        self._armed: WatchdogArmed | None = None
        self._trouble = "" if self.used else "none is configured"
        self._tried = False
        self._due = 0.0
        self._given_up = False
        self._may_feed = False

    @property
    def used(self) -> bool:
        """Is there one to be opened or fed?"""
        return self._config.use != "off" or self._inherited is not None

    @property
    def settled(self) -> bool:
        """It is known whether there is one: only now a start can be judged."""
        return not self.used or self._tried

    @property
    def armed(self) -> bool:
        return self._armed is not None and not self._trouble

    @property
    def timeout(self) -> float:
        """Seconds; 0 where it is not armed or does not count."""
        return self._armed.timeout if self._armed is not None and self.armed and self.counts() else 0.0

    @property
    def runs(self) -> float:
        """Seconds from the last feed to its reset, whether it counts in a proof or not; 0 where none is armed."""
        armed = self._armed or self._inherited
        return armed.timeout if armed is not None else 0.0

    @property
    def wake_at(self) -> float | None:
        """While it may not be fed, whatever changes that comes with an event."""
        return self._due if self._may_feed and self._action is None else None

    def counts(self) -> bool:
        """Does its clock run while the node is stopped? Hardware of a physical machine does; else the operator's
        word."""
        armed = self._armed
        real = armed is not None and not armed.virtual and armed.identity != SOFTDOG
        return self._config.watchdog_survives_pause or real

    def report(self) -> WatchdogReport | None:
        if not self.used:
            return None
        required, armed = self._config.use == "required", self._armed
        if armed is None or not self.armed:
            return WatchdogReport(False, required=required, text=self._trouble or "not opened yet")
        return WatchdogReport(True, armed.timeout, self.counts(), required, self._what(armed))

    def _what(self, armed: WatchdogArmed) -> str:
        text = f"{armed.identity}, {armed.timeout:g} s"
        if self.counts():
            return text
        why = f"this is a virtual machine ({armed.virtual})" if armed.virtual else "its clock stops with the kernel"
        return f"{text}; counts in no proof: {why}, and watchdog_survives_pause is not declared"

    # ---- what may start ---------------------------------------------------------------------------------------------

    def forbids(self, order: Order) -> str:
        """Why this start must not be: the grant leans on a watchdog that is not so. '' if it may."""
        if Proof.EXPIRED_WATCHDOG in order.proofs and not 0.0 < self.timeout <= order.watchdog:
            return f"its grant leans on a watchdog of {order.watchdog:g} s at most, and this node has none armed now"
        return ""

    def refuses(self) -> str:
        """Why nothing may start on this node; '' if it may."""
        if self._config.use == "required" and not self.armed:
            return f"this node must have a watchdog, and has none armed: {self._trouble or 'not opened yet'}"
        return ""

    # ---- open and feed ----------------------------------------------------------------------------------------------

    def step(self, may_feed: bool, now: float) -> None:
        """At the end of every call of the core. `may_feed`: the lease holds, or nothing is left to stop."""
        self._may_feed = may_feed and self.used and not self._given_up
        if not self._may_feed or self._action is not None or now < self._due:
            return
        self._due = now + WATCHDOG_FEED
        self._action = self._out.do(FeedWatchdog() if self._armed is not None else self._arm())

    def _arm(self) -> ArmWatchdog:
        wanted = self._inherited or WatchdogRecord(self._config.device, self._config.timeout)
        self._out.put(_BUCKET, _KEY, msgspec.msgpack.encode(wanted))
        return ArmWatchdog(wanted.device, int(wanted.timeout), self._inherited is not None)

    def done(self, id: int, result: WatchdogArmed | WatchdogFed | WatchdogTrouble, now: float) -> None:
        if id != self._action:
            return
        self._action = None
        match result:
            case WatchdogArmed():
                self._tried, self._armed, self._trouble = True, result, self._unfit(result)
            case WatchdogTrouble(reason):
                self._tried, self._trouble = True, reason
                if self._armed is None:
                    self._due = now + (WATCHDOG_FEED if self._inherited is not None else RETRY)
                    self._forget()
            case WatchdogFed():
                if self._armed is not None:
                    self._trouble = self._unfit(self._armed)

    def _unfit(self, armed: WatchdogArmed) -> str:
        """It is fed all the same: it may not be possible to disarm it."""
        if armed.timeout > self._allowance + WATCHDOG_FEED:
            return ""
        need = f"more than stop_allowance + {WATCHDOG_FEED:g} s are needed"
        return f"{armed.identity} takes {armed.timeout:g} s at most: {need} ({self._allowance:g} s)"

    def _forget(self) -> None:
        """What could not be opened at all is not armed by this daemon, unless an earlier life armed it."""
        if self._inherited is None:
            self._out.drop(_BUCKET)

    def disarm(self) -> None:
        """This daemon ends, and nothing is left to stop."""
        self._given_up = True
        if self._armed is not None:
            self._out.do(DisarmWatchdog())
            self._out.drop(_BUCKET)
