"""lha_init and lha_check as an operator types them."""

import json
import pathlib

import pytest

from truecl.cli import check, init

NODES = "n1=10.0.0.1+10.1.0.1,n2=10.0.0.2+10.1.0.2"


def make(directory: pathlib.Path, *more: str) -> int:
    return init.main(["--cluster", "demo", "--nodes", NODES, "--this", "n1", "--directory", str(directory), *more])


def test_a_cluster_from_nothing_to_its_second_node(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "n1", tmp_path / "n2"
    assert make(first) == 0
    out = capsys.readouterr().out
    assert f"This is node n1 of cluster demo; its files are in {first}." in out
    assert f"For node n2: {first}/bundles/n2.tar; there: lha_init --join n2.tar" in out
    assert init.main(["--join", f"{first}/bundles/n2.tar", "--directory", str(second), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["node"] == "n2"


def test_refusals_are_lines_on_standard_error(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path) == 0
    capsys.readouterr()
    assert make(tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"ERROR {tmp_path}/node.pem: is there already\n" in captured.err
    assert make(tmp_path, "--force") == 0


def test_a_machine_that_is_none_of_the_nodes(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = "n1=240.0.0.1,n2=240.0.0.2"
    assert init.main(["--cluster", "demo", "--nodes", nodes, "--directory", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err == "ERROR none of the nodes' addresses is on this machine; --this says which node it is\n"


def test_the_node_is_the_one_whose_address_is_here(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = "n1=240.0.0.1,n2=127.0.0.1"
    assert init.main(["--cluster", "demo", "--nodes", nodes, "--directory", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("This is node n2 of cluster demo;")


@pytest.mark.parametrize("argv", [[], ["--cluster", "x"], ["--join", "f", "--cluster", "x"], ["--what"]])
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        init.main(argv)
    assert end.value.code == 2


@pytest.mark.parametrize("main", [init.main, check.main])
def test_help_has_examples_and_exit_codes(main: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(main)
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert "exit codes:" in out


def test_check_prints_errors_apart_from_warnings(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cluster.yaml").write_text("cluster: demo\nlinks: [lan]\nnodes:\n  n1: {lan: 10.0.0}\n")
    assert check.main([str(tmp_path)]) == 1
    captured = capsys.readouterr()
    problem = f"{tmp_path}/cluster.yaml:4: 'lan' is the text '10.0.0'; expected a numeric IPv4 or IPv6 address"
    assert f"ERROR {problem}\n" in captured.err
    assert f"WARN  {tmp_path}: no credentials" in captured.out
    assert check.main([str(tmp_path), "--quiet"]) == 1
    assert capsys.readouterr().out == ""


def test_check_as_json(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["directory"] == str(tmp_path)
    assert {"severity": "ERROR"}.items() <= found["findings"][0].items()
