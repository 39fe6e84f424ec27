"""statd: what was: events, and what masters decided upon."""

import msgspec

from truecl.model.ids import AppName, NodeName, Term
from truecl.model.report import EventRecord
from truecl.wire.messages.base import Message


class Note(Message, frozen=True):
    """Any daemon to statd: an event for the history."""

    event: EventRecord


class AskLog(Message, frozen=True):
    """lha_log. `follow`: go on with new events. `since`: wall clock seconds."""

    since: float = 0.0
    limit: int = 1000
    follow: bool = False
    app: AppName | None = None
    number: int = 0
    local: bool = False
    """Only this node's own events (asked by another statd)."""
    marked: bool = False
    """Only events with a mark, each node's own word of them and none sieved out: for a timeline."""


class ClockReading(msgspec.Struct, frozen=True, array_like=True):
    """`node`'s clock read `said` somewhen between `asked` and `heard` of the clock of `reader`."""

    reader: NodeName
    node: NodeName
    asked: float
    said: float
    heard: float


class LogLines(Message, frozen=True):
    number: int
    events: tuple[EventRecord, ...]
    last: bool = False
    missing: tuple[NodeName, ...] = ()
    """Nodes that did not answer."""
    clock: float = 0.0
    """A node's own clock as it answers another's statd."""
    readings: tuple[ClockReading, ...] = ()
    """To a command that asked for what is marked."""


class Decided(Message, frozen=True):
    """clusterd (master) to statd: it decided upon this, for as long as nothing else is told (`truecl.core.account`)."""

    term: Term
    uptime: float
    input: bytes
    """A PlanInput without its configuration."""
    digest: str
    """Of the configuration."""
    configuration: bytes = b""
    """Itself, where it is another one than before."""
    repeats: int = 0
    """How often the one before was decided upon in all; 0: there was none since statd was there."""


class Kept(msgspec.Struct, frozen=True):
    """What a master decided upon, and how often in a row."""

    at: float
    """Wall clock, seconds since the epoch; 0: not known yet."""
    uptime: float
    term: Term
    digest: str
    input: bytes
    repeats: int = 1


class AskInputs(Message, frozen=True):
    """lha_simulate: the latest `limit` inputs of any master, at or before `until` (wall clock; 0: now)."""

    limit: int = 1
    until: float = 0.0
    number: int = 0
    local: bool = False
    """Only what this node keeps (asked by another statd)."""


class Inputs(Message, frozen=True):
    """Oldest first. `master`: as this node knows it."""

    number: int
    inputs: tuple[Kept, ...] = ()
    configurations: dict[str, bytes] = {}
    """Digest to configuration, of all that the inputs name."""
    missing: tuple[NodeName, ...] = ()
    master: NodeName | None = None
    reason: str = ""
    """Why there are none, where the disk is to blame."""
