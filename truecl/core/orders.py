"""The master's orders at a node: which of them are carried out, and when (SAFETY.md section 4).

A generation is started at most once, and only while the lease names exactly it. An order that came before its lease
waits for a while. Record: bucket 'run.term' holds the highest term of an order; a lower one is refused.
"""

from truecl.core.contract import Records
from truecl.core.guard import Guard
from truecl.core.instances import InstanceRecord, Instances
from truecl.core.lease import Lease
from truecl.core.outbox import Outbox
from truecl.core.replicas import Replicas
from truecl.core.watchdog import Watchdog
from truecl.model.config import AppConfig, Configuration
from truecl.model.ids import AppName, Term
from truecl.model.step import accepted, addressed
from truecl.wire.messages import Order, OrderReplica

ORDER_LIFETIME = 5.0
"""Seconds that a start order waits for the lease to name its generation; the master repeats it."""


class Orders:
    """Mutable; a part of reqd's core."""

    def __init__(
        self,
        configuration: Configuration,
        lease: Lease,
        watchdog: Watchdog,
        guard: Guard,
        instances: Instances,
        replicas: Replicas,
        records: Records,
        out: Outbox,
    ) -> None:
        self.configuration = configuration
        self.leaving = False
        """The service is being stopped: nothing is started any more."""
        self._lease, self._watchdog, self._guard = lease, watchdog, guard
        self._instances, self._replicas, self._out = instances, replicas, out
        self._term = Term(int(records.get("run.term", {}).get("term", b"0")))
        self._waiting: dict[AppName, tuple[Order, float]] = {}
        """Starts, until when each waits."""

    def __bool__(self) -> bool:
        """Does any wait?"""
        return bool(self._waiting)

    def take(self, order: Order, now: float) -> bool:
        """False for one of a lower term than was heard of before: it is not even looked at."""
        if not self.heed(order.term):
            return False
        known = self._instances.newest(order.app)
        if order.verb == "start":
            if order.generation > known:
                self._take_start(order, now)
        elif order.generation == known:
            machine = self._instances.machines.get(order.app)
            if machine is not None:
                machine.stop(now)
        elif order.generation > known:
            self._close_unseen(order, now)
        return True

    def take_replica(self, order: OrderReplica, now: float) -> bool:
        """The same for an order on a replica."""
        if not self.heed(order.term):
            return False
        self._replicas.take(order, now)
        return True

    def heed(self, term: Term) -> bool:
        """Is this the word of the newest master that was heard of?"""
        if term > self._term:
            self._term = term
            self._out.put("run.term", "term", str(term).encode())
        return term == self._term

    def _take_start(self, order: Order, now: float) -> None:
        if self.leaving:
            return
        older = self._instances.open_machine(order.app)
        if older is not None:
            older.stop(now, force=True, reason=f"generation {order.generation} takes its place")
        elif self._may_start(order, now):
            self._start(order, now)
        else:
            self._waiting[order.app] = (order, now + ORDER_LIFETIME)

    def _may_start(self, order: Order, now: float) -> bool:
        if order.generation < self._replicas.generation(order.app):
            return False  # its replica may be looked for by a newer owner
        return self._watchdog.settled and self._lease.names(order.app, order.generation, now)

    def start_what_waits(self, now: float) -> None:
        for app, (order, _) in sorted(self._waiting.items()):
            if self._may_start(order, now):
                del self._waiting[app]
                self._start(order, now)

    def wake(self, now: float) -> None:
        for app in [each for each, (_, until) in self._waiting.items() if now >= until]:
            del self._waiting[app]

    def _start(self, order: Order, now: float) -> None:
        """The lease names exactly this generation, and it was never seen here: the one and only start of it."""
        instances = self._instances
        if instances.open_machine(order.app) is not None:
            return
        config = self.configuration.app(order.app)
        problem = self._unfit(order, config)
        if problem or config is None:
            unstarted = config or AppConfig(name=order.app, nodes=())
            # A watchdog that is missing may come: the node is not avoided for that longer than it says so.
            failed = not (self._watchdog.refuses() or self._watchdog.forbids(order))
            record = InstanceRecord(order.generation, instances.boot, False, unstarted, failed, problem)
            instances.remember(order.app, record)
            return
        machine = instances.begin(config, order.generation, order.build, order.built)
        machine.takeover, machine.alone = order.takeover, order.alone
        self._guard.remember_lease()
        record = InstanceRecord(
            order.generation,
            instances.boot,
            True,
            config,
            watchdog=order.watchdog,
            alone=order.alone,
            build=order.build,
            built=order.built,
        )
        instances.remember(order.app, record)
        if not order.takeover and not order.build:
            instances.floating.probe_conflicts(machine.instance, config.addresses)
        machine.start(now)

    def _unfit(self, order: Order, config: AppConfig | None) -> str:
        """Why this node cannot start what it was granted; '' if it can. A grant says what may end it: the master judged
        by its configuration, and by what it knew of this node."""
        if config is None:
            return "this node's configuration does not know it"
        more = [proof.value for proof in order.proofs if proof not in accepted(config)]
        if more:
            return f"by this node's configuration it cannot be taken over on '{more[0]}', as its grant says"
        if order.addressed and not addressed(config):
            return "by this node's configuration more than floating addresses lead to it, unlike what its grant says"
        return self._watchdog.refuses() or self._watchdog.forbids(order)

    def _close_unseen(self, order: Order, now: float) -> None:
        """A stop for a generation never started here: record it closed, once every step was seen to be gone."""
        instances = self._instances
        older = instances.open_machine(order.app)
        if older is not None:
            older.stop(now, force=True, reason=f"generation {order.generation} follows it")
            return
        self._waiting.pop(order.app, None)
        config = self.configuration.app(order.app) or AppConfig(name=order.app, nodes=())
        machine = instances.begin(config, order.generation)
        instances.remember(order.app, InstanceRecord(order.generation, instances.boot, True, config))
        machine.clear(now, "never started here")

    def close_what_is_named(self, now: float) -> None:
        """Grants that came too late to be started here: released, or they would wait for a fence of this node."""
        for app, generation in sorted(self._lease.named.items()):
            if self._instances.newest(app) < generation:
                self._close_unseen(Order("stop", app, generation, self._term), now)
