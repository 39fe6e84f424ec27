"""reqd's guard: what runs here is stopped by force when the lease is over, or no longer names it (SAFETY.md 2 and 6).

Record: bucket 'run.lease' holds the lease's end, which a restart of reqd needs and a reboot makes void.
"""

import math

from truecl.core.contract import Records
from truecl.core.instance import InstanceMachine
from truecl.core.instances import Instances
from truecl.core.lease import Lease
from truecl.core.outbox import Outbox
from truecl.core.watchdog import Watchdog
from truecl.model.config import WATCHDOG_FEED, ClusterConfig
from truecl.model.report import Phase
from truecl.wire.messages import Renewed


class Guard:
    """A part of reqd's core: the lease, the watchdog, and the end of what may not run."""

    def __init__(
        self,
        config: ClusterConfig,
        lease: Lease,
        watchdog: Watchdog,
        instances: Instances,
        records: Records,
        out: Outbox,
    ) -> None:
        self._lease, self._watchdog, self._instances, self._out = lease, watchdog, instances, out
        self.freezes = config.on_quorum_loss == "freeze"
        self._allowance = config.timing.stop_allowance
        self.old_lease = float(records.get("run.lease", {}).get("end", b"0"))
        """When the lease of this daemon's earlier life ends."""

    def check(self, now: float) -> None:
        """A lapse is final: everything open is stopped by force, whatever comes in later; or frozen, where the operator
        wants that, and for as long as a forced stop can still end before the watchdog's reset."""
        if self._lease.holds(now):
            return
        for machine in self._instances.machines.values():
            if not machine.open or (machine.forced and machine.phase in (Phase.STOPPING, Phase.NEEDS_FENCE)):
                continue
            if machine.phase is Phase.FROZEN and not machine.thawing:
                if now >= self.frozen_until:
                    machine.stop(now, reason="the node got no lease in time")
            elif not (self.freezes and now < self.frozen_until and machine.freeze(now)):
                machine.stop(now, force=True, reason="the node's lease ended: no master in reach renews it")

    @property
    def frozen_until(self) -> float:
        """When whatever is frozen must be stopped at the latest. The watchdog is not fed after the lease."""
        timeout = self._watchdog.runs
        return self._lease.end + timeout - self._allowance - 2 * WATCHDOG_FEED if timeout else math.inf

    @property
    def wake_at(self) -> float | None:
        frozen = any(machine.phase is Phase.FROZEN for machine in self._instances.machines.values())
        return self.frozen_until if frozen and self.frozen_until < math.inf else None

    def renewed(self, message: Renewed, now: float) -> bool:
        """An answer of the leader. True if it extended the lease."""
        if not self._lease.answer(message, now):
            return False
        if self._instances.any_open():
            self.remember_lease()
        for app, machine in sorted(self._instances.machines.items()):
            if machine.open and not self._lease.names(app, machine.generation, now):
                machine.stop(now, force=True, reason="the cluster no longer grants it to this node")
            elif self._may_thaw(machine):
                machine.thaw(now)
        self._instances.floating.extend(self._lease.end)
        return True

    def _may_thaw(self, machine: InstanceMachine) -> bool:
        """Only by an answer to a request that was sent when all of it stood still."""
        return machine.frozen_at is not None and self._lease.asked_at > machine.frozen_at

    def remember_lease(self) -> None:
        """For a restart of this daemon: it goes on with what is open here."""
        self._out.put("run.lease", "end", repr(self._lease.end).encode())

    def watch(self, now: float) -> None:
        """Feed the watchdog, if that may be. What leans on it does not run on without it: somebody else may be feeding
        it."""
        watchdog = self._watchdog
        for app, machine in sorted(self._instances.machines.items()):
            leans_on = self._instances.records[app].watchdog
            if machine.open and leans_on and watchdog.settled and not 0.0 < watchdog.timeout <= leans_on:
                machine.stop(
                    now, force=True, reason="its grant leans on this node's watchdog, which is not fed any more"
                )
        watchdog.step(self._lease.holds(now) or not self._instances.any_open(), now)
