"""The operator reads afterwards what happened, and beforehand what would: real daemons, one node of which is killed."""

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from clusterlib import Cluster, light, until, web

pytestmark = pytest.mark.lab

APPS = {"web": web(1), "light": light(2)}
TARGET = "10.77.1.101:80"


def timelines(cluster: Cluster, node: str, *options: str) -> list[dict[str, Any]]:
    lines = cluster.run(node, "lha_log", "--timeline", "--json", "-n", "10", *options).out.splitlines()
    return [found for found in map(json.loads, lines) if "missing" not in found]


def plausible(timeline: dict[str, Any]) -> None:
    """The phases add up, nothing goes back, and the clocks (one here, which nobody knows) are said to be well known."""
    assert sum(phase["took"] for phase in timeline["phases"]) == pytest.approx(timeline["total"])
    assert all(phase["took"] >= 0.0 for phase in timeline["phases"])
    assert timeline["uncertainty"] is not None and timeline["uncertainty"] < 0.2, timeline


def test_a_node_is_killed_and_its_story_is_told(cluster: Cluster) -> None:
    cluster.start("web", "-N", "n1")
    foreseen = json.loads(cluster.run("n3", "lha_simulate", "-N", "n1", "--json").out)
    with cluster.lab.probe(TARGET) as probe:
        probe.wait_answer(node="n1")
        cluster.lab.kill("n1")
        probe.wait_answer(node="n2")
    cluster.wait_app("web", at="n3", status="UP", node="n2")
    until(lambda: bool(timelines(cluster, "n3")) and timelines(cluster, "n3")[0]["finished"], "the story is whole")

    (timeline,) = timelines(cluster, "n3", "-A", "web")
    assert [phase["name"] for phase in timeline["phases"]] == [
        "last sign of life", "suspected", "elected", "fence ordered", "fence confirmed", "granted", "start begun",
        "storage", "file systems", "addresses", "program", "answered",
    ]  # fmt: skip
    assert (timeline["kind"], timeline["origin"], timeline["target"]) == ("failover", "n1", "n2")
    plausible(timeline)
    suspected = timeline["phases"][1]
    assert 0.2 < suspected["took"] < 2.0, "the detection time, and what a busy machine adds"
    # What the client saw begins at most a heartbeat after the last sign of life, and ends when the program answers.
    assert timeline["total"] - 0.3 < probe.result.longest < timeline["total"] + 1.0, (timeline, probe.result)

    place = next(place for place in foreseen["places"] if place["app"] == "web")
    assert (place["now"], place["then"], foreseen["quorum"]) == ("n1", "n2", True)
    replayed = cluster.run("n3", "lha_simulate", "--replay", "--last", "50").out
    assert "n1 is to be switched off" in replayed and "'web' is failed over to n2" in replayed, replayed
    alone = cluster.run("n3", "lha_simulate", "-N", "n2").out
    assert "no quorum remains" in alone and "1 of 3 voters are up, 2 are needed" in alone, alone

    cluster.lab.boot("n1")
    cluster.wait_up(at="n2")
    cluster.stop("web")


def test_a_move_is_told_from_the_wish_to_the_answer_and_drawn(cluster: Cluster) -> None:
    cluster.start("light", "-N", "n1")
    cluster.move("light", "-N", "n3", node="n2")
    (timeline,) = timelines(cluster, "n2", "-A", "light")
    names = [phase["name"] for phase in timeline["phases"]]
    assert timeline["kind"] == "move" and names[0] == "asked" and names[-1] == "answered"
    assert names.index("released") < names.index("granted") < names.index("program")
    plausible(timeline)
    cluster.run("n2", "lha_log", "--timeline", "--svg", "/tmp/light.svg", "-A", "light")
    picture = ElementTree.fromstring(cluster.run("n2", "cat", "/tmp/light.svg").out)
    assert any("light: move n1 -> n3" in (text.text or "") for text in picture.iter())
    cluster.stop("light")


def test_decisions_outlive_the_daemons(cluster: Cluster) -> None:
    cluster.start("light", "-N", "n2")
    cluster.stop("light")
    cluster.run("n1", "lha_dissolve")
    cluster.form()
    cluster.wait_up()
    replayed = cluster.run("n1", "lha_simulate", "--replay", "--last", "200").out
    assert "order n2 to stop 'light'" in replayed, replayed
