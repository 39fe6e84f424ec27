"""Failovers and moves out of what three nodes noted, each by its own clock."""

import pytest
from msgspec.structs import replace

from tests.core.story import N1, N2, N3, UPTIMES, WALL, WEB, Story, failover, move
from truecl.core.clocks import Clocks
from truecl.core.timeline import Timeline, timelines
from truecl.model.ids import AppName, NodeName
from truecl.model.report import EventRecord, Mark, Moment
from truecl.wire.messages import ClockReading


def read(node: NodeName, at: float = 60.0, round_trip: float = 0.002, error: float = 0.0) -> ClockReading:
    """n3's statd asked at second `at`."""
    asked = UPTIMES[N3] + at
    return ClockReading(N3, node, asked, UPTIMES[node] + at + round_trip / 2 + error, asked + round_trip)


def told(story: Story, *readings: ClockReading, app: AppName | None = None) -> list[Timeline]:
    return timelines(story.events, Clocks(story.events, readings), app)


def when(timeline: Timeline) -> dict[str, int]:
    """Phase to milliseconds from the first."""
    return {phase.name: round(phase.at * 1000) for phase in timeline.phases}


FAILOVER = {
    "last sign of life": 0, "suspected": 300, "elected": 330, "fence ordered": 350, "fence confirmed": 400,
    "granted": 410, "start begun": 420, "storage": 440, "file systems": 470, "addresses": 480, "program": 540,
    "answered": 540,
}  # fmt: skip


def test_a_failover_is_told_phase_by_phase_whatever_the_nodes_clocks_say() -> None:
    (timeline,) = told(failover(), read(N2))
    assert when(timeline) == FAILOVER and timeline.finished
    assert (timeline.kind, timeline.app, timeline.origin, timeline.target) == ("failover", "web", "n1", "n2")
    assert sum(phase.took for phase in timeline.phases) == pytest.approx(timeline.total) == pytest.approx(0.54)
    assert timeline.at == pytest.approx(WALL + 10.0)
    nodes = {phase.name: phase.node for phase in timeline.phases}
    assert nodes["last sign of life"] == "n1" and nodes["elected"] == nodes["program"] == "n2"


def test_which_word_counts_as_the_answer_is_said() -> None:
    (plain,) = told(failover(), read(N2))
    assert plain.phases[-1].detail == "its program counts as started"
    story = failover(monitor=True)
    (silent,) = told(story, read(N2))
    assert not silent.finished and silent.phases[-1].name == "program"
    story.note(15.54, N2, Mark(Moment.ANSWERED, N2, 11, detail="program web"), WEB)
    (answered,) = told(story, read(N2))
    assert answered.finished and answered.phases[-1].detail == "first good answer of program web's monitor"
    assert round(answered.total, 3) == 5.54


def test_a_move_begins_with_the_wish_and_has_both_ways() -> None:
    latest, before = told(move(failover()), read(N2))
    assert (latest.kind, latest.origin, latest.target, latest.cause) == ("move", "n2", "n3", "asked for")
    assert when(latest) == {
        "asked": 0, "stop begun": 10, "program down": 20, "addresses down": 30, "storage down": 50, "released": 60,
        "granted": 60, "start begun": 70, "program": 130, "answered": 130,
    }  # fmt: skip
    assert before.kind == "failover"


def test_a_failure_at_the_node_is_a_failover_that_begins_with_it() -> None:
    story = Story()
    story.all_note(1.0, Mark(Moment.GRANTED, N2, 6), WEB, 6)
    story.note(5.1, N2, Mark(Moment.STOPPED, N2, 6, story.up(N2, 5.0), (), "program web: died"), WEB)
    story.all_note(5.2, Mark(Moment.ENDED, N2, 6, detail="released"), WEB, 6)
    story.all_note(5.2, Mark(Moment.GRANTED, N3, 9, detail="failover"), WEB, 9)
    (timeline,) = told(story)
    assert (timeline.kind, timeline.cause) == ("failover", "program web: died")
    assert list(when(timeline)) == ["failed", "released", "granted"] and not timeline.finished


def test_what_the_operator_stopped_and_started_again_is_no_failover() -> None:
    story = failover()
    story.all_note(20.0, Mark(Moment.WANTED, detail="stop"), WEB, 12)
    story.all_note(20.1, Mark(Moment.ENDED, N2, 11, detail="released"), WEB, 11)
    story.all_note(30.0, Mark(Moment.WANTED, detail="start"), WEB, 14)
    story.all_note(30.1, Mark(Moment.GRANTED, N3, 15), WEB, 15)
    assert [timeline.generation for timeline in told(story)] == [11]


def test_an_older_verdict_on_the_same_node_is_of_another_day() -> None:
    story = failover()
    story.note(3.0, N2, Mark(Moment.SILENT, N1, since=story.up(N2, 2.7)))
    (timeline,) = told(story, read(N2))
    assert when(timeline) == FAILOVER


def test_only_the_application_that_was_asked_for() -> None:
    assert told(failover(), app=AppName("db")) == []
    assert len(timelines(move(failover()).events, Clocks(failover().events), most=1)) == 1


@pytest.mark.parametrize(("proof", "phase"), [("expired", "lease expired"), ("expired+watchdog", "watchdog reset")])
def test_a_proof_without_a_device_is_the_end_of_some_time(proof: str, phase: str) -> None:
    story = failover()
    fences = (Moment.FENCE_ORDERED, Moment.FENCED)
    story.events = [each for each in story.events if each.mark is not None and each.mark.what not in fences]
    story.events = [
        replace(each, mark=replace(each.mark, detail=proof))
        if each.mark is not None and each.mark.what == Moment.ENDED
        else each
        for each in story.events
    ]
    (timeline,) = told(story, read(N2))
    assert phase in when(timeline) and "fence ordered" not in when(timeline)


# ---- clocks ---------------------------------------------------------------------------------------------------------


def relation(story: Story, node: NodeName, *readings: ClockReading) -> tuple[float, float | None, str]:
    """Its error against the truth, what is said of it, and by what."""
    clocks = Clocks(story.events, readings)
    event = [each for each in story.events if each.node == node][-1]
    found = clocks.relation(event, event.uptime)
    return found.offset - (UPTIMES[N3] - UPTIMES[node]), found.uncertainty, found.how


def test_a_question_and_its_answer_give_bounds_that_hold_however_unlucky_the_answer() -> None:
    for error in (-0.001, 0.0, 0.001):
        wrong, said, how = relation(move(failover()), N2, read(N2, error=error))
        assert how == "asked" and said is not None and abs(wrong) <= said < 0.01


def test_old_events_are_related_by_the_log_because_clocks_drift() -> None:
    story = move(failover(late={N2: 0.004}))
    assert relation(story, N2, read(N2, at=30.0))[2] == "asked"
    wrong, said, how = relation(story, N2, read(N2, at=86400.0))
    assert how == "log" and said is not None and abs(wrong) <= said < 0.02
    (_, timeline) = told(story, read(N2, at=86400.0))
    assert timeline.uncertainty is not None and 0.005 < timeline.uncertainty < 0.03
    assert timeline.clocks["n2"] == "log"


def test_without_anything_else_the_wall_clock_is_taken_and_said_to_be_unsure() -> None:
    story = failover(wrong={N2: 0.2})
    story.events = [replace(each, index=0) for each in story.events if each.node != N3] + story.events[:0]
    story.note(10.31, N3, Mark(Moment.SILENT, N1, since=story.up(N3, 10.0)))
    (timeline,) = told(story)
    assert timeline.uncertainty is None and "wall" in timeline.clocks.values()
    assert all(phase.took >= 0.0 for phase in timeline.phases), "nothing goes back in time"


def test_a_reading_of_another_boot_relates_nothing() -> None:
    other = replace(read(N2), said=7.0)
    assert relation(failover(), N2, other)[2] == "log"


def test_boots_of_one_node_have_clocks_of_their_own() -> None:
    story = failover()
    again: list[EventRecord] = [replace(each, at=each.at + 5000.0) for each in story.events if each.node == N2]
    clocks = Clocks([*story.events, *again])
    assert {clocks.boot(each)[1] for each in again} == {"1"}
    assert {clocks.boot(each)[1] for each in story.events} == {"0"}


@pytest.mark.parametrize("seconds", [-86400.0, -10.0, 3600.0, 86400.0])
@pytest.mark.parametrize("since", [5.0, 10.36, 10.41])
@pytest.mark.parametrize("node", [N2, N3])
def test_a_wall_clock_that_is_set_meanwhile_moves_nothing(node: NodeName, since: float, seconds: float) -> None:
    story = move(failover())
    late = UPTIMES[node] + since
    story.events = [
        replace(each, boot="b", at=each.at + seconds * (each.node == node and each.uptime >= late))
        for each in story.events
    ]
    moved, failed = told(story, read(N2))
    assert when(failed) == FAILOVER and round(moved.total, 3) == 0.13
    assert failed.uncertainty is not None and "wall" not in failed.clocks.values()
