"""lockd after its restart: the lease of every node hangs on how soon somebody leads again."""

from random import Random

from raft_cluster import CLUSTER, Cluster, copy_records

from truecl.core.contract import Event, Noted, Output, Received, Send, Told
from truecl.core.lockd import DiskFull, Lockd
from truecl.model.config import ClusterConfig, Configuration, LinkConfig, NodeConfig, Timing
from truecl.model.ids import REQD, BootId, LinkName, NodeName
from truecl.model.membership import Membership
from truecl.wire.messages import Campaign, Note
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
    lockd = Lockd(name, CONFIGURATION, copy_records(cluster.nodes[name].records), Random(1), BootId("b"))
    return [send.node for send in lockd.start(5000.0).send if isinstance(send.message, PreVote)]


def test_who_led_stands_at_once() -> None:
    assert restarted(A) == [B, C]


def test_who_followed_waits_for_its_leader() -> None:
    assert restarted(B) == []


def test_a_full_disk_makes_another_node_lead() -> None:
    """While this one can still say so: not when it has died of it and leases run out."""
    lockds = {name: Lockd(name, CONFIGURATION, {}, Random(str(name)), BootId("b")) for name in NAMES}
    flights: list[tuple[NodeName, Send]] = []

    def feed(name: NodeName, event: Event, now: float) -> Output:
        output = lockds[name].handle(event, now)
        flights.extend((name, send) for send in output.send)
        return output

    def settle(now: float) -> None:
        while flights:
            source, send = flights.pop(0)
            feed(send.node, Received(source, send.message), now)

    for lockd in lockds.values():
        lockd.start(100.0)
    feed(A, Told(REQD, Campaign()), 100.0)
    settle(100.1)
    assert lockds[A].raft.ready
    noted = [each.message for each in feed(A, Noted(DiskFull()), 100.2).tell if isinstance(each.message, Note)]
    assert "disk under the journal is full" in noted[0].event.text
    settle(100.2)
    assert not lockds[A].raft.ready and lockds[B].raft.ready
