"""What nodes report about their instances, and what commands print: values, no wording decided elsewhere."""

from enum import StrEnum

import msgspec

from truecl.model.ids import AppName, Generation, NodeName


class Phase(StrEnum):
    """An instance at its node. CLOSED is final for a generation; NEEDS_FENCE: a stop failed, nothing may be assumed;
    FROZEN: the lease ended, its processes stand still, and it waits for a new one."""

    STARTING = "starting"
    RUNNING = "running"
    FROZEN = "frozen"
    STOPPING = "stopping"
    CLOSED = "closed"
    NEEDS_FENCE = "needs fence"


class InstanceReport(msgspec.Struct, frozen=True, array_like=True):
    """One line of a node's table: its newest generation of one application."""

    app: AppName
    generation: Generation
    phase: Phase
    failed: bool = False
    """CLOSED because it could not start or died too often, not because it was told to stop."""
    reason: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    """Of a build's generation: 'file system data', and what is there (`truecl.model.ledger.Format`)."""


class WatchdogReport(msgspec.Struct, frozen=True, array_like=True):
    """What a node's reqd says of its watchdog, where one is configured."""

    armed: bool
    timeout: float = 0.0
    """Seconds, read back from the device."""
    survives_pause: bool = False
    """It counts in a proof (`truecl.core.watchdog`)."""
    required: bool = False
    """Nothing starts there as long as it is not armed."""
    text: str = ""
    """For people: which device it is, or why it is not armed."""

    @property
    def missing(self) -> bool:
        return self.required and not self.armed


class Severity(StrEnum):
    LOG = "LOG"
    WARN = "WARN"
    ERROR = "ERROR"


class Progress(msgspec.Struct, frozen=True):
    """One line for the operator about something that really happened."""

    text: str
    severity: Severity = Severity.LOG
    verbose: bool = True
    """Shown only with --verbose (errors and results are not)."""


class Moment(StrEnum):
    """What an event means to the timeline of a failover or a move (`truecl.core.timeline`)."""

    SILENT = "silent"
    """`node` counts as dead; it was last heard at `since`."""
    ELECTED = "elected"
    """`node` leads."""
    FENCE_ORDERED = "fence ordered"
    FENCED = "fenced"
    WANTED = "wanted"
    """The operator's word; `detail`: 'move', 'start' or 'stop'."""
    ENDED = "ended"
    """`generation` at `node`; `detail`: its proof."""
    GRANTED = "granted"
    """`generation` to `node`; `detail`: 'failover' or ''."""
    STARTED = "started"
    """`generation` runs at `node`, its start began at `since`; `detail`: 'monitor' where one has the last word."""
    ANSWERED = "answered"
    """The first good answer of a monitor of `generation`; `detail`: of which program."""
    FAILED = "failed"
    """`generation` at `node` could not be started, or died too often; it is not tried there again until cleared."""
    STOPPED = "stopped"
    """`generation` is closed at `node`, its stop began at `since`; `detail`: why."""


class Span(msgspec.Struct, frozen=True):
    """All steps of one kind. Uptimes of the node that notes it, seconds."""

    name: str
    began: float
    ended: float


class Mark(msgspec.Struct, frozen=True):
    """An event in figures. `what` is a Moment, as text: a newer truecl may have more of them."""

    what: str
    node: str = ""
    generation: int = 0
    since: float = 0.0
    """Uptime of the node that notes it, seconds; 0: unknown."""
    spans: tuple[Span, ...] = ()
    detail: str = ""


class EventRecord(msgspec.Struct, frozen=True):
    """One event of the cluster's history, for lha_log."""

    at: float
    """Wall clock, seconds since the epoch, at the node that noted it (for people)."""
    uptime: float
    """The same moment by CLOCK_BOOTTIME, seconds."""
    node: NodeName
    daemon: str
    severity: Severity
    text: str
    app: AppName | None = None
    index: int = 0
    """Log index that it follows from, 0 for none: several nodes note the same decision, it is shown once."""
    mark: Mark | None = None
    boot: str = ""
    """Of the node that noted it; '' where an earlier release noted it."""
