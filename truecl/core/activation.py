"""The master's eye on the replicas of what is being started or stopped: how long others are waited for, and what the
operator reads meanwhile."""

from collections.abc import Callable

from truecl.core.replication import ReplicaOrder, is_up
from truecl.core.situation import Situation
from truecl.model.ids import AppName, NodeName
from truecl.model.ledger import AppState, Wanted
from truecl.model.replica import ReplicaReport, Role
from truecl.model.report import Progress, Severity

PATIENCE = 15.0
"""Seconds that a start waits for other nodes' replicas, and for the connection to them."""
DOWN_PATIENCE = 15.0
"""Seconds that lha_stopapp waits for them to be taken down."""

Say = Callable[[AppName, Progress], None]
"""To whoever waits for that application."""


class Activation:
    """Memory of one mastership."""

    def __init__(self, situation: Situation, say: Say) -> None:
        self._situation, self._say = situation, say
        self._starting: dict[AppName, float] = {}
        """Since when it is wanted and has no grant."""
        self._stopping: dict[AppName, float] = {}
        """Since when it is not wanted, and not all of its replicas are down."""
        self._ordered: dict[AppName, None] = {}
        """Those whose operator was told that other nodes' storage is being activated."""
        self._active: dict[AppName, None] = {}
        self._warned: dict[tuple[AppName, NodeName], str] = {}

    def begin(self) -> None:
        """Another mastership."""
        for known in (self._starting, self._stopping, self._ordered, self._active, self._warned):
            known.clear()

    # ---- time -------------------------------------------------------------------------------------------------------

    def step(self, building: frozenset[AppName]) -> None:
        """Before a plan is made. `building`: started by lha_buildapp for a moment, though they are not wanted."""
        now, ledger = self._situation.now, self._situation.ledger
        starting, stopping = dict[AppName, float](), dict[AppName, float]()
        for app in ledger.mirrors:
            state = ledger.apps.get(app, AppState())
            if state.grant is None and (state.wanted is Wanted.RUNNING or app in building):
                starting[app] = self._starting.get(app, now)
            elif state.grant is None and self._left(app):
                stopping[app] = self._stopping.get(app, now)
        for app in [app for app in stopping if app not in self._stopping]:
            self._say(app, Progress("Attempting remote storage deactivation ..."))
        for app in [app for app in self._stopping if app not in stopping]:
            self._say(app, Progress("Available relevant nodes have performed storage deactivation."))
        self._starting, self._stopping = starting, stopping

    def overdue(self) -> frozenset[AppName]:
        now = self._situation.now
        return frozenset(app for app, since in self._starting.items() if now >= since + PATIENCE)

    def going_down(self) -> frozenset[AppName]:
        """Whose replicas are being taken down, for not too long."""
        now = self._situation.now
        return frozenset(app for app, since in self._stopping.items() if now < since + DOWN_PATIENCE)

    def wakes(self) -> list[float]:
        times = [since + PATIENCE for since in self._starting.values()]
        times += [since + DOWN_PATIENCE for since in self._stopping.values()]
        return [time for time in times if time > self._situation.now]

    def _left(self, app: AppName) -> list[NodeName]:
        """The nodes that are there whose replica is not down."""
        alive = self._situation.alive()
        reports = self._reports(app)
        return [node for node, report in reports.items() if node in alive and report.role is not Role.DOWN]

    # ---- words ------------------------------------------------------------------------------------------------------

    def tell(self, orders: tuple[ReplicaOrder, ...]) -> None:
        """After a plan was made."""
        for app in self._starting:
            self._tell_start(app, [order for order in orders if order.app == app])
        for app in [app for app in self._ordered if app not in self._starting]:
            del self._ordered[app]
        for app in [app for app in self._active if app not in self._starting]:
            del self._active[app]
        self._tell_trouble()

    def _tell_start(self, app: AppName, orders: list[ReplicaOrder]) -> None:
        pending = [order.node for order in orders if order.verb == "up"]
        if pending and app not in self._ordered:
            self._ordered[app] = None
            names = ",".join(self._situation.ledger.mirrors[app].nodes)
            self._say(app, Progress("Attempting storage activation on other nodes - please wait..."))
            self._say(app, Progress(f"other nodes: {names}"))
        up = [report for report in self._reports(app).values() if is_up(report)]
        if app in self._ordered and app not in self._active and up and not pending:
            self._active[app] = None
            self._say(app, Progress("Available relevant nodes have performed non-current storage activation."))

    def _tell_trouble(self) -> None:
        """A secondary that cannot do its part is a warning, not a failed start."""
        warned = dict[tuple[AppName, NodeName], str]()
        for app in self._situation.ledger.mirrors:
            for node, report in self._reports(app).items():
                if report.trouble:
                    warned[app, node] = report.trouble
                    if self._warned.get((app, node)) != report.trouble:
                        self._say(app, Progress(f"{node} : {report.trouble}", Severity.WARN, verbose=False))
        self._warned = warned

    def _reports(self, app: AppName) -> dict[NodeName, ReplicaReport]:
        known = self._situation.nodes.replicas
        return {node: each for node, reports in known.items() for each in reports if each.app == app}
