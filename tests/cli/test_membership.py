"""lha_node add and remove, from options to exit code: what is written, what is told to whom, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.told import Told, status
from truecl.cli.node import main
from truecl.commands.bundle import unpack
from truecl.commands.init import Environment, InitRequest, init, join
from truecl.config.reader import read
from truecl.model.ids import NodeName
from truecl.model.report import Progress
from truecl.runtime.credentials import CA_KEY, Credentials
from truecl.runtime.files import gather
from truecl.wire.messages import AskStatus, Bring, Refused, Reply, Request

N1, N2, N3, N5 = (NodeName(f"n{number}") for number in (1, 2, 3, 5))
DONE = [Reply("", code=0)]
ADDRESSES = ["--address", "lan=10.0.0.5", "--address", "ring=10.1.0.5"]


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """n1, where lha_init made a cluster of three, with an application."""
    directory = tmp_path / "etc"
    monkeypatch.setenv("TRUECL_ETC", str(directory))
    nodes = tuple((name, (f"10.0.0.{number}", f"10.1.0.{number}")) for number, name in enumerate((N1, N2, N3), 1))
    init(Environment(directory, 1.0, None), InitRequest("demo", nodes, N1))
    (directory / "apps" / "web.yaml").write_text("nodes: [n1, n2]\nprograms: {web: {run: [/bin/web]}}\n")
    return directory


def told(*requests: list[Any], brought: list[Any] | None = None) -> Told:
    """`requests`: what clusterd says to each."""
    return Told(statd=[[status()]], syncd=[brought or DONE], clusterd=list(requests))


def test_a_bundle_is_made_the_configuration_brought_and_the_master_asked(
    etc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = told(DONE, [Reply("", Progress("Node 'n5' Added successfully, it votes [RC=0].", verbose=False), 0)])
    assert main(["add", N5, *ADDRESSES], node) == 0
    asked, bring, configure, add = node.sent
    assert isinstance(asked, AskStatus) and isinstance(bring, Bring)
    assert isinstance(configure, Request) and isinstance(add, Request)
    configuration, problems = read(bring.files)
    assert configuration is not None, problems
    assert configuration.cluster.node(N5).addresses == {"lan": "10.0.0.5", "ring": "10.1.0.5"}
    assert bring.nodes == (N1, N2, N3) and bring.digest == configure.digest == configuration.digest
    assert (configure.verb, add.verb, add.node) == ("configure", "add", N5)
    out = capsys.readouterr().out
    assert "on n5: lha_init --join n5.tar, then systemctl start truecl" in out and "Added successfully" in out


def test_the_bundle_makes_a_node_that_never_founds_a_cluster(etc: Path, tmp_path: Path) -> None:
    node = told(DONE, DONE)
    main(["add", N5, *ADDRESSES], node)
    bundle, there = etc / "bundles" / "n5.tar", tmp_path / "n5"
    assert bundle.stat().st_mode & 0o777 == 0o600
    join(Environment(there, 1.0, None), bundle)
    own = Credentials.load(there, 1.0)
    assert (own.node, own.cluster, own.founder) == (N5, "demo", False)
    assert Credentials.load(etc, 1.0).founder
    bring = node.sent[1]
    assert {name: text.decode() for name, text in gather(there).items()} == bring.files
    assert CA_KEY not in unpack(bundle)


def test_the_same_command_again_goes_on(etc: Path) -> None:
    node = told(DONE, DONE)
    main(["add", N5, *ADDRESSES], node)
    for name, text in node.sent[1].files.items():
        (etc / name).write_text(text)
    bundle = (etc / "bundles" / "n5.tar").read_bytes()
    again = told(DONE, DONE)
    assert main(["add", N5, *ADDRESSES], again) == 0
    assert again.sent[1].base == again.sent[1].digest == node.sent[1].digest
    assert (etc / "bundles" / "n5.tar").read_bytes() == bundle


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["add", "n5", "--address", "lan=10.0.0.5"], "no --address for link ring; this cluster has lan, ring"),
        (["add", "n5", *ADDRESSES, "--address", "wan=10.2.0.5"], "no link is called wan"),
        (["add", "N5", *ADDRESSES], "'N5' is no name of a node"),
        (["add", "n5", "--address", "lan=10.0.0.1", "--address", "ring=10.1.0.5"], "10.0.0.1 is already the address"),
        (["add", "n5", "--address", "lan=here", "--address", "ring=10.1.0.5"], "'lan' is the text 'here'"),
        (["add", "n2", *ADDRESSES], "configured already, as lan=10.0.0.2, ring=10.1.0.2"),
        (["remove", "n2"], "apps/web.yaml names n2 under 'nodes'"),
    ],
)
def test_what_is_wrong_changes_nothing(
    etc: Path, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = gather(etc)
    node = told()
    assert main(arguments, node) == 1
    assert text in capsys.readouterr().err
    assert node.sent == [AskStatus()] and gather(etc) == before and not (etc / "bundles" / "n5.tar").exists()


def test_what_is_wrong_already_is_named_with_file_and_line(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "apps" / "bad.yaml").write_text("nodes: [n1\n")
    assert main(["add", N5, *ADDRESSES], told()) == 1
    assert "apps/bad.yaml:2: this is not YAML" in capsys.readouterr().err


def test_a_wrong_address_option_is_wrong_usage(etc: Path) -> None:
    assert main(["add", N5, "--address", "lan"], told()) == 2


def test_without_the_authoritys_key_it_says_where_that_is(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / CA_KEY).unlink()
    assert main(["add", N5, *ADDRESSES], told()) == 1
    assert "run this where lha_init made the cluster" in capsys.readouterr().err


def test_a_configuration_that_cannot_be_brought_ends_it(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = told(brought=[Refused("only root changes the configuration")])
    assert main(["add", N5, *ADDRESSES], node) == 1
    assert "only root" in capsys.readouterr().err
    assert [type(each) for each in node.sent] == [AskStatus, Bring]


def test_remove_asks_the_master_first_and_then_brings_the_configuration(
    etc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Told(statd=[[status()]], syncd=[DONE], clusterd=[DONE, DONE])
    assert main(["remove", N3], node) == 0
    _, remove, bring, configure = node.sent
    assert (remove.verb, remove.node, configure.verb) == ("remove", N3, "configure")
    configuration, _ = read(bring.files)
    assert configuration is not None
    assert [each.name for each in configuration.cluster.nodes] == [N1, N2]
    assert bring.nodes == (N1, N2)
    assert (
        "n3 has the key of the heartbeats still: 'lha_node rotate-key' makes it worth nothing"
        in capsys.readouterr().out
    )


def test_a_refusal_of_the_master_changes_no_file(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = [Reply("", Progress("n3 owns 'db'", "ERROR", False)), Reply("", code=1)]  # type: ignore[arg-type]
    assert main(["remove", N3], Told(statd=[[status()]], clusterd=[refusal])) == 1
    assert "n3 owns 'db'" in capsys.readouterr().err


def test_json_tells_the_end(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["remove", N3, "--json"], told(DONE, DONE)) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["command"], said["code"]) == ("lha_node", 0)
