"""A new master's first look at the nodes' boots: was the whole cluster down? Then only what says `autostart` runs
again by itself."""

from truecl.core.ledger import app_state
from truecl.core.situation import REPORT_GRACE, Situation
from truecl.model.config import Configuration
from truecl.model.ledger import AnyCommand, Ledger, RecordBoot, SetWanted, Wanted


class ColdStart:
    """Settled once a mastership; boots are recorded all the time."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._settled = False

    def begin(self) -> None:
        """Another mastership."""
        self._settled = False

    def step(self, proposing: bool) -> list[AnyCommand]:
        """The nodes' boots, to be recorded, and once what follows from them. Both in one entry, and proposed until the
        log has it. `proposing`: an entry is under way, whose outcome is to be seen first."""
        situation = self._situation
        reports, recorded = situation.nodes.reports, situation.ledger.boots
        new = [(node, boot) for node, (boot, _) in sorted(reports.items()) if recorded.get(node) != boot]
        commands: list[AnyCommand] = [RecordBoot(node, boot) for node, boot in new]
        if self._settled:
            return commands
        missing = len(reports) < len(situation.configuration.cluster.nodes)
        since = situation.master_since
        waited = since is not None and situation.now >= since + REPORT_GRACE
        if not reports or (missing and not waited) or proposing:
            return []
        self._settled = not new
        return commands + self._only_autostart() if new and self._all_booted() else commands

    @property
    def undecided(self) -> bool:
        """The whole cluster may have been down, and what is to stay down then is still wanted: nothing is given out."""
        return not self._settled and self._all_booted()

    def wakes(self) -> list[float]:
        now, since = self._situation.now, self._situation.master_since
        if since is None or (self._settled and now >= since + REPORT_GRACE):
            return []
        return [max(now + 0.1, since + REPORT_GRACE)]

    def _all_booted(self) -> bool:
        """Is every node that is up in another boot than the log knows of? Who has not reported yet, hbd may know."""
        situation = self._situation
        boots = {each.node: each.boot for each in situation.view.nodes if each.alive}
        boots |= {node: boot for node, (boot, _) in situation.nodes.reports.items()}
        recorded = situation.ledger.boots
        return bool(recorded and boots) and all(recorded.get(node) != boot for node, boot in boots.items())

    def _only_autostart(self) -> list[AnyCommand]:
        ledger, configuration = self._situation.ledger, self._situation.configuration
        commands = autostart(ledger, configuration)
        for app, state in sorted(ledger.apps.items()):
            config = configuration.app(app)
            if state.wanted is Wanted.RUNNING and (config is None or not config.autostart):
                commands.append(SetWanted(app, Wanted.STOPPED))
        return commands


def autostart(ledger: Ledger, configuration: Configuration) -> list[AnyCommand]:
    """The wishes for what starts with the cluster and is not wished for yet."""
    return [
        SetWanted(app.name, Wanted.RUNNING, app_state(ledger, app.name).preferred)
        for app in configuration.apps
        if app.autostart and app_state(ledger, app.name).wanted is Wanted.STOPPED
    ]
