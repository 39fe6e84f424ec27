"""Every message there is, in one table a channel; its fields are in the module here that is named after its subject.

MESH: between the same daemon on two nodes. LOCAL: between the daemons and commands of one node. All are frozen tagged
tuples in msgpack; a field may be added at the end with a default, which older nodes ignore. A new message gets a new
format (frame.VERSIONS, and SINCE here): it is not sent where the session speaks an older one. Times are seconds;
`until` and the like are CLOCK_BOOTTIME of the node they are on and never cross nodes.
"""

from typing import Union

from truecl.model.ids import DaemonName
from truecl.wire import raft
from truecl.wire.messages.address import AddressState, HoldAddress, LeaseExtended, ProbeAddress, ReleaseAddress
from truecl.wire.messages.base import Message, Refused, Subscribe
from truecl.wire.messages.configuration import (
    Activate,
    Activated,
    AskDigest,
    AskVersion,
    Bring,
    Compare,
    Compared,
    Digest,
    Follow,
    KeysTaken,
    NewConfiguration,
    RotateKeys,
    Stage,
    Staged,
    TakeKeys,
    Version,
)
from truecl.wire.messages.fence import (
    AskFences,
    Confirmed,
    ConfirmOff,
    FenceResult,
    FencesSeen,
    FenceView,
    OrderFenceOff,
    OrderPowerOn,
    PoweredOn,
)
from truecl.wire.messages.formation import (
    AskDaemons,
    AskPart,
    DaemonsUp,
    Dismiss,
    Dissolve,
    Form,
    Part,
    StartDaemons,
    StopDaemons,
    TakeIn,
)
from truecl.wire.messages.heartbeat import Goodbye, Heartbeat, LinkView, NodeView, View
from truecl.wire.messages.history import AskInputs, AskLog, ClockReading, Decided, Inputs, Kept, LogLines, Note
from truecl.wire.messages.instance import InstanceProgress, Order
from truecl.wire.messages.lease import Renew, Renewed
from truecl.wire.messages.log import (
    Applied,
    Campaign,
    Leadership,
    Members,
    Nodes,
    Propose,
    Proposed,
    Reshape,
    Revoke,
    StepDown,
)
from truecl.wire.messages.operation import AskWork, BuildWish, Reply, Request, WorkAnswer
from truecl.wire.messages.process import UNSEEN, End, Exited, Fork, Forked, Living, Ready
from truecl.wire.messages.replica import AskPeerOutdated, OrderReplica, PeerOutdated
from truecl.wire.messages.status import (
    AppNote,
    AskStanding,
    AskStatus,
    HeldNode,
    InstanceStatus,
    NodeStatus,
    Notes,
    Standing,
    Status,
)

MESH: dict[DaemonName, object] = {
    DaemonName("hbd"): Union[Heartbeat, Goodbye],
    DaemonName("lockd"): Union[raft.RaftMessage, raft.Letter, Renew, Renewed],
    DaemonName("reqd"): Union[StartDaemons, StopDaemons, DaemonsUp, AskDaemons, AskFences, FencesSeen],
    DaemonName("clusterd"): Union[
        Order, InstanceProgress, OrderReplica, AskPeerOutdated, PeerOutdated, Request, Reply, AskWork, WorkAnswer
    ],
    DaemonName("syncd"): Union[
        AskDigest, Digest, Stage, Staged, Activate, Activated, AskVersion, Version, TakeKeys, KeysTaken
    ],
    DaemonName("statd"): Union[NodeStatus, AskStatus, Status, AskLog, LogLines, Notes, AskInputs, Inputs],
}
"""What may come from the same daemon on another node."""

LOCAL = Union[
    Subscribe, Refused,
    View,
    Propose, Proposed, Applied, Leadership, Members, Reshape, Nodes, Revoke, Campaign, StepDown,
    Renew, Renewed,
    OrderFenceOff, FenceResult, OrderPowerOn, PoweredOn, AskFences, FencesSeen, ConfirmOff, Confirmed,
    ProbeAddress, HoldAddress, ReleaseAddress, LeaseExtended, AddressState,
    Order, InstanceProgress,
    OrderReplica, AskPeerOutdated, PeerOutdated,
    Request, Reply, AskWork, WorkAnswer,
    Form, Dissolve, TakeIn, Dismiss, AskPart, Part, Ready,
    Compare, Compared, Bring, Follow, NewConfiguration, RotateKeys,
    NodeStatus, AskStanding, Standing, AskStatus, Status, Notes,
    Note, AskLog, LogLines, Decided, AskInputs, Inputs,
]  # fmt: skip
"""What may come over a local socket."""

PARENT = Union[Fork, Forked, Living, Exited, End]
"""Between reqd and the warm parent."""

SINCE: dict[type, int] = {
    TakeKeys: 2,
    KeysTaken: 2,
    RotateKeys: 2,
    OrderReplica: 2,
    AskPeerOutdated: 2,
    PeerOutdated: 2,
    AskWork: 2,
    WorkAnswer: 2,
    Revoke: 2,
}
"""From which format on there is such a message; what is not here was there from the first."""


def since(message: object) -> int:
    """The first format that has it."""
    return SINCE.get(type(message), 1)
