"""The master's schedule for comparing copies: when it begins, what counts as the end of one, what is tried again."""

from typing import Any

import pytest
from msgspec.structs import replace

from truecl.core import ledger as ledgers
from truecl.core.outbox import Outbox
from truecl.core.situation import Situation, WallClock
from truecl.core.verification import LOOK_EVERY, ORDER_TIME, RETRY, SLACK, Verification
from truecl.model.build import Seen, Verify, verified_fact
from truecl.model.config import Replication
from truecl.model.ids import AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.ledger import (
    AnyCommand,
    Batch,
    Build,
    EndGrant,
    GiveGrant,
    MarkCopy,
    Proof,
    RaiseLevel,
    RecordBuild,
    RecordVerified,
    SetMirror,
    SetWanted,
    TakeLock,
    Wanted,
)
from truecl.model.replica import Disk, Link, ReplicaReport, Role, VolumeReport
from truecl.wire.messages import AskWork, Leadership, Nodes, NodeView, Note, View, WorkAnswer

from .mirrored import CONFIGURATION, DB, INCONSISTENT, N1, N2, N3, OUTDATED, mirror

DAY, EPOCH = 86400.0, 1.7e9
G = Generation(5)
BUILT = RecordBuild(DB, Build("", (N1, N2), {}, EPOCH - 7 * DAY))
"""A week before the clock that the bench begins with."""
RUNS = (RaiseLevel(4), SetMirror(DB, mirror()), BUILT, SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N2))
WEB = AppName("web")


class Bench:
    """n1 leads, n2 owns DB, whose copies are compared every week."""

    def __init__(self, *log: AnyCommand, verify: float = 7 * DAY, **replication: Any) -> None:
        apps = tuple(
            replace(CONFIGURATION.apps[0], name=app, replication=Replication(verify=verify, **replication))
            for app in (DB, WEB)
        )
        self.out = Outbox()
        self.situation = Situation(N1, replace(CONFIGURATION, apps=apps))
        self.situation.now = 100.0
        self.situation.wall = WallClock(EPOCH - 100.0, 3600.0)
        self.situation.leadership = Leadership(Term(1), N1, True)
        self.replicas: dict[NodeName, tuple[ReplicaReport, ...]] = {}
        self.write(*(log or RUNS))
        self.hear()
        self.verification = Verification(self.situation, self.out)
        self.kept: list[Any] = []
        self.report(Link.CONNECTED)

    def write(self, *commands: AnyCommand) -> None:
        for command in commands:
            ledger = self.situation.ledger
            self.situation.ledger = ledgers.apply(ledger, Index(ledger.index + 1), Term(1), Batch((command,)))

    def hear(self, *silent: NodeName) -> None:
        views = tuple(NodeView(node, BootId(f"b-{node}"), node not in silent, ()) for node in (N2, N3))
        self.situation.hear(View(views))

    def report(
        self, link: Link, behind: int = 0, peer: Disk = Disk.UP_TO_DATE, app: AppName = DB, node: NodeName = N2
    ) -> list[AnyCommand]:
        """The owner's word; the commands that follow."""
        volumes = (VolumeReport("d", Disk.UP_TO_DATE, peer, behind=behind),)
        grant = self.situation.ledger.apps[app].grant if app in self.situation.ledger.apps else None
        generation = grant.generation if grant is not None else Generation(0)
        word = ReplicaReport(app, Role.PRIMARY, link, False, volumes, generation=generation)
        others = tuple(each for each in self.replicas.get(node, ()) if each.app != app)
        self.replicas[node] = (*others, word)
        reports = {each: (BootId(f"b-{each}"), ()) for each in (N1, N2, N3)}
        self.situation.report(Nodes(reports, (), replicas=dict(self.replicas)))
        return self.step()

    def step(self, seconds: float = 0.0) -> list[AnyCommand]:
        self.situation.now += seconds
        commands = self.verification.step()
        output = self.out.take()
        self.kept += [each.message for each in (*output.send, *output.tell)]
        return commands

    def asked(self) -> list[str]:
        """Ids of what nodes were asked, each once."""
        works = [each for each in self.kept if isinstance(each, AskWork) and isinstance(each.work, Verify)]
        return list(dict.fromkeys(each.id for each in works))

    def answer(self, *problems: str, facts: dict[str, str] | None = None) -> list[AnyCommand]:
        self.verification.answered(WorkAnswer(self.asked()[-1], N2, Seen(problems, facts=facts or {})))
        return self.step()

    def told(self) -> str:
        return "\n".join(each.event.text for each in self.kept if isinstance(each, Note))


def begun() -> Bench:
    bench = Bench()
    bench.answer()
    bench.report(Link.VERIFYING)
    assert len(bench.asked()) == 1
    return bench


def test_a_week_after_it_was_built_the_owner_is_asked_once() -> None:
    bench = Bench()
    assert len(bench.asked()) == 1 and "are being compared, as is due" in bench.told()
    bench.step(1.5)
    assert len(bench.asked()) == 1, "the question comes again under the same id"


def test_what_was_found_goes_into_the_log_and_the_next_is_due_a_week_later() -> None:
    bench = begun()
    found = RecordVerified(DB, G, {"d": 8192})
    assert bench.report(Link.CONNECTED, behind=8192) == [found]
    assert bench.step(0.1) == [found] and len(bench.asked()) == 1, "until the log has it"
    bench.write(replace(found, at=bench.situation.date))
    assert bench.step() == [] and bench.situation.ledger.verified[DB].differing == {"d": 8192}
    bench.step(7 * DAY - 1.0)
    assert len(bench.asked()) == 1
    assert bench.verification.wakes() == [pytest.approx(bench.situation.now + 1.0)]
    bench.step(1.0)
    assert len(bench.asked()) == 2


def test_a_small_one_ends_with_its_answer() -> None:
    bench = Bench()
    assert bench.answer(facts=verified_fact(DB, {})) == [RecordVerified(DB, G, {})]
    bench.write(RecordVerified(DB, G, {}, bench.situation.date))
    bench.verification.answered(WorkAnswer(bench.asked()[-1], N2, Seen(facts=verified_fact(DB, {"d": 1}))))
    assert bench.step() == [], "an answer that comes again is no news"


def test_an_operators_own_comparison_counts_too_and_is_found_by_a_new_master() -> None:
    bench = Bench(*RUNS, RecordVerified(DB, G, {}, EPOCH))
    assert bench.asked() == []
    bench.report(Link.VERIFYING)
    bench.verification.forget()
    bench.step()
    assert bench.report(Link.CONNECTED, behind=4096) == [RecordVerified(DB, G, {"d": 4096})] and bench.asked() == []


@pytest.mark.parametrize("link", [Link.CONNECTING, Link.STANDALONE, Link.SYNC_SOURCE, Link.UNKNOWN])
def test_one_whose_connection_was_lost_is_none_and_is_tried_again_later(link: Link) -> None:
    bench = begun()
    assert bench.report(link) == [] and "was broken off: n2 is" in bench.told()
    assert bench.report(Link.CONNECTED) == [], "that it is connected again ends nothing"
    bench.step(RETRY - 1.0)
    assert len(bench.asked()) == 1
    bench.step(1.0)
    assert len(bench.asked()) == 2
    bench.answer("copies are compared only while they are connected")
    bench.step(2 * RETRY - 1.0)
    assert len(bench.asked()) == 2, "longer each time"
    bench.step(1.0)
    assert len(bench.asked()) == 3


@pytest.mark.parametrize(
    "happens",
    [
        (MarkCopy(DB, N1, OUTDATED, G, Index(2)),),
        (EndGrant(DB, G, Proof.RELEASED),),
        (EndGrant(DB, G, Proof.RELEASED), GiveGrant(DB, N2, G)),
    ],
)
def test_one_that_outlives_its_grant_or_a_mark_is_none(happens: tuple[AnyCommand, ...]) -> None:
    bench = begun()
    bench.write(*happens)
    assert bench.report(Link.CONNECTED) == [] and "was broken off" in bench.told()


def test_one_that_is_never_seen_is_none() -> None:
    bench = Bench()
    assert bench.answer() == []
    assert bench.step(ORDER_TIME - 1.0) == [] and "broken off" not in bench.told()
    assert bench.step(1.0) == [] and "n2 was not seen at it" in bench.told()


def test_an_owner_that_is_lost_ends_it() -> None:
    bench = begun()
    bench.hear(N2)
    assert bench.step() == [] and "n2 is not there" in bench.told()


@pytest.mark.parametrize(
    "log",
    [
        (RaiseLevel(3), *RUNS[1:]),
        (*RUNS[:1], SetMirror(DB, mirror(n1=OUTDATED)), *RUNS[2:]),
        (*RUNS[:1], SetMirror(DB, mirror(n1=INCONSISTENT)), *RUNS[2:]),
        (*RUNS, TakeLock("application db", "someone")),
        (*RUNS, RecordVerified(DB, G, {}, EPOCH - DAY)),
        (*RUNS[:2], RecordBuild(DB, Build("", (N1, N2), {}, EPOCH - 6 * DAY)), *RUNS[3:]),
        RUNS[:4],
    ],
    ids=["older level", "outdated", "inconsistent", "locked", "compared", "just built", "stopped"],
)
def test_it_does_not_begin_while(log: tuple[AnyCommand, ...]) -> None:
    bench = Bench(*log)
    assert bench.step(LOOK_EVERY) == [] and bench.asked() == []


def test_it_does_not_begin_without_the_peer_or_beside_another() -> None:
    for link, peer in ((Link.CONNECTING, Disk.OUTDATED), (Link.SYNC_SOURCE, Disk.INCONSISTENT)):
        bench = Bench(RaiseLevel(3), *RUNS[1:])
        bench.report(link, peer=peer)
        bench.write(RaiseLevel(4))
        assert bench.step() == [] and bench.asked() == [], link
    for busy in (Link.VERIFYING, Link.SYNC_SOURCE):
        bench = Bench(RaiseLevel(3), *RUNS[1:])
        bench.report(busy, app=WEB, node=N3)
        bench.write(RaiseLevel(4))
        assert bench.step() == [] and bench.asked() == [], f"another is {busy}"
        bench.report(Link.CONNECTED, app=WEB, node=N3)
        assert len(bench.asked()) == 1


def test_of_two_that_are_due_the_one_that_waits_longest_begins_and_then_the_other() -> None:
    older = RecordBuild(WEB, Build("", (N1, N2), {}, EPOCH - 9 * DAY))
    both = (SetMirror(WEB, mirror()), older, SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N2))
    bench = Bench(RaiseLevel(3), *RUNS[1:], *both)
    bench.report(Link.CONNECTED, app=WEB)
    bench.write(RaiseLevel(4))
    bench.step()
    assert [each.rpartition(" ")[2] for each in bench.asked()] == ["web"]
    bench.answer("no")
    assert [each.rpartition(" ")[2] for each in bench.asked()] == ["web", "db"], "one that fails holds nobody up"


@pytest.mark.parametrize(
    ("hours", "begins"),
    [((0, 60), False), ((23 * 60, 24 * 60 - 1), True), ((22 * 60, 60), True), ((23 * 60 + 14, 0), False)],
)
def test_it_begins_at_the_hours_that_the_operator_chose(hours: tuple[int, int], begins: bool) -> None:
    """EPOCH is 22:13:20 UTC, one hour less than the bench's local time."""
    assert bool(Bench(verify_between=hours).asked()) is begins


def test_without_a_wall_clock_or_a_schedule_nothing_begins_or_wakes() -> None:
    assert Bench(verify=0.0).asked() == [] and Bench(verify=0.0).verification.wakes() == []
    bench = Bench(RaiseLevel(3), *RUNS[1:])
    bench.situation.wall = None
    bench.write(RaiseLevel(4))
    assert bench.step() == [] and bench.asked() == [] and bench.verification.wakes() == []


def test_a_record_of_the_far_future_says_nothing() -> None:
    assert Bench(*RUNS, RecordVerified(DB, G, {}, EPOCH + SLACK + 1.0)).asked()
    assert not Bench(*RUNS, RecordVerified(DB, G, {}, EPOCH + SLACK - 1.0)).asked()


def test_the_record_of_what_has_no_copies_any_more_goes() -> None:
    bench = Bench(*RUNS, RecordVerified(DB, G, {}, EPOCH), SetMirror(DB, None))
    (command,) = bench.step()
    bench.write(command)
    assert bench.situation.ledger.verified == {} and bench.step() == []


def test_the_log_takes_a_record_of_the_live_grant_alone() -> None:
    bench = Bench(*RUNS, RecordVerified(DB, Generation(4), {}, EPOCH))
    assert bench.situation.ledger.verified == {}
    bench.write(RecordVerified(DB, G, {"d": 1}, EPOCH), RecordVerified(DB, G, None))
    assert bench.situation.ledger.verified[DB].node == N2, "it has copies"
