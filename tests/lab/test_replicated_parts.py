"""What the stories of real storage consist of, as far as no kernel is needed."""

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.lab.probing import Probing, writing
from truecl.lab.replicated import cluster, query, sampler, watch
from truecl.lab.replicated.campaign import table
from truecl.lab.replicated.draw import CUT, HEARTBEAT, KINDS, PAUSE, POWER, REPLICATION, Fault, draw
from truecl.lab.replicated.protocol import END, Conversation, Refused
from truecl.lab.replicated.rounds import ANSWERED, ENDED, EXCLUDED, Outcome, longest_freeze
from truecl.lab.replicated.watch import ReplicaWatch

# ---- PostgreSQL's protocol -------------------------------------------------------------------------------------------


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", 4 + len(body)) + body


IDLE = message(b"Z", b"I")
GREETED = message(b"R", bytes(4)) + message(b"S", b"client_encoding\0UTF8\0") + message(b"K", bytes(8)) + IDLE
ROW = message(b"T", b"\0\x01node\0" + bytes(18)) + message(b"D", b"\0\x01\0\0\0\x02n1")
COMPLETE = message(b"C", b"INSERT 0 1\0")
INSERTED = ROW + COMPLETE + IDLE
STARTING = message(b"E", b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0")


def answers(stream: bytes, places: list[int]) -> Conversation:
    """The conversation after `stream`, which comes cut at these places."""
    conversation = Conversation()
    ends = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    for start, end in zip(ends, ends[1:], strict=False):
        conversation.feed(stream[start:end])
    return conversation


@given(st.lists(st.integers(0, 200), max_size=20))
def test_an_answer_is_the_same_however_it_is_cut(places: list[int]) -> None:
    conversation = answers(GREETED, places)
    assert (conversation.answer.ready, conversation.answer.complete) == (True, False)
    answer = answers(INSERTED, places).answer
    assert (answer.rows, answer.complete, answer.ready) == ([("n1",)], True, True)


def test_nothing_counts_as_committed_before_the_server_says_so() -> None:
    for length in range(len(INSERTED)):
        answer = answers(INSERTED[:length], []).answer
        assert answer.complete == (length >= len(ROW) + len(COMPLETE)) and not answer.ready


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (STARTING, "the database system is starting up"),
        (b"R\0\0\0\x0c\0\0\0\x05salt", "wants a password"),
        (b"HTTP/1.1 400 Bad Request\r\n", "not PostgreSQL's protocol"),
        (b"E\0\0\0\x05\0", "an error without words"),
    ],
)
def test_a_server_that_refuses_is_told_in_its_words(said: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        Conversation().feed(said)


# ---- the writer ------------------------------------------------------------------------------------------------------


class Server(threading.Thread):
    """Speaks as PostgreSQL does. `acknowledge`: what becomes of an insert; it can be told to hang or to hang up."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.mode = "answer"
        self.committed: list[str] = []
        self.answered_at = time.monotonic()

    def run(self) -> None:
        while True:
            with suppress(OSError):
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(GREETED)
            while question := connection.recv(4096):
                assert struct.unpack_from("!I", question, 1)[0] == len(question) - 1
                if question[:1] == END or self.mode == "hang up":
                    return
                if self.mode == "hang":
                    threading.Event().wait(2)
                    return
                self.committed.append(question.split(b"'")[1].decode())
                connection.sendall(INSERTED)
                self.answered_at = time.monotonic()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.listener.close()


@contextmanager
def writer(server: Server) -> Iterator[Probing]:
    def start(argv: list[str], options: dict[str, Any]) -> subprocess.Popen[str]:
        return subprocess.Popen(argv, text=True, **options)

    with Probing(start, writing(f"127.0.0.1:{server.port}", "row")) as made:
        made.wait_answer(node="n1")
        yield made


@pytest.mark.parametrize(("mode", "longest"), [("hang", 4.0), ("hang up", 1.5)])
def test_what_the_writer_notes_is_what_was_committed_and_an_outage_is_seen(
    server: Server, mode: str, longest: float
) -> None:
    with writer(server) as probing:
        while len(server.committed) < 20:
            time.sleep(0.01)
        server.mode = mode
        while time.monotonic() < server.answered_at + 0.5:
            time.sleep(0.01)
        before, server.mode = len(server.committed), "answer"
        while len(server.committed) < before + 20:
            time.sleep(0.01)
    told = cluster.acknowledged("row", probing.result.answered)
    assert told <= set(server.committed) and len(server.committed) - len(told) <= 1
    assert len(set(probing.result.answered)) == len(probing.result.answered) == probing.result.answers
    outages = [outage for outage in probing.result.outages if outage.length > 0.5]
    assert len(outages) == 1 and outages[0].length < longest


def test_one_question(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert query.main(["127.0.0.1", str(server.port), "select 'x'"]) == 0
    assert capsys.readouterr().out == "n1\n"
    server.mode = "hang up"
    assert query.main(["127.0.0.1", str(server.port), "select 'x'"]) == 1
    assert "the server hung up" in capsys.readouterr().err


# ---- what DRBD's kernels say: /proc/drbd of 8.4.11 -------------------------------------------------------------------

PROC = """\
version: 8.4.11 (api:1/proto:86-101)
 0: cs:{cs} ro:{ro} ds:{ds} C {flags}
    ns:82211 nr:0 dw:225541 dr:1436 al:15 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:{oos}
"""


def proc(cs: str = "Connected", ro: str = "Primary/Secondary", ds: str = "UpToDate/UpToDate", flags: str = "r-----",
         oos: int = 0) -> str:  # fmt: skip
    return PROC.format(cs=cs, ro=ro, ds=ds, flags=flags, oos=oos)


@pytest.mark.parametrize(
    ("text", "equal", "suspended"),
    [
        (proc(), True, False),
        (proc(oos=4), False, False),
        (proc(ds="UpToDate/Outdated"), False, False),
        (proc(cs="WFConnection", ro="Primary/Unknown", ds="UpToDate/DUnknown", flags="s-----"), False, True),
        (proc(cs="SyncSource", ds="UpToDate/Inconsistent"), False, False),
    ],
)
def test_a_replica_is_read(text: str, equal: bool, suspended: bool) -> None:
    match = cluster.LINE.search(text)
    assert match is not None
    minor, connection, role, peer_role, disk, peer_disk, flag, oos = match.groups()
    found = cluster.Replica(int(minor), connection, role, peer_role, disk, peer_disk, flag == "s", int(oos))
    assert (found.equal, found.suspended, found.minor, found.role) == (equal, suspended, 0, "Primary")
    ((_, *state),) = sampler.LINE.findall(text)
    assert state == [connection, role, disk, flag]


def test_a_resource_that_is_not_configured_is_no_replica() -> None:
    text = "version: 8.4.11 (api:1/proto:86-101)\n 0: cs:Unconfigured\n"
    assert cluster.LINE.search(text) is None
    assert [found[2] for found in sampler.LINE.findall(text)] == [""]


# ---- who could write -------------------------------------------------------------------------------------------------

WRITES, FROZEN, SECONDARY = ("Primary", "running"), ("Primary", "suspended"), ("Secondary", "running")


def watched(**looks: list[tuple[float, tuple[str, str] | None]]) -> ReplicaWatch:
    """A watch that has seen these: for each node, times and what was seen then (None: another sampler begins)."""
    lab: Any = SimpleNamespace(description=SimpleNamespace(nodes=[SimpleNamespace(name=name) for name in looks]))
    made = ReplicaWatch(lab, 100)
    for node, seen in looks.items():
        known = False
        for at, state in seen:
            known = made._note(node, at, ("C", state[0], "UpToDate", state[1]), known) if state else False
    return made


def steady(since: float, until: float, state: tuple[str, str]) -> list[tuple[float, tuple[str, str] | None]]:
    return [(since + step / 10, state) for step in range(round((until - since) * 10) + 1)]


def test_two_that_could_write_at_once_are_found() -> None:
    first = steady(0.0, 2.0, WRITES) + steady(2.1, 4.0, FROZEN)
    assert watched(n1=first, n2=steady(0.0, 1.9, SECONDARY) + steady(2.2, 4.0, WRITES)).both_write(0.05) == []
    ((mine, other),) = watched(n1=first, n2=steady(0.0, 0.9, SECONDARY) + steady(1.0, 4.0, WRITES)).both_write(0.05)
    assert (mine.node, other.node, mine.until) == ("n1", "n2", 2.1)


def test_what_stood_still_could_not_write() -> None:
    """n1 is paused from 1 to 9, and n2 writes meanwhile; another sampler of n1 after a boot knows nothing of before."""
    taken = steady(0.0, 2.0, SECONDARY) + steady(2.1, 8.0, WRITES) + steady(8.1, 10.0, SECONDARY)
    assert watched(n1=steady(0.0, 1.0, WRITES) + steady(9.0, 10.0, WRITES), n2=taken).both_write() == []
    assert watched(n1=[*steady(0.0, 1.0, WRITES), (1.1, None), *steady(9.0, 9.5, WRITES)], n2=taken).both_write() == []


def test_how_long_a_primary_stood_still() -> None:
    spells = steady(0.0, 1.0, WRITES) + steady(1.1, 1.5, FROZEN) + steady(1.6, 3.0, WRITES) + steady(3.1, 3.2, FROZEN)
    assert watched(n1=spells, n2=steady(0.0, 4.0, SECONDARY)).frozen() == pytest.approx(0.5)
    assert watched(n1=steady(0.0, 1.0, WRITES)).frozen() == 0.0
    assert watch.GAP > 3 * sampler.SIGN_OF_LIFE


# ---- the campaign ----------------------------------------------------------------------------------------------------


def test_rounds_are_drawn_by_seed_and_number_and_go_through_all_kinds() -> None:
    laps = [[draw(7, number) for number in range(lap * len(KINDS), (lap + 1) * len(KINDS))] for lap in range(4)]
    assert all(sorted(fault.kind for fault in lap) == sorted(KINDS) for lap in laps)
    assert len({tuple(fault.kind for fault in lap) for lap in laps}) > 1
    assert draw(7, 5) == draw(7, 5) != draw(8, 5)
    assert {fault.refuse for lap in laps for fault in lap if fault.kind == KINDS[0]} == {False}


@pytest.mark.parametrize(
    ("kind", "refuse", "most"),
    [
        (REPLICATION, False, ANSWERED),
        (HEARTBEAT, False, ANSWERED + EXCLUDED),
        (CUT, False, ANSWERED + EXCLUDED),
        (POWER, False, ANSWERED + EXCLUDED),
        (HEARTBEAT, True, ENDED),
        (CUT, True, ENDED),
        (PAUSE, True, 3.0 + ENDED),
    ],
)
def test_a_freeze_of_every_kind_has_an_end(kind: str, refuse: bool, most: float) -> None:
    assert longest_freeze(Fault(kind, 3.0, 1.0, refuse, silent=False)) == most


def test_the_table_has_a_line_for_every_kind_that_was_played() -> None:
    played = [Outcome(number, draw(1, number), "n1", "n2", 2.0 + number, 0.5, 100, 9.0) for number in range(9)]
    lines = table(played).splitlines()
    assert len(lines) == 1 + len(KINDS) and lines[0].split()[-2:] == ["WELL", "AFTER"]
    twice = next(line for line in lines if line.startswith(draw(1, 8).kind))
    assert "  2  " in twice and twice.endswith("9.00")
