"""A service of trivial daemons under a real warm parent, for tests: `python warm_service.py DIRECTORY [ACCOUNT]`.

Each daemon writes what it sees to DIRECTORY/events, a line each. reqd asks for hbd and lockd.
"""
# ruff: noqa: E402

import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # first of all, as truecl.service.truecld

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from truecl.core.contract import Event, Told
from truecl.model.ids import HBD, LOCKD, REQD
from truecl.runtime.clock import BootClock
from truecl.runtime.log import Log, to_stderr
from truecl.runtime.paths import Paths
from truecl.runtime.process import Account, CannotStart, Daemon, Loaded
from truecl.runtime.warm import WarmParent, alone
from truecl.wire.messages import End, Fork, Living

DIRECTORY = Path(sys.argv[1])


def events() -> int:
    return os.open(DIRECTORY / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write(descriptor: int, **what: object) -> None:
    os.write(descriptor, json.dumps(what).encode() + b"\n")


def plain(daemon: Daemon) -> None:
    descriptor = events()
    daemon.settle()
    write(
        descriptor,
        up=daemon.name,
        pid=os.getpid(),
        uid=os.getuid(),
        groups=os.getgroups(),
        boot=daemon.boot,
        draw=daemon.random.random(),
        at=time.monotonic(),
    )
    daemon.run()


def reqd(daemon: Daemon) -> None:
    descriptor = events()
    parent = daemon.parent
    assert parent is not None

    def noted(event: Event) -> None:
        assert isinstance(event, Told)
        message = event.message
        if isinstance(message, Living):
            living = {each.daemon: each.pid for each in message.daemons}
            write(descriptor, told="Living", by=os.getpid(), living=living)
            for name in (HBD, LOCKD):
                parent.send(Fork(name))
        else:
            write(descriptor, told=type(message).__name__, by=os.getpid(), **msgspec.structs.asdict(message))

    parent.start(daemon.reactor, noted)
    write(descriptor, up="reqd", pid=os.getpid())
    if not (DIRECTORY / "program").exists():
        program = subprocess.Popen(["/bin/sleep", "1000"])
        (DIRECTORY / "program").write_text(str(program.pid))
    signal.signal(signal.SIGUSR1, lambda *_: parent.send(End(LOCKD, 0.5)))
    signal.signal(signal.SIGUSR2, lambda *_: parent.send(End(HBD, 0.0)))

    def terminate() -> None:
        write(descriptor, stopping=os.getpid())
        daemon.exit(3 if (DIRECTORY / "stumble").exists() and not (DIRECTORY / "stumble").unlink() else 0, "stopped")

    daemon.run(terminate)


def main() -> int:
    paths = Paths(DIRECTORY / "etc", DIRECTORY / "run", DIRECTORY / "state", DIRECTORY / "log")
    clock = BootClock()
    account = Account.of_system(sys.argv[2]) if len(sys.argv) > 2 else None
    log = Log("n1", "truecld", to_stderr, clock)
    try:
        alone(paths)
        return WarmParent(paths, {REQD: reqd, HBD: plain, LOCKD: plain}, Loaded, account, clock, log, 5.0).run()
    except CannotStart as error:
        print(error, file=sys.stderr)
        return error.code


sys.exit(main())
