"""lha_simulate as the operator sees it. Saved inputs and goldens are in testdata; `--rewrite` writes goldens anew."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from tests.cli.told import SILENT, TESTDATA, Told, golden
from truecl.cli.simulate import main
from truecl.core.account import as_text, bare, from_text, packed
from truecl.core.fitness import PlanInput
from truecl.core.forecast import LinkFails, NodeFails, decided, forecast
from truecl.core.minutes import MAX_INPUTS
from truecl.model.ids import AppName, LinkName, NodeName, Term
from truecl.model.ledger import LeaseTiming, Proof, Watchdog
from truecl.model.membership import Membership
from truecl.model.report import Phase, WatchdogReport
from truecl.wire.messages import AskInputs, Inputs, Kept, Refused

pytestmark = pytest.mark.usefixtures("utc")
WALL = 1_795_693_000.0
SMALL, DEVICELESS, PAIR, PAIR_DEVICELESS, FENCING = (
    TESTDATA / f"simulate_{name}.json" for name in ("small", "deviceless", "pair", "pair_deviceless", "fencing")
)
"""Three nodes, n1 the master with 'db' (storage, n1 and n2) and 'web' (an address); the same without fence devices; the
same of two nodes; those without fence devices; the first with n1 being fenced by n2."""
CASES: dict[str, tuple[Path, list[str]]] = {
    "node": (SMALL, ["-N", "n1"]),
    "follower": (SMALL, ["-N", "n3"]),
    "no_device": (DEVICELESS, ["-N", "n1"]),
    "no_quorum": (PAIR_DEVICELESS, ["-N", "n2"]),
    "of_two_the_owner": (PAIR, ["-N", "n1"]),
    "of_two_the_other": (PAIR, ["-N", "n2"]),
    "no_other_node": (SMALL, ["-A", "only"]),
    "app": (SMALL, ["-A", "db"]),
    "app_elsewhere": (SMALL, ["-A", "db", "-N", "n2"]),
    "link": (SMALL, ["--link", "link1"]),
    "last_link": (PAIR, ["--link", "lan"]),
    "lost_already": (FENCING, ["-N", "n1"]),
    "json": (SMALL, ["-N", "n1", "--json"]),
}


def saved(path: Path) -> PlanInput:
    return from_text(path.read_bytes())


def kept(given: PlanInput, at: float, term: int = 3, repeats: int = 1) -> Kept:
    return Kept(WALL + at, at, Term(term), given.configuration.digest, bare(given), repeats)


def answer(*given: Kept, master: str | None = "n1", **more: Any) -> Inputs:
    configuration = saved(SMALL).configuration
    return Inputs(0, given, {configuration.digest: packed(configuration)}, master=master and NodeName(master), **more)


@pytest.mark.parametrize("case", CASES)
def test_looks(case: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    source, arguments = CASES[case]
    assert main(["--from", str(source), *arguments], Told()) == 0
    shown = capsys.readouterr()
    text = json.dumps(json.loads(shown.out), indent=1) + "\n" if case == "json" else shown.out
    assert all(line == line.rstrip() and len(line) <= 80 for line in shown.out.splitlines() if case != "json")
    golden(f"simulate_{case}.txt", text, request)


def test_the_three_things_it_must_say_well() -> None:
    def told(case: str) -> str:
        return " ".join((TESTDATA / f"simulate_{case}.txt").read_text().split())

    assert "no quorum remains" in told("no_quorum") and "1 of 2 voters are up, 2 are needed" in told("no_quorum")
    assert "has no fence device: power it off" in told("no_device")
    assert "FAILED on every node" in told("no_other_node") and "lha_startapp -A only" in told("no_other_node")


def test_a_watchdog_that_counts_proves_when_its_time_is_over() -> None:
    """In a model without fence devices, where the node of an application with storage fails."""
    given = saved(DEVICELESS)
    boot, _ = given.reports[NodeName("n1")]
    state = given.ledger.apps[AppName("db")]
    assert state.grant is not None
    grant = changed(state.grant, proofs=(*state.grant.proofs, Proof.EXPIRED_WATCHDOG), watchdog=10.0)
    apps = {**given.ledger.apps, AppName("db"): changed(state, grant=grant)}
    report = WatchdogReport(True, 10.0, True, text="a watchdog")
    for counts in (True, False):
        known = {NodeName("n1"): Watchdog(boot, 10.0, counts)}
        ledger = changed(given.ledger, apps=apps, watchdogs=known)
        watched = replace(given, ledger=ledger, watchdogs={NodeName("n1"): changed(report, survives_pause=counts)})
        read = from_text(as_text(watched))
        assert read.watchdogs == watched.watchdogs and read.ledger == ledger
        found = forecast(read, NodeFails(NodeName("n1")))
        then = {each.app: each.then for each in found.places}
        reset = [each.at for each in found.steps if each.what == "n1 was surely reset by its watchdog"]
        assert (then[AppName("db")], reset) == (("n2", [pytest.approx(32.55)]) if counts else ("", []))


@pytest.mark.parametrize("counts", [True, False])
def test_what_becomes_of_a_node_that_cannot_stop_and_of_what_else_runs_there(counts: bool) -> None:
    given, n1 = saved(DEVICELESS), NodeName("n1")
    boot, lines = given.reports[n1]
    known, state = Watchdog(boot, 10.0, counts), given.ledger.apps[AppName("db")]
    assert state.grant is not None
    if counts:
        grant = changed(state.grant, proofs=(*state.grant.proofs, Proof.EXPIRED_WATCHDOG), watchdog=10.0)
        state = changed(state, grant=grant)
    ledger = changed(given.ledger, apps={**given.ledger.apps, AppName("db"): state}, watchdogs={n1: known})
    stuck = tuple(changed(each, phase=Phase.NEEDS_FENCE) if each.app == "db" else each for each in lines)
    given = replace(
        given, me=NodeName("n2"), ledger=ledger, reports={**given.reports, n1: (boot, stuck)},
        watchdogs={n1: WatchdogReport(True, 10.0, counts)},
    )  # fmt: skip
    given = from_text(as_text(given))
    found = forecast(given, LinkFails(LinkName("link1")))
    said = [(each.what, round(each.at, 2)) for each in found.steps]
    assert ("n1 gets no lease any more, so that its watchdog resets it", 0.0) in said
    assert ("'web' is stopped on n1 by the node itself", 1.0) in said
    then = {each.app: each.then for each in found.places}
    assert then[AppName("web")] == "n2"
    if counts:
        assert ("n1 was surely reset by its watchdog", 32.55) in said and then[AppName("db")] == "n2"
    else:
        assert (
            "it moves when that is back, or on lha_fence n1 --confirm"
            in {each.app: each.why for each in found.not_done}[AppName("db")]
        )
    steps, _ = decided(given)
    assert [each.what for each in steps] == ["renew n1 no more"]


def test_time_is_reckoned_with_the_longest_lease_that_may_still_hold_by_the_log() -> None:
    given = saved(DEVICELESS)
    in_force, before = LeaseTiming(2.0, 0.1, 4.0, 0.2), LeaseTiming(3.0, 0.1, 6.0, 0.1)
    ledger = changed(given.ledger, timings=(in_force, before))
    found = forecast(replace(given, ledger=ledger), NodeFails(NodeName("n1")))
    (ended,) = [step for step in found.steps if step.what == "the lease of n1 has surely ended"]
    assert (ended.at, ended.why) == (pytest.approx(9.1), "lease 3 s, drift 0.1 s, stop allowance 6 s are over")
    alone = forecast(replace(saved(PAIR_DEVICELESS), ledger=ledger), NodeFails(NodeName("n2")))
    assert max(step.at for step in alone.steps) == 3.0


def test_of_two_nodes_one_that_is_excluded_decides_nothing_though_it_is_up() -> None:
    """n2 goes on without n1, which is back and has not caught up."""
    membership = Membership((NodeName("n1"), NodeName("n2")), excluded=NodeName("n1"))
    given = replace(saved(PAIR), me=NodeName("n2"), membership=membership)
    read = from_text(as_text(given))
    assert read.membership == membership
    found = forecast(read, NodeFails(NodeName("n2")))
    assert not found.quorum and all(not place.then for place in found.places)
    assert "n1 is excluded" in found.steps[2].why and all(each.why.endswith("start n2") for each in found.not_done)
    assert forecast(read, NodeFails(NodeName("n1"))).quorum


@pytest.mark.parametrize(
    ("bound", "why"), [({"leaving": NodeName("n1")}, "as n1 was about to leave"), ({"together": True}, "2 are needed")]
)
def test_of_two_nodes_none_goes_on_alone_while_they_may_not(bound: dict[str, Any], why: str) -> None:
    membership = Membership((NodeName("n1"), NodeName("n2")), **bound)
    found = forecast(replace(saved(PAIR), membership=membership), NodeFails(NodeName("n2")))
    assert not found.quorum and found.steps[2].why.endswith(why)


def test_whose_votes_count_is_the_logs_word() -> None:
    """Not cluster.yaml's: n3 is no voter yet."""
    membership = Membership((NodeName("n1"), NodeName("n2")), (NodeName("n3"),), together=True)
    found = forecast(replace(saved(SMALL), membership=membership), NodeFails(NodeName("n2")))
    assert not found.quorum and "1 of 2 voters are up" in found.steps[2].why


def test_replay(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    told = Told(statd=[[answer(kept(saved(SMALL), 1.0, 2, 7), kept(saved(FENCING), 9.5), master="n2")]])
    assert main(["--replay", "--last", "2"], told) == 0
    assert told.sent == [AskInputs(3)]
    golden("simulate_replay.txt", capsys.readouterr().out, request)


def test_replay_shows_as_many_as_asked_and_what_changed_before(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = saved(SMALL), saved(SMALL)
    after = type(after)(**{**vars(after), "lost": frozenset({NodeName("n3")})})
    told = Told(statd=[[answer(kept(before, 1.0), kept(after, 2.0))]])
    assert main(["--replay", "--at", "2026-11-26 12:00"], told) == 0
    out = capsys.readouterr().out
    assert "n3 is lost" in out and out.count("(term 3)") == 1
    (asked,) = told.sent
    assert asked.limit == 2 and asked.until > 0
    assert main(["--replay", "--json"], Told(statd=[[answer(kept(before, 1.0))]])) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == ["n1 is the master"]


def test_all_that_a_node_keeps_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    whole = [kept(saved(SMALL), float(number)) for number in range(MAX_INPUTS)]
    told = Told(statd=[[answer(*whole)]])
    assert main(["--replay", "--json", "--last", str(MAX_INPUTS)], told) == 0
    assert told.sent == [AskInputs(MAX_INPUTS)]
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == MAX_INPUTS and json.loads(shown[0])["at"] == WALL
    with pytest.raises(SystemExit) as ended:
        main(["--replay", "--last", str(MAX_INPUTS + 1)], Told())
    assert ended.value.code == 2 and "from 1 to 1000" in capsys.readouterr().err


def test_from_the_running_cluster_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "now.json"
    assert main(["--save", str(file)], Told(statd=[[answer(kept(saved(SMALL), 1.0))]])) == 0
    assert saved(file) == saved(SMALL)
    capsys.readouterr()
    assert main(["-N", "n1"], Told(statd=[[answer(kept(saved(SMALL), 1.0))]])) == 0
    assert capsys.readouterr().out == (TESTDATA / "simulate_node.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "replies", "code", "text"),
    [
        ([], [], 2, "what is to fail? -N NODE, --link LINK or -A APP"),
        (["--link", "a", "-N", "n1"], [], 2, "one thing fails at a time"),
        (["--replay", "-N", "n1"], [], 2, "--replay shows what was"),
        (["--last", "3", "-N", "n1"], [], 2, "go with --replay"),
        (["-N", "n9"], [answer(kept(saved(SMALL), 1.0))], 1, "unknown node 'n9': "),
        (["-A", "dbx"], [answer(kept(saved(SMALL), 1.0))], 1, "did you mean 'db'?"),
        (["--link", "x"], [answer(kept(saved(SMALL), 1.0))], 1, "unknown link 'x': there is link1, link2"),
        (["-N", "n1"], [answer(master=None)], 1, "no master at the moment"),
        (["-N", "n1"], [answer()], 1, "the master n1 has not told"),
        (["-N", "n1"], [answer(kept(saved(SMALL), 1.0), master="n2")], 1, "the master n2 has not told"),
        (["--replay"], [answer()], 1, "no decision of any master is kept"),
        (["--replay"], [answer(reason="inputs.db: disk I/O error")], 1, "disk I/O error"),
        (["--replay"], [Inputs(0, (Kept(0.0, 0.0, Term(1), "d", b"\x01"),))], 1, "written by another release"),
        (["-N", "n1"], [SILENT], 4, "did not answer"),
        (["-N", "n1"], [Refused("too many lha_simulate")], 1, "too many"),
        (["--from", "/nowhere.json", "-N", "n1"], [], 1, "/nowhere.json cannot be read"),
        (["--from", __file__, "-N", "n1"], [], 1, "is nothing that lha_simulate --save of this release wrote"),
    ],
)
def test_what_it_cannot_do_it_says(
    arguments: list[str], replies: list[object], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, Told(statd=[replies])) == code
    shown = capsys.readouterr()
    assert text in shown.err and "Traceback" not in shown.err
