"""Fence agents: nothing but a status of 'off' is believed. The agents here are small scripts."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from realhost import RealHost

from truecl.commands.machine import this_machine
from truecl.drivers.contract import Result, StepFailed, eventually
from truecl.drivers.fence import argv, parse
from truecl.drivers.fence.driver import FenceDriver
from truecl.model.actions import FenceOutcome, Power
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
        text = argv.request(config, {}, "off").decode()
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
        argv.request(FenceConfig(agent="x", parameters=parameters), {}, "off")


def test_off_and_verified(real: RealHost, tmp_path: Path) -> None:
    config = agent(tmp_path, 'echo "$plug $passwd" > $dir/off', "test -e $dir/off && exit 2; exit 0")
    fence = FenceDriver(real.runner, real.loop)
    assert real.do(fence.ask(NODE, config, Power.UNKNOWN)) == FenceOutcome(True, "", Power.ON)
    outcome = real.do(fence.ask(NODE, config, Power.OFF))
    assert outcome.done and outcome.reason.endswith("node2 is off")
    assert (tmp_path / "off").read_text() == "7 s3cret\n"
    assert (tmp_path / "asked").read_text().split() == ["status", "off", "status"]
    assert real.do(fence.ask(NODE, config, Power.UNKNOWN)) == FenceOutcome(True, "", Power.OFF)


def test_a_slow_device_is_asked_again(real: RealHost, tmp_path: Path) -> None:
    config = agent(tmp_path, "true", "echo >> $dir/n; test $(wc -l < $dir/n) -ge 3 && exit 2; exit 0")
    assert real.do(FenceDriver(real.runner, real.loop).ask(NODE, config, Power.OFF)).done
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
    outcome = real.do(FenceDriver(real.runner, real.loop).ask(NODE, config, Power.OFF))
    assert not outcome.done
    assert re.search(reason, outcome.reason), outcome.reason
    assert "s3cret" not in outcome.reason


def test_the_device_decides_when_its_off_failed(real: RealHost, tmp_path: Path) -> None:
    config = agent(tmp_path, "exit 1", "exit 2")
    outcome = real.do(FenceDriver(real.runner, real.loop).ask(NODE, config, Power.OFF))
    assert outcome.done and "though 'off' failed" in outcome.reason


@pytest.mark.parametrize("broken", ["if [ x; then\nfi )", "exec /usr/bin/python3 /no/such/file.py", "exit 2"])
def test_an_agent_that_fails_at_everything_as_if_it_said_off_is_not_believed(
    real: RealHost, tmp_path: Path, broken: str
) -> None:
    """A shell that cannot parse its script ends with 2, so does an interpreter without one: a status of 'off'."""
    script = tmp_path / "fence_broken"
    script.write_text(f"#!/bin/sh\n{broken}\n")
    script.chmod(0o755)
    fence, device = FenceDriver(real.runner, real.loop), FenceConfig(agent=str(script))
    assert real.do(fence.ask(NODE, device, Power.UNKNOWN)).power is Power.OFF, "what makes it dangerous"
    outcome = real.do(fence.ask(NODE, device, Power.OFF))
    assert not outcome.done and "does not work" in outcome.reason and "exit code 2" in outcome.reason


def test_without_verification_the_exit_code_is_believed(real: RealHost, tmp_path: Path) -> None:
    fence = FenceDriver(real.runner, real.loop)
    outcome = real.do(fence.ask(NODE, agent(tmp_path, "exit 0", "exit 0", verify=False), Power.OFF))
    assert outcome.done and "not verified" in outcome.reason
    assert not real.do(fence.ask(NODE, agent(tmp_path, "exit 2", "exit 2", verify=False), Power.OFF)).done
    assert (tmp_path / "asked").read_text().split() == ["off", "off"]


@pytest.mark.parametrize("name", ["fence_no_such_agent", "/no/such/agent", "/etc/passwd"])
def test_an_agent_that_is_missing(real: RealHost, name: str) -> None:
    outcome = real.do(FenceDriver(real.runner, real.loop).ask(NODE, FenceConfig(agent=name), Power.OFF))
    assert not outcome.done and f"fence agent {name} is missing" in outcome.reason


# ---- secrets --------------------------------------------------------------------------------------------------------


def with_secret(tmp_path: Path, content: bytes, mode: int, **more: object) -> FenceConfig:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    config = agent(tmp_path, 'echo "$password refused" >&2; exit 1', "exit 0", parameters={"plug": "7"}, **more)
    return replace(config, secrets={"password": str(path)})


def test_a_secret_comes_out_of_its_file_and_is_never_shown(real: RealHost, tmp_path: Path) -> None:
    outcome = real.do(
        FenceDriver(real.runner, real.loop).ask(NODE, with_secret(tmp_path, b"hunter2\n", 0o600), Power.OFF)
    )
    assert "*** refused" in outcome.reason and "hunter2" not in outcome.reason


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"hunter2", 0o640, "others may read"),
        (b"hunter2", 0o604, "others may read"),
        (b"", 0o600, "expected one line"),
        (b"hunter2\naction=on\n", 0o600, "expected one line"),
        (b"\xff\xfe", 0o600, "expected one line"),
        (b"h" * 5000, 0o600, "expected one line"),
    ],
)
def test_a_secret_that_is_not_fit(real: RealHost, tmp_path: Path, content: bytes, mode: int, reason: str) -> None:
    outcome = real.do(FenceDriver(real.runner, real.loop).ask(NODE, with_secret(tmp_path, content, mode), Power.OFF))
    assert not outcome.done and reason in outcome.reason and "hunter2" not in outcome.reason
    assert not (tmp_path / "asked").exists(), "the device is not asked without it"


def test_a_secret_that_is_no_file(real: RealHost, tmp_path: Path) -> None:
    driver, config = FenceDriver(real.runner, real.loop), agent(tmp_path, "exit 0", "exit 2")
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "no regular file")):
        outcome = real.do(driver.ask(NODE, replace(config, secrets={"password": str(path)}), Power.OFF))
        assert not outcome.done and reason in outcome.reason


# ---- what else may go wrong -----------------------------------------------------------------------------------------


def test_a_hanging_agent_goes_with_all_its_children(real: RealHost, tmp_path: Path) -> None:
    config = agent(tmp_path, "sleep 600 & echo $! > $dir/child; wait", "exit 2", timeout=0.5)
    outcome = real.do(FenceDriver(real.runner, real.loop).ask(NODE, config, Power.OFF))
    assert not outcome.done and "stopped after" in outcome.reason
    status = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/status")

    def gone() -> bool:
        try:
            return "State:\tZ" in status.read_text()
        except OSError:
            return True

    assert real.do(eventually(real.loop, 5.0, gone))


def test_on_is_verified_too(real: RealHost, tmp_path: Path) -> None:
    driver = FenceDriver(real.runner, real.loop)
    assert not real.do(driver.ask(NODE, agent(tmp_path, "", "exit 2", timeout=0.5), Power.ON)).done
    assert real.do(driver.ask(NODE, agent(tmp_path, "", "exit 0"), Power.ON)).done


def test_metadata_that_is_none() -> None:
    for text in ("", "rubbish", "<a/>", "<resource-agent>"):
        with pytest.raises(ValueError, match="is "):
            parse.metadata(text)


# ---- an agent of Debian's fence-agents, as it is --------------------------------------------------------------------

DUMMY = Path("/usr/sbin/fence_dummy")
needs_dummy = pytest.mark.skipif(not DUMMY.exists(), reason="fence_dummy is missing: apt-get install fence-agents")


@needs_dummy
def test_a_real_agent_switches_off_and_on(real: RealHost, tmp_path: Path) -> None:
    file = tmp_path / "power"
    file.write_text("on")
    config = FenceConfig(agent="fence_dummy", parameters={"status_file": str(file)})
    driver = FenceDriver(real.runner, real.loop)
    assert real.do(driver.ask(NODE, config, Power.UNKNOWN)).power is Power.ON
    outcome = real.do(driver.ask(NODE, config, Power.OFF))
    assert outcome == FenceOutcome(True, "fence_dummy: node2 is off", Power.OFF) and file.read_text() == "off"
    assert real.do(driver.ask(NODE, config, Power.ON)).done and file.read_text() == "on"


@needs_dummy
def test_a_real_agent_that_cannot_reach_its_device_is_not_believed(real: RealHost, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    secret.chmod(0o600)
    address = {"ip": "127.0.0.1", "ipport": "1", "username": "hunter"}
    config = FenceConfig(agent="fence_ipmilan", parameters=address, secrets={"password": str(secret)}, timeout=10.0)
    outcome = real.do(FenceDriver(real.runner, real.loop).ask(NODE, config, Power.OFF))
    assert "hunter2" not in outcome.reason
    assert not outcome.done, outcome


@needs_dummy
def test_a_real_agent_describes_itself() -> None:
    found = this_machine().fence_agent("fence_dummy")
    assert not isinstance(found, str), found
    assert "status_file" in found.names and {"off", "on", "status"} <= set(found.actions)
    apc = this_machine().fence_agent("fence_apc")
    assert not isinstance(apc, str), apc
    assert apc.missing({"ipaddr", "login"}) == ("plug",) and apc.missing({"ip", "username", "port"}) == ()
