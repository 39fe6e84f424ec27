"""lha_stat: what is, worked out of statd's answer."""

import msgspec

from truecl.commands.node import FAILED, UNFINISHED, Ended, Node, dialogue, meant
from truecl.model.ids import STATD, AppName, DaemonName, NodeName
from truecl.model.ledger import AppState, Wanted
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import AskStatus, InstanceStatus, Refused, Status, StepStatus

TIMEOUT = 5.0
_WORDS = {"starting": "STARTING", "running": "UP", "stopping": "STOPPING", "needs fence": "NEEDS FENCE"}
"""Phase of an instance to what an operator reads."""


class NodeRow(msgspec.Struct, frozen=True):
    name: NodeName
    status: str
    """UP, DOWN, FENCING, FENCED or UNKNOWN."""
    apps: int
    """Applications granted to it."""
    master: bool
    reported: bool
    """Its statd's word is fresh and known to who answered."""
    silent: bool
    """hbd hears it, and its statd should have reported long ago."""
    daemons: dict[DaemonName, str]
    """'up', or why not."""
    lease_left: float
    """Seconds, at the time of its report."""


class AppRow(msgspec.Struct, frozen=True):
    name: AppName
    status: str
    """UP, STARTING, STOPPING, DOWN, WAITING, FAILED, NEEDS FENCE or UNKNOWN."""
    node: NodeName | None
    failovers: int
    note: str
    wanted: str
    generation: int
    """0: it has no grant."""
    nodes: tuple[NodeName, ...]
    """Where it may run."""
    configured: bool
    steps: tuple[StepStatus, ...]
    """Only where one application or node was asked for, and of what has a grant."""


class Stat(msgspec.Struct, frozen=True):
    cluster: str
    state: str
    """UP, NO MASTER or NO QUORUM."""
    master: NodeName | None
    term: int
    answered_by: NodeName
    complete: bool
    """The master's own word. False: only what the answering node knows by itself."""
    nodes: tuple[NodeRow, ...]
    apps: tuple[AppRow, ...]
    nodes_up: int
    nodes_total: int
    trouble: str = ""
    """Of two nodes: why this one waits for the other, or goes on alone."""


def stat(node: Node, request: AskStatus, timeout: float = TIMEOUT) -> Stat:
    """The nodes and applications asked for. Raises Ended (also for an unknown name) and NotAllowed."""
    try:
        status = ask_status(node, request, timeout)
    except NoAnswer as error:
        raise Ended(UNFINISHED, str(error)) from error
    except NoDaemon as error:
        raise Ended(3, str(error)) from error
    if request.app is not None and request.app not in status.apps and request.app not in status.ledger.apps:
        raise Ended(FAILED, f"unknown application '{request.app}': {meant(request.app, status.apps)}")
    if request.node is not None and request.node not in status.nodes:
        raise Ended(FAILED, f"unknown node '{request.node}': {meant(request.node, status.nodes)}")
    return worked_out(status, request)


def ask_status(node: Node, request: AskStatus, timeout: float) -> Status:
    """Raises Ended, NotAllowed, NoAnswer, NoDaemon."""
    talk = dialogue(node, STATD)
    try:
        talk.send(request)
        end = node.now() + timeout
        while True:
            message = talk.receive(max(0.0, end - node.now()))
            if isinstance(message, Refused):
                raise Ended(FAILED, message.reason)
            if isinstance(message, Status):
                return message
    finally:
        talk.close()


def worked_out(status: Status, request: AskStatus) -> Stat:
    """Rows of the nodes and applications that `request` names."""
    apps = tuple(
        _app(status, AppName(name), request)
        for name in sorted({*status.apps, *(name for name, app in status.ledger.apps.items() if app.grant)})
        if request.app in (None, name)
    )
    if request.node is not None:
        apps = tuple(app for app in apps if app.node == request.node)
    counts = [state.grant.node for state in status.ledger.apps.values() if state.grant is not None]
    nodes = tuple(
        NodeRow(
            name,
            word,
            counts.count(name),
            name == status.master,
            name in status.reports,
            name in status.silent,
            status.reports[name].daemons if name in status.reports else {},
            status.reports[name].lease_left if name in status.reports else 0.0,
        )
        for name, word in status.nodes.items()
        if request.node in (None, name)
    )
    return Stat(
        status.cluster,
        status.state,
        status.master,
        status.term,
        status.answered_by,
        status.answered_by == status.master,
        nodes,
        apps,
        sum(word == "UP" for word in status.nodes.values()),
        len(status.nodes),
        status.trouble,
    )


def _app(status: Status, name: AppName, request: AskStatus) -> AppRow:
    state = status.ledger.apps.get(name, AppState())
    instance = _instance(status, name, state)
    note = status.notes.get(name, "") or (instance.reason if instance is not None else "")
    if not note and state.grant is None and state.failures:
        note = f"{state.failures[-1].node}: {state.failures[-1].reason}"
    asked = request.app is not None or request.node is not None
    return AppRow(
        name,
        _word(status, state, instance),
        state.grant.node if state.grant is not None else None,
        state.failovers,
        note,
        state.wanted.value,
        state.grant.generation if state.grant is not None else 0,
        status.apps.get(name, ()),
        name in status.apps,
        instance.steps if instance is not None and asked else (),
    )


def _instance(status: Status, name: AppName, state: AppState) -> InstanceStatus | None:
    """What the node that has the grant says of that generation."""
    if state.grant is None or state.grant.node not in status.reports:
        return None
    for instance in status.reports[state.grant.node].instances:
        if instance.app == name and instance.generation == state.grant.generation:
            return instance
    return None


def _word(status: Status, state: AppState, instance: InstanceStatus | None) -> str:
    if state.grant is None:
        if state.wanted is Wanted.STOPPED:
            return "DOWN"
        return "FAILED" if state.failures else "WAITING"
    if instance is not None:
        # Closed at its node, and the log does not know yet.
        return _WORDS.get(instance.phase, "STOPPING" if state.wanted is Wanted.STOPPED else "FAILED")
    if state.grant.node not in status.reports or status.nodes.get(state.grant.node) != "UP":
        return "UNKNOWN"
    return "STARTING" if state.wanted is Wanted.RUNNING else "STOPPING"
