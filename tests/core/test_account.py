"""What the master decided upon: told once, counted, without secrets; kept by statd and found on all nodes."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from tests.core.same_daemon import Nodes, configuration
from tests.core.test_clusterd import Master
from truecl.core import minutes
from truecl.core.account import Account, Unreadable, as_text, bare, from_text, joined, packed
from truecl.core.chronicle import FindEvents, Found, Recorded, RecordEvents
from truecl.core.contract import Joined, Left, Told
from truecl.core.fitness import PlanInput
from truecl.core.minutes import FindInputs, FoundInputs, KeepInputs
from truecl.core.outbox import Outbox
from truecl.core.planner import plan
from truecl.core.statd import Statd
from truecl.model.config import FenceConfig, Program
from truecl.model.ids import LOCKD, STATD, BootId, NodeName, Term
from truecl.model.ledger import Ledger
from truecl.model.membership import Membership
from truecl.wire.messages import AskInputs, Decided, Inputs, Kept, Leadership, Members, NodeView, Refused, View

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))


def situation(*lost: NodeName, digest: str = "d1") -> PlanInput:
    alive = frozenset({N1, N2, N3} - set(lost))
    return PlanInput(
        N1, configuration(digest=digest), Ledger(), alive, frozenset(), frozenset(lost), {}, frozenset(), {}
    )


def with_secrets() -> PlanInput:
    given = situation()
    (app,), cluster = given.configuration.apps, given.configuration.cluster
    program = Program(name="p", run=("/bin/p", "--password=hidden1"), environment={"TOKEN": "hidden2"})
    fence = FenceConfig(agent="fence_x", parameters={"password": "hidden3"})
    nodes = (changed(cluster.nodes[0], fence=((fence,),)), *cluster.nodes[1:])
    secret = changed(
        given.configuration, cluster=changed(cluster, nodes=nodes), apps=(changed(app, programs=(program,)),)
    )
    return replace(given, configuration=secret)


class Listener:
    def __init__(self) -> None:
        self.out = Outbox()
        self.account = Account(self.out)

    def told(self) -> list[Decided]:
        return [tell.message for tell in self.out.take().tell]


def test_what_is_told_leads_to_the_same_plan_and_holds_no_secret() -> None:
    given = with_secrets()
    assert b"hidden" not in bare(given) + packed(given.configuration) + as_text(given)
    for again in (joined(bare(given), packed(given.configuration)), from_text(as_text(given))):
        assert plan(again) == plan(given) and again.alive == given.alive
        assert again.configuration.cluster.nodes[0].fence != ()


@pytest.mark.parametrize("damaged", [b"", b"\x01", b"{}", b'{"me": 1}', b"\xff" * 40])
def test_what_cannot_be_read_says_so(damaged: bytes) -> None:
    with pytest.raises(Unreadable):
        joined(damaged, damaged)
    with pytest.raises(Unreadable):
        from_text(damaged)


def test_the_same_in_a_row_is_told_once_and_counted() -> None:
    listener = Listener()
    listener.account.begin(listened=True)
    for _ in range(3):
        listener.account.decided(situation(), Term(1), 5.0)
    (first,) = listener.told()
    assert first.configuration and first.repeats == 0
    listener.account.decided(situation(N2), Term(1), 6.0)
    (second,) = listener.told()
    assert (second.repeats, second.uptime) == (3, 6.0)


def test_the_configuration_is_told_when_it_is_new_or_statd_is() -> None:
    listener = Listener()
    listener.account.decided(situation(), Term(1), 1.0)
    assert listener.told() == [], "nobody listens"
    listener.account.begin(listened=True)
    given = situation()
    listener.account.decided(given, Term(1), 1.0)
    listener.account.decided(replace(given, lost=frozenset({N2})), Term(1), 2.0)
    listener.account.decided(situation(digest="d2"), Term(1), 3.0)
    assert [bool(told.configuration) for told in listener.told()] == [True, False, True]
    listener.account.begin(listened=True)
    listener.account.decided(situation(digest="d2"), Term(1), 4.0)
    assert [(bool(told.configuration), told.repeats) for told in listener.told()] == [(True, 0)]


def test_a_master_tells_its_statd_as_long_as_it_is_there() -> None:
    master = Master()
    master.feed(Joined(STATD))
    (told,) = master.told(STATD, Decided)
    assert joined(told.input, told.configuration).me == N1
    members = Membership((N1, N2), (N3,))
    master.feed(Told(LOCKD, Members(members, True)))
    master.hear(N3)
    *_, later = master.told(STATD, Decided)
    assert joined(later.input, told.configuration).membership == members
    master.feed(Left(STATD))
    master.hear(N3)
    assert master.told(STATD, Decided) == []


# ---- statd ----------------------------------------------------------------------------------------------------------


class Bench(Nodes):
    """Three statds; what they keep comes to the disk at once unless `slow`."""

    def __init__(self) -> None:
        self.disks: dict[NodeName, list[KeepInputs]] = {}
        self.slow = False
        super().__init__(["n1", "n2", "n3"], lambda me: Statd(me, configuration()), self.perform)
        self.connect()
        for name in self.cores:
            self.tell(name, "lockd", Leadership(Term(1), N1, name == N1))

    def perform(self, node: NodeName, action: Any) -> Any:
        match action:
            case RecordEvents():
                return Recorded(action.events)
            case FindEvents():
                return Found()
            case KeepInputs():
                self.disks.setdefault(node, []).append(action)
                return None if self.slow else FoundInputs()
            case FindInputs():
                kept = self.disks.get(node, [])
                inputs = [each for action in kept for each in action.inputs]
                known = {digest: text for action in kept for digest, text in action.configurations.items()}
                return FoundInputs(tuple(inputs[-action.limit :]), known)

    def decides(self, node: NodeName, term: int, uptime: float, repeats: int = 0) -> None:
        given = situation()
        self.tell(
            node, "clusterd", Decided(Term(term), uptime, bare(given), "d1", packed(given.configuration), repeats)
        )

    def answer(self, node: NodeName, request: AskInputs) -> Inputs:
        self.tell(node, "command-1", request)
        self.wait(2.0)
        (found,) = self.heard(node, "command-1", Inputs)
        assert isinstance(found, Inputs)
        return found


def test_every_node_finds_what_every_master_decided_in_the_order_of_terms() -> None:
    bench = Bench()
    bench.decides(N2, 5, 1.0)
    bench.decides(N1, 3, 70.0)
    bench.decides(N1, 3, 60.0)
    for node in (N1, N2, N3):
        found = bench.answer(node, AskInputs(10, number=4))
        assert [(each.term, each.uptime) for each in found.inputs] == [(3, 60.0), (3, 70.0), (5, 1.0)]
        assert (found.number, found.master, found.missing, list(found.configurations)) == (4, N1, (), ["d1"])
    assert [each.uptime for each in bench.answer(N3, AskInputs(1)).inputs] == [1.0]


def test_a_node_that_is_silent_is_named() -> None:
    bench = Bench()
    bench.tell(N1, "hbd", View(tuple(NodeView(node, BootId("b"), node != N2, ()) for node in (N2, N3))))
    bench.cut.add(N3)
    found = bench.answer(N1, AskInputs())
    assert found.missing == (N2, N3)


def test_how_often_reaches_the_disk_whether_it_waits_or_not() -> None:
    bench = Bench()
    bench.decides(N1, 1, 1.0)
    bench.decides(N1, 1, 2.0, repeats=4)
    assert [(len(each.inputs), each.repeats) for each in bench.disks[N1]] == [(1, 0), (1, 4)]
    bench.slow = True
    bench.decides(N1, 1, 3.0)
    bench.decides(N1, 1, 4.0)
    bench.decides(N1, 1, 5.0, repeats=9)
    assert len(bench.disks[N1]) == 3, "one at a time"


def test_queue_questions_and_answers_are_bounded() -> None:
    bench = Bench()
    bench.slow = True
    for number in range(3 * minutes.MAX_QUEUED):
        bench.decides(N1, 1, float(number))
    assert len(bench.disks[N1]) == 1
    bench.cut |= {N2, N3}
    for number in range(minutes.MAX_QUESTIONS + 1):
        bench.tell(N1, f"command-{number}", AskInputs())
    assert bench.heard(N1, f"command-{minutes.MAX_QUESTIONS}", Refused)
    large = tuple(Kept(0.0, float(number), Term(1), "d", b"x" * 100_000) for number in range(20))
    found = minutes.fitting(FoundInputs(large, {"d": b"y" * 100_000}))
    assert [each.uptime for each in found.inputs] == [16.0, 17.0, 18.0, 19.0]
