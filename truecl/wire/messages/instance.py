"""Orders on an instance of an application, clusterd to clusterd and on to its reqd, and how they go."""

from truecl.model.ids import AppName, Generation, NodeName, Term
from truecl.model.ledger import ALWAYS, Format, Proof
from truecl.model.report import Progress
from truecl.wire.messages.base import Message


class Order(Message, frozen=True):
    """Start or stop one generation. Carries the master's term; a node refuses a lower one than it has seen."""

    verb: str
    """'start' or 'stop'."""
    app: AppName
    generation: Generation
    term: Term
    takeover: bool = False
    """The generation before was ended by a fence or 'expired', without its owner's word (see HoldAddress)."""
    proofs: tuple[Proof, ...] = ALWAYS
    """What may end the grant. A node whose own configuration accepts less, or whose watchdog is not so, does not
    start it."""
    watchdog: float = 0.0
    """Seconds, as in the grant."""
    addressed: bool = False
    """As in the grant; a node whose own configuration says otherwise does not start it."""
    alone: bool = False
    """As in the grant."""
    build: tuple[Format, ...] = ()
    """As in the grant: nothing but this is done."""
    built: dict[str, str] = {}
    """Volumes to the UUIDs of the file systems on them, as lha_buildapp recorded: no other is mounted."""


class InstanceProgress(Message, frozen=True):
    """reqd to clusterd, on to the master: a step of an instance as it happened."""

    node: NodeName
    app: AppName
    generation: Generation
    progress: Progress
