"""This node's copies of replicated storage, beneath any instance: what the master orders, and what is (SAFETY.md 5).

A replica needs no lease, for a secondary writes nothing of its own. It is nowhere recorded: the kernel knows what is
there, a reboot takes all of it down, and the master repeats what it wants. Each order leads to one action at the most.

What an order may not do, whoever sent it:

    any         is taken while an older instance is open here, or after a newer one: a connection would let it go on
    'down'      while an instance is open
    'connect'   while an instance is open, but of exactly the order's generation

With each order that is taken nothing older than its generation starts here any more (`Orders` asks), and every report
from then on says so.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from truecl.core.happenings import Happening
from truecl.core.instances import Instances
from truecl.core.outbox import Outbox
from truecl.core.replication import is_up
from truecl.model.actions import Action, ReplicaConnect, ReplicaDown, ReplicaLook, ReplicaResult, ReplicaUp
from truecl.model.config import Configuration
from truecl.model.ids import NO_GENERATION, REQD, AppName, Generation, Index, NodeName
from truecl.model.ledger import Ledger
from truecl.model.replica import Link, ReplicaReport, Role, VolumeReport
from truecl.model.report import Severity
from truecl.model.step import replicated
from truecl.wire.messages import OrderReplica

LOOK_EVERY = 1.0
LOOK_OFTEN = 0.2
SETTLING = 3.0
"""Seconds between looks; and for so long after an order it is looked at often, until it has met its peer: a start waits
for that."""
LOOK_SELDOM = 5.0
"""Seconds between looks at a replica that is down, where nobody wants it."""
RETRY_AFTER = 5.0
"""Seconds for which an order is not carried out again after it failed."""
MAX_REASON = 300


@dataclass
class _Replica:
    report: ReplicaReport | None = None
    """As the last look found it; None before the first."""
    generation: Generation = NO_GENERATION
    """Of the latest order that was taken."""
    order: OrderReplica | None = None
    """To be carried out."""
    action: int | None = None
    look: int | None = None
    mark: Index = Index(0)
    """Known before the action, or else the look, under way began."""
    look_at: float = 0.0
    settled_at: float = 0.0
    """Until then its peer is expected, as it was just told to look for it."""
    again: bool = False
    """Something happened while an action or a look was under way."""
    not_before: float = 0.0
    trouble: str = ""
    seen: object = None
    """What its instance was like at the last call: a change is worth a look."""

    @property
    def idle(self) -> bool:
        return self.action is None and self.look is None

    def look_soon(self, now: float) -> None:
        self.look_at, self.again = now, not self.idle


class Replicas:
    """Mutable; a part of reqd's core."""

    def __init__(self, me: NodeName, configuration: Configuration, instances: Instances, out: Outbox) -> None:
        self._me, self._instances, self._out = me, instances, out
        self._marks: dict[AppName, Index] = {}
        """Of the newest mark of any of an application's copies, as this node's log knows it."""
        self._replicas: dict[AppName, _Replica] = {}
        self.configure(configuration)

    def configure(self, configuration: Configuration) -> None:
        """Those that are not configured any more are looked at for as long as they are not down."""
        wanted = [app.name for app in configuration.apps if replicated(app) and self._me in app.nodes]
        self._replicas = {
            app: self._replicas.get(app) or _Replica()
            for app in sorted({*wanted, *(app for app, each in self._replicas.items() if not _is_down(each))})
        }

    def learn(self, ledger: Ledger, now: float) -> None:
        """What the log says of the copies by now: what was seen before a mark says nothing about it."""
        marks = {
            app: max((copy.index for copy in mirror.copies.values()), default=Index(0))
            for app, mirror in ledger.mirrors.items()
        }
        for app, replica in self._replicas.items():
            if marks.get(app) != self._marks.get(app):
                replica.look_soon(now)
        self._marks = marks

    # ---- what there is ----------------------------------------------------------------------------------------------

    def reports(self) -> tuple[ReplicaReport, ...]:
        """With the progress of synchronisations, for people."""
        return tuple(self._report(app, each, each.report) for app, each in self._replicas.items() if each.report)

    def steady_reports(self) -> tuple[ReplicaReport, ...]:
        """For the master: what only changes when something happened."""
        return tuple(replace(each, volumes=_steady(each)) for each in self.reports())

    def _report(self, app: AppName, replica: _Replica, report: ReplicaReport) -> ReplicaReport:
        machine = self._instances.open_machine(app)
        generation = machine.generation if machine is not None else replica.generation
        return replace(report, generation=generation, trouble=(replica.trouble or report.trouble)[:MAX_REASON])

    def generation(self, app: AppName) -> Generation:
        """Nothing older is to be started here."""
        replica = self._replicas.get(app)
        return replica.generation if replica is not None else NO_GENERATION

    # ---- orders -----------------------------------------------------------------------------------------------------

    def take(self, order: OrderReplica, now: float) -> None:
        """Of a term that is not too old."""
        replica = self._replicas.setdefault(order.app, _Replica())
        machine = self._instances.open_machine(order.app)
        older = machine is not None and machine.generation < order.generation
        if older or order.generation < max(replica.generation, self._instances.newest(order.app)):
            return
        replica.generation = order.generation
        if now >= replica.not_before or replica.order is not None:
            replica.order = order
        self._go_on(order.app, replica, now)

    def _go_on(self, app: AppName, replica: _Replica, now: float) -> None:
        """Carry the order out, once the last action has ended and the replica has been looked at."""
        if replica.order is None or replica.action is not None or replica.report is None:
            return
        order, replica.order = replica.order, None
        action = self._action(order, replica.report)
        if action is not None:
            replica.mark, replica.look = self._marks.get(app, Index(0)), None
            replica.action = self._out.do(action)

    def _action(self, order: OrderReplica, report: ReplicaReport) -> Action | None:
        machine = self._instances.open_machine(order.app)
        if order.verb == "down":
            return ReplicaDown(order.layout) if machine is None and report.role is not Role.DOWN else None
        connect = order.verb == "connect"
        if machine is None and not is_up(report):
            return ReplicaUp(order.layout, connect)
        if machine is not None and machine.generation != order.generation:
            return None
        apart = report.link in (Link.STANDALONE, Link.UNKNOWN) and not report.split
        return ReplicaConnect(order.layout) if connect and apart and is_up(report) else None

    # ---- events -----------------------------------------------------------------------------------------------------

    def done(self, id: int, result: ReplicaResult, now: float) -> None:
        for app, replica in self._replicas.items():
            if id not in (replica.action, replica.look):
                continue  # of a look, perhaps, that an action overtook
            if id == replica.action:
                replica.action, replica.not_before = None, now + RETRY_AFTER if result.reason else now
                replica.settled_at = now + SETTLING
                self._trouble(app, replica, result.reason)
            replica.look = None
            replica.report = replace(result.report, mark=replica.mark, trouble=result.report.trouble or result.reason)
            replica.look_at = now if replica.again else now + _pause(replica, now)
            replica.again = False
            self._go_on(app, replica, now)
            return

    def _trouble(self, app: AppName, replica: _Replica, reason: str) -> None:
        if reason and reason != replica.trouble:
            self._instances.note(
                Happening(REQD, Severity.WARN, f"application '{app}': its replica here: {reason}", app)
            )
        replica.trouble = reason

    def wake(self, now: float) -> None:
        for app, replica in self._replicas.items():
            seen = self._instance_of(app)
            if seen != replica.seen:
                replica.seen = seen
                replica.look_soon(now)
            if replica.idle and now >= replica.look_at:
                replica.mark = self._marks.get(app, Index(0))
                replica.look = self._out.do(ReplicaLook(app))

    def _instance_of(self, app: AppName) -> object:
        machine = self._instances.machines.get(app)
        if machine is None:
            return None
        fact = machine.facts.get(f"replica {app}")
        return machine.generation, machine.phase, fact.probe if fact is not None else None

    @property
    def wake_at(self) -> float | None:
        return min((each.look_at for each in self._replicas.values() if each.idle), default=None)


def _steady(report: ReplicaReport) -> tuple[VolumeReport, ...]:
    """What is out of sync between copies that are connected was found by a comparison, and stays until they part."""
    found = report.link is Link.CONNECTED
    return tuple(
        VolumeReport(each.name, each.disk, each.peer, behind=each.behind if found else 0) for each in report.volumes
    )


def _pause(replica: _Replica, now: float) -> float:
    """Seconds until the next look."""
    if replica.report is None or _is_down(replica):
        return LOOK_SELDOM
    return LOOK_OFTEN if now < replica.settled_at and replica.report.link is Link.CONNECTING else LOOK_EVERY


def _is_down(replica: _Replica) -> bool:
    return replica.report is None or replica.report.role is Role.DOWN
