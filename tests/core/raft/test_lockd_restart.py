"""lockd after its restart: the lease of every node hangs on how soon somebody leads again."""

from random import Random

from raft_cluster import CLUSTER, Cluster, copy_records

from truecl.core.lockd import Lockd
from truecl.model.config import ClusterConfig, Configuration, LinkConfig, NodeConfig, Timing
from truecl.model.ids import LinkName, NodeName
from truecl.model.membership import Membership
from truecl.wire.raft import PreVote

NAMES = (A, B, C) = (NodeName("a"), NodeName("b"), NodeName("c"))
LAN = LinkName("lan")
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name=CLUSTER,
        links=(LinkConfig(name=LAN),),
        nodes=tuple(NodeConfig(name=name, addresses={LAN: f"10.0.0.{at}"}) for at, name in enumerate(NAMES, 1)),
    )
)


def restarted(name: NodeName) -> list[NodeName]:
    """Whom that node's lockd asks for a pre-vote at its start, after `a` has led."""
    cluster = Cluster(1, Timing())
    for each in NAMES:
        cluster.add(each, Membership(NAMES))
    cluster.raft(A).campaign(cluster.clock(A))
    cluster.carry_out(cluster.nodes[A])
    cluster.settle()
    lockd = Lockd(name, CONFIGURATION, copy_records(cluster.nodes[name].records), Random(1))
    return [send.node for send in lockd.start(5000.0).send if isinstance(send.message, PreVote)]


def test_who_led_stands_at_once() -> None:
    assert restarted(A) == [B, C]


def test_who_followed_waits_for_its_leader() -> None:
    assert restarted(B) == []
