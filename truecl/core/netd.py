"""netd's whole core: floating addresses on this node, held on reqd's orders and never longer than the lease.

The kernel's own address lifetime is the dead-man's switch (SAFETY.md section 7): whatever happens to netd, the address
goes when the lease is over. So this core only ever extends a lifetime when reqd says that the lease was extended, twice
a second at the most, in the same wake if it can, and takes the address down itself, at once, when the lease ends.

Without reqd nothing is renewed and everything is kept until its lease ends; reqd, when back, repeats its orders.
After netd's own restart the table is empty: an address of the old netd is still there with its lifetime, and the order
that reqd repeats takes it over without a gap and without a conflict probe. What nobody orders vanishes by itself.
"""

from truecl.core.announce import ROUNDS, ROUNDS_CONTESTED, healed
from truecl.core.contract import Done, Event, Joined, Left, Noted, Output, Told, Woke
from truecl.core.hold import (
    LAPSED,
    WANTED,
    Announce,
    AskConflict,
    Configure,
    Conflict,
    Hold,
    Outcome,
    Phase,
    Remove,
    Sign,
    Warn,
    step,
)
from truecl.core.interfaces import Interface, Interfaces, canonical, place, usable, where
from truecl.core.outbox import Outbox
from truecl.model.config import Timing
from truecl.model.ids import HBD, REQD, AppName, Generation
from truecl.wire.messages import (
    AddressState,
    HoldAddress,
    LeaseExtended,
    ProbeAddress,
    Refused,
    ReleaseAddress,
    Subscribe,
    View,
)

MAX_HOLDS = 1024
MAX_EARLY = 1024
"""Orders kept until the interfaces are known."""
MAX_CLEAN = 1024
MAX_OWED = 16
CLEAN_FOR = 60.0
"""Seconds that a probe without an answer counts."""
RETRY = 0.2
"""Seconds between attempts to configure what would not."""
RETRY_REMOVE = 0.02
"""The same to remove it: several within the address allowance, and none is left once the kernel's lifetime is over."""
FIGHT = 0.05
"""An address that vanishes so soon after it was configured is not put back at once."""
RENEWAL = 0.5
"""Seconds between renewals at the least; every listener on the machine gets an event."""
PATIENCE = 0.2
"""Seconds longer that a renewal waits for reqd's next word on the lease, so that both take one wake."""
FAST_LEASE = 0.75
"""Leases shorter than this: renewed twice as often, and the kernel's lifetime has no second on top."""

Claim = tuple[AppName, Generation, str]


class Netd:
    """`faults` counts messages that this daemon has no use for."""

    def __init__(self, timing: Timing) -> None:
        fast = timing.lease < FAST_LEASE
        self._margin = 0 if fast else 1
        self._pace = RENEWAL / 2 if fast else RENEWAL
        self._patience = 0.0 if fast else PATIENCE
        self._out = Outbox()
        self._interfaces: tuple[Interface, ...] | None = None
        self._early: list[HoldAddress | ReleaseAddress | ProbeAddress] = []
        self._holds: dict[str, Hold] = {}
        self._actions: dict[int, str] = {}
        """Kernel orders under way: action id to the canonical address."""
        self._probes: dict[int, tuple[str, list[ProbeAddress]]] = {}
        """Conflict probes under way, and who asked besides a hold in PROBING."""
        self._clean: dict[Claim, float] = {}
        self._view: View | None = None
        self.faults = 0

    # ---- the contract --------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        return self._out.take()

    def handle(self, event: Event, now: float) -> Output:
        # The clock first, whatever the event: a lapse is final.
        self._expire(now)
        match event:
            case Told("reqd", HoldAddress() | ReleaseAddress() | ProbeAddress() as order):
                self._ordered(order, now)
            case Told("reqd", LeaseExtended() as extension):
                self._extend(extension, now)
            case Told("hbd", View() as view):
                self._viewed(view, now)
            case Told(_, Refused()):
                self.faults += 1
            case Told(who, _):
                self.faults += 1
                self._out.tell(who, Refused("netd takes orders from reqd alone"))
            case Joined("hbd"):
                self._out.tell(HBD, Subscribe())
            case Left("reqd"):
                for hold in self._holds.values():
                    hold.extended = False
            case Done(id, result):
                self._done(id, result, now)
            case Noted(Interfaces(all)):
                self._look(all, now)
            case Woke() | Joined() | Left():
                pass
            case _:
                self.faults += 1
        self._act_on_time(now)
        return self._out.take(*(self._wake_of(hold) for hold in self._holds.values()))

    # ---- orders --------------------------------------------------------------------------------------------------

    def _ordered(self, order: HoldAddress | ReleaseAddress | ProbeAddress, now: float) -> None:
        if self._interfaces is None:
            if len(self._early) < MAX_EARLY:
                self._early.append(order)
            return
        spelled = order.address if isinstance(order, ReleaseAddress) else order.address.address
        try:
            address = canonical(spelled)
        except ValueError:
            self._answer_for(order, spelled, reason=f"{spelled!r} is no address")
            return
        match order:
            case HoldAddress():
                self._hold(order, address, now)
            case ReleaseAddress():
                self._release(order, address, now)
            case ProbeAddress():
                self._probe(order, address, now)

    def _hold(self, order: HoldAddress, address: str, now: float) -> None:
        hold = self._holds.get(address)
        if now >= order.until:
            self._refuse(order, LAPSED)
        elif hold is None:
            self._begin(order, address, now)
        elif hold.phase not in WANTED:
            hold.successor = order
        elif order.app != hold.app or order.generation < hold.generation:
            self._refuse(order, f"held for {hold.app}, generation {hold.generation}")
        else:
            hold.order, hold.number = order, order.number
            hold.generation = order.generation
            hold.spelled = order.address.address
            hold.extended = hold.extended or order.until > hold.until
            hold.until = max(hold.until, order.until)
            if hold.phase in (Phase.HELD, Phase.RENEWING):
                self._answer(hold, held=True)

    def _begin(self, order: HoldAddress, address: str, now: float) -> None:
        if len(self._holds) >= MAX_HOLDS:
            self._refuse(order, f"netd holds {MAX_HOLDS} addresses already")
            return
        interfaces = self._interfaces or ()
        found = where(address, interfaces)
        if found is not None and found[1].foreign:
            self._refuse(order, f"somebody else configured it on {found[0]}; remove it there first")
            return
        chosen = place(order.address, interfaces)
        if isinstance(chosen, str):
            self._refuse(order, chosen)
            return
        hold = Hold(
            address=address,
            spelled=order.address.address,
            app=order.app,
            generation=order.generation,
            until=order.until,
            phase=Phase.PROBING,
            interface=chosen.interface,
            prefix=chosen.prefix,
            order=order,
            number=order.number,
        )
        self._holds[address] = hold
        if chosen.warning:
            self._warn(hold, chosen.warning)
        if found is not None:
            # Of a netd before this one: exactly as it is, so that it is one address and not two.
            hold.interface, hold.prefix = found[0], found[1].prefix
        if found is not None or not order.check or self._is_clean(order, address, now):
            self._turn(hold, Sign.CLEAR, now)
        else:
            self._ask(address, hold.interface)
            if order.takeover:
                # Its last owner may still answer, and that is no reason to wait.
                self._turn(hold, Sign.CLEAR, now)

    def _release(self, order: ReleaseAddress, address: str, now: float) -> None:
        hold = self._holds.get(address)
        if hold is not None:
            if order.app != hold.app or order.generation < hold.generation:
                self._answer_for(order, order.address)
                return
            if hold.phase in WANTED:
                hold.generation, hold.spelled, hold.reason = order.generation, order.address, ""
                hold.number = order.number
                self._turn(hold, Sign.UNWANTED, now)
            elif order.generation == hold.generation:
                hold.number = order.number
            elif len(hold.owed) < MAX_OWED:
                # The next generation's order was waiting for this one to be gone, and so does its release.
                hold.owed.append(order)
            if hold.successor is not None and hold.successor.generation <= order.generation:
                hold.successor = None
            return
        # Perhaps left by a netd before this one: the answer comes when the kernel was asked.
        hold = Hold(address, order.address, order.app, order.generation, now, Phase.DROPPING, "", 0, None, order.number)
        self._holds[address] = hold
        self._enter(hold, now)

    def _probe(self, order: ProbeAddress, address: str, now: float) -> None:
        interfaces = self._interfaces or ()
        found = where(address, interfaces)
        own = found is not None and not found[1].foreign
        if own or address in self._holds or self._is_clean(order, address, now):
            self._answer_for(order, order.address.address, probed=True)
            return
        chosen = place(order.address, interfaces)
        if found is not None:
            chosen = f"somebody else configured it on {found[0]}; remove it there first"
        if isinstance(chosen, str):
            self._answer_for(order, order.address.address, reason=chosen, probed=True)
            return
        self._ask(address, chosen.interface, order)

    def _extend(self, extension: LeaseExtended, now: float) -> None:
        for hold in self._holds.values():
            if hold.generation in extension.generations and hold.phase in WANTED and extension.until > hold.until:
                hold.until = extension.until
                hold.extended = True
                if hold.phase is Phase.HELD and now >= hold.renewed + self._pace:
                    self._turn(hold, Sign.DUE, now)

    # ---- time ----------------------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        for hold in list(self._holds.values()):
            if hold.phase in WANTED and now >= hold.until:
                hold.reason = LAPSED
                self._turn(hold, Sign.UNWANTED, now)

    def _act_on_time(self, now: float) -> None:
        for hold in list(self._holds.values()):
            if self._due_at(hold) <= now:
                if hold.phase is Phase.LOST:
                    self._choose(hold)
                self._turn(hold, Sign.DUE, now)
            if hold.phase in (Phase.HELD, Phase.RENEWING) and hold.announcements.due(now):
                self._out.do(Announce(hold.address, hold.interface))

    def _due_at(self, hold: Hold) -> float:
        """When it is to be renewed, or tried again."""
        if hold.phase in (Phase.LOST, Phase.STUCK):
            return hold.retry
        if hold.phase is Phase.HELD and hold.extended:
            return hold.renewed + self._pace + self._patience
        return float("inf")

    def _wake_of(self, hold: Hold) -> float | None:
        times = [self._due_at(hold)]
        if hold.phase in WANTED:
            times.append(hold.until)
        if hold.phase in (Phase.HELD, Phase.RENEWING) and hold.announcements.next is not None:
            times.append(hold.announcements.next)
        wake = min(times)
        return None if wake == float("inf") else wake

    # ---- answers of the drivers ----------------------------------------------------------------------------------

    def _done(self, number: int, result: object, now: float) -> None:
        if number in self._probes and isinstance(result, Conflict):
            self._probed(*self._probes.pop(number), result, now)
            return
        hold = self._holds.get(self._actions.pop(number, ""))
        if hold is None or hold.action != number or not isinstance(result, Outcome):
            return
        hold.action = 0
        if result.reason:
            hold.reason = result.reason
            self._turn(hold, Sign.FAILED, now)
        else:
            self._turn(hold, Sign.DONE, now)

    def _probed(self, address: str, asked: list[ProbeAddress], result: Conflict, now: float) -> None:
        for order in asked:
            if not result.mac and not result.reason:
                self._remember_clean((order.app, order.generation, address), now)
            spelled = order.address.address
            self._answer_for(order, spelled, reason=result.reason, conflict=result.mac, probed=True)
        hold = self._holds.get(address)
        if hold is None or hold.order is None:
            return
        hold.conflict = result.mac
        tolerant = hold.order.takeover or hold.order.address.conflict == "warn"
        if result.mac and tolerant:
            self._warn(hold, f"{result.mac} answers for it as well; it is announced until that ends")
            hold.announcements.begin(now, ROUNDS_CONTESTED)
        if hold.phase is not Phase.PROBING:
            return
        if (result.mac or result.reason) and not tolerant:
            hold.reason = result.reason or f"{result.mac} on {hold.interface} has this address"
            self._turn(hold, Sign.REFUSED, now)
        else:
            self._turn(hold, Sign.CLEAR, now)

    # ---- the network as it is ------------------------------------------------------------------------------------

    def _look(self, interfaces: tuple[Interface, ...], now: float) -> None:
        before, self._interfaces = self._interfaces, interfaces
        if before is None:
            early, self._early = self._early, []
            for order in early:
                self._ordered(order, now)
            return
        for hold in list(self._holds.values()):
            found = where(hold.address, interfaces)
            returned = usable(hold.interface, interfaces) and not usable(hold.interface, before)
            if hold.phase is Phase.LOST:
                hold.retry = now if returned else hold.retry
            elif found is None and hold.phase is Phase.RENEWING:
                hold.vanished = True
            elif found is None and hold.phase is Phase.HELD:
                self._warn(hold, f"vanished from {hold.interface}, put back")
                self._restore(hold, now)
            elif returned:
                hold.announcements.begin(now)
            else:
                self._move(hold, now)

    def _move(self, hold: Hold, now: float) -> None:
        """To a sister interface, if its own is dead and another one serves the same network."""
        interfaces = self._interfaces or ()
        if hold.phase is not Phase.HELD or hold.order is None or usable(hold.interface, interfaces):
            return
        chosen = place(hold.order.address, interfaces)
        if isinstance(chosen, str) or chosen.interface == hold.interface or not usable(chosen.interface, interfaces):
            return
        self._warn(hold, f"{hold.interface} has no link, moved to {chosen.interface}")
        hold.leaving = hold.interface
        hold.interface, hold.prefix = chosen.interface, chosen.prefix
        self._turn(hold, Sign.VANISHED, now)

    def _restore(self, hold: Hold, now: float) -> None:
        """Configure it again, on another interface if its own is dead.

        If it goes as soon as it comes, somebody fights with us: from then on at the pace of retries.
        """
        if now - hold.renewed < FIGHT:
            hold.reason = "something on this node removes it as soon as it is configured"
            self._turn(hold, Sign.FAILED, now)
            return
        hold.announced = False
        self._choose(hold)
        self._turn(hold, Sign.VANISHED, now)

    def _choose(self, hold: Hold) -> None:
        """Another interface for an address that is on none now, if its own is dead."""
        if hold.order is None or usable(hold.interface, self._interfaces or ()):
            return
        chosen = place(hold.order.address, self._interfaces or ())
        if not isinstance(chosen, str):
            hold.interface, hold.prefix = chosen.interface, chosen.prefix

    def _viewed(self, view: View, now: float) -> None:
        if healed(self._view, view):
            for hold in self._holds.values():
                if hold.phase in (Phase.HELD, Phase.RENEWING):
                    hold.announcements.begin(now)
        self._view = view

    # ---- phases --------------------------------------------------------------------------------------------------

    def _turn(self, hold: Hold, sign: Sign, now: float) -> None:
        phase = step(hold.phase, sign)
        if phase is not hold.phase:
            hold.phase = phase
            self._enter(hold, now)

    def _enter(self, hold: Hold, now: float) -> None:
        """What coming into a phase brings with it."""
        match hold.phase:
            case Phase.TAKING | Phase.RENEWING | Phase.RESTORING:
                hold.renewed = now
                hold.extended = False
                self._order(hold, Configure(hold.address, hold.prefix, hold.interface, hold.until, self._margin))
            case Phase.HELD:
                self._settled(hold, now)
            case Phase.LOST:
                hold.retry = now + RETRY
                hold.announced = False
                self._answer(hold, held=False)
            case Phase.DROPPING:
                hold.announcements.stop()
                self._order(hold, Remove(hold.address))
            case Phase.STUCK:
                hold.retry = now + RETRY_REMOVE
                self._answer(hold, held=True)
            case Phase.GONE:
                self._gone(hold, now)
            case _:
                pass

    def _settled(self, hold: Hold, now: float) -> None:
        if not hold.announced:
            hold.announced = True
            hold.announcements.begin(now, ROUNDS_CONTESTED if hold.conflict else ROUNDS)
            hold.reason = f"{hold.conflict} answers for it as well" if hold.conflict else ""
            self._answer(hold, held=True)
            hold.reason = ""
        if hold.leaving:
            self._out.do(Remove(hold.address, hold.leaving))
            hold.leaving = ""
            hold.announcements.begin(now)
        if hold.vanished:
            hold.vanished = False
            self._restore(hold, now)
        else:
            self._move(hold, now)

    def _gone(self, hold: Hold, now: float) -> None:
        del self._holds[hold.address]
        self._clean.pop((hold.app, hold.generation, hold.address), None)
        self._answer(hold, held=False)
        for release in hold.owed:
            self._answer_for(release, release.address)
        if hold.successor is not None:
            self._hold(hold.successor, hold.address, now)

    def _order(self, hold: Hold, action: Configure | Remove) -> None:
        hold.action = self._out.do(action)
        self._actions[hold.action] = hold.address

    # ---- conflict probes -----------------------------------------------------------------------------------------

    def _ask(self, address: str, interface: str, order: ProbeAddress | None = None) -> None:
        """Ask the network, or join those who are already asking."""
        for asked, orders in self._probes.values():
            if asked == address:
                orders.extend([order] if order is not None else [])
                return
        number = self._out.do(AskConflict(address, interface))
        self._probes[number] = (address, [order] if order is not None else [])

    def _is_clean(self, order: HoldAddress | ProbeAddress, address: str, now: float) -> bool:
        asked = self._clean.get((order.app, order.generation, address))
        return asked is not None and now - asked < CLEAN_FOR

    def _remember_clean(self, claim: Claim, now: float) -> None:
        self._clean.pop(claim, None)
        self._clean[claim] = now
        if len(self._clean) > MAX_CLEAN:
            del self._clean[next(iter(self._clean))]

    # ---- words ---------------------------------------------------------------------------------------------------

    def _warn(self, hold: Hold, text: str) -> None:
        self._out.do(Warn(f"{hold.address} of {hold.app}: {text}"))

    def _refuse(self, order: HoldAddress, reason: str) -> None:
        self._answer_for(order, order.address.address, reason=reason)

    def _answer_for(
        self,
        order: HoldAddress | ReleaseAddress | ProbeAddress,
        spelled: str,
        *,
        reason: str = "",
        conflict: str = "",
        probed: bool = False,
    ) -> None:
        number = 0 if isinstance(order, ProbeAddress) else order.number
        state = AddressState(order.app, order.generation, spelled, False, conflict, reason, "", probed, number)
        self._out.tell(REQD, state)

    def _answer(self, hold: Hold, *, held: bool) -> None:
        interface = hold.interface if held else ""
        state = AddressState(
            hold.app, hold.generation, hold.spelled, held, hold.conflict, hold.reason, interface, number=hold.number
        )  # fmt: skip
        self._out.tell(REQD, state)
