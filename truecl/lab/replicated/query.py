"""Asks a database once: `python -m truecl.lab.replicated.query ADDRESS PORT SQL`, in the client's place.

Prints a line for each row, its columns separated by tabs. Exit code 1 with the reason when there is no whole answer.
"""

import socket
import sys
import time

from truecl.lab.replicated.protocol import Answer, Conversation, Refused, farewell, greeting, query

USER = "postgres"
TIMEOUT = 10.0


def ask(address: str, port: int, sql: str, timeout: float = TIMEOUT) -> Answer:
    """Raises OSError, Refused."""
    deadline = time.monotonic() + timeout
    with socket.create_connection((address, port), timeout) as connection:
        conversation = Conversation()
        connection.sendall(greeting(USER, USER))
        _wait(connection, conversation, deadline)
        conversation.asked()
        connection.sendall(query(sql))
        answer = _wait(connection, conversation, deadline)
        connection.sendall(farewell())
    return answer


def _wait(connection: socket.socket, conversation: Conversation, deadline: float) -> Answer:
    while not conversation.answer.ready:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = connection.recv(65536)
        if not data:
            raise Refused("the server hung up")
        conversation.feed(data)
    return conversation.answer


def main(arguments: list[str]) -> int:
    address, port, sql = arguments
    try:
        answer = ask(address, int(port), sql)
    except (OSError, Refused) as problem:
        print(f"{address}:{port}: {problem}", file=sys.stderr)
        return 1
    for row in answer.rows:
        print("\t".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
