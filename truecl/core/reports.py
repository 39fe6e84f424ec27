"""What each node last said of itself with its requests for a lease, as one lockd was told."""

from collections.abc import Callable, Collection

from truecl.model.ids import AppName, BootId, Generation, NodeName
from truecl.model.replica import ReplicaReport
from truecl.model.report import InstanceReport, WatchdogReport
from truecl.wire.messages import Renew

MAX_OLD_BOOTS = 16


class Reports:
    """Mutable; a part of lockd's core. All but the order of the requests is of one leadership (`forget`)."""

    def __init__(self) -> None:
        self.tables: dict[NodeName, tuple[BootId, tuple[InstanceReport, ...]]] = {}
        self.leaving: dict[NodeName, bool] = {}
        self.watchdogs: dict[NodeName, WatchdogReport] = {}
        self.replicas: dict[NodeName, tuple[ReplicaReport, ...]] = {}
        self.levels: dict[NodeName, int] = {}
        """Of the log, that its release knows."""
        self._numbers: dict[NodeName, int] = {}
        self._boots: dict[NodeName, BootId] = {}
        """Of each node's latest request."""
        self._old_boots: dict[NodeName, tuple[BootId, ...]] = {}

    def take(self, message: Renew, free: Callable[[BootId], bool]) -> bool:
        """False for what is older than the latest of its node: an earlier boot, or a smaller number; and for another
        boot that comes too soon. `free`: does the word of another boot than this one count by now?"""
        node, boot = message.node, message.boot
        last = self._boots.get(node, boot)
        if boot in self._old_boots.get(node, ()):
            return False
        if boot != last:
            if not free(last):
                return False
            self._old_boots[node] = (*self._old_boots.get(node, ()), last)[-MAX_OLD_BOOTS:]
            self._numbers[node] = 0
        if message.number <= self._numbers.get(node, 0):
            return False
        self._numbers[node], self._boots[node] = message.number, boot
        if self.tables.get(node) != (boot, message.instances):
            self.tables[node] = (boot, message.instances)
        self.leaving[node] = message.leaving
        self.levels[node] = message.level
        self.replicas[node] = message.replicas
        if message.watchdog is not None:
            self.watchdogs[node] = message.watchdog
        else:
            self.watchdogs.pop(node, None)
        return True

    def number(self, node: NodeName) -> int | None:
        """Of its latest request; None where there was none."""
        return self._numbers.get(node)

    def boot(self, node: NodeName) -> BootId:
        """Of its latest request; '' where there was none."""
        return self._boots.get(node, BootId(""))

    def of(self, node: NodeName, app: AppName, generation: Generation) -> InstanceReport | None:
        """What it says of this generation."""
        _, lines = self.tables.get(node, (BootId(""), ()))
        return next((line for line in lines if (line.app, line.generation) == (app, generation)), None)

    def keep(self, members: Collection[NodeName]) -> None:
        """Forget what nodes said that are no members."""
        for node in [node for node in self.tables if node not in members]:
            del self.tables[node]
            self.leaving.pop(node, None)
            self.watchdogs.pop(node, None)
            self.replicas.pop(node, None)

    def forget(self) -> None:
        """By the time that this node leads again, the nodes may have said other things to others."""
        self.tables.clear()
        self.leaving.clear()
        self.watchdogs.clear()
        self.replicas.clear()
        self.levels.clear()
