"""Runs a command in a node that has a kernel: `remote.py ADDRESS CGROUP ARGV...`, in the switch's network namespace.

Its own input, output and exit code are the command's, and so is its terminal when it has one. It stands in the node's
cgroup: power cuts and silent pauses of the node are its own.
"""

import json
import os
import select
import signal
import socket
import sys
import termios
import tty

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))))

from truecl.lab.vm import frames  # noqa: E402

CONNECT_TIMEOUT = 10.0
OPTIONS = {socket.TCP_NODELAY: 1, socket.TCP_KEEPIDLE: 1, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 127}
"""A kernel that was reset says at the next question that it knows nothing of this connection. One that is only paused
has four minutes to answer."""
LOST = 255
"""Exit code when the node does not answer."""


def main() -> int:
    address, group, *argv = sys.argv[1:]
    terminal = os.isatty(0) and os.isatty(1)
    what = {"argv": argv, "group": group, "environment": dict(os.environ)}
    request = {**what, "terminal": terminal, "window": window(terminal)}
    try:
        connection = socket.create_connection((address, frames.AGENT_PORT), CONNECT_TIMEOUT)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in OPTIONS.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.sendall(frames.pack(frames.REQUEST, json.dumps(request).encode()))
    except OSError as problem:
        print(f"the node's agent does not answer: {problem}", file=sys.stderr)
        return LOST
    asker = Asker(connection)
    if not terminal:
        return asker.relay()
    before = termios.tcgetattr(0)
    signal.signal(signal.SIGWINCH, lambda number, frame: asker.send(frames.WINDOW, window(True).encode()))
    try:
        tty.setraw(0)
        return asker.relay()
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def window(terminal: bool) -> str:
    size = os.get_terminal_size(0) if terminal else os.terminal_size((80, 24))
    return f"{size.lines} {size.columns}"


class Asker:
    """The connection, once the request is sent. What is printed is never held up by input that nobody reads."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setblocking(False)
        self.frames = frames.Frames()
        self.pending = b""
        self.input_ended = False

    def send(self, kind: bytes, data: bytes = b"") -> None:
        self.pending += frames.pack(kind, data)

    def relay(self) -> int:
        """Until the command's exit code comes."""
        while True:
            poll = select.poll()
            poll.register(self.connection, select.POLLIN | (select.POLLOUT if self.pending else 0))
            if not self.pending and not self.input_ended:
                poll.register(0, select.POLLIN)
            for fd, events in poll.poll():
                if fd == 0:
                    data = os.read(0, frames.PIECE)
                    self.input_ended = not data
                    self.send(frames.INPUT, data)
                elif events & ~select.POLLOUT:
                    code = self._hear()
                    if code >= 0:
                        return code
                else:
                    self._flush()

    def _flush(self) -> None:
        try:
            self.pending = self.pending[self.connection.send(self.pending) :]
        except OSError:
            self.pending = b""  # the end is heard next

    def _hear(self) -> int:
        """The exit code, or -1."""
        try:
            data = self.connection.recv(frames.PIECE)
        except OSError:
            data = b""
        if not data:
            print("the node went away", file=sys.stderr)
            return LOST
        for kind, content in self.frames.feed(data):
            if kind == frames.EXIT:
                return int(content)
            write(1 if kind == frames.OUTPUT else 2, content)
        return -1


def write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    sys.exit(main())
