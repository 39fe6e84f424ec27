"""reqd between nodes, and its commands: who is part of the cluster, and whose daemons run."""

from truecl.model.ids import DaemonName, NodeName
from truecl.wire.messages.base import Message


class Form(Message, frozen=True):
    """lha_form. `sync`: this node's configuration is brought to the others; without it a difference is refused."""

    sync: bool = False


class Dissolve(Message, frozen=True):
    """lha_dissolve. `force`: running applications are stopped first."""

    force: bool = False


class StartDaemons(Message, frozen=True):
    """reqd to reqd: start these and answer DaemonsUp; `formed` is remembered across reboots; `campaign`: stand for
    election."""

    number: int
    daemons: tuple[DaemonName, ...]
    formed: bool = False


class StopDaemons(Message, frozen=True):
    number: int
    daemons: tuple[DaemonName, ...]
    formed: bool = True
    """False: the cluster is dissolved, do not come back by yourself after a reboot."""
    removed: bool = False
    """The node is no part of the cluster any more, until a member starts its daemons again."""


class DaemonsUp(Message, frozen=True):
    """Which daemons answer on this node now; `reason` for those that should and do not."""

    number: int
    up: tuple[DaemonName, ...]
    reason: str = ""
    digest: str = ""
    """Of the configuration files as they are on this node now; '' when they have problems, which `reason` names."""
    formed: bool = False


class AskDaemons(Message, frozen=True):
    number: int


class TakeIn(Message, frozen=True):
    """Master's clusterd to its own reqd: have this node's daemons started, which is being added."""

    node: NodeName


class Dismiss(Message, frozen=True):
    """Master's clusterd to its own reqd: have this node's daemons stopped, which was removed."""

    node: NodeName


class AskPart(Message, frozen=True):
    """A command to its reqd: what part has this node in the cluster?"""


class Part(Message, frozen=True):
    formed: bool
    """Its daemons are to run."""
    removed: bool
    """A member said that it is no part of the cluster any more."""
