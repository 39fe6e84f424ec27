"""The timing law: what must hold between the durations of cluster.yaml. docs/timing.md explains each of them.

Pure arithmetic over `Timing`, used when a configuration is read and by whoever builds a Timing in code.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from truecl.config.typed import Source
from truecl.model.config import WATCHDOG_FEED, ClusterConfig, Timing, worst_time

_ROUNDING = 1e-9
"""0.1 * 3 is a little more than 0.3 in binary."""

DRIFT_RATE = 0.001
"""Two clocks that are each steered by at most 500 parts per million (adjtimex(2)) part by this much."""


class Breach(NamedTuple):
    """A law that does not hold."""

    keys: tuple[str, ...]
    """The durations it speaks of, the first the one to change."""
    what: str
    expected: str


def breaches(timing: Timing) -> Iterator[Breach]:
    """Every law that `timing` breaks, in the order of docs/timing.md."""
    t = timing
    if _less(t.detection, 3 * t.heartbeat):
        yield Breach(
            ("detection", "heartbeat"),
            f"detection ({shown(t.detection)}) is less than three heartbeats ({shown(t.heartbeat)} each)",
            f"expected at least {shown(3 * t.heartbeat)}, or one lost packet looks like a dead node",
        )
    if _less(t.lease, t.detection + t.renewal):
        yield Breach(
            ("lease", "detection", "renewal"),
            f"lease ({shown(t.lease)}) is less than detection + renewal ({shown(t.detection)} + {shown(t.renewal)})",
            f"expected at least {shown(t.detection + t.renewal)}, or a change of master stops applications",
        )
    if _less(t.lease, 3 * t.renewal):
        yield Breach(
            ("renewal", "lease"),
            f"three renewals ({shown(t.renewal)} each) take longer than the lease ({shown(t.lease)})",
            f"expected renewal of at most {shown(t.lease / 3)}, or one lost answer stops applications",
        )
    if _less(t.election, 2 * t.detection):
        yield Breach(
            ("election", "detection"),
            f"election ({shown(t.election)}) is less than twice detection ({shown(t.detection)})",
            f"expected at least {shown(2 * t.detection)}, or nodes campaign against a living master",
        )
    if _less(t.drift, t.lease * DRIFT_RATE):
        yield Breach(
            ("drift", "lease"),
            f"drift ({shown(t.drift)}) is less than a thousandth of the lease ({shown(t.lease)})",
            f"expected at least {shown(t.lease * DRIFT_RATE)}, as two steered clocks may part by that much",
        )
    if _less(t.lease, t.drift):
        yield Breach(
            ("drift", "lease"),
            f"drift ({shown(t.drift)}) is more than the lease ({shown(t.lease)})",
            "expected what two clocks part by within one lease: milliseconds",
        )
    if _less(t.stop_allowance, t.address_allowance):
        yield Breach(
            ("address_allowance", "stop_allowance"),
            f"address_allowance ({shown(t.address_allowance)}) is more than stop_allowance ({shown(t.stop_allowance)})",
            "expected a part of it: the addresses are the first that a forced stop takes down",
        )


def check(source: Source, timing: Timing) -> None:
    """Notes every breach at the line of a key that it speaks of."""
    for breach in breaches(timing):
        written = [key for key in breach.keys if ("timing", key) in source.lines]
        line = source.line("timing", written[0] if written else breach.keys[0])
        source.note(line, breach.what, breach.expected)


def check_watchdogs(source: Source, cluster: ClusterConfig) -> None:
    """The forced stop has its time before the reset. (Of the device's own word, reqd asks the same again.)"""
    least = cluster.timing.stop_allowance + WATCHDOG_FEED
    for node in cluster.nodes:
        watchdog = node.watchdog
        if watchdog.use != "off" and not _less(least, watchdog.timeout):
            source.note(
                source.line("nodes", node.name, "watchdog", "timeout"),
                f"the watchdog of node {node.name!r} ({shown(watchdog.timeout)}) leaves no time for a forced stop",
                f"expected more than stop_allowance + {shown(WATCHDOG_FEED)}: at least {int(least) + 1}s",
            )


def check_duel(source: Source, cluster: ClusterConfig) -> None:
    """Two nodes that cannot hear each other and can fence each other: one must be off before the other is asked for."""
    if len(cluster.voters) != 2:
        return
    delays = {name: cluster.fence_delay(name) for name in cluster.voters}
    one, two = sorted(cluster.voters, key=lambda name: delays[name])
    quick, protected = cluster.node(one), cluster.node(two)
    least = delays[one] + worst_time(quick.fence) + cluster.timing.detection
    if not quick.fence or not protected.fence or _less(least, delays[two]):
        return
    written = [node.name for node in (protected, quick) if node.fence_delay is not None]
    source.note(
        source.line("nodes", written[0], "fence_delay"),
        f"{one} and {two} could switch each other off at the same time",
        f"expected a fence_delay of {two} above {shown(least)}: what the device of {one} may take, and detection",
    )


def lease_of_survivor(cluster: ClusterConfig) -> float | None:
    """Of two nodes, one goes on alone only after the other is off for certain. Seconds that the lease must have so that
    the survivor keeps its own applications meanwhile, at the device's worst; None where the lease is long enough, where
    there are not two voters, and where no device is asked."""
    devices = [worst_time(node.fence) for node in cluster.nodes if node.name in cluster.voters and node.fence]
    if len(cluster.voters) != 2 or not devices:
        return None
    timing = cluster.timing
    needed = timing.detection + 2 * timing.renewal + max(devices)
    return math.ceil(needed) if _less(timing.lease, needed) else None


def _less(left: float, right: float) -> bool:
    return left < right - _ROUNDING


def shown(seconds: float) -> str:
    """As it would be written in the configuration."""
    if seconds < 1:
        return f"{seconds * 1000:.6g}ms"
    return f"{seconds:.6g}s"
