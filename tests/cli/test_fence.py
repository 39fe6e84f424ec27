"""lha_fence from options to exit code."""

import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.cli.told import SILENT, Told, status
from truecl.cli.fence import main
from truecl.model.actions import Power
from truecl.model.ids import Index, NodeName
from truecl.wire.messages import (
    AskFences,
    AskStatus,
    Confirmed,
    ConfirmOff,
    FencesSeen,
    FenceView,
    Reply,
    Request,
)

N1, N2 = NodeName("slack10s1"), NodeName("slack10s2")
SEEN = FencesSeen(1, N1, N2, (FenceView(0, "fence_ipmilan", Power.ON, ""),))


def test_status_shows_what_the_devices_say(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(statd=[[status()]], reqd=[[SEEN]])
    assert main([N2, "--status"], told) == 0
    assert told.sent == [AskStatus(), AskFences(1, N1, N2)]
    assert capsys.readouterr().out.splitlines()[-1].split() == [N1, N2, "1", "fence_ipmilan", "ON"]


def test_json_has_the_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([N2, "--status", "--json"], Told(statd=[[status()]], reqd=[[SEEN]])) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert (answer["node"], answer["level"], answer["power"], answer["ok"]) == (N2, 1, "on", True)


@pytest.mark.parametrize(
    ("word", "levels", "code"),
    [
        ("UP", [(0, Power.OFF)], 1),
        ("FENCED", [(0, Power.OFF)], 0),
        ("UP", [(0, Power.OFF), (0, Power.ON)], 0),  # two feeds, one of which is off
        ("UP", [(0, Power.ON), (1, Power.OFF)], 1),
    ],
)
def test_a_device_that_calls_a_node_off_that_is_up_does_not_pass(
    word: str, levels: list[tuple[int, Power]], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = {N1: "UP", N2: word}
    seen = FencesSeen(1, N1, N2, tuple(FenceView(level, "fence_apc", power, "") for level, power in levels))
    told = Told(statd=[[replace(status(), nodes=nodes)]], reqd=[[seen]] * 2)
    assert main(["--test", N2, "--json"], told) == code
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert any(each["reason"].startswith("the node is up") for each in answers) is (code == 1)


def test_a_wish_names_the_log_that_the_operator_saw() -> None:
    told = Told(statd=[[status()]], clusterd=[[Reply("id", code=0)]])
    assert main([N2, "--off", "--yes"], told) == 0
    request = told.sent[1]
    assert isinstance(request, Request)
    assert (request.verb, request.node, request.seen) == ("off", N2, 9)


@pytest.mark.parametrize(
    ("arguments", "told", "code", "text"),
    [
        (["n9", "--status"], Told(statd=[[status()]]), 1, "unknown node 'n9'"),
        ([N2, "--status"], Told(statd=[[SILENT]]), 4, "did not answer"),
        ([N1, "--off", "--yes"], Told(statd=[[status()]]), 1, "this is slack10s1 itself"),
    ],
)
def test_how_it_ends(
    arguments: list[str], told: Told, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, told) == code
    assert text in capsys.readouterr().err


ALONE = replace(status(), state="NO QUORUM", master=None)


def typing(*lines: str) -> Callable[[], str]:
    rest = iter(lines)
    return lambda: next(rest)


def test_without_a_master_the_word_goes_to_the_log_of_this_node(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(statd=[[ALONE]], lockd=[[Confirmed(False, seen=Index(30))], [Confirmed(True)]])
    assert main([N2, "--confirm"], told, typing(f"{N2}\n")) == 0
    question, word = told.sent[1:]
    assert (question.seen, word) == (None, ConfirmOff(N2, question.operator, Index(30)))
    assert "Confirmed off by" in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "code"), [("all true\n", 0), ("yes\n", 1), ("", 1)])
def test_a_node_that_cannot_know_asks_for_more_whatever_the_options(typed: str, code: int) -> None:
    told = Told(statd=[[ALONE]], lockd=[[Confirmed(False, "", True, Index(30))], [Confirmed(True)]])
    assert main([N2, "--confirm", "--yes"], told, typing(typed)) == code
    words = [each for each in told.sent if isinstance(each, ConfirmOff) and each.seen is not None]
    assert [each.alone for each in words] == [True] * (1 - code)


def test_what_stands_against_the_word_is_said_before_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(statd=[[ALONE]], lockd=[[Confirmed(False, f"{N2} is heard, or was a moment ago: it is not off")]])
    assert main([N2, "--confirm"], told, typing()) == 1
    assert "it is not off" in capsys.readouterr().err


@pytest.mark.parametrize("lockd", [[], [[Confirmed(False, "the master takes that word", pair=False)]]])
def test_where_a_master_takes_the_word_it_goes_there(lockd: list[list[Confirmed]]) -> None:
    """There is one, or there are more than two votes."""
    seen = ALONE if lockd else status()
    told = Told(statd=[[seen]], lockd=lockd, clusterd=[[Reply("id", code=0)]])
    assert main([N2, "--confirm"], told, typing(f"{N2}\n")) == 0
    assert isinstance(told.sent[-1], Request)
