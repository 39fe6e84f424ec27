"""Leaves rules out of what the log's entries mean: on all nodes alike, for they would part otherwise."""

from collections.abc import Callable

from msgspec.structs import replace

from truecl.core import ledger as ledgers
from truecl.core.lockd import Lockd
from truecl.core.orders import Orders
from truecl.model.config import AppConfig
from truecl.model.ids import LOCKD, Index, Term
from truecl.model.ledger import (
    AnyCommand,
    Batch,
    EndGrant,
    GiveGrant,
    Ledger,
    Proof,
)
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead, with_part
from truecl.wire.messages import Order

Change = Callable[[Ledger, AnyCommand], tuple[Ledger, AnyCommand]]
"""What becomes of a ledger and a command before the command is applied."""


def grant_again(ledger: Ledger, command: AnyCommand) -> tuple[Ledger, AnyCommand]:
    if isinstance(command, GiveGrant):
        state = ledgers.app_state(ledger, command.app)
        last = state.ended.generation if state.ended is not None else command.after
        ledger = replace(ledger, apps=ledger.apps | {command.app: replace(state, grant=None)})
        command = replace(command, after=last)
    return ledger, command


def end_any(ledger: Ledger, command: AnyCommand) -> tuple[Ledger, AnyCommand]:
    if isinstance(command, EndGrant):
        grant = ledgers.app_state(ledger, command.app).grant
        if grant is not None:
            command = replace(command, generation=grant.generation)
    return ledger, command


def any_proof(ledger: Ledger, command: AnyCommand) -> tuple[Ledger, AnyCommand]:
    return ledger, replace(command, proofs=tuple(Proof)) if isinstance(command, GiveGrant) else command


class _StartsAnything(Orders):
    def _unfit(self, order: Order, config: AppConfig | None) -> str:
        return "" if config is not None else super()._unfit(order, config)


def with_ledger(change: Change) -> Assemble:
    def apply(ledger: Ledger, index: Index, term: Term, batch: Batch) -> Ledger:
        for command in batch.commands:
            ledger, other = change(ledger, command)
            ledger = ledgers.apply(ledger, index, term, Batch((other,)))
        return ledgers.apply(ledger, index, term, Batch(()))

    class Other(Lockd):
        _apply = staticmethod(apply)

    return instead(LOCKD, lambda me, configuration, boot, records, random, now: Other(
        me, configuration, records, random, boot))  # fmt: skip


MUTANTS = (
    Mutant("grant over a live grant", "SAFETY.md 3", assemble=with_ledger(grant_again),
           adjust=faults.elections, nodes=3, seen_by="tests/core/test_ledger.py"),
    Mutant("end whichever grant is live", "SAFETY.md 3", assemble=with_ledger(end_any),
           adjust=faults.elections, nodes=3, budget=320),
    Mutant("take storage on 'expired'", "SAFETY.md 3",
           assemble=with_part("orders", _StartsAnything, with_ledger(any_proof)), adjust=faults.unfenced),
)  # fmt: skip
