"""A node's hands as far as DRBD goes, in a process of its own inside a node: one action a line, one result a line.

`drbd_node.py RUN NODE`: lines on standard input are `[NAME, {FIELDS}]` of `truecl.model.actions`. Beside it stands a
clusterd that answers the fence-peer handler with what RUN/answer says: `CODE DELAY`.
"""

import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import msgspec
from realhost import RealHost
from twisted.internet.defer import Deferred

from truecl.drivers.contract import Driver, StepFailed
from truecl.drivers.filesystem.driver import FileSystemDriver
from truecl.drivers.storage.drbd.metadata import Metadata
from truecl.model import actions
from truecl.model.build import Initialise
from truecl.model.ids import NodeName
from truecl.model.step import StepKind
from truecl.service.hands import Hands
from truecl.service.storage import storage_drivers
from truecl.wire.frame import Framer, frame


def clusterd(run: Path) -> None:
    """Answers every question as RUN/answer says, and writes down who asked."""
    server = socket.socket(socket.AF_UNIX)
    path = run / "clusterd.sock"
    path.unlink(missing_ok=True)
    server.bind(str(path))
    server.listen()
    while True:
        connection, _ = server.accept()
        threading.Thread(target=converse, args=(connection, run), daemon=True).start()


def converse(connection: socket.socket, run: Path) -> None:
    framer = Framer()
    with connection:
        while data := connection.recv(65536):
            framer.put(data)
            while (payload := framer.take()) is not None:
                match json.loads(payload):
                    case {"type": "local-hello"}:
                        answer: Any = {"type": "local-welcome", "version": 1}
                    case ["AskPeerOutdated", id, app, generation, *_]:
                        with (run / "asked").open("a") as file:
                            print(app, generation, file=file)
                        code, delay = (run / "answer").read_text().split()
                        time.sleep(float(delay))
                        answer = ["PeerOutdated", id, int(code), "says the test", generation]
                try:
                    connection.sendall(frame(json.dumps(answer).encode()))
                except OSError:
                    return


def main(run: Path, node: str) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "answer").write_text("1 0")
    threading.Thread(target=clusterd, args=(run,), daemon=True).start()
    host = RealHost()
    storage, replicas = storage_drivers(host.runner, host.loop, NodeName(node), node, run)
    filesystems = FileSystemDriver(host.runner, host.loop, storage.device)
    drivers: dict[StepKind, Driver] = {StepKind.STORAGE: storage, StepKind.FILESYSTEM: filesystems}
    nothing = cast(Any, None)
    metadata = Metadata(host.runner, replicas)
    hands = Hands(
        drivers,
        host.runner,
        nothing,
        nothing,
        replicas,
        nothing,
        nothing,
        host.loop,
        nothing,
        nothing,
        nothing,
        nothing,
    )
    print("ready", flush=True)
    for line in sys.stdin:
        host.reactor.iterate(0)  # what ended meanwhile is noticed
        name, fields = json.loads(line)
        if name == "Initialise":
            print(json.dumps(host.do(initialised(metadata, msgspec.convert(fields, type=Initialise)))), flush=True)
            continue
        action = msgspec.convert(fields, type=getattr(actions, name))
        print(msgspec.json.encode(host.do(carried_out(hands, action), 90)).decode(), flush=True)


async def initialised(metadata: Metadata, work: Initialise) -> str:
    """'' or why not."""
    try:
        await metadata.initialise(work)
    except StepFailed as failed:
        return failed.reason
    return ""


async def carried_out(hands: Hands, action: Any) -> Any:
    deferred: Deferred[Any] = hands(action)
    try:
        return await deferred
    except (StepFailed, TimeoutError) as error:
        return hands.failed(action, error)


main(Path(sys.argv[1]), sys.argv[2])
