"""An instance's way up and down, with every action's answer in the test's hand."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.core.instance import PROBE_EVERY, RETRY_AFTER, TRANSITIONS, Input, InstanceMachine
from truecl.model.actions import Action, EndTools, KillGroup, StepDown, StepProbe, StepResult, StepUp
from truecl.model.config import Address, AppConfig, FileStorage, FileSystem, Program, Volume
from truecl.model.ids import AppName, Generation, NodeName
from truecl.model.report import Phase, Progress
from truecl.model.step import Probe

UP, DOWN = StepResult(Probe.ACTIVE), StepResult(Probe.INACTIVE)
APP = AppConfig(
    name=AppName("web"),
    nodes=(NodeName("n1"),),
    volumes=(Volume(name="data", storage=FileStorage(image="/shared/web.img")),),
    filesystems=(FileSystem(type="ext4", mount="/web"),),
    addresses=(Address(address="10.0.0.9"), Address(address="10.0.1.9")),
    programs=(Program(name="httpd", run=("/bin/httpd",), restarts=2),),
)


@dataclass
class Bench:
    """Holds the actions that were asked and not yet answered."""

    asked: dict[int, Action] = field(default_factory=dict)
    said: list[Progress] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.machine = InstanceMachine(APP, Generation(7), self.ask, self.said.append, "n1")

    def ask(self, action: Action) -> int:
        self.count += 1
        self.asked[self.count] = action
        return self.count

    def answer(self, result: StepResult | None = None, now: float = 0.0) -> str:
        """Answer the oldest; as asked, where no result is given. Returns what it was."""
        number, action = next(iter(self.asked.items()))
        del self.asked[number]
        self.machine.done(number, result or (UP if isinstance(action, StepUp | StepProbe) else DOWN), now)
        return label(action)

    def answer_all(self, now: float = 0.0) -> list[str]:
        names = []
        while self.asked:
            names.append(self.answer(now=now))
        return names


def label(action: Action) -> str:
    if isinstance(action, KillGroup):
        return "kill"
    if isinstance(action, EndTools):
        return "end tools"
    assert isinstance(action, StepUp | StepDown | StepProbe)
    return f"{type(action).__name__[4:].lower()} {action.step.name}" + (" force" * getattr(action, "force", False))


def running() -> Bench:
    bench = Bench()
    bench.machine.start(0.0)
    bench.answer_all()
    return bench


def test_up_in_order_and_running_only_after_the_last_probe() -> None:
    bench = Bench()
    bench.machine.start(0.0)
    names = []
    while bench.asked:
        assert bench.machine.phase is Phase.STARTING
        names.append(bench.answer())
    assert names == ["up volume data", "up file system /web", "up address 10.0.0.9", "up address 10.0.1.9",
                     "up program httpd"]  # fmt: skip
    assert bench.machine.phase is Phase.RUNNING


def test_polite_way_down_is_the_reverse_with_a_kill_of_what_is_left() -> None:
    bench = running()
    bench.machine.stop(1.0)
    assert bench.answer_all() == ["down program httpd", "down address 10.0.1.9", "down address 10.0.0.9", "kill",
                                  "down file system /web", "down volume data"]  # fmt: skip
    assert bench.machine.phase is Phase.CLOSED and not bench.machine.failed


def test_the_guard_takes_addresses_down_first_then_kills() -> None:
    bench = running()
    bench.machine.stop(1.0, force=True)
    names = bench.answer_all()
    assert names[:3] == ["down address 10.0.1.9 force", "down address 10.0.0.9 force", "kill"]
    assert bench.machine.phase is Phase.CLOSED


def test_a_lapse_turns_a_polite_stop_into_a_forced_one_and_ignores_its_old_answers() -> None:
    bench = running()
    bench.machine.stop(1.0)
    bench.machine.stop(2.0, force=True)
    assert bench.answer() == "down program httpd", "the polite action's late answer"
    assert bench.machine.phase is Phase.STOPPING
    assert bench.answer_all()[0] == "down address 10.0.1.9 force"
    assert bench.machine.phase is Phase.CLOSED


def test_a_dead_netd_keeps_the_guard_from_nothing_but_calling_it_closed() -> None:
    bench = running()
    bench.machine.stop(1.0, force=True)
    done: list[str] = []
    while bench.asked:
        action = next(iter(bench.asked.values()))
        silent = "address" in label(action)
        done.append(bench.answer(StepResult(Probe.UNKNOWN, "netd did not answer in time") if silent else None, 2.0))
    assert "kill" in done and "down file system /web force" in done and "down volume data force" in done
    assert done[-2:] == ["down address 10.0.1.9 force", "down address 10.0.0.9 force"], "asked once more, with time"
    assert bench.machine.phase is Phase.NEEDS_FENCE and "netd" in bench.machine.reason


def test_an_address_that_went_at_the_second_asking_is_gone() -> None:
    bench = running()
    bench.machine.stop(1.0, force=True)
    bench.answer(StepResult(Probe.UNKNOWN, "netd did not answer in time"), 2.0)
    assert "down address 10.0.1.9 force" in bench.answer_all(2.0)
    assert bench.machine.phase is Phase.CLOSED


def test_closed_waits_for_a_polite_action_that_the_guard_overtook() -> None:
    """A late 'umount' would meet the next generation."""
    bench = running()
    bench.machine.stop(1.0)
    late = next(iter(bench.asked))
    del bench.asked[late]
    bench.machine.stop(2.0, force=True)
    bench.answer_all(2.0)
    assert bench.machine.phase is Phase.STOPPING
    bench.machine.done(late, StepResult(Probe.UNKNOWN, "no end within 60 s"), 3.0)
    assert bench.machine.phase is Phase.CLOSED


@pytest.mark.parametrize("position", range(5))
def test_a_step_that_fails_walks_back_down_and_remembers_why(position: int) -> None:
    bench = Bench()
    bench.machine.start(0.0)
    for _ in range(position):
        bench.answer()
    bench.answer(StepResult(Probe.FAILED, "it broke"))
    assert bench.machine.phase is Phase.STOPPING
    assert "down volume data" in bench.answer_all()
    report = bench.machine.report()
    assert (report.phase, report.failed) == (Phase.CLOSED, True)
    assert report.reason.endswith("it broke")


def test_a_stop_that_fails_is_forced_then_needs_a_fence_and_is_never_assumed() -> None:
    bench = running()
    bench.machine.stop(1.0)
    for _ in range(4):
        bench.answer()
    bench.answer(StepResult(Probe.ACTIVE, "target is busy"), now=2.0)
    assert bench.machine.forced and bench.machine.phase is Phase.STOPPING
    while bench.asked:
        action = next(iter(bench.asked.values()))
        bench.answer(StepResult(Probe.ACTIVE, "target is busy") if "file system" in label(action) else None, now=3.0)
    assert bench.machine.phase is Phase.NEEDS_FENCE
    bench.machine.wake(3.0 + RETRY_AFTER)
    assert bench.asked, "it is tried again"
    bench.answer_all(now=5.0)
    assert bench.machine.phase is Phase.CLOSED


def test_an_unknown_probe_is_not_gone() -> None:
    bench = running()
    bench.machine.stop(1.0, force=True)
    while bench.asked:
        action = next(iter(bench.asked.values()))
        bench.answer(StepResult(Probe.UNKNOWN) if "volume" in label(action) else None)
    assert bench.machine.phase is Phase.NEEDS_FENCE


def test_a_start_step_still_on_its_way_is_waited_for_and_taken_down_again() -> None:
    """The mount that comes through after the unmount looked: closing before its end would be a lie."""
    bench = Bench()
    bench.machine.start(0.0)
    bench.answer()
    hanging = next(iter(bench.asked))
    mount = bench.asked.pop(hanging)
    bench.machine.stop(1.0, force=True)
    bench.answer_all(now=1.0)
    assert bench.machine.phase is Phase.STOPPING
    bench.machine.done(hanging, UP, 2.0)
    assert label(mount) == "up file system /web"
    assert "down file system /web force" in bench.answer_all(now=2.0)
    assert bench.machine.phase is Phase.CLOSED


def test_a_dead_program_is_started_again_here_until_it_died_too_often() -> None:
    bench = running()
    for number in range(2):
        bench.machine.died("program httpd", "killed by signal 9", float(number))
        assert bench.answer_all() == ["up program httpd"]
        assert bench.machine.phase is Phase.RUNNING
    bench.machine.died("program httpd", "killed by signal 9", 3.0)
    bench.answer_all()
    assert (bench.machine.phase, bench.machine.failed) == (Phase.CLOSED, True)


def test_a_step_found_gone_twice_while_running_fails_the_instance() -> None:
    bench = running()
    for round, phase in ((1, Phase.RUNNING), (2, Phase.STOPPING)):
        bench.machine.wake(round * PROBE_EVERY)
        while bench.asked and bench.machine.phase is Phase.RUNNING:
            action = next(iter(bench.asked.values()))
            bench.answer(StepResult(Probe.INACTIVE, "not mounted") if "system" in label(action) else None, round * 5.0)
        assert bench.machine.phase is phase
    assert "not mounted" in bench.machine.reason


def test_clear_takes_down_what_an_earlier_boot_may_have_left() -> None:
    bench = Bench()
    bench.machine.clear(0.0, "the node was rebooted")
    names = bench.answer_all()
    assert all(name == "kill" or name.endswith("force") for name in names) and len(names) == 6
    assert bench.machine.phase is Phase.CLOSED and not bench.machine.failed


@given(st.sampled_from(Phase), st.sampled_from(Input))
def test_closed_is_final_and_missing_pairs_change_nothing(phase: Phase, what: Input) -> None:
    bench = Bench()
    bench.machine.phase = phase
    bench.machine._enter(what)
    assert bench.machine.phase is TRANSITIONS.get((phase, what), phase)
    if phase is Phase.CLOSED:
        assert bench.machine.phase is Phase.CLOSED


@given(st.lists(st.sampled_from(["ok", "bad", "unknown", "stop", "force", "die", "wake"]), max_size=60))
def test_closed_is_only_said_when_the_last_word_on_every_step_was_gone(story: list[str]) -> None:
    bench = Bench()
    bench.machine.start(0.0)
    last: dict[str, Probe] = {}
    now = 0.0
    for event in story:
        now += 0.7
        if event in ("ok", "bad", "unknown") and bench.asked:
            action = next(iter(bench.asked.values()))
            good = UP if isinstance(action, StepUp | StepProbe) else DOWN
            result = {"ok": good, "bad": StepResult(Probe.FAILED, "bad"), "unknown": StepResult(Probe.UNKNOWN)}[event]
            if not isinstance(action, KillGroup):
                assert isinstance(action, StepUp | StepDown | StepProbe)
                last[action.step.name] = result.probe
            bench.answer(result, now)
        elif event in ("stop", "force"):
            bench.machine.stop(now, force=event == "force")
        elif event == "die":
            bench.machine.died("program httpd", "killed", now)
        elif event == "wake":
            bench.machine.wake(now)
        if bench.machine.phase is Phase.CLOSED:
            assert all(probe is Probe.INACTIVE for probe in last.values())
            break


@pytest.mark.parametrize(
    ("said", "reported"),
    [
        ("it broke", "program httpd: it broke"),
        ("program httpd: ended at once", "program httpd: ended at once"),
        ("/bin/httpd: not found", "program httpd: /bin/httpd: not found"),
    ],
)
def test_a_failure_names_its_node_and_what_failed_once(said: str, reported: str) -> None:
    bench = Bench()
    bench.machine.start(0.0)
    for _ in range(4):
        bench.answer()
    bench.answer(StepResult(Probe.FAILED, said))
    assert bench.machine.report().reason == reported
    assert f"n1: {reported}" in [each.text for each in bench.said]


def test_a_start_and_a_stop_say_what_each_kind_of_step_took() -> None:
    bench, now = Bench(), 10.0
    bench.machine.start(now)
    while bench.asked:
        now += 1.0
        bench.answer(now=now)
    assert bench.machine.since == 10.0
    assert [(each.name, each.began, each.ended) for each in bench.machine.spans.values()] == [
        ("storage", 10.0, 11.0), ("filesystem", 11.0, 12.0), ("address", 12.0, 14.0), ("program", 14.0, 15.0),
    ]  # fmt: skip
    bench.machine.stop(20.0)
    bench.machine.stop(20.5, force=True)
    bench.answer_all(now=21.0)
    assert bench.machine.phase is Phase.CLOSED and bench.machine.since == 20.0
    assert list(bench.machine.spans) == ["address", "program", "filesystem", "storage"], "by force"
    assert all(each.ended == 21.0 for each in bench.machine.spans.values())


def test_what_was_taken_over_began_nowhere() -> None:
    bench = Bench()
    bench.machine.resume(Phase.RUNNING, 30.0)
    bench.answer_all(now=31.0)
    assert (bench.machine.since, bench.machine.spans) == (0.0, {})
