"""The node's own sockets: who may come in, what each sees, and that nobody can be held up by who does not read."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from turning import turn_until

from truecl.core.contract import Event, Joined, Left, Told
from truecl.model.ids import CLUSTERD, HBD, LOCKD, STATD, DaemonName
from truecl.runtime import client
from truecl.runtime.channel import MAX_UNREAD
from truecl.runtime.clock import BootClock, new_reactor
from truecl.runtime.local import LocalBus, LocalClient, LocalServer
from truecl.runtime.log import Log
from truecl.runtime.rights import Rights
from truecl.wire.codec import Codec
from truecl.wire.frame import MAX_FRAME, MAX_HELLO, VERSIONS
from truecl.wire.messages import LOCAL, Refused, Subscribe
from truecl.wire.session import LOCAL_HELLO, LocalHello

CODEC = Codec(LOCAL)
LOOKING = 64123
STRANGER = 64124
RIGHTS = Rights(frozenset({0, os.getuid()}), LOOKING)


class Node:
    def __init__(self, run: Path) -> None:
        self.run = run
        self.reactor = new_reactor()
        self.lines: list[bytes] = []
        self.log = Log("n1", "hbd", self.lines.append, BootClock())
        self.stops: list[Callable[[], None]] = []

    def bus(
        self, name: DaemonName, to: tuple[DaemonName, ...] = (), rights: Rights = RIGHTS
    ) -> tuple[LocalBus, list[Event]]:
        events: list[Event] = []
        given: dict[str, Any] = {
            "rights": rights,
            "codec": CODEC,
            "feed": events.append,
            "reactor": self.reactor,
            "log": self.log,
        }
        server = LocalServer(self.run, name, **given)
        clients = {each: LocalClient(self.run, name, each, **given) for each in to}
        bus = LocalBus(server, clients)
        bus.start()
        self.stops.append(bus.stop)
        return bus, events

    def until(self, condition: Callable[[], object]) -> None:
        turn_until(self.reactor, condition)

    def in_thread(self, work: Callable[[], Any]) -> Any:
        """What `work` gives or raises, while the reactor turns."""
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(work())
            except (client.NoDaemon, client.NotAllowed, client.NoAnswer) as error:
                results.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self.until(lambda: not thread.is_alive())
        return results[0]

    def logged(self, text: str) -> bool:
        return any(text.encode() in line for line in self.lines)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    for stop in made.stops:
        stop()
    for _ in range(5):
        made.reactor.iterate(0)


def raw(node: Node, daemon: DaemonName = HBD) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(node.run / f"{daemon}.sock"))
    connection.setblocking(False)
    return connection


def heard(connection: socket.socket) -> bytes | None:
    try:
        return connection.recv(1 << 20)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def ended(connection: socket.socket) -> bool:
    return heard(connection) == b""


def test_two_daemons_see_each_other_under_their_names(node: Node) -> None:
    lockd, at_lockd = node.bus(LOCKD, to=(HBD,))
    hbd, at_hbd = node.bus(HBD)
    node.until(lambda: at_lockd and at_hbd)
    assert at_lockd == [Joined("hbd")]
    assert at_hbd == [Joined("lockd")]
    lockd.tell("hbd", Subscribe())
    hbd.tell("lockd", Refused("no"))
    hbd.tell("nobody", Refused("lost"))
    node.until(lambda: len(at_lockd) == 2 and len(at_hbd) == 2)
    assert at_lockd[1] == Told("hbd", Refused("no"))
    assert at_hbd[1] == Told("lockd", Subscribe())


def test_a_restarted_server_is_joined_again(node: Node) -> None:
    node.bus(LOCKD, to=(HBD,))
    events = node.bus(STATD, to=(HBD,))[1]
    first, _ = node.bus(HBD)
    node.until(lambda: events == [Joined("hbd")])
    first.stop()
    node.until(lambda: events == [Joined("hbd"), Left("hbd")])
    node.bus(HBD)
    node.until(lambda: events == [Joined("hbd"), Left("hbd"), Joined("hbd")])


def test_the_same_daemon_come_again_replaces_its_former_life(node: Node) -> None:
    _, events = node.bus(HBD)
    node.bus(LOCKD, to=(HBD,))
    node.until(lambda: events == [Joined("lockd")])
    with raw(node) as again:
        again.send(LOCAL_HELLO.encode(LocalHello("lockd", "daemon")))
        node.until(lambda: len(events) >= 3)
        assert events[:3] == [Joined("lockd"), Left("lockd"), Joined("lockd")]


def test_a_command_asks_and_hears_until_it_goes(node: Node) -> None:
    bus, events = node.bus(HBD)

    def answer() -> None:
        for event in events:
            if isinstance(event, Told):
                bus.tell(event.who, Refused("one"))
                bus.tell(event.who, Refused("two"))
                return
        node.reactor.callLater(0.01, answer)

    answer()

    def work() -> list[Any]:
        replies = client.ask(HBD, ["Subscribe"], 5.0, "lha_stat", node.run)
        return [next(replies), next(replies)]

    assert node.in_thread(work) == [["Refused", "one"], ["Refused", "two"]]
    node.until(lambda: len(events) == 3)
    assert events == [Joined("command-1"), Told("command-1", Subscribe()), Left("command-1")]


def test_a_command_without_a_daemon_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(client.NoDaemon, match="statd is not running on this node") as raised:
        list(client.ask(STATD, ["Subscribe"], 1.0, "lha_stat", tmp_path))
    assert raised.value.exit_code == 3
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "statd.sock"))
    stale.close()
    with pytest.raises(client.NoDaemon, match="is not running"):
        list(client.ask(STATD, ["Subscribe"], 1.0, "lha_stat", tmp_path))


def test_a_silent_daemon_is_waited_for_only_so_long(node: Node) -> None:
    node.bus(HBD)
    outcome = node.in_thread(lambda: list(client.ask(HBD, ["Subscribe"], 0.1, "lha_stat", node.run)))
    assert isinstance(outcome, client.NoAnswer)


def test_a_daemon_that_goes_away_is_said(node: Node) -> None:
    bus, events = node.bus(HBD)
    node.reactor.callLater(0.2, bus.stop)
    outcome = node.in_thread(lambda: list(client.ask(HBD, ["Subscribe"], 5.0, "lha_stat", node.run)))
    assert isinstance(outcome, client.NoDaemon)
    assert "hbd" in str(outcome)
    assert events[:1] == [Joined("command-1")]


def test_only_names_of_daemons_can_be_claimed(node: Node) -> None:
    _, events = node.bus(HBD)
    with raw(node) as connection:
        connection.send(LOCAL_HELLO.encode(LocalHello("command-1", "daemon")))
        node.until(lambda: (data := heard(connection)) is not None and b"is no daemon of truecl" in data)
    assert events == []


def test_versions_that_do_not_meet_are_refused_with_a_reason(node: Node) -> None:
    node.bus(HBD)
    refusal = f"lha_stat speaks formats 7 to 9, hbd {VERSIONS[0]} to {VERSIONS[1]}: upgrade hbd".encode()
    with raw(node) as connection:
        connection.send(LOCAL_HELLO.encode(LocalHello("lha_stat", "command", 7, 9)))
        node.until(lambda: (data := heard(connection)) is not None and refusal in data)


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", (MAX_HELLO + 1).to_bytes(4, "big"), b"\x00\x00\x00\x02hi", CODEC.encode(Subscribe())],
    ids=["http", "oversized", "garbage", "message before the hello"],
)
def test_noise_instead_of_a_hello_ends_in_one_line(node: Node, noise: bytes) -> None:
    _, events = node.bus(HBD)
    for _ in range(3):
        with raw(node) as connection:
            connection.send(noise)
            node.until(partial(ended, connection))
    assert events == []
    assert len(node.lines) == 1


@pytest.mark.parametrize(
    "noise", [(MAX_FRAME + 1).to_bytes(4, "big"), b"\x00\x00\x00\x02hi"], ids=["oversized", "garbage"]
)
def test_noise_after_the_hello_ends_the_connection(node: Node, noise: bytes) -> None:
    _, events = node.bus(HBD)
    with raw(node) as connection:
        connection.send(LOCAL_HELLO.encode(LocalHello("lha_stat", "command")) + noise)
        node.until(lambda: events == [Joined("command-1"), Left("command-1")])


def test_what_is_no_message_is_refused_in_words_that_a_command_reads(node: Node) -> None:
    node.bus(HBD)
    for request in (["Nonsense"], ["AskLog", "soon"], ["AskStanding", "\udcff"]):
        outcome = node.in_thread(lambda request=request: list(client.ask(HBD, request, 5.0, "lha_stat", node.run)))
        assert isinstance(outcome, client.NoDaemon)
        assert "hbd refuses: " in str(outcome) and "no message of this channel" in str(outcome)


def test_a_command_that_does_not_read_is_dropped(node: Node) -> None:
    bus, events = node.bus(HBD)
    with raw(node) as connection:
        connection.send(LOCAL_HELLO.encode(LocalHello("lha_log", "command")))
        node.until(lambda: events == [Joined("command-1")])
        line = Refused("x" * 100_000)
        for _ in range(MAX_UNREAD // 100_000 + 20):
            bus.tell("command-1", line)
            node.reactor.iterate(0)
        assert events == [Joined("command-1"), Left("command-1")]
        assert node.logged("does not read")


def test_a_message_over_the_limit_is_not_sent_and_said(node: Node) -> None:
    bus, events = node.bus(HBD)
    with raw(node) as connection:
        connection.send(LOCAL_HELLO.encode(LocalHello("lha_log", "command")))
        node.until(lambda: events == [Joined("command-1")])
        bus.tell("command-1", Refused("x" * (MAX_FRAME + 1)))
        assert node.logged("Refused for command-1 is not sent")


def test_the_socket_is_for_root_and_the_group_and_replaces_a_stale_one(node: Node) -> None:
    (node.run / "hbd.sock").write_text("left over")
    node.bus(HBD, rights=Rights(frozenset({0}), os.getgid()))
    status = (node.run / "hbd.sock").stat()
    assert status.st_mode & 0o777 == 0o660
    assert status.st_gid == os.getgid()
    assert sorted(path.name for path in node.run.iterdir()) == ["hbd.sock"]


def test_a_server_of_the_wrong_user_is_not_believed(node: Node) -> None:
    node.bus(HBD)
    _, events = node.bus(CLUSTERD, to=(HBD,), rights=Rights(frozenset(), None))
    node.until(lambda: node.logged(f"is served by user id {os.getuid()}"))
    assert events == []


def as_user(uid: int, groups: list[int], node: Node, kind: Any, who: str) -> bytes:
    """What a process of that user hears after its hello."""
    node.run.chmod(0o755)
    (node.run / "hbd.sock").chmod(0o666)
    for directory in (node.run.parent, node.run.parent.parent, node.run.parent.parent.parent):
        if directory.stat().st_uid == os.getuid() and directory.name.startswith("pytest"):
            directory.chmod(0o755)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(node.run / "hbd.sock"))
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(LOCAL_HELLO.encode(LocalHello(who, kind)))
            connection.settimeout(5)
            theirs.sendall(connection.recv(65536))
        finally:
            os._exit(0)
    theirs.close()
    ours.setblocking(False)
    said: list[bytes] = []

    def over() -> bool:
        data = heard(ours)
        said.append(data or b"")
        return data == b""

    node.until(over)
    os.waitpid(pid, 0)
    ours.close()
    return b"".join(said)


@pytest.mark.root
def test_a_member_of_the_group_looks_and_does_not_act(node: Node) -> None:
    _, events = node.bus(HBD)
    assert b"command-1" in as_user(STRANGER, [LOOKING], node, "command", "lha_stat")
    assert events[0] == Joined("command-1", root=False)
    assert b"cannot be a daemon" in as_user(STRANGER, [LOOKING], node, "daemon", "lockd")
    node.until(lambda: len(events) == 2)
    assert events[1:] == [Left("command-1")]


@pytest.mark.root
def test_a_stranger_is_refused_with_a_reason(node: Node) -> None:
    _, events = node.bus(HBD)
    said = as_user(STRANGER, [], node, "command", "lha_stat")
    assert b"user id 64124 is neither root nor in group truecl" in said
    assert events == []


@pytest.mark.root
def test_the_daemons_user_acts(node: Node) -> None:
    _, events = node.bus(HBD, rights=Rights(frozenset({0, STRANGER}), LOOKING))
    as_user(STRANGER, [], node, "daemon", "lockd")
    assert events[0] == Joined("lockd", root=True)
