"""The configuration's files on one node: staged, put in force, kept."""

from pathlib import Path

import pytest

from truecl.config.reader import digest, read
from truecl.core.versions import ActivatedFiles
from truecl.model.ids import NodeName
from truecl.runtime.versions import Versions

CLUSTER = """\
cluster: demo
links: [lan]
nodes:
  n1: {lan: 10.0.0.1}
  n2: {lan: 10.0.0.2}
  n3: {lan: 10.0.0.3}
"""
WEB = "nodes: [n1, n2]\nprograms:\n  web: {run: /bin/sleep 1000}\n"
OLD = {"cluster.yaml": CLUSTER, "apps/web.yaml": WEB, "apps/old.yaml": WEB.replace("web:", "old:")}
NEW = {"cluster.yaml": CLUSTER + "# another text\n", "apps/web.yaml": WEB, "apps/db.yaml": WEB}


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    directory = tmp_path / "etc"
    (directory / "apps").mkdir(parents=True)
    for name, text in OLD.items():
        (directory / name).write_text(text)
    return directory


def versions(etc: Path) -> Versions:
    state = etc.parent / "state"
    state.mkdir(exist_ok=True)
    return Versions(NodeName("n1"), etc, state)


def on_disk(directory: Path) -> dict[str, str]:
    files = [*directory.glob("*"), *(directory / "apps").glob("*")]
    return {str(each.relative_to(directory)): each.read_text() for each in files if each.is_file()}


def test_what_is_gathered_says_all_that_a_comparison_needs(etc: Path) -> None:
    found = versions(etc).gather()
    assert (found.digest, found.files, found.problems) == (digest(OLD), OLD, ())
    assert found.configuration is not None and found.configuration.digest == digest(OLD)
    assert sorted(found.hashes) == sorted(OLD) and found.changed
    (etc / "cluster.yaml").write_text("nodse: 1\n")
    broken = versions(etc).gather()
    assert broken.configuration is None and broken.problems


def test_stage_and_activate(etc: Path) -> None:
    node = versions(etc)
    assert node.stage(digest(NEW), NEW).reason == ""
    assert on_disk(etc) == OLD, "nothing changes before the activation"
    assert node.activate(digest(NEW)) == ActivatedFiles(read(NEW)[0])
    assert on_disk(etc) == NEW
    assert node.activate(digest(NEW)) == ActivatedFiles(read(NEW)[0])
    assert node.finish() == ActivatedFiles(None)
    (kept,) = (etc.parent / "state" / "former").iterdir()
    assert on_disk(kept) == OLD


def test_what_could_not_be_activated_is_not_staged(etc: Path) -> None:
    node = versions(etc)
    assert "another digest" in node.stage("0" * 64, NEW).reason
    broken = NEW | {"apps/web.yaml": "nodes: [n9]\n"}
    assert "apps/web.yaml:1" in node.stage(digest(broken), broken).reason
    strange = Versions(NodeName("n7"), etc, etc.parent / "state").stage(digest(NEW), NEW)
    assert strange.reason == "the new version does not name n7 among its nodes"
    assert "not staged" in node.activate(digest(NEW)).reason
    assert on_disk(etc) == OLD


def test_an_activation_that_a_crash_cut_short_is_finished(etc: Path) -> None:
    node = versions(etc)
    assert node.stage(digest(NEW), NEW).reason == ""
    # As after a crash between the marker and the last file.
    (etc.parent / "state" / "activating").write_text(digest(NEW))
    (etc / "apps/db.yaml").write_text(NEW["apps/db.yaml"])
    assert versions(etc).finish() == ActivatedFiles(read(NEW)[0])
    assert on_disk(etc) == NEW
    assert versions(etc).finish() == ActivatedFiles(None)


def test_a_former_version_is_kept_no_longer_than_ten_others(etc: Path) -> None:
    node = versions(etc)
    for number in range(12):
        files = {"cluster.yaml": CLUSTER + f"# {number}\n"}
        assert node.stage(digest(files), files).reason == ""
        assert node.activate(digest(files)).reason == ""
    assert len(list((etc.parent / "state" / "former").iterdir())) == 10
