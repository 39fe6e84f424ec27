"""Operations: commands to clusterd, clusterd to the master's clusterd, and the work on a node that is part of one."""

import msgspec

from truecl.model.build import Question, Seen, Work
from truecl.model.ids import AppName, Index, NodeName, Term
from truecl.model.report import Progress
from truecl.wire.messages.base import Message


class BuildWish(msgspec.Struct, frozen=True):
    """Options of lha_buildapp; without any, it looks and records. `node` of the request is the one that it names."""

    create: bool = False
    """Make what is missing."""
    force: bool = False
    """Even in the place of what is there."""
    agreed: str = ""
    """The token of the question that the operator agreed to."""
    accept: bool = False
    """The copy of `node` is the one to go on with."""
    resolve: bool = False
    """After a split brain, the copy of `node` is kept, and the other thrown away."""
    replace: bool = False
    """The disk of `node` was lost, and there is a new one in its place."""
    verify: bool = False
    """Compare the copies."""
    grow: str = ""
    """This volume, to `size` bytes."""
    size: int = 0
    resync: bool = False
    """What a comparison found to differ is copied again from the owner."""


class Request(Message, frozen=True):
    """An operator's wish: verb 'start', 'stop' or 'move' for an application; with app '', 'off', 'on', 'reboot' or
    'confirm' (the operator vouches that it is off), 'standby', 'resume', 'add' or 'remove' for a node, or 'configure'
    for a version of the configuration that all nodes have by now; 'clear' for what failed, with the name of an
    application or a node in `app`. `id` is unique at its origin."""

    id: str
    verb: str
    app: AppName
    node: NodeName | None = None
    operator: str = ""
    seen: Index = Index(0)
    """For 'confirm': the log index that the operator looked at. What was granted later is not vouched for."""
    keep: bool = False
    """For 'standby': what runs there stays."""
    digest: str = ""
    """For 'configure': of that version."""
    build: BuildWish | None = None
    """For 'build'."""
    validated: bool = False
    """For 'start' and 'move': only what lha_buildapp found ready, and what is as it was then."""
    at: float = 0.0
    """Wall clock of the command, seconds since the epoch: for people alone."""


class Reply(Message, frozen=True):
    """A line about the operation `id`, and its end when `code` is set (exit codes of DESIGN.md section 7)."""

    id: str
    progress: Progress | None = None
    code: int | None = None
    question: Question | None = None
    """With a code: nothing was done, for the operator has to agree first."""


class AskWork(Message, frozen=True):
    """Master's clusterd to a node's, on to its reqd: a part of lha_buildapp. Comes again until it is answered, under
    the same id, and is done once. A lower term than was heard of before is refused."""

    id: str
    term: Term
    app: AppName
    work: Work
    timeout: float = 30.0


class WorkAnswer(Message, frozen=True):
    """The way back."""

    id: str
    node: NodeName
    seen: Seen
