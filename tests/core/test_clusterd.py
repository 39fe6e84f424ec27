"""clusterd's core as the master of three nodes: what it writes, orders, answers, and what it survives."""

from typing import Any

import pytest
from msgspec.structs import replace

from truecl.core import ledger as ledgers
from truecl.core.clusterd import BEHIND, Clusterd
from truecl.core.contract import Joined, Left, Output, Received, Told, Woke
from truecl.core.desk import PASS_AGAIN
from truecl.core.ledger import MAX_TIMINGS, lease_timing
from truecl.core.operations import FORGOTTEN
from truecl.core.situation import REPORT_GRACE, STARTUP_GRACE
from truecl.model.config import Configuration, FenceConfig, Timing
from truecl.model.ids import HBD, LOCKD, REQD, SYNCD, AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.ledger import (
    AnyCommand,
    Batch,
    Build,
    Configure,
    ConfirmFence,
    FreeLock,
    GiveGrant,
    LeaseTiming,
    Ledger,
    OrderFence,
    Proof,
    RaiseLevel,
    RecordBoot,
    RecordBuild,
    SettleTiming,
    SetWanted,
    TakeLock,
    Wanted,
)
from truecl.model.report import InstanceReport, Phase, WatchdogReport
from truecl.wire.messages import (
    Applied,
    FenceResult,
    Follow,
    Leadership,
    NewConfiguration,
    Nodes,
    NodeView,
    Order,
    OrderFenceOff,
    Propose,
    Proposed,
    Refused,
    Reply,
    Request,
    Revoke,
    StepDown,
    Subscribe,
    View,
)

from .same_daemon import configuration

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
WEB, DB = AppName("web"), AppName("db")
CONFIGURATION = configuration(apps=("web", "db"))
BOOTS = {N1: BootId("a1"), N2: BootId("b1"), N3: BootId("c1")}
START = Request("op1", "start", WEB, N2, "ann")


class Master:
    """n1's clusterd, and the lockd, hbd and reqd that it talks to. What it proposes is committed by `commit`."""

    def __init__(self, *log: AnyCommand, ready: bool = True) -> None:
        self.now = 100.0
        self.term = Term(1)
        self.ledger = Ledger()
        self.write(*log)
        self.lines: dict[NodeName, tuple[InstanceReport, ...]] = {N1: (), N2: (), N3: ()}
        self.boots = dict(BOOTS)
        self.expired: tuple[NodeName, ...] = ()
        self.restart(ready)

    def restart(self, ready: bool = True) -> None:
        self.outputs: list[Output] = []
        self.core = Clusterd(N1, CONFIGURATION)
        self.take(self.core.start(self.now))
        for who in (LOCKD, HBD, SYNCD, REQD, "command-1"):
            self.feed(Joined(who))
        self.hear()
        self.feed(Told(LOCKD, Applied(self.ledger)))
        if ready:
            self.lead()
            self.commit()

    def write(self, *commands: AnyCommand) -> None:
        for command in commands:
            self.apply(Batch((command,)))

    def apply(self, batch: Batch) -> None:
        self.ledger = ledgers.apply(self.ledger, Index(self.ledger.index + 1), self.term, batch)

    # ---- what it hears ----------------------------------------------------------------------------------------------

    def feed(self, event: Any) -> Output:
        return self.take(self.core.handle(event, self.now))

    def take(self, output: Output) -> Output:
        self.outputs.append(output)
        return output

    def lead(self, ready: bool = True, leader: NodeName | None = N1) -> None:
        self.feed(Told(LOCKD, Leadership(self.term, leader, ready)))
        if ready:
            self.report()

    def report(self, *nodes: NodeName, leaving: tuple[NodeName, ...] = ()) -> None:
        reports = {node: (self.boots[node], self.lines[node]) for node in nodes or self.lines}
        self.feed(Told(LOCKD, Nodes(reports, self.expired, leaving)))

    def hear(self, *silent: NodeName, boots: dict[NodeName, BootId | None] | None = None) -> None:
        known: dict[NodeName, BootId | None] = {**self.boots, **(boots or {})}
        views = tuple(NodeView(node, known[node], node not in silent, ()) for node in (N2, N3))
        self.feed(Told(HBD, View(views)))

    def wait(self, seconds: float, step: float = 0.1) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + step)
            self.feed(Woke())

    def command(self, request: Request) -> None:
        self.feed(Told("command-1", request))

    # ---- what it says -----------------------------------------------------------------------------------------------

    def told(self, who: str, kind: type, keep: bool = False) -> list[Any]:
        found = [tell.message for out in self.outputs for tell in out.tell if tell.who == who]
        if not keep:
            self.outputs = []
        return [message for message in found if isinstance(message, kind)]

    def proposed(self) -> Propose | None:
        proposals = self.told(LOCKD, Propose, keep=True)
        return proposals[-1] if proposals else None

    def commit(self, rounds: int = 10) -> list[AnyCommand]:
        """lockd commits what is proposed, until nothing more is; all of it."""
        written: list[AnyCommand] = []
        for _ in range(rounds):
            proposals = self.told(LOCKD, Propose)
            if not proposals:
                return written
            for proposal in proposals:
                self.apply(Batch(proposal.commands))
                written += proposal.commands
                self.feed(Told(LOCKD, Proposed(proposal.number, self.ledger.index)))
                self.feed(Told(LOCKD, Applied(self.ledger)))
        raise AssertionError(f"it writes for ever: {written[-5:]}")

    def replies(self) -> list[int]:
        return [reply.code for reply in self.told("command-1", Reply, keep=True) if reply.code is not None]


def line(app: AppName, generation: Generation, phase: Phase) -> InstanceReport:
    return InstanceReport(app, generation, phase)


def grant(master: Master, app: AppName = WEB) -> Generation:
    state = ledgers.app_state(master.ledger, app).grant
    assert state is not None
    return state.generation


def running(master: Master, node: NodeName = N2) -> None:
    """Whatever was granted there runs."""
    master.lines[node] = tuple(
        line(app, generation, Phase.RUNNING) for app, generation in ledgers.granted_to(master.ledger, node)
    )
    master.report()


PROOFS = (Proof.RELEASED, Proof.FENCED, Proof.EXPIRED, Proof.VOUCHED)
"""Of a web without storage."""
IN_FORCE = Configure(CONFIGURATION.digest, lease_timing(CONFIGURATION.cluster.timing))
RECORDED = (IN_FORCE, *(RecordBoot(node, boot) for node, boot in BOOTS.items()))

# ---- operations -----------------------------------------------------------------------------------------------------


def test_a_start_takes_the_lock_writes_the_wish_waits_and_frees_the_lock() -> None:
    master = Master(*RECORDED)
    master.command(START)
    written = master.commit()
    given = GiveGrant(WEB, N2, proofs=PROOFS)
    assert written[:3] == [TakeLock("application web", "op1"), SetWanted(WEB, Wanted.RUNNING, N2), given]
    running(master)
    assert master.replies() == [0]
    assert [type(each) for each in master.commit()] == [FreeLock]
    assert master.ledger.locks == {}


def test_a_restarted_master_frees_the_lock_and_carries_the_request_out_when_it_comes_again() -> None:
    master = Master(*RECORDED)
    master.feed(Received(N2, START))
    master.commit()
    assert master.ledger.locks["application web"].holder == "op1"
    master.restart()
    assert master.ledger.locks == {}, "nobody carries that operation on"
    master.feed(Received(N2, START))
    master.commit()
    running(master)
    master.commit()
    master.wait(1.0)
    again = master.feed(Received(N2, START))
    assert [send.message for send in again.send if send.node == N2][-1] == Reply("op1", code=0)
    assert master.ledger.locks == {}


def test_a_new_master_frees_the_locks_of_the_old_one_though_it_has_nothing_else_to_write() -> None:
    master = Master(*RECORDED, TakeLock("application web", "op of a dead node"), ready=False)
    master.term = Term(2)
    master.lead()
    (written,) = master.commit()
    assert isinstance(written, FreeLock) and master.ledger.locks == {}


def test_a_request_is_passed_on_again_until_its_end_is_known() -> None:
    node = Master(*RECORDED, ready=False)
    node.lead(ready=False, leader=N3)
    node.outputs = []
    node.command(START)
    node.wait(2 * PASS_AGAIN + 0.2)
    sent = [send for out in node.outputs for send in out.send]
    assert [send.node for send in sent] == [N3] * 3 and sent[0].message == START
    node.feed(Received(N3, Reply("op1", code=0)))
    node.outputs = []
    node.wait(3 * PASS_AGAIN)
    assert [send for out in node.outputs for send in out.send] == []


def test_a_request_whose_reply_was_lost_is_answered_again_and_not_done_again() -> None:
    master = Master(*RECORDED)
    master.feed(Received(N2, START))
    master.commit()
    running(master)
    master.commit()
    master.write(SetWanted(WEB, Wanted.STOPPED))
    master.feed(Told(LOCKD, Applied(master.ledger)))
    master.outputs = []
    master.feed(Received(N2, START))
    sent = [send.message for out in master.outputs for send in out.send if isinstance(send.message, Reply)]
    assert sent[-1] == Reply("op1", code=0)
    assert ledgers.app_state(master.ledger, WEB).wanted is Wanted.STOPPED


def test_a_wish_that_nobody_asks_after_any_more_gives_its_lock_back() -> None:
    master = Master(*RECORDED)
    master.feed(Received(N2, START))
    master.commit()
    master.wait(FORGOTTEN - 1.0)
    master.feed(Received(N2, START))
    master.wait(FORGOTTEN - 1.0)
    assert master.ledger.locks != {}, "somebody waits"
    master.wait(1.5)
    master.commit()
    assert master.ledger.locks == {}
    assert ledgers.app_state(master.ledger, WEB).wanted is Wanted.RUNNING, "the wish stays"


def test_two_operations_take_turns() -> None:
    master = Master(*RECORDED)
    master.command(START)
    master.command(Request("op2", "stop", WEB, None, "bob"))
    master.commit()
    assert ledgers.app_state(master.ledger, WEB).wanted is Wanted.RUNNING
    running(master)
    master.commit()
    assert ledgers.app_state(master.ledger, WEB).wanted is Wanted.STOPPED
    master.lines[N2] = (line(WEB, grant(master), Phase.CLOSED),)
    master.report()
    master.commit()
    assert master.ledger.locks == {}


def test_a_request_before_the_master_is_ready_waits_and_is_taken_once() -> None:
    master = Master(*RECORDED, ready=False)
    master.lead(ready=False)
    for _ in range(3):
        master.feed(Received(N2, START))
    master.lead()
    assert [type(each) for each in master.commit()].count(TakeLock) == 1


def test_only_root_changes_anything() -> None:
    master = Master(*RECORDED)
    master.feed(Joined("command-2", root=False))
    master.outputs = []
    master.feed(Told("command-2", START))
    assert master.told("command-2", Refused) and master.proposed() is None


# ---- proposals ------------------------------------------------------------------------------------------------------


def test_a_refused_proposal_is_planned_anew_and_a_lost_one_as_well() -> None:
    master = Master(*RECORDED)
    master.command(START)
    for lost in (False, True):
        proposal = master.proposed()
        assert proposal is not None
        master.outputs = []
        if not lost:
            master.feed(Told(LOCKD, Proposed(proposal.number, None, "not now")))
        master.wait(1.2)
        assert master.proposed() is not None
    master.commit()
    assert grant(master)


def test_one_proposal_at_a_time() -> None:
    master = Master(*RECORDED)
    master.outputs = []
    master.command(START)
    master.command(Request("op2", "start", DB, N3, "bob"))
    assert len(master.told(LOCKD, Propose, keep=True)) == 1


def test_a_master_that_lost_the_lead_orders_and_writes_nothing() -> None:
    master = Master(*RECORDED)
    master.command(START)
    master.commit()
    master.lead(ready=False, leader=N3)
    master.outputs = []
    master.wait(5.0)
    assert master.proposed() is None
    assert not [send for out in master.outputs for send in out.send if isinstance(send.message, Order)]
    master.feed(Told(REQD, FenceResult(N2, Index(3), True)))
    assert master.proposed() is None
    master.lead()
    master.feed(Left(LOCKD))
    master.outputs = []
    master.wait(5.0)
    assert master.proposed() is None


# ---- orders ---------------------------------------------------------------------------------------------------------


def orders(master: Master) -> list[Order]:
    return [send.message for out in master.outputs for send in out.send if isinstance(send.message, Order)]


def test_orders_leave_only_for_committed_grants_and_are_repeated_until_reported() -> None:
    master = Master(*RECORDED)
    master.write(SetWanted(WEB, Wanted.RUNNING, N2))
    master.feed(Told(LOCKD, Applied(master.ledger)))
    assert orders(master) == [], "GiveGrant is only proposed"
    master.commit()
    first = Order("start", WEB, grant(master), Term(1), proofs=PROOFS)
    master.wait(1.6)
    assert orders(master)[:2] == [first, first]
    running(master)
    master.outputs = []
    master.wait(2.0)
    assert orders(master) == []


def test_an_order_names_the_file_systems_that_were_built() -> None:
    facts = {"file system d": "5c5f3e4a-1", "script /bin/x": "ab12"}
    master = Master(*RECORDED, RaiseLevel(3), RecordBuild(WEB, Build("digest", (N1, N2), facts)))
    master.write(SetWanted(WEB, Wanted.RUNNING, N2))
    master.feed(Told(LOCKD, Applied(master.ledger)))
    master.commit()
    master.wait(0.6)
    assert {tuple(order.built.items()) for order in orders(master)} == {(("d", "5c5f3e4a-1"),)}


def test_an_order_goes_to_this_node_s_reqd_whoever_sent_it() -> None:
    master = Master(*RECORDED)
    order = Order("start", WEB, Generation(9), Term(1))
    master.outputs = []
    master.feed(Received(N3, order))
    assert master.told(REQD, Order) == [order]


# ---- cold start -----------------------------------------------------------------------------------------------------

AUTO = replace(CONFIGURATION.apps[0], autostart=True)
RAN = (*RECORDED, SetWanted(DB, Wanted.RUNNING, N2))
NEW = {N1: BootId("a2"), N2: BootId("b2"), N3: BootId("c2")}


def cold(*log: AnyCommand, boots: dict[NodeName, BootId] = NEW) -> Master:
    master = Master(*log, ready=False)
    master.boots = {**BOOTS, **boots}
    master.core.situation.configuration = replace(CONFIGURATION, apps=(AUTO, CONFIGURATION.apps[1]))
    master.hear()
    master.feed(Told(LOCKD, Leadership(master.term, N1, True)))
    return master


def wishes(written: list[AnyCommand]) -> list[AnyCommand]:
    return [each for each in written if isinstance(each, SetWanted)]


AFTER_ALL = [SetWanted(WEB, Wanted.RUNNING), SetWanted(DB, Wanted.STOPPED)]


def test_after_the_whole_cluster_was_down_only_autostart_runs_again() -> None:
    master = cold(*RAN)
    master.report()
    assert wishes(master.commit()) == AFTER_ALL


@pytest.mark.parametrize("survivor", [N1, N2, N3])
def test_one_node_that_was_not_rebooted_makes_it_no_cold_start(survivor: NodeName) -> None:
    master = cold(*RAN, boots={node: boot for node, boot in NEW.items() if node != survivor})
    master.report()
    assert wishes(master.commit()) == []


def test_a_survivor_that_has_not_reported_yet_is_known_by_hbd() -> None:
    """Its reqd may be slow: applications that run there must not be stopped for that."""
    master = cold(*RAN, boots={N1: NEW[N1]})
    master.report(N1)
    master.wait(REPORT_GRACE + 0.2)
    assert wishes(master.commit()) == []


def test_nothing_is_judged_before_any_report() -> None:
    master = cold(*RAN)
    master.wait(REPORT_GRACE + 1.0)
    assert master.commit() == []
    master.report()
    assert wishes(master.commit()) == AFTER_ALL


def test_nothing_is_planned_before_it_is_known_whether_all_were_down() -> None:
    """With a node missing that takes a moment: what is to stay down must not run for that long."""
    master = cold(*RAN)
    master.hear(N3)
    master.report(N1, N2)
    assert master.commit() == []
    master.wait(REPORT_GRACE + 0.2)
    written = master.commit()
    assert wishes(written) == AFTER_ALL
    assert [each.app for each in written if isinstance(each, GiveGrant)] == [WEB]


def test_an_order_that_waits_for_that_wakes_nobody() -> None:
    """All nodes boot while this master, cut off, gave orders already: seed 739 woke without end."""
    master = cold(*RAN, GiveGrant(DB, N2), boots={})
    master.hear(N3)
    master.report(N1, N2)
    assert orders(master)
    master.boots = {**NEW}
    master.hear(N3)
    master.report(N1, N2)
    master.now += 0.6
    output = master.feed(Woke())
    assert output.wake_at is None or output.wake_at > master.now


def test_a_cold_start_whose_proposal_is_lost_is_proposed_again() -> None:
    master = cold(*RAN)
    master.report()
    proposal = master.proposed()
    assert proposal is not None
    master.outputs = []
    master.feed(Told(LOCKD, Proposed(proposal.number, None, "not now")))
    master.wait(0.5)
    assert wishes(master.commit()) == AFTER_ALL


def test_autostart_of_a_formation_is_written_even_if_the_first_proposal_is_lost() -> None:
    master = Master()
    master.core.situation.configuration = replace(CONFIGURATION, apps=(AUTO, CONFIGURATION.apps[1]))
    master.feed(Told(REQD, Request("form-1", "autostart", AppName(""), None, "lha_form")))
    proposal = master.proposed()
    assert proposal is not None
    master.outputs = []
    master.feed(Told(LOCKD, Proposed(proposal.number, None, "not now")))
    master.wait(0.5)
    assert wishes(master.commit()) == [SetWanted(WEB, Wanted.RUNNING)]
    master.feed(Told(REQD, Request("form-1", "autostart", AppName(""), None, "lha_form")))
    assert master.told(REQD, Reply)[-1] == Reply("form-1", code=0)


# ---- lost nodes and fences ------------------------------------------------------------------------------------------


def test_a_node_never_heard_is_lost_only_after_the_grace_also_of_a_restarted_hbd() -> None:
    master = Master(*RECORDED)
    master.hear()
    master.wait(STARTUP_GRACE + 1.0)
    master.feed(Left(HBD))
    master.feed(Joined(HBD))
    master.hear(N2, boots={N2: None})
    assert master.core.situation.lost() == frozenset()
    master.wait(STARTUP_GRACE + 0.1)
    assert master.core.situation.lost() == {N2}


def test_a_node_that_was_heard_and_fell_silent_is_lost_at_once() -> None:
    master = Master(*RECORDED)
    master.hear(N2)
    assert master.core.situation.lost() == {N2}


def test_a_node_that_is_heard_but_does_not_renew_is_lost() -> None:
    """Its reqd is dead."""
    master = Master(*RECORDED)
    master.expired = (N2,)
    master.report()
    assert master.core.situation.lost() == {N2}


FENCED = replace(
    CONFIGURATION,
    cluster=replace(
        CONFIGURATION.cluster,
        nodes=tuple(replace(node, fence=((FenceConfig(agent="/bin/f"),),)) for node in CONFIGURATION.cluster.nodes),
    ),
)


def test_the_device_is_asked_only_once_the_order_is_committed_and_again_until_it_says_off() -> None:
    master = Master(*RECORDED, SetWanted(WEB, Wanted.RUNNING, N2), GiveGrant(WEB, N2))
    master.core.situation.configuration = FENCED
    running(master)
    master.commit()
    master.hear(N2)
    generation = grant(master)
    proposal = master.proposed()
    assert proposal is not None and OrderFence(N2, (generation,)) in proposal.commands
    assert master.told(REQD, OrderFenceOff, keep=True) == []
    master.told(LOCKD, Propose)
    master.apply(Batch(proposal.commands))
    master.feed(Told(LOCKD, Proposed(proposal.number, master.ledger.index)))
    master.feed(Told(LOCKD, Applied(master.ledger)))
    order = OrderFenceOff(N2, master.ledger.fences[N2].index)
    assert master.told(REQD, OrderFenceOff) == [order]
    master.feed(Told(REQD, FenceResult(N2, order.index, False, "no answer")))
    master.wait(2.2)
    assert master.told(REQD, OrderFenceOff) == [order]
    master.feed(Told(REQD, FenceResult(N2, order.index, True)))
    confirmed = master.proposed()
    assert confirmed is not None and confirmed.commands == (ConfirmFence(N2, order.index),)
    written = master.commit()
    assert any(isinstance(each, GiveGrant) and each.node != N2 for each in written)


def test_a_master_that_must_be_fenced_itself_asks_to_be_relieved_now_and_then() -> None:
    master = Master(*RECORDED, SetWanted(WEB, Wanted.RUNNING, N1), GiveGrant(WEB, N1))
    master.core.situation.configuration = FENCED
    master.lines[N1] = (line(WEB, grant(master), Phase.NEEDS_FENCE),)
    master.report()
    master.commit()
    master.outputs = []
    master.wait(5.0)
    assert 2 <= len(master.told(LOCKD, StepDown)) <= 3


def test_a_node_that_cannot_stop_and_has_no_fence_device_is_to_be_renewed_no_more() -> None:
    master = Master(*RECORDED, SetWanted(WEB, Wanted.RUNNING, N2), GiveGrant(WEB, N2))
    master.lines[N2] = (line(WEB, grant(master), Phase.NEEDS_FENCE),)
    reports = {node: (master.boots[node], master.lines[node]) for node in master.lines}
    told = Nodes(reports, (), watchdogs={N2: WatchdogReport(True, 10.0, True)})
    master.feed(Told(LOCKD, told))
    assert master.told(LOCKD, Revoke) == [Revoke(master.term, N2, WEB, grant(master))]
    master.feed(Told(LOCKD, replace(told, unrenewed=(N2,))))
    assert master.told(LOCKD, Revoke) == []
    assert "n2 gets no lease any more" in dict(master.core._plan.notes)[WEB]


def test_a_restarted_clusterd_asks_for_everything_anew_and_is_no_master_before_the_answer() -> None:
    master = Master(*RECORDED)
    master.restart(ready=False)
    for who in (LOCKD, HBD, SYNCD):
        assert master.told(who, Subscribe, keep=True)
    assert not master.core.situation.master


# ---- the configuration in force -------------------------------------------------------------------------------------


def retimed(lease: float) -> Configuration:
    cluster = CONFIGURATION.cluster
    return replace(CONFIGURATION, cluster=replace(cluster, timing=replace(cluster.timing, lease=lease)), digest="new")


def test_the_log_says_which_configuration_is_in_force_before_anything_else() -> None:
    master = Master(ready=False)
    master.lead()
    assert master.commit()[0] == IN_FORCE
    assert IN_FORCE not in master.commit()


def test_another_timing_goes_into_the_log_when_it_is_activated() -> None:
    master = Master(*RECORDED)
    master.feed(Told(SYNCD, NewConfiguration(retimed(3.0))))
    (written,) = master.commit()
    assert isinstance(written, Configure) and (written.digest, written.timing.lease) == ("new", 3.0)
    assert [each.lease for each in master.ledger.timings] == [3.0, Timing().lease]


def test_a_further_timing_waits_while_too_many_others_may_still_be_counted_with() -> None:
    master = Master(*RECORDED, *(Configure("", LeaseTiming(2.0 + each, 0.05, 1.0)) for each in range(MAX_TIMINGS - 1)))
    master.feed(Told(SYNCD, NewConfiguration(retimed(30.0))))
    assert master.commit() == [], "nothing is proposed that the ledger would not take"
    master.write(SettleTiming(master.ledger.configured))
    master.feed(Told(LOCKD, Applied(master.ledger)))
    assert [type(each) for each in master.commit()] == [Configure]


# ---- a node that is behind ------------------------------------------------------------------------------------------


def version(digest: str) -> Configuration:
    return replace(CONFIGURATION, digest=digest)


def test_a_master_that_is_behind_follows_and_leads_nobody_back() -> None:
    master = Master(*RECORDED)
    for digest in ("v2", "v1"):
        master.feed(Told(SYNCD, NewConfiguration(version(digest))))
        master.commit()
        if digest == "v2":
            assert master.ledger.digest == "v2"
            master.write(Configure("v3", lease_timing(CONFIGURATION.cluster.timing)))
            master.feed(Told(LOCKD, Applied(master.ledger)))
    assert master.ledger.digest == "v1", "what the log does not know is news"
    master.feed(Told(SYNCD, NewConfiguration(version("v2"))))
    assert master.commit() == []
    master.wait(BEHIND - 0.5)
    assert master.told(SYNCD, Follow) == []
    master.wait(1.0)
    assert master.told(SYNCD, Follow) == [Follow("v1")]


def test_an_older_version_that_an_operator_brings_back_is_in_force() -> None:
    master = Master(*RECORDED)
    master.feed(Told(SYNCD, NewConfiguration(version("v2"))))
    master.commit()
    old = CONFIGURATION.digest
    master.feed(Told(SYNCD, NewConfiguration(CONFIGURATION)))
    assert master.commit() == []
    master.command(Request("op1", "configure", AppName(""), digest=old))
    master.commit()
    assert master.ledger.digest == old
