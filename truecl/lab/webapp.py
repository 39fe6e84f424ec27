"""The demo's application: a small HTTP server whose data lives on the application's own file system.

    webapp.py DIRECTORY ADDRESS PORT

Each start adds a synced line to DIRECTORY/starts; `GET /` answers who serves, and every line there is; `GET /add?TEXT`
adds a synced line to DIRECTORY/notes, the generation before the text, and answers only then: what was answered must
survive any power cut, and the generations never go back.
Nothing but builtins and sockets is imported: it listens some 20 ms after its exec.
"""

import os
import signal
import socket
import sys

MAX_REQUEST = 8192


def append(path: str, line: str) -> None:
    """On the disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


GENERATION = os.environ.get("TRUECL_GENERATION", "?")


def answer(request: bytes, directory: str, node: str) -> bytes:
    """The body for one request."""
    path = request.split(b" ")[1].decode("ascii", "replace") if request.count(b" ") >= 2 else "/"
    if path.startswith("/add?"):
        append(f"{directory}/notes", f"{GENERATION} {path[5:]}")
        return f"noted by {node}\n".encode()
    return f"served by {node}\n".encode() + read(f"{directory}/starts") + read(f"{directory}/notes")


def serve(directory: str, address: str, port: int, node: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(128)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(2.0)
            try:
                request = connection.recv(MAX_REQUEST)
                body = answer(request, directory, node)
                head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\nX-Node: {node}\r\n\r\n"
                connection.sendall(head.encode() + body)
            except OSError:
                continue  # this client is gone; the others are not


def main() -> None:
    directory, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    node = os.environ.get("TRUECL_NODE", socket.gethostname())
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    append(f"{directory}/starts", f"started on {node}, generation {GENERATION}")
    serve(directory, address, port, node)


if __name__ == "__main__":
    main()
