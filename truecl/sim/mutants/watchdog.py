"""Leaves rules of a node's watchdog out."""

from random import Random

from truecl.core.contract import Core, Records
from truecl.core.reqd import Reqd
from truecl.core.watchdog import Watchdog
from truecl.model.actions import WatchdogArmed, WatchdogFed, WatchdogTrouble
from truecl.model.config import Configuration
from truecl.model.ids import REQD, BootId, NodeName
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead


class FeedsAfterALapse(Watchdog):
    def step(self, may_feed: bool, now: float) -> None:
        super().step(True, now)


class CountsAny(Watchdog):
    def counts(self) -> bool:
        return True


class BelievesAnOlderBoot(Watchdog):
    """Whatever it has now, it was armed once."""

    def done(self, id: int, result: WatchdogArmed | WatchdogFed | WatchdogTrouble, now: float) -> None:
        if isinstance(result, WatchdogTrouble) and self._armed is None:
            self._tried, self._armed = True, WatchdogArmed("of an older boot", self._config.timeout)
        super().done(id, WatchdogFed() if isinstance(result, WatchdogTrouble) else result, now)


def with_watchdog(watchdog: type[Watchdog]) -> Assemble:
    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Reqd(me, configuration, boot, records, now)
        core._watchdog.__class__ = watchdog
        return core

    return instead(REQD, build)


MUTANTS = (
    Mutant("feed after a lapse", "SAFETY.md 3", assemble=with_watchdog(FeedsAfterALapse), adjust=faults.stuck),
    Mutant("count any watchdog as hardware", "SAFETY.md 3", assemble=with_watchdog(CountsAny), adjust=faults.watched),
    Mutant(
        "believe a watchdog of an older boot",
        "SAFETY.md 3",
        assemble=with_watchdog(BelievesAnOlderBoot),
        adjust=faults.watched,
    ),
)
