"""`on_quorum_loss: freeze`: what runs when the lease ends stands still, and only a newer lease lets it go on."""

import pytest
from msgspec.structs import replace

from truecl.core.contract import Done, Noted, Told
from truecl.model.actions import FreezeGroup, KillGroup, ProgramDied, StepProbe, StepResult, StepUp
from truecl.model.config import WATCHDOG_FEED
from truecl.model.ids import SYNCD, Generation
from truecl.model.report import Phase
from truecl.model.step import Instance, Probe
from truecl.wire.messages import HoldAddress, NewConfiguration, ReleaseAddress

from .reqd_bench import BARE, CONFIGURATION, DB, LEASE, RENEWAL, WEB, ReqdBench
from .test_watchdog import WatchedBench

FREEZING = replace(CONFIGURATION, cluster=replace(CONFIGURATION.cluster, on_quorum_loss="freeze"))


def running(*named: tuple[str, int]) -> ReqdBench:
    bench = ReqdBench(FREEZING)
    for app, generation in named or ((DB, 7),):
        bench.started(app, generation)
    return bench


def frozen() -> ReqdBench:
    """All of it stands still; what was asked before that is not answered yet."""
    bench = running()
    bench.wait(LEASE + 0.1)
    bench.answer_all()
    assert bench.line(DB).phase is Phase.FROZEN
    return bench


def asked(bench: ReqdBench) -> list[str]:
    return [type(action).__name__ for action in bench.asked.values()]


# ---- when the lease ends --------------------------------------------------------------------------------------------


def test_what_runs_stands_still_and_nothing_is_killed_or_unmounted() -> None:
    bench = running()
    bench.wait(LEASE + 0.1)
    assert list(bench.asked.values()) == [FreezeGroup(Instance(DB, Generation(7)))]
    assert bench.line(DB).phase is Phase.FROZEN


def test_addresses_go_down_before_anything_else() -> None:
    bench = running((WEB, 9))
    bench.wait(LEASE + 0.1)
    assert [type(tell.message) for tell in bench.outputs[-1].tell][0] is ReleaseAddress
    bench.netd()
    bench.answer_all()
    assert bench.line(WEB).phase is Phase.FROZEN and bench.core.instances.machines[WEB].frozen_at is not None


def test_what_is_just_starting_or_stopping_is_stopped_by_force() -> None:
    bench = ReqdBench(FREEZING)
    bench.lease((DB, 7))
    bench.order("start", DB, 7)
    bench.now += LEASE + 0.1
    bench.wait(0.0)
    assert bench.line(DB).phase is Phase.STOPPING and "KillGroup" in asked(bench)
    bench = running()
    bench.order("stop", DB, 7)
    bench.wait(LEASE + 0.1)
    assert bench.line(DB).phase is Phase.STOPPING and bench.core.instances.machines[DB].forced


def test_what_does_not_stand_still_is_stopped_by_force() -> None:
    bench = running()
    bench.wait(LEASE + 0.1)
    bench.answer(Probe.UNKNOWN)
    assert bench.line(DB).phase is Phase.STOPPING and isinstance(next(iter(bench.asked.values())), KillGroup)
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED and "could not be frozen" in bench.line(DB).reason


def test_the_configuration_that_is_activated_while_it_runs_decides() -> None:
    bench = running()
    bench.feed(Told(SYNCD, NewConfiguration(CONFIGURATION)))
    bench.wait(LEASE + 0.1)
    assert bench.line(DB).phase is Phase.STOPPING


# ---- thawing --------------------------------------------------------------------------------------------------------


def test_an_answer_to_a_request_from_after_the_freeze_lets_it_go_on() -> None:
    bench = frozen()
    bench.wait(RENEWAL)
    bench.lease((DB, 7))
    assert list(bench.asked.values()) == [FreezeGroup(Instance(DB, Generation(7)), False)]
    assert bench.line(DB).phase is Phase.FROZEN, "until it is seen to go on"
    bench.answer()
    assert bench.line(DB).phase is Phase.RUNNING
    assert bench.ups() == ["volume d", "program dbd"], "watched again, and started again if it died"
    bench.answer_all()
    bench.renew((DB, 7))
    bench.wait(LEASE + 0.1)
    assert bench.line(DB).phase is Phase.FROZEN, "and all over again"


def test_its_addresses_come_back_with_it() -> None:
    bench = running((WEB, 9))
    assert address_of(bench) == "active"
    bench.wait(LEASE + 0.1)
    bench.netd()
    bench.answer_all()
    assert address_of(bench) == "inactive"
    bench.renew((WEB, 9))
    bench.answer()
    assert any(isinstance(tell.message, HoldAddress) for tell in bench.outputs[-1].tell)


def address_of(bench: ReqdBench) -> str:
    """As lha_stat -A has it."""
    ((state,),) = [[step.state for step in each.steps] for each in bench.core.instances.statuses()]
    return state


def test_an_answer_to_a_request_from_before_the_freeze_lets_nothing_go_on() -> None:
    bench = running()
    bench.wait(LEASE - 0.1)
    late = bench.request
    bench.wait(0.2)
    bench.answer_all()
    bench.lease((DB, 7), request=late)
    assert bench.core._lease.holds(bench.now), "it is an answer, and extends the lease"
    assert asked(bench) == [] and bench.line(DB).phase is Phase.FROZEN
    bench.renew((DB, 7))
    assert asked(bench) == ["FreezeGroup"]


def test_an_answer_that_comes_before_all_of_it_stands_still_lets_nothing_go_on() -> None:
    bench = running()
    bench.wait(LEASE + 0.1)
    bench.wait(RENEWAL)
    bench.lease((DB, 7))
    assert asked(bench) == ["FreezeGroup"] and bench.line(DB).phase is Phase.FROZEN
    bench.answer_all()
    assert bench.line(DB).phase is Phase.FROZEN
    bench.renew((DB, 7))
    assert asked(bench) == ["FreezeGroup"]


@pytest.mark.parametrize("named", [(), ((DB, 8),), ((BARE, 7),)])
def test_what_an_answer_does_not_name_is_stopped_by_force_and_never_goes_on(named: tuple[tuple[str, int], ...]) -> None:
    bench = frozen()
    bench.renew(*named)
    assert bench.line(DB).phase is Phase.STOPPING and "FreezeGroup" not in asked(bench)
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED


def test_a_lease_that_ends_while_it_is_thawed_is_final() -> None:
    bench = frozen()
    bench.renew((DB, 7))
    number = next(iter(bench.asked))
    bench.wait(LEASE + 0.1)
    assert bench.line(DB).phase is Phase.STOPPING
    bench.feed(Done(number, StepResult(Probe.ACTIVE)))
    assert bench.line(DB).phase is Phase.STOPPING


# ---- what else ends it ----------------------------------------------------------------------------------------------


def test_an_ordered_stop_does_not_wait_for_it_to_go_on() -> None:
    bench = frozen()
    bench.order("stop", DB, 7)
    assert bench.core.instances.machines[DB].forced and "KillGroup" in asked(bench)


def test_a_program_that_is_killed_meanwhile_ends_it() -> None:
    bench = frozen()
    bench.feed(Noted(ProgramDied(Instance(DB, Generation(7)), "program dbd", "killed by signal 9")))
    assert bench.line(DB).phase is Phase.STOPPING and "signal 9" in bench.line(DB).reason


def test_a_new_life_of_reqd_stops_what_was_frozen() -> None:
    bench = frozen()
    bench.restart()
    assert bench.line(DB).phase is Phase.STOPPING and "KillGroup" in asked(bench)


def test_it_is_not_looked_at_while_it_is_frozen() -> None:
    bench = frozen()
    bench.wait(60.0)
    assert not any(isinstance(action, StepProbe | StepUp) for action in bench.asked.values())


def test_the_forced_stop_begins_in_time_before_the_watchdog_that_is_not_fed_any_more() -> None:
    """stop_allowance is 5 s here, and the last feed may have come WATCHDOG_FEED before the lease's end."""
    bench = WatchedBench()
    bench.feed(Told(SYNCD, NewConfiguration(FREEZING)))
    bench.started(DB, 7)
    end, limit = bench.core._lease.end, 10.0 - 5.0 - 2 * WATCHDOG_FEED
    bench.wait(LEASE + 0.1)
    bench.answer_all()
    assert bench.line(DB).phase is Phase.FROZEN
    wake = bench.outputs[-1].wake_at
    while bench.now < end + limit - 0.01:
        assert bench.line(DB).phase is Phase.FROZEN and wake is not None
        bench.wait(wake - bench.now)
        wake = bench.outputs[-1].wake_at
    assert bench.now == pytest.approx(end + limit)
    bench.wait(1e-6)
    assert bench.line(DB).phase is Phase.STOPPING
