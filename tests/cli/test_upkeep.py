"""lha_node standby, resume, list and failed as the operator sees them. The goldens are in testdata."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.cli.told import Told, failed, golden, granted, instance, node_report, status
from truecl.cli import stat
from truecl.cli.node import main
from truecl.core.standing import standing
from truecl.model.ids import AppName, NodeName
from truecl.model.ledger import Ledger, Losses, Presence, Standby
from truecl.model.report import EventRecord, Mark, Moment, Progress, Severity
from truecl.wire.messages import AskLog, LogLines, Refused, Reply, Request, RotateKeys, Standing, Status

S1, S2, S3, S4 = (NodeName(f"slack10s{number}") for number in range(1, 5))
TEST1 = AppName("test1")
DAY = 1_196_000_000.0


def worked_on() -> Status:
    """In the middle of an upgrade, one node set aside, one that comes and goes, one too old."""
    base = status()
    ledger = replace(
        base.ledger, level=2,
        apps={TEST1: granted(S1, 5), AppName("db"): failed((S2, "exit code 1"), (S4, "no such volume"))},
        standby={S2: Standby("ann (lha_node)"), S4: Standby("bob (lha_node)", keep=True)},
        losses={S3: Losses(4, Presence.HELD), S4: Losses(1, Presence.BACK)},
    )  # fmt: skip
    reports = {
        name: replace(node_report(name, *([instance("test1", 5)] if name == S1 else [])), release=release)
        for name, release in ((S1, "2.1.0"), (S2, "2.1.0"), (S3, "2.0.0"))
    }
    return replace(
        base, ledger=ledger, reports=reports, held={S3: 17.2}, roles={S4: "witness", S3: "observer"},
        apps=base.apps | {AppName("db"): (S2, S4)},
        refused={S4: "slack10s4 speaks formats 4 to 5, this node 1 to 3: upgrade this node"},
    )  # fmt: skip


def failure(app: str, node: NodeName, generation: int, at: float) -> EventRecord:
    mark = Mark(Moment.FAILED, node, generation)
    return EventRecord(at, 1.0, S1, "lockd", Severity.WARN, "it failed", AppName(app), generation, mark)


HISTORY = LogLines(0, (failure("db", S2, 3, DAY), failure("db", S2, 3, DAY + 1), failure("db", S4, 9, DAY)), last=True)


def ran(told: Told, *arguments: str) -> int:
    return main(list(arguments), told)


@pytest.mark.parametrize(
    ("case", "arguments", "code"),
    [
        ("list", ["list"], 0),
        ("list_json", ["list", "--json"], 0),
        ("failed", ["failed"], 1),
        ("failed_json", ["failed", "--json"], 1),
    ],
)
@pytest.mark.usefixtures("utc")
def test_looks(
    case: str, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    assert main(arguments, Told(statd=[[worked_on()], [HISTORY]])) == code
    shown = capsys.readouterr()
    assert shown.err == ""
    text = shown.out if not case.endswith("json") else json.dumps(json.loads(shown.out), indent=1) + "\n"
    golden(f"node_{case}.txt", text, request)


def test_rotate_key_asks_syncd_and_says_how_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    done = [Reply("", Progress("every node seals with it", Severity.LOG)), Reply("", code=0)]
    told = Told(syncd=[done, [Refused("only root changes the keys")]])
    assert main(["rotate-key", "-V"], told) == 0
    assert "every node seals with it" in capsys.readouterr().out
    assert main(["rotate-key"], told) == 1
    assert "only root changes the keys" in capsys.readouterr().err
    assert told.sent == [RotateKeys()] * 2


def test_a_release_that_does_not_say_which_it_is_is_older(capsys: pytest.CaptureFixture[str]) -> None:
    reports = {
        name: replace(report, release=report.release.replace("2.0.0", ""))
        for name, report in worked_on().reports.items()
    }
    assert stat.main([], Told(statd=[[replace(worked_on(), reports=reports)]])) == 0
    told = capsys.readouterr().out
    assert (
        "WARN nodes run different releases of truecl: 2.1.0 on slack10s1, slack10s2; an older one on slack10s3" in told
    )


def test_lha_stat_shows_it_too(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    assert stat.main([], Told(statd=[[worked_on()]])) == 0
    golden("stat_worked_on.txt", capsys.readouterr().out, request)
    assert stat.main(["-N", "slack10s2"], Told(statd=[[worked_on()]])) == 0
    golden("stat_standby.txt", capsys.readouterr().out, request)


def test_where_nothing_failed_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(Told(statd=[[status()]]), "failed") == 0
    assert capsys.readouterr().out == "nothing failed\n"


def test_what_holds_up_the_cluster_is_listed_with_what_clears_it(capsys: pytest.CaptureFixture[str]) -> None:
    base = status()
    stuck = node_report(S1, instance("test1", 5, "needs fence"))
    base = replace(base, reports=base.reports | {S1: stuck}, nodes=base.nodes | {S2: "FENCING"})
    assert ran(Told(statd=[[base]]), "failed", "--json") == 1
    rows = json.loads(capsys.readouterr().out)["failed"]
    assert [(row["what"], row["node"], row["helps"]) for row in rows] == [
        ("test1", S1, f"repair it there, or lha_fence {S1} --off"),
        (S2, S2, f"if it is off for certain: lha_fence {S2} --confirm"),
    ]


def said(text: str, code: int | None = None) -> Reply:
    return Reply("id", Progress(text, Severity.LOG, verbose=False), code)


@pytest.mark.parametrize(
    ("arguments", "verb", "app", "node", "keep"),
    [
        (["standby", "slack10s2"], "standby", "", S2, False),
        (["standby", "slack10s2", "--keep"], "standby", "", S2, True),
        (["resume", "slack10s2"], "resume", "", S2, False),
        (["failed", "--clear", "test1"], "clear", "test1", None, False),
        (["failed", "--clear", "slack10s2"], "clear", "slack10s2", None, False),
    ],
)
def test_what_is_asked(
    arguments: list[str], verb: str, app: str, node: NodeName | None, keep: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told(statd=[[status()]], clusterd=[[said("Done [RC=0].", 0)]])
    assert main(arguments, told) == 0
    assert capsys.readouterr().out == "Done [RC=0].\n"
    request = told.sent[-1]
    assert isinstance(request, Request)
    assert (request.verb, request.app, request.node, request.keep) == (verb, app, node, keep)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["standby", "slack10s9"], "unknown node 'slack10s9': did you mean 'slack10s4'?"),
        (["resume", "x"], "unknown node 'x': there is slack10s1, slack10s2, slack10s3, slack10s4"),
        (["failed", "--clear", "test2"], "no application and no node is called 'test2': did you mean 'test1'?"),
    ],
)
def test_unknown_names_get_a_suggestion(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, Told(statd=[[status()]])) == 1
    assert capsys.readouterr().err == f"lha_node: ERROR {text}\n"


def test_the_history_is_asked_for_marks_alone(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(statd=[[worked_on()], [HISTORY]])
    assert ran(told, "failed") == 1
    asked = [each for each in told.sent if isinstance(each, AskLog)]
    assert [each.marked for each in asked] == [True]


def test_a_statd_of_an_older_release_says_less_and_that_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    """In an upgrade the commands of the new release meet daemons of the old one."""

    class Older(Told):
        def __call__(self, daemon: Any) -> Any:
            talk = super().__call__(daemon)
            receive = talk.receive

            def less(timeout: float | None) -> Any:
                reply = receive(timeout)
                later = ("role", "standby", "standby_by", "losses", "held", "release", "boot", "refused")
                for node in reply[1]["nodes"]:
                    for field in later:
                        del node[field]
                for app in reply[1]["apps"]:
                    del app["failures"]
                del reply[1]["level"]
                return reply

            talk.receive = less
            return talk

    old = Standing(standing(status()))
    for arguments in (["list"], ["list", "--json"], ["failed"]):
        assert main(arguments, Older(statd=[[old]])) == 0
    assert stat.main([], Older(statd=[[old]])) == 0
    assert "slack10s1  voter  UP" in capsys.readouterr().out


def test_no_ledger_no_list() -> None:
    assert ran(Told(), "list") == 3
    assert Ledger().level == 1
