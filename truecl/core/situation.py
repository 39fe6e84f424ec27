"""What this node's clusterd knows of the cluster: the ledger, who leads, and who is there.

hbd says who is heard, lockd what each node reports and whose lease is over. Neither is enough by itself: a node that
just booted is heard and has an old lease, one whose reqd hangs is heard and renews nothing.
"""

from dataclasses import dataclass

from truecl.model.config import Configuration
from truecl.model.ids import AppName, BootId, NodeName, Term
from truecl.model.ledger import Ledger
from truecl.model.membership import Membership
from truecl.model.report import InstanceReport
from truecl.wire.messages import Leadership, Members, Nodes, View

STARTUP_GRACE = 15.0
"""Seconds after which a node that was never heard counts as lost."""
REPORT_GRACE = 1.0
"""A new master waits so long for the nodes' first reports before it calls a whole start cold or not."""


@dataclass(frozen=True)
class WallClock:
    """`contract.Noted`: what the wall clock shows beyond CLOCK_BOOTTIME, seconds. It dates lines for people, and says
    when copies are to be compared again; no proof leans on it."""

    ahead: float
    east: float = 0.0
    """Seconds by which local time is ahead of UTC."""


class Situation:
    """Shared by the parts of clusterd, changed by clusterd alone. `now` is set before each event."""

    def __init__(self, me: NodeName, configuration: Configuration) -> None:
        self.me, self.configuration = me, configuration
        self.now = 0.0
        self.wall: WallClock | None = None
        self.ledger = Ledger()
        self.leadership = Leadership(Term(0), None, False)
        self.nodes = Nodes({}, ())
        self.members = Members(Membership(), True)
        self.going: tuple[NodeName, ...] = ()
        """Nodes that an operator removes."""
        self.view = View(())
        self.master_since: float | None = None
        self._began = 0.0
        """Of this daemon, or of the hbd that it hears from: who was not heard since then may just be slow."""
        self._heard_since: dict[NodeName, float] = {}
        """Nodes that hbd hears, since when without a break or a boot."""
        self._renewed: dict[NodeName, None] = {}
        """Those of them, and this node, that renewed their lease with this master since then."""
        self._reported_since: dict[NodeName, float] = {}
        """When each node's first report came to this master."""

    @property
    def date(self) -> float:
        """Seconds since the epoch; 0: not known."""
        return self.now + self.wall.ahead if self.wall is not None else 0.0

    @property
    def master(self) -> bool:
        return self.leadership.ready and self.leadership.leader == self.me

    # ---- what changes it --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """This daemon starts, or hbd does."""
        self._began = self.now

    def lead_no_more(self, leadership: Leadership) -> None:
        """What only a master is told is forgotten."""
        self.leadership, self.master_since = leadership, None
        self.nodes = Nodes({}, ())
        self._renewed.clear()
        self._reported_since.clear()

    def report(self, nodes: Nodes) -> None:
        before, self.nodes = self.nodes.reports, nodes
        self._renewed |= dict.fromkeys(
            node for node in nodes.reports if node not in nodes.expired and self._of_this_boot(node)
        )
        same = [node for node, (boot, _) in nodes.reports.items() if node in before and before[node][0] == boot]
        known = {node: self._reported_since[node] for node in same if node in self._reported_since}
        self._reported_since = {node: known.get(node, self.now) for node in nodes.reports}

    def hear(self, view: View) -> None:
        """Of a node that was away, or booted, everything has to be heard anew."""
        before = {node.node: node.boot for node in self.view.nodes if node.alive}
        self.view = view
        for node in view.nodes:
            if not node.alive or before.get(node.node) != node.boot:
                self._heard_since.pop(node.node, None)
                self._renewed.pop(node.node, None)
            if node.alive:
                self._heard_since.setdefault(node.node, self.now)

    # ---- what follows from it ---------------------------------------------------------------------------------------

    def heard(self) -> tuple[NodeName, ...]:
        """By hbd, and this node itself."""
        return (self.me, *(node.node for node in self.view.nodes if node.alive))

    def alive(self) -> frozenset[NodeName]:
        """Heard, renewing, and there to stay: a node whose reqd is silent for longer than lease and allowance runs
        nothing any more, and one whose service is being stopped, or that is removed, is to get nothing new."""
        nodes = self.nodes
        return frozenset(
            node
            for node in self.heard()
            if self._of_this_boot(node) and node not in (*nodes.expired, *nodes.leaving, *self.going)
        )

    def _of_this_boot(self, node: NodeName) -> bool:
        """It has reported, and since the boot in which hbd hears it: what lockd holds of a node that just booted may be
        the last word of the boot before."""
        boot, _ = self.nodes.reports.get(node, (None, ()))
        heard = next((each.boot for each in self.view.nodes if each.node == node), boot)
        return boot is not None and heard in (boot, None)

    def awaited(self) -> frozenset[NodeName]:
        """Heard by hbd and about to report, or the other way round: whichever of the two comes first after a boot."""
        heard, awaited = self.heard(), set[NodeName]()
        if self.master_since is not None and self.now < self.master_since + REPORT_GRACE:
            awaited.update(node for node in heard if node not in self.nodes.reports)
        for node, since in self._reported_since.items():
            if (node not in heard or not self._of_this_boot(node)) and self.now < since + REPORT_GRACE:
                awaited.add(node)
        return frozenset(awaited)

    def lost(self) -> frozenset[NodeName]:
        """Silent after hbd heard them, never heard for the start-up grace, or heard without a lease."""
        lost = []
        for node in self.view.nodes:
            silent = not node.alive and (node.boot is not None or self.now - self._began >= STARTUP_GRACE)
            lapsed = node.node in self.nodes.expired and self._was_renewing(node.node)
            if silent or lapsed:
                lost.append(node.node)
        if self.me in self.nodes.expired and self._was_renewing(self.me):
            lost.append(self.me)
        return frozenset(lost)

    def fallen_out(self) -> frozenset[NodeName]:
        """Of the lost, those that were there, and did not say goodbye: one that is slow to join has not gone yet."""
        silent = [node.node for node in self.view.nodes if not node.alive and node.boot is not None and not node.left]
        lapsed = [node for node in self.heard() if node in self._renewed]
        return self.lost().intersection((*silent, *lapsed))

    def _was_renewing(self, node: NodeName) -> bool:
        """Heard by hbd, but its lease is over: lost if it ever renewed with this master, or had the time to. The old
        lease of a node that just came is over, and it is not lost for that."""
        led = self.master_since if self.master_since is not None else self.now
        since = max(led, self._heard_since.get(node, self._began))
        return node in self._renewed or self.now - since >= STARTUP_GRACE

    @property
    def behind(self) -> bool:
        """Does this node hold a configuration that the log knows as a former one?"""
        return self.configuration.digest in self.ledger.former

    def owners_report(self, app: AppName) -> InstanceReport | None:
        """What the node that has the grant says of that generation."""
        state = self.ledger.apps.get(app)
        if state is None or state.grant is None:
            return None
        _, lines = self.nodes.reports.get(state.grant.node, (BootId(""), ()))
        return next((line for line in lines if line.app == app and line.generation == state.grant.generation), None)

    def wakes(self) -> list[float]:
        """When time alone may change what follows."""
        times = [since + REPORT_GRACE for since in self._reported_since.values() if self.now < since + REPORT_GRACE]
        for since in (self._began, self.master_since, *self._heard_since.values()):
            if since is not None and self.now < since + STARTUP_GRACE:
                times.append(since + STARTUP_GRACE)
        return times
