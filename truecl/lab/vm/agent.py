"""Runs commands in the node for `truecl.lab.vm.remote`, and takes the node's words to the power switch.

`agent.py DESCRIPTOR INTERFACE ADDRESS OUTER`: says `ready` on the descriptor. It stands in a network namespace of its
own with the management link (INTERFACE, ADDRESS; the machine is OUTER), so that the node sees nothing of that; its
commands run in the node's. A command whose asker went away is killed.
"""

import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from contextlib import suppress
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))))

from truecl.lab import cgroups, kernel  # noqa: E402
from truecl.lab.paths import AGENT_GROUP  # noqa: E402
from truecl.lab.vm import frames  # noqa: E402

CGROUPS = "/sys/fs/cgroup"
ENTER = 'echo 0 >"$0" && exec "$@"'
"""A shell that joins the cgroup $0 and becomes the command."""
POWER_SOCKET = "/lab/power.sock"
MOST_CONNECTIONS = 128
PARTING_TIMEOUT = 10.0
LINGER = 0.1
"""Seconds for what a command's own children still print when it has ended."""


def main() -> None:
    said, interface, address, outer = int(sys.argv[1]), *sys.argv[2:]
    cgroups.write(f"{CGROUPS}/{AGENT_GROUP}/cgroup.procs", "0")
    node = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kernel.unshare(kernel.CLONE_NEWNET)
    move_link(node, interface, address)
    agent = socket.create_server((address, frames.AGENT_PORT), backlog=64)
    power = listen(POWER_SOCKET)
    os.write(said, b"ready")
    os.close(said)
    free = threading.BoundedSemaphore(MOST_CONNECTIONS)
    poll = select.poll()
    poll.register(agent, select.POLLIN)
    poll.register(power, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            free.acquire()
            if fd == agent.fileno():
                work = threading.Thread(target=run_command, args=(agent.accept()[0], node, free), daemon=True)
            else:
                work = threading.Thread(target=hand_over, args=(power.accept()[0], outer, free), daemon=True)
            work.start()


def move_link(node: int, interface: str, address: str) -> None:
    """The management link out of the node's namespace into this one, and up."""
    lines = [f"addr add {address}/30 dev {interface}", f"link set {interface} up"]
    move = ["nsenter", f"--net=/proc/self/fd/{node}", "ip", "link", "set", interface, "netns", str(os.getpid())]
    subprocess.run(move, check=True, pass_fds=[node])
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


def listen(path: str) -> socket.socket:
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(64)
    return listener


def hand_over(asker: socket.socket, outer: str, free: threading.BoundedSemaphore) -> None:
    """One request to the power switch and its answer."""
    try:
        with asker, suppress(OSError), socket.create_connection((outer, frames.FENCE_PORT), timeout=10) as switch:
            switch.settimeout(None)
            switch.sendall(asker.recv(256))
            while answer := switch.recv(4096):
                asker.sendall(answer)
    finally:
        free.release()


def run_command(connection: socket.socket, node: int, free: threading.BoundedSemaphore) -> None:
    try:
        with connection, suppress(OSError, frames.Broken):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kernel.setns(node, kernel.CLONE_NEWNET)  # of this thread alone, and of what it starts
            Command(connection).run()
            part(connection)
    finally:
        free.release()


def part(connection: socket.socket) -> None:
    """Let the asker read the last word: to close a connection with input unread would take it back."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(PARTING_TIMEOUT)
    while connection.recv(frames.PIECE):
        pass


class Command:
    """One request, from its first frame to the exit code."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.frames = frames.Frames()
        self.input = -1
        self.outputs: dict[int, bytes] = {}
        """Descriptors of what the command prints, and as which kind of frame it is told."""
        self.terminal = False
        self.pending = b""
        """Input that the command has not read yet; more is asked for when it is empty."""
        self.input_ended = False

    def run(self) -> None:
        """Raises OSError, Broken."""
        waiting = self._receive()
        while not waiting:
            waiting = self._receive()
        (kind, text), *others = waiting
        if kind != frames.REQUEST:
            raise frames.Broken("no request")
        try:
            process = self._start(json.loads(text))
            try:
                for kind, data in others:
                    self._obey(kind, data)
                self._relay(process)
            except (OSError, frames.Broken):
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        finally:
            for fd in self.outputs:
                os.close(fd)
            self._end_input()

    def _start(self, request: dict[str, Any]) -> "subprocess.Popen[bytes]":
        argv = ["/bin/sh", "-c", ENTER, f"{CGROUPS}/{request['group']}/cgroup.procs", *request["argv"]]
        self.terminal = bool(request["terminal"])
        if self.terminal:
            self.input, inner = os.openpty()
            self._resize(request["window"])
            self.outputs = {os.dup(self.input): frames.OUTPUT}
            ends = (inner, inner, inner)
            argv = ["setsid", "--ctty", "--wait", *argv]
        else:
            (read_in, self.input), (out, write_out), (err, write_err) = os.pipe(), os.pipe(), os.pipe()
            self.outputs = {out: frames.OUTPUT, err: frames.ERRORS}
            ends = (read_in, write_out, write_err)
        os.set_blocking(self.input, False)
        try:
            return subprocess.Popen(
                argv, stdin=ends[0], stdout=ends[1], stderr=ends[2], env=request["environment"], cwd="/",
                start_new_session=not self.terminal,
            )  # fmt: skip
        finally:
            for fd in set(ends):
                os.close(fd)

    def _resize(self, window: str) -> None:
        rows, columns = (int(word) for word in window.split())
        fcntl.ioctl(self.input, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _end_input(self) -> None:
        if self.input >= 0:
            os.close(self.input)
            self.input = -1

    def _receive(self) -> list[tuple[bytes, bytes]]:
        """Raises Broken when the asker is gone."""
        data = self.connection.recv(frames.PIECE)
        if not data:
            raise frames.Broken("the asker is gone")
        return self.frames.feed(data)

    def _obey(self, kind: bytes, data: bytes) -> None:
        if kind == frames.WINDOW and self.terminal:
            self._resize(data.decode())
        elif kind == frames.INPUT and data:
            self.pending += data
        elif kind == frames.INPUT:
            self.input_ended = True

    def _feed(self) -> None:
        """Give the command of its input what it takes."""
        try:
            self.pending = self.pending[os.write(self.input, self.pending) :]
        except BlockingIOError:
            return
        except OSError:  # it reads no more
            self.pending = b""

    def _relay(self, process: "subprocess.Popen[bytes]") -> None:
        """Until the command has ended and its output is told. Raises Broken when the asker goes away before."""
        pidfd = os.pidfd_open(process.pid)
        try:
            outputs = dict(self.outputs)
            ended = False
            while not ended or outputs:
                ready = self._wait(pidfd, outputs, ended)
                if ended and not ready:
                    break
                for fd in ready:
                    if fd == pidfd:
                        ended = True
                    elif fd in outputs:
                        if not self._tell(fd, outputs[fd]):
                            del outputs[fd]
                    elif fd == self.input:
                        self._feed()
                    else:
                        for kind, data in self._receive():
                            self._obey(kind, data)
                if self.input_ended and not self.pending and not self.terminal:
                    self._end_input()
        finally:
            os.close(pidfd)
        code = process.wait()
        self.connection.sendall(frames.pack(frames.EXIT, str(code if code >= 0 else 128 - code).encode()))

    def _wait(self, pidfd: int, outputs: dict[int, bytes], ended: bool) -> list[int]:
        poll = select.poll()
        for fd in outputs:
            poll.register(fd, select.POLLIN)
        if not ended:
            poll.register(pidfd, select.POLLIN)
        if self.pending and self.input >= 0:
            poll.register(self.input, select.POLLOUT)
        else:
            poll.register(self.connection, select.POLLIN)
        return [fd for fd, _ in poll.poll(LINGER * 1000 if ended else None)]

    def _tell(self, fd: int, kind: bytes) -> bool:
        """Pass output on; False at its end."""
        try:
            data = os.read(fd, frames.PIECE)
        except OSError:  # a terminal that nobody has open any more
            data = b""
        if data:
            self.connection.sendall(frames.pack(kind, data))
        return bool(data)


if __name__ == "__main__":
    main()
