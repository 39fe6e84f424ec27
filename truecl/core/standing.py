"""What an operator reads out of statd's word: a row a node, and a row an application."""

import msgspec

from truecl.model.config import AppConfig, DiskStorage, DrbdStorage, FileStorage, LvmStorage
from truecl.model.ids import AppName, NodeName
from truecl.model.ledger import AppState, Wanted
from truecl.model.mirror import Copy
from truecl.model.standing import AppRow, CopyRow, FailureRow, NodeRow, Stat, VerifiedRow, VolumeRow, WatchdogRow
from truecl.model.step import volume_of
from truecl.wire.messages import InstanceStatus, Status

_WORDS = {
    "starting": "STARTING",
    "running": "UP",
    "frozen": "FROZEN",
    "stopping": "STOPPING",
    "needs fence": "NEEDS FENCE",
}
"""Phase of an instance to what an operator reads."""
_AWAY = ("DOWN", "FENCING", "FENCED")
"""Of a node that is so, the last report is of the past."""


def standing(status: Status) -> Stat:
    """Rows of all nodes, and of all applications that are configured or granted."""
    apps = tuple(
        _app(status, AppName(name))
        for name in sorted({*status.apps, *(name for name, app in status.ledger.apps.items() if app.grant)})
    )
    counts = [state.grant.node for state in status.ledger.apps.values() if state.grant is not None]
    nodes = tuple(_node(status, name, word, counts.count(name)) for name, word in status.nodes.items())
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
        status.ledger.level,
    )


def _node(status: Status, name: NodeName, word: str, apps: int) -> NodeRow:
    report, standby = status.reports.get(name), status.ledger.standby.get(name)
    losses = status.ledger.losses.get(name)
    return NodeRow(
        name,
        word,
        apps,
        name == status.master,
        report is not None,
        name in status.silent,
        report.daemons if report is not None else {},
        report.lease_left if report is not None else 0.0,
        _watchdog(status, name),
        role=status.roles.get(name, "voter"),
        standby="" if standby is None else "keep" if standby.keep else "drain",
        standby_by=standby.operator if standby is not None else "",
        losses=losses.count if losses is not None else 0,
        held=status.held.get(name, 0.0),
        release=report.release if report is not None else "",
        boot=report.boot if report is not None else "",
        refused=status.refused.get(name, ""),
        twin=name in status.twins,
    )


def _app(status: Status, name: AppName) -> AppRow:
    state = status.ledger.apps.get(name, AppState())
    instance = _instance(status, name, state)
    note = status.notes.get(name, "") or (instance.reason if instance is not None else "")
    build = status.ledger.builds.get(name) if status.invalid.get(name) == "" else None
    mended = build is not None and state.wanted is Wanted.STOPPED
    if not note and state.grant is None and state.failures and not mended:
        note = f"{state.failures[-1].node}: {state.failures[-1].reason}"
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
        instance.steps if instance is not None else (),
        tuple(FailureRow(each.node, each.generation, each.reason) for each in state.failures),
        _copies(status, name),
        status.volumes.get(name, ()),
        _storage(status.volumes.get(name, ())),
        build is not None,
        status.invalid.get(name, ""),
        build.nodes if build is not None else (),
        _verified(status, name),
    )


def _verified(status: Status, app: AppName) -> VerifiedRow | None:
    known = status.ledger.verified.get(app)
    return VerifiedRow(known.at, known.node, known.differing) if known is not None else None


def _storage(volumes: tuple[VolumeRow, ...]) -> str:
    kinds = [volume.kind for volume in volumes]
    return ",".join(f"{kind}{kinds.count(kind)}" for kind in dict.fromkeys(kinds))


def volume_rows(app: AppConfig) -> tuple[VolumeRow, ...]:
    """Of an application as it is configured."""
    rows = []
    for volume in app.volumes:
        storage, kind = volume.storage, ""
        if isinstance(storage, DrbdStorage):
            storage, kind = storage.on, "DRBD"
        mounted = next((each for each in app.filesystems if volume_of(app, each) == volume.name), None)
        mount, type = (mounted.mount, mounted.type) if mounted is not None else ("", "")
        match storage:
            case LvmStorage():
                rows.append(VolumeRow(volume.name, kind or "LVM", f"{storage.group}/{storage.volume}", mount, type))
            case DiskStorage():
                rows.append(VolumeRow(volume.name, kind or "disk", storage.device, mount, type))
            case FileStorage():
                rows.append(VolumeRow(volume.name, kind or "file", storage.image, mount, type))
    return tuple(rows)


def _copies(status: Status, app: AppName) -> tuple[CopyRow, ...]:
    mirror = status.ledger.mirrors.get(app)
    if mirror is None:
        return ()
    return tuple(_copy(status, app, node, mirror.copies[node]) for node in mirror.nodes if node in mirror.copies)


def _copy(status: Status, app: AppName, node: NodeName, copy: Copy) -> CopyRow:
    reports = status.reports[node].replicas if node in status.reports else ()
    report = next((each for each in reports if each.app == app), None)
    if report is None:
        return CopyRow(node, copy.state.value, copy.at)
    slowest = min(report.volumes, key=lambda volume: volume.done, default=None)
    return CopyRow(
        node,
        copy.state.value,
        copy.at,
        report.role.value,
        report.link.value,
        report.disk.value,
        slowest.done if slowest is not None else 100.0,
        sum(volume.rate for volume in report.volumes),
        max((volume.left for volume in report.volumes), default=0.0),
        sum(volume.behind for volume in report.volumes),
        report.suspended,
        report.split,
        report.trouble,
        report.volumes,
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
    if status.master is None and not status.ledger.index:
        return "UNKNOWN"  # since it started, this node has heard of no master, who says how far the log counts
    if state.grant is None:
        if state.wanted is Wanted.STOPPED:
            return "DOWN"
        return "FAILED" if state.failures else "WAITING"
    node = status.nodes.get(state.grant.node)
    if state.grant.node not in status.reports or (instance is None and node != "UP"):
        return "UNKNOWN"
    if node in _AWAY and (instance is None or instance.phase != "needs fence"):
        return "UNKNOWN"
    if state.grant.build:
        return "BUILDING"
    if instance is not None and instance.phase in _WORDS:
        return _WORDS[instance.phase]
    if instance is not None and state.wanted is Wanted.RUNNING:
        # Closed at its node, and the log does not know yet: no master, or a moment until it does.
        return "FAILED" if instance.failed else "WAITING"
    return "STARTING" if state.wanted is Wanted.RUNNING else "STOPPING"


def _watchdog(status: Status, name: NodeName) -> WatchdogRow | None:
    report = status.reports[name].watchdog if name in status.reports else None
    return WatchdogRow(*msgspec.structs.astuple(report)) if report is not None else None
