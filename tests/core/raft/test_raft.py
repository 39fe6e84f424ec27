"""What conversations show badly: every (role, message) pair, bounds, refusals, single rules."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raft_cluster import CLUSTER, Cluster

from truecl.core.quorum import has_quorum
from truecl.core.raft import CommittedConflict, Raft, Role
from truecl.core.raft.journal import StoredSnapshot
from truecl.core.raft.progress import WINDOW_MESSAGES, Flow, Progress
from truecl.core.raft.raft import MAX_UNCOMMITTED, TABLE
from truecl.core.raft.step import TURNS
from truecl.model.config import Timing
from truecl.model.ids import Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import (
    MAX_BATCH_BYTES,
    MAX_PAYLOAD,
    MAX_SNAPSHOT,
    Append,
    AppendAnswer,
    Entry,
    EntryKind,
    PreVote,
    PreVoteAnswer,
    RaftMessage,
    SnapshotAnswer,
    SnapshotPart,
    TimeoutNow,
    Vote,
    VoteAnswer,
)

A, B, C = NodeName("a"), NodeName("b"), NodeName("c")
THREE = Membership((A, B, C))


def cluster_of(*names: str, observers: tuple[str, ...] = (), timing: Timing | None = None) -> Cluster:
    cluster = Cluster(1, timing or Timing(), encode=True)
    membership = Membership(tuple(map(NodeName, names)), tuple(map(NodeName, observers)))
    for name in (*names, *observers):
        cluster.add(name, membership)
    return cluster


def led(*names: str, **more) -> Cluster:
    cluster = cluster_of(*names, **more)
    act(cluster, names[0], "campaign")
    cluster.settle()
    assert cluster.raft(names[0]).ready
    return cluster


def act(cluster: Cluster, name: str, method: str, *arguments):
    result = getattr(cluster.raft(name), method)(*arguments, cluster.clock(NodeName(name)))
    cluster.carry_out(cluster.nodes[NodeName(name)])
    return result


def in_role(role: Role) -> Raft:
    """A node a of three, term 3, entries 2 and 3 of terms 2 and 3, entry 2 committed."""
    raft = Raft(A, CLUSTER, THREE, {}, Random(1), Timing())
    raft.start(0.0)
    entries = (Entry(Term(2), EntryKind.EMPTY, b""), Entry(Term(3), EntryKind.COMMAND, b"x"))
    if role is Role.FOLLOWER:
        raft.receive(B, Append(Term(3), Index(1), Term(1), entries, Index(2), 1), 0.0)
    else:
        raft.receive(B, Append(Term(2), Index(1), Term(1), entries[:1], Index(2), 1), 0.0)
        raft.campaign(2.0)
    if role in (Role.CANDIDATE, Role.LEADER):
        raft.receive(C, PreVoteAnswer(Term(2), Term(3), True), 2.0)
    if role is Role.LEADER:
        raft.receive(C, VoteAnswer(Term(3), True, 2.0), 2.0)
    raft.take()
    assert raft.role is role
    return raft


# ---- every pair -----------------------------------------------------------------------------------------------------

small = st.integers(0, 5)
entries = st.lists(st.builds(Entry, small, st.sampled_from(EntryKind), st.sampled_from([b"", b"x"])), max_size=3)
messages = {
    PreVote: st.builds(PreVote, small, small, small, small),
    PreVoteAnswer: st.builds(PreVoteAnswer, small, small, st.booleans()),
    Vote: st.builds(Vote, small, small, small, st.booleans()),
    VoteAnswer: st.builds(VoteAnswer, small, st.booleans(), st.floats()),
    Append: st.builds(Append, small, st.integers(-1, 5), small, entries.map(tuple), small, small),
    AppendAnswer: st.builds(
        AppendAnswer, small, small, st.booleans(), st.integers(-1, 5), st.integers(-1, 5), small
    ),
    SnapshotPart: st.builds(
        SnapshotPart, small, small, small, st.just(THREE), st.integers(0, 3), small, st.sampled_from([b"", b"xyz"])
    ),
    SnapshotAnswer: st.builds(SnapshotAnswer, small, small, st.integers(-1, 5)),
    TimeoutNow: st.builds(TimeoutNow, small),
}  # fmt: skip


def test_every_message_is_drawn() -> None:
    assert set(messages) == set(RaftMessage.__args__)
    assert set(TABLE) == set(TURNS) == set(Role)


@pytest.mark.parametrize("kind", messages, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("role", Role)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_message_in_any_role(role: Role, kind: type, data: st.DataObject) -> None:
    """Whatever an (even broken) node sends: terms and what is committed never go back, a vote is given once."""
    raft = in_role(role)
    for moment in (2.1, 2.2):
        term, vote, commit, faults = raft.term, raft.voted_for, raft.log.commit, raft.faults
        state = (raft.log.last_index, raft.log.last_term)
        sender = data.draw(st.sampled_from([B, C, NodeName("z")]))
        message = data.draw(messages[kind])
        try:
            raft.receive(sender, message, moment)
        except CommittedConflict:
            return
        assert raft.term >= term and raft.log.commit >= commit
        if raft.term == term and vote is not None:
            assert raft.voted_for == vote
        if raft.faults > faults:
            assert (raft.log.last_index, raft.log.last_term) == state
            assert (raft.log.commit, raft.faults) == (commit, faults + 1)
        step = raft.take()
        assert step.wake_at is not None
        for send in step.sends:
            assert not isinstance(send.message, (VoteAnswer, AppendAnswer)) or send.message.term == raft.term
        if raft.term > term or raft.voted_for != vote:
            assert any(save.bucket == "raft.meta" for save in step.saves)


FAULTS = {
    "a second leader of the term": (Role.LEADER, Append(Term(3), Index(2), Term(2), (), Index(2), 1)),
    "a snapshot from a second leader": (Role.LEADER, SnapshotPart(Term(3), Index(9), Term(3), THREE, 1, 0, b"x")),
    "handed over by a second leader": (Role.LEADER, TimeoutNow(Term(3))),
    "a round that was never started": (Role.LEADER, AppendAnswer(Term(3), 9, True, Index(2), Index(2), Term(2))),
    "more entries than there are": (Role.LEADER, AppendAnswer(Term(3), 1, True, Index(9), Index(9), Term(2))),
    "an answer to nothing": (Role.CANDIDATE, AppendAnswer(Term(3), 1, True, Index(2), Index(2), Term(2))),
    "another leader of the term": (Role.FOLLOWER, Append(Term(3), Index(2), Term(2), (), Index(2), 1)),
    "entries ahead of the term": (
        Role.CANDIDATE,
        Append(Term(3), Index(2), Term(2), (Entry(Term(4), EntryKind.EMPTY, b""),), Index(2), 1),
    ),
    "a snapshot too large": (Role.CANDIDATE, SnapshotPart(Term(3), Index(9), Term(3), THREE, MAX_SNAPSHOT + 1, 0, b"")),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_protocol_fault_changes_nothing(case: str) -> None:
    role, message = FAULTS[case]
    raft = in_role(role)
    before = (raft.role, raft.term, raft.leader, raft.log.last_index, raft.log.commit)
    raft.receive(C, message, 2.0)
    assert raft.faults == 1
    assert (raft.role, raft.term, raft.leader, raft.log.last_index, raft.log.commit) == before


def test_a_leader_that_contradicts_what_is_committed_stops_the_node() -> None:
    raft = in_role(Role.CANDIDATE)
    with pytest.raises(CommittedConflict):
        raft.receive(B, Append(Term(3), Index(2), Term(1), (), Index(2), 1), 2.0)


# ---- elections ------------------------------------------------------------------------------------------------------


def test_a_vote_is_given_once_a_term_and_again_to_the_same_even_after_a_restart() -> None:
    cluster = cluster_of("a", "b", "c")
    ask = Vote(Term(5), Index(1), Term(1), False)
    for name, granted in ((B, True), (C, False), (B, True)):
        cluster.raft("a").receive(name, ask, cluster.clock(A))
        step = cluster.carry_out(cluster.nodes[A])
        assert [send.message.granted for send in step.sends] == [granted]
        cluster.crash("a")
        cluster.restart("a")
    assert (cluster.raft("a").term, cluster.raft("a").voted_for) == (5, B)


def test_a_shorter_log_gets_no_vote() -> None:
    raft = in_role(Role.FOLLOWER)
    for last_index, last_term, granted in ((2, 2, False), (9, 2, False), (2, 3, False), (3, 3, True)):
        term = Term(raft.term + 1)
        raft.receive(C, Vote(term, Index(last_index), Term(last_term), True), 9.0)
        assert raft.take().sends[0].message == VoteAnswer(term, granted, 9.0)


@pytest.mark.parametrize(
    ("own", "last_index", "granted"),
    [
        (Membership(voters=(B, C), observers=(A,)), 2, True),
        (Membership(voters=(B, C), observers=(A,)), 1, False),
        (Membership(voters=(A, B, C)), 1, True),
        (Membership(), 5, False),
    ],
    ids=["a log that is ahead may make it a voter", "one that is not cannot", "a voter", "nothing is known yet"],
)
def test_whom_a_node_votes_for_that_may_be_no_voter_yet(own: Membership, last_index: int, granted: bool) -> None:
    raft = Raft(A, CLUSTER, own, {}, Random(1), Timing())
    raft.start(0.0)
    raft.receive(B, Vote(Term(2), Index(last_index), Term(1), False), 3.0)
    assert raft.take().sends[0].message == VoteAnswer(Term(2), granted, 3.0)


def test_a_pre_vote_changes_nothing_durable() -> None:
    raft = Raft(A, CLUSTER, THREE, {}, Random(1), Timing())
    raft.start(0.0)
    raft.take()
    raft.receive(B, PreVote(Term(1), Term(2), Index(1), Term(1)), 3.0)
    assert raft.take().saves == ()
    raft.campaign(4.0)
    assert raft.take().saves == ()


def test_a_ballot_is_saved_in_the_step_that_sends_it() -> None:
    raft = in_role(Role.PRE_CANDIDATE)
    raft.receive(C, PreVoteAnswer(Term(2), Term(3), True), 2.0)
    step = raft.take()
    assert [type(send.message) for send in step.sends] == [Vote, Vote]
    assert [(save.bucket, save.key) for save in step.saves] == [("raft.meta", "ballot")]


@pytest.mark.parametrize("age", [float("nan"), float("-inf"), -5.0, 0.0, 0.02])
def test_a_lease_bound_is_never_later_than_now_nor_moved_back_by_nonsense(age: float) -> None:
    raft = in_role(Role.CANDIDATE)
    raft.receive(C, VoteAnswer(Term(3), True, age), 7.0)
    assert raft.lease_bound == 7.0


def test_the_lease_bound_is_the_latest_of_all_votes_counted() -> None:
    five = Membership((A, B, C, NodeName("d"), NodeName("e")))
    raft = Raft(A, CLUSTER, five, {}, Random(1), Timing(drift=0.05))
    raft.start(10.0)
    raft.campaign(20.0)
    for node in (B, C):
        raft.receive(node, PreVoteAnswer(Term(1), Term(2), True), 20.0)
    raft.receive(NodeName("d"), VoteAnswer(Term(2), False, 0.0), 20.0)
    raft.receive(B, VoteAnswer(Term(2), True, 3.0), 20.0)
    raft.receive(B, VoteAnswer(Term(2), True, 1.0), 20.0)
    assert raft.lease_bound is None
    raft.receive(C, VoteAnswer(Term(2), True, 8.0), 21.0)
    assert raft.lease_bound == pytest.approx(17.05)
    raft.receive(NodeName("e"), VoteAnswer(Term(2), True, 0.0), 22.0)
    assert raft.lease_bound == pytest.approx(17.05)


def test_a_voter_says_how_long_ago_it_acknowledged_a_leader_when_it_votes_and_not_before() -> None:
    """Between the pre-vote and the vote the leader was heard once more, late, and gave a lease by that."""
    raft = in_role(Role.FOLLOWER)
    raft.receive(C, PreVote(Term(3), Term(4), Index(3), Term(3)), 5.0)
    raft.receive(B, Append(Term(3), Index(3), Term(3), (), Index(2), 2), 5.1)
    raft.receive(C, Vote(Term(4), Index(3), Term(3), False), 8.1)
    said = [send.message for send in raft.take().sends if send.node == C]
    assert said == [PreVoteAnswer(Term(3), Term(4), True), VoteAnswer(Term(4), True, pytest.approx(3.0))]


def test_own_rounds_count_as_acknowledgements_and_a_term_change_does_not_reset_them() -> None:
    cluster = led("a", "b", "c")
    cluster.now += 0.5
    act(cluster, "a", "start_round")
    started = cluster.clock(A)
    cluster.now += 0.7
    cluster.raft("a").receive(B, Vote(Term(9), Index(9), Term(9), True), cluster.clock(A))
    answer = cluster.carry_out(cluster.nodes[A]).sends[0].message
    assert answer == VoteAnswer(Term(9), True, pytest.approx(cluster.clock(A) - started))
    assert cluster.raft("a").acknowledged_at == started


@pytest.mark.parametrize("dead_first", ["b", "c", "d", "e"])
def test_after_the_verdict_one_candidate_wins_at_once(dead_first: str) -> None:
    """However the verdicts are spread over 30 ms, messages take 1 ms: a ready leader 150 ms after the first of them."""
    rivals = 0
    for seed in range(30):
        cluster = cluster_of("a", "b", "c", "d", "e")
        act(cluster, "a", "campaign")
        cluster.settle()
        cluster.run(0.35)
        cluster.crash("a")
        random = Random(seed)
        verdicts = {name: random.uniform(0, 0.03) for name in "bcde"}
        verdicts[dead_first] = 0.0
        start, term, candidates = cluster.now, cluster.raft("b").term, 0
        while not any(cluster.raft(name).ready for name in "bcde"):
            assert cluster.now - start < 0.15
            for name, at in sorted(verdicts.items()):
                if start + at <= cluster.now:
                    del verdicts[name]
                    act(cluster, name, "peer_died", A)
            due, cluster.flights[:] = list(cluster.flights), []
            for flight in due:
                cluster.deliver(flight)
            cluster.now += 0.001
            cluster.wake_due()
            candidates = max(candidates, sum(cluster.raft(name).role is Role.CANDIDATE for name in "bcde"))
        assert cluster.raft(cluster.leader()).term == term + 1
        rivals += candidates > 1
    assert rivals <= 1


# ---- replication ----------------------------------------------------------------------------------------------------


def test_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    """The paper's figure 8. The two payloads do not fit one message, so the first of them travels alone."""
    cluster = led("a", "b", "c", "d", "e")
    big = bytes(MAX_PAYLOAD - 10)
    act(cluster, "a", "propose", (big, big))
    cluster.flights.clear()
    cluster.crash("a")
    cluster.restart("a")
    cluster.now += 2
    act(cluster, "a", "campaign")
    for _ in range(4):
        while cluster.flights:
            flight = cluster.flights.pop(0)
            appended = flight.message.entries if isinstance(flight.message, Append) else ()
            if flight.to in (A, B, C) and not any(entry.term == 3 for entry in appended):
                cluster.deliver(flight)
        cluster.now += 0.1
        cluster.wake_due()
    raft = cluster.raft("a")
    match = {peer.node: peer.match for peer in raft.followers}
    assert raft.role is Role.LEADER
    assert match[B] >= 3 and match[C] >= 3
    assert raft.log.commit < 3
    assert not raft.ready
    cluster.run(0.5)
    assert raft.ready and raft.log.commit == raft.log.last_index


def test_entries_that_follow_another_one_than_is_here_are_refused() -> None:
    raft = in_role(Role.FOLLOWER)
    append = Append(Term(4), Index(3), Term(4), (Entry(Term(4), EntryKind.EMPTY, b""),), Index(2), 1)
    raft.receive(C, append, 0.1)
    (answer,) = (each.message for each in raft.take().sends)
    assert isinstance(answer, AppendAnswer) and not answer.accepted
    assert raft.log.last_index == 3 and raft.log.term_at(Index(3)) == 3


def test_whom_everything_on_the_way_was_lost_to_gets_a_snapshot_when_it_is_compacted() -> None:
    """Its window stays full, and what the heartbeats compare with is not there any more: it was never fed again."""
    cluster = led("a", "b", "c")
    for number in range(WINDOW_MESSAGES + 4):
        act(cluster, "a", "propose", (b"%d" % number,))
        while cluster.flights:
            flight = cluster.flights.pop(0)
            if C not in (flight.source, flight.to):
                cluster.deliver(flight)
    leader = cluster.raft("a")
    assert not next(each for each in leader.followers if each.node == C).may_send
    cluster.compact("a", 0)
    cluster.run(1.0)
    assert cluster.raft("c").log.commit == leader.log.commit


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=4, max_size=4), st.integers(2, 5))
def test_the_commit_index_against_its_dumb_twin(matches: list[int], term_start: int) -> None:
    """The greatest entry of its own term that a quorum stores, found by trying them all."""
    five = Membership((A, B, C, NodeName("d"), NodeName("e")))
    raft = Raft(A, CLUSTER, five, {}, Random(1), Timing())
    raft.start(0.0)
    old = tuple(Entry(Term(2), EntryKind.COMMAND, b"") for _ in range(term_start - 2))
    raft.receive(B, Append(Term(2), Index(1), Term(1), old, Index(1), 1), 0.0)
    raft.campaign(5.0)
    for node in (B, C):
        raft.receive(node, PreVoteAnswer(Term(2), Term(3), True), 5.0)
    for node in (B, C):
        raft.receive(node, VoteAnswer(Term(3), True, 5.0), 5.0)
    raft.propose(tuple(b"%d" % number for number in range(9 - term_start)), 5.0)
    assert (raft.log.last_index, raft.role) == (9, Role.LEADER)
    raft.take()
    stored = dict(zip(five.voters, [9, *matches], strict=True))
    for node in five.voters[1:]:
        has = Index(stored[node])
        raft.receive(node, AppendAnswer(Term(3), 1, True, has, has, Term(0)), 5.0)
    raft.take()
    dumb = 1
    for index in range(1, 10):
        holders = [node for node in five.voters if stored[node] >= index]
        if raft.log.term_at(Index(index)) == 3 and has_quorum(five, holders):
            dumb = index
    assert raft.log.commit == dumb


def test_a_conflict_is_found_in_one_step_a_term() -> None:
    cluster = led("a", "b", "c")
    cluster.run(0.2)
    for _ in range(50):
        act(cluster, "a", "propose", (b"lost",))
    cluster.flights.clear()
    cluster.crash("a")
    cluster.now += 2
    act(cluster, "b", "campaign")
    cluster.settle()
    for _ in range(50):
        act(cluster, "b", "propose", (b"kept",))
        cluster.settle()
    cluster.restart("a")
    refusals = 0
    cluster.now += Timing().renewal * 1.01
    cluster.wake_due()
    while cluster.flights:
        flight = cluster.flights.pop(0)
        refusals += isinstance(flight.message, AppendAnswer) and not flight.message.accepted
        cluster.deliver(flight)
    assert refusals <= 2
    assert cluster.raft("a").log.last_index == cluster.raft("b").log.last_index
    cluster.run(Timing().renewal)
    assert [payload for _, payload in cluster.nodes[A].state] == [b"kept"] * 50


def test_a_tail_that_gave_way_is_gone_from_the_disk_too() -> None:
    """It was longer than what replaced it, and must not come back with a restart."""
    cluster = led("a", "b", "c")
    act(cluster, "a", "propose", (b"lost",) * 5)
    cluster.flights.clear()
    cluster.crash("a")
    cluster.now += 2
    act(cluster, "b", "campaign")
    cluster.settle()
    cluster.restart("a")
    cluster.run(0.3)
    assert cluster.raft("a").log.last_index == 3
    cluster.crash("a")
    assert list(cluster.nodes[A].records["raft.log"]) == [2, 3]
    cluster.restart("a")
    assert cluster.raft("a").log.last_index == 3


def test_what_is_on_the_way_is_bounded() -> None:
    cluster = led("a", "b", "c")
    for number in range(3 * WINDOW_MESSAGES):
        act(cluster, "a", "propose", (b"%d" % number,))
    to_b = [flight for flight in cluster.flights if flight.to == B]
    assert len(to_b) == WINDOW_MESSAGES
    cluster.settle()
    assert cluster.raft("b").log.last_index == cluster.raft("a").log.last_index


def test_messages_and_what_waits_for_a_quorum_are_bounded() -> None:
    cluster = led("a", "b", "c")
    with pytest.raises(ValueError, match="payload"):
        act(cluster, "a", "propose", (bytes(MAX_PAYLOAD + 1),))
    with pytest.raises(ValueError, match="at once"):
        act(cluster, "a", "propose", (b"",) * (MAX_UNCOMMITTED + 1))
    assert act(cluster, "a", "propose", ()) is None
    taken = 0
    while act(cluster, "a", "propose", (bytes(MAX_PAYLOAD),)) is not None:
        taken += 1
    assert taken == 32
    for flight in cluster.flights:
        size = sum(len(entry.payload) for entry in flight.message.entries)
        assert size <= MAX_BATCH_BYTES
    cluster.settle()
    cluster.run(1.0)
    assert len(cluster.nodes[C].state) == 32


def test_a_large_snapshot_goes_in_parts_and_survives_lost_doubled_and_reordered_ones() -> None:
    cluster = led("a", "b", "c")
    cluster.crash("c")
    for _ in range(4):
        act(cluster, "a", "propose", (Random(1).randbytes(MAX_PAYLOAD),))
        cluster.settle()
    cluster.compact("a", 0)
    cluster.restart("c")
    random = Random(3)
    parts = 0
    end = cluster.now + 20
    while cluster.now < end and cluster.raft("c").log.commit < cluster.raft("a").log.commit:
        cluster.now += 0.01
        cluster.wake_due()
        due, cluster.flights[:] = list(cluster.flights), []
        random.shuffle(due)
        for flight in due:
            for _ in range(random.choice([0, 1, 1, 2]) if isinstance(flight.message, (SnapshotPart, SnapshotAnswer))
                           else 1):  # fmt: skip
                parts += isinstance(flight.message, SnapshotPart)
                cluster.deliver(flight)
    assert cluster.nodes[C].state == cluster.nodes[A].state
    assert 5 <= parts < 40


def test_compaction_bounds_the_log_and_refuses_what_is_not_applied() -> None:
    cluster = led("a", "b", "c")
    for _ in range(50):
        act(cluster, "a", "propose", (b"x",))
        cluster.settle()
    raft = cluster.raft("a")
    for index in (raft.applied + 1, raft.log.snapshot.index):
        with pytest.raises(ValueError, match="no snapshot"):
            raft.compact(Index(index), b"")
    with pytest.raises(ValueError, match="bytes"):
        raft.compact(raft.applied, bytes(MAX_SNAPSHOT + 1))
    cluster.compact("a", 10)
    assert raft.log.last_index - raft.log.first + 1 == 10
    assert raft.log.bytes_after_snapshot == 0
    assert len(cluster.nodes[A].records["raft.log"]) == 10
    assert list(cluster.nodes[A].records["raft.snapshot"]) == [raft.applied]


def test_rounds_go_to_voters_and_observers_do_not_count() -> None:
    cluster = led("a", "b", "c", observers=("d", "e"))
    act(cluster, "a", "start_round")
    assert sorted(flight.to for flight in cluster.flights) == ["b", "c"]
    cluster.flights.clear()
    cluster.crash("b")
    cluster.crash("c")
    cluster.run(1.5)
    assert cluster.raft("a").role is Role.FOLLOWER


def test_an_acknowledgement_of_another_term_completes_no_round() -> None:
    raft = in_role(Role.LEADER)
    number = raft.start_round(2.0)
    raft.take()
    raft.receive(B, AppendAnswer(Term(2), number, True, Index(2), Index(2), Term(0)), 2.0)
    assert raft.take().completed_round == 0
    raft.receive(B, AppendAnswer(Term(3), number, True, Index(2), Index(2), Term(0)), 2.0)
    assert raft.take().completed_round == number
    raft.receive(B, AppendAnswer(Term(3), number, True, Index(2), Index(2), Term(0)), 2.0)
    assert raft.take().completed_round == 0


def test_membership_is_in_force_when_appended_and_gone_with_its_entry() -> None:
    raft = in_role(Role.FOLLOWER)
    four = Membership((A, B, C, NodeName("d")))
    change = Entry(Term(3), EntryKind.MEMBERSHIP, msgspec.msgpack.encode(four))
    raft.receive(B, Append(Term(3), Index(3), Term(3), (change,), Index(2), 1), 2.0)
    assert raft.membership == four
    other = (Entry(Term(4), EntryKind.EMPTY, b""),)
    raft.receive(C, Append(Term(4), Index(3), Term(3), other, Index(2), 1), 2.0)
    assert raft.membership == THREE
    change = Entry(Term(4), EntryKind.MEMBERSHIP, b"nonsense")
    raft.receive(C, Append(Term(4), Index(4), Term(4), (change,), Index(2), 1), 2.0)
    assert (raft.faults, raft.log.last_index) == (1, 4)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 20)), max_size=30))
def test_progress_never_forgets_what_was_acknowledged(answers: list[tuple[bool, int, int]]) -> None:
    peer = Progress(B, Index(10), 0.0)
    best = 0
    for accepted, index, hint in answers:
        if accepted:
            peer.accepted(Index(index), Index(1))
            best = max(best, index)
        else:
            peer.rejected(Index(index), Index(hint))
        assert peer.match == best
        assert peer.next > peer.match
        assert peer.flow in (Flow.PROBE, Flow.REPLICATE)


def test_a_snapshot_that_was_compacted_over_meanwhile_is_followed_by_the_newer_one() -> None:
    """The follower has index 20, the leader's log begins at 32: no further part of the old snapshot would help it."""
    peer = Progress(B, Index(16), 0.0)
    peer.begin_snapshot(StoredSnapshot(Index(20), Term(2), THREE, b"state"))
    peer.accepted(Index(19), Index(32))
    assert peer.flow is Flow.SNAPSHOT
    peer.accepted(Index(20), Index(32))
    assert (peer.flow, peer.next) == (Flow.REPLICATE, 21)


# ---- late and doubled messages --------------------------------------------------------------------------------------


def test_a_late_append_cuts_off_nothing_that_came_since() -> None:
    raft = in_role(Role.FOLLOWER)
    more = tuple(Entry(Term(3), EntryKind.COMMAND, b"%d" % number) for number in range(3))
    raft.receive(B, Append(Term(3), Index(3), Term(3), more, Index(2), 2), 1.0)
    raft.take()
    raft.receive(B, Append(Term(3), Index(3), Term(3), more[:1], Index(2), 1), 1.0)
    step = raft.take()
    assert raft.log.last_index == 6
    assert step.saves == ()
    assert step.sends[0].message == AppendAnswer(Term(3), 1, True, Index(4), Index(4), Term(0))


@pytest.mark.parametrize(("index_term", "last"), [(3, 4), (4, 3)])
def test_a_snapshot_keeps_the_entries_after_it_only_if_they_are_of_its_history(index_term: int, last: int) -> None:
    raft = in_role(Role.FOLLOWER)
    tail = (Entry(Term(3), EntryKind.COMMAND, b"y"),)
    raft.receive(B, Append(Term(3), Index(3), Term(3), tail, Index(2), 1), 1.0)
    raft.receive(C, SnapshotPart(Term(4), Index(3), Term(index_term), THREE, 1, 0, b"s"), 1.0)
    assert (raft.log.last_index, raft.log.commit, raft.applied) == (last, 3, 3)


def test_late_answers_take_no_round_back() -> None:
    five = tuple(map(NodeName, "abcde"))
    cluster = led(*five)
    number = act(cluster, "a", "start_round")
    act(cluster, "a", "start_round")
    cluster.flights.clear()
    raft, last = cluster.raft("a"), cluster.raft("a").log.last_index
    for node, acknowledged in (("b", number + 1), ("b", number), ("c", number + 1)):
        answer = AppendAnswer(raft.term, acknowledged, True, last, last, Term(0))
        raft.receive(NodeName(node), answer, cluster.clock(A))
    assert raft.take().completed_round == number + 1


def test_late_refusals_do_not_slow_a_follower_down() -> None:
    peer = Progress(B, Index(5), 0.0)
    peer.accepted(Index(9), Index(1))
    peer.rejected(Index(9), Index(3))
    assert (peer.flow, peer.next) == (Flow.REPLICATE, 10)


def test_only_the_leader_hands_over() -> None:
    raft = in_role(Role.FOLLOWER)
    raft.receive(C, TimeoutNow(Term(3)), 1.0)
    assert raft.role is Role.FOLLOWER
    raft.receive(B, TimeoutNow(Term(3)), 1.0)
    assert raft.role is Role.CANDIDATE


def test_a_leader_of_the_past_is_told_so() -> None:
    raft = in_role(Role.FOLLOWER)
    raft.receive(C, Append(Term(2), Index(1), Term(1), (), Index(1), 7), 1.0)
    (send,) = raft.take().sends
    assert (send.node, send.message.term, send.message.accepted) == (C, 3, False)
    old = in_role(Role.LEADER)
    old.receive(B, AppendAnswer(Term(8), 0, False, Index(0), Index(0), Term(0)), 2.0)
    assert (old.role, old.term, old.lease_bound) == (Role.FOLLOWER, 8, None)


def test_a_leader_that_was_restarted_is_elected_again_at_once() -> None:
    """Those who heard it a moment ago do not wait: it would not ask if it still led."""
    cluster = led("a", "b", "c")
    cluster.crash("a")
    cluster.restart("a")
    act(cluster, "a", "campaign")
    cluster.settle()
    assert cluster.raft("a").ready and cluster.raft("b").leader == A


@pytest.mark.parametrize(
    "late",
    [
        AppendAnswer(Term(3), 1, True, Index(3), Index(3), Term(0)),
        AppendAnswer(Term(3), 1, False, Index(2), Index(1), Term(1)),
        SnapshotAnswer(Term(3), Index(3), 0),
    ],
)
def test_one_that_heard_no_quorum_and_is_answered_after_all_stands_again_at_once(late: RaftMessage) -> None:
    """Whoever answers takes it for the leader still: both would wait, and nobody led."""
    raft = in_role(Role.LEADER)
    raft.wake(9.0)
    assert (raft.role, raft.leader) == (Role.FOLLOWER, None)
    raft.receive(B, late, 9.1)
    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 3)
    other = in_role(Role.PRE_CANDIDATE)
    other.receive(B, late, 9.1)
    assert (other.role, other.term) == (Role.FOLLOWER, 3), "it never led this term"


@pytest.mark.parametrize(("voters", "stands"), [((A, B), True), ((A, B, C), False)])
def test_of_two_the_one_whose_log_is_ahead_stands_when_the_other_does(
    voters: tuple[NodeName, ...], stands: bool
) -> None:
    """The other can never win. Among more voters it may, without this one's vote."""
    raft = Raft(A, CLUSTER, Membership(voters), {}, Random(1), Timing())
    raft.start(0.0)
    raft.receive(B, Append(Term(2), Index(1), Term(1), (Entry(Term(2), EntryKind.EMPTY, b""),), Index(1), 1), 0.0)
    raft.receive(B, PreVote(Term(2), Term(3), Index(1), Term(1)), 9.0)
    assert [type(send.message) for send in raft.take().sends][1:] == [PreVoteAnswer, *[PreVote] * stands]
    assert raft.role is (Role.PRE_CANDIDATE if stands else Role.FOLLOWER)


def test_whoever_else_asks_early_is_refused() -> None:
    cluster = led("a", "b", "c")
    act(cluster, "b", "campaign")
    cluster.settle()
    assert cluster.raft("a").ready and cluster.raft("c").leader == A
