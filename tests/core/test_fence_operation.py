"""lha_fence on the master: recorded before it is sent, believed when the log has it, and a word that ends nothing newer."""

from dataclasses import replace as with_nodes

from msgspec.structs import replace

from truecl.core.contract import Told
from truecl.model.ids import CLUSTERD, REQD, AppName, Index, NodeName
from truecl.model.ledger import CancelFence, ConfirmFence, EndGrant, GiveGrant, OrderFence, Proof, SetWanted, Wanted
from truecl.wire.messages import FenceResult, OrderFenceOff, OrderPowerOn, PoweredOn, Reply, Request

from .test_clusterd import FENCED, N1, N2, N3, RECORDED, WEB, Master, grant, running

ASKER = "command-1"


def master_of(*nodes: NodeName) -> Master:
    """n1 leads, WEB runs on n2; `nodes` are heard."""
    master = Master(*RECORDED, SetWanted(WEB, Wanted.RUNNING, N2), GiveGrant(WEB, N2))
    master.core.configuration = FENCED
    running(master)
    master.commit()
    return master
