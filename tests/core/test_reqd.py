"""reqd's core: the guard and the hands (SAFETY.md sections 2, 4 and 6), a rule a test."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from truecl.core.contract import Done, Joined, Noted, Put, Told
from truecl.core.instance import RETRY_AFTER
from truecl.core.instances import InstanceRecord, phase_of
from truecl.core.orders import ORDER_LIFETIME
from truecl.core.reqd import LEAVE_TIME
from truecl.core.supervisor import PARENT
from truecl.model.actions import (
    AskDevice,
    EndTools,
    FenceOutcome,
    KillGroup,
    Leave,
    Power,
    ProgramAnswered,
    ServiceStopping,
    StepDown,
    StepUp,
)
from truecl.model.config import Timing
from truecl.model.ids import (
    CLUSTERD,
    LOCKD,
    NETD,
    NO_GENERATION,
    STATD,
    SYNCD,
    AppName,
    BootId,
    Generation,
    Index,
    NodeName,
    Term,
)
from truecl.model.report import Mark, Phase
from truecl.model.step import Instance, Probe
from truecl.wire.messages import (
    AddressState,
    AskFences,
    Exited,
    FenceResult,
    FencesSeen,
    Forked,
    Leadership,
    Living,
    NewConfiguration,
    NodeStatus,
    Note,
    OrderFenceOff,
    Ready,
    ReleaseAddress,
    Renew,
)

from .reqd_bench import BARE, CONFIGURATION, DB, LEASE, N2, N3, RENEWAL, WEB, ReqdBench

# ---- starts ---------------------------------------------------------------------------------------------------------


def test_a_start_waits_for_the_lease_that_names_exactly_its_generation() -> None:
    bench = ReqdBench()
    bench.order("start", DB, 7)
    assert bench.asked == {}, "an order alone authorises nothing"
    bench.renew((DB, 6), (WEB, 7))
    assert bench.asked == {}, "nor does a lease that names others"
    bench.renew((DB, 7))
    assert bench.ups() == ["volume d"]


def test_a_node_wide_lease_alone_starts_nothing() -> None:
    bench = ReqdBench()
    bench.lease((DB, 6), (WEB, 7))
    bench.order("start", DB, 7)
    assert bench.asked == {}


def test_an_order_that_no_lease_came_to_name_is_forgotten() -> None:
    bench = ReqdBench()
    bench.order("start", DB, 7)
    bench.wait(ORDER_LIFETIME)
    bench.lease((DB, 7))
    assert bench.asked == {}


def test_a_lease_that_is_over_names_nothing() -> None:
    bench = ReqdBench()
    bench.lease((DB, 7))
    bench.wait(LEASE)
    bench.order("start", DB, 7)
    assert bench.asked == {}


def test_what_is_started_is_recorded_before_its_first_step() -> None:
    bench = ReqdBench()
    bench.lease((DB, 7))
    output = bench.order("start", DB, 7)
    assert isinstance(output.do[0].action, StepUp)
    record = msgspec.msgpack.decode(bench.records["instances"][DB], type=InstanceRecord)
    assert (record.generation, record.open) == (7, True)
    assert any(save.bucket == "instances" for save in output.save), "in the same output: saved first"


def test_a_generation_is_started_at_most_once() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.order("stop", DB, 7)
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED
    for generation in (7, 6):
        bench.order("start", DB, generation)
        bench.renew((DB, generation))
        assert bench.asked == {}
    bench.reboot()
    bench.lease((DB, 7))
    bench.order("start", DB, 7)
    assert bench.asked == {}, "not after a reboot either"


def test_a_stop_of_what_was_never_started_looks_at_every_step_and_then_forbids_its_start() -> None:
    bench = ReqdBench()
    bench.lease((DB, 7))
    bench.order("stop", DB, 7)
    assert bench.line(DB).phase is Phase.STOPPING
    while bench.asked:
        assert not isinstance(bench.answer(), StepUp)
    assert bench.line(DB).phase is Phase.CLOSED
    bench.order("start", DB, 7)
    assert bench.asked == {}


def test_a_stop_withdraws_the_start_that_waits() -> None:
    bench = ReqdBench()
    bench.order("start", BARE, 7)
    bench.order("stop", BARE, 7)
    bench.renew((BARE, 7))
    assert bench.line(BARE).phase is Phase.CLOSED


def test_a_newer_generation_waits_until_the_older_one_is_closed() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.order("start", DB, 9)
    assert bench.ups() == [] and bench.line(DB).phase is Phase.STOPPING
    bench.renew((DB, 9))
    assert bench.ups() == []
    bench.answer_all()
    bench.order("start", DB, 9)
    assert bench.ups() == ["volume d"]


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_an_order_of_a_lower_term_is_refused(verb: str) -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.order("start", DB, 7, term=5)
    bench.restart()  # remembered as long as the boot lasts
    bench.lease((DB, 7), (WEB, 8))
    bench.order(verb, WEB, 8, term=4)
    bench.order(verb, DB, 7, term=4)
    assert WEB not in bench.records["instances"]
    assert bench.line(DB).phase is Phase.RUNNING


def test_what_the_configuration_does_not_know_is_closed_and_says_why() -> None:
    bench = ReqdBench(replace(CONFIGURATION, apps=()))
    bench.lease((DB, 7))
    bench.order("start", DB, 7)
    line = bench.line(DB)
    assert (line.phase, line.failed) == (Phase.CLOSED, True) and "configuration" in line.reason


# ---- the guard ------------------------------------------------------------------------------------------------------


def test_a_lapse_stops_by_force_and_no_later_answer_revives() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.wait(0.2)
    request = bench.request
    bench.now += LEASE + 5.0
    bench.lease((DB, 7), request=request)  # a pause: the answer is looked at after the lapse
    assert bench.line(DB).phase is Phase.STOPPING
    assert any(isinstance(action, KillGroup) for action in bench.asked.values())
    bench.lease((DB, 7))
    assert bench.line(DB).phase is Phase.STOPPING
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED and "lease" in bench.line(DB).reason


def test_the_lease_counts_from_when_the_request_was_sent() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.wait(RENEWAL)
    bench.now += LEASE - 0.4
    bench.lease((DB, 7))
    bench.wait(0.39)
    assert bench.line(DB).phase is Phase.RUNNING
    bench.wait(0.02)
    assert bench.line(DB).phase is Phase.STOPPING


def test_the_guard_wakes_by_itself_when_the_lease_ends() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    wake = bench.outputs[-1].wake_at
    assert wake is not None and wake <= bench.core._lease.end


def test_what_the_answer_does_not_name_is_stopped() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.renew((WEB, 9))
    assert bench.line(DB).phase is Phase.STOPPING and "grants" in bench.line(DB).reason


def test_no_answer_of_an_earlier_life_counts() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.wait(RENEWAL)
    request = bench.request
    bench.now += 0.5
    bench.restart()
    end = bench.core._lease.end
    bench.lease((DB, 7), request=request)
    assert bench.core._lease.end == end


def test_an_answer_to_another_boot_says_nothing() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.wait(RENEWAL)
    end = bench.core._lease.end
    bench.lease((DB, 7), request=replace(bench.request, boot=BootId("another")))
    assert bench.core._lease.end == end
    bench.lease((DB, 7))
    assert bench.core._lease.end > end


def test_the_lease_does_not_get_longer_than_the_running_lockds_reckon_with() -> None:
    bench = ReqdBench()
    bench.core._supervisor.start((LOCKD,))
    longer = replace(CONFIGURATION, cluster=replace(CONFIGURATION.cluster, timing=Timing(lease=60.0)))
    bench.feed(Told(SYNCD, NewConfiguration(longer)))
    bench.wait(bench.core._lease.pace)
    bench.lease((DB, 7))
    assert bench.core._lease.end == pytest.approx(bench.now + LEASE)


# ---- closed ---------------------------------------------------------------------------------------------------------


def test_closed_is_durable_before_it_is_reported() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.order("stop", DB, 7)
    while bench.asked:
        bench.answer()
        for tell in bench.outputs[-1].tell:
            if isinstance(tell.message, Renew) and tell.message.instances[0].phase is Phase.CLOSED:
                record = msgspec.msgpack.decode(bench.records["instances"][DB], type=InstanceRecord)
                assert not record.open
                return
    raise AssertionError("never reported closed")


def test_a_second_generation_that_closes_at_once_is_durably_closed_as_well() -> None:
    bench = ReqdBench()
    for generation in (7, 8):
        bench.order("stop", BARE, generation)
        record = msgspec.msgpack.decode(bench.records["instances"][BARE], type=InstanceRecord)
        assert (record.generation, record.open) == (generation, False)


def test_a_stop_that_fails_is_reported_and_never_assumed() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.order("stop", DB, 7)
    while bench.asked:
        action = next(iter(bench.asked.values()))
        bench.answer(Probe.ACTIVE if isinstance(action, StepDown) and "volume" in action.step.name else None)
    assert bench.line(DB).phase is Phase.NEEDS_FENCE
    bench.wait(RETRY_AFTER)
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED


# ---- restarts -------------------------------------------------------------------------------------------------------


def test_a_restart_adopts_what_runs_and_keeps_its_lease() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.restart()
    assert bench.line(DB).phase is Phase.RUNNING and bench.downs() == []
    bench.answer_all()
    bench.wait(LEASE)
    assert bench.line(DB).phase is Phase.STOPPING, "nobody renewed it"


def test_a_restart_goes_on_with_a_start() -> None:
    bench = ReqdBench()
    bench.lease((DB, 7))
    bench.order("start", DB, 7)
    bench.restart()
    assert bench.line(DB).phase is Phase.STARTING and bench.ups() == []
    assert isinstance(bench.answer(), EndTools)
    assert bench.line(DB).phase is Phase.STARTING and bench.ups() == ["volume d"]


def test_a_tool_of_an_earlier_life_that_does_not_end_stops_a_start_and_nothing_counts_as_gone() -> None:
    bench = ReqdBench()
    bench.lease((DB, 7))
    bench.order("start", DB, 7)
    bench.restart()
    while bench.line(DB).phase is not Phase.NEEDS_FENCE:
        action = bench.answer(Probe.UNKNOWN if isinstance(next(iter(bench.asked.values())), EndTools) else None)
        assert not isinstance(action, StepUp)
        bench.netd()
    bench.wait(RETRY_AFTER)
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED, "it ended after all"


def test_what_ran_runs_on_beside_a_tool_that_does_not_end_and_closes_only_after_it() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.restart()
    bench.answer(Probe.UNKNOWN)
    assert bench.line(DB).phase is Phase.RUNNING and bench.asked == {}
    bench.wait(LEASE)
    while bench.asked:
        bench.answer(Probe.UNKNOWN if isinstance(next(iter(bench.asked.values())), EndTools) else None)
        bench.netd()
    assert bench.line(DB).phase is Phase.NEEDS_FENCE


@pytest.mark.parametrize("running", [False, True])
def test_a_restart_after_the_lease_takes_everything_down(running: bool) -> None:
    bench = ReqdBench()
    bench.lease((DB, 7))
    bench.order("start", DB, 7)
    if running:
        bench.answer_all()
    bench.now += LEASE
    bench.restart()
    assert bench.line(DB).phase is Phase.STOPPING and bench.ups() == []
    bench.answer_all()
    assert bench.line(DB).phase is Phase.CLOSED


def test_a_stop_once_begun_is_finished_by_the_next_life() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.order("stop", DB, 7)
    bench.restart()
    assert bench.line(DB).phase is Phase.STOPPING and bench.ups() == []
    bench.lease((DB, 7))
    assert bench.ups() == []


@pytest.mark.parametrize("left", [None, b"5 closed", b"5 running", b"7 closed", b"?"])
def test_what_the_run_directory_does_not_call_started_is_not_started_by_a_restart(left: bytes | None) -> None:
    """The daemon died between its two journals, over a stop of a generation that was never started here."""
    bench = ReqdBench()
    bench.lease((DB, 7))
    bench.order("stop", DB, 7)
    del bench.records["run.instances"][DB]
    if left is not None:
        bench.records["run.instances"][DB] = left
    bench.restart()
    assert bench.line(DB).phase is Phase.STOPPING and bench.ups() == []


def test_a_rebooted_node_reports_closed_only_after_it_looked_at_every_step() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.configuration = replace(CONFIGURATION, apps=())  # what was started is what is looked at
    bench.reboot()
    bench.lease((DB, 7))
    assert bench.line(DB).phase is Phase.STOPPING
    looked = []
    while bench.asked:
        assert bench.line(DB).phase is Phase.STOPPING
        looked.append(type(bench.answer()).__name__)
    assert looked == ["KillGroup", "StepDown", "StepDown"]
    assert bench.line(DB).phase is Phase.CLOSED


def test_a_lease_of_an_earlier_boot_is_worth_nothing_even_if_its_record_survived() -> None:
    """The clock began anew with the boot: what is left there would lie in the future."""
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.boot = BootId("boot 2")
    bench.now = 1.0
    bench.restart()
    assert bench.line(DB).phase is Phase.STOPPING and bench.ups() == []


@given(st.binary(max_size=20))
def test_any_record_of_a_phase_can_be_read(value: bytes) -> None:
    generation, phase = phase_of(value)
    assert (generation, phase) == (NO_GENERATION, Phase.CLOSED) or b" " in value


@given(st.integers(0, 1 << 60), st.sampled_from(Phase))
def test_a_phase_comes_back_as_it_was_written(generation: int, phase: Phase) -> None:
    assert phase_of(f"{generation} {phase}".encode()) == (Generation(generation), phase)


# ---- addresses ------------------------------------------------------------------------------------------------------


def test_an_address_that_netd_lost_and_tries_again_is_not_released() -> None:
    """Its word was on the way when the release was sent: the address may be back by now."""
    bench = ReqdBench()
    bench.started(WEB, 7)
    bench.order("stop", WEB, 7)
    assert any(isinstance(tell.message, ReleaseAddress) for tell in bench.outputs[-1].tell)
    release = bench.outputs[-1]
    lost = AddressState(WEB, Generation(7), "10.0.0.9", False, reason="no such device")
    bench.feed(Told(NETD, lost))
    assert bench.line(WEB).phase is Phase.STOPPING
    bench.outputs.append(release)
    bench.netd()
    assert bench.line(WEB).phase is Phase.CLOSED


# ---- the end of the service -----------------------------------------------------------------------------------------


def test_a_stopping_service_starts_nothing_that_was_ordered_before() -> None:
    bench = ReqdBench()
    bench.order("start", BARE, 7)
    bench.feed(Noted(ServiceStopping()))
    bench.renew((BARE, 7))
    assert bench.line(BARE).phase is Phase.CLOSED


def test_a_grant_that_comes_too_late_is_released_before_the_service_ends() -> None:
    """Else the others would have to fence a node that was stopped in good order."""
    bench = ReqdBench()
    bench.feed(Noted(ServiceStopping()))
    bench.renew((DB, 7))
    assert bench.ups() == []
    while any(not isinstance(action, Leave) for action in bench.asked.values()):
        bench.answer()
    assert bench.line(DB).phase is Phase.CLOSED
    assert bench.request.leaving


def test_nothing_open_is_left_without_its_guard() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.feed(Noted(ServiceStopping()))
    bench.wait(LEAVE_TIME)
    assert not any(isinstance(action, Leave) for action in bench.asked.values())


# ---- fences ---------------------------------------------------------------------------------------------------------


def results(bench: ReqdBench) -> list[FenceResult]:
    told = [tell.message for output in bench.outputs for tell in output.tell if tell.who == CLUSTERD]
    return [message for message in told if isinstance(message, FenceResult)]


def test_one_fence_order_asks_the_device_once_at_a_time() -> None:
    bench = ReqdBench()
    for _ in range(2):
        bench.feed(Told(CLUSTERD, OrderFenceOff(N2, Index(5))))
    ((number, action),) = bench.asked.items()
    assert isinstance(action, AskDevice)
    bench.feed(Done(number, FenceOutcome(False, "no answer")))
    assert results(bench) == [FenceResult(N2, Index(5), False, "no answer")]
    bench.feed(Told(CLUSTERD, OrderFenceOff(N2, Index(5))))
    assert len(bench.asked) == 2, "asked again when it failed"


def test_lockd_and_root_ask_devices_for_their_status_and_nobody_else() -> None:
    """lockd runs without privilege; of two nodes it asks whether the other has power."""
    bench = ReqdBench()
    for who in (LOCKD, STATD, "command-1"):
        bench.feed(Joined(who, root=False))
        bench.feed(Told(who, AskFences(1, NodeName("n1"), N2)))
    assert [type(action) for action in bench.asked.values()] == [AskDevice]
    ((number, _),) = bench.asked.items()
    bench.feed(Done(number, FenceOutcome(True, "", Power.OFF)))
    assert [each.who for each in bench.outputs[-1].tell if isinstance(each.message, FencesSeen)] == [LOCKD]


@pytest.mark.parametrize("node", [N3, NodeName("stranger")])
def test_a_node_without_a_device_is_never_off(node: NodeName) -> None:
    bench = ReqdBench()
    bench.feed(Told(CLUSTERD, OrderFenceOff(node, Index(5))))
    assert [result.off for result in results(bench)] == [False]


def test_a_node_with_nothing_open_asks_less_often_and_at_once_again_when_it_is_given_something() -> None:
    bench = ReqdBench()
    bench.lease()
    assert bench.core._lease.pace == 2 * RENEWAL
    bench.order("start", DB, 7)
    assert bench.core._lease.pace == RENEWAL


def test_the_lease_is_recorded_for_a_restart_only_while_something_is_open() -> None:
    bench = ReqdBench()
    bench.lease((DB, 7))
    assert not recorded_lease(bench)
    bench.order("start", DB, 7)
    assert recorded_lease(bench) == [repr(bench.core._lease.end).encode()]
    bench.renew((DB, 7))
    assert recorded_lease(bench)[1:] == [repr(bench.core._lease.end).encode()]


def recorded_lease(bench: ReqdBench) -> list[bytes]:
    saves = [save for output in bench.outputs for save in output.save]
    return [save.value for save in saves if isinstance(save, Put) and save.bucket == "run.lease"]


def test_a_status_waits_a_moment_for_the_wake_of_a_renewal() -> None:
    bench = ReqdBench()
    bench.lease()
    bench.core._status_at = bench.now + 0.5
    bench.core._lease.next_request = bench.now + 0.7
    bench.feed(Joined("command-1"))
    assert bench.outputs[-1].wake_at == bench.now + 0.7
    bench.core._lease.next_request = bench.now + 0.9
    bench.feed(Joined("command-2"))
    assert bench.outputs[-1].wake_at == bench.now + 0.5


def test_statd_hears_at_once_that_a_daemon_is_up_or_has_died() -> None:
    bench = ReqdBench()
    bench.feed(Told(PARENT, Living((Forked(LOCKD, 7), Forked(STATD, 8)))))
    bench.feed(Joined(STATD))
    for event in (Told(LOCKD, Ready(LOCKD, 7)), Told(PARENT, Exited(7, -9, LOCKD))):
        bench.feed(event)
    told = [each.message for output in bench.outputs for each in output.tell if each.who == STATD]
    states = [each.daemons[LOCKD] for each in told if isinstance(each, NodeStatus)]
    assert states[-3:] == ["starting", "up", "starting"]


def test_a_new_leader_hears_of_this_node_at_once_even_when_its_term_was_known_before_its_name() -> None:
    bench = ReqdBench()
    bench.lease()
    before = bench.request.number
    bench.feed(Told(LOCKD, Leadership(Term(2), None, False)))
    assert bench.request.number == before
    bench.feed(Told(LOCKD, Leadership(Term(2), N2, False)))
    assert bench.request.number > before


def noted(bench: ReqdBench) -> list[Mark]:
    """The marks of what it told statd, and forgets them."""
    told = [each.message for output in bench.outputs for each in output.tell if each.who == STATD]
    bench.outputs.clear()
    return [note.event.mark for note in told if isinstance(note, Note) and note.event.mark is not None]


@pytest.mark.parametrize("app", [DB, WEB, BARE])
def test_a_whole_start_and_a_whole_stop_are_one_event_each(app: AppName) -> None:
    bench = ReqdBench()
    bench.started(app, 7)
    (up,) = noted(bench)
    kinds = {DB: ["storage", "program"], WEB: ["address"], BARE: []}[app]
    assert (up.what, up.generation, [span.name for span in up.spans]) == ("started", 7, kinds)
    bench.order("stop", app, 7)
    bench.netd()
    bench.answer_all()
    (down,) = noted(bench)
    assert (down.what, [span.name for span in down.spans]) == ("stopped", kinds[::-1])


def test_a_restart_that_takes_over_what_runs_is_no_start() -> None:
    bench = ReqdBench()
    bench.started(DB, 7)
    bench.restart()
    bench.answer_all()
    assert bench.line(DB).phase is Phase.RUNNING and noted(bench) == []


def test_the_first_good_answer_of_a_monitor_is_an_event() -> None:
    bench = ReqdBench()
    bench.feed(Noted(ProgramAnswered(Instance(DB, Generation(7)), "program dbd")))
    (mark,) = noted(bench)
    assert (mark.what, mark.node, mark.generation, mark.detail) == ("answered", "n1", 7, "program dbd")
