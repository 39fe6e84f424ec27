"""The lab's client: asks an application again and again and counts only its own answers.

Run as `python -m truecl.lab.probe ADDRESS PORT …` in the client's place; prints JSON, a line each: `answer` whenever
another node answers than before (the first too), and at the end, or at SIGTERM or SIGINT, `result`.

A try starts every `every` seconds whatever became of those before, so an outage is measured as the time between two
answers. A connection that the kernel accepts for a stopped application is no answer.
"""

import argparse
import contextlib
import json
import re
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from typing import Protocol

NODE = r"(?im)^X-Node:[ \t]*(\S+)"
"""Where an answer names the node that gave it: group 1."""
NUMBER = "{try}"
"""In the path: stands for the number of the try, from 1."""
MOST_TRIES = 512
"""Open at once."""
MOST_BYTES = 1 << 20
"""Of one answer."""
CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")


class Try:
    """One connection: made, asked, answered or given up at `deadline`."""

    def __init__(self, sock: socket.socket, number: int, request: bytes, deadline: float) -> None:
        self.sock = sock
        self.number = number
        self.request = request
        self.deadline = deadline
        self.answer = b""


def complete(answer: bytes, http: bool, closed: bool) -> bool:
    """Whether an answer is whole: for HTTP by its length, or by the end of the connection."""
    if not http:
        return bool(answer)
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = CONTENT_LENGTH.search(head)
    return len(body) >= int(length.group(1)) if length else closed


def accepted(answer: bytes, http: bool, expect: str) -> bool:
    """Whether a whole answer is one of the application: HTTP status 2xx, and what was expected is in it."""
    if http and not re.match(rb"HTTP/1\.[01] 2\d\d\b", answer):
        return False
    return not expect or re.search(expect, answer.decode("utf-8", "replace")) is not None


class Tally:
    """Answers in their order, and the times without one. Times are seconds since `started`."""

    def __init__(self, started: float, gap: float) -> None:
        self.started = started
        self.gap = gap
        self.tries = 0
        self.answers = 0
        self.last: float | None = None
        self.nodes: Counter[str] = Counter()
        self.changes: list[tuple[float, str]] = []
        self.answered: list[int] = []
        """Numbers of the tries, where they are told to the application."""
        self.outages: list[tuple[float, float]] = []
        self.longest = 0.0

    def answer(self, node: str, now: float) -> bool:
        """Count an answer; True when it came from another node than the one before."""
        at = now - self.started
        self._silence(at)
        self.last = at
        self.answers += 1
        self.nodes[node] += 1
        if self.changes and self.changes[-1][1] == node:
            return False
        self.changes.append((at, node))
        return True

    def _silence(self, at: float) -> None:
        if self.last is None:
            return
        length = at - self.last
        self.longest = max(self.longest, length)
        if length > self.gap:
            self.outages.append((self.last, length))

    def result(self, now: float) -> dict[str, object]:
        """The silence up to the end counts too. Without any answer `longest` is the whole time."""
        at = now - self.started
        if self.last is None:
            self.longest, self.outages = at, [(0.0, at)]
        else:
            self._silence(at)
        return {
            "seconds": round(at, 4),
            "tries": self.tries,
            "answers": self.answers,
            "longest": round(self.longest, 4),
            "outages": [{"at": round(start, 4), "length": round(length, 4)} for start, length in self.outages],
            "nodes": dict(sorted(self.nodes.items())),
            "changes": [{"at": round(start, 4), "node": node} for start, node in self.changes],
            "answered": self.answered,
        }


class Client:
    """Keeps the tries going."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.http = options.send is None
        host = f"[{options.address}]" if ":" in options.address else options.address
        self.numbered = NUMBER in options.path
        get = f"GET {options.path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        self.request = (get if self.http else options.send).encode()
        self.family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
        self.selector = selectors.DefaultSelector()
        self.open: dict[int, Try] = {}
        self.tally = Tally(time.monotonic(), options.gap)

    def run(self) -> None:
        following = self.tally.started
        end = following + self.options.seconds if self.options.seconds else float("inf")
        while (now := time.monotonic()) < end:
            if now >= following:
                self._begin(now)
                following += self.options.every * max(1, int((now - following) / self.options.every))
            for key, _ in self.selector.select(max(0.0, min(following, end) - time.monotonic())):
                self._step(key.data)
            self._expire(time.monotonic())

    def _begin(self, now: float) -> None:
        self.tally.tries += 1
        if len(self.open) >= MOST_TRIES:
            self._close(next(iter(self.open.values())))
        sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        number = self.tally.tries
        request = self.request.replace(NUMBER.encode(), str(number).encode()) if self.numbered else self.request
        attempt = Try(sock, number, request, now + self.options.timeout)
        sock.connect_ex((self.options.address, self.options.port))
        self.open[sock.fileno()] = attempt
        self.selector.register(sock, selectors.EVENT_WRITE, attempt)

    def _step(self, attempt: Try) -> None:
        closed = False
        try:
            if attempt.request:
                attempt.request = attempt.request[attempt.sock.send(attempt.request) :]
                if not attempt.request:
                    self.selector.modify(attempt.sock, selectors.EVENT_READ, attempt)
                return
            piece = attempt.sock.recv(65536)
            closed = not piece
            attempt.answer += piece
        except BlockingIOError:
            return
        except OSError:
            self._close(attempt)
            return
        if complete(attempt.answer, self.http, closed):
            if accepted(attempt.answer, self.http, self.options.expect):
                self._count(attempt)
            self._close(attempt)
        elif closed or len(attempt.answer) > MOST_BYTES:
            self._close(attempt)

    def _count(self, attempt: Try) -> None:
        now = time.monotonic()
        if self.numbered:
            self.tally.answered.append(attempt.number)
        found = re.search(self.options.node, attempt.answer.decode("utf-8", "replace"))
        node = found.group(1) if found else "?"
        if self.tally.answer(node, now):
            say({"answer": {"at": round(now - self.tally.started, 4), "node": node}})

    def _expire(self, now: float) -> None:
        while self.open and (oldest := next(iter(self.open.values()))).deadline <= now:
            self._close(oldest)

    def _close(self, attempt: Try) -> None:
        self.selector.unregister(attempt.sock)
        del self.open[attempt.sock.fileno()]
        attempt.sock.close()


def say(value: dict[str, object]) -> None:
    print(json.dumps(value), flush=True)


class Stop(BaseException):
    """A signal asks for the result."""


class Telling(Protocol):
    """What asks until it is stopped, and keeps a tally of the answers."""

    tally: Tally

    def run(self) -> None: ...


def tell(client: Telling) -> None:
    """Have it ask until a signal comes, or until it ends by itself; then say the result."""

    def stop(number: int, frame: object) -> None:
        raise Stop

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with contextlib.suppress(Stop):
        client.run()
    say({"result": client.tally.result(time.monotonic())})


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="truecl.lab.probe")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=0.0, help="0: until a signal")
    parser.add_argument("--every", type=float, default=0.005)
    parser.add_argument("--timeout", type=float, default=0.5)
    parser.add_argument("--gap", type=float, default=0.05, help="silence that counts as an outage")
    parser.add_argument("--path", default="/")
    parser.add_argument("--send", help="text to send instead of an HTTP request")
    parser.add_argument("--expect", default="", help="regular expression that an answer must contain")
    parser.add_argument("--node", default=NODE, help="regular expression whose group 1 is the node's name")
    tell(Client(parser.parse_args(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
