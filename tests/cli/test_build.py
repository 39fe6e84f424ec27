"""lha_buildapp from options to exit code, and its questions."""

from typing import Any

import pytest

from tests.cli.told import Told
from truecl.cli import build
from truecl.model.build import Question
from truecl.model.report import Progress, Severity
from truecl.wire.messages import BuildWish, Reply, Request

DONE = [Reply("r", Progress("Application 'db' Validated successfully [RC=0].", verbose=False)), Reply("r", code=0)]
ASKS = [Reply("r", code=1, question=Question(("n1 : volume data: ext4 1234",), "token-1"))]


def asked(told: Told) -> list[Request]:
    return [message for message in told.sent if isinstance(message, Request)]


@pytest.mark.parametrize(
    ("options", "node", "wish"),
    [
        ([], None, BuildWish()),
        (["--create", "--force"], None, BuildWish(create=True, force=True)),
        (["--grow", "data=20G"], None, BuildWish(grow="data", size=20 << 30)),
        (["--replace", "n2"], "n2", BuildWish(replace=True)),
        (["--accept-data", "n2"], "n2", BuildWish(accept=True)),
        (["--resolve", "--keep", "n1"], "n1", BuildWish(resolve=True)),
        (["--verify"], None, BuildWish(verify=True)),
        (["--resync"], None, BuildWish(resync=True)),
    ],
)
def test_what_is_asked_of_the_master(options: list[str], node: str | None, wish: BuildWish) -> None:
    told = Told(clusterd=[DONE])
    assert build.main(["-A", "db", *options], told, lambda: "") == 0
    (request,) = asked(told)
    assert (request.verb, request.app, request.node, request.build) == ("build", "db", node, wish)
    assert request.operator.endswith("(lha_buildapp)") and request.at > 1e9


def test_what_would_be_lost_is_shown_and_the_answer_goes_with_the_same_request(capsys: Any) -> None:
    told = Told(clusterd=[ASKS, DONE])
    assert build.main(["-A", "db", "--create", "--force"], told, lambda: "db\n") == 0
    first, second = asked(told)
    assert first.build == BuildWish(create=True, force=True)
    assert second.build == BuildWish(create=True, force=True, agreed="token-1") and first.id != second.id
    shown = capsys.readouterr()
    assert "n1 : volume data: ext4 1234" in shown.err and "Type the application's name" in shown.err
    assert "Validated successfully" in shown.out


@pytest.mark.parametrize("typed", ["", "\n", "yes\n", "dbb\n"])
def test_any_other_answer_does_nothing(typed: str, capsys: Any) -> None:
    told = Told(clusterd=[ASKS])
    assert build.main(["-A", "db", "--create", "--force"], told, lambda: typed) == 1
    assert len(asked(told)) == 1 and "nothing was done: that was not 'db'" in capsys.readouterr().err


def test_a_question_that_changes_all_the_time_ends() -> None:
    told = Told(clusterd=[ASKS] * 20)
    assert build.main(["-A", "db", "--create", "--force"], told, lambda: "db\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--resolve"],
        ["--keep", "n1"],
        ["--grow", "data"],
        ["--grow", "data=1G", "--verify"],
        ["--force", "--verify"],
        ["--force", "--resync"],
        ["--verify", "--resync"],
        ["--yes"],
    ],
)
def test_wrong_usage(options: list[str]) -> None:
    try:
        code = build.main(["-A", "db", *options], Told(), lambda: "")
    except SystemExit as end:
        code = int(str(end.code))
    assert code == 2


def test_a_problem_is_told_and_is_the_exit_code(capsys: Any) -> None:
    problem = Progress("n2 : there is no user web", Severity.ERROR, verbose=False)
    told = Told(clusterd=[[Reply("r", problem), Reply("r", code=1)]])
    assert build.main(["-A", "db"], told, lambda: "") == 1
    assert capsys.readouterr().err == "lha_buildapp: ERROR n2 : there is no user web\n"


def test_control_c_says_how_to_go_on(capsys: Any) -> None:
    assert build.main(["-A", "db", "--create"], Told(clusterd=[[*DONE[:1], KeyboardInterrupt()]]), lambda: "") == 130
    assert "what is not made yet is not begun: the same command goes on" in capsys.readouterr().err
