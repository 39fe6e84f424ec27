"""reqd and its warm parent: the processes of the daemons."""

from truecl.model.ids import DaemonName
from truecl.wire.messages.base import Message


class Fork(Message, frozen=True):
    """reqd to its parent. The parent reads the configuration anew if its files changed, and hands it to the child."""

    daemon: DaemonName


class Forked(Message, frozen=True):
    """It runs. `outdated`: from an older life of the parent, and of another version of truecl than the present one."""

    daemon: DaemonName
    pid: int
    outdated: bool = False


class Living(Message, frozen=True):
    """The warm parent's first word on every line: who lives. What is not named does not."""

    daemons: tuple[Forked, ...]


UNSEEN = 256
"""A status that no process has: this one was no child of the present parent, how it ended nobody saw."""


class Exited(Message, frozen=True):
    """A child or an adopted orphan ended. `status`: exit code, or minus the signal, or UNSEEN."""

    pid: int
    status: int
    daemon: DaemonName | None = None


class End(Message, frozen=True):
    """reqd to the warm parent: TERM this daemon, KILL it after `grace` seconds; 0: KILL it at once."""

    daemon: DaemonName
    grace: float = 1.0


class Ready(Message, frozen=True):
    """A daemon to reqd (over reqd's local socket): my sockets are bound and my core runs. reqd says it, with pid 0, to
    ask for it again: the host answers, not the core, as long as its loop turns."""

    daemon: DaemonName
    pid: int
