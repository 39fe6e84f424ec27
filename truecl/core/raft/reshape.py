"""What membership may follow what: one node at a time (Ongaro's thesis, section 4.1).

    nobody <---> observer <---> voter

A quorum of the voters before and one of the voters after share a node, as long as no more than one voter comes or goes.
A new node takes the log as an observer first; a voter that leaves becomes an observer first, so that it knows by its
own log that it is no voter, and does not stand for election any more. (`Tenure` sees to it that it learns that when it
is committed, and no sooner.) The order of succession may change on the way: it decides nothing about quorums.
"""

from truecl.model.ids import NodeName
from truecl.model.membership import Membership


def not_one_step(old: Membership, new: Membership) -> str:
    """Why `new` cannot follow `old`; '' if it can."""
    if old.excluded is not None or new.excluded is not None:
        return f"{old.excluded or new.excluded} is excluded: it has to be back first"
    if not new.voters:
        return "nobody would be left to vote"
    moved = [node for node in dict.fromkeys(old.nodes + new.nodes) if _place(old, node) != _place(new, node)]
    if len(moved) > 1:
        return f"more than one node at a time: {', '.join(moved)}"
    for node in moved:
        if abs(_place(old, node) - _place(new, node)) > 1:
            return f"{node} must be an observer in between"
    return ""


def promoted(old: Membership, new: Membership) -> tuple[NodeName, ...]:
    """Who becomes a voter."""
    return tuple(node for node in new.voters if node not in old.voters)


def _place(membership: Membership, node: NodeName) -> int:
    if node in membership.voters:
        return 2
    return 1 if node in membership.observers else 0
