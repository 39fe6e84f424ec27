"""The fence-peer handler: what it answers, and that no answer holds once it was given up."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from truecl.cli import fence_peer
from truecl.cli.fence_peer import judge
from truecl.drivers.storage.drbd import token
from truecl.drivers.storage.drbd.token import Token
from truecl.service.storage import fence_peer as command
from truecl.wire.frame import Framer, frame
from truecl.wire.messages import AskPeerOutdated, PeerOutdated
from truecl.wire.plain import PLAIN

PRIMARY, PROMOTING = Token(7), Token(7, until=100.0)
NOW = 50.0


class Clusterd:
    """Answers each question with what `answer` makes of it: the frames' values."""

    def __init__(self, run: Path) -> None:
        self.asked: list[Any] = []
        self.answer: Callable[[AskPeerOutdated], list[Any]] = lambda ask: [said(ask, 4)]
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(run / "clusterd.sock"))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        framer = Framer()
        with connection, suppress(OSError):  # it hangs up when it has heard enough
            while data := connection.recv(65536):
                for payload in framer.feed(data):
                    if payload.startswith(b"{"):
                        answers: list[Any] = [{"type": "local-welcome", "version": 2}]
                    else:
                        ask = PLAIN.decode(payload)
                        assert isinstance(ask, AskPeerOutdated)
                        self.asked.append(ask)
                        answers = self.answer(ask)
                    for each in answers:
                        plain = json.dumps(each).encode() if isinstance(each, dict | list) else PLAIN.encode(each)[4:]
                        connection.sendall(frame(plain))


def said(ask: AskPeerOutdated, code: int, **other: Any) -> PeerOutdated:
    return PeerOutdated(**({"id": ask.id, "code": code, "reason": "because", "generation": ask.generation} | other))


AGAIN = 0.02


@pytest.fixture
def clusterd(tmp_path: Path) -> Iterator[Clusterd]:
    made = Clusterd(tmp_path)
    yield made
    made.close()


def answer(run: Path, frozen: Callable[[], bool] = lambda: True, now: float = NOW) -> int:
    code, why = judge(run, "db", frozen, lambda: now, AGAIN)
    assert why
    return code


@pytest.mark.parametrize(
    ("noted", "code", "exit"),
    [
        (PRIMARY, 4, 4),
        (PRIMARY, 7, 7),
        (PROMOTING, 4, 4),
        (PROMOTING, 7, 7),
        (PROMOTING, 6, 6),
        (PROMOTING, 1, 1),
        (PROMOTING, 3, 1),  # never what says that the peer itself was asked
        (PROMOTING, 5, 1),
        (PROMOTING, 0, 1),
    ],
)
def test_answers(tmp_path: Path, clusterd: Clusterd, noted: Token, code: int, exit: int) -> None:
    token.write(tmp_path, "db", noted)
    clusterd.answer = lambda ask: [said(ask, code)]
    assert answer(tmp_path) == exit
    assert [(ask.app, ask.generation) for ask in clusterd.asked] == [("db", 7)]


def test_without_an_instance_nobody_is_asked(tmp_path: Path, clusterd: Clusterd) -> None:
    assert answer(tmp_path) == 1
    for noted in (Token(7, over=True), Token(7, until=NOW)):
        token.write(tmp_path, "db", noted)
        assert answer(tmp_path) == 1
    Path(token.path(tmp_path, "db")).write_text("{")
    assert answer(tmp_path) == 1 and clusterd.asked == []


@pytest.mark.parametrize("code", [1, 6])
def test_a_primary_asks_until_there_is_an_answer(tmp_path: Path, clusterd: Clusterd, code: int) -> None:
    """6 is no answer for one that runs: it would call its own, current copy outdated."""
    token.write(tmp_path, "db", PRIMARY)
    clusterd.answer = lambda ask: [said(ask, code if len(clusterd.asked) < 3 else 4)]
    assert answer(tmp_path) == 4 and len(clusterd.asked) == 3


def test_a_primary_asks_no_more_once_its_peer_is_back(tmp_path: Path, clusterd: Clusterd) -> None:
    token.write(tmp_path, "db", PRIMARY)
    clusterd.answer = lambda ask: [said(ask, 1)]
    assert answer(tmp_path, lambda: len(clusterd.asked) < 2) == 1


def test_an_answer_that_comes_after_the_end_does_not_hold(tmp_path: Path, clusterd: Clusterd) -> None:
    for noted in (PRIMARY, PROMOTING):
        token.write(tmp_path, "db", noted)

        def late(ask: AskPeerOutdated) -> list[Any]:
            token.end(tmp_path, "db")
            return [said(ask, 4)]

        clusterd.answer = late
        assert answer(tmp_path) == 1


def test_an_answer_for_another_generation_does_not_hold(tmp_path: Path, clusterd: Clusterd) -> None:
    token.write(tmp_path, "db", PROMOTING)
    clusterd.answer = lambda ask: [said(ask, 4, generation=6)]
    assert answer(tmp_path) == 1

    def replaced(ask: AskPeerOutdated) -> list[Any]:
        token.write(tmp_path, "db", Token(8, until=100.0))
        return [said(ask, 4)]

    clusterd.answer = replaced
    assert answer(tmp_path) == 1


def test_an_answer_to_another_question_is_passed_over(tmp_path: Path, clusterd: Clusterd) -> None:
    token.write(tmp_path, "db", PROMOTING)
    clusterd.answer = lambda ask: [said(ask, 4, id="x"), said(ask, 7)]
    assert answer(tmp_path) == 7


def test_a_promotion_waits_no_longer_than_it_was_given(tmp_path: Path, clusterd: Clusterd) -> None:
    token.write(tmp_path, "db", PROMOTING)
    clusterd.answer = lambda ask: []
    times = iter([NOW, *[NOW] * 3, *[100.0] * 9])
    assert judge(tmp_path, "db", lambda: True, lambda: next(times), AGAIN)[0] == 1


def test_no_clusterd(tmp_path: Path) -> None:
    token.write(tmp_path, "db", PROMOTING)
    assert answer(tmp_path) == 1


def test_one_that_refuses_or_talks_nonsense(tmp_path: Path, clusterd: Clusterd) -> None:
    token.write(tmp_path, "db", PROMOTING)
    for nonsense in (["Refused", "only root"], {"type": "refusal", "reason": "x"}, {"a": 1}):
        clusterd.answer = lambda ask, nonsense=nonsense: [nonsense]  # type: ignore[misc]
        assert answer(tmp_path) == 1


@pytest.mark.parametrize(
    ("flags", "frozen"), [("C s-----", True), ("  s-----", True), ("C r-----", False), ("  r----s", False)]
)
def test_what_is_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, frozen: bool) -> None:
    monkeypatch.setenv("DRBD_MINOR", "0 1")
    proc = tmp_path / "drbd"
    line = " {}: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown {}\n    ns:0 oos:0\n"
    text = "version: 8.4.11 (api:1/proto:86-101)\n" + line.format(0, "C r-----")
    proc.write_text(text + line.format(1, flags) + line.format(2, "C s-----"))
    assert fence_peer.is_frozen(proc, "db") is frozen


def test_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fence_peer.main(["fence-peer"]) == 1 and "DRBD calls this itself" in capsys.readouterr().err
    monkeypatch.setenv("DRBD_RESOURCE", "db")
    monkeypatch.setenv("TRUECL_RUN", str(tmp_path))
    assert fence_peer.main(["fence-peer"]) == 1
    assert fence_peer.main(["split-brain"]) == 0 and Path(token.split_path(tmp_path, "db")).exists()


def called(run: Path, words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As the kernel has it done: drbdadm hands the command to a shell, with little in its environment."""
    argv = ["/bin/sh", "-c", f"{command(run)} {words}"]
    return subprocess.run(argv, env={"PATH": "/sbin:/bin", **environment}, capture_output=True, text=True)


def test_the_command_line_that_drbd_is_given(tmp_path: Path, clusterd: Clusterd) -> None:
    run = tmp_path / "it's run"
    run.symlink_to(tmp_path)
    token.write(run, "db", PROMOTING._replace(until=token.boottime() + 30))
    clusterd.answer = lambda ask: [said(ask, 7)]
    assert called(run, "fence-peer", DRBD_RESOURCE="db").returncode == 7
    assert "DRBD calls this itself" in called(run, "fence-peer").stderr
    assert called(run, "split-brain", DRBD_RESOURCE="db").returncode == 0
    assert Path(token.split_path(tmp_path, "db")).exists()


def test_it_starts_without_what_is_slow_to_import(tmp_path: Path) -> None:
    """A primary stands still meanwhile. A list says that without a clock."""
    listing = command(tmp_path).replace("sys.exit(main())", "print(*sys.modules)")
    argv = ["/bin/sh", "-c", listing]
    loaded = subprocess.run(argv, env={}, capture_output=True, text=True, check=True).stdout.split()
    slow = ("msgspec", "twisted", "site", "runpy", "pathlib", "dataclasses", "inspect", "subprocess", "argparse",
            "tempfile", "threading", "urllib", "shutil", "logging")  # fmt: skip
    assert "truecl.cli.fence_peer" in loaded and [name for name in slow if name in loaded] == []
