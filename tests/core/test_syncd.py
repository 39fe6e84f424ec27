"""syncd: one version on every node, or none changed."""

from typing import Any

from tests.core.same_daemon import Nodes, configuration
from truecl.core import comparison, versions
from truecl.core.contract import Joined, Left, Received
from truecl.core.syncd import Syncd
from truecl.core.versions import (
    ActivatedFiles,
    ActivateFiles,
    FinishActivation,
    Gathered,
    GatherFiles,
    StagedFiles,
    StageFiles,
    difference,
    unfit,
)
from truecl.model.ids import NodeName
from truecl.model.report import Severity
from truecl.wire.messages import (
    Bring,
    Compare,
    Compared,
    Digest,
    Follow,
    NewConfiguration,
    Refused,
    Reply,
    Stage,
    Subscribe,
    Version,
)

N1, N2, N3 = ALL = tuple(NodeName(f"n{number}") for number in (1, 2, 3))


class Bench(Nodes):
    """Each node's disk is a version's name: 'v1' has files whose text it is."""

    def __init__(self, **disks: str) -> None:
        self.disks = {name: disks.get(name, "v1") for name in ALL}
        self.staged: dict[NodeName, str] = {}
        self.cannot_stage: dict[NodeName, str] = {}
        self.cannot_activate: dict[NodeName, str] = {}
        super().__init__(ALL, lambda me: Syncd(me, configuration(digest="v1")), self.perform)
        self.connect()

    def perform(self, node: NodeName, action: Any) -> Any:
        disk = self.disks[node]
        match action:
            case GatherFiles():
                if disk == "broken":
                    return Gathered(None, ("cluster.yaml:3: unknown key 'nodse'",), disk)
                files = {"cluster.yaml": "same", "apps/web.yaml": disk}
                return Gathered(configuration(digest=disk), (), disk, files, dict(files), "2026-11-22 14:03")
            case StageFiles():
                reason = self.cannot_stage.get(node, "")
                if not reason:
                    self.staged[node] = action.digest
                return StagedFiles(reason)
            case ActivateFiles():
                if node in self.cannot_activate:
                    return ActivatedFiles(None, self.cannot_activate[node])
                assert self.staged[node] == action.digest, "activated what was not staged"
                self.disks[node] = action.digest
                return ActivatedFiles(configuration(digest=action.digest))
            case FinishActivation():
                return ActivatedFiles(None)
        raise AssertionError(action)

    def compare(self, sync: bool, wait: float = 0.0) -> Compared:
        self.tell("n1", "reqd", Compare(9, ALL, sync))
        self.wait(wait)
        (answer,) = self.heard("n1", "reqd", Compared)
        assert isinstance(answer, Compared) and answer.number == 9
        return answer

    @property
    def active(self) -> dict[NodeName, str]:
        cores = {name: core for name, core in self.cores.items() if isinstance(core, Syncd)}
        return {name: core.configuration.digest for name, core in cores.items()}


def test_one_version_everywhere_is_well() -> None:
    bench = Bench()
    assert bench.compare(sync=False) == Compared(9, "v1", {})
    assert bench.staged == {}


def test_a_difference_is_told_with_version_date_and_files() -> None:
    bench = Bench(n2="v2")
    assert bench.compare(sync=False).differing == {
        N2: "has version v2 of 2026-11-22 14:03 (1 file differs: apps/web.yaml)"
    }
    assert bench.disks[N2] == "v2"


def test_sync_brings_this_nodes_version_to_all_and_tells_their_daemons() -> None:
    bench = Bench(n1="v3", n2="v2")
    bench.tell("n2", "clusterd", Subscribe())
    bench.tell("n3", "clusterd", Subscribe())
    bench.tell("n3", "lockd", Subscribe())
    bench.feed("n3", Left("lockd"))
    assert [each.configuration.digest for each in bench.heard("n2", "clusterd", NewConfiguration)] == ["v1"]
    assert bench.compare(sync=True) == Compared(9, "v3", {})
    assert set(bench.disks.values()) == set(bench.active.values()) == {"v3"}
    assert [each.configuration.digest for each in bench.heard("n2", "clusterd", NewConfiguration)] == ["v3"]
    assert [each.configuration.digest for each in bench.heard("n3", "clusterd", NewConfiguration)] == ["v1", "v3"]
    assert len(bench.heard("n3", "lockd", NewConfiguration)) == 1


def test_files_that_are_alike_but_not_in_force_are_put_in_force() -> None:
    bench = Bench(n1="v2", n2="v2", n3="v2")
    assert bench.compare(sync=False) == Compared(9, "v2", {})
    assert set(bench.active.values()) == {"v2"}


def test_a_node_that_cannot_stage_leaves_all_as_they_were() -> None:
    bench = Bench(n1="v3")
    bench.cannot_stage[N3] = "no space left"
    assert bench.compare(sync=True).differing == {N3: "no space left"}
    assert bench.disks == {N1: "v3", N2: "v1", N3: "v1"}
    assert set(bench.active.values()) == {"v1"}


def test_a_silent_node_leaves_all_as_they_were() -> None:
    bench = Bench(n1="v3")
    bench.cut.add(N2)
    assert bench.compare(sync=True, wait=comparison.STAGE_TIME).differing == {N2: "its syncd does not answer"}
    assert bench.staged == {}


def test_a_lost_question_is_asked_again() -> None:
    bench = Bench(n1="v3")
    bench.cut.add(N2)
    bench.tell("n1", "reqd", Compare(9, ALL, True))
    bench.cut.clear()
    bench.wait(comparison.RESEND)
    assert bench.heard("n1", "reqd", Compared) == [Compared(9, "v3", {})]


def test_who_does_not_confirm_is_named() -> None:
    bench = Bench(n1="v3")
    bench.cannot_activate[N2] = "read-only file system"
    assert bench.compare(sync=True).differing == {N2: "read-only file system"}


def test_problems_of_this_nodes_files_are_told_and_nobody_is_asked() -> None:
    bench = Bench(n1="broken")
    assert bench.compare(sync=True).differing == {N1: "cluster.yaml:3: unknown key 'nodse'"}
    assert bench.sent == []


def test_two_comparisons_at_once_are_one_too_many() -> None:
    bench = Bench()
    bench.cut.add(N2)
    bench.tell("n1", "reqd", Compare(9, ALL, False))
    bench.tell("n1", "reqd", Compare(10, ALL, False))
    (answer,) = bench.heard("n1", "reqd", Compared)
    assert answer.number == 10 and "another comparison" in answer.differing[N1]


def test_only_reqd_compares() -> None:
    bench = Bench()
    bench.tell("n1", "command-1", Compare(9, ALL, True))
    assert len(bench.heard("n1", "command-1", Refused)) == 1
    assert bench.sent == []


def test_names_that_lead_elsewhere_and_too_much_text_are_refused() -> None:
    assert unfit({"cluster.yaml": "", "apps/web.yaml": "", "apps/a-b_c.1.yaml": ""}) == ""
    for name in ("../x.yaml", "apps/../x.yaml", "apps/.x.yaml", "/etc/passwd", "node-key.pem", "apps/a/b.yaml", "a\n"):
        assert "no name of a configuration file" in unfit({name: ""}), name
    assert "bytes together" in unfit({"cluster.yaml": "x" * (versions.MAX_TEXT + 1)})
    bench = Bench()
    bench.feed("n2", Received(N1, Stage(1, "v9", {"../../etc/passwd": "root::0"})))
    assert bench.staged == {}


def test_differences_name_what_is_missing_and_what_is_more() -> None:
    mine = Gathered(None, digest="a" * 64, hashes={"cluster.yaml": "1", "apps/a.yaml": "1"})
    theirs = Digest(1, "b" * 64, ("apps/b.yaml:1: bad",), {"cluster.yaml": "1", "apps/b.yaml": "2"}, "", "")
    assert difference(mine, theirs) == (
        "has version bbbbbbbb (2 files differ: apps/a.yaml is missing there, apps/b.yaml is only there); "
        "with a problem: apps/b.yaml:1: bad"
    )
    assert difference(mine, Digest(1, "", ("cluster.yaml: the file is missing",))) == (
        "its configuration cannot be read: cluster.yaml: the file is missing"
    )


# ---- a command's change, and who missed it --------------------------------------------------------------------------


def bring(bench: Bench, base: str = "v1", wait: float = 0.0) -> list[Any]:
    """n1's command brings v2 to all."""
    files = {"cluster.yaml": "same", "apps/web.yaml": "v2"}
    bench.feed("n1", Joined("command-1", True))
    bench.tell("n1", "command-1", Bring(base, "v2", files, ALL))
    bench.wait(wait)
    return bench.heard("n1", "command-1", Reply)


def test_a_change_is_brought_to_all_nodes() -> None:
    bench = Bench()
    assert bring(bench) == [Reply("", code=0)]
    assert set(bench.disks.values()) == set(bench.active.values()) == {"v2"}


def test_a_change_that_began_with_another_version_changes_nothing() -> None:
    bench = Bench()
    problem, end = bring(bench, base="v0")
    assert "another version (v1) than the change began with" in problem.progress.text and end.code == 1
    assert set(bench.disks.values()) == {"v1"}


def test_a_change_leaves_a_silent_node_behind() -> None:
    bench = Bench()
    bench.cut.add(N3)
    warning, end = bring(bench, wait=comparison.STAGE_TIME)
    assert warning.progress.severity is Severity.WARN and "n3 does not answer" in warning.progress.text
    assert end.code == 0
    assert bench.active == {N1: "v2", N2: "v2", N3: "v1"}


def test_a_change_that_a_node_cannot_stage_changes_nothing() -> None:
    bench = Bench()
    bench.cannot_stage[N2] = "no space left"
    problem, end = bring(bench)
    assert problem.progress.text == "n2: no space left" and end.code == 1
    assert set(bench.active.values()) == {"v1"}


def test_only_root_changes_anything() -> None:
    bench = Bench()
    bench.tell("n1", "command-1", Bring("v1", "v2", {}, ALL))
    assert len(bench.heard("n1", "command-1", Refused)) == 1 and bench.sent == []


def test_a_node_that_is_behind_gets_the_version_in_force() -> None:
    bench = Bench(n2="v2", n3="v2")
    bench.tell("n1", "clusterd", Follow("v2"))
    assert bench.disks[N1] == bench.active[N1] == "v2"


def test_who_has_another_version_does_not_answer() -> None:
    bench = Bench()
    bench.tell("n1", "clusterd", Follow("v2"))
    assert bench.disks[N1] == bench.active[N1] == "v1"
    bench.disks[N3] = "v2"
    bench.tell("n1", "clusterd", Follow("v2"))
    assert bench.active[N1] == "v2"


def test_an_answer_that_was_not_asked_for_changes_nothing() -> None:
    bench = Bench()
    bench.feed("n1", Received(N2, Version(1, "v2", {"cluster.yaml": "other"})))
    assert bench.staged == {}
