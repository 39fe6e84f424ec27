"""The machine's side of a node that has a kernel. Run by the power switch: `machine.py LAB NODE`, its connection on 0.

It stands in the switch's network namespace and the node's cgroup, plugs the node's cables in, starts the kernel in its
cage and stays its parent. It says on the connection, a line each: `pid N` (its own number; the cables wait for the
switch), `built`; then, told `go`, and when the node's first process has started the service, `up`. It brings the node's
requests to the power switch, and when the kernel ends by itself it takes all that is left of the node with it.
"""

import fcntl
import json
import os
import select
import shutil
import socket
import struct
import sys
import threading
from contextlib import suppress
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))))

from truecl.lab import cgroups  # noqa: E402
from truecl.lab.paths import SCOPE, Paths  # noqa: E402
from truecl.lab.vm import cage  # noqa: E402
from truecl.lab.vm.frames import FENCE_PORT  # noqa: E402

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 2, 0x1000
GO_TIMEOUT = 30.0
MOST_REQUESTS = 16
"""To the power switch, at once."""
REQUEST_TIMEOUT = 130.0
"""Seconds: the power switch itself gives up before that."""


def main() -> None:
    paths, node = Paths(sys.argv[1]), sys.argv[2]
    connection = socket.socket(fileno=os.dup(0))
    with open(paths.boot_file(node), encoding="utf-8") as file:
        boot = json.load(file)
    group = paths.node_group(cgroups.mount_point(), node)
    cgroups.write(f"{group}/{SCOPE}/cgroup.procs", "0")
    cables = [tap(name) for name in (*boot["ports"], boot["management"])]
    connection.sendall(f"pid {os.getpid()}\nbuilt\n".encode())
    connection.settimeout(GO_TIMEOUT)
    if connection.recv(16) != b"go\n":
        os._exit(1)
    shutil.rmtree(boot["scratch"], ignore_errors=True)
    serial, inner = socket.socketpair()
    pid = cage.start(command(boot, cables, inner), boot["kernel_environment"], boot["writable"], boot["cpu"], log=2)
    inner.close()
    threading.Thread(target=serve_requests, args=(boot["outer"], paths.power_socket), daemon=True).start()
    try:
        watch(pid, serial, connection, paths, node)
    finally:
        cgroups.kill(group)


def tap(name: str) -> int:
    """A network interface whose frames come out of a descriptor; it goes with the last copy of that."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    os.set_inheritable(fd, True)
    return fd


def command(boot: dict[str, Any], cables: list[int], serial: socket.socket) -> list[str]:
    """The kernel's command line."""
    serial.set_inheritable(True)
    argv = [*boot["kernel"], f"ssl0=fd:{serial.fileno()}"]
    # Without `vec=0` it would use recvmmsg(2), which a tap has not.
    argv += [
        f"vec{number}:transport=fd,fd={fd},mac={mac},vec=0"
        for number, (fd, mac) in enumerate(zip(cables, boot["macs"], strict=True))
    ]
    return [*argv, "--", *boot["first"]]


def watch(pid: int, serial: socket.socket, connection: socket.socket, paths: Paths, node: str) -> None:
    """Until the kernel ends. A kernel that was reset says `up` again: that counts as a boot."""
    poll = select.poll()
    pidfd = os.pidfd_open(pid)
    poll.register(pidfd, select.POLLIN)
    poll.register(serial, select.POLLIN)
    first = True
    while True:
        for fd, _ in poll.poll():
            if fd == pidfd:
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                print(f"the kernel ended: {status}", file=sys.stderr, flush=True)
                return
            said = serial.recv(256)
            if not said:
                poll.unregister(serial)
            elif b"up" in said and first:
                connection.sendall(b"up\n")
                connection.close()
                first = False
            elif b"up" in said:
                count_boot(paths, node)


def count_boot(paths: Paths, node: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(paths.paused_file(node))
    path = paths.state_file(node)
    with open(path, encoding="utf-8") as file:
        state = json.load(file)
    state["boots"] += 1
    with open(f"{path}.reset", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.replace(f"{path}.reset", path)


def serve_requests(address: str, power_socket: str) -> None:
    """Hand what comes over the management link to the power switch, one line and its answer at a time."""
    listener = socket.create_server((address, FENCE_PORT))
    free = threading.BoundedSemaphore(MOST_REQUESTS)

    def serve(asker: socket.socket) -> None:
        try:
            hand_over(asker, power_socket)
        finally:
            free.release()

    while True:
        free.acquire()
        asker, _ = listener.accept()
        threading.Thread(target=serve, args=(asker,), daemon=True).start()


def hand_over(asker: socket.socket, power_socket: str) -> None:
    with asker, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as switch, suppress(OSError):
        asker.settimeout(REQUEST_TIMEOUT)
        switch.settimeout(REQUEST_TIMEOUT)
        request = asker.recv(256)
        switch.connect(power_socket)
        switch.sendall(request)
        while answer := switch.recv(4096):
            asker.sendall(answer)


if __name__ == "__main__":
    main()
