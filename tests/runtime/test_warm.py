"""The warm parent with real processes: it forks, reaps, restarts, and may die without harm."""

import json
import os
import signal
import socket
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

from truecl.runtime.line import parent_socket
from truecl.runtime.warm import LAST_DELAY, RESTART_WINDOW, Restarts, words
from truecl.wire.messages import UNSEEN

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
    assert len(set(pipes)) <= 2  # the test's own standard streams


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


def took_over(service: Service, parent: "subprocess.Popen[bytes]", reqd: int, **living: int) -> None:
    """Wait until reqd heard from this parent, and that it watches these."""
    said = f"reqd runs already, as process {reqd}: taken over"
    wait_until(lambda: any(f"truecld[{parent.pid}]" in line and said in line for line in service.errors.splitlines()))
    wait_until(lambda: service.events(told="Living", by=reqd)[1:])
    assert service.events(told="Living", by=reqd)[-1]["living"] == living


def test_when_the_parent_dies_its_daemons_live_on_and_the_next_one_takes_them_over(service: Service) -> None:
    parent = service.start()
    reqd, hbd, lockd = (service.up(name) for name in ("reqd", "hbd", "lockd"))
    wait_until(lambda: len(service.events(told="Forked")) == 2)
    parent.kill()
    parent.wait()
    second = service.start()
    took_over(service, second, reqd, hbd=hbd, lockd=lockd)
    wait_until(lambda: len(service.events(told="Forked", by=reqd)) == 4)
    assert [len(service.events(up=name)) for name in ("reqd", "hbd", "lockd")] == [1, 1, 1]
    assert all(map(alive, (reqd, hbd, lockd)))
    # What it took over it keeps alive as what it forked, and can end it.
    os.kill(hbd, signal.SIGKILL)
    wait_until(lambda: service.events(told="Exited", by=reqd, pid=hbd, status=UNSEEN, daemon="hbd"))
    os.kill(reqd, signal.SIGUSR1)
    wait_until(lambda: service.events(told="Exited", by=reqd, pid=lockd, status=UNSEEN, daemon="lockd"))
    killed = time.monotonic()
    os.kill(reqd, signal.SIGKILL)
    third = service.up("reqd", 2)
    assert time.monotonic() - killed < 1.0
    wait_until(lambda: service.events(told="Forked", by=third, daemon="hbd", pid=service.up("hbd", 2)))
    assert alive(int((service.directory / "program").read_text()))


@pytest.mark.parametrize("dying", [("hbd",), ("reqd",), ("reqd", "hbd", "lockd")])
def test_what_dies_with_the_parent_or_after_it_is_started_by_the_next_one(
    service: Service, dying: tuple[str, ...]
) -> None:
    parent = service.start()
    before = {name: service.up(name) for name in ("reqd", "hbd", "lockd")}
    parent.kill()
    for name in dying:
        os.kill(before[name], signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(alive(before[name]) for name in dying))
    service.start()
    for name, pid in before.items():
        assert service.up(name, 1 + (name in dying)) != (pid if name in dying else 0)
    wait_until(lambda: len(service.events(told="Forked", by=service.up("reqd", 1 + ("reqd" in dying)))) >= 2)
    assert all(alive(before[name]) for name in before if name not in dying)


def test_a_parent_that_dies_again_and_again_harms_nobody(service: Service) -> None:
    parent = service.start()
    before = {name: service.up(name) for name in ("reqd", "hbd", "lockd")}
    for life in range(3):
        parent.kill()
        parent.wait()
        parent = service.start()
        wait_until(lambda life=life: service.errors.count("INFO started") == life + 2)
    took_over(service, parent, before["reqd"], hbd=before["hbd"], lockd=before["lockd"])
    assert all(map(alive, before.values()))
    assert all(len(service.events(up=name)) == 1 for name in before)


def test_a_stop_ends_daemons_that_were_taken_over(service: Service) -> None:
    service.start().kill()
    first = service.start()
    pids = [service.up(name) for name in ("reqd", "hbd", "lockd")]
    first.kill()
    first.wait()
    second = service.start()
    # At once: it is remembered while the service still imports.
    wait_until(lambda: "SigBlk:\t0000000000004002" in Path(f"/proc/{second.pid}/status").read_text())
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    assert service.events(stopping=pids[0])
    assert not any(map(alive, pids))
    assert alive(int((service.directory / "program").read_text()))


def test_daemons_of_another_version_are_named_and_such_a_reqd_is_replaced(service: Service) -> None:
    parent = service.start()
    reqd, hbd = service.up("reqd"), service.up("hbd")
    service.up("lockd")
    parent.kill()
    parent.wait()
    for name in ("reqd", "hbd"):
        (service.directory / "run" / f"{name}.lock").write_text("1.9\n")
    service.start()
    fresh = service.up("reqd", 2)
    wait_until(lambda: not alive(reqd))
    wait_until(lambda: service.events(told="Forked", by=fresh, daemon="hbd", pid=hbd, outdated=True))
    wait_until(lambda: service.events(told="Forked", by=fresh, daemon="lockd", outdated=False))
    os.kill(fresh, signal.SIGUSR2)
    wait_until(lambda: service.events(told="Exited", by=fresh, pid=hbd, status=UNSEEN))
    assert "hbd runs already, as process" in service.errors
    assert f"reqd runs already, as process {reqd}, and is of truecl 1.9: taken over" in service.errors


BY_HAND = """
import os, sys, time
from pathlib import Path
from truecl.runtime.process import BY_HAND, claim
claim(Path(sys.argv[1]), "it runs already", 0.0, BY_HAND)
print(flush=True)
time.sleep(60)
"""


def test_a_daemon_started_by_hand_is_nobody_elses(service: Service) -> None:
    run = service.directory / "run"
    run.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", BY_HAND, str(run / "hbd.lock")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as by_hand:
        assert by_hand.stdout is not None
        assert by_hand.stdout.readline() == b"\n"
        parent = service.start()
        service.up("lockd")
        wait_until(lambda: service.events(told="Exited", daemon="hbd", status=75))
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(10) == 0
        assert by_hand.poll() is None
        by_hand.kill()
    assert f"hbd runs already (process {by_hand.pid})" in service.errors


def test_nobody_but_reqd_speaks_with_the_parent(service: Service) -> None:
    service.start()
    service.up("lockd")
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(parent_socket(service.directory / "run")))
        stranger.settimeout(10)
        assert stranger.recv(1) == b""
    assert f"process {os.getpid()} of user id {os.getuid()} is not this node's reqd" in service.errors
    assert parent_socket(service.directory / "run").stat().st_mode & 0o777 == 0o600


def test_there_is_one_service_on_a_node_and_a_second_changes_nothing(service: Service) -> None:
    def seen() -> dict[str, tuple[int, int]]:
        paths = [path for path in service.directory.rglob("*") if path.name not in ("events", "stderr")]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}

    first = service.start()
    pids = [service.up(name) for name in ("reqd", "hbd", "lockd")]
    wait_until(lambda: len(service.events(told="Forked")) == 2)
    before, events = seen(), service.events()
    second = service.start()
    assert second.wait(20) == 75
    assert f"truecl runs already on this node (process {first.pid})" in service.errors
    assert (seen(), service.events()) == (before, events)
    assert all(map(alive, pids))


def test_there_is_one_reqd_on_a_node(service: Service) -> None:
    """Also without any parent: the lock is the daemon's own, and taken before anything of it is opened."""
    parent = service.start()
    reqd = service.up("reqd")
    parent.kill()
    parent.wait()
    code = (
        "import sys; from pathlib import Path; from truecl.runtime import process as p\n"
        "p.LOCK_PATIENCE = 0.1; d = Path(sys.argv[1])\n"
        "try: p.begin('reqd', p.Paths(d / 'etc', d / 'run', d / 'state', d / 'log'), p.Loaded(), None)\n"
        "except p.CannotStart as error: print(error); sys.exit(error.code)\n"
    )
    command = [sys.executable, "-c", code, str(service.directory)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (75, f"reqd runs already (process {reqd})\n")


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
    assert words(UNSEEN) == "ended; nobody saw how"
    assert words(-35) == "was killed by signal 35"
