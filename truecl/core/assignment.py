"""What the cluster assigns to an application's replicated resource: minors, a port; and its layout.

Assigned once, and kept in the log (`truecl.model.mirror`).
"""

from truecl.model.config import AppConfig, ClusterConfig
from truecl.model.ids import Index, NodeName
from truecl.model.ledger import Ledger
from truecl.model.mirror import Copy, CopyState, Mirror, MirrorVolume
from truecl.model.step import replicated

FIRST_MINOR = 100
"""Below are the operator's own: what is set up by hand mostly begins at 0."""
LAST_PORT = 65535


def assigned(app: AppConfig, cluster: ClusterConfig, ledger: Ledger) -> Mirror:
    """For its volumes and nodes as configured: what was assigned before is kept, the rest is the lowest that no other
    application has. New copies are inconsistent: they hold nothing yet. Raises ValueError: no port is left."""
    known = ledger.mirrors.get(app.name)
    others = [mirror for name, mirror in ledger.mirrors.items() if name != app.name]
    kept = {volume.name: volume for volume in known.volumes} if known is not None else {}
    minors = {volume.minor for mirror in others for volume in mirror.volumes} | {each.minor for each in kept.values()}
    numbers = {each.number for each in kept.values()}
    volumes = []
    for name in replicated(app):
        if name not in kept:
            number, minor = _free(numbers, 0), _free(minors, FIRST_MINOR)
            numbers.add(number)
            minors.add(minor)
            kept[name] = MirrorVolume(name, number, minor)
        volumes.append(kept[name])
    port = known.port if known is not None else _free({mirror.port for mirror in others}, cluster.ports.drbd)
    if port > LAST_PORT:
        raise ValueError(f"no port from {cluster.ports.drbd} on is left for DRBD")
    copies = known.copies if known is not None else {}
    nothing = Copy(CopyState.INCONSISTENT, Index(0))
    return Mirror(port, tuple(volumes), app.nodes, {node: copies.get(node, nothing) for node in app.nodes})


def with_copies(mirror: Mirror, states: dict[NodeName, CopyState], at: float) -> Mirror:
    """`states` in the place of what its copies were."""
    copies = {
        node: Copy(states[node], Index(0), at) if node in states else copy for node, copy in mirror.copies.items()
    }
    return Mirror(mirror.port, mirror.volumes, mirror.nodes, copies)


def fits(app: AppConfig, mirror: Mirror | None) -> bool:
    """Is the mirror that of this configuration?"""
    names = replicated(app)
    if mirror is None:
        return not names
    return tuple(volume.name for volume in mirror.volumes) == names and mirror.nodes == app.nodes


def _free(taken: "set[int]", first: int) -> int:
    number = first
    while number in taken:
        number += 1
    return number
