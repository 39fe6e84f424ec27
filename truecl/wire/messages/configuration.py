"""syncd: one version of the configuration, and one key ring, on every node."""

from truecl.model.config import Configuration
from truecl.model.ids import NodeName
from truecl.wire.messages.base import Message


class AskDigest(Message, frozen=True):
    number: int


class Digest(Message, frozen=True):
    number: int
    digest: str
    """Of the files as they are on that node's disk now; '' when they cannot be read."""
    problems: tuple[str, ...] = ()
    files: dict[str, str] = {}
    """Name to SHA-256 of the text, hexadecimal."""
    active: str = ""
    """Digest of the version that its daemons were last given."""
    changed: str = ""
    """When the newest of the files was written, for people."""


class Stage(Message, frozen=True):
    """Keep these files beside the active ones; nothing changes yet."""

    number: int
    digest: str
    files: dict[str, str]


class Staged(Message, frozen=True):
    number: int
    digest: str
    reason: str = ""


class Activate(Message, frozen=True):
    number: int
    digest: str


class Activated(Message, frozen=True):
    number: int
    digest: str
    reason: str = ""


class Compare(Message, frozen=True):
    """reqd to syncd, once an `lha_form`: bring `nodes` to one version (`sync`), or say how they differ."""

    number: int
    nodes: tuple[NodeName, ...]
    sync: bool


class Compared(Message, frozen=True):
    number: int
    digest: str
    differing: dict[NodeName, str] = {}
    """Node to what is wrong there; empty: all run the version `digest`."""


class Bring(Message, frozen=True):
    """A command to syncd: bring the version `digest` to these nodes, in the place of `base`; answered by Reply. Nodes
    that do not answer are left behind: they follow when they are back."""

    base: str
    digest: str
    files: dict[str, str]
    nodes: tuple[NodeName, ...]


class Follow(Message, frozen=True):
    """clusterd to syncd: the log says that version `digest` is in force; get it from a node that has it."""

    digest: str


class AskVersion(Message, frozen=True):
    number: int
    digest: str


class Version(Message, frozen=True):
    """What AskVersion asks for; not answered by a node that does not have it."""

    number: int
    digest: str
    files: dict[str, str]


class RotateKeys(Message, frozen=True):
    """lha_node rotate-key to syncd. Answered with Reply."""


class TakeKeys(Message, frozen=True):
    """The key ring that a node is to have from now on. Secret: it shows nothing of it."""

    number: int
    text: str

    def __repr__(self) -> str:
        return f"TakeKeys({self.number}, ...)"


class KeysTaken(Message, frozen=True):
    """`reason`: why not; '': it has them."""

    number: int
    reason: str = ""


class NewConfiguration(Message, frozen=True):
    """syncd to subscribers. To hbd also when there is another key ring."""

    configuration: Configuration
