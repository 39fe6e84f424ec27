"""lha_form, lha_dissolve, lha_startapp, lha_stopapp, lha_moveapp and lha_log from options to exit code."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.told import MISSING, Told, status
from truecl.cli import dissolve, form, log, moveapp, startapp, stopapp
from truecl.cli.output import prefixed
from truecl.core import desk
from truecl.model.ids import AppName, NodeName
from truecl.model.report import EventRecord, Progress, Severity
from truecl.runtime.client import NotAllowed
from truecl.wire.messages import AskLog, Dissolve, Form, LogLines, Refused, Reply, Request

N1, N2 = NodeName("n1"), NodeName("n2")
MOMENT = time.strptime("2007-07-24 14:34:43", "%Y-%m-%d %H:%M:%S")
LINES = (
    "Verbose logging mode selected.",
    "Starting Support Daemons on slack10s1,slack10s2,slack10s3,slack10s4 ...",
    "slack10s1 : hbd YES,lockd YES,netd YES,syncd YES,statd YES",
    "Validated node 'slack10s1' is suitable for hosting application 'test1'.",
    "Attempting connection to Master Cluster Daemon on 'slack10s1' ...",
    "Attempting to mount file systems on 'slack10s1' - please wait...",
    "slack10s1 acting as current cluster master.",
)


def said(text: str, severity: Severity = Severity.LOG, verbose: bool = True) -> Reply:
    return Reply("id", Progress(text, severity, verbose))


STARTED = [
    said("File Systems mounted: OK=1, FAILED=0."),
    said("Application Started successfully [RC=0].", verbose=False),
]
END = Reply("id", code=0)


def test_lines_have_the_look_of_the_announcement() -> None:
    """Folded where the announcement folds; there a line held 57 columns, which a daemon more would not have fitted."""
    shown = [line for text in LINES for line in prefixed(MOMENT, 4279, "LOG", text)]
    assert shown == [
        "143443 [ 4279] LOG Verbose logging mode selected.",
        "143443 [ 4279] LOG Starting Support Daemons on",
        "143443 [ 4279] LOG slack10s1,slack10s2,slack10s3,slack10s4 ...",
        "143443 [ 4279] LOG slack10s1 : hbd YES,lockd YES,netd YES,syncd YES,statd YES",
        "143443 [ 4279] LOG Validated node 'slack10s1' is suitable for hosting",
        "143443 [ 4279] LOG application 'test1'.",
        "143443 [ 4279] LOG Attempting connection to Master Cluster Daemon on",
        "143443 [ 4279] LOG 'slack10s1' ...",
        "143443 [ 4279] LOG Attempting to mount file systems on 'slack10s1' - please",
        "143443 [ 4279] LOG wait...",
        "143443 [ 4279] LOG slack10s1 acting as current cluster master.",
    ]


def test_verbose_shows_each_step_under_the_date(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(clusterd=[[*STARTED, END]])
    assert startapp.main(["-A", "web", "-N", "n2", "-V"], told) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Date: \d{4}/\d\d/\d\d", lines[0])
    assert all(re.match(r"\d{6} \[ *\d+\] LOG ", line) for line in lines[1:])
    assert [line.split("LOG ")[1] for line in lines[1:]] == [
        "File Systems mounted: OK=1, FAILED=0.", "Application Started successfully [RC=0].",
    ]  # fmt: skip
    (request,) = told.sent
    assert isinstance(request, Request)
    assert (request.verb, request.app, request.node) == ("start", "web", N2)
    assert request.operator.endswith("(lha_startapp)")


def test_quiet_shows_the_result_and_problems_alone(capsys: pytest.CaptureFixture[str]) -> None:
    replies = [*STARTED[:1], said("no configured timeout", Severity.WARN), *STARTED[1:], END]
    assert startapp.main(["-A", "web"], Told(clusterd=[replies])) == 0
    shown = capsys.readouterr()
    assert shown.out == "Application Started successfully [RC=0].\n"
    assert shown.err == "lha_startapp: WARN no configured timeout\n"


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert stopapp.main(["-A", "web", "--json"], Told(clusterd=[[*STARTED, END]])) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {key: shown[key] for key in ("command", "code", "result")} == {
        "command": "lha_stopapp", "code": 0, "result": "Application Started successfully [RC=0].",
    }  # fmt: skip
    assert [line["severity"] for line in shown["lines"]] == ["LOG", "LOG"]


NO_MASTER = said(desk.NO_MASTER, Severity.WARN)
TAKEN = said("n2 is the master, and has the request")
REFUSAL = [said("unknown application 'wbe'; configured: web", Severity.ERROR, False), Reply("id", code=1)]


@pytest.mark.parametrize(
    ("run", "arguments", "told", "code", "text"),
    [
        (startapp, ["-A", "web"], Told(), 3, "systemctl start truecl"),
        (startapp, ["-A", "web"], Told(reqd=[[]]), 3, "lha_form forms it"),
        (form, [], Told(), 3, "systemctl start truecl"),
        (startapp, ["-A", "web", "-t", "2"], Told(clusterd=[STARTED[:1]]), 4, "not finished within 2 s; it goes on"),
        (startapp, ["-A", "web", "-t", "2"], Told(clusterd=[[NO_MASTER]]), 4, "within 2 s: no master took it"),
        (startapp, ["-A", "web", "-t", "2"], Told(clusterd=[[NO_MASTER, TAKEN]]), 4, "within 2 s; it goes on"),
        (startapp, ["-A", "web", "-t", "2"], Told(clusterd=[[]]), 4, "within 2 s; it goes on"),
        (stopapp, ["-A", "web", "--no-wait"], Told(clusterd=[[NO_MASTER]]), 4, "no master took it"),
        (stopapp, ["-A", "web"], Told(clusterd=[[Refused("only root starts, stops and moves applications")]]), 1,
         "only root"),
        (moveapp, ["-A", "tset1"], Told(clusterd=[REFUSAL], statd=[[status()]]), 1, "did you mean 'test1'?"),
        (moveapp, ["-A", "test1", "-N", "slack10s9"], Told(clusterd=[REFUSAL], statd=[[status()]]), 1,
         "lha_moveapp: ERROR did you mean 'slack10s4'?\n"),
        (moveapp, ["-A", "wbe"], Told(clusterd=[REFUSAL]), 1, "unknown application 'wbe'; configured: web"),
        (form, ["--no-wait"], Told(reqd=[STARTED[:1]]), 0, ""),
        (dissolve, [], Told(reqd=[[NotAllowed("you may not")]]), 1, "you may not"),
        (moveapp, ["-A", "web"], Told(clusterd=[[*STARTED[:1], MISSING], [END]]), 3, "it may go on"),
    ],
)  # fmt: skip
def test_how_it_ends(
    run: Any, arguments: list[str], told: Told, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(arguments, told) == code
    shown = capsys.readouterr()
    assert text in shown.err
    assert "Traceback" not in shown.err


def test_a_daemon_that_is_restarted_is_asked_again_with_the_same_id(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(clusterd=[[*STARTED[:1], MISSING], [MISSING], [*STARTED[1:], END]])
    assert startapp.main(["-A", "web"], told) == 0
    assert len(told.sent) == 3 and len({request.id for request in told.sent}) == 1
    assert "asking again" in capsys.readouterr().err


def test_options_reach_the_daemons() -> None:
    told = Told(reqd=[[END]] * 4)
    for run, arguments in ((form, []), (form, ["--sync"]), (dissolve, []), (dissolve, ["--force"])):
        assert run.main(arguments, told) == 0
    assert told.sent == [Form(), Form(True), Dissolve(), Dissolve(True)]


@pytest.mark.parametrize(
    "arguments", [[], ["-A", "web", "-t", "0"], ["-A", "web", "--timeout=soon"], ["-A", "web", "x"]]
)
def test_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        startapp.main(arguments, Told())
    assert end.value.code == 2
    assert "usage: lha_startapp" in capsys.readouterr().err


def test_control_c_says_that_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert startapp.main(["-A", "web"], Told(clusterd=[[*STARTED[:1], KeyboardInterrupt()]])) == 130
    assert capsys.readouterr().err == "interrupted; the operation goes on\n"


# ---- lha_log --------------------------------------------------------------------------------------------------------


def event(at: float, text: str, severity: Severity = Severity.LOG) -> EventRecord:
    return EventRecord(at, 12.5, N1, "lockd", severity, text, AppName("web"), 7)


def test_log_shows_dates_lines_and_who_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    midnight = time.mktime(time.strptime("2026-11-22", "%Y-%m-%d"))
    answer = [
        LogLines(0, (event(midnight - 0.5, "one"), event(midnight + 0.25, "two\x1b[0m", Severity.WARN))),
        LogLines(0, (), True, (N2,)),
    ]
    told = Told(statd=[answer])
    assert log.main(["-n", "20", "-A", "web"], told) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "Date: 2026/11/21", "235959.500 n1 lockd LOG one", "Date: 2026/11/22", "000000.250 n1 lockd WARN two [0m",
    ]  # fmt: skip
    assert shown.err == "lha_log: WARN n2 did not answer; their events are missing\n"
    assert told.sent == [AskLog(0.0, 20, False, AppName("web"))]


@pytest.mark.parametrize("more", [[], ["-f"], ["--timeline"]])
def test_log_of_an_unknown_application_says_that_there_is_none(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told(statd=[[LogLines(0, (), "-f" not in more)], [status()]])
    assert log.main(["-A", "tset1", *more], told) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "lha_log: ERROR unknown application 'tset1': did you mean 'test1'?\n")


def test_log_of_an_application_of_which_there_is_no_history_yet_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert log.main(["-A", "test1"], Told(statd=[[LogLines(0, (), True)], [status()]])) == 0
    assert log.main(["-A", "test1"], Told(statd=[[LogLines(0, (), True)]])) == 0, "nobody can say what there is"
    assert capsys.readouterr() == ("", "")


def test_log_json_is_a_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    assert log.main(["--json"], Told(statd=[[LogLines(0, (event(1.0, "one"),), True, (N2,))]])) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["text"], first["index"], second) == ("one", 7, {"missing": ["n2"]})


def test_since() -> None:
    noon = time.mktime(time.strptime("2026-11-22 12:00", "%Y-%m-%d %H:%M"))
    assert log.since("2h", noon) == noon - 7200
    assert log.since("30s", noon) == noon - 30
    assert log.since("2026-11-22 11:30", noon) == noon - 1800
    assert log.since("11:59", noon) == noon - 60
    with pytest.raises(SystemExit) as end:
        log.main(["--since", "yesterday"], Told())
    assert end.value.code == 2


# ---- as processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2000, 1])
def test_a_reader_that_goes_away_is_no_problem(number: int) -> None:
    """`lha_log -f | head -1`, which is found by a write or, when nothing more happens, without one."""
    code = (
        "import sys\n"
        "from truecl.cli import log\n"
        "from tests.cli.told import Told\n"
        "from tests.cli.test_operations import event, LogLines\n"
        f"lines = [LogLines(0, tuple(event(float(n), 'x' * 300) for n in range({number})))]\n"
        "sys.exit(log.main(['-f'], Told(statd=[lines])))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1


def test_commands_start_without_what_is_slow_to_import() -> None:
    """lha_stat must feel instant. A list of what it must not import says that without a clock."""
    names = ("stat", "log", "form", "dissolve", "startapp", "stopapp", "moveapp")
    code = f"import sys, {', '.join(f'truecl.cli.{name}' for name in names)}\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    slow = ("twisted", "scapy", "pyroute2", "cryptography", "tabulate", "yaml", "sqlite3", "asyncio", "difflib",
            "msgspec", "typing_extensions", "dataclasses", "inspect", "pathlib", "uuid", "decimal")  # fmt: skip
    assert [name for name in slow if name in loaded] == []
