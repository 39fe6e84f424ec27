"""The warm parent with real processes: it forks, reaps, restarts, and nothing outlives it but applications."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.runtime.warm import LAST_DELAY, RESTART_WINDOW, Restarts, words

SERVICE = Path(__file__).with_name("warm_service.py")
ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], Any], deadline: float = 20.0) -> Any:
    end = time.monotonic() + deadline
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < end, "the deadline has passed"
        pause.wait(0.01)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Service:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, str(SERVICE), str(self.directory), *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=(self.directory / "stderr").open("ab"),
        )
        self.processes.append(process)
        return process

    def events(self, **like: object) -> list[dict[str, Any]]:
        try:
            lines = (self.directory / "events").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [each for each in map(json.loads, lines) if like.items() <= each.items()]

    def up(self, name: str, times: int = 1) -> int:
        """The process id of the daemon's life number `times`, once it is up."""
        pid: int = wait_until(lambda: len(self.events(up=name)) >= times and self.events(up=name)[times - 1]["pid"])
        return pid

    @property
    def errors(self) -> str:
        return (self.directory / "stderr").read_text()

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        program = self.directory / "program"
        pids = [each["pid"] for each in self.events() if "up" in each]
        if program.exists():
            pids.append(int(program.read_text()))
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, pids)))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.end()


def test_reqd_and_what_it_asks_for_run_and_end_in_order(service: Service) -> None:
    parent = service.start()
    reqd, hbd, lockd = (service.up(name) for name in ("reqd", "hbd", "lockd"))
    wait_until(lambda: len(service.events(told="Forked")) == 2)
    assert {each["daemon"]: each["pid"] for each in service.events(told="Forked")} == {"hbd": hbd, "lockd": lockd}
    ups = [*service.events(up="hbd"), *service.events(up="lockd")]
    assert len({each["boot"] for each in ups}) == 1
    assert len({each["draw"] for each in ups}) == 2
    assert Path(f"/proc/{hbd}/comm").read_text() == "hbd\n"
    assert Path(f"/proc/{hbd}/cmdline").read_bytes().rstrip(b"\0") == b"hbd"
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(10) == 0
    assert service.events(stopping=reqd)
    assert not any(map(alive, (reqd, hbd, lockd)))
    assert alive(int((service.directory / "program").read_text()))


def test_a_child_has_no_descriptor_of_the_parent(service: Service) -> None:
    service.start()
    hbd = service.up("hbd")
    links = [str(entry.readlink()) for entry in Path(f"/proc/{hbd}/fd").iterdir()]
    assert not any("truecld.lock" in link or "reqd" in link for link in links)
    pipes = [link for link in links if link.startswith("pipe:")]
    assert len(set(pipes)) <= 3  # lifeline, and the test's own standard streams


def test_the_death_of_a_daemon_is_told_with_how_it_ended(service: Service) -> None:
    service.start()
    hbd, lockd, reqd = service.up("hbd"), service.up("lockd"), service.up("reqd")
    os.kill(hbd, signal.SIGKILL)
    wait_until(lambda: service.events(told="Exited", pid=hbd, status=-9, daemon="hbd"))
    os.kill(reqd, signal.SIGUSR1)
    wait_until(lambda: service.events(told="Exited", pid=lockd, status=0, daemon="lockd"))


def test_reqd_comes_back_at_once_and_is_handed_what_lives(service: Service) -> None:
    service.start()
    first, hbd = service.up("reqd"), service.up("hbd")
    service.up("lockd")
    program = int((service.directory / "program").read_text())
    os.kill(first, signal.SIGKILL)
    second = service.up("reqd", 2)
    wait_until(lambda: service.events(told="Forked", by=second, daemon="hbd", pid=hbd))
    assert len(service.events(up="hbd")) == 1
    assert alive(program)
    os.kill(program, signal.SIGKILL)
    wait_until(lambda: service.events(told="Exited", by=second, pid=program, status=-9, daemon=None))
    os.kill(second, signal.SIGKILL)
    third = service.up("reqd", 3)
    wait_until(lambda: service.events(told="Exited", by=third, pid=program, status=-9, daemon=None))
    assert "reqd was killed by SIGKILL; starting it again at once" in service.errors
    assert "reqd was killed by SIGKILL; starting it again in 0.1 s" in service.errors


def test_when_the_parent_dies_its_daemons_go_and_applications_stay(service: Service) -> None:
    parent = service.start()
    pids = [service.up(name) for name in ("reqd", "hbd", "lockd")]
    program = int((service.directory / "program").read_text())
    parent.kill()
    wait_until(lambda: not any(map(alive, pids)), deadline=3.0)
    assert alive(program)
    service.start()
    assert service.up("reqd", 2) not in pids
    service.up("lockd", 2)
    assert alive(program)


def test_a_daemon_that_is_stopped_goes_with_its_parent_too(service: Service) -> None:
    parent = service.start()
    hbd = service.up("hbd")
    wait_until(lambda: service.events(told="Forked", daemon="lockd"))
    os.kill(hbd, signal.SIGSTOP)
    parent.kill()
    wait_until(lambda: not alive(hbd), deadline=3.0)


def test_there_is_one_service_on_a_node(service: Service) -> None:
    first = service.start()
    service.up("lockd")
    second = service.start()
    assert second.wait(20) == 75
    assert f"truecl runs already on this node (process {first.pid})" in service.errors


def test_a_reqd_that_stumbles_while_stopping_gets_another_chance(service: Service) -> None:
    parent = service.start()
    first = service.up("reqd")
    service.up("lockd")
    (service.directory / "stumble").touch()
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(10) == 0
    stopping = [each["stopping"] for each in service.events() if "stopping" in each]
    assert len(stopping) == 2
    assert stopping[0] == first


def test_a_reqd_that_hangs_while_stopping_ends_with_everything(service: Service) -> None:
    parent = service.start()
    reqd, hbd = service.up("reqd"), service.up("hbd")
    service.up("lockd")
    os.kill(reqd, signal.SIGSTOP)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(20) == 0
    wait_until(lambda: not alive(reqd) and not alive(hbd))
    assert "reqd did not end within 5 s; its watchdog decides what is left" in service.errors


@pytest.mark.root
def test_privileges_are_dropped_for_good(service: Service) -> None:
    service.start("nobody")
    service.up("hbd")
    [hbd] = service.events(up="hbd")
    assert hbd["uid"] == 65534
    assert hbd["groups"] == []
    assert Path(f"/proc/{hbd['pid']}/status").read_text().split("CapPrm:\t")[1].split()[0] == "0" * 16


def test_a_user_that_does_not_exist_is_said_with_the_way_out(service: Service) -> None:
    process = service.start("no-such-user")
    assert process.wait(20) != 0
    assert "user 'no-such-user' does not exist; make it with `useradd --system" in service.errors


@given(st.lists(st.floats(0.0, 30.0)))
def test_the_first_restart_is_at_once_and_delays_are_bounded(gaps: list[float]) -> None:
    restarts, now, last = Restarts(), 0.0, -1000.0
    for gap in gaps:
        now += gap
        delay = restarts.died(now)
        assert 0.0 <= delay <= LAST_DELAY
        if now - last > RESTART_WINDOW:
            assert delay == 0.0
        last = now


def test_delays_double() -> None:
    restarts = Restarts()
    assert [restarts.died(float(second)) for second in range(9)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_how_a_process_ended_in_words() -> None:
    assert words(0) == "ended with exit code 0"
    assert words(-9) == "was killed by SIGKILL"
    assert words(-35) == "was killed by signal 35"
