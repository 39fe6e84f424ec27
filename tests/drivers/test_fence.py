"""Fence agents: nothing but a status of 'off' is believed. The agents here are small scripts."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realhost import RealHost

from truecl.drivers.contract import Result, StepFailed
from truecl.drivers.fence import argv, parse
from truecl.drivers.fence.driver import FenceDriver
from truecl.drivers.fence.parse import Power
from truecl.model.config import FenceConfig
from truecl.model.ids import NodeName

NODE = NodeName("node2")


def agent(tmp_path: Path, off: str, status: str, **more: object) -> FenceConfig:
    """An agent whose two actions are shell text; $dir is a directory of its own, $passwd and $plug its parameters."""
    path = tmp_path / "fence_test"
    path.write_text(
        f"#!/bin/sh\ndir={tmp_path}\nwhile IFS='=' read -r key value; do eval \"$key=\\$value\"; done\n"
        f'echo "$action" >> $dir/asked\ncase "$action" in\noff) {off};;\nstatus) {status};;\nesac\n'
    )
    path.chmod(0o755)
    values = {"timeout": 2.0, "parameters": {"plug": "7", "passwd": "s3cret"}} | more
    return msgspec.convert({"agent": str(path), **values}, FenceConfig)


def ended(code: int | None, timed_out: bool = False) -> Result:
    return Result(("x",), code, None if code is not None else 9, b"", b"", 0.1, timed_out)


@given(st.integers(0, 255))
def test_only_2_is_off(code: int) -> None:
    assert (parse.power(ended(code)) is Power.OFF) is (code == 2)
    assert parse.power(ended(code, timed_out=True)) is Power.UNKNOWN


def test_a_killed_agent_says_nothing() -> None:
    assert parse.power(ended(None)) is Power.UNKNOWN


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_a_request_is_one_line_for_each_parameter(parameters: dict[str, str]) -> None:
    config = FenceConfig(agent="x", parameters=parameters)
    try:
        text = argv.request(config, "off").decode()
    except StepFailed:
        return
    lines = text.split("\n")
    assert lines[-2:] == ["action=off", ""]
    assert dict(line.split("=", 1) for line in lines[:-2]) == parameters


@pytest.mark.parametrize(
    "parameters", [{"action": "on"}, {"option": "on"}, {"a": "b\naction=on"}, {"a\nb": "c"}, {"": "x"}]
)
def test_parameters_that_would_be_read_as_something_else(parameters: dict[str, str]) -> None:
    with pytest.raises(StepFailed, match="fence parameter"):
        argv.request(FenceConfig(agent="x", parameters=parameters), "off")


def test_off_and_verified(real: RealHost, tmp_path: Path) -> None:
    config = agent(tmp_path, 'echo "$plug $passwd" > $dir/off', "test -e $dir/off && exit 2; exit 0")
    fence = FenceDriver(real.runner, real.loop)
    assert real.do(fence.status(config)) == (Power.ON, "")
    outcome = real.do(fence.off(NODE, config))
    assert outcome.off and outcome.reason.endswith("node2 is off")
    assert (tmp_path / "off").read_text() == "7 s3cret\n"
    assert (tmp_path / "asked").read_text().split() == ["status", "off", "status"]
    assert real.do(fence.status(config)) == (Power.OFF, "")


def test_a_slow_device_is_asked_again(real: RealHost, tmp_path: Path) -> None:
    config = agent(tmp_path, "true", "echo >> $dir/n; test $(wc -l < $dir/n) -ge 3 && exit 2; exit 0")
    assert real.do(FenceDriver(real.runner, real.loop).off(NODE, config)).off
    assert (tmp_path / "asked").read_text().split() == ["off"] + 3 * ["status"]


@pytest.mark.parametrize(
    ("off", "status", "reason"),
    [
        ("exit 0", "exit 0", "its status is on"),
        ("exit 0", "echo rubbish; exit 1", "its status is unknown, exit code 1: rubbish"),
        ("exit 0", "kill -9 $$", "its status is unknown, killed by signal 9"),
        ("exit 0", "sleep 60", "its status is unknown, stopped after"),
        ("echo refused $passwd >&2; exit 1", "exit 0", r"'off' failed, exit code 1: refused \*\*\*; its status is on"),
        ("sleep 60", "exit 2", "no time was left to ask"),
        ("head -c 1000000 /dev/urandom; exit 3", "head -c 1000000 /dev/urandom; exit 5", "its status is unknown"),
    ],
)
def test_anything_else_is_not_off(real: RealHost, tmp_path: Path, off: str, status: str, reason: str) -> None:
    config = agent(tmp_path, off, status, timeout=0.6)
    outcome = real.do(FenceDriver(real.runner, real.loop).off(NODE, config))
    assert not outcome.off
    assert re.search(reason, outcome.reason), outcome.reason
    assert "s3cret" not in outcome.reason


def test_the_device_decides_when_its_off_failed(real: RealHost, tmp_path: Path) -> None:
    config = agent(tmp_path, "exit 1", "exit 2")
    outcome = real.do(FenceDriver(real.runner, real.loop).off(NODE, config))
    assert outcome.off and "though 'off' failed" in outcome.reason


def test_without_verification_the_exit_code_is_believed(real: RealHost, tmp_path: Path) -> None:
    fence = FenceDriver(real.runner, real.loop)
    outcome = real.do(fence.off(NODE, agent(tmp_path, "exit 0", "exit 0", verify=False)))
    assert outcome.off and "not verified" in outcome.reason
    assert not real.do(fence.off(NODE, agent(tmp_path, "exit 2", "exit 2", verify=False))).off
    assert (tmp_path / "asked").read_text().split() == ["off", "off"]


@pytest.mark.parametrize("name", ["fence_no_such_agent", "/no/such/agent", "/etc/passwd"])
def test_an_agent_that_is_missing(real: RealHost, name: str) -> None:
    outcome = real.do(FenceDriver(real.runner, real.loop).off(NODE, FenceConfig(agent=name)))
    assert not outcome.off and f"fence agent {name} is missing" in outcome.reason
