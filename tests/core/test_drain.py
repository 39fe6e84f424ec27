"""Nodes on standby and nodes that come and go, as the planner deals with them."""

from dataclasses import replace

from msgspec.structs import replace as changed

from tests.core.test_planner import DB, N1, N2, N3, RUNS, WEB, G, ledger, situation, told
from truecl.core.fitness import PlanInput
from truecl.core.planner import NodeOrder, plan
from truecl.model.ids import BootId, Generation
from truecl.model.ledger import AnyCommand, EndGrant, GiveGrant, Proof, SetStandby, SetWanted, Standby, Wanted
from truecl.model.report import InstanceReport, Phase

ASIDE = SetStandby(N1, Standby("ann"))
KEEP = SetStandby(N1, Standby("ann", keep=True))
BOTH = (*RUNS, SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N2))
"""db on n1 (generation 2), web on n2 (4)."""


def with_lines(given: PlanInput, **lines: tuple[InstanceReport, ...]) -> PlanInput:
    return replace(given, reports={node: (BootId("b"), lines.get(node, ())) for node in (N1, N2, N3)})


def test_nothing_is_placed_on_a_node_on_standby() -> None:
    wanted: tuple[AnyCommand, ...] = (SetWanted(DB, Wanted.RUNNING, N1),)
    assert plan(situation(ledger(*wanted, ASIDE))).commands == (GiveGrant(DB, N2),)
    alone = plan(situation(ledger(*wanted, ASIDE), lost=(N2, N3)))
    assert alone.commands == ()
    assert alone.notes == ((DB, "waiting for one of its nodes: n2, n3 not up; n1 is on standby (lha_node resume n1)"),)


def test_what_runs_on_a_node_on_standby_is_stopped_there_and_goes_elsewhere() -> None:
    state = ledger(*RUNS, ASIDE)
    (order,) = plan(situation(state, n1=told(Phase.RUNNING))).orders
    assert order == NodeOrder(N1, "stop", DB, G) and order.reason == "n1 is on standby"
    closed = plan(situation(state, n1=told(Phase.CLOSED)))
    assert closed.commands == (EndGrant(DB, G, Proof.RELEASED), GiveGrant(DB, N2, G))


def test_with_keep_it_stays() -> None:
    kept = plan(situation(ledger(*RUNS, KEEP), n1=told(Phase.RUNNING)))
    assert (kept.orders, kept.notes, kept.stays) == ((), (), ())


def test_a_resumed_node_gets_nothing_back_by_itself() -> None:
    moved = (EndGrant(DB, G, Proof.RELEASED), GiveGrant(DB, N2, G))
    state = ledger(*RUNS, ASIDE, *moved, SetStandby(N1, None))
    assert plan(situation(state, n2=told(Phase.RUNNING, 5))).orders == ()


def test_what_no_other_node_will_do_for_stays_and_says_why() -> None:
    stuck = plan(situation(ledger(*RUNS, ASIDE), lost=(N2, N3), n1=told(Phase.RUNNING)))
    assert stuck.orders == () and stuck.stays == (DB,)
    assert stuck.notes == ((DB, "n1 is on standby, and it stays there: n2, n3 not up"),)


def test_a_node_where_it_failed_or_that_is_on_standby_too_is_no_other_node() -> None:
    failed = EndGrant(DB, G, Proof.RELEASED, "no", failed=True)
    state = ledger(*RUNS, failed, GiveGrant(DB, N2, G), SetStandby(N2, Standby("ann")), SetStandby(N3, Standby("bob")))
    assert plan(situation(state, n2=told(Phase.RUNNING, 4))).stays == (DB,)


def test_applications_leave_one_after_another_each_once_the_one_before_runs() -> None:
    both_on_n2 = (SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N2), *BOTH[2:], SetStandby(N2, Standby("ann")))
    state = ledger(*both_on_n2)
    db, web = told(Phase.RUNNING), told(Phase.RUNNING, 4, app=WEB)
    given = with_lines(situation(state), n2=(db, web))
    assert [order.app for order in plan(given).orders] == [DB]
    stopping = with_lines(given, n2=(told(Phase.STOPPING), web))
    assert plan(stopping).orders == ()
    gone = replace(given, ledger=ledger(*both_on_n2, EndGrant(DB, G, Proof.RELEASED), GiveGrant(DB, N1, G)))
    for line in (None, told(Phase.STARTING, 7)):
        begun = with_lines(gone, n2=(web,), n1=() if line is None else (line,))
        assert [order.app for order in plan(begun).orders if order.verb == "stop"] == [], line
    runs = with_lines(gone, n2=(web,), n1=(told(Phase.RUNNING, 7),))
    assert plan(runs).orders == (NodeOrder(N2, "stop", WEB, Generation(4)),)


def test_the_other_node_s_death_does_not_hold_up_the_rest() -> None:
    state = ledger(
        SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N2), *BOTH[2:], SetStandby(N2, Standby("ann")),
        EndGrant(DB, G, Proof.RELEASED), GiveGrant(DB, N1, G),
    )  # fmt: skip
    given = with_lines(situation(state, lost=(N1,)), n2=(told(Phase.RUNNING, 4, app=WEB),))
    assert NodeOrder(N2, "stop", WEB, Generation(4)) in plan(given).orders


def test_a_node_that_comes_and_goes_is_the_last_choice_and_still_better_than_none() -> None:
    lost = ledger(*RUNS, EndGrant(DB, G, Proof.RELEASED))
    held = replace(situation(lost), held=frozenset({N1}))
    assert plan(held).commands == (GiveGrant(DB, N2, G),)
    only = replace(situation(lost, lost=(N2, N3)), held=frozenset({N1}))
    assert plan(only).commands == (GiveGrant(DB, N1, G),)
    assert "no other node will do" in plan(only).reasons[0]


def test_the_operator_s_word_overrides_that() -> None:
    asked = ledger(SetWanted(DB, Wanted.RUNNING, N1))
    assert plan(replace(situation(asked), held=frozenset({N1}))).commands == (GiveGrant(DB, N1),)
    moving = ledger(SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N2), SetWanted(DB, Wanted.RUNNING, N1, move=True))
    given = replace(situation(moving, n2=told(Phase.CLOSED)), held=frozenset({N1}))
    assert plan(given).commands[-1] == GiveGrant(DB, N1, G)


def test_a_failover_goes_past_it_although_the_operator_once_asked_for_that_node() -> None:
    state = ledger(SetWanted(DB, Wanted.RUNNING, N1), GiveGrant(DB, N2))
    given = replace(situation(state, n2=told(Phase.CLOSED, failed=True)), held=frozenset({N1}))
    assert plan(given).commands[-1] == GiveGrant(DB, N3, G, True)


def test_who_leads_does_not_matter_for_it() -> None:
    """The master's own node may be set aside: it goes on leading, and its applications leave."""
    state = ledger(SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N2), SetStandby(N2, Standby("ann")))
    given = situation(state, n2=told(Phase.RUNNING))
    assert given.me == N2 and [order.app for order in plan(given).orders] == [DB]
    assert not plan(given).step_down


def test_an_application_that_is_not_configured_any_more_stays() -> None:
    given = situation(ledger(*RUNS, ASIDE), n1=told(Phase.RUNNING))
    without = replace(given, configuration=changed(given.configuration, apps=given.configuration.apps[1:]))
    assert plan(without).notes == ((DB, "n1 is on standby, and it stays there: no other node may run it"),)
