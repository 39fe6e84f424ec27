"""Garbage and oversized frames on every socket: daemons survive, say so once, and go on serving."""

from pathlib import Path

import pytest
from clusterlib import NODES, Cluster, light, until

from truecl.model.config import Ports
from truecl.model.ids import DAEMONS

pytestmark = pytest.mark.lab

APPS = {"light": light(1)}
PORTS = Ports()
TCP = {"reqd": PORTS.reqd, "lockd": PORTS.lockd, "syncd": PORTS.syncd, "statd": PORTS.statd, "clusterd": PORTS.clusterd}

STREAMS = """
import os, socket, ssl, sys
kind, *targets = sys.argv[1:]
hello = b"\\x82\\xa4type\\xabnobody-hello"
payloads = [
    os.urandom(4096),
    b"\\xff\\xff\\xff\\xff" + os.urandom(64),
    (1 << 21).to_bytes(4, "big") + bytes(1 << 21),
    len(hello).to_bytes(4, "big") + hello,
    b"\\x00\\x00\\x00\\x04\\xc1\\xc1\\xc1\\xc1",
    b"GET / HTTP/1.0\\r\\n\\r\\n",
    b"\\x16\\x03\\x01\\x00\\x05\\x01\\x00\\x00\\x01\\x00",
    b"\\x16\\x03\\x03\\xff\\xff" + os.urandom(70000),
    b"",
]
def connect(target):
    if kind == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(5)
        made.connect(target)
        return made
    host, port = target.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 5)
for target in targets:
    for payload in payloads:
        with connect(target) as made:
            try:
                made.sendall(payload)
                made.shutdown(socket.SHUT_WR)
                while made.recv(65536):
                    pass
            except OSError:
                pass  # refused: that is what is wanted
    if kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with connect(target) as made, context.wrap_socket(made) as wrapped:
                wrapped.sendall(payloads[0])
                while wrapped.recv(65536):
                    pass
        except OSError:
            pass
    idle = [connect(target) for _ in range(100)] if kind != "unix" else []
    for made in idle:
        made.close()
"""

AFTER_HELLO = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from truecl.wire.codec import Codec
from truecl.wire.messages import Ready, Renewed
from truecl.wire.session import LOCAL_HELLO, LocalHello
bodies = [
    b"\\xff\\xff\\xff\\xff",
    b"\\x00\\x00\\x00\\x04\\xc1\\xc1\\xc1\\xc1",
    b"\\x00\\x10\\x00\\x00" + bytes(1 << 20),
    Codec(object).encode({"a": [1] * 1000}),
    Codec(Ready).encode(Ready("hbd", 1)),
    Codec(Renewed).encode(Renewed("n1", "b", 1, 1, 1, (), 1.0)),
]
for path in sys.argv[2:]:
    for name in ("somebody", "hbd"):
        for body in bodies:
            with socket.socket(socket.AF_UNIX) as made:
                made.settimeout(5)
                made.connect(path)
                made.sendall(LOCAL_HELLO.encode(LocalHello(name, "command")))
                made.recv(65536)
                try:
                    made.sendall(body)
                    made.shutdown(socket.SHUT_WR)
                    while made.recv(65536):
                        pass
                except OSError:
                    pass
"""

DATAGRAMS = """
import os, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
    for target in sys.argv[1:]:
        host, port = target.rsplit(":", 1)
        for size in (0, 1, 12, 28, 29, 200, 1400, 60000):
            for _ in range(50):
                made.sendto(os.urandom(size), (host, int(port)))
"""


@pytest.fixture
def unharmed(cluster: Cluster):
    """Whatever the test does: the same processes, the same application, one or a few lines in the logs."""
    cluster.start("light")
    before = {(node, daemon): cluster.pid(node, daemon) for node in NODES for daemon in ("truecld", *DAEMONS)}
    assert all(before.values())
    program = cluster.programs("n1", "light")
    with cluster.lab.probe("10.77.1.101:80") as probe:
        probe.wait_answer()
        yield
    assert {(node, daemon): cluster.pid(node, daemon) for node, daemon in before} == before
    assert cluster.programs("n1", "light") == program
    assert probe.result.longest < 0.5, probe.result
    for node in NODES:
        assert not list(Path(cluster.lab.paths.node(node)).glob("log/truecl/*.crash*"))
        assert "Traceback" not in "".join(cluster.log(node, daemon) for daemon in DAEMONS) + cluster.lab.console(node)
    cluster.wait_up(at="n2")
    assert cluster.app("light")["failovers"] == 0
    cluster.stop("light", node="n2")


def new_lines(cluster: Cluster, node: str, daemon: str, source: str) -> list[str]:
    return [line for line in cluster.log(node, daemon).splitlines() if source in line and "refused" in line]


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(("place", "source"), [("client", "10.77.1.200"), ("n3", "10.77.1.3")])
def test_garbage_over_tcp(cluster: Cluster, place: str, source: str) -> None:
    targets = [f"10.77.1.1:{port}" for port in TCP.values()]
    for kind in ("tcp", "tls"):
        cluster.run(place, "/usr/bin/python3", "-c", STREAMS, kind, *targets)
    for daemon in TCP:
        from_there = f"connection from {source}"
        until(lambda daemon=daemon, said=from_there: new_lines(cluster, "n1", daemon, said), f"{daemon} says so")
        lines = new_lines(cluster, "n1", daemon, from_there)
        assert len(lines) <= 3 and all("WARNING" in line for line in lines), lines  # not one for each connection


@pytest.mark.usefixtures("unharmed")
def test_garbage_over_udp(cluster: Cluster) -> None:
    for place in ("client", "n3"):
        cluster.run(place, "/usr/bin/python3", "-c", DATAGRAMS, f"10.77.1.1:{PORTS.hbd}")
    until(lambda: new_lines(cluster, "n1", "hbd", "datagram from 10.77.1."), "hbd says so")
    assert len(new_lines(cluster, "n1", "hbd", "datagram from")) <= 3


@pytest.mark.usefixtures("unharmed")
def test_garbage_on_local_sockets(cluster: Cluster) -> None:
    sockets = [line for line in cluster.run("n1", "ls", "/run/truecl").out.split() if line.endswith(".sock")]
    daemons = sorted(f"{daemon}.sock" for daemon in DAEMONS if daemon != "netd")  # netd only dials
    assert sorted(sockets) == [*daemons, "truecld.sock"]  # the warm parent's, for reqd alone: it greets nobody
    cluster.run("n1", "/usr/bin/python3", "-c", STREAMS, "unix", *(f"/run/truecl/{name}" for name in sockets))
    greeting = [f"/run/truecl/{name}" for name in daemons]
    cluster.run("n1", "python", "-c", AFTER_HELLO, str(Path(__file__).parents[2]), *greeting)


@pytest.mark.usefixtures("unharmed")
def test_who_is_nobody_reaches_no_local_socket(cluster: Cluster) -> None:
    script = (
        "import os, socket\nfor name in os.listdir('/run/truecl'):\n    if not name.endswith('.sock'): continue\n"
        "    made = socket.socket(socket.AF_UNIX)\n    try: made.connect('/run/truecl/' + name)\n"
        "    except PermissionError: continue\n    print(name)"
    )
    user = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    assert cluster.run("n1", *user, "/usr/bin/python3", "-c", script).out == ""


@pytest.mark.usefixtures("unharmed")
def test_who_may_only_look_cannot_pass_for_a_daemon(cluster: Cluster) -> None:
    script = (
        "import socket\n"
        "from truecl.wire.session import LOCAL_HELLO, LocalHello\n"
        "for name in ('reqd', 'lockd', 'clusterd', 'statd', 'syncd', 'hbd'):\n"
        "    made = socket.socket(socket.AF_UNIX)\n    made.connect(f'/run/truecl/{name}.sock')\n"
        "    made.sendall(LOCAL_HELLO.encode(LocalHello('netd', 'daemon')))\n    made.settimeout(5)\n"
        "    print(LOCAL_HELLO.decode(made.recv(65536)[4:]))"
    )
    answers = cluster.as_nobody("n1", script, groups="--groups=truecl").out.splitlines()
    assert len(answers) == 6 and all(answer.startswith("Refusal(") for answer in answers), answers
