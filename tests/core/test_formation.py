"""lha_form and lha_dissolve as conversations: every lost answer ends in a word to the operator, nothing hangs."""

from typing import Any

import pytest

from truecl.core.formation import CHECK_TIME, ELECT_TIME, STAGE_TIME, STOP_APPS_TIME, Formation, Stage
from truecl.core.outbox import Outbox
from truecl.model.actions import ConfigurationRead
from truecl.model.ids import CLUSTERD, DAEMONS, LOCKD, REQD, STATD, AppName, DaemonName, Generation, NodeName, Term
from truecl.model.ledger import AppState, Grant, Ledger
from truecl.model.report import Progress
from truecl.wire.messages import (
    AskDaemons,
    Campaign,
    DaemonsUp,
    Dissolve,
    Form,
    Leadership,
    Reply,
    Request,
    StartDaemons,
    StopDaemons,
)

from .same_daemon import configuration

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
CONFIGURATION = configuration()
ALL = tuple(daemon for daemon in DAEMONS if daemon != REQD)
WITHOUT_STATD = tuple(daemon for daemon in ALL if daemon != STATD)


class Operator:
    """Asks n1's formation, and plays the other nodes' reqds."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now
        self.out = Outbox()
        self.asked_here: list[Any] = []
        self.form = Formation(N1, CONFIGURATION, self.out, self.asked_here.append)
        self.sent: list[Any] = []
        self.told: list[tuple[str, Any]] = []
        self.reading = 0

    def ask(self, request: Form | Dissolve) -> None:
        self.form.begin("command-1", request, self.now)
        self.look()

    def look(self) -> None:
        output = self.out.take()
        self.sent += [send.message for send in output.send]
        self.told += [(tell.who, tell.message) for tell in output.tell]
        self.reading = output.do[0].id if output.do else self.reading

    def read(self) -> None:
        self.form.configuration_read(self.reading, ConfigurationRead(CONFIGURATION), self.now)
        self.look()

    def answer(self, up: tuple[DaemonName, ...], *nodes: NodeName) -> None:
        for node in nodes:
            self.form.answered(node, DaemonsUp(self.question.number, up, digest="d1"), self.now)
        self.look()

    @property
    def question(self) -> Any:
        return self.asked_here[-1]

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.form.wake(self.now)
        self.look()

    @property
    def code(self) -> int | None:
        codes = [each.code for who, each in self.told if who == "command-1" and isinstance(each, Reply)]
        return next((code for code in codes if code is not None), None)

    def lead(self) -> None:
        self.form.leadership = Leadership(Term(1), N2, False)
        self.form.lockd_joined = self.form.clusterd_joined = True
        self.form.news(self.now)
        self.look()

    def said(self) -> list[Progress]:
        return [reply.progress for _, reply in self.told if isinstance(reply, Reply) and reply.progress is not None]

    def requests(self) -> list[Request]:
        return [each for who, each in self.told if who == CLUSTERD]


def started() -> Operator:
    operator = Operator()
    operator.ask(Form())
    operator.read()
    operator.answer((), N1, N2, N3)
    assert isinstance(operator.question, StartDaemons) and operator.question.formed
    return operator


def test_forming_starts_every_daemon_everywhere_stands_and_asks_for_autostart() -> None:
    operator = started()
    operator.answer(ALL, N1, N2, N3)
    assert operator.form.stage is Stage.ELECT
    operator.lead()
    assert (LOCKD, Campaign()) in operator.told
    assert [request.verb for request in operator.requests()] == ["autostart"] and operator.code == 0


def test_autostart_waits_until_this_node_s_clusterd_is_there_to_hear_it() -> None:
    operator = started()
    operator.answer(ALL, N1, N2, N3)
    operator.form.leadership = Leadership(Term(1), N2, False)
    operator.form.news(operator.now)
    operator.look()
    assert operator.requests() == [] and operator.code is None
    operator.lead()
    assert len(operator.requests()) == 1


def test_a_node_that_does_not_answer_is_gone_on_without() -> None:
    operator = Operator()
    operator.ask(Form())
    operator.read()
    operator.answer((), N1, N2)
    operator.wait(CHECK_TIME)
    assert isinstance(operator.question, StartDaemons)
    operator.answer(ALL, N1, N2)
    operator.lead()
    assert operator.code == 0


@pytest.mark.parametrize(
    ("then", "code", "last"),
    [
        (ALL, 0, "n2 : all daemons are up now"),
        (WITHOUT_STATD, 4, "the cluster is formed; without statd on n2: "),
        (None, 4, "the cluster is formed; without n2, which does not answer: "),
    ],
)
@pytest.mark.parametrize("at_first", [WITHOUT_STATD, None])
def test_it_is_done_when_every_daemon_is_up(
    at_first: tuple[DaemonName, ...] | None, then: tuple[DaemonName, ...] | None, code: int, last: str
) -> None:
    operator = started()
    operator.answer(ALL, N1, N3)
    if at_first is not None:
        operator.answer(at_first, N2)
    else:
        operator.wait(STAGE_TIME)
    operator.lead()
    assert [request.verb for request in operator.requests()] == ["autostart"], "one daemon keeps no application waiting"
    assert operator.code is None and operator.sent[-1] == AskDaemons(operator.form._number)
    if then is not None:
        operator.form.answered(N2, DaemonsUp(operator.form._number, then), operator.now)
    operator.wait(CHECK_TIME)
    assert operator.code == code and operator.said()[-1].text.startswith(last)


def test_formed_already_and_all_up_are_two_things() -> None:
    operator = Operator()
    for daemons, code in ((ALL, 0), (WITHOUT_STATD, 4)):
        operator.lead()
        operator.ask(Form())
        operator.read()
        operator.answer(ALL, N1, N3)
        operator.answer(daemons, N2)
        assert operator.code == code and operator.said()[-1].text.startswith(
            "the cluster is formed already; n2 is its master"
        )
        operator.told.clear()


def test_less_than_a_majority_of_the_voters_is_refused() -> None:
    operator = Operator()
    operator.ask(Form())
    operator.read()
    operator.answer((), N1)
    operator.wait(CHECK_TIME)
    assert operator.code == 1


@pytest.mark.parametrize("request_", [Form(), Form(sync=True), Dissolve(), Dissolve(force=True)])
def test_with_no_answer_to_anything_it_ends_and_the_next_one_may_begin(request_: Form | Dissolve) -> None:
    operator = Operator()
    operator.ask(request_)
    for _ in range(10):
        operator.wait(STAGE_TIME)
    assert operator.code in (1, 4) and operator.form.stage is Stage.IDLE
    operator.told.clear()
    operator.ask(Dissolve())
    assert operator.code is None and isinstance(operator.question, AskDaemons)


def test_no_master_in_time_is_said_and_ends_it() -> None:
    operator = started()
    operator.answer(ALL, N1, N2, N3)
    operator.wait(ELECT_TIME)
    assert operator.code == 4


def test_a_configuration_that_is_read_too_late_begins_nothing() -> None:
    operator = Operator()
    operator.ask(Form())
    operator.wait(STAGE_TIME)
    assert operator.code == 1
    operator.read()
    assert operator.form.stage is Stage.IDLE and operator.asked_here == []


def test_an_answer_to_an_earlier_life_s_question_is_none_to_this_one() -> None:
    first = Operator(now=100.0)
    first.ask(Dissolve())
    second = Operator(now=101.0)
    second.ask(Dissolve())
    second.form.answered(N2, DaemonsUp(first.question.number, ALL), second.now)
    assert second.form._answers == {} and first.question.number < second.question.number


def running(operator: Operator) -> None:
    operator.form.ledger = Ledger(apps={AppName("web"): AppState(grant=Grant(N2, Generation(3)))})
    operator.lead()


def test_dissolving_stops_applications_first_and_only_by_force() -> None:
    operator = Operator()
    running(operator)
    operator.ask(Dissolve())
    operator.answer(ALL, N1, N2, N3)
    assert operator.code == 1
    operator.told.clear()
    operator.ask(Dissolve(force=True))
    operator.answer(ALL, N1, N2, N3)
    (request,) = operator.requests()
    assert (request.verb, request.app) == ("stop", "web")
    operator.form.reply(Reply(request.id, code=0), operator.now)
    operator.look()
    assert operator.question == StopDaemons(operator.question.number, (CLUSTERD,), formed=False)
    operator.answer(tuple(daemon for daemon in ALL if daemon != CLUSTERD), N1, N2, N3)
    operator.answer((), N1, N2, N3)
    assert operator.code == 0
    assert operator.said()[-1] == Progress("Cluster has been halted.", verbose=False), (
        "and not that an application was stopped"
    )


def test_an_application_that_never_stops_ends_the_dissolving_and_not_the_cluster() -> None:
    operator = Operator()
    running(operator)
    operator.ask(Dissolve(force=True))
    operator.answer(ALL, N1, N2, N3)
    operator.wait(STOP_APPS_TIME)
    assert operator.code == 1
    assert not any(isinstance(message, StopDaemons) for message in operator.asked_here)


def test_one_at_a_time() -> None:
    operator = Operator()
    operator.ask(Form())
    operator.form.begin("command-2", Dissolve(), operator.now)
    operator.look()
    assert ("command-2", Reply("", code=1)) in operator.told and operator.code is None


def test_nodes_come_and_go_by_lha_node_while_the_cluster_runs() -> None:
    operator = Operator()
    operator.lead()
    operator.ask(Form(sync=True))
    more = configuration(4)
    operator.form.configuration_read(operator.reading, ConfigurationRead(more), operator.now)
    operator.look()
    assert operator.code == 1
    assert any("in n4: while it runs" in each.progress.text for _, each in operator.told
               if isinstance(each, Reply) and each.progress is not None)  # fmt: skip
    operator.form.leadership = None
    operator.ask(Form(sync=True))
    operator.form.configuration_read(operator.reading, ConfigurationRead(more), operator.now)
    operator.look()
    assert isinstance(operator.question, AskDaemons), "before it is formed, the file says which nodes there are"
