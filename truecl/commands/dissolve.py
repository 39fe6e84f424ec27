"""lha_dissolve: stop the cluster's daemons on all nodes; with `force` the applications first."""

from truecl.commands.node import Node, Steps, carry_out
from truecl.model.ids import REQD

TIMEOUT = 180.0


def dissolve(node: Node, force: bool, timeout: float = TIMEOUT, wait: bool = True) -> Steps:
    """Raises Ended and NotAllowed."""
    return carry_out(node, REQD, ["Dissolve", force], timeout, wait, repeatable=True)
