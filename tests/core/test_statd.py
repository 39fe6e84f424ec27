"""statd: whose word lha_stat gives, and the history of all nodes as one."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.core.same_daemon import Nodes, configuration
from truecl.core import chronicle
from truecl.core.chronicle import FindEvents, Found, Recorded, RecordEvents
from truecl.core.contract import Connected, Disconnected, Joined, Left, Received, Rejected
from truecl.core.standing import standing
from truecl.core.statd import MASTER_TIME, STALE, Statd
from truecl.model.ids import AppName, BootId, DaemonName, Generation, Index, LinkName, NodeName, Term
from truecl.model.ledger import AppState, Ended, Failure, Fence, Grant, Ledger, Proof, Wanted
from truecl.model.membership import Membership
from truecl.model.report import EventRecord, Severity
from truecl.model.standing import StepStatus
from truecl.wire.messages import (
    Applied,
    AppNote,
    AskLog,
    AskStanding,
    AskStatus,
    HeldNode,
    InstanceStatus,
    Leadership,
    LinkView,
    LogLines,
    Members,
    NodeStatus,
    NodeView,
    Note,
    Notes,
    Refused,
    Standing,
    Status,
    Subscribe,
    View,
)

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
WEB = AppName("web")
WALL = 1_000_000.0


class Bench(Nodes):
    """Three statds whose histories are lists. Records come to the disk at once unless `slow`."""

    def __init__(self, nodes: int = 3) -> None:
        self.disks: dict[NodeName, list[EventRecord]] = {}
        self.slow = False
        self.silent: set[NodeName] = set()
        names = [f"n{number}" for number in range(1, nodes + 1)]
        super().__init__(names, lambda me: Statd(me, configuration(nodes)), self.perform)
        self.connect()

    def perform(self, node: NodeName, action: Any) -> Any:
        if self.slow or node in self.silent:
            return None
        disk = self.disks.setdefault(node, [])
        if isinstance(action, RecordEvents):
            stamped = tuple(replace(each, at=each.at or WALL + each.uptime) for each in action.events)
            disk.extend(stamped)
            return Recorded(stamped)
        assert isinstance(action, FindEvents)
        fit = [each for each in disk if each.at >= action.since and action.app in (None, each.app)]
        fit = [each for each in fit if each.mark is not None or not action.marked]
        return Found(tuple(fit[-action.limit :]))

    def lead(self, leader: NodeName | None, term: int = 1) -> None:
        for name in self.cores:
            self.tell(name, "lockd", Leadership(Term(term), leader, leader == name))

    def view(self, node: str, alive: tuple[str, ...], **links: bool) -> None:
        """`links`: whether the link to a node is up, True where not named."""
        self.tell(node, "hbd", View(tuple(
            NodeView(name, BootId("b"), name in alive, (LinkView(LinkName("lan"), links.get(name, True)),))
            for name in self.cores if name != node
        )))  # fmt: skip

    def texts(self, node: str = "n1", who: str = "command-1", request: AskLog | None = None) -> list[str]:
        self.tell(node, who, request or AskLog(number=5))
        self.wait(2.0)
        return [event.text for lines in self.heard(node, who, LogLines) for event in lines.events]

    def status(self, node: str, request: AskStatus | None = None) -> Status:
        self.tell(node, "command-9", request or AskStatus(number=3))
        self.wait(MASTER_TIME)
        (answer,) = self.heard(node, "command-9", Status)
        assert isinstance(answer, Status)
        return answer


def report(node: NodeName, *instances: InstanceStatus, lease: float = 1.0) -> NodeStatus:
    return NodeStatus(node, BootId("b"), {DaemonName("hbd"): "up"}, instances, lease)


RUNNING = InstanceStatus(WEB, Generation(4), "running", (StepStatus("program web", "program", "active"),))


def granted(node: NodeName = N2, generation: int = 4, index: int = 4) -> Ledger:
    state = AppState(wanted=Wanted.RUNNING, grant=Grant(node, Generation(generation)))
    return Ledger(apps={WEB: state}, index=Index(index), term=Term(1))


# ---- lha_stat -------------------------------------------------------------------------------------------------------


def test_a_node_whose_formats_do_not_meet_is_named_until_a_session_is_made() -> None:
    bench = Bench()
    bench.lead(N1)
    bench.view("n1", ("n1", "n2", "n3"))
    bench.feed("n1", Rejected(N3, "n3 speaks formats 4 to 5, this node 1 to 3: upgrade this node"))
    assert bench.status("n1").refused == {N3: "n3 speaks formats 4 to 5, this node 1 to 3: upgrade this node"}
    assert "n3 speaks formats 4 to 5, this node 1 to 3: upgrade this node" in bench.texts()
    bench.feed("n1", Connected(N3))
    assert bench.status("n1").refused == {}


def asked(bench: Bench, node: str) -> list[str]:
    """Whom a statd has asked."""
    found = [target for source, target, message in bench.sent if source == node and isinstance(message, AskStatus)]
    bench.sent.clear()
    return sorted(found)


def test_the_master_s_statd_asks_who_is_heard_and_reports_nothing() -> None:
    """A node whose lockd does not run knows no master to report to."""
    bench = Bench()
    bench.tell("n1", "lockd", Leadership(Term(1), N1, True))
    bench.view("n1", ("n1", "n2"))
    bench.tell("n2", "reqd", report(N2))
    bench.wait(STALE)
    bench.tell("n2", "reqd", report(N2))
    assert bench.status("n1").reports == {}
    bench.tell("n1", "reqd", report(N1))
    assert asked(bench, "n1") == [N2], "n3 is not heard"
    assert list(bench.status("n1").reports) == [N1, N2]
    bench.tell("n1", "reqd", report(N1))
    assert asked(bench, "n1") == []


def test_a_node_without_a_master_tries_the_other_voters() -> None:
    bench = Bench()
    bench.view("n3", ("n1", "n3"))
    for node in (N1, N2):
        bench.feed("n3", Disconnected(node))
    bench.lead(None)
    bench.tell("n3", "reqd", report(N3))
    assert asked(bench, "n3") == [N1], "n2 is not heard"
    bench.feed("n3", Connected(N1))
    bench.tell("n3", "reqd", report(N3))
    assert asked(bench, "n3") == []


@pytest.mark.parametrize(
    ("node", "phase", "word"),
    [
        ("UP", "running", "UP"),
        ("UNKNOWN", "running", "UP"),
        ("DOWN", "running", "UNKNOWN"),
        ("FENCING", "stopping", "UNKNOWN"),
        ("FENCED", "frozen", "UNKNOWN"),
        ("FENCING", "needs fence", "NEEDS FENCE"),
        ("DOWN", None, "UNKNOWN"),
    ],
)
def test_nothing_is_called_up_by_an_old_report_of_a_node_that_is_away(node: str, phase: str | None, word: str) -> None:
    bench = Bench()
    bench.lead(N1)
    said = () if phase is None else (replace(RUNNING, phase=phase),)
    reports, nodes = {N2: report(N2, *said)}, {N1: "UP", N2: node, N3: "UP"}
    status = replace(bench.status("n1"), ledger=granted(), reports=reports, nodes=nodes)
    (row,) = [each for each in standing(status).apps if each.name == WEB]
    assert row.status == word


def test_the_master_s_statd_tells_for_how_long_a_node_is_held_down() -> None:
    bench = Bench()
    bench.lead(N1)
    for node in (N1, N2, N3):
        bench.view(node, ("n1", "n2", "n3"))
    bench.tell("n1", "clusterd", Notes((), (HeldNode(N3, bench.now + 10.0),)))
    bench.wait(4.0)
    assert bench.status("n1").held == {N3: pytest.approx(6.0)}
    assert bench.status("n2").held == {N3: pytest.approx(6.0, abs=0.7)}
    bench.wait(60.0)
    assert bench.status("n1").held == {N3: 0.0}
    bench.tell("n1", "clusterd", Notes(()))
    assert bench.status("n1").held == {}
    assert bench.status("n1").roles == {N1: "voter", N2: "voter", N3: "voter"}


def test_every_node_gives_the_masters_word() -> None:
    bench = Bench()
    bench.lead(N1)
    for node in (N1, N2, N3):
        bench.view(node, ("n1", "n2", "n3"))
        bench.tell(node, "lockd", Applied(granted()))
        bench.tell(node, "reqd", report(node, *([RUNNING] if node == N2 else [])))
    bench.tell("n1", "clusterd", Notes((AppNote(WEB, "as\nwanted"),)))
    for node in (N1, N2, N3):
        answer = bench.status(node)
        assert (answer.answered_by, answer.master, answer.state, answer.number) == (N1, N1, "UP", 3)
        assert answer.nodes == {N1: "UP", N2: "UP", N3: "UP"}
        assert list(answer.reports) == [N1, N2, N3]
        assert answer.notes == {WEB: "as wanted"}
        assert answer.apps == {WEB: (N1, N2, N3)}


def test_steps_travel_only_where_they_are_asked_for() -> None:
    bench = Bench()
    bench.lead(N1)
    bench.tell("n2", "reqd", report(N2, RUNNING, InstanceStatus(AppName("db"), Generation(1), "running")))
    bench.tell("n1", "lockd", Applied(granted()))
    assert [each.steps for each in bench.status("n3").reports[N2].instances] == [(), ()]
    only = bench.status("n3", AskStatus(app=WEB)).reports[N2].instances
    assert only == (RUNNING,)
    assert bench.status("n3").here == "n3"  # the master answers, for the node that was asked
    assert bench.status("n3", AskStatus(node=N2)).reports[N2].instances[0] == RUNNING


def test_an_operator_reads_the_masters_word_as_rows() -> None:
    bench = Bench()
    bench.lead(N1)
    bench.tell("n2", "reqd", report(N2, RUNNING))
    bench.tell("n1", "lockd", Applied(granted()))
    for request, steps in ((AskStanding(), ()), (AskStanding(app=WEB), RUNNING.steps)):
        for node in (N1, N3):
            bench.tell(node, "command-9", request)
            bench.wait(MASTER_TIME)
            (answer,) = bench.heard(node, "command-9", Standing)
            stat = answer.stat
            assert (stat.answered_by, stat.complete, stat.nodes_total) == (N1, True, 3)
            assert [(row.name, row.status, row.node, row.steps) for row in stat.apps] == [(WEB, "UP", N2, steps)]


@pytest.mark.parametrize(
    ("alive", "phase", "failed", "word"),
    [
        (True, "running", False, "UP"),
        (True, "closed", False, "WAITING"),
        (True, "closed", True, "FAILED"),
        (False, "running", False, "UNKNOWN"),
    ],
)
def test_what_a_node_says_of_an_instance_counts_while_it_is_heard(
    alive: bool, phase: str, failed: bool, word: str
) -> None:
    """Closed, and the log does not know yet: its node's lease ended, or it could not be started."""
    bench = Bench()
    bench.lead(N1)
    bench.view("n1", ("n2",) if alive else ())
    bench.tell("n2", "reqd", report(N2, InstanceStatus(WEB, Generation(4), phase, (), "why", failed)))
    bench.tell("n1", "lockd", Applied(granted()))
    (row,) = standing(bench.status("n1")).apps
    assert (row.status, row.note) == (word, "why")


def test_a_silent_master_is_waited_for_300_ms_and_no_longer() -> None:
    bench = Bench()
    bench.lead(N1)
    bench.view("n2", ("n1", "n3"))
    bench.cut.add(N1)
    bench.tell("n2", "command-9", AskStatus(number=3))
    bench.wait(MASTER_TIME - 0.01)
    assert bench.heard("n2", "command-9", Status) == []
    bench.wait(0.02)
    (answer,) = bench.heard("n2", "command-9", Status)
    assert (answer.answered_by, answer.number) == (N2, 3)


def test_with_a_dead_master_the_answer_is_at_once() -> None:
    bench = Bench()
    bench.lead(N1)
    bench.view("n2", ("n3",))
    bench.tell("n2", "command-9", AskStatus())
    (answer,) = bench.heard("n2", "command-9", Status)
    assert answer.answered_by == N2


def test_who_was_deposed_gives_no_word_for_the_cluster() -> None:
    bench = Bench()
    bench.lead(N1)
    bench.tell("n1", "lockd", Leadership(Term(2), N3, False))
    bench.tell("n2", "command-9", AskStatus(number=8))
    (answer,) = bench.heard("n2", "command-9", Status)
    assert (answer.answered_by, answer.number) == (N2, 8)


@pytest.mark.parametrize(
    ("alive", "state", "nodes"),
    [
        (("n1", "n2"), "NO MASTER", {N1: "UP", N2: "UP", N3: "DOWN"}),
        ((), "NO QUORUM", {N1: "UP", N2: "DOWN", N3: "DOWN"}),
    ],
)
def test_the_top_line_says_quorum_and_master(alive: tuple[str, ...], state: str, nodes: dict[NodeName, str]) -> None:
    bench = Bench()
    bench.lead(None)
    bench.view("n1", alive)
    bench.tell("n1", "lockd", Applied(granted()))
    answer = bench.status("n1")
    assert (answer.state, answer.nodes) == (state, nodes)
    assert answer.notes[WEB]


def test_before_hbd_speaks_nothing_is_claimed() -> None:
    bench = Bench()
    assert bench.status("n1").nodes == {N1: "UP", N2: "UNKNOWN", N3: "UNKNOWN"}
    bench.view("n1", ("n2",))
    bench.feed("n1", Left("hbd"))
    assert bench.status("n1").nodes[N2] == "UNKNOWN"


def test_before_the_log_is_known_nothing_is_claimed_of_an_application() -> None:
    """A node that starts without the others has a log, and nobody who says how much of it counts."""
    bench = Bench()
    bench.lead(None)
    row = next(each for each in standing(bench.status("n1")).apps if each.name == WEB)
    assert row.status == "UNKNOWN" and "not known" in row.invalid, "neither stopped nor never validated"
    bench.tell("n1", "lockd", Applied(Ledger(index=Index(3))))
    row = next(each for each in standing(bench.status("n1")).apps if each.name == WEB)
    assert row.status == "DOWN" and "lha_buildapp" in row.invalid


def test_a_fence_order_shows_until_it_is_over() -> None:
    bench = Bench()
    bench.lead(N1)
    bench.view("n1", ("n2",))
    for confirmed, alive, word in ((False, (), "FENCING"), (True, (), "FENCED"), (True, ("n3",), "UP")):
        fence = Fence(N3, Index(7), (), confirmed)
        bench.tell("n1", "lockd", Applied(Ledger(fences={N3: fence}, index=Index(8))))
        bench.view("n1", alive)
        assert bench.status("n1").nodes[N3] == word


def test_reports_go_to_the_master_on_change_and_each_second() -> None:
    bench = Bench()
    bench.lead(N1)

    def sent() -> int:
        found = sum(isinstance(message, NodeStatus) for _, _, message in bench.sent)
        bench.sent.clear()
        return found

    bench.tell("n2", "reqd", report(N2))
    assert sent() == 1
    bench.tell("n2", "reqd", report(N2, lease=0.7))
    assert sent() == 0, "a lease's rest is no change"
    bench.tell("n2", "reqd", report(N2, RUNNING))
    assert sent() == 1
    bench.wait(1.0)
    bench.tell("n2", "reqd", report(N2, RUNNING))
    assert sent() == 1
    bench.lead(N3, 2)
    assert sent() == 1, "a new master is told at once"


def test_old_reports_and_reports_of_others_are_no_news() -> None:
    bench = Bench()
    bench.lead(N1)
    bench.tell("n2", "reqd", report(N2))
    bench.tell("n2", "reqd", report(N3))
    assert list(bench.status("n1").reports) == [N2]
    bench.wait(STALE)
    assert bench.status("n1").reports == {}


def test_a_silent_statd_is_named_after_a_while_by_the_master_alone() -> None:
    bench = Bench()
    bench.lead(N1)
    for node in ("n1", "n2"):
        bench.view(node, ("n1", "n2", "n3"))
    bench.tell("n1", "reqd", report(N1))
    assert bench.status("n1").silent == (), "a new master needs a moment to hear from all"
    bench.wait(STALE)
    bench.tell("n1", "reqd", report(N1))
    assert bench.status("n1").silent == (N2, N3)
    bench.view("n1", ("n2",))
    assert bench.status("n1").silent == (N2,)
    bench.cut.add(N1)
    assert bench.status("n2").silent == ()


def test_it_subscribes_to_those_that_do_not_speak_unasked() -> None:
    bench = Bench()
    for who in ("hbd", "lockd", "reqd", "command-1"):
        bench.feed("n1", Joined(who))
    assert [who for who, message in bench.told[N1] if message == Subscribe()] == ["hbd", "lockd"]


def test_a_command_with_nonsense_is_refused() -> None:
    bench = Bench()
    bench.tell("n1", "command-1", View(()))
    bench.tell("n1", "command-1", Note(event("made up")))
    assert len(bench.heard("n1", "command-1", Refused)) == 2
    assert bench.disks == {}


# ---- lha_log --------------------------------------------------------------------------------------------------------


def event(text: str, at: float = 0.0, app: str | None = None) -> EventRecord:
    return EventRecord(at, 50.0, N1, "reqd", Severity.LOG, text, AppName(app) if app else None)


def test_a_decision_is_told_once_though_all_noted_it() -> None:
    bench = Bench()
    for node in bench.cores:
        bench.tell(node, "lockd", Applied(Ledger(index=Index(3))))
    for node in bench.cores:
        bench.wait(3.0)  # far apart: the log index tells that it is the same
        bench.tell(node, "lockd", Applied(granted()))
    assert [len(disk) for disk in bench.disks.values()] == [2, 2, 2]
    assert bench.texts() == ["application 'web' is to be running", "application 'web' granted to n2 (grant 4)"]


def test_what_the_log_decided_becomes_events() -> None:
    bench = Bench(1)
    first = granted()
    web = first.apps[WEB]
    fence = Fence(N2, Index(6), (Generation(4),))
    failed = replace(
        web, grant=None, ended=Ended(N2, Generation(4), Proof.FENCED, "node n2 is off"),
        failures=(Failure(N2, Generation(4), "power cut"),), failovers=1,
    )  # fmt: skip
    states = [
        first,
        replace(first, fences={N2: fence}, index=Index(6)),
        replace(first, fences={N2: replace(fence, confirmed=True)}, index=Index(7)),
        replace(first, apps={WEB: failed}, index=Index(8), digest="abcdef0123456789"),
        replace(first, apps={WEB: replace(failed, grant=Grant(N1, Generation(9)), failovers=2)}, index=Index(9)),
        replace(first, apps={WEB: replace(failed, wanted=Wanted.STOPPED)}, index=Index(10)),
    ]
    for state in states:
        bench.tell("n1", "lockd", Applied(state))
    assert bench.texts() == [
        "node n2 is to be switched off (fence order 6)",
        "node n2 is off, confirmed by its fence device (order 6)",
        "grant 4 of application 'web' to n2 ended, proof: fenced (node n2 is off)",
        "application 'web' failed on n2: power cut",
        "fence order 6 of node n2 is over",
        "configuration abcdef01 is in force",
        "application 'web' failed over to n1 (grant 9)",
        "application 'web' is to be stopped",
    ]


def test_what_hbd_and_lockd_saw_becomes_events_and_the_start_none() -> None:
    bench = Bench()
    for node in ("n1", "n2"):
        bench.view(node, ())
    assert bench.texts() == []
    for node in ("n1", "n2"):
        bench.view(node, ("n1", "n2", "n3"))
    bench.view("n1", ("n2", "n3"), n3=False)
    bench.lead(N1)
    bench.lead(None)
    bench.view("n1", ("n2",))
    assert sorted(bench.texts()) == sorted([
        "node n2 is up",
        "node n3 is up",  # seen by two nodes within a moment: once
        "node n1 is up",
        "link lan to n3 is down",
        "n1 is the master (term 1)",
        "no master any more (it was n1)",
        "node n3 is down",
    ])  # fmt: skip


def test_histories_are_merged_by_time_and_the_missing_are_named() -> None:
    bench = Bench()
    bench.tell("n1", "reqd", Note(event("third", WALL + 3)))
    bench.tell("n2", "reqd", Note(event("first", WALL + 1)))
    bench.tell("n3", "reqd", Note(event("second", WALL + 2)))
    assert bench.texts() == ["first", "second", "third"]
    bench.view("n1", ("n3",))
    bench.silent.add(N3)
    bench.tell("n1", "command-1", AskLog(number=7))
    assert bench.heard("n1", "command-1", LogLines) == []
    bench.wait(chronicle.GATHER_TIME)
    (lines,) = bench.heard("n1", "command-1", LogLines)
    assert [each.text for each in lines.events] == ["third"]
    assert (lines.missing, lines.last, lines.number) == ((N2, N3), True, 7)


def test_limits_and_filters() -> None:
    bench = Bench()
    for number in range(30):
        bench.tell("n2", "reqd", Note(event(f"e{number}", WALL + number, "web" if number % 2 else "db")))
    assert bench.texts(request=AskLog(limit=3)) == ["e27", "e28", "e29"]
    assert bench.texts(request=AskLog(app=WEB, since=WALL + 26)) == ["e27", "e29"]


def test_a_long_history_comes_in_pieces() -> None:
    bench = Bench(1)
    for number in range(chronicle.BATCH + 5):
        bench.tell("n1", "reqd", Note(event(f"e{number}", WALL + number)))
    bench.tell("n1", "command-1", AskLog())
    pieces = bench.heard("n1", "command-1", LogLines)
    assert [(len(each.events), each.last) for each in pieces] == [(chronicle.BATCH, False), (5, True)]


def test_following_shows_new_events_of_all_nodes_once() -> None:
    bench = Bench()
    bench.tell("n2", "reqd", Note(event("old", WALL)))
    bench.tell("n1", "command-1", AskLog(follow=True, number=2))
    (history,) = bench.heard("n1", "command-1", LogLines)
    assert ([each.text for each in history.events], history.last) == (["old"], False)
    bench.tell("n3", "reqd", Note(event("new", WALL + 1)))
    bench.tell("n1", "clusterd", Note(event("here", WALL + 2)))
    bench.view("n2", ("n1", "n3"))
    bench.view("n3", ("n1", "n2"))
    for node in ("n2", "n3"):
        bench.view(node, ())
    followed = [each.text for lines in bench.heard("n1", "command-1", LogLines) for each in lines.events]
    assert followed == ["new", "here", "node n1 is down", "node n3 is down", "node n2 is down"]
    bench.wait(60.0)
    bench.tell("n3", "reqd", Note(event("much later", WALL + 60)))
    assert [each.text for lines in bench.heard("n1", "command-1", LogLines) for each in lines.events] == ["much later"]


def test_what_happens_during_the_question_is_not_lost() -> None:
    bench = Bench()
    bench.silent.add(N3)
    bench.tell("n1", "command-1", AskLog(follow=True))
    bench.tell("n2", "reqd", Note(event("meanwhile", WALL + 1)))
    bench.wait(chronicle.GATHER_TIME)
    assert [each.text for lines in bench.heard("n1", "command-1", LogLines) for each in lines.events] == ["meanwhile"]


def test_streams_end_when_the_follower_has_gone() -> None:
    bench = Bench()
    bench.tell("n1", "command-1", AskLog(follow=True))
    bench.feed("n1", Left("command-1"))
    bench.wait(chronicle.FOLLOW_TIME + 1)
    bench.sent.clear()
    bench.tell("n2", "reqd", Note(event("nobody listens")))
    bench.wait(30.0)
    assert bench.sent == []


def test_a_disk_that_hangs_bounds_what_waits_and_says_so() -> None:
    bench = Bench(1)
    bench.slow = True
    for number in range(chronicle.MAX_QUEUED + 100):
        bench.tell("n1", "reqd", Note(event(f"e{number}")))
    core = bench.cores[N1]
    assert isinstance(core, Statd)
    assert len(core._chronicle._queue) == chronicle.MAX_QUEUED


def test_too_many_questions_are_refused() -> None:
    bench = Bench()
    bench.slow = True
    for number in range(chronicle.MAX_GATHERS + 1):
        bench.tell("n1", f"command-{number}", AskLog())
    assert len(bench.heard("n1", f"command-{chronicle.MAX_GATHERS}", Refused)) == 1


def test_a_node_cannot_speak_for_another() -> None:
    bench = Bench()
    bench.tell("n1", "command-1", AskLog(follow=True))
    bench.heard("n1", "command-1", LogLines)
    forged = replace(event("forged", WALL), node=N3)
    bench.feed("n1", Received(N2, LogLines(0, (forged,))))
    assert bench.heard("n1", "command-1", LogLines) == []


def test_a_timeline_gets_each_nodes_own_word_and_a_reading_of_its_clock() -> None:
    bench = Bench()
    bench.lead(N1)  # which all of them note, with a mark
    bench.tell("n2", "reqd", Note(EventRecord(0.0, 100.0, N2, "reqd", Severity.LOG, "plain")))
    bench.tell("n3", "command-1", AskLog(limit=10, marked=True, number=6))
    bench.wait(2.0)
    (lines,) = bench.heard("n3", "command-1", LogLines)
    assert [(event.node, event.mark and event.mark.what) for event in lines.events] == [
        (node, "elected") for node in (N1, N2, N3)
    ]
    assert [(each.reader, each.node) for each in lines.readings] == [(N3, N1), (N3, N2)]
    assert all(each.asked <= each.said <= each.heard for each in lines.readings)
    assert bench.texts("n1") and not bench.heard("n1", "command-1", LogLines), "plain questions get no readings"


@pytest.mark.parametrize(("preferred", "move"), [(N1, True), (N3, True), (N3, False)])
def test_every_wish_to_move_is_noted_even_to_where_it_was_wanted_before(preferred: NodeName, move: bool) -> None:
    bench = Bench()
    before = granted().apps[WEB]
    before = replace(before, preferred=N1)
    bench.tell("n1", "lockd", Applied(Ledger(apps={WEB: before}, index=Index(4))))
    after = replace(before, preferred=preferred, move=move)
    bench.tell("n1", "lockd", Applied(Ledger(apps={WEB: after}, index=Index(5))))
    (event,) = bench.disks[N1]
    assert event.mark is not None and (event.mark.what, event.mark.node) == ("wanted", preferred)
    assert event.mark.detail == ("move" if move else "start")


def test_roles_are_what_the_log_says_and_who_is_not_there_yet_is_joining() -> None:
    bench = Bench(4)
    bench.lead(N1)
    assert set(bench.status("n1").roles.values()) == {"voter"}
    n3, n4 = NodeName("n3"), NodeName("n4")
    bench.tell("n1", "lockd", Members(Membership((N1, N2), (n3,)), True))
    assert bench.status("n1").roles == {N1: "voter", N2: "voter", n3: "joining", n4: "joining"}
    bench.view("n1", ("n2",))
    bench.lead(None)
    assert bench.status("n1").state == "NO MASTER", "two voters of two, whatever the configuration counts"
