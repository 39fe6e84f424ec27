"""The planner's decisions as a table of situations."""

from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from truecl.core.fitness import PlanInput
from truecl.core.ledger import apply
from truecl.core.planner import NodeOrder, Plan, plan
from truecl.core.revocation import Revocation
from truecl.model.config import (
    Address,
    AppConfig,
    ClusterConfig,
    Configuration,
    FenceConfig,
    FileStorage,
    LinkConfig,
    NodeConfig,
    Volume,
)
from truecl.model.ids import AppName, BootId, Generation, Index, LinkName, NodeName, Term
from truecl.model.ledger import (
    ALWAYS,
    AnyCommand,
    Batch,
    CancelFence,
    ConfirmFence,
    EndGrant,
    GiveGrant,
    Ledger,
    Losses,
    OrderFence,
    Presence,
    Proof,
    RecordWatchdog,
    SetWanted,
    Wanted,
    Watchdog,
)
from truecl.model.report import InstanceReport, Phase, WatchdogReport

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
DB, WEB = AppName("db"), AppName("web")
FENCE = ((FenceConfig(agent="/bin/fence"),),)
NODES = tuple(
    NodeConfig(name=name, addresses={LinkName("lan"): f"10.0.0.{place}"}, fence=FENCE if name != N3 else ())
    for place, name in enumerate((N1, N2, N3), 1)
)
CONFIGURATION = Configuration(
    cluster=ClusterConfig(name="c", links=(LinkConfig(name=LinkName("lan")),), nodes=NODES),
    apps=(
        AppConfig(name=DB, nodes=(N1, N2, N3), volumes=(Volume(name="d", storage=FileStorage(image="/i")),)),
        AppConfig(name=WEB, nodes=(N3, N2), addresses=(Address(address="10.0.0.9"),)),
    ),
)


def ledger(*commands: AnyCommand) -> Ledger:
    state = Ledger()
    for command in commands:
        state = apply(state, Index(state.index + 1), Term(1), Batch((command,)))
    return state


def situation(state: Ledger, lost: tuple[NodeName, ...] = (), **reports: InstanceReport) -> PlanInput:
    """All nodes alive but `lost`; `reports`: node to its one line."""
    alive = frozenset({N1, N2, N3} - set(lost))
    lines = {node: (BootId("b"), (reports[node],) if node in reports else ()) for node in (N1, N2, N3)}
    return PlanInput(N2, CONFIGURATION, state, alive, frozenset(), frozenset(lost), lines, frozenset(), {})


def told(phase: Phase, generation: int = 2, failed: bool = False, app: AppName = DB) -> InstanceReport:
    return InstanceReport(app, Generation(generation), phase, failed, "why" if failed else "")


RUNS = (SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N1))
G = Generation(2)
TIMED = (*ALWAYS[:2], Proof.EXPIRED, ALWAYS[2])
"""Of web, which has no storage."""


def test_a_wanted_application_goes_to_the_first_of_its_nodes_that_is_up() -> None:
    state = ledger(SetWanted(DB, Wanted.RUNNING))
    assert plan(situation(state)).commands == (GiveGrant(DB, N1),)
    assert plan(situation(state, lost=(N1,))).commands == (GiveGrant(DB, N2),)
    asked = ledger(SetWanted(DB, Wanted.RUNNING, N3))
    assert plan(situation(asked)).commands == (GiveGrant(DB, N3),)


def test_a_better_node_that_was_heard_but_has_not_reported_yet_is_waited_for() -> None:
    state = ledger(SetWanted(DB, Wanted.RUNNING))
    early = replace(situation(state), alive=frozenset({N3}), awaited=frozenset({N1}))
    assert plan(early).commands == () and "first report of n1" in plan(early).notes[0][1]
    assert plan(replace(early, awaited=frozenset())).commands == (GiveGrant(DB, N3),)


def test_a_takeover_that_waits_for_a_first_report_stays_one_entry_and_counts_as_failover() -> None:
    state = ledger(*RUNS, OrderFence(N1, (G,)), ConfirmFence(N1, Index(3)))
    early = replace(situation(state, lost=(N1,)), alive=frozenset({N3}), awaited=frozenset({N2}))
    assert plan(early).commands == ()
    reported = replace(early, alive=frozenset({N2, N3}), awaited=frozenset())
    assert plan(reported).commands[-1] == GiveGrant(DB, N2, G, True)


def test_what_is_not_wanted_is_left_alone() -> None:
    assert plan(situation(Ledger())) == Plan()


def test_a_grant_that_its_node_has_not_seen_is_ordered_to_start() -> None:
    assert plan(situation(ledger(*RUNS))).orders == (NodeOrder(N1, "start", DB, G),)


def test_a_running_instance_needs_nothing() -> None:
    assert plan(situation(ledger(*RUNS), n1=told(Phase.RUNNING))) == Plan()


def test_a_stop_is_ordered_and_the_grant_ends_only_with_the_report_that_it_is_closed() -> None:
    state = ledger(*RUNS, SetWanted(DB, Wanted.STOPPED))
    assert plan(situation(state, n1=told(Phase.RUNNING))).orders == (NodeOrder(N1, "stop", DB, G),)
    assert plan(situation(state, n1=told(Phase.STOPPING))) == Plan()
    assert plan(situation(state, n1=told(Phase.CLOSED))).commands == (EndGrant(DB, G, Proof.RELEASED),)


def test_who_waits_for_the_last_node_says_where_it_failed_before() -> None:
    """n1, where it failed, is well and could be tried again."""
    state = ledger(*RUNS, EndGrant(DB, G, Proof.RELEASED, "no such image", True))
    (note,) = plan(situation(state, lost=(N2, N3))).notes
    assert note[1] == (
        "waiting for one of its nodes: n2, n3 not up; FAILED on n1: no such image; to try again: lha_startapp -A db"
    )


def test_a_report_on_another_generation_proves_nothing() -> None:
    state = ledger(*RUNS, SetWanted(DB, Wanted.STOPPED))
    assert plan(situation(state, n1=told(Phase.CLOSED, generation=1))).commands == ()


def test_a_failed_start_ends_the_grant_and_gives_the_next_node_one_in_the_same_entry() -> None:
    commands = plan(situation(ledger(*RUNS), n1=told(Phase.CLOSED, failed=True))).commands
    assert commands == (EndGrant(DB, G, Proof.RELEASED, "why", True), GiveGrant(DB, N2, G, True))


def test_failed_everywhere_says_so_with_the_reasons_and_the_command() -> None:
    commands: tuple[AnyCommand, ...] = RUNS
    last = G
    for node in (N2, N3, None):
        commands += (EndGrant(DB, last, Proof.RELEASED, f"broken after {last}", True),)
        last = Generation(len(commands) + 1)
        if node is not None:
            commands += (GiveGrant(DB, node, Generation(len(commands) - 1)),)
            last = Generation(len(commands))
    decision = plan(situation(ledger(*commands)))
    assert decision.commands == () and decision.failed == (DB,)
    assert "broken after 2" in decision.notes[0][1] and "lha_startapp -A db" in decision.notes[0][1]


def test_a_lost_owner_of_storage_is_fenced_before_anything_else() -> None:
    state = ledger(*RUNS)
    assert plan(situation(state, lost=(N1,))).commands == (OrderFence(N1, (G,)),)
    ordered = ledger(*RUNS, OrderFence(N1, (G,)))
    decision = plan(situation(ordered, lost=(N1,)))
    assert decision.commands == () and decision.fences == ((N1, Index(3)),)
    confirmed = ledger(*RUNS, OrderFence(N1, (G,)), ConfirmFence(N1, Index(3)))
    commands = plan(situation(confirmed, lost=(N1,))).commands
    assert commands == (EndGrant(DB, G, Proof.FENCED, "n1 was fenced"), GiveGrant(DB, N2, G, True))


def test_an_order_that_does_not_name_the_live_generation_is_renewed() -> None:
    old = ledger(*RUNS, OrderFence(N1, (Generation(1),)), ConfirmFence(N1, Index(3)))
    assert plan(situation(old, lost=(N1,))).commands == (OrderFence(N1, (G,)),)


def test_expired_moves_what_was_granted_for_it_and_nothing_else() -> None:
    given = GiveGrant(WEB, N3, proofs=TIMED, addressed=True)
    state = ledger(SetWanted(WEB, Wanted.RUNNING), given)
    waiting = situation(state, lost=(N3,))
    assert plan(waiting).commands == ()
    expired = replace(waiting, expired=frozenset({G}))
    proof = EndGrant(WEB, G, Proof.EXPIRED, "the lease of n3 ran out")
    assert plan(expired).commands == (proof, GiveGrant(WEB, N2, G, True, TIMED, True))
    taken_over = ledger(SetWanted(WEB, Wanted.RUNNING), given, proof, GiveGrant(WEB, N2, G, True, TIMED, True))
    assert plan(situation(taken_over, lost=(N3,))).orders == (
        NodeOrder(N2, "start", WEB, Generation(4), True, TIMED, addressed=True),
    )
    storage = ledger(SetWanted(DB, Wanted.RUNNING, N3), GiveGrant(DB, N3))
    assert plan(replace(situation(storage, lost=(N3,)), expired=frozenset({G}))).commands == ()


def test_what_runs_is_judged_by_its_grant_and_not_by_a_configuration_that_changed_meanwhile() -> None:
    """It was started with storage; since then the file says that it has none."""
    state = ledger(SetWanted(DB, Wanted.RUNNING, N3), GiveGrant(DB, N3))
    bare = changed(CONFIGURATION, apps=(changed(CONFIGURATION.apps[0], volumes=()), CONFIGURATION.apps[1]))
    given = replace(situation(state, lost=(N3,)), expired=frozenset({G}), configuration=bare)
    assert plan(given).commands == ()


# ---- watchdogs ------------------------------------------------------------------------------------------------------

ARMED = WatchdogReport(True, 10.0, True, text="iTCO_wdt, 10 s")


def watched(given: PlanInput, report: WatchdogReport, node: NodeName = N1) -> PlanInput:
    return replace(given, watchdogs={node: report})


def test_a_watchdog_goes_into_the_log_before_a_grant_leans_on_it() -> None:
    given = watched(situation(ledger(SetWanted(DB, Wanted.RUNNING))), ARMED)
    recorded = RecordWatchdog(N1, Watchdog(BootId("b"), 10.0, True))
    assert plan(given).commands == (
        recorded,
        GiveGrant(DB, N1, proofs=(*ALWAYS[:2], Proof.EXPIRED_WATCHDOG, ALWAYS[2])),
    )
    state = ledger(SetWanted(DB, Wanted.RUNNING), *plan(given).commands)
    grant = state.apps[DB].grant
    assert grant is not None and Proof.EXPIRED_WATCHDOG in grant.proofs and grant.watchdog == 10.0
    order = plan(watched(situation(state), ARMED)).orders[0]
    assert (order.proofs, order.watchdog) == (grant.proofs, 10.0)


@pytest.mark.parametrize("report", [WatchdogReport(False, text="busy"), changed(ARMED, survives_pause=False)])
def test_no_grant_leans_on_a_watchdog_that_is_not_armed_or_stops_with_the_node(report: WatchdogReport) -> None:
    given = watched(situation(ledger(SetWanted(DB, Wanted.RUNNING))), report)
    assert plan(given).commands[-1] == GiveGrant(DB, N1)


def test_nor_on_one_of_an_older_boot() -> None:
    older = RecordWatchdog(N1, Watchdog(BootId("a"), 10.0, True))
    given = watched(situation(ledger(older, SetWanted(DB, Wanted.RUNNING))), WatchdogReport(False, text="gone"))
    assert plan(given).commands == (RecordWatchdog(N1, None), GiveGrant(DB, N1))


def test_what_comes_sooner_by_expired_alone_leans_on_no_watchdog() -> None:
    given = watched(situation(ledger(SetWanted(WEB, Wanted.RUNNING))), ARMED, N3)
    assert plan(given).commands[-1] == GiveGrant(WEB, N3, proofs=TIMED, addressed=True)


def test_a_reset_ends_the_grant_that_leaned_on_it() -> None:
    recorded = RecordWatchdog(N1, Watchdog(BootId("b"), 10.0, True))
    state = ledger(recorded, SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N1, proofs=(*ALWAYS, Proof.EXPIRED_WATCHDOG)))
    silent = watched(situation(state, lost=(N1,)), ARMED)
    assert plan(silent).commands == (OrderFence(N1, (Generation(3),)),), "a fence device may be quicker"
    commands = plan(replace(silent, reset=frozenset({Generation(3)}))).commands
    assert commands[0] == EndGrant(DB, Generation(3), Proof.EXPIRED_WATCHDOG,
                                   "the lease of n1 ran out, and its watchdog has reset it")  # fmt: skip
    assert commands[1] == GiveGrant(DB, N2, Generation(3), True)


def test_where_a_watchdog_is_required_and_missing_nothing_is_placed_and_the_note_says_why() -> None:
    missing = WatchdogReport(False, required=True, text="/dev/watchdog: there is no such device")
    given = watched(situation(ledger(SetWanted(DB, Wanted.RUNNING)), lost=(N2, N3)), missing)
    decision = plan(given)
    assert decision.commands == ()
    assert "n1 must have a watchdog and has none (/dev/watchdog: there is no such device)" in decision.notes[0][1]
    assert plan(watched(situation(ledger(SetWanted(DB, Wanted.RUNNING))), missing)).commands == (GiveGrant(DB, N2),)


# ---- a stop that does not end, and no fence device that works -------------------------------------------------------

STUCK_THERE = ledger(SetWanted(DB, Wanted.RUNNING, N3), GiveGrant(DB, N3))
"""n3 has no fence device."""
REVOKED = Revocation(N3, DB, G)


def stuck_on(node: NodeName, state: Ledger = STUCK_THERE, lost: tuple[NodeName, ...] = ()) -> PlanInput:
    report = changed(told(Phase.NEEDS_FENCE), reason="/srv: it hangs")
    return watched(situation(state, lost, **{node: report}), ARMED, node)


def test_it_is_left_to_the_watchdog_whether_that_counts_or_not() -> None:
    decision = plan(stuck_on(N3))
    assert decision.revocations == (REVOKED,) and not decision.fences and not decision.orders
    assert decision.notes == (
        (DB, "cannot be stopped on n3: /srv: it hangs: n3 gets no lease any more, so that its watchdog resets it"),
    )
    assert plan(watched(stuck_on(N3), changed(ARMED, survives_pause=False), N3)).revocations == (REVOKED,)


def test_not_where_no_watchdog_is_armed() -> None:
    for report in (WatchdogReport(False, text="busy"), None):
        given = stuck_on(N3)
        given = replace(given, watchdogs={N3: report} if report is not None else {})
        decision = plan(given)
        assert decision.revocations == () and "has no fence device: power it off" in decision.notes[0][1]


def test_not_for_a_mere_stop() -> None:
    stopping = ledger(SetWanted(DB, Wanted.RUNNING, N3), GiveGrant(DB, N3), SetWanted(DB, Wanted.STOPPED))
    assert plan(stuck_on(N3, stopping)).revocations == ()


def test_not_before_its_fence_device_has_failed() -> None:
    given = stuck_on(N1, ledger(*RUNS))
    assert plan(given).revocations == () and plan(given).commands[-1] == OrderFence(N1, (G,))
    decision = plan(replace(given, fence_trouble={N1: "no answer"}))
    assert decision.revocations == (Revocation(N1, DB, G),)
    assert decision.commands[-1] == OrderFence(N1, (G,)), "it goes on being asked"
    assert "the device: no answer: n1 gets no lease any more" in decision.notes[0][1]


def test_a_master_hands_over_before_it_comes_to_that() -> None:
    decision = plan(stuck_on(N2, ledger(SetWanted(DB, Wanted.RUNNING, N2), GiveGrant(DB, N2))))
    assert decision.step_down and decision.revocations == ()


def test_not_where_it_would_stop_the_others_for_want_of_a_quorum() -> None:
    web = ledger(
        SetWanted(DB, Wanted.RUNNING, N3), GiveGrant(DB, N3), SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N2)
    )
    decision = plan(stuck_on(N3, web, lost=(N1,)))
    assert decision.revocations == () and "a reset of n3 would leave no quorum" in dict(decision.notes)[DB]
    assert plan(stuck_on(N3, web)).revocations == (REVOKED,)
    assert plan(stuck_on(N3, lost=(N1,))).revocations == (REVOKED,), "nothing runs elsewhere: nothing is lost by it"


def test_not_of_a_node_that_was_lost_too_often_lately() -> None:
    """All nodes may hang on the same dead disk: they are not reset in turn for ever."""

    def lost_before(count: int, presence: Presence = Presence.BACK) -> PlanInput:
        known = changed(STUCK_THERE, losses={N3: Losses(count, presence)})
        return stuck_on(N3, known)

    assert plan(lost_before(1)).revocations == (REVOKED,)
    decision = plan(lost_before(2))
    assert decision.revocations == () and "n3 was lost 2 times lately" in decision.notes[0][1]
    away = plan(lost_before(2, Presence.AWAY))
    assert away.revocations == (REVOKED,), "as the last master had decided: this loss is that one"


def test_what_its_node_released_meanwhile_moves_on_and_nothing_comes_there() -> None:
    state = ledger(
        SetWanted(DB, Wanted.RUNNING, N3), GiveGrant(DB, N3), SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N3)
    )
    given = replace(stuck_on(N3, state), unrenewed=frozenset({N3}))
    lines = (told(Phase.NEEDS_FENCE), told(Phase.CLOSED, 4, app=WEB))
    decision = plan(replace(given, reports={**given.reports, N3: (BootId("b"), lines)}))
    assert decision.revocations == (), "once is enough"
    assert [each for each in decision.commands if isinstance(each, EndGrant | GiveGrant)] == [
        EndGrant(WEB, Generation(4), Proof.RELEASED),
        GiveGrant(WEB, N2, Generation(4), False, TIMED, True),
    ]


def test_the_note_on_a_node_that_lost_its_lease_says_why_and_until_when() -> None:
    lost = replace(stuck_on(N3), lost=frozenset({N3}), alive=frozenset({N1, N2}), unrenewed=frozenset({N3}))
    assert dict(plan(lost).notes)[DB] == (
        "cannot be stopped on n3: /srv: it hangs: n3 gets no lease, so that its watchdog resets it; "
        "it moves when that is back, or on lha_fence n3 --confirm"
    )
    recorded = RecordWatchdog(N3, Watchdog(BootId("b"), 10.0, True))
    leans = GiveGrant(DB, N3, proofs=(*ALWAYS, Proof.EXPIRED_WATCHDOG))
    counting = ledger(recorded, SetWanted(DB, Wanted.RUNNING, N3), leans)
    given = replace(lost, ledger=counting)
    given = replace(given, reports={**given.reports, N3: (BootId("b"), (told(Phase.NEEDS_FENCE, 3),))})
    assert "taken over when its watchdog has surely reset it" in dict(plan(given).notes)[DB]
    ended = plan(replace(given, reset=frozenset({Generation(3)}))).commands
    assert [type(each) for each in ended] == [EndGrant, GiveGrant]


def test_a_lost_owner_without_a_device_waits_and_says_what_helps() -> None:
    state = ledger(SetWanted(DB, Wanted.RUNNING, N3), GiveGrant(DB, N3))
    decision = plan(situation(state, lost=(N3,)))
    assert decision.commands == () and "no fence device" in decision.notes[0][1]


def test_silence_that_is_not_yet_a_loss_only_waits() -> None:
    given = replace(situation(ledger(*RUNS)), alive=frozenset({N2, N3}))
    assert plan(given).commands == () and plan(given).orders == ()


def test_a_stop_that_failed_has_the_node_fenced_but_not_for_a_mere_stop() -> None:
    stuck = told(Phase.NEEDS_FENCE)
    assert plan(situation(ledger(*RUNS), n1=stuck)).commands == (OrderFence(N1, (G,)),)
    stopping = plan(situation(ledger(*RUNS, SetWanted(DB, Wanted.STOPPED)), n1=stuck))
    assert stopping.commands == () and "cannot be stopped" in stopping.notes[0][1]


def test_the_master_does_not_fence_itself_but_hands_over() -> None:
    state = ledger(SetWanted(DB, Wanted.RUNNING, N2), GiveGrant(DB, N2))
    decision = plan(situation(state, n2=told(Phase.NEEDS_FENCE)))
    assert decision.step_down and decision.commands == ()


def test_a_move_stops_at_the_old_node_and_starts_at_the_asked_one() -> None:
    moving = ledger(*RUNS, SetWanted(DB, Wanted.RUNNING, N3, move=True))
    assert plan(situation(moving, n1=told(Phase.RUNNING))).orders == (NodeOrder(N1, "stop", DB, G),)
    assert plan(situation(moving, n1=told(Phase.CLOSED))).commands == (
        EndGrant(DB, G, Proof.RELEASED),
        GiveGrant(DB, N3, G, False),
    )


def test_no_failback_when_the_preferred_node_returns() -> None:
    commands = (SetWanted(DB, Wanted.RUNNING, N1), GiveGrant(DB, N2))
    assert plan(situation(ledger(*commands), n2=told(Phase.RUNNING))) == Plan()


def test_a_rebooted_owner_s_application_comes_back_where_it_ran() -> None:
    state = ledger(SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N2))
    commands = plan(situation(state, n2=told(Phase.CLOSED))).commands
    assert commands == (EndGrant(DB, G, Proof.RELEASED), GiveGrant(DB, N2, G, False))


def test_a_fence_of_a_node_that_is_well_again_is_cleaned_up() -> None:
    state = ledger(OrderFence(N1, (Generation(1),)), ConfirmFence(N1, Index(1)))
    assert plan(situation(state)).commands == (CancelFence(N1, Index(1)),)
    assert plan(situation(state, lost=(N1,))).commands == ()


def test_a_witness_never_runs_an_application() -> None:
    nodes = tuple(changed(node, witness=node.name == N1) for node in NODES)
    cluster = changed(CONFIGURATION.cluster, nodes=nodes)
    given = situation(ledger(SetWanted(DB, Wanted.RUNNING)))
    given = replace(given, configuration=changed(CONFIGURATION, cluster=cluster))
    assert plan(given).commands == (GiveGrant(DB, N2),)


def test_a_confirmed_fence_ends_its_generations_even_when_the_node_is_back() -> None:
    state = ledger(*RUNS, OrderFence(N1, (G,)), ConfirmFence(N1, Index(3)))
    end = EndGrant(DB, G, Proof.FENCED, f"{N1} was fenced")
    assert plan(situation(state)).commands == (end, GiveGrant(DB, N2, G, True))
    back = ledger(*RUNS, OrderFence(N1, (G,)))
    assert plan(situation(back)).commands == (CancelFence(N1, Index(3)),), "its generation is to be named again"


def test_nothing_new_goes_to_a_node_under_a_fence_order() -> None:
    state = ledger(SetWanted(DB, Wanted.RUNNING), OrderFence(N1, (Generation(9),)))
    assert plan(situation(state)).commands == (GiveGrant(DB, N2), CancelFence(N1, Index(2)))


def test_a_master_that_is_lost_itself_hands_over() -> None:
    """Its reqd, which would fence, is dead or hangs."""
    state = ledger(SetWanted(DB, Wanted.RUNNING, N2), GiveGrant(DB, N2))
    decision = plan(situation(state, lost=(N2,)))
    assert decision.step_down and decision.commands == ()
    assert plan(situation(ledger(*RUNS), lost=(N1, N2))).step_down, "and nobody would fence n1"
    assert not plan(situation(ledger(*RUNS), lost=(N1,))).step_down


def test_an_owner_that_is_not_in_the_configuration_any_more_is_only_waited_for() -> None:
    cluster = changed(CONFIGURATION.cluster, nodes=NODES[1:])
    given = replace(situation(ledger(*RUNS), lost=(N1,)), configuration=changed(CONFIGURATION, cluster=cluster))
    decision = plan(given)
    assert decision.commands == () and "no fence device" in decision.notes[0][1]


def test_a_node_that_remembers_a_newer_generation_than_the_log_is_not_ordered_for_ever_in_silence() -> None:
    decision = plan(situation(ledger(*RUNS), n1=told(Phase.CLOSED, generation=500)))
    assert decision.orders == () and "remembers generation 500" in decision.notes[0][1]
