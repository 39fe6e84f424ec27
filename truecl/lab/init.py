"""A node's first process. Run by the power switch as a script: `init.py LAB NODE`, its connection on descriptor 0.

Outside the node it joins the node's cgroup, attaches its image and enters new namespaces; inside, as PID 1, it builds
the root, then starts the service again whenever it dies (as systemd's Restart=always does) and reaps orphans. It says
on the connection, a line each: `pid N` (the machine's number of PID 1; its network namespace waits for links), `built`;
then, told `go`, `up`.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from truecl.lab import cgroups, kernel, loops, rootfs  # noqa: E402
from truecl.lab.paths import SCOPE, Paths  # noqa: E402

RESTART_DELAY = 1.0
"""Seconds between the service's death and its next start."""
GO_TIMEOUT = 30.0
NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWCGROUP
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
)
NETWORK = {"all": {"accept_dad": "0"}, "default": {"accept_dad": "0", "dad_transmits": "0", "accept_ra": "0"}}
"""IPv6 settings of the node: addresses usable at once, none that a router gave."""


def main() -> None:
    paths, node = Paths(sys.argv[1]), sys.argv[2]
    connection = socket.socket(fileno=os.dup(0))
    with open(paths.boot_file(node), encoding="utf-8") as file:
        boot = json.load(file)
    group = paths.node_group(cgroups.mount_point(), node)
    cgroups.write(f"{group}/cgroup.procs", "0")
    loop, keep = loops.attach(paths.image(node))
    kernel.unshare(NAMESPACES)
    cgroups.write(f"{group}/{SCOPE}/cgroup.procs", "0")
    set_network()
    pid = os.fork()
    if pid:
        connection.sendall(f"pid {pid}\n".encode())
        os._exit(0)
    os.setsid()
    rootfs.build(rootfs.Layout(boot), loop)
    os.close(keep)
    socket.sethostname(node)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    connection.sendall(b"built\n")
    connection.settimeout(GO_TIMEOUT)
    if connection.recv(16) != b"go\n":
        os._exit(1)

    def up() -> None:
        connection.sendall(b"up\n")
        connection.close()

    run(boot["service"], boot["environment"], up)


def set_network() -> None:
    for scope, settings in NETWORK.items():
        for key, value in settings.items():
            if os.path.exists(f"/proc/sys/net/ipv6/conf/{scope}/{key}"):
                cgroups.write(f"/proc/sys/net/ipv6/conf/{scope}/{key}", value)


def run(service: list[str], environment: dict[str, str], up: Callable[[], None]) -> None:
    """Reap for ever; keep `service` (empty: none) running; `up` is called when it was started for the first time."""
    awaited = {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    running = start(service, environment) if service else 0
    up()
    restart_at = 0.0
    while True:
        if restart_at:
            signal.sigtimedwait(awaited, max(0.0, restart_at - time.monotonic()))
        else:
            signal.sigwait(awaited)
        for pid, status in reap():
            if pid == running:
                print(f"{service[0]} ended: {os.waitstatus_to_exitcode(status)}", file=sys.stderr, flush=True)
                running, restart_at = 0, time.monotonic() + RESTART_DELAY
        if restart_at and time.monotonic() >= restart_at:
            running, restart_at = start(service, environment), 0.0


def start(service: list[str], environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.setsid()
        os.execvpe(service[0], service, environment)
    except OSError as problem:
        print(f"{service[0]}: {problem}", file=sys.stderr, flush=True)
    os._exit(127)


def reap() -> list[tuple[int, int]]:
    """Every child that has ended: its number and wait status."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        ended.append((pid, status))


if __name__ == "__main__":
    main()
