"""clusterd as a process: no journal, no drivers; what it must remember is in the log."""

import time

from truecl.core.contract import Noted
from truecl.core.situation import WallClock
from truecl.runtime.process import Daemon
from truecl.runtime.trace import Trace
from truecl.service.joint import Joint

LOOK_EVERY = 600.0
"""Seconds between two looks at the wall clock, which somebody may set."""


def main(daemon: Daemon) -> None:
    traces = daemon.paths.log / "trace"
    trace = Trace(traces, daemon.name, daemon.clock.now, daemon.log.error) if traces.is_dir() else None
    joint = Joint(daemon, trace=trace)

    def look() -> None:
        joint.feed(Noted(WallClock(time.time() - daemon.clock.now(), time.localtime().tm_gmtoff)))
        daemon.reactor.callLater(LOOK_EVERY, look)

    joint.run(on_start=look)
