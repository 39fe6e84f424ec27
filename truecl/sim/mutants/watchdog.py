"""Leaves rules of a node's watchdog out."""

from truecl.core.watchdog import Watchdog
from truecl.model.actions import WatchdogArmed, WatchdogFed, WatchdogTrouble
from truecl.sim import faults
from truecl.sim.mutants.build import Mutant, with_part


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


MUTANTS = (
    Mutant("feed after a lapse", "SAFETY.md 3", assemble=with_part("_watchdog", FeedsAfterALapse),
           adjust=faults.stuck, nodes=3, bad_day=30.0),
    Mutant("count any watchdog as hardware", "SAFETY.md 3", assemble=with_part("_watchdog", CountsAny),
           adjust=faults.softly, nodes=3, bad_day=30.0, budget=60),
    Mutant("believe a watchdog of an older boot", "SAFETY.md 3", assemble=with_part("_watchdog", BelievesAnOlderBoot),
           adjust=faults.unwatched, nodes=3, bad_day=30.0),
)  # fmt: skip
