"""How urgently a daemon runs, and that the kernel does not page it out.

hbd must send and judge heartbeats on a machine at four times its load: real-time round robin, given back by its
children, with a limit after which a runaway is killed instead of the machine; and its memory is locked, but only what
it touches (MCL_ONFAULT: without it a fork of the warm parent costs 35 MB of private memory instead of 4). lockd, reqd
and netd run at nice -15. What is refused (real-time groups of cgroup v1, a container) is worth a warning and no more.
"""

import ctypes
import os
import resource
from collections.abc import Callable

from truecl.model.ids import HBD, LOCKD, NETD, REQD, DaemonName

NICE = -15
URGENT = frozenset({HBD, LOCKD, NETD, REQD})
REALTIME_PRIORITY = 10
REALTIME_LIMIT = 2_000_000
"""Microseconds that hbd may run without ever waiting; the kernel kills it then (RLIMIT_RTTIME), reqd restarts it."""
RLIMIT_RTTIME = 15
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4


def apply(name: DaemonName, warn: Callable[[str], None]) -> None:
    """To this process, after the fork and while it is still root. `warn` hears what the kernel refused."""
    if name == HBD:
        try:
            lock_memory()
        except (OSError, ValueError) as error:
            warn(f"memory is not locked ({error}): under memory pressure heartbeats may come late")
        try:
            run_in_real_time()
            return
        except (OSError, ValueError) as error:
            warn(f"no real-time priority ({error}): going on at nice {NICE}")
    if name in URGENT:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, NICE)
        except OSError as error:
            warn(f"cannot run at nice {NICE}: {error.strerror}")


def lock_memory() -> None:
    """Pages stay once touched. Raises OSError or ValueError."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def run_in_real_time() -> None:
    """Raises OSError. The limit is set first: a real-time process without one could take a whole core for good."""
    resource.setrlimit(RLIMIT_RTTIME, (REALTIME_LIMIT, REALTIME_LIMIT))
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(REALTIME_PRIORITY))
