"""What the days that were tried have met: faults, proofs, refusals, ways down. What was never met proves nothing.

`Coverage` is a `Check` that breaks no promise: it only counts, in `Cluster.coverage`, what the daemons were told and
did. The faults count themselves where they happen.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from truecl.core.contract import Event, Output, Put, Received, Told
from truecl.core.reqd import Reqd
from truecl.model.ids import REQD, STATD
from truecl.model.ledger import Proof
from truecl.model.report import Phase
from truecl.wire.messages import AddressState, FenceResult, Note, Order, Proposed, Renewed, Reply, Revoke
from truecl.wire.raft import AppendAnswer, PreVoteAnswer, SnapshotPart, TimeoutNow, VoteAnswer

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine
    from truecl.sim.process import Process

FAULTS = (
    *(f"cut {ways}, {links}" for ways in ("one way", "both ways") for links in ("one link", "all links")),
    "message lost", "message doubled", "message late", "session broken",
    "power cut", "reboot quicker than detection", "watchdog reset", "boot without a watchdog",
    *(f"kill of {daemon}" for daemon in ("reqd", "hbd", "lockd", "syncd", "statd", "netd", "clusterd")),
    "kill of the parent", "kill of several at once", "service stop", "hang of a daemon", "pause of a node",
    "standstill, the clock counts it", "standstill, the clock does not count it", "held before a feed",
    *(f"death inside an output: {stage}" for stage in ("save", "send", "do", "tell")),
    "death between write and sync", "slow disk", "full disk", "full disk, the reserve is used up",
    "driver fails", "driver hangs", "tool stuck", "probe fails", "program dies", "address of a stranger",
    "fence refuses", "fence refuses and cuts",
)  # fmt: skip
REPLICAS = (
    "replica frozen", "replica severed", "handler: go on", "handler: no", "synchronisation",
    "synchronisation broken off", "taken over alone",
    "copies compared", "comparison broken off", "secondary left in good order",
)  # fmt: skip

_PROPOSALS = {
    "not the leader": "not the leader of this term",
    "too much waits": "too much waits for a quorum",
    "": "an end without its proof",
}
"""What lockd says when it refuses a proposal, and its short name. What a proof lacks, the planner mostly sees first."""

_WAYS_DOWN = {
    "lease ended": "lease ended",
    "no longer grants": "no longer granted",
    "service on this node": "service stops",
    "was rebooted": "after a reboot",
    "away longer than the lease": "reqd came back too late",
    "never started here": "never started here",
}

PROOFS = tuple(f"proof: {proof}" for proof in Proof)
REFUSALS = (
    "refused: order of an older master",
    "refused: start of a generation that is known",
    "refused: a lease answer after the lease's end",
    *(f"refused: {name}" for name in _PROPOSALS.values()),
    "refused: vote", "refused: pre-vote", "refused: append that does not fit",
    "refused: address that a stranger has", "refused: address after the lease's end",
    "refused: operator's request",
)  # fmt: skip
OTHERS = (
    *(f"instance {phase}" for phase in Phase if phase is not Phase.STARTING),
    *(f"way down: {name}" for name in _WAYS_DOWN.values()),
    "start waits for the lease", "reqd takes up what runs", "snapshot sent", "leadership handed over",
    "fence confirmed", "fence failed", "operator served", "renewed no more, for its watchdog",
    *(f"lha_node {verb}: {end}" for verb in ("add", "remove") for end in ("done", "not done")),
)  # fmt: skip
KINDS = (*FAULTS, *REPLICAS, *PROOFS, *REFUSALS, *OTHERS)


class Coverage:
    """Counts. `met` is the cluster's."""

    def __init__(self, cluster: "Cluster") -> None:
        self._met = cluster.met

    def started(self, process: "Process", output: Output) -> None:
        core = process.core
        if isinstance(core, Reqd) and any(each.leftover and each.open for each in core.instances.machines.values()):
            self._met("reqd takes up what runs")
        if process.daemon == REQD:
            self._ways_down(process, output)

    def powered_off(self, machine: "Machine") -> None: ...

    def handled(self, process: "Process", event: Event, output: Output) -> None:
        if event.__class__ is Told or event.__class__ is Received:
            seen = _SEEN.get(event.message.__class__)
            if seen is not None:
                kind = seen(process, event.message, output)
                if kind:
                    self._met(kind)
        if output.save and process.daemon == REQD:
            self._ways_down(process, output)

    def _ways_down(self, process: "Process", output: Output) -> None:
        core = process.core
        if not isinstance(core, Reqd):
            return
        for save in output.save:
            if isinstance(save, Put) and save.bucket == "run.instances":
                machine = next(each for each in core.instances.machines.values() if each.config.name == save.key)
                if machine.phase is not Phase.STARTING:
                    self._met(f"instance {machine.phase}")
                if machine.phase is Phase.STOPPING:
                    name = _named(_WAYS_DOWN, machine.reason)
                    if name:
                        self._met(f"way down: {name}")


def _named(names: dict[str, str], text: str) -> str:
    return next((name for words, name in names.items() if words in text), "")


def _order(process: "Process", order: Order, output: Output) -> str:
    core = process.core
    if not isinstance(core, Reqd):
        return ""
    if order.term < core.orders._term:
        return "refused: order of an older master"
    record = core.instances.records.get(order.app)
    begun = any(isinstance(save, Put) and save.bucket == "instances" and save.key == order.app for save in output.save)
    if order.verb == "start" and record is not None and record.generation >= order.generation and not begun:
        return "refused: start of a generation that is known"
    return "start waits for the lease" if order.app in core.orders._waiting else ""


def _renewed(process: "Process", answer: Renewed, output: Output) -> str:
    core = process.core
    late = isinstance(core, Reqd) and not core._lease.holds(process.machine.clock())
    return "refused: a lease answer after the lease's end" if late else ""


def _revoked(process: "Process", revoke: Revoke, output: Output) -> str:
    told = any(tell.who == STATD and isinstance(tell.message, Note) for tell in output.tell)
    return "renewed no more, for its watchdog" if told else ""


def _proposed(process: "Process", answer: Proposed, output: Output) -> str:
    name = _named(_PROPOSALS, answer.reason) if answer.index is None else ""
    return f"refused: {name}" if name else ""


def _address(process: "Process", state: AddressState, output: Output) -> str:
    if "has this address" in state.reason:
        return "refused: address that a stranger has"
    return "refused: address after the lease's end" if "lease is over" in state.reason else ""


_REPLIES = {0: "operator served", 1: "refused: operator's request"}

_SEEN: dict[type, Callable[["Process", Any, Output], str]] = {
    Order: _order,
    Renewed: _renewed,
    Proposed: _proposed,
    AddressState: _address,
    Reply: lambda process, reply, output: _REPLIES.get(reply.code, ""),
    Revoke: _revoked,
    FenceResult: lambda process, result, output: "fence confirmed" if result.off else "fence failed",
    VoteAnswer: lambda process, answer, output: "" if answer.granted else "refused: vote",
    PreVoteAnswer: lambda process, answer, output: "" if answer.granted else "refused: pre-vote",
    AppendAnswer: lambda process, answer, output: "" if answer.accepted else "refused: append that does not fit",
    SnapshotPart: lambda process, part, output: "snapshot sent",
    TimeoutNow: lambda process, message, output: "leadership handed over",
}
