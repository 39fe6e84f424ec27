"""Who has what, seen from outside the cluster: superblocks, addresses and processes in the kernel.

Looked at every few milliseconds in a thread of its own, without asking truecl. What two powered nodes have at the same
time is a violation; but for an application without storage it is an overlap, which S2's exception allows for a bounded
time.
"""

import re
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from truecl.lab import holding
from truecl.lab.cluster import Lab
from truecl.lab.faults.apps import ADDRESSES, APPS, FILES, IMAGE, MOUNT
from truecl.model.ids import AppName

LOOK = 0.008
"""Seconds between two looks."""

Thing = tuple[AppName, str]
"""An application, and `file system`, `address` or `program`."""


@dataclass
class Overlap:
    """Two nodes have an application's address or program at the same time. `since`, `until`: time.monotonic."""

    thing: Thing
    nodes: tuple[str, ...]
    since: float
    until: float


class Watch(threading.Thread):
    """Runs from the start of its `with` block to the end. `holders`: each change of who had what."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self.violations: list[str] = []
        self.overlaps: list[Overlap] = []
        self.holders: list[tuple[float, dict[Thing, tuple[str, ...]]]] = []
        self.looks = 0
        self._lab = lab
        self._nodes = [node.name for node in lab.description.nodes]
        self._backing = re.compile(rf"/shared\.{re.escape(lab.paths.name)}\.([^/]+)/{re.escape(IMAGE)}")
        self._open: dict[Thing, Overlap] = {}
        self._over = threading.Event()

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *why: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.is_set():
            self._look()
            self._over.wait(LOOK)

    def now_held(self) -> dict[Thing, tuple[str, ...]]:
        """Thing to the nodes that have it."""
        found: dict[Thing, list[str]] = {}
        mounted = self._mounted()
        for node in self._nodes:
            if node in mounted or holding.has_mount(self._lab, node, MOUNT):
                found.setdefault((FILES, "file system"), []).append(node)
            for thing in self._of(node):
                found.setdefault(thing, []).append(node)
        return {thing: tuple(sorted(nodes)) for thing, nodes in found.items()}

    def _look(self) -> None:
        held, now = self.now_held(), time.monotonic()
        self.looks += 1
        if not self.holders or self.holders[-1][1] != held:
            self.holders.append((now, held))
        twice = {thing for thing, nodes in held.items() if len(nodes) > 1}
        for thing in sorted(twice):
            self._twice(thing, held[thing], now)
        for thing in [each for each in self._open if each not in twice]:
            del self._open[thing]

    def _twice(self, thing: Thing, nodes: tuple[str, ...], now: float) -> None:
        if thing in self._open:
            self._open[thing].until = now
            return
        # The nodes are looked at one after the other: what both still have now, both had at one time.
        still = self.now_held().get(thing, ())
        both = tuple(node for node in nodes if node in still)
        if len(both) < 2:
            return
        if thing[0] == FILES:
            self.violations.append(f"{' and '.join(both)} both have the {thing[1]} of '{thing[0]}'")
        self._open[thing] = Overlap(thing, both, now, now)
        self.overlaps.append(self._open[thing])

    def _mounted(self) -> set[str]:
        """Nodes with a superblock on the image, whatever mount namespace shows it or none."""
        found = set()
        for place in Path("/sys/fs/ext4").iterdir():
            with suppress(OSError):
                backing = Path(f"/sys/block/{place.name}/loop/backing_file").read_text()
                if match := self._backing.match(backing):
                    found.add(match[1])
        return found

    def _of(self, node: str) -> Collection[Thing]:
        addresses, programs = holding.local_addresses(self._lab, node), holding.programs(self._lab, node)
        found: list[Thing] = [(app, "address") for app, each in ADDRESSES.items() if f"|-- {each}\n" in addresses]
        return found + [(app, "program") for app in APPS if app in programs]
