"""The fault campaign: what it draws, that its watchers see what they are there for, and a short one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from clusterlib import until
from lablib import lab_name

from truecl.lab.cluster import Lab
from truecl.lab.faults import arp
from truecl.lab.faults.apps import ADDRESSES, FILES, IMAGE, PAGES
from truecl.lab.faults.draw import HARMLESS, KINDS, POWER, draw
from truecl.lab.faults.round import Acknowledged, Asking, Outcome, Violation
from truecl.lab.faults.run import Campaign, line, overlap_bound, table
from truecl.lab.faults.watch import Watch
from truecl.lab.sample import make_image

pytestmark = pytest.mark.lab


def test_a_seed_draws_the_same_faults_and_every_kind_in_each_lap() -> None:
    assert [draw(7, number) for number in range(30)] == [draw(7, number) for number in range(30)]
    assert [draw(7, number).kind for number in range(9)] != [draw(8, number).kind for number in range(9)]
    for lap in range(3):
        assert {draw(7, number).kind for number in range(9 * lap, 9 * lap + 9)} == set(KINDS)
    assert {draw(7, number, (POWER,)).kind for number in range(5)} == {POWER}


NOTED = "served by n2\nstarted on n1, generation 4\n4 r0-1\n4 r0-2\n9 r0-7\n9 r1-1\n"


def test_what_was_acknowledged_must_be_there() -> None:
    told = Acknowledged()
    told.add(0, (1, 7))
    told.check(NOTED)
    told.add(1, (1, 2))
    with pytest.raises(Violation, match="1 acknowledged writes are lost: r1-2"):
        told.check(NOTED)


def test_an_older_generation_must_not_write_after_a_newer_one() -> None:
    with pytest.raises(Violation, match="generation 4 wrote r1-9 after generation 9 had begun"):
        Acknowledged().check(NOTED + "4 r1-9\n")


def test_times_of_arp_answers_end_with_a_silence() -> None:
    spans: list[arp.Span] = []
    for at, mac in ((1.0, "a"), (1.1, "a"), (1.15, "b"), (1.2, "a"), (2.0, "a")):
        arp.heard(spans, "10.0.0.1", mac, at)
    assert [(each.mac, each.first, each.last) for each in spans] == [
        ("a", 1.0, 1.2),
        ("b", 1.15, 1.15),
        ("a", 2.0, 2.0),
    ]


def test_the_table_tells_outages_of_the_victim_from_those_of_others() -> None:
    fault = replace(draw(1, 0), kind=POWER, switch="ok")
    outcomes = [
        Outcome(0, "3", fault, "n1", (FILES,), {FILES: 0.4, PAGES: 0.02}, moved=(FILES,)),
        Outcome(1, "3", fault, "n2", (FILES, PAGES), {FILES: 0.5, PAGES: 0.3}, overlap=0.2),
        Outcome(2, "3", fault, "n3", (), {FILES: 0.03, PAGES: 0.02}, false=1, moved=(PAGES,)),
    ]
    cells = table(outcomes).splitlines()[1].split()
    assert " ".join(cells) == "power cut 3 2 400 450 500 1 300 300 300 30 1 1, 200 0"
    assert line(outcomes[0]).endswith("n1 (files); files 400 ms, pages 20 ms; moved files")


def test_the_bound_of_the_documented_overlap() -> None:
    """A second of the lease in the kernel, at the defaults one more, the kernel's own timer, less the allowance."""
    assert overlap_bound("normal") == pytest.approx(1.0 + 1.0 + 0.5 - 0.1)
    assert overlap_bound("fast") == pytest.approx(1.0 + 0.5 - 0.05)


def test_the_watch_sees_two_with_one_file_system(lab: Lab) -> None:
    make_image(Path(lab.description.shared) / IMAGE)
    try:
        with Watch(lab) as watch:
            for node in ("n1", "n2"):
                lab.exec(node, ["mkdir", "-p", "/srv/files"]).check()
                loop = lab.exec(node, ["losetup", "--find", "--show", f"/shared/{IMAGE}"]).check().out.strip()
                lab.exec(node, ["mount", loop, "/srv/files"]).check()
            until(lambda: watch.violations, "it is seen")
    finally:
        for node in ("n1", "n2"):
            lab.kill(node)
            lab.boot(node)
    assert watch.violations == ["n1 and n2 both have the file system of 'files'"]


def test_the_watch_and_the_client_see_two_with_one_address(lab: Lab) -> None:
    address = ADDRESSES[PAGES]
    with Watch(lab) as watch, Asking(lab) as asking:
        for node in ("n1", "n3"):
            lab.exec(node, ["ip", "addr", "add", f"{address}/32", "dev", "eth0"]).check()
        until(lambda: [each for each in watch.overlaps if each.until - each.since > 0.6], "both have it for a while")
        for node in ("n1", "n3"):
            lab.exec(node, ["ip", "addr", "del", f"{address}/32", "dev", "eth0"]).check()
    (overlap,) = watch.overlaps
    assert (overlap.thing, overlap.nodes) == ((PAGES, "address"), ("n1", "n3"))
    assert overlap.until - overlap.since > 0.4 and watch.violations == []
    ((asked, length, macs),) = asking.doubles()
    assert asked == address and length > 0.4
    assert set(macs) == {lab.description.node(node).port.mac(1) for node in ("n1", "n3")}


def test_a_short_campaign(tmp_path: Path) -> None:
    """A lap of all kinds. Whoever has to leave its node leaves it; nobody else does; nothing acknowledged is lost."""
    keep = tmp_path / "faults.json"
    found = Campaign(1, range(9), ["3"], keep, lab_name("campaign")).play()
    assert {each.fault.kind for each in found} == set(KINDS)
    assert all(each.acknowledged > 10 and not each.stated for each in found)
    assert [each for each in found if each.fault.kind in HARMLESS and (each.moved or each.again)] == []
    assert len(json.loads(keep.read_text())["rounds"]) == 9
