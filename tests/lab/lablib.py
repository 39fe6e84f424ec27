"""What the lab's tests share: names of their own for labs, pings, traces of a lab on the machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from truecl.lab import cgroups, loops
from truecl.lab.cluster import Lab

PING = """
import os, socket, struct, sys, time
target, count = sys.argv[1], int(sys.argv[2])
six = ":" in target
sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else 1)
ident = os.getpid() & 0xffff
for number in range(count):
    head = struct.pack("!BBHHH", 128 if six else 8, 0, 0, ident, number)
    total = sum(struct.unpack("!4H", head))
    total = (total & 0xffff) + (total >> 16)
    try:
        sock.sendto(head[:2] + struct.pack("!H", 0xffff - total) + head[4:], (target, 0))
    except OSError:
        sys.exit(1)
    end = time.monotonic() + 0.15
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            packet = sock.recv(2048)
        except OSError:
            break
        body = packet if six else packet[20:]
        if body[0] == (129 if six else 0) and body[4:8] == head[4:8]:
            sys.exit(0)
sys.exit(1)
"""


class Net:
    """What tests ask of a lab's network."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def reaches(self, node: str, address: str, tries: int = 3) -> bool:
        """ICMP echo from a node; one answer in three is enough."""
        return self._lab.exec(node, ["/usr/bin/env", "python3", "-c", PING, address, str(tries)]).code == 0


def lab_name(suffix: str) -> str:
    return f"t{os.getpid()}-{suffix}"


def wait_until(so: Callable[[], bool]) -> None:
    """Ask again and again until it is so, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while not so():
        assert time.monotonic() < deadline, "not in ten seconds"


def traces(name: str) -> dict[str, list[str]]:
    """All that a lab of this name could leave on the machine."""
    processes = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                if f"truecl-lab/{name}/" in (directory / "cgroup").read_text():
                    processes.append(directory.name)
            except OSError:
                continue
    files = [path for path in (f"/run/truecl-lab/{name}", f"/run/truecl-lab/.{name}.lock") if Path(path).exists()]
    group = f"{cgroups.mount_point()}/truecl-lab/{name}"
    attached = [file for file in loops.attached().values() if name in file]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{name}/" in line]
    return {
        "processes": processes, "files": files, "groups": [group] if Path(group).exists() else [],
        "loops": attached, "mounts": mounts,
    }  # fmt: skip


def assert_no_trace(name: str) -> None:
    # The machine's PID 1 takes a moment to reap what was killed.
    wait_until(lambda: not traces(name)["processes"])
    assert not any(traces(name).values()), traces(name)
