"""The replicated state machine: what each committed log entry means.

`apply` is a pure function, so that every lockd which applied the same log holds the same ledger. A command that was
overtaken (it names a generation that is no longer live, a fence order that was replaced) changes nothing: two masters
of different terms can both propose in good faith, and the log's order decides.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from truecl.core import copies
from truecl.model.config import Timing
from truecl.model.ids import NO_GENERATION, AppName, Generation, Index, NodeName, Term
from truecl.model.ledger import (
    AcceptCopy,
    AppState,
    Batch,
    CancelFence,
    ClearFailures,
    Command,
    Configure,
    ConfirmFence,
    Ended,
    EndGrant,
    Excluded,
    Failure,
    Fence,
    FreeLock,
    GiveGrant,
    Grant,
    LeaseTiming,
    Ledger,
    Lock,
    MarkCopy,
    OrderFence,
    Proof,
    RaiseLevel,
    RecordBoot,
    RecordBuild,
    RecordLosses,
    RecordVerified,
    RecordWatchdog,
    SetMirror,
    SetStandby,
    SettleTiming,
    SetWanted,
    TakeLock,
    Verified,
    Wanted,
    Watchdog,
)

MAX_TIMINGS = 8
"""In force and still counted with; a further one waits until those before it are settled."""
MAX_FORMER = 32
"""Former configurations that a node is known to be behind by."""
MAX_FAILURES = 32
"""Remembered failures of one application; the oldest is forgotten."""

_NO_APP = AppState()
Value = TypeVar("Value")


def apply(ledger: Ledger, index: Index, term: Term, batch: Batch) -> Ledger:
    """The ledger after the entry at `index`. All commands of a batch are applied at that index, in order."""
    if term > ledger.term:
        ledger = replace(ledger, locks={name: lock for name, lock in ledger.locks.items() if lock.term >= term})
    for command in batch.commands:
        ledger = _MEANING[type(command)](ledger, index, term, command)
    return replace(ledger, index=index, term=term)


def encode(ledger: Ledger) -> bytes:
    """For snapshots."""
    return msgspec.msgpack.encode(ledger)


def decode(data: bytes) -> Ledger:
    """Raises msgspec.DecodeError, msgspec.ValidationError."""
    return msgspec.msgpack.decode(data, type=Ledger)


def app_state(ledger: Ledger, app: AppName) -> AppState:
    return ledger.apps.get(app, _NO_APP)


def granted_to(ledger: Ledger, node: NodeName) -> tuple[tuple[AppName, Generation], ...]:
    """The live grants of this node, by application name."""
    return tuple(
        (app, state.grant.generation)
        for app, state in sorted(ledger.apps.items())
        if state.grant is not None and state.grant.node == node
    )


def named_to(ledger: Ledger, node: NodeName) -> tuple[tuple[AppName, Generation], ...]:
    """What a lease answer names to this node: its live grants, but for those that a fence order names.

    The confirmation of that order may come late, when the node is back; a generation that it never saw before must not
    start there then, for the fence would 'prove' that it is gone.
    """
    fence = ledger.fences.get(node)
    fenced = fence.generations if fence is not None else ()
    return tuple((app, generation) for app, generation in granted_to(ledger, node) if generation not in fenced)


def fence_proof(ledger: Ledger, node: NodeName, generation: Generation) -> Proof | None:
    """What a confirmed fence of this node proves, if its order named this generation: FENCED, or VOUCHED where the
    operator's word stands for the device's."""
    fence = ledger.fences.get(node)
    if fence is None or not fence.confirmed or generation not in fence.generations:
        return None
    return Proof.VOUCHED if fence.vouched else Proof.FENCED


def watchdog_of(ledger: Ledger, node: NodeName) -> Watchdog | None:
    """The node's watchdog, if it is one that counts in a proof."""
    watchdog = ledger.watchdogs.get(node)
    return watchdog if watchdog is not None and watchdog.survives_pause else None


def watchdog_proves(ledger: Ledger, grant: Grant) -> bool:
    """Would the time of its watchdog, once it is over, prove that this grant can do no more harm? It was given for
    that, and the node's watchdog is still one that counts and no slower."""
    watchdog = watchdog_of(ledger, grant.node)
    known = watchdog is not None and watchdog.timeout <= grant.watchdog
    return Proof.EXPIRED_WATCHDOG in grant.proofs and known


def _with(mapping: dict[NodeName, Value], node: NodeName, value: Value | None) -> dict[NodeName, Value]:
    """None: without it."""
    others = {name: each for name, each in mapping.items() if name != node}
    return others if value is None else others | {node: value}


def lease_timing(timing: Timing) -> LeaseTiming:
    """Of a configuration, what goes into the log."""
    return LeaseTiming(timing.lease, timing.drift, timing.stop_allowance, timing.address_allowance)


def may_configure(ledger: Ledger, timing: LeaseTiming) -> bool:
    """Does the ledger take a `Configure` with this timing now?"""
    return timing in ledger.timings or len(ledger.timings) < MAX_TIMINGS


def slowest_watchdog(ledger: Ledger) -> float:
    """The longest timeout of a watchdog that a proof may have to wait for, seconds."""
    granted = [state.grant.watchdog for state in ledger.apps.values() if state.grant is not None]
    return max([*granted, *(each.timeout for each in ledger.watchdogs.values())], default=0.0)


def _with_app(ledger: Ledger, app: AppName, state: AppState) -> Ledger:
    return replace(ledger, apps=ledger.apps | {app: state})


def _set_wanted(ledger: Ledger, index: Index, term: Term, command: SetWanted) -> Ledger:
    state = app_state(ledger, command.app)
    if command.wanted is Wanted.STOPPED:
        return _with_app(ledger, command.app, replace(state, wanted=command.wanted, preferred=None, move=False))
    # The operator's start is a new beginning: nodes where it failed before are tried again.
    changed = replace(
        state,
        wanted=command.wanted,
        preferred=command.preferred,
        move=command.move and state.grant is not None and state.grant.node != command.preferred,
        failures=(),
        failovers=state.failovers if state.wanted is Wanted.RUNNING else 0,
    )
    return _with_app(ledger, command.app, changed)


def _end_grant(ledger: Ledger, index: Index, term: Term, command: EndGrant) -> Ledger:
    state = app_state(ledger, command.app)
    grant = state.grant
    if grant is None or grant.generation != command.generation:
        return ledger
    by_fence = command.proof in (Proof.FENCED, Proof.VOUCHED)
    if by_fence and command.proof is not fence_proof(ledger, grant.node, grant.generation):
        return ledger
    failures = state.failures
    if command.failed:
        others = tuple(each for each in failures if each.node != grant.node)
        failures = (*others, Failure(grant.node, grant.generation, command.reason))[-MAX_FAILURES:]
    ended = Ended(grant.node, grant.generation, command.proof, command.reason)
    return _with_app(ledger, command.app, replace(state, grant=None, ended=ended, failures=failures))


def _give_grant(ledger: Ledger, index: Index, term: Term, command: GiveGrant) -> Ledger:
    state = app_state(ledger, command.app)
    last = state.ended.generation if state.ended is not None else NO_GENERATION
    wanted = Wanted.STOPPED if command.build else Wanted.RUNNING
    if state.grant is not None or last != command.after or state.wanted is not wanted:
        return ledger
    if not copies.grantable(ledger, state, command):
        return ledger
    watchdog, proofs = watchdog_of(ledger, command.node), command.proofs
    if watchdog is None:
        proofs = tuple(each for each in proofs if each is not Proof.EXPIRED_WATCHDOG)
    timeout = watchdog.timeout if watchdog is not None and Proof.EXPIRED_WATCHDOG in proofs else 0.0
    grant = Grant(command.node, Generation(index), proofs, timeout, command.addressed, command.alone, command.build)
    ledger = copies.left_behind(ledger, index, command)
    failovers = state.failovers + (1 if command.failover else 0)
    return _with_app(ledger, command.app, replace(state, grant=grant, failovers=failovers, move=False))


def _order_fence(ledger: Ledger, index: Index, term: Term, command: OrderFence) -> Ledger:
    fence = Fence(command.node, index, command.generations)
    return replace(ledger, fences=ledger.fences | {command.node: fence})


def _confirm_fence(ledger: Ledger, index: Index, term: Term, command: ConfirmFence) -> Ledger:
    fence = ledger.fences.get(command.node)
    if fence is None or fence.index != command.index:
        return ledger
    if fence.confirmed:  # the first word stands: what it ended, it ended with that proof
        return ledger
    confirmed = replace(fence, confirmed=True, vouched=command.vouched)
    return replace(ledger, fences=ledger.fences | {command.node: confirmed})


def _excluded(ledger: Ledger, index: Index, term: Term, command: Excluded) -> Ledger:
    fence = Fence(command.node, index, command.generations, True, command.vouched)
    return replace(ledger, fences=ledger.fences | {command.node: fence})


def _cancel_fence(ledger: Ledger, index: Index, term: Term, command: CancelFence) -> Ledger:
    fence = ledger.fences.get(command.node)
    if fence is None or fence.index != command.index:
        return ledger
    return replace(ledger, fences={node: each for node, each in ledger.fences.items() if node != command.node})


def _take_lock(ledger: Ledger, index: Index, term: Term, command: TakeLock) -> Ledger:
    if command.name in ledger.locks:
        return ledger
    return replace(ledger, locks=ledger.locks | {command.name: Lock(command.holder, index, term)})


def _free_lock(ledger: Ledger, index: Index, term: Term, command: FreeLock) -> Ledger:
    lock = ledger.locks.get(command.name)
    if lock is None or lock.token != command.token:
        return ledger
    return replace(ledger, locks={name: each for name, each in ledger.locks.items() if name != command.name})


def _record_boot(ledger: Ledger, index: Index, term: Term, command: RecordBoot) -> Ledger:
    return replace(ledger, boots=ledger.boots | {command.node: command.boot})


def _record_watchdog(ledger: Ledger, index: Index, term: Term, command: RecordWatchdog) -> Ledger:
    return replace(ledger, watchdogs=_with(ledger.watchdogs, command.node, command.watchdog))


def _configure(ledger: Ledger, index: Index, term: Term, command: Configure) -> Ledger:
    if not may_configure(ledger, command.timing):
        return ledger
    timings = (command.timing, *(each for each in ledger.timings if each != command.timing))
    older = [each for each in dict.fromkeys((ledger.digest, *ledger.former)) if each not in ("", command.digest)]
    former = tuple(older[:MAX_FORMER])
    return replace(ledger, digest=command.digest, former=former, timings=timings, configured=index)


def _settle_timing(ledger: Ledger, index: Index, term: Term, command: SettleTiming) -> Ledger:
    return replace(ledger, timings=ledger.timings[:1]) if command.index == ledger.configured else ledger


def _raise_level(ledger: Ledger, index: Index, term: Term, command: RaiseLevel) -> Ledger:
    return replace(ledger, level=max(ledger.level, command.level))


def _set_standby(ledger: Ledger, index: Index, term: Term, command: SetStandby) -> Ledger:
    return replace(ledger, standby=_with(ledger.standby, command.node, command.standby))


def _record_losses(ledger: Ledger, index: Index, term: Term, command: RecordLosses) -> Ledger:
    if ledger.losses.get(command.node) != command.before:
        return ledger
    return replace(ledger, losses=_with(ledger.losses, command.node, command.after))


def _clear_failures(ledger: Ledger, index: Index, term: Term, command: ClearFailures) -> Ledger:
    apps = dict(ledger.apps)
    for app, state in ledger.apps.items():
        if command.app in (None, app):
            left = tuple(each for each in state.failures if command.node not in (None, each.node))
            apps[app] = replace(state, failures=left)
    return replace(ledger, apps=apps)


def _set_mirror(ledger: Ledger, index: Index, term: Term, command: SetMirror) -> Ledger:
    return copies.set_mirror(ledger, index, command)


def _mark_copy(ledger: Ledger, index: Index, term: Term, command: MarkCopy) -> Ledger:
    return copies.mark(ledger, index, command, app_state(ledger, command.app))


def _accept_copy(ledger: Ledger, index: Index, term: Term, command: AcceptCopy) -> Ledger:
    return copies.accept(ledger, index, command, app_state(ledger, command.app))


def _record_build(ledger: Ledger, index: Index, term: Term, command: RecordBuild) -> Ledger:
    builds = {app: each for app, each in ledger.builds.items() if app != command.app}
    return replace(ledger, builds=builds if command.build is None else builds | {command.app: command.build})


def _record_verified(ledger: Ledger, index: Index, term: Term, command: RecordVerified) -> Ledger:
    others = {app: each for app, each in ledger.verified.items() if app != command.app}
    if command.differing is None:
        return ledger if command.app in ledger.mirrors else replace(ledger, verified=others)
    grant = app_state(ledger, command.app).grant
    if grant is None or grant.generation != command.generation or command.app not in ledger.mirrors:
        return ledger
    verified = Verified(grant.node, command.differing, index, command.at)
    return replace(ledger, verified=others | {command.app: verified})


_MEANING: dict[type[Command], Callable[[Ledger, Index, Term, Any], Ledger]] = {
    SetWanted: _set_wanted,
    EndGrant: _end_grant,
    GiveGrant: _give_grant,
    OrderFence: _order_fence,
    ConfirmFence: _confirm_fence,
    Excluded: _excluded,
    CancelFence: _cancel_fence,
    TakeLock: _take_lock,
    FreeLock: _free_lock,
    RecordBoot: _record_boot,
    RecordWatchdog: _record_watchdog,
    Configure: _configure,
    RaiseLevel: _raise_level,
    SetStandby: _set_standby,
    RecordLosses: _record_losses,
    ClearFailures: _clear_failures,
    SettleTiming: _settle_timing,
    SetMirror: _set_mirror,
    MarkCopy: _mark_copy,
    AcceptCopy: _accept_copy,
    RecordBuild: _record_build,
    RecordVerified: _record_verified,
}
