"""lockd's core on three nodes: what a lease answer takes, which proofs it refuses, what its clusterd is told."""

from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from truecl.core.contract import Connected, Joined, Left, Received, Told, Woke
from truecl.core.ledger import lease_timing
from truecl.core.lockd import Lockd
from truecl.core.raft import Role
from truecl.model.ids import CLUSTERD, HBD, REQD, STATD, SYNCD, AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.ledger import (
    ALWAYS,
    AnyCommand,
    Batch,
    Configure,
    ConfirmFence,
    EndGrant,
    GiveGrant,
    LeaseTiming,
    OrderFence,
    Proof,
    RecordWatchdog,
    SetWanted,
    TakeLock,
    Wanted,
    Watchdog,
)
from truecl.model.membership import Membership
from truecl.model.report import InstanceReport, Phase
from truecl.sim.journal import Journal
from truecl.wire.messages import (
    Applied,
    Campaign,
    Leadership,
    Members,
    NewConfiguration,
    Nodes,
    NodeView,
    Note,
    Propose,
    Proposed,
    Renew,
    Renewed,
    Reshape,
    Revoke,
    StepDown,
    Subscribe,
    View,
)
from truecl.wire.raft import Append, AppendAnswer, Entry, EntryKind

from .same_daemon import Nodes as Trio
from .same_daemon import configuration

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
WEB, DB = AppName("web"), AppName("db")
CONFIGURATION = configuration(apps=("web", "db"))
TIMING = CONFIGURATION.cluster.timing
OVER = TIMING.lease + TIMING.drift + TIMING.stop_allowance
BOOT = BootId("b1")


class Lockds(Trio):
    """n1 leads. `renew` and `propose` play the nodes' reqds and the master's clusterd."""

    def __init__(self, configured: bool = True) -> None:
        self.number = 0
        super().__init__(("n1", "n2", "n3"), self.build, lambda node, action: None)
        for node in self.cores:
            self.tell(node, CLUSTERD, Subscribe())
        self.tell("n1", REQD, Campaign())
        self.wait(0.3)
        assert self.leadership("n1").ready
        if configured:
            self.propose(Configure("", lease_timing(TIMING)))

    def build(self, node: NodeName) -> Lockd:
        return Lockd(node, CONFIGURATION, {}, Random(int(node[1:])), BOOT)

    def lockd(self, node: str) -> Lockd:
        core = self.cores[NodeName(node)]
        assert isinstance(core, Lockd)
        return core

    def leadership(self, node: str) -> Leadership:
        return self.lockd(node)._leadership

    def propose(self, *commands: AnyCommand, node: str = "n1", term: int | None = None) -> Proposed:
        self.number += 1
        leads = self.leadership(node).term if term is None else Term(term)
        self.tell(node, CLUSTERD, Propose(self.number, leads, commands))
        return self.heard(node, CLUSTERD, Proposed)[-1]

    def renew(self, node: str, *lines: InstanceReport, boot: BootId = BOOT, number: int | None = None) -> Renew:
        self.number += 1
        request = Renew(NodeName(node), boot, number or self.number, lines)
        self.tell(node, REQD, request)
        return request

    def answer(self, node: str) -> Renewed | None:
        """The latest that reqd was told there."""
        answers = self.heard(node, REQD, Renewed)
        return answers[-1] if answers else None

    def nodes(self) -> Nodes:
        return self.lockd("n1")._nodes

    def granted(
        self,
        node: NodeName = N2,
        app: AppName = WEB,
        proofs: tuple[Proof, ...] = (*ALWAYS, Proof.EXPIRED),
        addressed: bool = False,
    ) -> Generation:
        give = GiveGrant(app, node, proofs=proofs, addressed=addressed)
        index = self.propose(SetWanted(app, Wanted.RUNNING), give).index
        assert index is not None
        return Generation(index)


def line(generation: int, phase: Phase, app: AppName = WEB) -> InstanceReport:
    return InstanceReport(app, Generation(generation), phase)


@pytest.fixture
def lockds() -> Lockds:
    return Lockds()


# ---- answers --------------------------------------------------------------------------------------------------------


def test_an_answer_echoes_the_request_and_names_what_the_log_grants(lockds: Lockds) -> None:
    generation = lockds.granted()
    request = lockds.renew("n2")
    lockds.wait(0.3)
    answer = lockds.answer("n2")
    assert answer is not None
    assert (answer.node, answer.boot, answer.number) == (N2, request.boot, request.number)
    assert answer.named == ((WEB, generation),)


def test_an_answer_needs_a_round_that_began_after_the_request_came_in(lockds: Lockds) -> None:
    """The acknowledgement of an earlier round may be older than another leader's whole term."""
    lockds.wait(1.0)
    lockds.cut = {N2, N3}
    leader = lockds.lockd("n1").raft
    before = leader.next_round - 1
    lockds.tell("n1", REQD, Renew(N1, BOOT, 50, ()))
    last = leader.log.last_index
    for node in (N2, N3):
        lockds.feed("n1", Received(node, AppendAnswer(leader.term, before, True, last, last, Term(0))))
    assert lockds.answer("n1") is None
    for node in (N2, N3):
        lockds.feed("n1", Received(node, AppendAnswer(leader.term, leader.next_round - 1, True, last, last, Term(0))))
    lockds.wait(0.3)
    for node in (N2, N3):
        lockds.feed("n1", Received(node, AppendAnswer(leader.term, leader.next_round - 1, True, last, last, Term(0))))
    assert lockds.answer("n1") is not None


def test_an_answer_names_nothing_that_is_only_proposed(lockds: Lockds) -> None:
    lockds.propose(SetWanted(WEB, Wanted.RUNNING))
    lockds.wait(1.0)
    leader, known = lockds.lockd("n1").raft, lockds.lockd("n1").raft.log.last_index
    lockds.cut = {N2, N3}
    assert lockds.propose(GiveGrant(WEB, N1)).index == known + 1
    lockds.tell("n1", REQD, Renew(N1, BOOT, 50, ()))
    lockds.wait(0.3)
    for node in (N2, N3):
        answer = AppendAnswer(leader.term, leader.next_round - 1, True, known, known, Term(0))
        lockds.feed("n1", Received(node, answer))
    answered = lockds.answer("n1")
    assert answered is not None and (answered.number, answered.named) == (50, ())


@pytest.mark.parametrize("lost", ["the request", "the answer"])
def test_a_request_that_a_dying_link_swallowed_is_answered_as_soon_as_another_link_is_connected(
    lockds: Lockds, lost: str
) -> None:
    """The verdict on a link takes nearly half of a lease: to wait for the next request, and the next round after it,
    would take the rest."""
    lockds.granted()
    lockds.renew("n2")
    lockds.wait(0.3)
    assert lockds.answer("n2") is not None
    if lost == "the request":
        lockds.cut = {N2}
    request = lockds.renew("n2")
    lockds.cut = {N2}
    lockds.wait(TIMING.detection)
    lockds.cut = set()
    assert lockds.answer("n2") is None
    lockds.feed("n1", Connected(N2))
    lockds.feed("n2", Connected(N1))
    if lost == "the answer":
        assert lockds.answer("n2") is None, "the leader had that one; it knows no more of what came of it"
        request = lockds.renew("n2")
    answer = lockds.answer("n2")
    assert answer is not None and answer.number == request.number


def test_a_gap_in_the_numbers_gets_a_round_at_once(lockds: Lockds) -> None:
    """The node's reqd was killed and is there again: what is left of its lease is not to be waited away."""
    lockds.renew("n2", number=50)
    lockds.wait(0.3)
    assert lockds.answer("n2") is not None
    lockds.renew("n2", number=51)
    assert lockds.answer("n2") is None, "the next heartbeat's round will do"
    lockds.renew("n2", number=1000)
    answer = lockds.answer("n2")
    assert answer is not None and answer.number == 1000


def test_a_leader_without_a_quorum_answers_nothing(lockds: Lockds) -> None:
    lockds.wait(1.0)
    lockds.cut = {N2, N3}
    lockds.renew("n1")
    lockds.wait(0.5)
    assert lockds.answer("n1") is None


def test_a_new_leader_answers_only_after_an_entry_of_its_own_is_committed(lockds: Lockds) -> None:
    lockds.cut = {N1, N3}
    lockd = lockds.lockd("n2")
    lockd.raft._become_candidate(False)
    lockd.raft._become_leader()
    lockd._renew(Renew(N2, BOOT, 7, ()), lockds.now)
    lockd._answer(1 << 40)
    assert lockds.answer("n2") is None and not lockd.raft.ready


def test_what_came_before_it_was_ready_is_answered_then(lockds: Lockds) -> None:
    lockds.cut = {N1}
    lockds.tell("n2", REQD, Campaign())
    lockds.wait(3.0)
    leader = next(node for node in ("n2", "n3") if lockds.leadership(node).ready)
    lockds.renew(leader)
    lockds.wait(0.5)
    assert lockds.answer(leader) is not None


def test_a_request_of_another_node_s_name_is_not_taken(lockds: Lockds) -> None:
    lockds.feed("n1", Received(N3, Renew(N2, BOOT, 1, (line(5, Phase.CLOSED),))))
    assert N2 not in lockds.nodes().reports


# ---- reports --------------------------------------------------------------------------------------------------------


def test_an_older_request_changes_no_report(lockds: Lockds) -> None:
    lockds.renew("n2", line(5, Phase.RUNNING), number=9)
    lockds.renew("n2", line(5, Phase.STARTING), number=8)
    assert lockds.nodes().reports[N2] == (BOOT, (line(5, Phase.RUNNING),))


def test_an_earlier_boot_is_not_believed_again(lockds: Lockds) -> None:
    lockds.renew("n2", number=900)
    lockds.renew("n2", boot=BootId("b2"), number=5)
    lockds.renew("n2", line(5, Phase.RUNNING), number=901)
    assert lockds.nodes().reports[N2] == ("b2", ())


def heard(boot: str) -> Told:
    return Told(HBD, View((NodeView(N2, BootId(boot), True, ()),)))


def test_a_late_request_of_an_earlier_boot_does_not_shut_the_present_one_out(lockds: Lockds) -> None:
    """This leader never heard of the earlier boot: only hbd knows which of the two lives."""
    lockds.feed("n1", heard("b2"))
    lockds.renew("n2", boot=BootId("b2"), number=5)
    lockds.renew("n2", line(5, Phase.NEEDS_FENCE), boot=BootId("b1"), number=900)
    lockds.renew("n2", boot=BootId("b2"), number=6)
    lockds.wait(0.3)
    answer = lockds.answer("n2")
    assert answer is not None and answer.boot == "b2"
    assert lockds.nodes().reports[N2] == ("b2", ())


def test_a_rebooted_node_is_taken_when_hbd_has_heard_of_it_or_is_not_there_to_say(lockds: Lockds) -> None:
    lockds.feed("n1", heard("b1"))
    lockds.renew("n2")
    lockds.renew("n2", boot=BootId("b2"), number=1)
    assert lockds.nodes().reports[N2][0] == "b1"
    lockds.feed("n1", heard("b2"))
    lockds.renew("n2", boot=BootId("b2"), number=2)
    assert lockds.nodes().reports[N2][0] == "b2"
    lockds.feed("n1", Left(HBD))
    lockds.renew("n2", boot=BootId("b3"), number=1)
    assert lockds.nodes().reports[N2][0] == "b3"


def test_another_boot_of_an_owner_is_taken_when_the_lease_of_the_one_before_is_surely_over(lockds: Lockds) -> None:
    """A copy of the machine with its addresses silences it, and looks like its reboot: both would run the grant."""
    generation = lockds.granted()
    lockds.renew("n2", line(generation, Phase.RUNNING))
    lockds.wait(0.3)
    assert lockds.answer("n2") is not None
    lockds.feed("n1", heard("b2"))
    lockds.propose(OrderFence(N2, (generation,)))  # not confirmed: the device may be slow
    for number in range(1, 100):
        lockds.renew("n2", boot=BootId("b2"), number=number)
        lockds.wait((OVER - 0.4) / 99)
        assert lockds.answer("n2") is None and lockds.nodes().reports[N2][0] == "b1"
    lockds.wait(0.4)
    lockds.renew("n2", boot=BootId("b2"), number=101)
    lockds.wait(0.3)
    answer = lockds.answer("n2")
    assert answer is not None and answer.boot == "b2" and lockds.nodes().reports[N2][0] == "b2"


def test_another_boot_is_taken_at_once_of_a_node_that_was_granted_nothing_or_that_its_device_called_off(
    lockds: Lockds,
) -> None:
    lockds.renew("n2")
    lockds.renew("n2", boot=BootId("b2"), number=1)
    assert lockds.nodes().reports[N2][0] == "b2"
    generation = lockds.granted()
    order = lockds.propose(OrderFence(N2, (generation,))).index
    assert order is not None
    lockds.propose(ConfirmFence(N2, order))
    lockds.renew("n2", boot=BootId("b3"), number=1)
    assert lockds.nodes().reports[N2][0] == "b3"


def test_a_leader_has_forgotten_what_the_nodes_told_it_the_last_time(lockds: Lockds) -> None:
    lockds.renew("n2", line(5, Phase.NEEDS_FENCE))
    lockds.cut = {N1}
    lockds.wait(5.0)
    assert not lockds.leadership("n1").ready
    lockds.cut = set()
    lockds.wait(1.0)
    lockds.tell("n1", REQD, Campaign())
    for _ in range(100):
        if lockds.leadership("n1").ready:
            break
        leader = next(node for node in ("n2", "n3") if lockds.lockd(node).raft.followers)
        lockds.lockd(leader).raft.transfer(N1, lockds.now)
        lockds.wait(0.3)
    assert lockds.leadership("n1").ready
    assert lockds.nodes().reports == {}


# ---- proofs ---------------------------------------------------------------------------------------------------------


def test_released_needs_the_owner_s_own_word_on_that_generation(lockds: Lockds) -> None:
    generation = lockds.granted()
    end = EndGrant(WEB, generation, Proof.RELEASED)
    assert "has not reported" in lockds.propose(end).reason
    lockds.renew("n2", line(generation - 1, Phase.CLOSED), line(generation, Phase.CLOSED, DB))
    assert lockds.propose(end).index is None
    lockds.renew("n2", line(generation, Phase.STOPPING))
    assert lockds.propose(end).index is None
    lockds.renew("n3", line(generation, Phase.CLOSED))
    assert lockds.propose(end).index is None
    lockds.renew("n2", line(generation, Phase.CLOSED))
    assert lockds.propose(end).index is not None


def test_expired_needs_lease_drift_and_allowance_after_the_last_answer(lockds: Lockds) -> None:
    generation = lockds.granted()
    end = EndGrant(WEB, generation, Proof.EXPIRED)
    lockds.wait(3.0)
    lockds.renew("n2")
    received = lockds.now
    lockds.wait(0.5)
    lockds.cut = {N2}
    lockds.wait(received + OVER - 0.01 - lockds.now)
    assert lockds.propose(end).index is None and N2 not in lockds.nodes().expired
    lockds.wait(0.02)
    assert lockds.nodes().expired == (N1, N2, N3)
    assert lockds.propose(end).index is not None


def test_what_only_addresses_lead_to_waits_for_these_alone(lockds: Lockds) -> None:
    web, db = lockds.granted(addressed=True), lockds.granted(app=DB)
    lockds.wait(3.0)
    lockds.renew("n2")
    received = lockds.now
    lockds.cut = {N2}
    early = TIMING.lease + TIMING.drift + TIMING.address_allowance
    lockds.wait(received + early - 0.01 - lockds.now)
    assert lockds.nodes().lapsed == () and lockds.propose(EndGrant(WEB, web, Proof.EXPIRED)).index is None
    lockds.wait(0.02)
    assert lockds.nodes().lapsed == (web,) and lockds.nodes().expired == ()
    assert lockds.propose(EndGrant(DB, db, Proof.EXPIRED)).index is None
    assert lockds.propose(EndGrant(WEB, web, Proof.EXPIRED)).index is not None
    lockds.wait(received + OVER + 0.01 - lockds.now)
    assert lockds.nodes().lapsed == (db,)


def test_expired_and_watchdog_needs_three_timeouts_and_a_grant_that_was_given_for_it(lockds: Lockds) -> None:
    armed = RecordWatchdog(N2, Watchdog(BOOT, 10.0, True))
    lockds.propose(armed)
    plain = EndGrant(WEB, lockds.granted(), Proof.EXPIRED_WATCHDOG)
    end = EndGrant(DB, lockds.granted(N2, DB, (*ALWAYS, Proof.EXPIRED_WATCHDOG)), Proof.EXPIRED_WATCHDOG)
    lockds.wait(3.0)
    lockds.renew("n2")
    received = lockds.now
    lockds.wait(0.5)
    lockds.cut = {N2}
    over = (TIMING.lease + 3 * 10.0) * (1 + TIMING.drift / TIMING.lease)
    lockds.wait(received + over - 0.01 - lockds.now)
    assert lockds.propose(end).index is None and lockds.nodes().reset == ()
    lockds.wait(0.02)
    assert lockds.nodes().reset == (end.generation,)
    assert "was not started for proof" in lockds.propose(plain).reason
    lockds.propose(RecordWatchdog(N2, None))
    assert "no watchdog" in lockds.propose(end).reason
    lockds.propose(armed)
    assert lockds.propose(end).index is not None


def test_a_grant_leans_on_no_watchdog_that_the_log_does_not_know(lockds: Lockds) -> None:
    for watchdog in (None, Watchdog(BOOT, 10.0, False)):
        lockds.propose(RecordWatchdog(N2, watchdog))
    lockds.granted(N2, DB, (*ALWAYS, Proof.EXPIRED_WATCHDOG))
    grant = lockds.lockd("n1").ledger.apps[DB].grant
    assert grant is not None and (grant.proofs, grant.watchdog) == (ALWAYS, 0.0)


def test_fenced_needs_a_confirmed_order_that_names_the_generation(lockds: Lockds) -> None:
    generation = lockds.granted()
    end = EndGrant(WEB, generation, Proof.FENCED)
    order = lockds.propose(OrderFence(N2, (generation,))).index
    assert lockds.propose(end).index is None and order is not None
    lockds.propose(ConfirmFence(N2, Index(order)))
    assert lockds.propose(end).index is not None


@pytest.mark.parametrize("proof", [Proof.VOUCHED, Proof.EXPIRED_WATCHDOG])
def test_proofs_that_nobody_can_check_yet_are_refused(lockds: Lockds, proof: Proof) -> None:
    generation = lockds.granted()
    lockds.wait(60.0)
    assert lockds.propose(EndGrant(WEB, generation, proof)).index is None


def test_only_the_live_generation_can_be_ended_and_only_in_the_leader_s_term(lockds: Lockds) -> None:
    generation = lockds.granted()
    lockds.wait(60.0)
    assert lockds.propose(EndGrant(WEB, Generation(generation - 1), Proof.EXPIRED)).index is None
    term = lockds.leadership("n1").term
    assert lockds.propose(TakeLock("a", "b"), term=term - 1).index is None
    assert lockds.propose(TakeLock("a", "b"), node="n2", term=term).index is None


# ---- revoked --------------------------------------------------------------------------------------------------------


def taken_away(lockds: Lockds, committed: bool) -> Generation:
    """web of n2 is taken on 'expired'; `committed`: the entry reaches the others."""
    generation = lockds.granted()
    lockds.wait(60.0)
    lockds.heard("n2", REQD, Renewed)
    if not committed:
        lockds.cut = {N2, N3}
    assert lockds.propose(EndGrant(WEB, generation, Proof.EXPIRED), GiveGrant(WEB, N3, generation)).index is not None
    return generation


def test_between_proposal_and_commit_an_answer_would_still_name_it(lockds: Lockds) -> None:
    """n2 never saw the generation: named now, it would start it while n3 does."""
    lockd = lockds.lockd("n1")
    generation = taken_away(lockds, committed=False)
    lockds.feed("n1", Received(N2, Renew(N2, BOOT, 1 << 50, ())))
    leases = lockd._leases_of_term(lockds.now)
    assert [each.node for each in leases.completed(1 << 40)] == []
    lockds.feed("n1", Received(N2, Renew(N2, BOOT, (1 << 50) + 1, (line(generation, Phase.STOPPING),))))
    assert [each.node for each in leases.completed(1 << 40)] == []


def test_an_owner_that_never_saw_its_generation_is_renewed_again_when_the_end_is_committed(lockds: Lockds) -> None:
    taken_away(lockds, committed=True)
    lockds.renew("n2")
    lockds.wait(0.3)
    answer = lockds.answer("n2")
    assert answer is not None and answer.named == ()


def test_an_owner_that_still_has_it_open_is_renewed_when_it_reports_it_closed(lockds: Lockds) -> None:
    generation = taken_away(lockds, committed=True)
    lockds.renew("n2", line(generation, Phase.STOPPING))
    lockds.wait(0.3)
    assert lockds.answer("n2") is None
    lockds.renew("n2", line(generation, Phase.CLOSED))
    lockds.wait(0.3)
    assert lockds.answer("n2") is not None


# ---- a node that cannot stop what it has ----------------------------------------------------------------------------


def stuck(lockds: Lockds, boot: BootId = BOOT) -> Generation:
    """web of n2 leans on its watchdog of 10 s, and does not stop."""
    lockds.propose(RecordWatchdog(N2, Watchdog(BOOT, 10.0, True)))
    generation = lockds.granted(N2, WEB, (*ALWAYS, Proof.EXPIRED_WATCHDOG))
    lockds.wait(3.0)
    lockds.feed("n1", heard(boot))
    lockds.renew("n2", line(generation, Phase.NEEDS_FENCE))
    lockds.wait(0.3)
    assert lockds.answer("n2") is not None
    return generation


def revoke(lockds: Lockds, generation: int, node: NodeName = N2, term: int | None = None) -> None:
    leads = lockds.leadership("n1").term if term is None else Term(term)
    lockds.tell("n1", CLUSTERD, Revoke(leads, node, WEB, Generation(generation)))


def renewed(lockds: Lockds, generation: int, phase: Phase, boot: BootId = BOOT) -> bool:
    lockds.renew("n2", line(generation, phase), boot=boot)
    lockds.wait(0.3)
    return lockds.answer("n2") is not None


def test_it_is_renewed_no_more_until_it_has_stopped_it(lockds: Lockds) -> None:
    generation = stuck(lockds)
    lockds.heard("n1", STATD, Note)
    revoke(lockds, generation)
    assert lockds.nodes().unrenewed == (N2,)
    (note,) = [each.event.text for each in lockds.heard("n1", STATD, Note)]
    assert note == "application 'web' cannot be stopped on n2: its lease is renewed no more, for its watchdog"
    revoke(lockds, generation)
    assert lockds.heard("n1", STATD, Note) == []
    assert not any(renewed(lockds, generation, phase) for phase in (Phase.NEEDS_FENCE, Phase.STOPPING))
    assert renewed(lockds, generation, Phase.CLOSED) and lockds.nodes().unrenewed == ()


def test_its_next_boot_is_renewed_when_it_has_released_it(lockds: Lockds) -> None:
    generation = stuck(lockds)
    revoke(lockds, generation)
    lockds.wait(OVER + 1.0)
    lockds.feed("n1", heard("b2"))
    assert not renewed(lockds, generation, Phase.STOPPING, BootId("b2"))
    assert lockds.nodes().reports[N2][0] == "b2"
    assert renewed(lockds, generation, Phase.CLOSED, BootId("b2"))
    assert lockds.propose(EndGrant(WEB, generation, Proof.RELEASED)).index is not None


def test_nobody_is_revoked_but_who_says_that_of_what_it_owns(lockds: Lockds) -> None:
    generation = stuck(lockds)
    revoke(lockds, generation, term=lockds.leadership("n1").term - 1)
    revoke(lockds, generation - 1)
    revoke(lockds, generation, N3)
    lockds.renew("n1", line(generation, Phase.NEEDS_FENCE))
    revoke(lockds, generation, N1)
    lockds.renew("n2", line(generation, Phase.RUNNING))
    revoke(lockds, generation)
    assert lockds.nodes().unrenewed == ()
    lockds.tell("n1", "somebody", Revoke(lockds.leadership("n1").term, N2, WEB, generation))
    assert lockds.nodes().unrenewed == ()


def test_a_watchdog_proves_nothing_of_a_node_that_is_heard_after_its_time(lockds: Lockds) -> None:
    """It says itself that it still has it: whatever the watchdog is, it has not reset the node."""
    generation = stuck(lockds)
    revoke(lockds, generation)
    end = EndGrant(WEB, generation, Proof.EXPIRED_WATCHDOG)
    lockds.wait(40.0)
    assert lockds.nodes().reset == ()
    assert lockds.propose(end).reason == "n2 is heard after the time in which its watchdog must have reset it"
    lockds.feed("n1", Told(HBD, View((NodeView(N2, BOOT, False, ()),))))
    lockds.wait(40.0)
    assert lockds.nodes().reset == () and lockds.propose(end).index is None, "nor when it falls silent then"


@pytest.mark.parametrize("now_heard", [View((NodeView(N2, BOOT, False, ()),)), heard("b2").message])
def test_but_it_does_of_one_that_is_silent_or_in_another_boot(lockds: Lockds, now_heard: View) -> None:
    generation = stuck(lockds)
    revoke(lockds, generation)
    lockds.wait(12.0)
    lockds.feed("n1", Told(HBD, now_heard))
    lockds.wait(28.0)
    assert lockds.nodes().reset == (generation,)
    assert lockds.propose(EndGrant(WEB, generation, Proof.EXPIRED_WATCHDOG)).index is not None


# ---- what its node is told ------------------------------------------------------------------------------------------


def test_a_new_master_knows_the_ledger_before_it_hears_that_it_leads(lockds: Lockds) -> None:
    lockds.granted()
    lockds.told[N1].clear()
    lockds.tell("n1", CLUSTERD, Subscribe())
    kinds = [type(message) for who, message in lockds.told[N1] if who == CLUSTERD]
    assert kinds.index(Applied) < kinds.index(Leadership) < kinds.index(Nodes)


def test_a_leader_hands_over_to_one_that_answers_and_tries_once_at_a_time(lockds: Lockds) -> None:
    lockds.wait(1.0)
    lockds.cut = {N2}
    lockds.feed("n1", Joined(HBD))
    lockds.feed("n1", Told(HBD, View((NodeView(N2, BOOT, False, ()), NodeView(N3, BOOT, True, ())))))
    for _ in range(5):
        lockds.tell("n1", CLUSTERD, StepDown())
        lockds.wait(0.1)
    assert lockds.leadership("n3").leader == N3


def test_an_attempt_to_hand_over_is_not_begun_anew_while_it_lasts(lockds: Lockds) -> None:
    """Nothing can be proposed meanwhile: asked again and again, a leader would decide nothing for ever."""
    lockds.wait(0.5)
    lockds.cut = {N2, N3}
    raft = lockds.lockd("n1").raft
    ends = []
    for _ in range(3):
        lockds.tell("n1", CLUSTERD, StepDown())
        assert raft._tenure is not None and raft.transferring
        ends.append(raft._tenure.transfer_until)
        lockds.wait(0.1)
    assert len(set(ends)) == 1


def test_a_witness_leads_only_until_another_voter_can(lockds: Lockds) -> None:
    lockds.cut = {N2, N3}
    nodes = tuple(replace(each, witness=each.name == N1) for each in CONFIGURATION.cluster.nodes)
    changed = replace(CONFIGURATION, cluster=replace(CONFIGURATION.cluster, nodes=nodes))
    for node in (N1, N2, N3):
        lockds.tell(node, SYNCD, NewConfiguration(changed))
    lockds.wait(0.1)
    assert lockds.leadership("n1").leader == N1
    lockds.cut = set()
    lockds.wait(2.0)
    assert {lockds.leadership(node).leader for node in ("n1", "n2", "n3")} == {N2}


# ---- the timing of leases -------------------------------------------------------------------------------------------

SHORT, LONG = LeaseTiming(1.0, 0.05, 1.0), LeaseTiming(3.0, 0.05, 1.0)


def test_no_lease_is_given_before_the_log_says_how_long_it_is() -> None:
    lockds = Lockds(configured=False)
    lockds.renew("n2")
    lockds.wait(2 * TIMING.renewal)
    assert lockds.answer("n2") is None and lockds.nodes().expired == ()
    lockds.propose(Configure("", SHORT))
    lockds.wait(2 * TIMING.renewal)
    answer = lockds.answer("n2")
    assert answer is not None and answer.lease == SHORT.lease


def test_an_answer_carries_the_length_that_the_log_says_whatever_the_leader_was_started_with(lockds: Lockds) -> None:
    lockds.propose(Configure("", LONG))
    lockds.renew("n2")
    lockds.wait(2 * TIMING.renewal)
    answer = lockds.answer("n2")
    assert answer is not None and answer.lease == LONG.lease != TIMING.lease


def test_a_shorter_lease_proves_nothing_sooner_before_the_longer_ones_are_over(lockds: Lockds) -> None:
    lockds.propose(Configure("", LONG))
    lockds.wait(20.0)
    assert lockds.lockd("n3").ledger.timings == (LONG,), "settled, by the leader's own entry"
    generation = lockds.granted()
    lockds.renew("n2")
    lockds.wait(2 * TIMING.renewal)
    lockds.propose(Configure("", SHORT))
    over = SHORT.lease + SHORT.drift + SHORT.stop_allowance
    lockds.wait(over + 0.1)
    assert lockds.propose(EndGrant(WEB, generation, Proof.EXPIRED)).reason == "the lease of n2 may still hold"
    lockds.wait(LONG.lease - SHORT.lease)
    assert lockds.propose(EndGrant(WEB, generation, Proof.EXPIRED)).index is not None
    lockds.wait(20.0)
    assert lockds.lockd("n1").ledger.timings == (SHORT,)


def test_another_leader_counts_with_the_longer_leases_of_the_one_before(lockds: Lockds) -> None:
    lockds.propose(Configure("", LONG))
    lockds.propose(Configure("", SHORT))
    lockds.tell("n1", REQD, StepDown())
    lockds.wait(0.3)
    assert lockds.leadership("n2").leader == N2
    core = lockds.lockd("n2")
    assert core.ledger.timings == (SHORT, LONG, lease_timing(TIMING))
    assert core._leases_of_term(lockds.now).over(N1) >= lockds.now + LONG.lease - 0.3


def test_a_compacted_log_is_read_again() -> None:
    """What is in the snapshot is not put into another one: a lockd that started on one ended with an error."""
    journal = Journal()

    def life() -> Lockd:
        core = Lockd(N1, CONFIGURATION, journal.read(), Random(1), BOOT)
        core.compact_every, core.retained = 3, 0
        journal.write(core.start(0.0).save)
        return core

    core = life()
    wish = msgspec.msgpack.encode(Batch((SetWanted(WEB, Wanted.RUNNING),)))
    entries = tuple(Entry(Term(2), EntryKind.COMMAND, wish) for _ in range(4))
    append = Append(Term(2), Index(1), Term(1), entries, commit=Index(5), round=1)
    journal.write(core.handle(Received(N2, append), 1.0).save)
    journal.write(core.handle(Woke(), 1.1).save)
    assert core.raft.log.snapshot.index == 5
    assert life().ledger == core.ledger


# ---- who is a member ------------------------------------------------------------------------------------------------


def reshape(bench: Lockds, membership: Membership) -> Proposed:
    bench.number += 1
    bench.tell("n1", CLUSTERD, Reshape(bench.number, bench.leadership("n1").term, membership))
    return bench.heard("n1", CLUSTERD, Proposed)[-1]


BOUND = Membership((N1, N2), (N3,), None, True)


def test_all_are_told_of_another_membership() -> None:
    bench = Lockds()
    assert reshape(bench, BOUND).index is not None
    assert bench.heard("n3", CLUSTERD, Members)[-1].membership == BOUND
    assert bench.heard("n1", CLUSTERD, Members)[-1] == Members(BOUND, True, (N3,))


def test_a_change_that_the_log_refuses_says_why() -> None:
    assert "bound" in reshape(Lockds(), Membership((N1, N2), (N3,))).reason


def test_nobody_leaves_who_owns_something() -> None:
    bench = Lockds()
    bench.granted(N3)
    reshape(bench, BOUND)
    assert reshape(bench, Membership((N1, N2), (), None, True)).reason == "n3 owns applications"


def test_nobody_leaves_while_an_entry_waits_that_may_give_something() -> None:
    bench = Lockds()
    reshape(bench, BOUND)
    bench.cut.add(N2)
    bench.propose(SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N3))
    assert "entries of the log wait" in reshape(bench, Membership((N1, N2), (), None, True)).reason


def test_who_left_is_given_nothing_renewed_nothing_and_reported_no_more() -> None:
    bench = Lockds()
    bench.renew("n3")
    bench.wait(0.5)
    reshape(bench, BOUND)
    reshape(bench, Membership((N1, N2), (), None, True))
    assert "no member" in bench.propose(SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N3)).reason
    assert bench.heard("n3", REQD, Renewed)
    bench.renew("n3")
    bench.wait(1.0)
    assert bench.heard("n3", REQD, Renewed) == []
    assert N3 not in bench.nodes().reports


def test_a_node_that_was_added_begins_without_a_membership() -> None:
    lockd = Lockd(N1, CONFIGURATION, {}, Random(1), BOOT, founder=False)
    lockd.start(100.0)
    lockd.handle(Woke(), 110.0)
    assert lockd.raft.membership == Membership() and lockd.raft.role is Role.FOLLOWER
