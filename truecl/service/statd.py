"""statd as a process: the node's reports and its history, which a thread of its own keeps."""

from collections.abc import Callable
from typing import Any

from truecl.core.chronicle import FindEvents, Found, Recorded, RecordEvents
from truecl.core.minutes import FindInputs, FoundInputs, KeepInputs
from truecl.runtime.history import History
from truecl.runtime.inputs import KeptInputs
from truecl.runtime.process import Daemon
from truecl.runtime.worker import Worker
from truecl.service.joint import Joint

BOOT_LETTERS = 8
"""Of a boot id: enough to tell the boots of one node apart."""


def main(daemon: Daemon) -> None:
    history = History(daemon.home() / "history.db", boot=daemon.clock.now, boot_id=daemon.boot[:BOOT_LETTERS])
    inputs = KeptInputs(daemon.home() / "inputs.db", boot=daemon.clock.now)
    worker = Worker(daemon.reactor, "history")
    Joint(daemon).run(lambda action: worker(_work(history, inputs, action)), failed)


def _work(history: History, inputs: KeptInputs, action: Any) -> Callable[[], Any]:
    match action:
        case RecordEvents(events=events):
            return lambda: history.record(events)
        case FindEvents(since=since, limit=limit, app=app, marked=marked):
            return lambda: history.find(since, limit, app, marked)
        case KeepInputs():
            return lambda: inputs.keep(action.inputs, action.configurations, action.repeats)
        case FindInputs(limit=limit, until=until):
            return lambda: inputs.find(limit, until)
    raise AssertionError(f"statd has no driver for {type(action).__name__}")


def failed(action: Any, error: BaseException) -> Recorded | Found | FoundInputs:
    """An action that ended in an exception."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(action, KeepInputs | FindInputs):
        return FoundInputs(reason=reason)
    return Recorded(action.events, reason) if isinstance(action, RecordEvents) else Found((), reason)
