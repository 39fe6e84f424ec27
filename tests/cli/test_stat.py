"""lha_stat as the operator sees it. The goldens are in testdata; `--rewrite` writes them anew."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.cli.told import BUILDS, SILENT, Told, failed, golden, granted, instance, node_report, status
from truecl.cli.stat import main
from truecl.cli.table import table
from truecl.model.ids import AppName, Index, NodeName
from truecl.model.ledger import AppState, Ledger, Verified, Wanted
from truecl.model.mirror import Copy, CopyState, Mirror, MirrorVolume
from truecl.model.replica import Disk, Link, ReplicaReport, Role, VolumeReport
from truecl.model.standing import StepStatus, VolumeRow
from truecl.wire.messages import Part, Refused, Status

STEPS = (
    StepStatus("volume data", "storage", "active", {"device": "/dev/loop3", "size": "134217728", "type": "file"}),
    StepStatus(
        "file system /test1", "filesystem", "active",
        {"device": "/dev/loop3", "size": "134217728", "available": "99999744", "used": "21", "type": "ext3"},
    ),
    StepStatus("address 192.168.1.243", "address", "active", {"interface": "eth0"}),
    StepStatus("program web", "program", "failed", {"pid": "4711"}),
)  # fmt: skip
LONG = "an-application-with-a-name-that-nobody-wants-to-type"


def many() -> Status:
    nodes = [NodeName(f"n{number}") for number in range(1, 9)]
    apps = {AppName(f"app{number:03d}"): granted(nodes[number % 8], number + 1, number % 3) for number in range(100)}
    reports = {
        node: node_report(node, *(instance(app, each.grant.generation) for app, each in apps.items()
                                  if each.grant is not None and each.grant.node == node))
        for node in nodes
    }  # fmt: skip
    return status(
        master=nodes[0], answered_by=nodes[0], nodes=dict.fromkeys(nodes, "UP"), ledger=Ledger(apps=apps),
        reports=reports, apps=dict.fromkeys(apps, tuple(nodes)),
    )  # fmt: skip


def troubled() -> Status:
    """Everything that can be wrong at once."""
    nodes = {"a-node-with-quite-a-long-name": "UP", "n2": "FENCING", "n3": "DOWN", "n4": "FENCED", "n5": "UP"}
    apps = {
        "broken": failed(("n2", "exit code 1"), ("n5", "program 'db' ended at once (exit code 3)")),
        LONG: granted("a-node-with-quite-a-long-name", 8, 2),
        "lost": granted("n3", 9),
        "stuck": granted("a-node-with-quite-a-long-name", 10),
        "gone-from-config": granted("n5", 11),
        "stopped": AppState(),
        "waits": failed(),
    }
    first = node_report(
        "a-node-with-quite-a-long-name", instance(LONG, 8, "starting"), instance("stuck", 10, "needs fence"),
        netd="down, restarted in 2.0 s",
    )  # fmt: skip
    return status(
        master=NodeName("a-node-with-quite-a-long-name"),
        answered_by=NodeName("a-node-with-quite-a-long-name"),
        nodes={NodeName(name): word for name, word in nodes.items()},
        ledger=Ledger(apps={AppName(name): state for name, state in apps.items()}),
        reports={first.node: first},
        silent=(NodeName("n5"),),
        notes={
            AppName("lost"): "n3 is down and not known to be off: it has no fence device; "
            "switch it off and run lha_fence --confirm n3",
            AppName("waits"): "none of its nodes is up: n3",
        },
        apps={AppName(name): (NodeName("n2"), NodeName("n5")) for name in apps if name != "gone-from-config"},
    )


def alone() -> Status:
    """What a node says that has lost the others."""
    names = [NodeName(f"slack10s{number}") for number in range(1, 5)]
    return status(
        master=None, answered_by=names[1], state="NO QUORUM", reports={names[1]: node_report("slack10s2")},
        nodes={name: "UP" if name == names[1] else "DOWN" for name in names},
        notes={AppName("test1"): "1 of 4 voters are up, 3 are needed: start the other nodes"},
    )  # fmt: skip


def detailed(**changed: Any) -> Status:
    return status(
        reports={NodeName("slack10s1"): node_report("slack10s1", instance("test1", 5, steps=STEPS))}, **changed
    )


def replicated(owner: ReplicaReport, other: ReplicaReport, state: CopyState) -> Status:
    """The announcement's application, on DRBD on LVM."""
    names = (NodeName("slack10s1"), NodeName("slack10s2"))
    copies = {names[0]: Copy(CopyState.CURRENT, Index(3), 1000.0), names[1]: Copy(state, Index(8), 90000.0)}
    mirror = Mirror(7789, (MirrorVolume("data", 0, 100),), names, copies)
    replica = StepStatus("replica test1", "storage", "active", {"device": "/dev/drbd100", "type": "drbd"})
    first = node_report("slack10s1", instance("test1", 5, steps=(replica, *STEPS[1:])))
    reports = (replace(first, replicas=(owner,)), replace(node_report("slack10s2"), replicas=(other,)))
    return status(
        ledger=Ledger(apps={AppName("test1"): granted(names[0], 5)}, builds=BUILDS, mirrors={AppName("test1"): mirror}),
        volumes={AppName("test1"): (VolumeRow("data", "DRBD", "testvg/test1", "/test1", "ext3"),)},
        reports=dict(zip(names, reports, strict=True)),
    )  # fmt: skip


def syncing() -> Status:
    volume = VolumeReport("data", Disk.UP_TO_DATE, Disk.INCONSISTENT, 43.1, 12 << 10, 729.0, 76 << 20)
    other = VolumeReport("data", Disk.INCONSISTENT, Disk.UP_TO_DATE, 43.1, 12 << 10, 729.0, 76 << 20)
    return replicated(
        ReplicaReport(AppName("test1"), Role.PRIMARY, Link.SYNC_SOURCE, volumes=(volume,)),
        ReplicaReport(AppName("test1"), Role.SECONDARY, Link.SYNC_TARGET, volumes=(other,)),
        CopyState.SYNCING,
    )


def split() -> Status:
    volume = VolumeReport("data", Disk.UP_TO_DATE, behind=8192)
    return replicated(
        ReplicaReport(AppName("test1"), Role.PRIMARY, Link.STANDALONE, volumes=(volume,), split=True),
        ReplicaReport(AppName("test1"), Role.SECONDARY, Link.STANDALONE, volumes=(volume,), split=True),
        CopyState.OUTDATED,
    )


def verifying() -> Status:
    volume = VolumeReport("data", Disk.UP_TO_DATE, Disk.UP_TO_DATE, 43.1, 12 << 10, 729.0, 0)
    return replicated(
        ReplicaReport(AppName("test1"), Role.PRIMARY, Link.VERIFYING, volumes=(volume,)),
        ReplicaReport(AppName("test1"), Role.SECONDARY, Link.VERIFYING, volumes=(volume,)),
        CopyState.CURRENT,
    )


def unequal(size: int = 8192) -> Status:
    """As a comparison left them a day ago."""
    volume = VolumeReport("data", Disk.UP_TO_DATE, Disk.UP_TO_DATE, behind=size)
    known = replicated(
        ReplicaReport(AppName("test1"), Role.PRIMARY, Link.CONNECTED, volumes=(volume,)),
        ReplicaReport(AppName("test1"), Role.SECONDARY, Link.CONNECTED, volumes=(volume,)),
        CopyState.CURRENT,
    )
    verified = Verified(NodeName("slack10s1"), {"data": size} if size else {}, Index(9), 13000.0)
    return replace(known, ledger=replace(known.ledger, verified={AppName("test1"): verified}))


def not_made_yet() -> Status:
    """A volume was written into the file while the application runs."""
    known = split()
    rows = (*known.volumes[AppName("test1")], VolumeRow("log", "DRBD", "testvg/log1", "/test1/log", "ext3"))
    return replace(known, volumes={AppName("test1"): rows})


CASES: dict[str, tuple[Status, list[str]]] = {
    "announcement": (status(), []),
    "many": (many(), []),
    "troubled": (troubled(), []),
    "alone": (alone(), []),
    "no_apps": (status(apps={}, ledger=Ledger()), []),
    "app": (detailed(), ["-A", "test1"]),
    "app_syncing": (syncing(), ["-A", "test1"]),
    "app_split": (split(), ["-A", "test1"]),
    "app_not_made_yet": (not_made_yet(), ["-A", "test1"]),
    "split": (split(), []),
    "app_verifying": (verifying(), ["-A", "test1"]),
    "app_unequal": (unequal(), ["-A", "test1"]),
    "unequal": (unequal(), []),
    "app_equal": (unequal(0), ["-A", "test1"]),
    "app_never_validated": (
        status(ledger=Ledger(), invalid={AppName("test1"): "application 'test1' is not validated: ..."}),
        ["-A", "test1"],
    ),
    "app_stopped": (status(ledger=Ledger()), ["-A", "test1"]),
    "app_failed": (troubled(), ["-A", "broken"]),
    "node": (detailed(), ["-N", "slack10s1"]),
    "node_down": (troubled(), ["-N", "n3"]),
    "json": (detailed(), ["--json", "-A", "test1"]),
}


@pytest.mark.parametrize("case", CASES)
def test_looks(case: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    state, arguments = CASES[case]
    assert main(arguments, Told(statd=[[state]]), lambda: 100000.0) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    text = shown.out
    if case == "json":
        text = json.dumps(json.loads(text), indent=1) + "\n"
    assert all(line == line.rstrip() for line in text.splitlines())
    golden(f"stat_{case}.txt", text, request)


def test_the_last_column_folds_into_the_terminal_and_nothing_else_does() -> None:
    rows = [("web", "a note that is far too long for such a narrow terminal"), ("b", "short")]
    assert table(("App", "Notes"), rows, width=30).splitlines() == [
        "App  Notes",
        "web  a note that is far too",
        "     long for such a narrow",
        "     terminal",
        "b    short",
    ]
    assert len(table(("App", "Notes"), rows).splitlines()) == 3


def test_what_failed_before_it_was_validated_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    for valid, note in (("its files changed", "slack10s1: no disk"), ("", "")):
        app = replace(failed(("slack10s1", "no disk")), wanted=Wanted.STOPPED)
        ledger = replace(status().ledger, apps={AppName("test1"): app})
        known = status(ledger=ledger, invalid={AppName("test1"): valid}, notes={}, reports={})
        assert main(["--json"], Told(statd=[[known]])) == 0
        (row,) = json.loads(capsys.readouterr().out)["apps"]
        assert row["note"] == note


def test_a_cell_cannot_move_the_cursor() -> None:
    assert "\x1b" not in table(("A",), [("red \x1b[31m",)])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-A", "removed"], "lha_stat: ERROR unknown application 'removed': there is test1\n"),
        (["-A", "test1", "-N", "slack10s2"], "lha_stat: ERROR application 'test1' is not on node 'slack10s2'; "
         "lha_stat -A test1 shows where it is\n"),
        (["-A", "test2"], "lha_stat: ERROR unknown application 'test2': did you mean 'test1'?\n"),
        (["-A", "zzz"], "lha_stat: ERROR unknown application 'zzz': there is test1\n"),
        (["-N", "slack10s"], "lha_stat: ERROR unknown node 'slack10s': did you mean 'slack10s4'?\n"),
    ],
)  # fmt: skip
def test_unknown_names_get_a_suggestion(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = status().ledger
    known = status(ledger=Ledger(apps=ledger.apps | {AppName("removed"): AppState()}))
    assert main(arguments, Told(statd=[[known]])) == 1
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(
    ("told", "code", "text"),
    [
        (Told(), 3, "the truecl service does not run on this node: systemctl start truecl"),
        (Told(reqd=[[]]), 3, "no cluster on this node: lha_form forms it, or takes this node in"),
        (Told(reqd=[[Part(False, False)]]), 3, "no cluster on this node: lha_form forms it"),
        (Told(reqd=[[Part(False, True)]]), 3, "this node was removed from the cluster; 'lha_node add'"),
        (Told(statd=[[SILENT]]), 4, "did not answer"),
        (Told(statd=[[Refused("too many lha_stat at once on this node; try again")]]), 1, "too many lha_stat"),
    ],
)
def test_no_answer_says_what_helps(told: Told, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], told) == code
    assert text in capsys.readouterr().err


def test_a_node_without_a_configuration_is_told_how_to_get_one(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "cluster.yaml").unlink()
    assert main([], Told()) == 3
    shown = capsys.readouterr().err
    assert "'lha_node add' on a node of one makes a bundle for it" in shown and "'lha_init --join FILE'" in shown


def test_json_of_a_problem_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"], Told()) == 3
    shown = json.loads(capsys.readouterr().out)
    assert (shown["code"], shown["command"]) == (3, "lha_stat")
    assert shown["result"].startswith("the truecl service does not run")
