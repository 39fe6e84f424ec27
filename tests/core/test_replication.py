"""The planner on replicated storage: which copy is granted, what each replica is to be, what the owner's word marks."""

from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from truecl.core.fitness import PlanInput
from truecl.core.layouts import layout_of
from truecl.core.ledger import apply
from truecl.core.planner import Plan, plan
from truecl.model.config import AppConfig, DrbdStorage, LinkName, LvmStorage, Replication, Volume
from truecl.model.ids import BootId, Generation, Index, NodeName, Term
from truecl.model.ledger import (
    AnyCommand,
    Batch,
    EndGrant,
    GiveGrant,
    Ledger,
    MarkCopy,
    Proof,
    SetWanted,
    Wanted,
)
from truecl.model.mirror import CopyState, Mirror
from truecl.model.replica import Disk, LayoutHost, LayoutVolume, Link, ReplicaReport, Role
from truecl.model.report import InstanceReport, Phase
from truecl.model.step import accepted

from .mirrored import (
    ALONE,
    BUILT_AT,
    CONFIGURATION,
    CURRENT,
    DB,
    DOWN,
    INCONSISTENT,
    N1,
    N2,
    N3,
    OUTDATED,
    SYNCING,
    layout,
    ledger,
    mirror,
    seen,
)

APP = CONFIGURATION.apps[0]
PROOFS = tuple(proof for proof in accepted(APP) if proof is not Proof.EXPIRED_WATCHDOG)
"""'Expired', which comes sooner, is enough."""
RUN = SetWanted(DB, Wanted.RUNNING)
G = Generation(4)
"""Of the first grant: after the level, the mirror and the wish."""


def given(
    state: Ledger,
    n1: ReplicaReport | None = None,
    n2: ReplicaReport | None = None,
    lost: tuple[NodeName, ...] = (),
    lines: dict[NodeName, InstanceReport] | None = None,
    overdue: bool = False,
) -> PlanInput:
    """Nodes that are not lost report; n3 holds no copy and runs nothing of it."""
    known = {node: (BootId("b"), (lines[node],) if lines and node in lines else ()) for node in (N1, N2, N3)}
    reports = {node: (each,) for node, each in ((N1, n1), (N2, n2)) if each is not None}
    alive = frozenset({N1, N2, N3} - set(lost))
    return PlanInput(
        N3, CONFIGURATION, state, alive, frozenset(), frozenset(lost), known, frozenset(), {},
        replicas=reports, overdue=frozenset({DB} if overdue else ()),
    )  # fmt: skip


def line(phase: Phase, generation: int = G) -> InstanceReport:
    return InstanceReport(DB, Generation(generation), phase)


def verbs(decision: Plan) -> list[tuple[str, str]]:
    assert all(order.layout == layout() for order in decision.replicas)
    return [(order.node, order.verb) for order in decision.replicas]


def grant(node: NodeName, after: int = 0, failover: bool = False, alone: bool = False) -> GiveGrant:
    return GiveGrant(DB, node, Generation(after), failover, PROOFS, False, alone)


def after(state: Ledger, *commands: AnyCommand) -> Ledger:
    for command in commands:
        state = apply(state, Index(state.index + 1), Term(1), Batch((command,)))
    return state


# ---- an owner that goes on over the network -------------------------------------------------------------------------


def without_disk(config: AppConfig, n2: CopyState = CURRENT, lost: tuple[NodeName, ...] = ()) -> Plan:
    state = ledger(RUN, grant(N1), built=mirror(n2=n2))
    state = after(state, MarkCopy(DB, N1, INCONSISTENT, G, BUILT_AT))
    found = given(state, seen(Role.PRIMARY, disk=Disk.DISKLESS, generation=G), seen(), lost, {N1: line(Phase.RUNNING)})
    return plan(replace(found, configuration=changed(CONFIGURATION, apps=(config,))))


def test_an_owner_whose_disk_failed_stays_and_says_what_helps() -> None:
    decision = without_disk(APP)
    assert decision.orders == ()
    ((_, note),) = decision.notes
    assert note.startswith("the disk of n1 failed") and note.endswith("lha_buildapp -A db --replace n1")


def test_it_moves_if_configured_so_and_the_other_copy_will_do() -> None:
    moves = changed(APP, replication=Replication(disk_failure="move"))
    (order,) = without_disk(moves).orders
    assert (order.node, order.verb, order.reason) == (N1, "stop", "the disk of n1 failed")
    assert without_disk(moves, lost=(N2,)).orders == ()
    assert without_disk(moves, n2=OUTDATED).orders == ()


def test_an_application_that_runs_with_other_volumes_than_its_file_says_so() -> None:
    more = Volume(name="log", storage=DrbdStorage(on=LvmStorage(group="vg", volume="log")))
    found = given(ledger(RUN, grant(N1)), seen(Role.PRIMARY, generation=G), seen(), lines={N1: line(Phase.RUNNING)})
    config = changed(CONFIGURATION, apps=(changed(APP, volumes=(*APP.volumes, more)),))
    ((_, note),) = plan(replace(found, configuration=config)).notes
    assert note.startswith("it runs as it was built, and no other node can take it over")
    assert plan(found).notes == ()


# ---- a start --------------------------------------------------------------------------------------------------------


def test_expired_is_enough_where_all_storage_is_replicated() -> None:
    assert Proof.EXPIRED in PROOFS


def test_a_start_brings_up_the_other_nodes_first_then_this_one_connects_them_and_grants() -> None:
    state = ledger(RUN)
    steps = [
        (DOWN, DOWN, [(N2, "up")]),
        (DOWN, ALONE, [(N1, "up"), (N2, "connect")]),
        (ALONE, ALONE, [(N1, "connect"), (N2, "connect")]),
        (seen(link=Link.CONNECTING), ALONE, [(N2, "connect")]),
    ]
    for n1, n2, orders in steps:
        decision = plan(given(state, n1, n2))
        assert (verbs(decision), decision.commands) == (orders, ())
        assert "waiting for the replica on" in decision.notes[0][1]
    assert plan(given(state, seen(), seen())).commands == (grant(N1),)
    assert plan(given(state, seen(), seen())).replicas == ()


@pytest.mark.parametrize(
    ("peer", "lost"),
    [
        (None, (N2,)),
        (changed(DOWN, trouble="no such volume group"), ()),
    ],
)
def test_a_start_waits_for_nobody_who_cannot_come(peer: ReplicaReport | None, lost: tuple[NodeName, ...]) -> None:
    decision = plan(given(ledger(RUN), ALONE, peer, lost=lost))
    assert decision.commands == (grant(N1),)


def test_a_start_waits_no_longer_than_it_has_patience() -> None:
    assert plan(given(ledger(RUN), ALONE, DOWN)).commands == ()
    assert plan(given(ledger(RUN), ALONE, DOWN, overdue=True)).commands == (grant(N1),)
    assert plan(given(ledger(RUN), DOWN, DOWN, overdue=True)).commands == (), "its own it needs in any case"
    assert verbs(plan(given(ledger(RUN), DOWN, DOWN, overdue=True))) == [(N1, "up"), (N2, "up")]


def test_where_its_own_replica_cannot_be_had_the_next_node_is_tried() -> None:
    decision = plan(given(ledger(RUN), changed(DOWN, trouble="the volume is missing"), seen(link=Link.CONNECTING)))
    assert decision.commands == (grant(N2),)


@pytest.mark.parametrize("disk", [Disk.OUTDATED, Disk.INCONSISTENT])
def test_what_the_kernel_itself_calls_worse_is_not_granted(disk: Disk) -> None:
    worse = changed(ALONE, volumes=seen(disk=disk).volumes)
    assert plan(given(ledger(RUN), worse, seen())).commands == (grant(N2),)
    nobody = plan(given(ledger(RUN), worse, None, lost=(N2,)))
    assert nobody.commands == () and f"n1 its kernel calls its copy {disk.value}" in nobody.notes[0][1]


def test_a_stale_copy_is_never_granted_whatever_its_kernel_says() -> None:
    state = ledger(RUN, built=mirror(n1=OUTDATED, n2=CURRENT))
    assert plan(given(state, seen(), seen())).commands == (grant(N2, alone=True),)
    away = plan(given(state, seen(), None, lost=(N2,)))
    assert away.commands == ()
    assert away.notes == (
        (
            DB,
            "waiting for n2, with the current copy: n2 not up; "
            "to go on with older data: lha_buildapp -A db --accept-data n1",
        ),
    )


def test_an_older_copy_meets_only_a_primary() -> None:
    """Before that, its kernel's word could make it the source of what the operator chose against."""
    state = ledger(RUN, built=mirror(n1=CURRENT, n2=OUTDATED))
    decision = plan(given(state, ALONE, ALONE))
    assert decision.replicas == () and decision.commands == (grant(N1, alone=True),)


def test_what_was_never_built_or_is_not_as_it_was_built_says_so() -> None:
    unbuilt = plan(given(after(Ledger(), RUN)))
    assert unbuilt.commands == () and unbuilt.failed == (DB,) and "lha_buildapp -A db" in unbuilt.notes[0][1]
    half = plan(given(ledger(RUN, built=mirror(n1=INCONSISTENT, n2=INCONSISTENT)), ALONE, ALONE))
    assert half.commands == () and half.failed == (DB,) and "--create" in half.notes[0][1], "nothing older is there"
    other = changed(APP, volumes=(*APP.volumes, Volume(name="e", storage=APP.volumes[0].storage)))
    grown = replace(given(ledger(RUN), seen(), seen()), configuration=changed(CONFIGURATION, apps=(other,)))
    assert plan(grown).commands == () and "not those that were built" in plan(grown).notes[0][1]


def test_an_end_by_its_owners_word_does_not_wait_for_the_next_owners_replica() -> None:
    """Found by the simulator: while the grant is there nobody connects, and for that the next one waited."""
    state = ledger(RUN, grant(N1), SetWanted(DB, Wanted.RUNNING, N2, move=True))
    apart = changed(seen(link=Link.STANDALONE), generation=G)
    decision = plan(given(state, apart, apart, lines={N1: line(Phase.CLOSED)}))
    assert decision.commands == (EndGrant(DB, G, Proof.RELEASED),)
    ended = after(state, *decision.commands)
    assert verbs(plan(given(ended, apart, apart, lines={N1: line(Phase.CLOSED)}))) == [(N1, "connect"), (N2, "connect")]


# ---- a takeover -----------------------------------------------------------------------------------------------------


def lapsed(state: Ledger, n2: ReplicaReport | None) -> PlanInput:
    return replace(given(state, seen(Role.PRIMARY, generation=G), n2, lost=(N1,)), expired=frozenset({G}))


def test_a_takeover_waits_for_nothing_and_goes_on_alone() -> None:
    state = ledger(RUN, grant(N1))
    decision = plan(lapsed(state, seen(link=Link.CONNECTING, generation=G)))
    end = EndGrant(DB, G, Proof.EXPIRED, "the lease of n1 ran out")
    assert decision.commands == (end, grant(N2, G, failover=True, alone=True))
    assert decision.replicas == ()


def test_a_takeover_of_what_was_ended_before_goes_on_alone_too() -> None:
    state = ledger(RUN, grant(N1), EndGrant(DB, G, Proof.EXPIRED))
    assert plan(given(state, None, ALONE, lost=(N1,))).commands == (grant(N2, G, alone=True),)
    assert verbs(plan(given(state, ALONE, ALONE, lost=()))) == [(N1, "up"), (N2, "up")], "nobody connects before it"


def test_a_takeover_by_a_node_whose_replica_is_not_up_waits_for_that() -> None:
    state = ledger(RUN, grant(N1))
    decision = plan(lapsed(state, DOWN))
    assert decision.commands == () and verbs(decision) == [(N2, "up")]


def test_a_move_keeps_the_connection() -> None:
    state = ledger(RUN, grant(N1), SetWanted(DB, Wanted.RUNNING, N2, move=True))
    decision = plan(given(state, seen(), seen(), lines={N1: line(Phase.CLOSED)}))
    assert decision.commands == (EndGrant(DB, G, Proof.RELEASED), grant(N2, G))


# ---- who may connect ------------------------------------------------------------------------------------------------

TAKEN = ledger(RUN, grant(N1), EndGrant(DB, G, Proof.EXPIRED), grant(N2, G, alone=True))
G2 = Generation(6)
OWNER = changed(seen(Role.PRIMARY, Link.STANDALONE, peer=Disk.UNKNOWN), generation=G2)
RUNS2 = {N2: line(Phase.RUNNING, G2)}


def test_a_returning_node_is_brought_up_first_and_connected_when_it_has_said_so() -> None:
    settled = changed(ALONE, generation=G2)
    assert verbs(plan(given(TAKEN, None, OWNER, lost=(N1,), lines=RUNS2))) == []
    assert verbs(plan(given(TAKEN, DOWN, OWNER, lines=RUNS2))) == [(N1, "up")]
    assert verbs(plan(given(TAKEN, ALONE, OWNER, lines=RUNS2))) == [(N1, "up")], "it has not taken this grant's order"
    assert verbs(plan(given(TAKEN, settled, OWNER, lines=RUNS2))) == [(N1, "connect"), (N2, "connect")]
    waits = changed(settled, volumes=settled.volumes, link=Link.CONNECTING)
    assert verbs(plan(given(TAKEN, waits, OWNER, lines=RUNS2))) == [(N2, "connect")]


def test_the_owner_looks_for_its_peer_only_when_nothing_older_can_write_there() -> None:
    """A frozen primary goes on by itself as soon as its peer is there."""
    frozen = changed(seen(Role.PRIMARY, Link.CONNECTING, suspended=True), generation=G)
    old = {N1: line(Phase.RUNNING, G), **RUNS2}
    for report in (frozen, changed(frozen, role=Role.SECONDARY), changed(frozen, role=Role.UNKNOWN), None):
        assert verbs(plan(given(TAKEN, report, OWNER, lines=old))) == [], report
    late = changed(ALONE, generation=G)
    assert (N2, "connect") not in verbs(plan(given(TAKEN, late, OWNER, lines=RUNS2))), "its word is from before"


def test_nobody_connects_before_the_new_owner_is_promoted() -> None:
    settled = changed(ALONE, generation=G2)
    not_yet = changed(ALONE, generation=G2)
    starting = {N2: line(Phase.STARTING, G2)}
    assert verbs(plan(given(TAKEN, settled, not_yet, lines=starting))) == []


def test_what_drbd_refuses_to_connect_is_left_alone() -> None:
    split = changed(OWNER, split=True)
    assert verbs(plan(given(TAKEN, changed(ALONE, generation=G2, split=True), split, lines=RUNS2))) == []


def test_an_owner_whose_disk_failed_is_not_touched() -> None:
    state = ledger(RUN, grant(N1))
    bad = changed(seen(Role.PRIMARY, disk=Disk.DISKLESS), generation=G)
    assert verbs(plan(given(state, bad, changed(seen(), generation=G), lines={N1: line(Phase.RUNNING)}))) == []


def test_replicas_are_taken_down_after_the_stop_and_not_before() -> None:
    stopping = ledger(RUN, grant(N1), SetWanted(DB, Wanted.STOPPED))
    running = changed(seen(Role.PRIMARY), generation=G)
    assert verbs(plan(given(stopping, running, changed(seen(), generation=G), lines={N1: line(Phase.STOPPING)}))) == []
    stopped = after(stopping, EndGrant(DB, G, Proof.RELEASED))
    assert verbs(plan(given(stopped, seen(), seen(), lines={N1: line(Phase.CLOSED)}))) == [(N1, "down"), (N2, "down")]
    assert verbs(plan(given(stopped, DOWN, DOWN, lines={N1: line(Phase.CLOSED)}))) == []


# ---- marks ----------------------------------------------------------------------------------------------------------


def marked(state: Ledger, owner: ReplicaReport) -> list[tuple[NodeName, CopyState, Index]]:
    decision = plan(given(state, owner, changed(seen(), generation=G), lines={N1: line(Phase.RUNNING)}))
    marks = [each for each in decision.commands if isinstance(each, MarkCopy)]
    assert all(each.generation == G for each in marks) and len(marks) == len(decision.commands)
    return [(each.node, each.state, each.before) for each in marks]


BOTH = mirror()


@pytest.mark.parametrize(
    ("known", "owner", "marks"),
    [
        (mirror(n2=OUTDATED), seen(), [(N2, CURRENT)]),
        (mirror(n2=SYNCING), seen(), [(N2, CURRENT)]),
        (mirror(n2=OUTDATED), seen(link=Link.SYNC_SOURCE, peer=Disk.INCONSISTENT), [(N2, SYNCING)]),
        (BOTH, seen(link=Link.SYNC_SOURCE, peer=Disk.INCONSISTENT), [(N2, SYNCING)]),
        (BOTH, seen(), []),
        (BOTH, seen(peer=Disk.DISKLESS), [(N2, INCONSISTENT)]),
        (BOTH, seen(peer=Disk.OUTDATED), [(N2, OUTDATED)]),
        (BOTH, seen(link=Link.CONNECTING, peer=Disk.UNKNOWN), [(N2, OUTDATED)]),
        (BOTH, seen(link=Link.CONNECTING, peer=Disk.UNKNOWN, suspended=True), []),
        (BOTH, seen(link=Link.UNKNOWN, peer=Disk.UNKNOWN), []),
        (mirror(n2=SYNCING), seen(link=Link.CONNECTING, peer=Disk.UNKNOWN), [(N2, INCONSISTENT)]),
        (mirror(n2=OUTDATED), seen(link=Link.STANDALONE, peer=Disk.UNKNOWN), []),
        (BOTH, seen(disk=Disk.DISKLESS), [(N1, INCONSISTENT)]),
        (BOTH, seen(link=Link.SYNC_TARGET, disk=Disk.INCONSISTENT), [(N1, SYNCING)]),
        (mirror(n1=CURRENT, n2=CURRENT), seen(disk=Disk.FAILED, peer=Disk.DISKLESS), [(N2, INCONSISTENT)]),
    ],
)
def test_what_the_owner_sees_becomes_marks(
    known: Mirror, owner: ReplicaReport, marks: list[tuple[NodeName, CopyState]]
) -> None:
    owner = changed(owner, role=Role.PRIMARY, generation=G, mark=BUILT_AT)
    assert marked(ledger(RUN, grant(N1, alone=known != BOTH), built=known), owner) == [
        (*each, BUILT_AT) for each in marks
    ]


def test_only_what_was_seen_after_a_mark_clears_it() -> None:
    state = ledger(RUN, grant(N1), MarkCopy(DB, N2, OUTDATED, G, BUILT_AT))
    early = changed(seen(Role.PRIMARY), generation=G, mark=Index(4))
    assert marked(state, early) == []
    assert marked(state, changed(early, mark=Index(5))) == [(N2, CURRENT, Index(5))]


@pytest.mark.parametrize("change", [{"role": Role.SECONDARY}, {"generation": Generation(3)}])
def test_only_the_grants_holder_marks(change: dict[str, object]) -> None:
    word = changed(seen(Role.PRIMARY, peer=Disk.OUTDATED), generation=G)
    state = ledger(RUN, grant(N1))
    assert marked(state, word) and marked(state, changed(word, **change)) == []


# ---- layouts --------------------------------------------------------------------------------------------------------


def test_a_layout_is_configuration_and_ledger_put_together() -> None:
    found = layout()
    assert (found.resource, found.port, found.rate) == (DB, 7789, 0)
    assert found.hosts == (LayoutHost(N1, "10.0.0.1"), LayoutHost(N2, "10.0.0.2"))
    assert found.volumes == (LayoutVolume("d", 0, 1, LvmStorage(group="vg", volume="db")),)
    app = changed(APP, replication=Replication(link=LinkName("data"), rate=1 << 20))
    other = layout_of(changed(CONFIGURATION, apps=(app,)), ledger(), DB)
    assert other is not None and other.rate == 1 << 20 and [host.address for host in other.hosts][0] == "10.0.1.1"


def test_there_is_no_layout_without_an_address_or_with_other_volumes() -> None:
    for app in (
        changed(APP, replication=Replication(link=LinkName("none"))),
        changed(APP, volumes=()),
        changed(APP, volumes=(Volume(name="x", storage=DrbdStorage(on=LvmStorage(group="vg", volume="x"))),)),
    ):
        assert layout_of(changed(CONFIGURATION, apps=(app,)), ledger(), DB) is None
    assert layout_of(CONFIGURATION, Ledger(), DB) is None
