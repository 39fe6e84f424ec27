"""Names and numbers that identify things. Plain types with a name, so that mypy tells them apart."""

from typing import NewType

NodeName = NewType("NodeName", str)
AppName = NewType("AppName", str)
LinkName = NewType("LinkName", str)
DaemonName = NewType("DaemonName", str)

BootId = NewType("BootId", str)
"""One start of a node's kernel (runtime writes it to the run directory, which a reboot empties)."""

Term = NewType("Term", int)
"""Raft term: at most one leader each (Ongaro and Ousterhout 2014, section 5.1)."""

Index = NewType("Index", int)
"""Position in the replicated log, from 1; 0 is 'before the first entry'."""

Generation = NewType("Generation", int)
"""The log index that granted an application instance to a node: its fencing token. 0 is 'never granted'."""

NO_GENERATION = Generation(0)

HBD, LOCKD, SYNCD, STATD, NETD, CLUSTERD, REQD = (
    DaemonName(name) for name in ("hbd", "lockd", "syncd", "statd", "netd", "clusterd", "reqd")
)
SUPPORT_DAEMONS = (HBD, LOCKD, NETD, SYNCD, STATD)
DAEMONS = (REQD, SYNCD, HBD, LOCKD, NETD, STATD, CLUSTERD)
"""In start order."""
