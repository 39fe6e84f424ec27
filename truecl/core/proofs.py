"""Which proofs that end a grant hold, as the leader itself sees (SAFETY.md section 3), and when more of them will."""

import math
from collections.abc import Collection

from truecl.core import ledger as ledgers
from truecl.core.leases import Leases
from truecl.core.reports import Reports
from truecl.model.ids import Generation, NodeName
from truecl.model.ledger import EndGrant, Grant, Ledger, Proof
from truecl.model.report import Phase

Outlived = Collection[tuple[NodeName, Generation]]
"""Live generations of which their node is heard after the time in which its watchdog must have reset it."""


def missing(command: EndGrant, ledger: Ledger, reports: Reports, leases: Leases, outlived: Outlived, now: float) -> str:
    """Why `command` must not end its grant; '' if its proof holds."""
    grant = ledgers.app_state(ledger, command.app).grant
    if grant is None or grant.generation != command.generation:
        return f"generation {command.generation} of '{command.app}' is not its live grant"
    if command.proof not in grant.proofs:
        return f"generation {grant.generation} of '{command.app}' was not started for proof '{command.proof}'"
    match command.proof:
        case Proof.RELEASED:
            report = reports.of(grant.node, command.app, grant.generation)
            closed = report is not None and report.phase is Phase.CLOSED
            return "" if closed else f"{grant.node} has not reported generation {grant.generation} closed"
        case Proof.FENCED | Proof.VOUCHED:
            proven = ledgers.fence_proof(ledger, grant.node, grant.generation) is command.proof
            text = f"no fence of {grant.node} that is confirmed so names generation {grant.generation}"
            return "" if proven else text
        case Proof.EXPIRED:
            over = now >= leases.surely_over(grant.node, grant.addressed)
            return "" if over else f"the lease of {grant.node} may still hold"
        case Proof.EXPIRED_WATCHDOG:
            if not ledgers.watchdog_proves(ledger, grant):
                return f"the log knows of no watchdog of {grant.node} that counts for it"
            if (grant.node, grant.generation) in outlived:
                return f"{grant.node} is heard after the time in which its watchdog must have reset it"
            over = now >= leases.surely_reset(grant.node, grant.watchdog)
            return "" if over else f"the watchdog of {grant.node} may not have reset it yet"


def expired(nodes: Collection[NodeName], leases: Leases, now: float) -> tuple[NodeName, ...]:
    """Nodes whose lease, drift and stop allowance are over."""
    return tuple(node for node in nodes if now >= leases.surely_over(node))


def lapsed(ledger: Ledger, leases: Leases, now: float) -> tuple[Generation, ...]:
    """Live generations for which 'expired' would be accepted now."""
    grants = _leased(ledger)
    return tuple(each.generation for each in grants if now >= leases.surely_over(each.node, each.addressed))


def overdue(ledger: Ledger, leases: Leases, now: float) -> tuple[Grant, ...]:
    """Live grants whose node's watchdog has had its time to reset it."""
    return tuple(each for each in _guarded(ledger) if now >= leases.surely_reset(each.node, each.watchdog))


def reset(overdue: tuple[Grant, ...], outlived: Outlived) -> tuple[Generation, ...]:
    """Live generations for which 'expired + watchdog' would be accepted now."""
    return tuple(each.generation for each in overdue if (each.node, each.generation) not in outlived)


def next_change(nodes: Collection[NodeName], ledger: Ledger, leases: Leases, now: float) -> float | None:
    """When `expired`, `lapsed` or `reset` says more, or the older timings are over; None: never by itself."""
    times = [leases.surely_over(node) for node in nodes]
    times += [leases.surely_over(each.node, each.addressed) for each in _leased(ledger)]
    times += [leases.surely_reset(each.node, each.watchdog) for each in _guarded(ledger)]
    if len(ledger.timings) > 1:
        times.append(leases.settled_at(ledgers.slowest_watchdog(ledger)))
    return min((time for time in times if now < time < math.inf), default=None)


def _grants(ledger: Ledger) -> tuple[Grant, ...]:
    return tuple(state.grant for _, state in sorted(ledger.apps.items()) if state.grant is not None)


def _leased(ledger: Ledger) -> tuple[Grant, ...]:
    """Live grants that the end of a lease ends."""
    return tuple(grant for grant in _grants(ledger) if Proof.EXPIRED in grant.proofs)


def _guarded(ledger: Ledger) -> tuple[Grant, ...]:
    """Live grants that a watchdog's reset would end."""
    return tuple(grant for grant in _grants(ledger) if ledgers.watchdog_proves(ledger, grant))
