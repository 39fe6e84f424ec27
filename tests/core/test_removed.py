"""reqd of a node that was removed: it stops all, remembers it, and forms nothing until a member takes it in again."""

from random import Random
from typing import Any

from tests.core.same_daemon import configuration
from truecl.core.assemble import build
from truecl.core.contract import Joined, Output, Put, Received, Records, Told
from truecl.model.ids import CLUSTERD, DAEMONS, REQD, BootId, NodeName
from truecl.wire.messages import AskPart, Dismiss, Form, Part, Refused, StartDaemons, StopDaemons, TakeIn

N1, N2 = NodeName("n1"), NodeName("n2")
OTHERS = tuple(daemon for daemon in DAEMONS if daemon != REQD)
COMMAND = "command-1"


class Node:
    def __init__(self, records: Records | None = None) -> None:
        self.records: Records = records or {}
        self.core = build(REQD, N2, configuration(), BootId("b"), self.records, Random(1), 10.0)
        self.core.start(10.0)

    def feed(self, event: Any) -> Output:
        output = self.core.handle(event, 11.0)
        for save in output.save:
            if isinstance(save, Put):
                self.records.setdefault(save.bucket, {})[save.key] = save.value
        return output

    def part(self) -> Part:
        self.feed(Joined(COMMAND, True))
        (answer,) = [each.message for each in self.feed(Told(COMMAND, AskPart())).tell if each.who == COMMAND]
        assert isinstance(answer, Part)
        return answer


def test_a_removed_node_knows_so_over_restarts_and_forms_nothing() -> None:
    node = Node()
    node.feed(Received(N1, StartDaemons(1, OTHERS, formed=True)))
    assert node.part() == Part(True, False)
    node.feed(Received(N1, StopDaemons(0, OTHERS, formed=False, removed=True)))
    again = Node(node.records)
    assert again.part() == Part(False, True)
    (refusal,) = [each.message for each in again.feed(Told(COMMAND, Form())).tell if each.who == COMMAND]
    assert isinstance(refusal, Refused) and "was removed from the cluster" in refusal.reason


def test_a_dissolved_cluster_does_not_make_it_forget() -> None:
    node = Node()
    node.feed(Received(N1, StopDaemons(0, OTHERS, formed=False, removed=True)))
    node.feed(Received(N1, StopDaemons(1, OTHERS, formed=False)))
    assert node.part() == Part(False, True)


def test_a_member_takes_it_in_again() -> None:
    node = Node()
    node.feed(Received(N1, StopDaemons(0, OTHERS, formed=False, removed=True)))
    node.feed(Received(N1, StartDaemons(0, OTHERS, formed=True)))
    assert node.part() == Part(True, False)


def test_the_masters_reqd_carries_the_word_to_the_other_node() -> None:
    node = Node()
    node.feed(Joined(CLUSTERD, True))
    taken = node.feed(Told(CLUSTERD, TakeIn(N1))).send
    assert [(each.node, each.message) for each in taken] == [(N1, StartDaemons(0, OTHERS, formed=True))]
    let_go = node.feed(Told(CLUSTERD, Dismiss(N1))).send
    assert [each.message for each in let_go] == [StopDaemons(0, OTHERS, formed=False, removed=True)]
