"""The simulated DRBD does what the real one was seen to do (SAFETY.md section 5); its own checks see what is wrong."""

from random import Random

import pytest

from truecl.model.ids import AppName, LinkName, NodeName
from truecl.model.replica import Disk, Link, Role
from truecl.sim import scenario
from truecl.sim.cluster import Cluster, Plan, Violation
from truecl.sim.drbd import Half, Resource
from truecl.sim.mutants.build import production

LINK = LinkName("link1")


class Pair:
    """Two machines without a daemon, n1's half primary, both connected."""

    def __init__(self) -> None:
        self.cluster = Cluster(scenario.configuration(Random(1), 2), Plan((), ()), production, seed=1)
        self.asked: list[Half] = []
        names = self.cluster.names
        self.resource = Resource(self.cluster, AppName("mail"), names, LINK, self.asked.append)
        self.one, self.two = (self.resource.halves[NodeName(name)] for name in names)
        for machine in self.cluster.machines.values():
            machine.power_on()
        for half in (self.one, self.two):
            self.resource.up(half)
            half.looking = True
        self.wait(5.0)
        assert self.links() == (Link.CONNECTED, Link.CONNECTED)
        self.resource.promote(self.one)

    def wait(self, seconds: float) -> None:
        self.cluster.schedule.run(self.cluster.schedule.now + seconds)

    def links(self) -> tuple[Link, Link]:
        return self.resource.report(self.one).link, self.resource.report(self.two).link

    def cut(self) -> None:
        for here, there in (("n1", "n2"), ("n2", "n1")):
            self.cluster.network.cut(NodeName(here), NodeName(there), LINK)

    def write(self, count: int = 3) -> None:
        for _ in range(count):
            self.resource.write(self.one)

    def part(self) -> None:
        """A cut, noticed, with writes under way."""
        self.cut()
        self.write()
        self.wait(3.0)
        assert self.one.suspended and self.asked == [self.one]


def test_a_write_is_acknowledged_when_both_have_it() -> None:
    pair = Pair()
    pair.write()
    assert pair.resource.acknowledged == set()
    pair.wait(0.1)
    assert pair.resource.acknowledged == pair.two.blocks == {1, 2, 3}


def test_a_primary_that_loses_its_peer_freezes_and_acknowledges_nothing_until_its_handler_says_so() -> None:
    pair = Pair()
    pair.part()
    pair.write()
    assert pair.resource.acknowledged == set() and pair.one.parked == 3
    pair.resource.go_on(pair.one)
    assert pair.resource.acknowledged == pair.one.blocks and len(pair.one.blocks) == 6
    assert pair.resource.report(pair.one).peer is Disk.OUTDATED


def test_a_frozen_primary_thaws_by_itself_when_its_peer_is_back() -> None:
    pair = Pair()
    pair.part()
    pair.cluster.network.heal_all()
    pair.wait(10.0)
    assert not pair.one.suspended and pair.resource.acknowledged == {1, 2, 3} <= pair.two.blocks


def test_what_went_on_alone_brings_the_other_up_to_date() -> None:
    pair = Pair()
    pair.part()
    pair.resource.go_on(pair.one)
    pair.write()
    pair.cluster.network.heal_all()
    for _ in range(100):
        pair.wait(0.1)
        if Link.SYNC_TARGET in pair.links():
            break
    assert pair.links() == (Link.SYNC_SOURCE, Link.SYNC_TARGET) and pair.two.disk is Disk.INCONSISTENT
    pair.wait(10.0)
    assert pair.links() == (Link.CONNECTED, Link.CONNECTED) and pair.two.blocks == pair.one.blocks


def test_a_frozen_primary_that_is_severed_acknowledges_nothing_ever() -> None:
    pair = Pair()
    pair.part()
    pair.resource.sever(pair.one)
    pair.cluster.network.heal_all()
    pair.wait(10.0)
    report = pair.resource.report(pair.one)
    assert (report.role, report.disk, report.link) == (Role.PRIMARY, Disk.DISKLESS, Link.STANDALONE)
    assert pair.resource.acknowledged == set() and not pair.one.suspended


def test_a_takeover_that_parts_first_ends_with_one_writer_and_all_that_was_acknowledged() -> None:
    pair = Pair()
    pair.write()
    pair.wait(0.1)
    pair.two.looking = False
    pair.resource.close(pair.two)
    pair.resource.promote_without_peer(pair.two)
    pair.wait(3.0)
    assert pair.one.suspended, "it hears that the connection is closed"
    pair.resource.sever(pair.one)
    pair.resource.demote(pair.one)
    pair.one.attached = pair.one.looking = pair.two.looking = True
    pair.wait(10.0)
    assert pair.links() == (Link.CONNECTED, Link.CONNECTED) and pair.one.current == pair.two.current


def test_two_that_write_without_each_other_are_seen() -> None:
    pair = Pair()
    pair.part()
    pair.resource.promote_without_peer(pair.two)
    with pytest.raises(Violation, match="S1: n1 and n2 are both primary"):
        pair.resource.go_on(pair.one)


def test_a_frozen_primary_that_meets_the_new_one_is_seen() -> None:
    pair = Pair()
    pair.part()
    pair.resource.promote_without_peer(pair.two)
    pair.cluster.network.heal_all()
    with pytest.raises(Violation, match="S1"):
        pair.wait(10.0)


def test_a_promotion_without_what_was_acknowledged_is_seen() -> None:
    pair = Pair()
    pair.part()
    pair.resource.go_on(pair.one)
    pair.cluster.machines[NodeName("n1")].power_off()
    pair.one.goes_with_the_power()
    with pytest.raises(Violation, match="S5: n2's copy of mail is promoted without 3 acknowledged writes"):
        pair.resource.promote_without_peer(pair.two)


def test_a_secondary_that_leaves_in_good_order_knows_that_it_is_outdated() -> None:
    pair = Pair()
    pair.resource.down(pair.two)
    pair.write()
    assert not pair.one.suspended and pair.resource.acknowledged == {1, 2, 3}
    pair.resource.up(pair.two)
    assert pair.two.disk is Disk.OUTDATED
