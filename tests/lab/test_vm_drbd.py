"""DRBD on real kernels: every trace of SAFETY.md section 5, by the hands that reqd has.

Two nodes, one resource of two volumes. Tests leave both connected, equal and secondary, or say that they do not.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from clusterlib import until
from drbdlib import APP, LAYOUT, MOUNT, ON_DISKS, RUN, Hands
from lablib import assert_no_trace, lab_name

from truecl.lab.cluster import Lab
from truecl.model.actions import ReplicaConnect, ReplicaDown, ReplicaSever, ReplicaUp
from truecl.model.ids import Generation
from truecl.model.replica import Disk, Link, ReplicaReport, Role
from truecl.model.step import Instance, Probe

pytestmark = [pytest.mark.lab, pytest.mark.vm]

GONE = (Role.SECONDARY, Role.DOWN)
"""DRBD 8.4 calls a resource without disk, peer and user unconfigured."""
WRITER = """
import os, time
fd = os.open("/srv/db/count", os.O_CREAT | os.O_WRONLY)
n = 0
while True:
    n += 1
    os.pwrite(fd, b"%d" % n, 0)
    os.fsync(fd)
    with open("/tmp/acknowledged.new", "w") as file:
        file.write(str(n))
    os.rename("/tmp/acknowledged.new", "/tmp/acknowledged")
    time.sleep(0.01)
"""


@dataclass
class Pair:
    """The two nodes' hands; `generation` of the newest grant."""

    lab: Lab
    n1: Hands
    n2: Hands
    generation: int = 0
    opened: list[Hands] = field(default_factory=list)

    def next(self) -> int:
        self.generation += 1
        return self.generation

    def meet(self) -> None:
        """Both up, connected and equal."""
        self.lab.heal()
        for hands in (self.n1, self.n2):
            hands.replica(ReplicaUp(LAYOUT, True))
        until(lambda: equal(self.n1.look()) and equal(self.n2.look()), "the copies are equal", 60)

    def cut(self) -> None:
        self.lab.cut("n2", link=2)

    def run(self, hands: Hands, alone: bool = False) -> int:
        """Promoted and mounted for a new generation."""
        generation = self.next()
        assert hands.up(generation, alone).reason == ""
        assert hands.up(generation, step=MOUNT).reason == ""
        return generation

    def stop(self, hands: Hands, generation: int) -> None:
        assert hands.down(generation, step=MOUNT).reason == ""
        assert hands.down(generation).reason == ""


def equal(report: ReplicaReport) -> bool:
    return report.link is Link.CONNECTED and report.disk is report.peer is Disk.UP_TO_DATE


def write(hands: Hands) -> None:
    """Have a program write and count what is acknowledged."""
    hands.shell(f"cat >/tmp/writer.py <<'END'\n{WRITER}\nEND\nrm -f /tmp/acknowledged")
    hands.shell("python3 -ISc 'exec(open(\"/tmp/writer.py\").read())' >/tmp/writer.out 2>&1 & echo $! >/tmp/writer.pid")
    until(lambda: acknowledged(hands) > 0, "something is written")


def acknowledged(hands: Hands) -> int:
    return int(hands.shell("cat /tmp/acknowledged 2>/dev/null || echo 0"))


def end_writer(hands: Hands) -> None:
    hands.shell("kill -9 $(cat /tmp/writer.pid) 2>/dev/null || true")


@pytest.fixture(scope="module")
def pair(kernels: None) -> Iterator[Pair]:
    name = lab_name("drbd")
    with Lab.up(2, name=name, bare=True, vm=True) as lab:
        made = Pair(lab, Hands(lab, "n1"), Hands(lab, "n2"))
        yield made
        made.n1.close()
        made.n2.close()
    assert_no_trace(name)


# ---- metadata, and the first meeting ---------------------------------------------------------------------------------


def test_new_copies_of_one_generation_are_equal_when_they_meet(pair: Pair) -> None:
    for hands in (pair.n1, pair.n2):
        hands.shell("modprobe loop; truncate -s 32M /var/lib/data.img /var/lib/log.img")
        assert hands.look().role is Role.DOWN
        assert "no DRBD metadata" in hands.refused(ReplicaUp(LAYOUT, False))
        assert hands.replica(ReplicaDown(LAYOUT)).role is Role.DOWN
        assert hands.initialise("5DD2A7CE8A2F1F40") == ""
        assert "not what was agreed" in hands.initialise("5DD2A7CE8A2F1F42")
        report = hands.replica(ReplicaUp(LAYOUT, True))
        assert (report.role, report.disk) == (Role.SECONDARY, Disk.CONSISTENT)
    until(lambda: equal(pair.n1.look()) and equal(pair.n2.look()), "they meet, and are equal")


def test_one_is_promoted_and_what_is_open_is_not_made_secondary(pair: Pair) -> None:
    pair.meet()
    one, two = pair.next(), pair.next()
    assert pair.n1.probe(one) == Probe.INACTIVE
    assert pair.n1.up(one).probe is Probe.ACTIVE and pair.n1.probe(one) == Probe.ACTIVE
    assert pair.n1.up(one).reason == ""  # asked again
    assert "primary for generation" in pair.n1.up(two).reason
    assert "copy is primary" in pair.n2.up(two).reason and pair.n2.probe(two) == Probe.INACTIVE
    pair.n1.shell("mkfs.ext4 -q /dev/drbd10")
    assert pair.n1.up(one, step=MOUNT).reason == ""
    assert "has it open" in pair.n1.down(one).reason and pair.n1.probe(one) == Probe.ACTIVE
    assert "it is primary" in pair.n1.refused(ReplicaDown(LAYOUT))
    pair.stop(pair.n1, one)
    assert "newer" in pair.n2.down(0).reason if pair.n2.up(two).reason == "" else False
    assert pair.n2.down(two).reason == ""


def test_what_does_not_freeze_is_not_promoted(pair: Pair) -> None:
    pair.meet()
    pair.n1.shell("drbdsetup disk-options 10 --fencing=resource-only")
    assert "does not freeze" in pair.n1.up(pair.next()).reason
    pair.n1.shell("drbdsetup disk-options 10 --fencing=resource-and-stonith")


# ---- a primary without its peer --------------------------------------------------------------------------------------


def test_a_primary_that_lost_its_peer_freezes_and_thaws_by_itself_on_a_reconnect(pair: Pair) -> None:
    """The second half is the trap that a takeover must avoid: it stands alone until the old owner is secondary."""
    pair.meet()
    pair.n1.answers(1)
    one = pair.run(pair.n1)
    write(pair.n1)
    pair.cut()
    until(lambda: pair.n1.look().suspended, "it freezes")
    frozen_at = acknowledged(pair.n1)
    until(lambda: pair.n1.asked().count(f"{APP} {one}") > 1, "the handler goes on asking")
    assert acknowledged(pair.n1) == frozen_at and pair.n1.look().suspended
    pair.lab.heal()
    until(lambda: not pair.n1.look().suspended, "it thaws")
    until(lambda: acknowledged(pair.n1) > frozen_at, "it writes")
    until(lambda: not handlers(pair.n1), "the handler has ended")
    end_writer(pair.n1)
    pair.stop(pair.n1, one)


def handlers(hands: Hands) -> str:
    return hands.shell("pgrep -f truecl.cli.fence_pee[r] || true")


@pytest.mark.parametrize("code", [4, 7])
def test_it_goes_on_alone_once_the_log_calls_the_peer_outdated(pair: Pair, code: int) -> None:
    pair.meet()
    pair.n1.answers(code)
    one = pair.run(pair.n1)
    write(pair.n1)
    pair.cut()
    until(lambda: pair.n1.asked(), "the handler asks")
    until(lambda: not pair.n1.look().suspended, "it goes on")
    before = acknowledged(pair.n1)
    until(lambda: acknowledged(pair.n1) > before, "it writes")
    report = pair.n1.look()
    assert (report.link, report.peer) == (Link.CONNECTING, Disk.OUTDATED) and report.volumes[0].behind > 0
    pair.lab.heal()
    until(lambda: equal(pair.n1.look()), "the copies are equal again", 60)
    end_writer(pair.n1)
    pair.stop(pair.n1, one)


def test_a_stopped_instance_ends_its_handler(pair: Pair) -> None:
    pair.meet()
    pair.n1.answers(1)
    one = pair.next()
    assert pair.n1.up(one).reason == ""
    pair.cut()
    until(lambda: pair.n1.asked(), "the handler asks")
    assert pair.n1.down(one, force=True).reason == ""
    pair.n1.answers(4)  # too late
    until(lambda: not handlers(pair.n1), "the handler has ended")
    assert pair.n1.look().role in GONE


# ---- takeover --------------------------------------------------------------------------------------------------------


def test_a_takeover_freezes_the_old_owner_and_keeps_what_was_acknowledged(pair: Pair) -> None:
    """While both are connected, so that nothing but the forced disconnect ends it. The old owner's writer is then in
    uninterruptible sleep; severed, its write fails, and all comes down without a reboot."""
    pair.meet()
    pair.n1.answers(1)
    one = pair.run(pair.n1)
    write(pair.n1)
    pair.n2.answers(1)
    assert "does not call the other copy outdated" in pair.n2.up(pair.next(), alone=True).reason
    pair.n2.answers(4)
    began = time.monotonic()
    two = pair.run(pair.n2, alone=True)
    assert time.monotonic() - began < 10
    until(lambda: pair.n1.look().suspended, "the old owner is frozen")
    reported = pair.n1.look()
    assert (reported.role, reported.link) == (Role.PRIMARY, Link.CONNECTING)
    kept = acknowledged(pair.n1)
    assert int(pair.n2.shell("cat /srv/db/count")) >= kept
    pair.n1.shell("kill -9 $(cat /tmp/writer.pid)")
    assert pair.n1.shell("sed -n 's/^State:.//p' /proc/$(cat /tmp/writer.pid)/status")[0] == "D"
    severed = pair.n1.step(ReplicaSever(Instance(APP, Generation(one))))
    assert severed.reason == ""
    until(lambda: pair.n1.shell("test -e /proc/$(cat /tmp/writer.pid) || echo gone"), "the writer ends")
    assert acknowledged(pair.n1) == kept
    assert pair.n1.down(one, step=MOUNT, force=True).reason == ""
    assert pair.n1.down(one, force=True).reason == "" and pair.n1.look().role in GONE
    assert pair.n2.look().link is Link.STANDALONE  # until the master knows that
    pair.n1.replica(ReplicaUp(LAYOUT, True))
    pair.n2.replica(ReplicaConnect(LAYOUT))
    until(lambda: equal(pair.n2.look()), "the copies are equal again", 60)
    pair.stop(pair.n2, two)
    three = pair.run(pair.n1)
    assert int(pair.n1.shell("cat /srv/db/count")) >= kept
    pair.stop(pair.n1, three)


def test_an_outdated_copy_is_not_promoted_whatever_the_kernel_thinks_of_it(pair: Pair) -> None:
    """The handler's 6: this copy is the outdated one."""
    pair.meet()
    pair.cut()
    until(lambda: pair.n2.look().link is Link.CONNECTING, "the connection is lost")
    pair.n2.answers(6)
    assert pair.n2.look().disk is Disk.UP_TO_DATE
    assert pair.n2.up(pair.next()).reason != ""
    report = pair.n2.look()
    assert (report.role, report.disk) == (Role.SECONDARY, Disk.OUTDATED)


def test_a_graceful_disconnect_outdates_its_own_side_and_a_forced_one_does_not(pair: Pair) -> None:
    """Why a takeover disconnects with force."""
    pair.meet()
    one = pair.next()
    assert pair.n1.up(one).reason == ""
    pair.n1.answers(1)
    pair.n2.shell(f"drbdadm disconnect {APP}")
    assert pair.n2.look().disk is Disk.OUTDATED
    pair.n2.replica(ReplicaConnect(LAYOUT))
    until(lambda: equal(pair.n1.look()), "the copies are equal again", 60)
    pair.n2.shell(f"drbdadm disconnect --force {APP}")
    assert pair.n2.look().disk is Disk.UP_TO_DATE
    pair.n2.replica(ReplicaConnect(LAYOUT))
    until(lambda: equal(pair.n1.look()), "the copies are equal again", 60)
    assert pair.n1.down(one).reason == ""


def test_a_promotion_that_was_given_up_does_not_succeed_later(pair: Pair) -> None:
    """Its tool stays in the kernel until the handler ends, whatever kills it, and the answer would have been yes."""
    pair.meet()
    pair.cut()
    until(lambda: pair.n1.look().link is Link.CONNECTING, "the connection is lost")
    pair.n1.answers(4, delay=4)
    one = pair.next()
    assert pair.n1.up(one, timeout=1.5).probe is Probe.UNKNOWN
    assert pair.n1.probe(one) == Probe.UNKNOWN and pair.n1.up(pair.next()).probe is Probe.UNKNOWN
    until(lambda: pair.n1.probe(one) == Probe.INACTIVE, "the tool has ended", 20)
    assert pair.n1.look().role is Role.SECONDARY and not handlers(pair.n1)
    assert pair.n1.look().peer is Disk.UNKNOWN  # the handler did not say 4


# ---- disks and power -------------------------------------------------------------------------------------------------


def test_a_primary_that_loses_power_comes_back_as_a_copy_that_nobody_trusts(pair: Pair) -> None:
    """Attached by drbdadm, which applies the activity log; what it wrote last and alone is replaced."""
    pair.meet()
    pair.run(pair.n1)
    write(pair.n1)
    pair.n2.answers(4)
    pair.lab.kill("n1")
    two = pair.run(pair.n2, alone=True)
    pair.n2.shell("echo after >/srv/db/word; sync")
    pair.lab.boot("n1")
    pair.n1.close()
    pair.n1 = Hands(pair.lab, "n1")
    assert pair.n1.look().role is Role.DOWN and pair.n1.probe(1) == Probe.INACTIVE
    report = pair.n1.replica(ReplicaUp(LAYOUT, True))
    assert report.disk is Disk.CONSISTENT and "of the other" not in report.trouble
    pair.n2.replica(ReplicaConnect(LAYOUT))
    until(lambda: equal(pair.n2.look()), "the copies are equal again", 60)
    pair.stop(pair.n2, two)
    three = pair.run(pair.n1)
    assert pair.n1.shell("cat /srv/db/word") == "after\n"
    pair.stop(pair.n1, three)


def test_two_copies_that_were_both_written_are_told_and_one_gives_way(pair: Pair) -> None:
    """Only an operator's word makes this: here the handler lies on both nodes."""
    pair.meet()
    pair.cut()
    for hands in (pair.n1, pair.n2):
        until(lambda hands=hands: hands.look().link is Link.CONNECTING, "the connection is lost")  # type: ignore[misc]
        hands.answers(4)
        generation = pair.run(hands)
        hands.shell(f"echo {hands.node} >/srv/db/word; sync")
        pair.stop(hands, generation)
    pair.lab.heal()
    until(lambda: pair.n1.look().split or pair.n2.look().split, "the split is told", 20)
    until(lambda: pair.n1.look().link is pair.n2.look().link is Link.STANDALONE, "both stand alone")
    pair.n2.shell(f"drbdadm connect --discard-my-data {APP}")
    pair.n1.replica(ReplicaConnect(LAYOUT))
    until(lambda: equal(pair.n1.look()) and equal(pair.n2.look()), "the copies are equal", 60)
    assert not pair.n1.look().split and not pair.n2.look().split
    two = pair.run(pair.n2)
    assert pair.n2.shell("cat /srv/db/word") == "n1\n"
    pair.stop(pair.n2, two)


def test_a_minor_that_another_resource_has_is_named(pair: Pair) -> None:
    for hands in (pair.n1, pair.n2):
        hands.replica(ReplicaDown(LAYOUT))
        assert hands.shell(f"losetup -a; ls {RUN}/drbd") == ""
    pair.n1.shell("drbdsetup new-resource other; drbdsetup new-minor other 10 0")
    assert "/dev/drbd10 is in use by DRBD resource other" in pair.n1.refused(ReplicaUp(LAYOUT, True))
    pair.n1.shell("drbdsetup down other")
    pair.n1.replica(ReplicaUp(LAYOUT, True))


def test_a_disk_that_fails_is_given_up_and_the_primary_goes_on_with_the_peers(pair: Pair) -> None:
    """Last: it leaves the two as they are. The device mapper answers every request with an error from some time on."""
    for hands in (pair.n1, pair.n2):
        hands.replica(ReplicaDown(LAYOUT))
        hands.shell("modprobe dm-mod; losetup /dev/loop7 /var/lib/data.img; losetup /dev/loop6 /var/lib/log.img")
        hands.shell("dmsetup create data --table '0 65536 linear /dev/loop7 0'; dmsetup mknodes")
        hands.replica(ReplicaUp(ON_DISKS, True))
    until(lambda: equal(pair.n1.look()), "the copies are equal", 60)
    pair.n1.answers(1)
    one = pair.run(pair.n1)
    write(pair.n1)
    pair.n1.shell("dmsetup suspend --noflush data; dmsetup load data --table '0 65536 error'; dmsetup resume data")
    until(lambda: pair.n1.look().disk is Disk.DISKLESS, "the disk is given up")
    report = pair.n1.look()
    assert (report.role, report.link, report.suspended) == (Role.PRIMARY, Link.CONNECTED, False)
    before = acknowledged(pair.n1)
    until(lambda: acknowledged(pair.n1) > before, "it writes to the other node")
    assert pair.n1.probe(one) == Probe.ACTIVE
    assert "its disk failed" in pair.n1.refused(ReplicaUp(ON_DISKS, True))
    end_writer(pair.n1)
    kept = acknowledged(pair.n1)
    pair.stop(pair.n1, one)
    two = pair.run(pair.n2)
    assert int(pair.n2.shell("cat /srv/db/count")) >= kept
    pair.stop(pair.n2, two)
