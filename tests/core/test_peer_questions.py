"""The fence-peer question from the handler to the master and back: an answer follows an entry of the log of its own."""

from typing import Any

from msgspec.structs import replace

from truecl.core.contract import Joined, Left, Noted, Output, Received, Told
from truecl.core.ledger import apply
from truecl.core.peer_questions import ASK_AGAIN, FORGOTTEN
from truecl.core.situation import WallClock
from truecl.model.ids import LOCKD, Generation, Index, Term
from truecl.model.ledger import (
    AcceptCopy,
    AnyCommand,
    Batch,
    ConfirmFence,
    EndGrant,
    GiveGrant,
    MarkCopy,
    OrderFence,
    Proof,
    SetMirror,
    SetWanted,
    Wanted,
)
from truecl.wire.messages import AskPeerOutdated, Leadership, PeerOutdated, Propose, Proposed, Refused

from .mirrored import CURRENT, DB, INCONSISTENT, N1, N2, OUTDATED, mirror
from .test_clusterd import Master

G = Generation(3)
RUNS = (SetMirror(DB, mirror()), SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N1))
ASK = AskPeerOutdated("h1", DB, G, 5.0)


class Asked(Master):
    """n1 leads and owns DB, or n2 does; handlers ask on n1, or on n2 whose clusterd passes it on."""

    def __init__(self, *log: AnyCommand) -> None:
        self.kept: list[Output] = []
        super().__init__(*(log or RUNS))
        self.feed(Joined("command-9"))
        self.kept.clear()

    def take(self, output: Output) -> Output:
        self.kept.append(output)
        return super().take(output)

    def ask(self, **change: Any) -> None:
        self.feed(Told("command-9", replace(ASK, **change)))

    def answers(self) -> list[int]:
        told = [each for output in self.kept for each in output.tell if each.who == "command-9"]
        return [each.message.code for each in told if isinstance(each.message, PeerOutdated)]

    def marks(self) -> list[MarkCopy]:
        told = [each.message for output in self.kept for each in output.tell if isinstance(each.message, Propose)]
        return [each for message in told for each in message.commands if isinstance(each, MarkCopy)]


def test_the_answer_follows_the_entry_that_calls_the_peer_outdated() -> None:
    master = Asked()
    master.ask()
    assert master.marks() == [MarkCopy(DB, N2, OUTDATED, G, Index(1), 5.0)] and master.answers() == []
    master.commit()
    assert master.ledger.mirrors[DB].copies[N2].state is OUTDATED and master.answers() == [4]


def test_one_that_is_outdated_already_is_marked_again_before_the_answer() -> None:
    master = Asked(*RUNS, MarkCopy(DB, N2, OUTDATED, G, Index(1)))
    master.ask()
    assert master.answers() == [] and master.marks() == [MarkCopy(DB, N2, OUTDATED, G, Index(4), 5.0)]
    master.commit()
    assert master.answers() == [4] and master.ledger.mirrors[DB].copies[N2].index > 4


def test_a_mark_says_since_when_by_the_wall_clock_where_that_is_known() -> None:
    master = Asked()
    master.ask(at=0.0)
    assert [each.at for each in master.marks()] == [0.0]
    master = Asked()
    master.feed(Noted(WallClock(1.7e9)))
    master.ask(at=0.0)
    assert [each.at for each in master.marks()] == [1.7e9 + master.now]


def test_an_inconsistent_copy_stays_so() -> None:
    master = Asked(SetMirror(DB, mirror(n2=INCONSISTENT)), RUNS[1], GiveGrant(DB, N1, alone=True))
    master.ask()
    master.commit()
    assert master.ledger.mirrors[DB].copies[N2].state is INCONSISTENT and master.answers() == [4]


def test_seven_where_its_node_was_fenced_as_well() -> None:
    master = Asked()
    master.hear(N2)
    master.write(OrderFence(N2, ()))
    master.write(ConfirmFence(N2, master.ledger.index))
    master.ask()
    master.commit()
    assert master.answers() == [7]


def test_no_word_at_once_where_the_grant_is_not_the_askers() -> None:
    for change in ({"generation": Generation(2)}, {"generation": Generation(9)}, {"app": "web"}):
        master = Asked()
        master.ask(**change)
        assert master.answers() == [1] and master.marks() == [], change
    ended = Asked(*RUNS, EndGrant(DB, G, Proof.EXPIRED), GiveGrant(DB, N2, G, alone=True))
    ended.ask()
    assert ended.answers() == [1]


def test_a_grant_that_ends_while_it_is_asked_for_is_answered_by_no() -> None:
    master = Asked()
    master.ask()
    master.write(EndGrant(DB, G, Proof.EXPIRED))
    master.commit()
    assert master.answers() == [1]


def test_six_where_the_askers_own_copy_is_not_current() -> None:
    bad = (*RUNS, MarkCopy(DB, N1, INCONSISTENT, G, Index(1)))
    master = Asked(*bad)
    master.ask()
    assert master.answers() == []
    master.commit()
    assert master.answers() == [6] and master.ledger.mirrors[DB].copies[N2].state is CURRENT


def test_a_mark_that_another_one_overtook_is_proposed_again() -> None:
    """The peer was called current by an entry that came in between."""
    master = Asked(*RUNS, MarkCopy(DB, N2, OUTDATED, G, Index(1)))
    master.ask()
    master.write(MarkCopy(DB, N2, CURRENT, G, Index(4)))
    cleared = master.ledger.index
    master.commit()
    assert [each.before for each in master.marks()] == [4, cleared] and master.answers() == [4]


def test_what_lockd_refuses_is_proposed_again_and_nothing_is_answered() -> None:
    master = Asked()
    master.ask()
    proposal = next(each.message for output in master.kept for each in output.tell
                    if isinstance(each.message, Propose))  # fmt: skip
    master.feed(Told(LOCKD, Proposed(proposal.number, None, "too much waits for a quorum")))
    assert master.answers() == []
    master.wait(0.2)
    assert len(master.marks()) == 2
    master.commit()
    assert master.answers() == [4]


def test_a_question_is_passed_on_until_it_is_answered_or_its_handler_is_gone() -> None:
    master = Asked()
    master.feed(Told(LOCKD, Leadership(Term(2), N2, False)))
    master.kept.clear()
    master.ask()
    master.wait(2.5 * ASK_AGAIN)

    def sent() -> list[Any]:
        return [each.message for output in master.kept for each in output.send if each.node == N2]

    assert sent().count(ASK) == 3
    master.feed(Received(N2, PeerOutdated("h1", 4, "", G)))
    assert master.answers() == [4]
    asked = len(sent())
    master.wait(2 * ASK_AGAIN)
    assert len(sent()) == asked
    master.ask(id="h2")
    master.feed(Left("command-9"))
    asked = len(sent())
    master.wait(2 * ASK_AGAIN)
    assert len(sent()) == asked


def test_the_master_answers_another_node_and_serves_a_question_once() -> None:
    master = Asked(SetMirror(DB, mirror()), SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N2))
    for _ in range(2):
        master.feed(Received(N2, ASK))
    master.commit()
    sent = [each.message for output in master.kept for each in output.send if each.node == N2]
    assert [each.code for each in sent if isinstance(each, PeerOutdated)] == [4] and len(master.marks()) == 1


def test_a_question_that_nobody_repeats_is_forgotten() -> None:
    master = Asked(SetMirror(DB, mirror()), SetWanted(DB, Wanted.RUNNING), GiveGrant(DB, N2))
    master.feed(Received(N2, ASK))
    master.wait(FORGOTTEN + 0.1)
    master.commit()
    sent = [each.message for output in master.kept for each in output.send]
    assert not any(isinstance(each, PeerOutdated) for each in sent)


def test_only_root_asks() -> None:
    master = Asked()
    master.feed(Joined("command-8", root=False))
    output = master.feed(Told("command-8", ASK))
    assert isinstance(output.tell[0].message, Refused) and master.marks() == []


def test_accepted_data_is_not_cleared_by_a_late_answer() -> None:
    """A question that was asked before the operator chose the other copy gets no word."""
    master = Asked(*RUNS, EndGrant(DB, G, Proof.RELEASED), AcceptCopy(DB, N2, "ann"))
    master.ask()
    assert master.answers() == [1]
    assert apply(master.ledger, Index(99), Term(1), Batch((MarkCopy(DB, N2, OUTDATED, G, Index(5)),))).mirrors == (
        master.ledger.mirrors
    )
