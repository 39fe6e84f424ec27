"""A node's part of lha_buildapp: each work is done once, however often it is asked for."""

from typing import Any

import pytest

from truecl.core.outbox import Outbox
from truecl.core.works import MAX_ANSWERS, MAX_WORKS, Works
from truecl.model.actions import BuildWork, WorkDone
from truecl.model.build import Grow, Look, Make, Seen
from truecl.model.ids import AppName, NodeName, Term
from truecl.wire.messages import AskWork, WorkAnswer

from .same_daemon import configuration

N1, WEB = NodeName("n1"), AppName("web")


class Node:
    def __init__(self) -> None:
        self._out = Outbox()
        self.works = Works(N1, configuration(), self._out)
        self.does: list[tuple[int, Any]] = []
        self.answers: list[WorkAnswer] = []

    def ask(self, id: str = "a", work: Any = None, newest: bool = True, here: bool = False, app: AppName = WEB) -> None:
        self.works.ask(AskWork(id, Term(1), app, work or Look()), newest, here)
        self._take()

    def done(self, number: int, seen: Seen) -> None:
        self.works.done(number, WorkDone(seen))
        self._take()

    def _take(self) -> None:
        output = self._out.take()
        self.does += [(do.id, do.action) for do in output.do]
        self.answers += [tell.message for tell in output.tell]


def test_a_question_that_comes_again_is_answered_again_and_not_done_again() -> None:
    node = Node()
    node.ask()
    node.ask()
    ((number, action),) = node.does
    assert isinstance(action, BuildWork) and action.app.name == WEB
    node.done(number, Seen(facts={"a": "b"}))
    node.ask()
    assert len(node.does) == 1
    assert node.answers == [WorkAnswer("a", N1, Seen(facts={"a": "b"}))] * 2


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"newest": False}, "there is a newer master"),
        ({"app": AppName("db")}, "has no application 'db'"),
        ({"work": Make(("data",)), "here": True}, "is active on this node"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], problem: str) -> None:
    node = Node()
    node.ask(**asked)
    assert not node.does and problem in node.answers[0].seen.problems[0]


def test_what_runs_is_looked_at_and_grows() -> None:
    node = Node()
    node.ask("a", Look(), here=True)
    node.ask("b", Grow("data", 5), here=True)
    assert [action.active for _, action in node.does] == [True, True]


def test_everything_is_bounded() -> None:
    node = Node()
    for number in range(MAX_WORKS + 1):
        node.ask(str(number))
    assert len(node.does) == MAX_WORKS and "too much at once" in node.answers[-1].seen.problems[0]
    for number, _ in list(node.does):
        node.done(number, Seen())
    for number in range(MAX_ANSWERS + 5):
        node.ask(f"later {number}", newest=False)
    node.ask("0")
    assert len(node.does) == MAX_WORKS + 1, "an answer is forgotten in the end"
