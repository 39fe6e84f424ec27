"""Builds each daemon's core. Both hosts use this function, so what the simulator tries is what runs."""

from random import Random

from truecl.core.clusterd import Clusterd
from truecl.core.contract import Core, Records
from truecl.core.detector import Detector
from truecl.core.lockd import Lockd
from truecl.core.netd import Netd
from truecl.core.reqd import Reqd
from truecl.core.statd import Statd
from truecl.core.syncd import Syncd
from truecl.model.config import Configuration
from truecl.model.ids import CLUSTERD, HBD, LOCKD, NETD, REQD, STATD, SYNCD, BootId, DaemonName, NodeName

LOCAL_EDGES: tuple[tuple[DaemonName, DaemonName], ...] = (
    (HBD, REQD), (LOCKD, REQD), (SYNCD, REQD), (NETD, REQD), (STATD, REQD), (CLUSTERD, REQD),
    (LOCKD, HBD), (NETD, HBD), (STATD, HBD), (CLUSTERD, HBD),
    (STATD, LOCKD), (CLUSTERD, LOCKD),
    (STATD, CLUSTERD), (STATD, SYNCD), (CLUSTERD, SYNCD), (LOCKD, SYNCD), (HBD, SYNCD),
)  # fmt: skip
"""Who connects to whose local socket: (client, server). Once joined, both tell each other. Everybody joins reqd, which
starts them and hears from each that it is ready."""


def build(
    daemon: DaemonName,
    me: NodeName,
    configuration: Configuration,
    boot: BootId,
    records: Records,
    random: Random,
    now: float,
    founder: bool = True,
) -> Core:
    """The core of one daemon of one node. `records`: what its journal holds; `founder`: the cluster began with this
    node. Raises as their constructors do."""
    if daemon == HBD:
        return Detector(configuration.cluster, me, boot, random)
    if daemon == LOCKD:
        return Lockd(me, configuration, records, random, boot, founder)
    if daemon == REQD:
        return Reqd(me, configuration, boot, records, now)
    if daemon == NETD:
        return Netd(configuration.cluster.timing)
    if daemon == CLUSTERD:
        return Clusterd(me, configuration)
    if daemon == STATD:
        return Statd(me, configuration)
    if daemon == SYNCD:
        return Syncd(me, configuration)
    raise KeyError(daemon)
