"""lha_node add and remove on the master: the next step follows from what is, and from nothing else."""

from msgspec.structs import replace

from truecl.core.membership_operation import (
    CONFIGURATION_TIME,
    DISMISSAL,
    REFUSALS,
    REPEAT,
    MembershipOperation,
    problem,
    unbound,
)
from truecl.core.situation import Situation
from truecl.model.config import ClusterConfig
from truecl.model.ids import AppName, BootId, Generation, Index, NodeName
from truecl.model.ledger import AppState, Grant, Ledger
from truecl.model.membership import Membership
from truecl.wire.messages import Dismiss, Members, NodeView, Proposed, Request, StepDown, TakeIn, View

from .same_daemon import configuration

N1, N2, N3, N4, *_ = NAMES = tuple(NodeName(f"n{number}") for number in range(1, 10))
WEB = AppName("web")


def situation(voters: tuple[NodeName, ...], observers: tuple[NodeName, ...] = (), nodes: int = 4) -> Situation:
    """n1 is the master, and hears all."""
    made = Situation(N1, configuration(nodes))
    made.members = Members(Membership(voters, observers, None, len(voters) == 2), True, observers)
    hear(made, *NAMES[1:nodes])
    return made


def hear(made: Situation, *nodes: NodeName) -> None:
    made.hear(View(tuple(NodeView(node, BootId("b"), True, ()) for node in nodes)))


def operation(verb: str, node: NodeName) -> MembershipOperation:
    return MembershipOperation(Request("op1", verb, AppName(""), node, "ann"), N1, 0.0, 0.0)


def changed(cluster: ClusterConfig, name: NodeName, **fields: bool) -> ClusterConfig:
    nodes = tuple(replace(node, **fields) if node.name == name else node for node in cluster.nodes)
    return replace(cluster, nodes=nodes)


def follow(made: Situation, work: MembershipOperation) -> list[object]:
    """All that it wants, each carried out at once: what the log is told it says."""
    acts: list[object] = []
    while work.code is None and len(acts) < 20:
        made.now += REPEAT
        act = work.step(made)
        acts.append(act)
        if isinstance(act, Membership):
            made.members = Members(act, True, act.observers)
        elif isinstance(act, Dismiss):
            hear(made, *[node.node for node in made.view.nodes if node.node != act.node])
    return acts[:-1]


def test_a_new_node_follows_before_it_votes() -> None:
    made, work = situation((N1, N2, N3)), operation("add", N4)
    assert follow(made, work) == [Membership((N1, N2, N3), (N4,)), Membership((N1, N2, N3, N4))]
    assert (work.code, work.text) == (0, "Node 'n4' Added successfully, it votes [RC=0].")


def test_until_it_has_caught_up_its_daemons_are_asked_for() -> None:
    made, work = situation((N1, N2, N3), (N4,)), operation("add", N4)
    made.members = replace(made.members, caught_up=())
    assert work.step(made) == TakeIn(N4)
    assert work.step(made) is None
    made.now += REPEAT
    assert work.step(made) == TakeIn(N4)


def test_an_observer_stays_one_and_so_does_the_eighth_node() -> None:
    made, work = situation((N1, N2, N3), (N4,)), operation("add", N4)
    made.configuration = replace(made.configuration, cluster=changed(made.configuration.cluster, N4, observer=True))
    assert follow(made, work) == [] and work.text == "Node 'n4' Added successfully, it is an observer [RC=0]."
    made, work = situation(NAMES[:7], nodes=8), operation("add", NAMES[7])
    assert follow(made, work) == [Membership(NAMES[:7], NAMES[7:8])]


def test_a_witness_takes_the_place_of_the_last_of_seven_voters() -> None:
    made, work = situation(NAMES[:7], nodes=8), operation("add", NAMES[7])
    cluster = changed(made.configuration.cluster, NAMES[7], witness=True)
    made.configuration = replace(made.configuration, cluster=cluster)
    assert follow(made, work) == [
        Membership(NAMES[:7], NAMES[7:8]),
        Membership(NAMES[:6], NAMES[6:8]),
        Membership((*NAMES[:6], NAMES[7]), NAMES[6:7]),
    ]


def test_a_master_that_never_hears_of_the_node_says_so() -> None:
    made, work = situation((N1, N2, N3), nodes=3), operation("add", N4)
    assert work.step(made) is None
    made.now += CONFIGURATION_TIME
    work.step(made)
    assert work.code == 1 and "does not name n4" in work.text


def test_a_voter_that_leaves_follows_first_and_is_stopped_before_it_is_out() -> None:
    made, work = situation((N1, N2, N3, N4)), operation("remove", N4)
    assert follow(made, work) == [Membership((N1, N2, N3), (N4,)), Dismiss(N4), Membership((N1, N2, N3))]
    assert (work.code, work.text) == (0, "Node 'n4' Removed successfully [RC=0].")


def test_one_that_does_not_stop_is_out_after_a_while() -> None:
    made, work = situation((N1, N2, N3), (N4,)), operation("remove", N4)
    assert work.step(made) == Dismiss(N4)
    made.now += DISMISSAL
    assert work.step(made) == Membership((N1, N2, N3))


def test_a_dead_node_is_out_at_once() -> None:
    made, work = situation((N1, N2, N3, N4)), operation("remove", N4)
    hear(made, N2, N3)
    assert follow(made, work) == [Membership((N1, N2, N3), (N4,)), Membership((N1, N2, N3))]


def test_the_first_observer_votes_in_the_place_of_a_voter() -> None:
    made, work = situation(NAMES[:7], NAMES[7:9], nodes=9), operation("remove", N2)
    last = follow(made, work)[-1]
    assert last == Membership((N1, *NAMES[2:8]), NAMES[8:9])


def test_a_master_hands_over_before_it_leaves() -> None:
    made, work = situation((N1, N2, N3)), operation("remove", N1)
    assert work.step(made) == StepDown()
    made.now += CONFIGURATION_TIME
    work.step(made)
    assert work.code == 1 and "no other node can lead" in work.text


def test_two_voters_are_bound_before_their_number_changes_and_unbound_after_it() -> None:
    two = Membership((N1, N2))
    made, work = situation((N1, N2), nodes=3), operation("add", N3)
    made.members = Members(two, True)
    assert follow(made, work) == [
        Membership((N1, N2), (N3,)),
        Membership((N1, N2), (N3,), None, True),
        Membership((N1, N2, N3)),
    ]
    made, work = situation((N1, N2, N3), nodes=3), operation("remove", N3)
    hear(made, N2)
    assert follow(made, work) == [Membership((N1, N2), (N3,), None, True), Membership((N1, N2), (), None, True)]
    assert unbound(made.members.membership) == two and unbound(two) is None


def test_an_excluded_node_is_taken_out_at_once() -> None:
    made, work = situation((N1, N2), nodes=2), operation("remove", N2)
    made.members = Members(Membership((N1, N2), (), N2), True)
    hear(made)
    assert follow(made, work) == [Membership((N1,))]


def test_nothing_is_asked_while_a_change_is_not_committed() -> None:
    made, work = situation((N1, N2, N3)), operation("add", N4)
    made.members = replace(made.members, settled=False)
    assert work.step(made) is None
    made.members = Members(Membership((N1, N2), (), None, False, N2), True)
    assert work.step(made) is None


def test_what_the_log_refuses_again_and_again_ends_it() -> None:
    made, work = situation((N1, N2, N3, N4)), operation("remove", N4)
    work.step(made)
    work.asked(7)
    work.answered(Proposed(6, None, "of another"))
    for _ in range(REFUSALS):
        assert work.code is None
        work.answered(Proposed(7, None, "fewer than a majority would answer"))
    assert (work.code, work.text) == (1, "n4 cannot be removed now: fewer than a majority would answer")


def test_who_may_not_go() -> None:
    def why(made: Situation, node: NodeName) -> str:
        return problem(Request("op1", "remove", AppName(""), node, "ann"), made)

    made = situation((N1, N2, N3))
    made.ledger = Ledger(apps={WEB: AppState(grant=Grant(N2, Generation(4)))}, index=Index(4))
    assert why(made, N2) == "n2 owns 'web': lha_moveapp -A web moves it away"
    hear(made, N3)
    assert "what it runs has to be proven gone first" in why(made, N2)
    assert why(made, N3) == "" and why(made, N4) == ""
    assert why(made, NodeName("n33")) == "unknown node 'n33'; configured: n1, n2, n3, n4"
    assert "n1 is the last node" in why(situation((N1,), nodes=1), N1)
    assert "n1 is the only voter" in why(situation((N1,), (N2,), nodes=2), N1)
    made = situation((N1, N2), nodes=2)
    made.configuration = replace(made.configuration, cluster=changed(made.configuration.cluster, N2, witness=True))
    assert "only witnesses would be left (n2)" in why(made, N1)
