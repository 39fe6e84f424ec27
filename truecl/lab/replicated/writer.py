"""The client: commits rows one by one and notes each that was acknowledged.

Run as `python -m truecl.lab.replicated.writer ADDRESS PORT PREFIX` in the client's place. Row number N is `PREFIX-N`, a
transaction of its own; the next begins when it is acknowledged. What it prints is what `truecl.lab.probe` prints:
`answered` are the numbers of the rows that were acknowledged, and an outage is the time between two acknowledgements.

When nothing was acknowledged for `patience` seconds, or the connection broke, another one is begun every `every`
seconds, so that no timeout of TCP's is measured; but not more than a server can greet. A row of a connection that was
given up is neither acknowledged nor known to be lost.
"""

import argparse
import selectors
import socket
import sys
import time

from truecl.lab.probe import Tally, say, tell
from truecl.lab.replicated.protocol import Conversation, Refused, greeting, query
from truecl.lab.replicated.query import USER

TABLE = "rows"
CREATE = f"create table if not exists {TABLE} (name text primary key, node text)"
INSERT = "insert into {table} values ('{name}', current_setting('cluster_name')) returning node"
READ = f"select name from {TABLE}"
MOST_CONNECTIONS = 10
"""Begun at once: the oldest is given up for another."""
MOST_MADE = 2
"""Of them that a server has taken."""
HOPELESS = 3.0
"""Seconds of a server's silence after which a connection is given up."""


class Session:
    """One connection: greeted, then a row at a time."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect_ex((address, port))
        self.conversation = Conversation()
        self.sending = greeting(USER, USER)
        self.row = 0
        """The row that it was asked to commit; 0 before the first."""
        self.made = False
        """A server has taken it."""
        self.heard = time.monotonic()
        """When it was begun, or something came last."""

    def ask(self, row: int, sql: str) -> None:
        self.row = row
        self.conversation.asked()
        self.sending = query(sql)


class Writer:
    """Keeps the connections going. All its times are time.monotonic."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._open: list[Session] = []
        self._row = 0
        self._next = 0.0
        """When another connection is begun, if nothing is acknowledged before."""
        self.tally = Tally(time.monotonic(), options.gap)

    def run(self) -> None:
        while True:
            if time.monotonic() >= self._next:
                self._begin()
            for key, _ in self._selector.select(max(0.0, self._next - time.monotonic())):
                if key.data in self._open:
                    self._step(key.data)

    def _begin(self) -> None:
        now = time.monotonic()
        self._next = now + self._options.every
        for session in [each for each in self._open if each.made and each.heard < now - HOPELESS]:
            self._close(session)
        if sum(each.made for each in self._open) >= MOST_MADE:
            return
        if len(self._open) >= MOST_CONNECTIONS:
            self._close(self._open[0])
        self.tally.tries += 1
        session = Session(self._options.address, self._options.port)
        self._open.append(session)
        self._selector.register(session.sock, selectors.EVENT_WRITE, session)

    def _step(self, session: Session) -> None:
        try:
            if session.sending:
                self._send(session)
                return
            data = session.sock.recv(65536)
            if not data:
                raise Refused("the server hung up")
            session.heard = time.monotonic()
            if session.conversation.feed(data).ready:
                self._ready(session)
        except BlockingIOError:
            return
        except (OSError, Refused):
            self._close(session)
            if session.row:
                self._next = time.monotonic()

    def _send(self, session: Session) -> None:
        session.sending = session.sending[session.sock.send(session.sending) :]
        session.made = True
        if not session.sending:
            self._selector.modify(session.sock, selectors.EVENT_READ, session)

    def _ready(self, session: Session) -> None:
        answer = session.conversation.answer
        if session.row and answer.complete:
            self._acknowledged(session, answer.rows[0][0])
        self._row += 1
        name = f"{self._options.prefix}-{self._row}"
        session.ask(self._row, INSERT.format(table=TABLE, name=name))
        self._selector.modify(session.sock, selectors.EVENT_WRITE, session)

    def _acknowledged(self, session: Session, node: str) -> None:
        now = time.monotonic()
        self._next = now + self._options.patience
        self.tally.answered.append(session.row)
        if self.tally.answer(node, now):
            say({"answer": {"at": round(now - self.tally.started, 4), "node": node}})
        for other in [each for each in self._open if each is not session]:
            self._close(other)

    def _close(self, session: Session) -> None:
        self._selector.unregister(session.sock)
        self._open.remove(session)
        session.sock.close()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="truecl.lab.replicated.writer")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("prefix")
    parser.add_argument("--gap", type=float, default=0.25, help="silence that counts as an outage")
    parser.add_argument("--patience", type=float, default=0.3, help="silence after which others are begun")
    parser.add_argument("--every", type=float, default=0.1, help="so often")
    tell(Writer(parser.parse_args(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
