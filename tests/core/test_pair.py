"""Of two lockds: the fence that one orders, the exclusion it writes, the operator's word, and the way back."""

from random import Random

import pytest
from msgspec.structs import replace

from truecl.core.contract import Joined, Left, Received
from truecl.core.lockd import Lockd
from truecl.model.config import ClusterConfig, Configuration, FenceConfig, LinkConfig, NodeConfig
from truecl.model.ids import CLUSTERD, HBD, REQD, AppName, BootId, LinkName, NodeName
from truecl.model.ledger import GiveGrant, SetWanted, Wanted
from truecl.wire.messages import Campaign, Confirmed, ConfirmOff, FenceResult, NodeView, OrderFenceOff, Propose, View
from truecl.wire.raft import Letter, TimeoutNow

from .same_daemon import Nodes

N1, N2, WEB, BOOT = NodeName("n1"), NodeName("n2"), AppName("web"), BootId("b1")
DEVICE = FenceConfig(agent="f", timeout=2.0)
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="c",
        links=(LinkConfig(name=LinkName("lan")),),
        nodes=tuple(NodeConfig(name=name, addresses={}, fence=((DEVICE,),)) for name in (N1, N2)),
    )
)
DEAD = View((NodeView(N1, BOOT, False, ()),))


class Duo(Nodes):
    """n1 leads."""

    def __init__(self, fence_delay: float | None = 0.0) -> None:
        one = replace(CONFIGURATION.cluster.nodes[0], fence_delay=fence_delay)
        cluster = replace(CONFIGURATION.cluster, nodes=(one, CONFIGURATION.cluster.nodes[1]))
        self.configuration = replace(CONFIGURATION, cluster=cluster)
        super().__init__(("n1", "n2"), self.build, lambda node, action: None)
        for node in ("n1", "n2"):
            self.feed(node, Joined(REQD))
        self.tell("n1", REQD, Campaign())
        self.wait(0.5)

    def build(self, node: NodeName) -> Lockd:
        return Lockd(node, self.configuration, {}, Random(1), BOOT)

    def lockd(self, node: str) -> Lockd:
        core = self.cores[NodeName(node)]
        assert isinstance(core, Lockd)
        return core

    def n1_dies(self) -> None:
        self.cut = {N1}
        self.tell("n2", HBD, DEAD)

    def orders(self) -> list[OrderFenceOff]:
        return self.heard("n2", REQD, OrderFenceOff)


def test_a_current_node_fences_names_what_it_knows_and_leads_alone() -> None:
    duo = Duo()
    duo.tell(
        "n1", CLUSTERD, Propose(1, duo.lockd("n1").raft.term, (SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N1)))
    )
    duo.wait(0.5)
    duo.n1_dies()
    duo.wait(0.5)
    (order,) = duo.orders()
    assert not duo.lockd("n2").raft.ready
    duo.tell("n2", REQD, FenceResult(N1, order.index, True))
    n2 = duo.lockd("n2")
    assert n2.raft.ready
    grant = n2.ledger.apps[WEB].grant
    assert grant is not None
    assert n2.ledger.fences[N1].generations == (grant.generation,)
    assert "without n1" in n2.pair.trouble()


def test_anything_from_the_other_voids_the_order() -> None:
    duo = Duo()
    n1_lives = duo.lockd("n1").pair
    duo.n1_dies()
    duo.wait(0.5)
    (order,) = duo.orders()
    duo.feed("n2", Received(N1, _letter(duo)))
    duo.tell("n2", REQD, FenceResult(N1, order.index, True))
    assert not duo.lockd("n2").raft.alone
    assert n1_lives.current


def _letter(duo: Duo) -> object:
    return Letter(BOOT, BootId(""), True, TimeoutNow(duo.lockd("n2").raft.term))


def test_the_protected_node_is_fenced_only_after_its_delay() -> None:
    duo = Duo(fence_delay=None)
    duo.n1_dies()
    duo.wait(DEVICE.timeout)
    assert duo.orders() == []
    duo.wait(1.5)
    assert len(duo.orders()) == 1


def test_the_operators_word_replaces_the_device_and_not_currency() -> None:
    duo = Duo()
    duo.n1_dies()
    duo.feed("n2", Joined("command-1"))
    duo.wait(2.5)
    n2 = duo.lockd("n2")
    n2.pair.current = False
    duo.tell("n2", "command-1", ConfirmOff(N1, "root"))
    said = duo.heard("n2", "command-1", Confirmed)[-1]
    assert (said.taken, said.say_more) == (False, True)
    duo.tell("n2", "command-1", ConfirmOff(N1, "root", alone=True))
    assert duo.heard("n2", "command-1", Confirmed)[-1].taken
    assert n2.raft.ready
    assert n2.ledger.fences[N1].vouched == "root"
    assert n2.raft.lease_bound == pytest.approx(duo.now)


def test_a_node_that_is_heard_is_not_off_whoever_says_so() -> None:
    duo = Duo()
    duo.feed("n2", Joined("command-1"))
    duo.tell("n2", "command-1", ConfirmOff(N1, "root", alone=True))
    assert not duo.heard("n2", "command-1", Confirmed)[-1].taken
    duo.feed("n2", Left("command-1"))
