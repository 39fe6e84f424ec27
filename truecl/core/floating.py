"""reqd's side of floating addresses: address steps become orders to netd, and netd's word becomes the step's result.

netd may die and come back at any moment: what is wanted is told again whenever it joins, and an address that nobody
renews is taken down by the kernel. One that stood still for a while looks at an order, or at the time, when the lease
that it knows of is over: if this node's lease was extended meanwhile, it is asked again at once.
"""

from dataclasses import dataclass

from truecl.core.hold import LAPSED
from truecl.core.outbox import Outbox
from truecl.model.actions import Action, StepDown, StepProbe, StepResult, StepUp
from truecl.model.config import Address
from truecl.model.ids import NETD, AppName, Generation
from truecl.model.step import Instance, Probe
from truecl.wire.messages import (
    AddressState,
    HoldAddress,
    LeaseExtended,
    ProbeAddress,
    ReleaseAddress,
)

Key = tuple[AppName, Generation, str]


@dataclass
class _Pending:
    id: int
    up: bool
    deadline: float
    since: float
    order: int = 0
    """The number of the latest order to netd on this address."""


@dataclass
class _Held:
    address: Address
    takeover: bool
    order: int = 0
    """The number of the latest order to netd on it."""
    state: AddressState | None = None


class FloatingAddresses:
    """`results` collects (action id, StepResult) until `take_results`."""

    def __init__(self, outbox: Outbox, now: float) -> None:
        self._out = outbox
        self._next = -1
        self._orders = int(now * 1e6)
        """Number of the last order to netd; rises over the lives of reqd within a boot."""
        self._until = 0.0
        """When the lease ends that netd was told of last."""
        self._pending: dict[Key, _Pending] = {}
        self._wanted: dict[Key, _Held] = {}
        self._results: list[tuple[int, StepResult]] = []

    @property
    def wake_at(self) -> float | None:
        return min((each.deadline for each in self._pending.values()), default=None)

    def take_results(self) -> list[tuple[int, StepResult]]:
        results, self._results = self._results, []
        return results

    def probe_conflicts(self, instance: Instance, addresses: tuple[Address, ...]) -> None:
        """Ask early whether somebody has them, while storage comes up: the answer takes netd 100 ms."""
        for address in addresses:
            self._out.tell(NETD, ProbeAddress(instance.app, instance.generation, address))

    def ask(self, action: Action, address: Address, until: float, takeover: bool, now: float) -> int:
        """Begin an address step. The id is negative, so that it never meets one of the outbox's."""
        assert isinstance(action, StepUp | StepDown | StepProbe)
        number, self._next = self._next, self._next - 1
        key = (action.instance.app, action.instance.generation, address.address)
        if isinstance(action, StepProbe):
            self._results.append((number, self._probed(key, until)))
            return number
        up = isinstance(action, StepUp)
        overtaken = self._pending.get(key)
        if overtaken is not None:  # every action is answered, or its instance would wait for it for ever
            self._results.append((overtaken.id, StepResult(Probe.UNKNOWN, "overtaken by a newer order")))
        self._pending[key] = _Pending(number, up, now + action.timeout, now)
        if up:
            self._wanted[key] = _Held(address, takeover)
        else:
            self._wanted.pop(key, None)
        self._order(key, until)
        return number

    def _probed(self, key: Key, until: float) -> StepResult:
        """netd's last word; where that was no, it is asked to try again before the next look."""
        held = self._wanted.get(key)
        if held is None or held.state is None:
            return StepResult(Probe.UNKNOWN)
        if held.state.held:
            return StepResult(Probe.ACTIVE, facts=_facts(held.state))
        self._order(key, until)
        return StepResult(Probe.INACTIVE, held.state.reason)

    def _order(self, key: Key, until: float) -> None:
        app, generation, address = key
        held, pending = self._wanted.get(key), self._pending.get(key)
        self._until = until
        self._orders += 1
        if pending is not None:
            pending.order = self._orders
        if held is not None:
            # Once it was held, a duplicate is no reason to give it up: netd announces it again instead.
            check, held.order = held.state is None, self._orders
            order = HoldAddress(app, generation, held.address, until, check, held.takeover, self._orders)
            self._out.tell(NETD, order)
        else:
            self._out.tell(NETD, ReleaseAddress(app, generation, address, self._orders))

    def netd_joined(self, until: float) -> None:
        for key in sorted(set(self._wanted) | set(self._pending)):
            self._order(key, until)

    def extend(self, until: float) -> None:
        self._until = until
        generations = tuple(sorted({generation for _, generation, _ in self._wanted}))
        if generations:
            self._out.tell(NETD, LeaseExtended(until, generations))

    def state(self, message: AddressState, now: float) -> None:
        """netd's word on one address."""
        if message.probed:
            return
        key = (message.app, message.generation, message.address)
        held = self._wanted.get(key)
        if held is not None:
            if message.reason == LAPSED and not message.held and now < self._until:
                self._lapsed(key, held, message)
                return
            held.state = message
        pending = self._pending.get(key)
        if pending is None or (pending.up != message.held and not message.reason):
            return
        if not pending.up and message.number != pending.order:
            return  # said before netd saw the release: the kernel may have the address, or again by now
        del self._pending[key]
        probe = Probe.ACTIVE if message.held else Probe.INACTIVE
        reason = ""
        if pending.up and not message.held:
            owner = f": {message.conflict} answers for it" if message.conflict else ""
            reason = (message.reason or "netd does not hold it") + (
                owner if message.conflict not in message.reason else ""
            )
        if not pending.up and message.held:
            reason = message.reason or "still configured"
        facts = _facts(message)
        if pending.up and message.held and message.reason:
            facts["warning"] = message.reason
        self._results.append((pending.id, StepResult(probe, reason, facts, now - pending.since)))

    def _lapsed(self, key: Key, held: _Held, message: AddressState) -> None:
        """netd was late: at its latest order's end, which is not the lease's any more."""
        if message.number != held.order:
            return  # it has a newer one to answer
        if held.state is not None:  # before the first yes it still has to ask for conflicts
            held.state = message
        self._order(key, self._until)

    def wake(self, now: float) -> None:
        for key in [each for each, pending in self._pending.items() if now >= pending.deadline]:
            pending = self._pending.pop(key)
            self._results.append((pending.id, StepResult(Probe.UNKNOWN, "netd did not answer in time")))


def _facts(state: AddressState) -> dict[str, str]:
    return {"interface": state.interface} if state.interface else {}
