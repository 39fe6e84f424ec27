"""lha_fence from options to exit code."""

import json

import pytest

from tests.cli.told import SILENT, Told, status
from truecl.cli.fence import main
from truecl.model.actions import Power
from truecl.model.ids import NodeName
from truecl.wire.messages import AskFences, AskStatus, FencesSeen, FenceView, Reply, Request

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
