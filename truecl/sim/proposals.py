"""What a clusterd asks of the log, and what it sees of it, as calls for `truecl.sim.linear`.

A call on a lock or on a grant begins when the command is proposed, and ends when the clusterd sees a ledger that its
entry is certainly part of. Simulated clusterds and real ones (truecl.runtime.trace) are judged alike.
"""

from collections.abc import Hashable, Iterator
from dataclasses import replace

from truecl.core.ledger import app_state
from truecl.model.ids import AppName, Index, Term
from truecl.model.ledger import AnyCommand, EndGrant, FreeLock, GiveGrant, Ledger, TakeLock
from truecl.sim.linear import OVER, OWNED, REFUSED, Call, unexplained
from truecl.wire.messages import Propose, Proposed

_LOCK, _GRANT = "lock ", "grant of "
"""What objects of either kind are named with."""


class Proposals:
    """Of all clusterds of one cluster. Times are of one clock that all share."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        """Of those proposals whose fate is known, or will never be."""
        self._open: dict[str, dict[int, _Open]] = {}
        """By who proposed, and number."""
        self._latest = Ledger()
        """The furthest that any of them saw."""

    def unexplained(self) -> list[Call] | None:
        """The history of a lock or a grant that no order explains. Raises Undecided."""
        waiting = [call for proposals in self._open.values() for each in proposals.values() for call in each.calls]
        return unexplained(self.calls + waiting, OWNED)

    def propose(self, who: str, message: Propose, now: float) -> None:
        calls = [call for command in message.commands for call in _calls(who, command, now)]
        if calls:
            self._open.setdefault(who, {})[message.number] = _Open(message.term, calls)

    def proposed(self, who: str, message: Proposed) -> None:
        """What was refused takes no effect, ever."""
        waiting = self._open.get(who, {})
        if message.number in waiting:
            if message.index is None:
                del waiting[message.number]
            else:
                waiting[message.number].appended(message.index)

    def applied(self, who: str, ledger: Ledger, now: float) -> None:
        self._advance(ledger, now)
        waiting = self._open.get(who, {})
        for number, proposal in list(waiting.items()):
            if proposal.index is None or ledger.index < proposal.index:
                continue
            del waiting[number]
            # The last entry being of its term too, it is of the log that this proposal was appended to. Otherwise a
            # later leader may have replaced it, and this ledger may be older than the proposal.
            if ledger.term == proposal.term:
                self.calls += [_answered(call, proposal.index, ledger, now) for call in proposal.calls]
                self.calls += _seen(proposal.calls, ledger, now)
            else:
                self.calls += proposal.calls

    def forget(self, who: str) -> None:
        """Whoever waited for the answers has gone; what was asked may still come into force."""
        for proposal in self._open.pop(who, {}).values():
            self.calls += proposal.calls

    def _advance(self, ledger: Ledger, now: float) -> None:
        """A term's first command, whatever it is, frees the locks of earlier terms."""
        if ledger.index <= self._latest.index:
            return
        if ledger.term > self._latest.term:
            for name, lock in self._latest.locks.items():
                if ledger.locks.get(name) != lock:
                    self.calls.append(Call("the log", _LOCK + name, "free", int(lock.token), now))
        self._latest = ledger


class _Open:
    """A proposal that is not known to be applied. `index` None: nor to be appended."""

    def __init__(self, term: Term, calls: list[Call]) -> None:
        self.term, self.calls = term, calls
        self.index: Index | None = None

    def appended(self, index: Index) -> None:
        self.index = index
        self.calls = [_at(call, index) for call in self.calls]


def _calls(who: str, command: AnyCommand, now: float) -> Iterator[Call]:
    match command:
        case TakeLock(name, holder):
            yield Call(who, _LOCK + name, "take", (holder, None, None), now)
        case FreeLock(name, token):
            yield Call(who, _LOCK + name, "free", int(token), now)
        case GiveGrant(app, node, after):
            yield Call(who, _GRANT + app, "take", (node, int(after), None), now)
        case EndGrant(app, generation):
            yield Call(who, _GRANT + app, "free", int(generation), now)
        case _:
            pass


def _at(call: Call, index: Index) -> Call:
    if call.verb != "take":
        return call
    assert isinstance(call.argument, tuple)
    return replace(call, argument=(*call.argument[:2], int(index)))


def _answered(call: Call, index: Index, ledger: Ledger, now: float) -> Call:
    """The answer is what this ledger, of `index` or later, tells for certain; none, where it does not."""
    owner, token = _owner(ledger, call.object)
    answer: Hashable = None
    if call.verb == "free":
        answer = REFUSED if owner and token == call.argument else OVER
    elif token is not None and token <= index:  # else it may have been given, and freed since
        assert isinstance(call.argument, tuple)
        answer = token if token == index and owner in ("", call.argument[0]) else REFUSED  # one entry may ask twice
    return call if answer is None else replace(call, ended=now, answer=answer)


def _seen(calls: list[Call], ledger: Ledger, now: float) -> list[Call]:
    """This ledger was the newest at some time since the proposal: all that it was about is read besides."""
    about = {call.object: call for call in calls}
    return [Call(call.who, name, "see", "", call.began, now, _owner(ledger, name)) for name, call in about.items()]


def _owner(ledger: Ledger, name: str) -> tuple[str, int | None]:
    """Who has a lock or a grant, '' for nobody, and his token; or the last one, None where the ledger does not tell."""
    if name.startswith(_LOCK):
        lock = ledger.locks.get(name.removeprefix(_LOCK))
        return (lock.holder, int(lock.token)) if lock is not None else ("", None)
    state = app_state(ledger, AppName(name.removeprefix(_GRANT)))
    if state.grant is not None:
        return state.grant.node, int(state.grant.generation)
    return "", int(state.ended.generation) if state.ended is not None else 0
