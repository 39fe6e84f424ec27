"""The end of a node that cannot stop what is to run elsewhere, where no fence device of it works: by its own watchdog.

It is renewed no more (SAFETY.md section 2). So its guard stops the rest, which is released and moves on; its watchdog
is fed no more and resets it; and then the lease and the watchdog's time prove its end, or the node itself, back.

It must not go round in circles, from node to node, where all of them hang on the same dead disk. So it comes to that
once a generation at most, for none is started twice, and not of a node that was lost too often lately.
"""

from dataclasses import dataclass, field

from truecl.core.fitness import PlanInput, fence_levels
from truecl.core.flapping import FREE_LOSSES
from truecl.core.quorum import has_quorum
from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.ledger import Grant, Presence
from truecl.model.membership import Membership


@dataclass(frozen=True)
class Revocation:
    """`node` is to be renewed no more, as it cannot stop this generation."""

    node: NodeName
    app: AppName
    generation: Generation
    reason: str = field(default="", compare=False)


def way_out(given: PlanInput, app: AppName, grant: Grant, trouble: str) -> tuple[str, Revocation | None]:
    """Of an instance that is open on `grant.node` and cannot be stopped there (`trouble`): the note on it, '' where its
    watchdog is not called for or there is none, and what is to be done now.

    Whether the watchdog counts as a proof does not matter: without one the application waits until the node is back.
    """
    node, watchdog, device = grant.node, given.watchdogs.get(grant.node), given.fence_trouble.get(grant.node)
    fenced = bool(fence_levels(given, node)) and device is None
    if fenced or node == given.me or watchdog is None or not watchdog.armed:
        return "", None
    if device is not None:
        trouble = f"{trouble}; the device: {device}"
    losses = given.ledger.losses.get(node)
    if losses is not None and losses.count >= FREE_LOSSES and losses.presence is not Presence.AWAY:
        again = f"{node} was lost {losses.count} times lately, so its watchdog is not left to reset it again"
        return f"{trouble}; {again}: repair it there, or boot {node}", None
    if not _others_go_on(given, node):
        helps = f"repair it there, or boot {node} when the others may stop for that long"
        return f"{trouble}; a reset of {node} would leave no quorum: {helps}", None
    note = f"{trouble}: {node} gets no lease any more, so that its watchdog resets it"
    return note, None if node in given.unrenewed else Revocation(node, app, grant.generation, f"'{app}' {trouble}")


def _others_go_on(given: PlanInput, node: NodeName) -> bool:
    """While it boots. Without a quorum whatever runs on them stops; if nothing does, nothing is lost by it."""
    grants = [state.grant for state in given.ledger.apps.values() if state.grant is not None]
    membership = Membership(given.configuration.cluster.voters)
    return has_quorum(membership, given.alive - {node}) or all(grant.node == node for grant in grants)
