"""Two real TLS nodes on loopback addresses, and everybody who is not one of them."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from turning import turn_until

from truecl.core.contract import Connected, Disconnected, Event, Received, Rejected
from truecl.model.ids import LOCKD, BootId, LinkName, NodeName
from truecl.runtime.authority import Pair, issue, new_authority
from truecl.runtime.clock import BootClock, Reactor, new_reactor
from truecl.runtime.credentials import Credentials
from truecl.runtime.log import Log
from truecl.runtime.mesh import MAX_QUEUED, MAX_UNKNOWN_EACH, AddressTaken, Mesh
from truecl.runtime.tls import Context
from truecl.wire.codec import Codec
from truecl.wire.frame import MAX_FRAME
from truecl.wire.seal import KeyRing
from truecl.wire.session import Identity

A, B = NodeName("a"), NodeName("b")
ONE, TWO = LinkName("one"), LinkName("two")
ADDRESSES = {
    A: {ONE: "127.71.1.1", TWO: "127.71.2.1"},
    B: {ONE: "127.71.1.2", TWO: "127.71.2.2"},
}
FOREIGN = "127.71.1.9"


class Note(msgspec.Struct, frozen=True, tag=True, array_like=True):
    number: int
    text: str = ""


NEW = 1_000_000
"""Notes from this number on are of format 2."""

AUTHORITY, OTHER_AUTHORITY = new_authority("prod", time.time()), new_authority("prod", time.time())
PAIRS = {name: issue(AUTHORITY, "prod", name, time.time()) for name in (A, B, NodeName("c"))}


def credentials(node: NodeName, authority: Pair = AUTHORITY, pair: Pair | None = None) -> Credentials:
    own = pair or (PAIRS[node] if authority is AUTHORITY else issue(authority, "prod", node, time.time()))
    return Credentials(node, "prod", authority.cert_pem, own.cert_pem, own.key_pem, KeyRing({1: b"k" * 32}, 1))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass
class Node:
    reactor: Reactor
    name: NodeName
    port: int
    credentials: Credentials
    boot: str = "1"
    cluster: str = "prod"
    versions: tuple[int, int] = (1, 1)
    events: list[Event] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mesh = Mesh(
            Identity(self.cluster, self.name, LOCKD, BootId(self.boot), self.versions),
            ADDRESSES[self.name],
            ADDRESSES,
            self.port,
            context=Context(self.credentials),
            codec=Codec(Note),
            feed=self.events.append,
            reactor=self.reactor,
            clock=BootClock(),
            random=Random(7),
            log=Log(self.name, "lockd", self.lines.append, BootClock()),
            since=lambda message: 2 if message.number >= NEW else 1,
        )

    @property
    def messages(self) -> list[int]:
        return [event.message.number for event in self.events if isinstance(event, Received)]

    def logged(self, text: str) -> bool:
        return any(text.encode() in line for line in self.lines)


class Cluster:
    def __init__(self) -> None:
        self.reactor = new_reactor()
        self.port = free_port()
        self.nodes: list[Node] = []

    def node(self, name: NodeName, listen: bool = True, **changes: Any) -> Node:
        node = Node(self.reactor, name, self.port, changes.pop("credentials", None) or credentials(name), **changes)
        self.nodes.append(node)
        if listen:
            node.mesh.listen()
        return node

    def until(self, condition: Callable[[], object], deadline: float = 10.0) -> None:
        turn_until(self.reactor, condition, deadline)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    for node in made.nodes:
        node.mesh.stop()
    for _ in range(5):
        made.reactor.iterate(0)


def test_messages_go_both_ways_over_the_connection_that_exists(cluster: Cluster) -> None:
    a, b = cluster.node(A), cluster.node(B)
    for number in range(100):
        a.mesh.send(B, Note(number))
    cluster.until(lambda: len(b.messages) == 100)
    assert b.messages == list(range(100))
    b.mesh.send(A, Note(7))
    cluster.until(lambda: a.messages == [7])
    assert (a.mesh.connected(B), b.mesh.connected(A)) == ((ONE,), (ONE,))
    assert a.events[0] == Connected(B)
    assert b.events[0] == Connected(A)


def test_both_may_dial_at_once(cluster: Cluster) -> None:
    a, b = cluster.node(A), cluster.node(B)
    a.mesh.send(B, Note(1))
    b.mesh.send(A, Note(2))
    cluster.until(lambda: a.messages == [2] and b.messages == [1])
    assert a.events.count(Connected(B)) == b.events.count(Connected(A)) == 1


def test_a_link_that_goes_down_moves_messages_to_the_other_at_once(cluster: Cluster) -> None:
    a, b = cluster.node(A), cluster.node(B)
    a.mesh.send(B, Note(1))
    cluster.until(lambda: b.messages == [1])
    a.mesh.links(B, {ONE: False, TWO: True})
    assert a.events == [Connected(B), Disconnected(B)]
    a.mesh.send(B, Note(2))
    cluster.until(lambda: b.messages == [1, 2])
    assert a.mesh.connected(B) == (TWO,)


def test_a_peer_that_comes_up_later_is_reached_without_a_new_send(cluster: Cluster) -> None:
    a = cluster.node(A)
    a.mesh.send(B, Note(1))
    cluster.until(lambda: a.logged("b cannot be reached at 127.71.2.2"))
    b = cluster.node(B)
    cluster.until(lambda: b.messages == [1], deadline=1.9)


def test_link_up_dials_without_waiting_for_the_back_off(cluster: Cluster) -> None:
    a = cluster.node(A)
    a.mesh.links(B, {ONE: False, TWO: False})
    a.mesh.send(B, Note(0))
    cluster.until(lambda: a.logged("cannot be reached"))
    b = cluster.node(B)
    a.mesh.links(B, {ONE: False, TWO: True})
    started = time.monotonic()
    cluster.until(lambda: b.messages == [0])
    assert a.mesh.connected(B) == (TWO,)
    assert time.monotonic() - started < 1.0


def test_a_second_machine_of_a_name_is_refused_while_the_first_is_alive(cluster: Cluster) -> None:
    a = cluster.node(A)
    a.mesh.links(B, {ONE: True, TWO: True}, BootId("of the living one"))
    b = cluster.node(B)
    b.mesh.send(A, Note(1))
    cluster.until(lambda: a.logged("another machine of that name"))
    assert a.messages == [] and a.events == []
    a.mesh.links(B, {ONE: True, TWO: True}, None)
    cluster.until(lambda: a.messages == [1])


def test_what_waits_is_bounded_and_the_oldest_goes(cluster: Cluster) -> None:
    a = cluster.node(A)
    for number in range(MAX_QUEUED + 5):
        a.mesh.send(B, Note(number))
    assert a.mesh.dropped(B) == 5
    b = cluster.node(B)
    cluster.until(lambda: len(b.messages) == MAX_QUEUED)
    assert b.messages[0] == 5


def test_a_message_that_is_too_large_is_not_sent_and_said(cluster: Cluster) -> None:
    a, b = cluster.node(A), cluster.node(B)
    a.mesh.send(B, Note(1, "x" * (MAX_FRAME + 1)))
    a.mesh.send(B, Note(2, "x" * (MAX_FRAME - 100)))
    cluster.until(lambda: b.messages == [2])
    assert a.logged("Note for b is not sent")


def test_a_peer_that_booted_again_takes_the_old_connections_with_it(cluster: Cluster) -> None:
    a, b = cluster.node(A), cluster.node(B)
    b.mesh.send(A, Note(1))
    cluster.until(lambda: a.messages == [1])
    again = cluster.node(B, listen=False, boot="2")
    again.mesh.send(A, Note(2))
    cluster.until(lambda: a.messages == [1, 2] and not b.mesh.connected(A))
    assert len(a.mesh.connected(B)) == 1


def test_the_end_of_a_peer_is_told(cluster: Cluster) -> None:
    a, b = cluster.node(A), cluster.node(B)
    a.mesh.send(B, Note(1))
    cluster.until(lambda: b.messages == [1])
    b.mesh.stop()
    cluster.until(lambda: Disconnected(B) in a.events)


@pytest.mark.parametrize(
    ("changes", "said_by_server", "said_by_client"),
    [
        ({"credentials": credentials(B, OTHER_AUTHORITY)}, "TLS: ", "TLS: certificate verify failed"),
        ({"credentials": credentials(B, pair=PAIRS[NodeName("c")])}, "certificate of 'c'", "b cannot be reached"),
        ({"cluster": "test"}, "belongs to cluster 'test', this node to 'prod'", "a refused this node: belongs to"),
    ],
)
def test_whoever_is_no_node_of_this_cluster_is_refused_with_one_line(
    cluster: Cluster, changes: dict[str, Any], said_by_server: str, said_by_client: str
) -> None:
    a, b = cluster.node(A), cluster.node(B, listen=False, **changes)
    for number in range(3):
        b.mesh.send(A, Note(number))
    cluster.until(lambda: a.mesh.refused >= 2 or (a.mesh.refused and b.logged("cannot be reached")))
    cluster.until(lambda: b.logged(said_by_client if "refused" in said_by_client else "cannot be reached"))
    assert a.logged(said_by_server) or "TLS" in said_by_server
    assert a.events == [] and b.events == []
    assert len([line for line in a.lines if b"127.71.1.2" in line]) == 1


def raw(cluster: Cluster, source: str) -> socket.socket:
    connection = socket.create_connection((ADDRESSES[A][ONE], cluster.port), 5, (source, 0))
    connection.setblocking(False)
    return connection


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_stranger_is_turned_away_before_any_cryptography(cluster: Cluster) -> None:
    a = cluster.node(A)
    with raw(cluster, FOREIGN) as stranger:
        cluster.until(lambda: ended(stranger))
    assert a.logged(f"connection from {FOREIGN} refused: not a link address of any node")


@pytest.mark.parametrize(
    "garbage",
    [b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"z" * 70000],
    ids=["zeros", "http", "long record"],
)
def test_garbage_from_a_nodes_address_ends_in_one_line(cluster: Cluster, garbage: bytes) -> None:
    a, b = cluster.node(A), cluster.node(B)
    for _ in range(5):
        with raw(cluster, ADDRESSES[B][ONE]) as noise:
            noise.send(garbage)
            cluster.until(partial(ended, noise))
    assert len([line for line in a.lines if b"refused" in line]) == 1
    b.mesh.send(A, Note(1))
    cluster.until(lambda: a.messages == [1])


def test_silent_connections_are_limited_in_number(cluster: Cluster) -> None:
    a = cluster.node(A)
    silent = [raw(cluster, ADDRESSES[B][ONE]) for _ in range(MAX_UNKNOWN_EACH + 3)]
    cluster.until(lambda: sum(map(ended, silent)) == 3)
    assert a.logged("too many connections that did not finish their hello")
    cluster.until(lambda: all(map(ended, silent)), deadline=8.0)
    assert a.mesh.refused == MAX_UNKNOWN_EACH + 3
    for connection in silent:
        connection.close()


def authenticated(
    cluster: Cluster, tmp_path: Path, send: bytes, hello: bool, deaf: threading.Event | None = None
) -> bytes:
    """A node with a good certificate that says `send` after its hello; what it was told until the end.

    `deaf`: it reads nothing before this is set.
    """
    for name, content in (("cert", PAIRS[B].cert_pem), ("key", PAIRS[B].key_pem), ("ca", AUTHORITY.cert_pem)):
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    context.load_verify_locations(tmp_path / "ca")
    heard: list[bytes] = []

    def speak() -> None:
        plain = socket.create_connection((ADDRESSES[A][ONE], cluster.port), 5, (ADDRESSES[B][ONE], 0))
        with context.wrap_socket(plain) as connection:
            greeting = Codec(Any).encode(Identity("prod", B, LOCKD, BootId("1")).hello()) if hello else b""
            try:
                connection.sendall(greeting + send)
                if deaf is not None:
                    deaf.wait(20)
                while data := connection.recv(65536):
                    heard.append(data)
            except OSError:
                return

    thread = threading.Thread(target=speak)
    thread.start()
    cluster.until(lambda: not thread.is_alive())
    return b"".join(heard)


def test_an_oversized_frame_ends_the_session(cluster: Cluster, tmp_path: Path) -> None:
    a = cluster.node(A)
    authenticated(cluster, tmp_path, (MAX_FRAME + 1).to_bytes(4, "big"), hello=True)
    assert a.events == [Connected(B), Disconnected(B)]
    assert a.logged("a frame of 1048577 bytes exceeds the limit")


def test_a_peer_that_does_not_read_is_dropped_and_what_waits_is_bounded(cluster: Cluster, tmp_path: Path) -> None:
    a = cluster.node(A)
    deaf = threading.Event()

    def flood() -> None:
        if Connected(B) in a.events and Disconnected(B) not in a.events:
            a.mesh.send(B, Note(1, "x" * 500_000))
        elif Disconnected(B) in a.events:
            deaf.set()
            return
        cluster.reactor.callLater(0.01, flood)

    flood()
    authenticated(cluster, tmp_path, b"", hello=True, deaf=deaf)
    assert a.logged("connection with b over link one ended")
    assert a.mesh.dropped(B) > 0


def test_a_message_of_another_channel_ends_the_session(cluster: Cluster, tmp_path: Path) -> None:
    a = cluster.node(A)
    good, bad = Codec(Any).encode(["Note", 5]), Codec(Any).encode(["Vote", 1])
    authenticated(cluster, tmp_path, good + bad, hello=True)
    assert a.messages == [5]
    assert a.events[-1] == Disconnected(B)
    assert a.logged("that are no message of this channel")


def test_a_hello_that_is_none_is_told_why(cluster: Cluster, tmp_path: Path) -> None:
    a = cluster.node(A)
    heard = authenticated(cluster, tmp_path, b"\x00\x00\x00\x02hi", hello=False)
    assert b"no message of this channel" in heard
    assert a.events == []


def test_a_taken_port_is_said_with_its_place(cluster: Cluster) -> None:
    said = f"lockd cannot listen at 127.71.2.1 port {cluster.port}"
    with socket.create_server((ADDRESSES[A][TWO], cluster.port)), pytest.raises(AddressTaken, match=said):
        cluster.node(A)


# ---- releases ------------------------------------------------------------------------------------------------------


def test_what_the_other_release_does_not_know_is_left_out_and_the_rest_arrives(cluster: Cluster) -> None:
    newer, older = cluster.node(A, versions=(1, 2)), cluster.node(B)
    for number in (1, NEW, 2):  # they wait for the connection
        newer.mesh.send(B, Note(number))
    cluster.until(lambda: older.messages == [1, 2])
    for number in (NEW + 1, 3):  # it is there
        newer.mesh.send(B, Note(number))
    cluster.until(lambda: older.messages == [1, 2, 3])
    assert newer.mesh.dropped(B) == 2
    assert newer.logged("b speaks format 1; a message of format 2 is left out")


def test_between_equal_releases_nothing_is_left_out(cluster: Cluster) -> None:
    one, two = cluster.node(A, versions=(1, 2)), cluster.node(B, versions=(1, 3))
    one.mesh.send(B, Note(NEW))
    cluster.until(lambda: two.messages == [NEW])


def test_both_cores_hear_once_that_their_formats_do_not_meet(cluster: Cluster) -> None:
    newer, older = cluster.node(A, versions=(4, 5)), cluster.node(B, versions=(1, 3))
    for _ in range(3):
        newer.mesh.send(B, Note(1))
        cluster.until(lambda: older.events and newer.events)
    older.mesh.send(A, Note(2))
    cluster.until(lambda: newer.mesh.refused > 0 and older.mesh.refused > 1)
    assert newer.events == [Rejected(B, "b speaks formats 1 to 3, this node 4 to 5: upgrade b")]
    assert older.events == [Rejected(A, "a speaks formats 4 to 5, this node 1 to 3: upgrade this node")]


def test_a_node_that_comes_is_spoken_with_and_one_that_goes_is_told_so(cluster: Cluster) -> None:
    a = cluster.node(A)
    a.mesh.reconfigure({A: ADDRESSES[A]})
    b = cluster.node(B)
    a.mesh.send(B, Note(1))
    assert a.logged("nothing can be sent to 'b'")
    a.mesh.reconfigure(ADDRESSES)
    a.mesh.send(B, Note(2))
    cluster.until(lambda: b.messages == [2])
    a.mesh.reconfigure({A: ADDRESSES[A]})
    cluster.until(lambda: any(isinstance(event, Disconnected) for event in b.events))
    b.mesh.send(A, Note(3))
    cluster.until(lambda: b.logged("'b' is not a node of this cluster's configuration"))
    assert a.messages == []


def test_sessions_with_nodes_that_stay_outlive_a_new_configuration(cluster: Cluster) -> None:
    a, b = cluster.node(A), cluster.node(B)
    a.mesh.send(B, Note(1))
    cluster.until(lambda: b.messages == [1])
    a.mesh.reconfigure({**ADDRESSES, NodeName("d"): {LinkName("one"): "127.71.1.77"}})
    a.mesh.send(B, Note(2))
    cluster.until(lambda: b.messages == [1, 2])
    assert not any(isinstance(event, Disconnected) for event in (*a.events, *b.events))
