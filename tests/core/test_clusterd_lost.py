"""The master's word that a node is lost, which has it fenced: never for a node that only just came."""

import pytest

from truecl.core.clusterd import Clusterd
from truecl.core.contract import Told
from truecl.core.situation import REPORT_GRACE, STARTUP_GRACE
from truecl.model.config import AppConfig, ClusterConfig, Configuration, FenceConfig, LinkConfig, NodeConfig
from truecl.model.ids import HBD, LOCKD, AppName, BootId, Generation, Index, LinkName, NodeName, Term
from truecl.model.ledger import AppState, Grant, Ledger, Wanted
from truecl.model.report import InstanceReport, Phase
from truecl.wire.messages import Applied, Leadership, Nodes, NodeView, View

N1, N2 = NodeName("n1"), NodeName("n2")
WEB, LAN = AppName("web"), LinkName("lan")
GRANT = Grant(N2, Generation(5))
FENCE = FenceConfig(agent="/bin/fence")
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="test",
        links=(LinkConfig(name=LAN),),
        nodes=tuple(NodeConfig(name=n, addresses={LAN: f"10.0.0.{at}"}, fence=FENCE) for at, n in enumerate((N1, N2))),
    ),
    apps=(AppConfig(name=WEB, nodes=(N1, N2)),),
)
OLD, NEW = BootId("old"), BootId("new")
CLEARING = {N2: (NEW, (InstanceReport(WEB, GRANT.generation, Phase.STOPPING),))}


def view(alive: bool, boot: BootId = OLD) -> View:
    return View((NodeView(N2, boot, alive, ()),))


def reports(expired: bool, own: bool = False) -> Nodes:
    return Nodes(CLEARING, ((N2,) if expired else ()) + ((N1,) if own else ()))


class Master:
    """n1's, while n2 has the grant of an application."""

    def __init__(self) -> None:
        self.clusterd = Clusterd(N1, CONFIGURATION)
        self.clusterd.start(0.0)
        ledger = Ledger(index=Index(9), apps={WEB: AppState(wanted=Wanted.RUNNING, grant=GRANT)})
        self.told(LOCKD, Applied(ledger), 0.0)
        self.told(HBD, view(True), 0.0)
        self.told(LOCKD, Leadership(Term(1), N1, True), 0.0)

    def told(self, who: str, message: object, now: float) -> None:
        self.clusterd.handle(Told(who, message), now)

    def lost(self, now: float) -> frozenset[NodeName]:
        self.clusterd.situation.now = now
        return self.clusterd.situation.lost()

    def awaited(self, now: float) -> frozenset[NodeName]:
        self.clusterd.situation.now = now
        return self.clusterd.situation.awaited()


@pytest.mark.parametrize("at", [0.5, STARTUP_GRACE + 20])
def test_a_node_that_booted_is_not_lost_although_its_old_lease_is_over(at: float) -> None:
    master = Master()
    master.told(LOCKD, reports(expired=False), 0.1)
    master.told(HBD, view(True, NEW), at)
    master.told(LOCKD, reports(expired=True), at)
    assert N2 not in master.lost(at)


def test_nor_is_the_master_itself_after_a_cold_start() -> None:
    master = Master()
    master.told(LOCKD, reports(expired=False, own=True), 0.1)
    assert N1 not in master.lost(0.1)


def test_a_node_that_stopped_renewing_is_lost() -> None:
    master = Master()
    master.told(HBD, view(True, NEW), 1.0)
    master.told(LOCKD, reports(expired=False), 1.0)
    master.told(LOCKD, reports(expired=True), 9.0)
    assert N2 in master.lost(9.0)


def test_a_node_that_is_heard_and_never_renews_is_lost_after_a_while() -> None:
    master = Master()
    master.told(HBD, view(True, NEW), 30.0)
    master.told(LOCKD, Nodes({}, (N2,)), 30.0)
    assert N2 not in master.lost(30.0 + STARTUP_GRACE - 1)
    assert N2 in master.lost(30.0 + STARTUP_GRACE)


def test_a_node_that_fell_silent_is_lost() -> None:
    master = Master()
    master.told(HBD, view(False), 1.0)
    assert N2 in master.lost(1.0)


def test_a_node_that_reports_before_hbd_hears_it_is_waited_for() -> None:
    """Or what ran there before the whole cluster was restarted would be placed on whoever booted first."""
    master = Master()
    master.told(HBD, View((NodeView(N2, None, False, ()),)), 1.0)
    master.told(LOCKD, reports(expired=False), 5.0)
    assert N2 in master.awaited(5.0)
    assert N2 not in master.awaited(5.0 + REPORT_GRACE)
    master.told(HBD, view(True, NEW), 5.1)
    assert N2 not in master.awaited(5.1)


def test_the_last_word_of_the_boot_before_makes_no_node_alive_nor_lost() -> None:
    """Else a node that was fenced gets its applications before it can renew, and is fenced again for not renewing."""
    master = Master()
    clusterd = master.clusterd
    master.told(LOCKD, Nodes({N2: (OLD, ())}, ()), 0.1)
    assert N2 in clusterd.situation.alive()
    master.told(HBD, view(False), 1.0)
    master.told(HBD, view(True, NEW), 3.0)
    assert N2 not in clusterd.situation.alive()
    master.told(LOCKD, Nodes({N2: (OLD, ())}, (), lapsed=(GRANT.generation,)), 4.0)
    master.told(LOCKD, Nodes({N2: (OLD, ())}, (N2,)), 6.0)
    assert N2 not in master.lost(6.0)
    master.told(LOCKD, Nodes({N2: (NEW, ())}, ()), 7.0)
    assert N2 in clusterd.situation.alive()
    master.told(LOCKD, Nodes({N2: (NEW, ())}, (N2,)), 13.0)
    assert N2 in master.lost(13.0)
