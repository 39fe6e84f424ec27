"""The master's schedule for comparing copies (`replication: verify`), and what comes of each, whoever began it.

DRBD compares, block by block, while the application runs; the owner's node is asked to begin (`model.build.Verify`).
When the last one ended, and what it found, stands in the log (`Ledger.verified`), so the next is due by that whoever is
master then. What is under way is known by the owner's reports alone: a new master finds it there.

A comparison counts when the owner, under one grant, was seen at it and then connected again, and no copy was marked
meanwhile. Anything else that ends it is no comparison: tried again after a while, longer each time.
"""

from dataclasses import dataclass

from truecl.core import copies
from truecl.core.errands import Errands
from truecl.core.happenings import Happening
from truecl.core.layouts import layout_of
from truecl.core.ledger import app_state
from truecl.core.levels import knows
from truecl.core.outbox import Outbox
from truecl.core.situation import Situation
from truecl.model.build import Verify, verified_in
from truecl.model.ids import CLUSTERD, NO_GENERATION, STATD, AppName, Generation, Index, NodeName
from truecl.model.ledger import AnyCommand, Grant, RecordVerified
from truecl.model.replica import Disk, Layout, Link, ReplicaReport, Role
from truecl.model.report import Severity
from truecl.wire.messages import Note, WorkAnswer

LOOK_EVERY = 30.0
"""Seconds after which it is asked again whether one that is due may begin."""
ORDER_TIME = 30.0
"""Seconds for the owner's node to have one begin; then for it to be seen at it."""
RETRY, MOST_RETRY = 60.0, 3600.0
"""Seconds after one that did not come to its end: at first, doubled each time, and at most."""
SLACK = 3600.0
"""Seconds by which nodes' wall clocks may differ. A record that is further in the future than that says nothing."""
MAX_ANSWERS = 64
SAME = 5.0
"""Seconds for which the owner's answer says nothing new, after its report said that the comparison has ended."""
AT_WORK = (Link.VERIFYING, Link.SYNC_SOURCE, Link.SYNC_TARGET)
_DAY = 1440


@dataclass
class _Comparison:
    """Under way, at the holder of one grant."""

    node: NodeName
    generation: Generation
    marks: tuple[Index, ...]
    errand: str = ""
    """Asked of its node, and not answered yet."""
    seen: bool = False
    """Its node was seen at it."""
    until: float = 0.0
    """When it has to be seen at the latest."""


class Verification:
    """Memory of one mastership."""

    def __init__(self, situation: Situation, out: Outbox) -> None:
        self._situation, self._out = situation, out
        self._errands = Errands(situation, out)
        self._under_way: dict[AppName, _Comparison] = {}
        self._failed: dict[AppName, tuple[int, float]] = {}
        """Attempts that came to nothing, one after another; and when the next may be."""
        self._found: dict[AppName, tuple[Index, RecordVerified]] = {}
        """To be written into the log, and which record it replaces."""
        self._answers: dict[str, None] = {}
        """The latest: one that comes again is no news."""
        self._ended_at: dict[AppName, float] = {}

    def forget(self) -> None:
        """Another mastership."""
        self._errands.forget()
        for known in (self._under_way, self._failed, self._found, self._answers, self._ended_at):
            known.clear()

    def answered(self, message: WorkAnswer) -> None:
        """Also what was asked for lha_buildapp: a small resource is compared before anybody looks."""
        self._errands.answered(message)
        if message.id in self._answers:
            return
        self._answers[message.id] = None
        if len(self._answers) > MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        for app, differing in verified_in(message.seen).items():
            grant = self._grant(app)
            again = self._situation.now < self._ended_at.get(app, -SAME) + SAME
            if grant is not None and grant.node == message.node and not again:
                self._ended(app, grant.generation, differing)

    # ---- one pass ---------------------------------------------------------------------------------------------------

    def step(self) -> list[AnyCommand]:
        """Asks nodes to begin. The commands stand until the log has them."""
        if not knows(self._situation.ledger, RecordVerified):
            return []
        self._errands.step()
        self._adopt()
        for app, comparison in list(self._under_way.items()):
            self._look(app, comparison)
        self._begin_next()
        self._found = {app: each for app, each in self._found.items() if self._is_news(app, *each)}
        return [command for _, command in self._found.values()] + self._of_no_use()

    def _is_news(self, app: AppName, replaces: Index, command: RecordVerified) -> bool:
        grant = self._grant(app)
        return grant is not None and grant.generation == command.generation and self._recorded(app) == replaces

    def _of_no_use(self) -> list[AnyCommand]:
        ledger = self._situation.ledger
        return [RecordVerified(app, NO_GENERATION, None) for app in ledger.verified if app not in ledger.mirrors]

    def _adopt(self) -> None:
        """What an operator began, or an earlier master."""
        for app in self._situation.ledger.mirrors:
            grant, report = self._grant(app), self._owners(app)
            if app in self._under_way or grant is None or report is None or report.link is not Link.VERIFYING:
                continue
            self._under_way[app] = _Comparison(grant.node, grant.generation, self._marks(app), seen=True)

    def _look(self, app: AppName, comparison: _Comparison) -> None:
        """What became of it."""
        grant, report, now = self._grant(app), self._owners(app), self._situation.now
        if comparison.errand:
            seen = self._errands.seen(comparison.errand)
            if seen is not None:
                comparison.errand, comparison.until = "", now + ORDER_TIME
                problems = [text for each in seen.values() for text in each.problems]
                if problems:
                    self._broken_off(app, f"{comparison.node}: {problems[0]}")
                    return
        if grant is None or grant.generation != comparison.generation:
            self._broken_off(app, f"{comparison.node} does not own it any more")
        elif self._marks(app) != comparison.marks:
            self._broken_off(app, "the log says something else of its copies since then")
        elif report is None:
            self._broken_off(app, f"{comparison.node} is not there")
        elif report.link is Link.VERIFYING:
            comparison.seen = True
        elif report.link is not Link.CONNECTED:
            self._broken_off(app, f"{comparison.node} is {report.link.value}")
        elif comparison.seen and not comparison.errand:
            self._ended(app, grant.generation, {each.name: each.behind for each in report.volumes if each.behind})
        elif not comparison.errand and now >= comparison.until:
            self._broken_off(app, f"{comparison.node} was not seen at it")

    def _ended(self, app: AppName, generation: Generation, differing: dict[str, int]) -> None:
        comparison = self._under_way.pop(app, None)
        if comparison is not None and comparison.errand:
            self._errands.drop(comparison.errand)
        self._failed.pop(app, None)
        self._ended_at[app] = self._situation.now
        self._found[app] = self._recorded(app), RecordVerified(app, generation, differing)

    def _broken_off(self, app: AppName, why: str) -> None:
        comparison = self._under_way.pop(app)
        self._errands.drop(comparison.errand)
        attempts = self._failed.get(app, (0, 0.0))[0] + 1
        pause = min(MOST_RETRY, RETRY * 2.0 ** min(attempts - 1, 10))
        self._failed[app] = attempts, self._situation.now + pause
        scheduled = self._interval(app) > 0
        again = f"; tried again in {pause:g} s" if scheduled else f"; lha_buildapp -A {app} --verify begins again"
        text = f"the comparison of the copies of application '{app}' was broken off: {why}{again}"
        self._tell(app, Severity.WARN, text)

    # ---- which one is next ------------------------------------------------------------------------------------------

    def _begin_next(self) -> None:
        """One at a time in the whole cluster, and not while anything is synchronised: both read all of a disk."""
        if self._under_way or any(each.link in AT_WORK for each in self._reports()):
            return
        ready = [app for app in self._situation.ledger.mirrors if self._due_in(app) <= 0.0 and self._ready(app)]
        if not ready:
            return
        app = min(ready, key=lambda each: (self._last(each), each))
        grant, layout = self._grant(app), self._layout(app)
        assert grant is not None and layout is not None, "it is ready"
        situation = self._situation
        errand = f"verify {situation.leadership.term} {situation.now:.3f} {app}"
        self._under_way[app] = _Comparison(grant.node, grant.generation, self._marks(app), errand)
        self._errands.ask(errand, app, {grant.node: Verify(layout)}, ORDER_TIME)
        self._tell(app, Severity.LOG, f"the copies of application '{app}' are being compared, as is due by its file")

    def _due_in(self, app: AppName) -> float:
        """Seconds; none or less: it is due."""
        situation, interval = self._situation, self._interval(app)
        if not interval or not situation.date or app in self._found:
            return float("inf")
        wait = max(0.0, self._failed.get(app, (0, 0.0))[1] - situation.now)
        last, date = self._last(app), situation.date
        if last <= date + SLACK:
            wait = max(wait, last + interval - date)
        return wait

    def _ready(self, app: AppName) -> bool:
        situation, mirror = self._situation, self._situation.ledger.mirrors[app]
        report, alive = self._owners(app), situation.alive()
        return (
            report is not None
            and report.link is Link.CONNECTED
            and report.disk is report.peer is Disk.UP_TO_DATE
            and not report.suspended
            and all(node in alive and copies.current(situation.ledger, app, node) for node in mirror.nodes)
            and f"application {app}" not in situation.ledger.locks
            and self._layout(app) is not None
            and self._in_time(app)
        )

    def _in_time(self, app: AppName) -> bool:
        config, wall = self._situation.configuration.app(app), self._situation.wall
        between = config.replication.verify_between if config is not None else None
        if between is None or wall is None:
            return True
        minute = int((self._situation.date + wall.east) // 60) % _DAY
        first, last = between
        return first <= minute < last if first < last else minute >= first or minute < last

    def _interval(self, app: AppName) -> float:
        config = self._situation.configuration.app(app)
        return config.replication.verify if config is not None else 0.0

    def _last(self, app: AppName) -> float:
        """When they were last known to be equal: compared, or else found ready by lha_buildapp."""
        ledger = self._situation.ledger
        known = ledger.verified.get(app) or ledger.builds.get(app)
        return known.at if known is not None else 0.0

    # ---- what is known ----------------------------------------------------------------------------------------------

    def _grant(self, app: AppName) -> Grant | None:
        grant = app_state(self._situation.ledger, app).grant
        return None if grant is None or grant.build else grant

    def _layout(self, app: AppName) -> Layout | None:
        return layout_of(self._situation.configuration, self._situation.ledger, app)

    def _marks(self, app: AppName) -> tuple[Index, ...]:
        mirror = self._situation.ledger.mirrors.get(app)
        return tuple(copy.index for copy in mirror.copies.values()) if mirror is not None else ()

    def _recorded(self, app: AppName) -> Index:
        known = self._situation.ledger.verified.get(app)
        return known.index if known is not None else Index(0)

    def _owners(self, app: AppName) -> ReplicaReport | None:
        """The word of the grant's holder, which is promoted."""
        grant = self._grant(app)
        if grant is None or grant.node not in self._situation.alive():
            return None
        reports = self._situation.nodes.replicas.get(grant.node, ())
        report = next((each for each in reports if each.app == app), None)
        promoted = report is not None and report.role is Role.PRIMARY and report.generation == grant.generation
        return report if promoted else None

    def _reports(self) -> list[ReplicaReport]:
        alive = self._situation.alive()
        return [each for node, reports in self._situation.nodes.replicas.items() if node in alive for each in reports]

    def _tell(self, app: AppName, severity: Severity, text: str) -> None:
        happening = Happening(CLUSTERD, severity, text, app)
        self._out.tell(STATD, Note(happening.noted(self._situation.me, self._situation.now)))

    def wakes(self) -> list[float]:
        times = self._errands.wakes()
        times += [each.until for each in self._under_way.values() if not each.errand and not each.seen]
        waiting = [self._due_in(app) for app in self._situation.ledger.mirrors if app not in self._under_way]
        due = min((each for each in waiting if each < float("inf")), default=None)
        if due is not None:
            # What is due and may not begin is looked at again; clocks are set by people, so it is not slept long.
            times.append(self._situation.now + (min(due, LOOK_EVERY) if due > 0 else LOOK_EVERY))
        return times
