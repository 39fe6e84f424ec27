"""Of two lockds: the fence that one orders, the exclusion it writes, the operator's word, and the way back."""

from random import Random

import pytest
from msgspec.structs import replace

from truecl.core.contract import Joined, Left, Received, Told, Woke
from truecl.core.ledger import lease_timing
from truecl.core.lockd import Lockd
from truecl.core.membership_operation import _bound
from truecl.core.raft.reshape import not_one_step
from truecl.model.config import ClusterConfig, Configuration, FenceConfig, LinkConfig, NodeConfig
from truecl.model.ids import CLUSTERD, HBD, REQD, AppName, BootId, Index, LinkName, NodeName, Term
from truecl.model.ledger import Configure, EndGrant, GiveGrant, Proof, SetWanted, Wanted
from truecl.model.membership import Membership
from truecl.model.report import InstanceReport, Phase
from truecl.wire.messages import (
    Campaign,
    Confirmed,
    ConfirmOff,
    FenceResult,
    Leadership,
    NodeView,
    OrderFenceOff,
    Propose,
    Renew,
    Renewed,
    Subscribe,
    View,
)
from truecl.wire.raft import Append, Letter, PreVote, TimeoutNow, Vote, VoteAnswer

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
SEEN = Index(99)
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
            self.tell(node, REQD, Subscribe())
            self.tell(node, HBD, View((NodeView(N2 if node == "n1" else N1, BOOT, True, ()),)))
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


def test_who_led_and_goes_on_alone_answers_for_leases_at_once() -> None:
    """Its own lease is nearly over by then, and nobody else is to be asked."""
    duo = Duo()
    term = duo.lockd("n1").raft.term
    duo.tell("n1", CLUSTERD, Propose(1, term, (Configure("", lease_timing(CONFIGURATION.cluster.timing)),)))
    duo.tell("n1", REQD, Renew(N1, BOOT, 1, ()))
    duo.wait(0.5)
    duo.cut = {N2}
    duo.tell("n1", HBD, View((NodeView(N2, BOOT, False, ()),)))
    duo.wait(0.5)
    (order,) = duo.heard("n1", REQD, OrderFenceOff)
    duo.tell("n1", REQD, FenceResult(N2, order.index, True))
    assert duo.lockd("n1").raft.alone and duo.lockd("n1").raft.ready
    duo.tell("n1", REQD, Renew(N1, BOOT, 2, ()))
    assert [each.number for each in duo.heard("n1", REQD, Renewed)] == [1, 2]


def test_nobody_is_current_when_its_lockd_starts() -> None:
    """Whatever it was in an earlier life: the other may have gone on alone since."""
    lockd = Lockd(N2, CONFIGURATION, {}, Random(1), BOOT)
    lockd.start(0.0)
    told = []
    for now, event in ((1.0, Joined(REQD)), (2.0, Told(HBD, DEAD)), (100.0, Woke())):
        told += lockd.handle(event, now).tell
    assert not any(isinstance(each.message, OrderFenceOff) for each in told)
    assert "cannot know whether n1 went on alone" in lockd.pair.trouble()


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
    duo.tell("n2", "command-1", ConfirmOff(N1, "root", SEEN))
    said = duo.heard("n2", "command-1", Confirmed)[-1]
    assert (said.taken, said.say_more) == (False, True)
    duo.tell("n2", "command-1", ConfirmOff(N1, "root", SEEN, alone=True))
    assert duo.heard("n2", "command-1", Confirmed)[-1].taken
    assert n2.raft.ready
    assert n2.ledger.fences[N1].vouched == "root"
    assert n2.raft.lease_bound == pytest.approx(duo.now)


def test_only_root_vouches() -> None:
    duo = Duo()
    duo.n1_dies()
    duo.feed("n2", Joined("command-1", root=False))
    duo.wait(2.5)
    duo.tell("n2", "command-1", ConfirmOff(N1, "nobody", SEEN))
    assert duo.heard("n2", "command-1", Confirmed) == [] and not duo.lockd("n2").raft.ready


def test_a_node_that_is_heard_is_not_off_whoever_says_so() -> None:
    duo = Duo()
    duo.feed("n2", Joined("command-1"))
    duo.tell("n2", "command-1", ConfirmOff(N1, "root", SEEN, alone=True))
    assert not duo.heard("n2", "command-1", Confirmed)[-1].taken
    duo.feed("n2", Left("command-1"))


def renew(duo: Duo, node: NodeName, number: int, leaving: bool) -> None:
    duo.tell(node, REQD, Renew(node, BOOT, number, (), leaving))


def test_a_node_that_leaves_in_good_order_is_done_without() -> None:
    duo = Duo()
    renew(duo, N2, 1, False)
    assert duo.heard("n2", REQD, Leadership)[-1].needed
    renew(duo, N2, 2, True)
    assert duo.lockd("n1").raft.alone
    assert not duo.heard("n2", REQD, Leadership)[-1].needed, "only now its reqd ends the service"
    duo.cut = {N2}
    duo.tell("n1", HBD, View((NodeView(N2, BOOT, False, (), left=True),)))
    duo.wait(30.0)
    assert duo.lockd("n1").raft.ready
    assert duo.heard("n1", REQD, OrderFenceOff) == []


def test_a_node_that_was_let_go_is_included_when_its_reqd_says_that_it_stays() -> None:
    duo = Duo()
    renew(duo, N2, 1, True)
    duo.wait(5.0)
    assert duo.lockd("n1").raft.alone, "while it is about to end, hbd still hears it"
    renew(duo, N2, 2, False)
    assert not duo.lockd("n1").raft.alone
    assert duo.lockd("n2").raft.may_lead


def test_a_node_with_a_grant_is_not_let_go() -> None:
    duo = Duo()
    term = duo.lockd("n1").raft.term
    duo.tell("n1", CLUSTERD, Propose(1, term, (SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N2))))
    renew(duo, N2, 1, True)
    duo.wait(1.0)
    assert not duo.lockd("n1").raft.alone
    grant = duo.lockd("n1").ledger.apps[WEB].grant
    assert grant is not None
    closed = InstanceReport(WEB, grant.generation, Phase.CLOSED)
    duo.tell("n2", REQD, Renew(N2, BOOT, 2, (closed,), True))
    duo.tell("n1", CLUSTERD, Propose(2, term, (EndGrant(WEB, grant.generation, Proof.RELEASED),)))
    assert duo.lockd("n1").raft.alone


def test_a_leave_that_lost_its_first_answer_leaves_both_needed() -> None:
    """The first entry is on n1 alone: n2, gone by now or not, could still have had n1 fenced."""
    duo = Duo()
    duo.cut = {N2}
    duo.feed("n1", Received(N2, Renew(N2, BOOT, 1, (), True)))
    n1 = duo.lockd("n1").raft
    assert (n1.membership.leaving, n1.alone) == (N2, False)
    duo.tell("n1", HBD, View((NodeView(N2, BOOT, False, (), left=True),)))
    duo.wait(10.0)
    assert not n1.alone
    assert "left before n1 could go on without it" in duo.lockd("n1").pair.trouble()
    duo.cut = set()
    duo.tell("n1", HBD, View((NodeView(N2, BOOT, True, ()),)))
    duo.wait(3.0)
    renew(duo, N2, 2, False)
    duo.wait(1.0)
    assert n1.membership.leaving is None
    assert n1.leader is not None


def test_who_leaves_by_its_own_log_takes_no_word_and_fences_nobody() -> None:
    duo = Duo()
    duo.feed("n1", Received(N2, Renew(N2, BOOT, 1, (), True)))
    duo.n1_dies()
    duo.feed("n2", Joined("command-1"))
    duo.wait(30.0)
    n2 = duo.lockd("n2")
    assert n2.raft.membership.excluded == N2 or n2.raft.membership.leaving == N2
    assert duo.orders() == []
    duo.tell("n2", "command-1", ConfirmOff(N1, "root", SEEN, alone=True))
    said = duo.heard("n2", "command-1", Confirmed)[-1]
    assert not said.taken
    assert "went on without n2" in said.reason


def test_the_operators_word_ends_nothing_that_he_did_not_see() -> None:
    duo = Duo()
    term = duo.lockd("n1").raft.term
    duo.tell("n1", CLUSTERD, Propose(1, term, (SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N1))))
    duo.wait(0.5)
    duo.n1_dies()
    duo.feed("n2", Joined("command-1"))
    duo.wait(2.5)
    duo.tell("n2", "command-1", ConfirmOff(N1, "root", Index(1)))
    assert "since you looked" in duo.heard("n2", "command-1", Confirmed)[-1].reason
    duo.tell("n2", "command-1", ConfirmOff(N1, "root", SEEN))
    assert duo.heard("n2", "command-1", Confirmed)[-1].taken


def test_silence_that_began_at_time_zero_counts() -> None:
    """A clock of its own: an embedded machine whose clock begins with its boot."""
    duo = Duo()
    pair = duo.lockd("n2").pair
    pair._heard_at = -10.0
    pair.seen((NodeView(N1, BOOT, False, ()),), 0.0)
    pair.seen((NodeView(N1, BOOT, False, ()),), 5.0)
    assert pair._dead_since == 0.0


def test_what_an_excluded_node_asks_changes_nothing_at_all() -> None:
    """Not even the term: it deposes nobody, however often it asks."""
    duo = Duo()
    renew(duo, N2, 1, True)
    n1 = duo.lockd("n1").raft
    before = (n1.term, n1.role, n1.leader, n1.voted_for)
    assert n1.membership.excluded == N2
    for message in (Vote(Term(90), Index(90), Term(90), True), PreVote(Term(90), Term(91), Index(90), Term(90))):
        duo.feed("n1", Received(N2, Letter(BOOT, BootId(""), True, message)))
    assert (n1.term, n1.role, n1.leader, n1.voted_for) == before


def test_a_node_votes_though_its_own_log_does_not_make_it_a_voter_yet() -> None:
    """n1 included it, and died before n2 had that entry: without n2's vote neither would ever lead again."""
    duo = Duo()
    renew(duo, N2, 1, True)
    n2 = duo.lockd("n2").raft
    assert n2.membership.excluded == N2
    last = n2.log.last_index
    duo.sent.clear()
    duo.feed("n2", Received(N1, Letter(BOOT, BootId(""), True, Vote(Term(90), Index(last + 1), Term(89), True))))
    letters = [message.message for source, _, message in duo.sent if source == N2 and isinstance(message, Letter)]
    assert [each.granted for each in letters if isinstance(each, VoteAnswer)] == [True]


def test_a_lockd_that_is_silent_for_long_is_fenced_and_a_device_that_switches_another_node_is_told_of() -> None:
    duo = Duo()
    duo.cut = {N1}  # hbd goes on hearing it
    duo.wait(4.0)
    (order, *_) = duo.orders()
    duo.tell("n2", REQD, FenceResult(N1, order.index, True))
    duo.wait(3.0)
    n2 = duo.lockd("n2")
    assert not n2.raft.alone
    assert n2.pair.trouble() == (
        "the fence device says that n1 is off, and it is still heard; does the device switch another one?"
    )
    duo.tell("n2", HBD, DEAD)
    duo.wait(0.5)
    duo.tell("n2", REQD, FenceResult(N1, duo.orders()[-1].index, True))
    assert n2.raft.alone


def test_one_change_at_a_time() -> None:
    """n2 is about to leave, and stays, before both have the first of it."""
    duo = Duo()
    duo.cut = {N2}
    n1 = duo.lockd("n1").raft
    duo.feed("n1", Received(N2, Renew(N2, BOOT, 1, (), True)))
    at = n1.log.last_index
    duo.feed("n1", Received(N2, Renew(N2, BOOT, 2, (), False)))
    assert (n1.membership.leaving, n1.log.settled, n1.log.last_index) == (N2, False, at)
    duo.cut = set()
    duo.wait(1.0)
    assert (n1.membership.leaving, n1.log.settled) == (None, True)


def test_while_one_is_leaving_the_voters_stay_who_they_are() -> None:
    old = Membership((N1, N2), leaving=N2)
    assert "is leaving" in not_one_step(old, _bound(old, Membership((N1,), (N2,))))
    assert "is leaving" in not_one_step(old, _bound(old, Membership((N1, N2, NodeName("n3")))))


def _both_alone() -> Duo:
    """Cut from each other, and each was told that the other is off."""
    duo = Duo()
    duo.cut = {N1}
    for node, other in ((N2, N1), (N1, N2)):
        duo.tell(node, HBD, View((NodeView(other, BOOT, False, ()),)))
        duo.wait(0.5)
        order = duo.heard(node, REQD, OrderFenceOff)[-1]
        duo.tell(node, REQD, FenceResult(other, order.index, True))
    assert all(duo.lockd(node).raft.alone and duo.lockd(node).raft.ready for node in ("n1", "n2"))
    return duo


def test_of_two_that_went_on_without_each_other_one_stops_when_they_meet() -> None:
    duo = _both_alone()
    duo.cut = set()
    duo.wait(2.0)
    stopped = [node for node in ("n1", "n2") if duo.lockd(node).pair.apart]
    assert stopped
    for node in stopped:
        lockd = duo.lockd(node)
        assert not lockd.raft.ready and lockd.raft.leader is None
        assert "went on without each other" in lockd.pair.trouble()
    last = {node: duo.lockd(node).raft.log.last_index for node in stopped}
    duo.wait(30.0)
    assert {node: duo.lockd(node).raft.log.last_index for node in stopped} == last, "and stays so"


def test_what_the_other_wrote_when_it_last_led_alone_is_no_sign_that_it_does_again() -> None:
    duo = Duo()
    duo.n1_dies()
    duo.wait(0.5)
    (order,) = duo.orders()
    duo.tell("n2", REQD, FenceResult(N1, order.index, True))
    n2 = duo.lockd("n2")
    late = Append(Term(n2.raft.term - 1), Index(0), Term(0), (), Index(0), 9)
    duo.feed("n2", Received(N1, Letter(BOOT, BOOT, False, late)))
    assert n2.raft.ready and not n2.pair.apart
