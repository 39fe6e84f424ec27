"""The client that measures outages."""

from collections.abc import Iterator

import pytest

from truecl.lab import probe
from truecl.lab.cluster import Lab

SERVER = """
import http.server, socket
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Node", socket.gethostname())
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"yes")
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
Server(("", 8080), Answer).serve_forever()
"""


def test_a_tally_measures_the_time_between_answers() -> None:
    tally = probe.Tally(started=100.0, gap=0.05)
    assert tally.answer("n1", 100.01)
    assert not tally.answer("n1", 100.02)
    assert tally.answer("n2", 100.52)
    result = tally.result(100.6)
    assert result["longest"] == 0.5
    assert result["outages"] == [{"at": 0.02, "length": 0.5}, {"at": 0.52, "length": 0.08}]
    assert result["nodes"] == {"n1": 2, "n2": 1}
    assert result["changes"] == [{"at": 0.01, "node": "n1"}, {"at": 0.52, "node": "n2"}]


def test_without_answers_the_whole_time_is_an_outage() -> None:
    assert probe.Tally(started=1.0, gap=0.05).result(3.0)["longest"] == 2.0


@pytest.mark.parametrize(
    ("answer", "closed", "whole"),
    [
        (b"", True, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nye", True, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes", False, True),
        (b"HTTP/1.0 200 OK\r\n\r\nyes", False, False),
        (b"HTTP/1.0 200 OK\r\n\r\nyes", True, True),
    ],
)
def test_an_answer_counts_only_whole(answer: bytes, closed: bool, whole: bool) -> None:
    assert probe.complete(answer, True, closed) is whole


def test_an_answer_counts_only_if_it_is_the_applications() -> None:
    assert probe.accepted(b"HTTP/1.1 200 OK\r\n\r\nyes", True, "")
    assert not probe.accepted(b"HTTP/1.1 503 Later\r\n\r\n", True, "")
    assert not probe.accepted(b"HTTP/1.1 200 OK\r\n\r\nno", True, "yes")
    assert probe.accepted(b"PONG", False, "PONG")


@pytest.fixture
def serving(lab: Lab) -> Iterator[None]:
    """A server on n1 and n2. It goes with their power, whatever the test did."""
    servers = [lab.popen(node, ["/usr/bin/env", "python3", "-c", SERVER]) for node in ("n1", "n2")]
    yield
    for node in ("n1", "n2"):
        lab.kill(node)
        lab.boot(node)
    for server in servers:
        server.wait()


@pytest.mark.lab
@pytest.mark.namespaces
@pytest.mark.usefixtures("serving")
def test_a_stopped_node_gives_no_answer_though_its_kernel_accepts(lab: Lab) -> None:
    with lab.probe("10.77.1.1:8080", expect="yes") as probing:
        assert probing.wait_answer() == "n1"
        lab.pause("n1")
        connect = "import socket; socket.create_connection(('10.77.1.1', 8080), 1)"
        for _ in range(3):
            lab.exec("client", ["/usr/bin/env", "python3", "-c", connect]).check()
        lab.resume("n1")
        with lab.probe("10.77.1.1:8080") as second:
            assert second.wait_answer() == "n1"
    result = probing.result
    assert result.longest > 0.05
    assert len(result.outages) >= 1
    assert set(result.nodes) == {"n1"}


@pytest.mark.lab
@pytest.mark.namespaces
@pytest.mark.usefixtures("serving")
def test_another_node_that_answers_is_told(lab: Lab) -> None:
    """A floating address by hand: n2 answers after n1 lost its power."""
    lab.exec("n1", ["ip", "address", "add", "10.77.1.100/32", "dev", "eth0"]).check()
    with lab.probe("10.77.1.100:8080") as probing:
        assert probing.wait_answer() == "n1"
        lab.kill("n1")
        lab.exec("n2", ["ip", "address", "add", "10.77.1.100/32", "dev", "eth0"]).check()
        lab.exec("client", ["ip", "neighbour", "flush", "dev", "eth0"]).check()
        assert probing.wait_answer(node="n2") == "n2"
    assert [node for _, node in probing.result.changes] == ["n1", "n2"]
    assert probing.result.longest > 0.005
