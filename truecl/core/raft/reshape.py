"""What membership may follow what: one step at a time (Ongaro's thesis, section 4.1).

    nobody <---> observer <---> voter

A quorum of the voters before and one of the voters after share a node, as long as no more than one voter comes or goes.
A new node takes the log as an observer first; a voter that leaves becomes an observer first, so that it knows by its
own log that it is no voter, and does not stand for election any more. (`Tenure` sees to it that it learns that when it
is committed, and no sooner.) The order of succession may change on the way: it decides nothing about quorums.

Two voters are another matter. One of them may exclude the other, and a quorum of one shares no node with those that the
other could find in a membership that only it knows. So both give that up first: an entry that binds them to decide
*together*, which both must have to commit it; then voters come and go; and another entry unbinds two that are left. A
node that is excluded already can be taken out at once: it cannot lead, nor exclude anybody, before it is told so.
"""

from msgspec.structs import replace

from truecl.model.ids import NodeName
from truecl.model.membership import Membership


def not_one_step(old: Membership, new: Membership) -> str:
    """Why `new` cannot follow `old`; '' if it can."""
    if old.excluded is not None or new.excluded is not None:
        gone = new.excluded is None and new == without_excluded(old)
        return "" if gone else f"{old.excluded or new.excluded} is excluded: it has to be back first, or taken out"
    if old.leaving is not None or new.leaving is not None:
        return f"{old.leaving or new.leaving} is leaving: it has to be gone, or back, first"
    if not new.voters:
        return "nobody would be left to vote"
    moved = [node for node in dict.fromkeys(old.nodes + new.nodes) if _place(old, node) != _place(new, node)]
    if len(moved) > 1:
        return f"more than one node at a time: {', '.join(moved)}"
    for node in moved:
        if abs(_place(old, node) - _place(new, node)) > 1:
            return f"{node} must be an observer in between"
    if len(old.voters) != len(new.voters) and not (_bound(old) and _bound(new)):
        return "two voters must be bound to decide together first"
    return ""


def without_excluded(membership: Membership) -> Membership:
    """Only the other of two voters is left of them."""
    voters = tuple(voter for voter in membership.voters if voter != membership.excluded)
    return replace(membership, voters=voters, excluded=None)


def promoted(old: Membership, new: Membership) -> tuple[NodeName, ...]:
    """Who becomes a voter."""
    return tuple(node for node in new.voters if node not in old.voters)


def _bound(membership: Membership) -> bool:
    return membership.together or len(membership.voters) != 2


def _place(membership: Membership, node: NodeName) -> int:
    if node in membership.voters:
        return 2
    return 1 if node in membership.observers else 0
