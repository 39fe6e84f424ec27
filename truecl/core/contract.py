"""The one contract between a daemon's decisions and whatever hosts them.

A core is a pure state machine: `handle(event, now)` changes its state and returns an `Output`. It never reads a clock,
opens a file or draws from a hidden random source. Two hosts run the same cores: `truecl.runtime` (Twisted) and
`truecl.sim` (simulated machines). Both carry an output out in this order, and the simulator crashes nodes between any
two of these:

1. `save`: durable (one transaction, fsynced) before anything below happens;
2. `send`: to the same daemon on other nodes; may be lost, delayed, doubled or reordered, never altered;
3. `do`: to this node's drivers; each action is answered by exactly one `Done` with its id, unless the daemon dies;
4. `tell`: to daemons and commands on this node, over local sockets; lost if nobody of that name is joined;
5. `wake_at`: the one timer, replaced by each output; None: no timer.

(After etcd-io/raft's Ready: data with an ordering contract, saved before sent.)
"""

from dataclasses import dataclass
from typing import Any, Protocol, Union

from truecl.model.ids import NodeName

# ---- what goes in ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the same daemon on another node, over an authenticated session."""

    node: NodeName
    message: Any


@dataclass(frozen=True, slots=True)
class Connected:
    """The session to the same daemon on `node` can carry messages now. Only a hint."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class Disconnected:
    node: NodeName


@dataclass(frozen=True, slots=True)
class Rejected:
    """No session with the same daemon on `node` can be: there is no format that both speak. Until Connected."""

    node: NodeName
    reason: str


@dataclass(frozen=True, slots=True)
class Joined:
    """`who` can be told now: a daemon of this node by its name ('lockd'), or a command ('command-17')."""

    who: str
    root: bool = True
    """False: a member of group truecl, who may look and not act."""


@dataclass(frozen=True, slots=True)
class Left:
    who: str


@dataclass(frozen=True, slots=True)
class Told:
    """A message from `who` on this node."""

    who: str
    message: Any


@dataclass(frozen=True, slots=True)
class Done:
    """The end of the action `id` of an earlier output. `result` is of the type that the action names."""

    id: int
    result: Any


@dataclass(frozen=True, slots=True)
class Noted:
    """Something a driver noticed by itself: a process died, a link went down."""

    message: Any


@dataclass(frozen=True, slots=True)
class Woke:
    """The timer. Timers only wake, the clock decides: it may come late, early or twice."""


Event = Union[Received, Connected, Disconnected, Rejected, Joined, Left, Told, Done, Noted, Woke]

# ---- what comes out -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Put:
    """Write one record. `key` orders within its bucket (int or str, one kind per bucket).

    A bucket whose name begins with `run.` needs to outlive the daemon, not the boot: it is kept in the run directory,
    without an fsync, and a reboot empties it.
    """

    bucket: str
    key: int | str
    value: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove the records of a bucket with first <= key <= last; None: unbounded on that side."""

    bucket: str
    first: int | str | None = None
    last: int | str | None = None


Save = Union[Put, Drop]


@dataclass(frozen=True, slots=True)
class Send:
    node: NodeName
    message: Any


@dataclass(frozen=True, slots=True)
class Do:
    """An order to a driver of this node. Ids are unique within one life of the core."""

    id: int
    action: Any


@dataclass(frozen=True, slots=True)
class Tell:
    who: str
    message: Any


@dataclass(frozen=True, slots=True)
class Output:
    save: tuple[Save, ...] = ()
    send: tuple[Send, ...] = ()
    do: tuple[Do, ...] = ()
    tell: tuple[Tell, ...] = ()
    wake_at: float | None = None
    """Monotonic seconds (CLOCK_BOOTTIME), the same clock as `now`."""


NOTHING = Output()

Records = dict[str, dict[int | str, bytes]]
"""What a journal held when the daemon started: bucket -> key -> value, keys in order."""


class Outdated(Exception):
    """What a core was given is beyond this release: it cannot go on, and is right to end. The text says what it was."""


EXIT_JOURNAL = 74
"""EX_IOERR: how a daemon ends whose journal cannot be read or written."""
EXIT_OUTDATED = 76
"""EX_PROTOCOL: how a daemon ends whose core raised Outdated."""


class Core(Protocol):
    """A daemon's decisions. Built by `truecl.core.assemble` from configuration, records and a seeded Random."""

    def start(self, now: float) -> Output:
        """Called once, before any event."""

    def handle(self, event: Event, now: float) -> Output:
        """`now` never goes back. An event that the state has no use for changes nothing."""
