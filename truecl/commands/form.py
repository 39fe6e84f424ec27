"""lha_form: start the cluster's daemons on all nodes, with one configuration and a master."""

from truecl.commands.node import Node, Steps, carry_out
from truecl.model.ids import REQD

TIMEOUT = 60.0


def form(node: Node, sync: bool, timeout: float = TIMEOUT, wait: bool = True) -> Steps:
    """Forming a formed cluster is harmless. Raises Ended and NotAllowed."""
    return carry_out(node, REQD, ["Form", sync], timeout, wait, repeatable=True)
