"""How bad one simulated world is: ranges drawn per seed, so that each seed is another kind of bad day.

(After TigerBeetle's VOPR: every probability itself is drawn, and each seed leaves some faults out altogether, since a
world in which everything fails all the time never gets far enough to break.)
"""

from dataclasses import dataclass, fields, replace
from random import Random

from truecl.model.ids import LOCKD, DaemonName


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities are per opportunity, times are seconds, rates are per second of the whole cluster."""

    # the network
    latency: float = 0.0002
    """Least time of flight on any link."""
    jitter: float = 0.0002
    """Mean of the exponential part above that."""
    spike: float = 0.0
    """Probability that a message takes up to `spike_length` longer."""
    spike_length: float = 0.2
    loss: float = 0.0
    """Of a datagram; of a message too where `raw`, else it costs a retransmission."""
    double: float = 0.0
    raw: bool = False
    """Messages of the mesh lose, double and overtake like datagrams, as the contract allows."""
    cuts: float = 0.0
    one_way: float = 0.5
    """Share of cuts that are of one direction."""
    one_link: float = 0.4
    """Share of cuts that are of one link."""
    one_pair: float = 0.3
    """Share of cuts that are between two nodes alone."""
    at_primary: float = 0.0
    """Probability that what stands still is a node that has a primary replica."""
    at_master: float = 0.0
    """Share of cuts, kills and power cuts that are aimed at the node that leads."""
    cut_length: float = 3.0
    """Mean; exponential."""

    # machines and daemons
    power_cuts: float = 0.0
    off_length: float = 4.0
    """Mean time without power before somebody switches the node on again."""
    kills: float = 0.0
    """kill -9 of one daemon, and a quarter as often of the parent that starts them."""
    killed: DaemonName | None = None
    """Of this daemon; None: of any."""
    massacres: float = 0.0
    """kill -9 of several daemons of a node at once, mostly with their parent."""
    quick_reboots: float = 0.0
    """A node loses power and boots again before anybody can miss it."""
    pauses: float = 0.0
    """All user space of a node stands still, its clock and kernel do not."""
    pause_length: float = 1.0
    hangs: float = 0.0
    """The same for one daemon."""
    suspends: float = 0.0
    """A virtual machine stands still as a whole; its clock counts that time, or not."""
    virtual: float = 0.35
    """Share of nodes that are virtual machines: their watchdogs count for nothing, unless declared."""
    lagging: float = 0.0
    """Share of suspends after which the machine's clock knows nothing of them."""
    service_stops: float = 0.0
    """Somebody stops the service on a node in good order, and starts it again later."""
    guarded: bool = False
    """The nodes have quick watchdogs and no fence devices."""
    no_watchdog: float = 0.0
    """Probability that a node whose watchdog is not required boots without one."""
    toothless: float = 0.0
    """Share of nodes whose watchdog is armed and resets nothing. Not drawn: what rests on a watchdog rests on its being
    one. But a node that is heard after its time is not taken for reset."""
    late_feeds: float = 0.0
    """A node stands still between its reqd's decision to feed the watchdog and the feed, which comes just before the
    reset; and reqd dies just before the next, or not."""
    gap: float = 0.0
    """Probability that an output that saves is cut short: between save, send, do and tell, or inside one of them."""
    gap_power: float = 0.5
    """Share of these that take the node's power rather than the daemon's life."""
    half_written: float = 0.3
    """Share of deaths within a save that leave it written and not synced."""
    reconfigurations: float = 0.0
    """Rate at which another lease and stop allowance are activated; each node has them in its own time."""
    memberships: float = 0.0
    """Rate at which nodes are added and removed, of a cluster that begins without some of its machines."""
    drift: float = 0.0
    """Share of the configured bound by which clocks run apart, 0 to 1."""

    # disks and drivers
    fsync: float = 0.0005
    """Mean time of a durable write."""
    slow_disks: float = 0.0
    """Rate at which a node's disk becomes slow for a while."""
    slow_fsync: float = 0.05
    full_disks: float = 0.0
    """Rate at which a node's disk is full for a while."""
    driver_time: float = 0.02
    """Mean time of a driver's action."""
    driver_fails: float = 0.0
    driver_hangs: float = 0.0
    probe_fails: float = 0.0
    conflicts: float = 0.0
    """Share of the time in which a stranger on the network has a floating address."""
    program_dies: float = 0.0
    """Rate at which a running program dies."""
    fence_slow: float = 0.0
    """Probability, per node, that its fence device needs up to `fence_slow_length`."""
    fence_slow_length: float = 8.0
    fence_refuses: float = 0.0
    """Probability that one order to a fence device fails, having cut the power or not."""
    wishes: float = 0.7
    """Rate at which operators ask for something."""
    builds: float = 0.0
    """Probability that with a wish they ask for lha_buildapp as well."""
    vouches: float = 0.2
    """Share of operators' wishes that are a word on a node without power, while there is one."""
    fence_late: float = 0.0
    """Probability that its word comes up to `fence_late_length` after what it did."""
    fence_late_length: float = 3.0


CALM = Faults()
"""Nothing fails."""

_ALWAYS = ("wishes", "latency", "jitter", "fsync", "driver_time", "builds", "killed", "toothless", "at_primary")
"""Not drawn, or drawn and never left out: no lot is cast for them, so that the days of before stay as they are."""


def draw(random: Random) -> Faults:
    """The faults of one seed."""

    def spread(low: float, high: float) -> float:
        return float(low * (high / low) ** random.random())

    drawn = Faults(
        latency=spread(0.00005, 0.001),
        jitter=spread(0.00005, 0.005),
        spike=spread(0.0005, 0.03),
        spike_length=spread(0.02, 0.6),
        loss=spread(0.001, 0.3),
        double=spread(0.001, 0.3),
        raw=random.random() < 0.4,
        cuts=spread(0.05, 0.8),
        one_way=random.random(),
        one_link=random.random() * 0.7,
        one_pair=random.random() * 0.6,
        at_master=random.random() * 0.6,
        cut_length=spread(0.2, 5.0),
        power_cuts=spread(0.02, 0.25),
        off_length=spread(0.5, 8.0),
        kills=spread(0.05, 0.8),
        pauses=spread(0.05, 0.5),
        pause_length=spread(0.1, 6.0),
        hangs=spread(0.05, 0.3),
        suspends=spread(0.05, 0.5),
        lagging=random.random(),
        virtual=random.random() * 0.7,
        massacres=spread(0.02, 0.3),
        quick_reboots=spread(0.02, 0.3),
        service_stops=spread(0.02, 0.2),
        no_watchdog=random.random() * 0.4,
        late_feeds=spread(0.02, 0.2),
        gap=spread(0.0005, 0.02),
        gap_power=random.random(),
        drift=random.random(),
        fsync=spread(0.0001, 0.005),
        slow_disks=spread(0.02, 0.2),
        slow_fsync=spread(0.01, 0.3),
        full_disks=spread(0.02, 0.2),
        driver_time=spread(0.002, 0.2),
        driver_fails=spread(0.002, 0.1),
        driver_hangs=spread(0.001, 0.03),
        probe_fails=spread(0.002, 0.1),
        conflicts=spread(0.005, 0.1),
        program_dies=spread(0.02, 0.3),
        fence_slow=random.random() * 0.6,
        fence_slow_length=spread(1.0, 10.0),
        fence_refuses=spread(0.02, 0.5),
        wishes=spread(0.3, 4.0),
        reconfigurations=spread(0.02, 0.3),
        fence_late=random.random() * 0.6,
    )
    none = {
        each.name: type(getattr(drawn, each.name))(0)
        for each in fields(Faults)
        if each.name not in _ALWAYS and random.random() < 0.35
    }
    drawn = replace(drawn, **none)
    return drawn if random.random() < 0.6 else random.choice(AIMS)(drawn)


# ---- aims: what one kind of weakness needs to show ------------------------------------------------------------------


def _plain(faults: Faults) -> Faults:
    """Without what would only end a day's work early, where one thing is aimed at."""
    return replace(
        faults, suspends=0.0, virtual=0.35, massacres=0.0, quick_reboots=0.0, full_disks=0.0, reconfigurations=0.0,
        fence_late=0.0, at_master=0.0, one_pair=0.3, wishes=0.7, vouches=0.05,
    )  # fmt: skip


def gaps(faults: Faults) -> Faults:
    """Aim at the moments between save, send, do and tell."""
    return replace(_plain(faults), gap=max(faults.gap, 0.02), slow_fsync=0.1)


def elections(faults: Faults) -> Faults:
    """A slow network and masters that come and go: votes cross, terms follow one another."""
    return replace(
        _plain(faults), raw=True, latency=0.01, jitter=0.1, spike=0.3, spike_length=1.5, loss=0.05,
        cuts=2.0, cut_length=0.7, one_link=0.1, one_way=0.5,
        kills=1.0, power_cuts=0.2, off_length=0.5, pauses=0.5, hangs=0.5, pause_length=0.7,
    )  # fmt: skip


def straying(faults: Faults) -> Faults:
    """Votes come seconds late, when their candidates stand again."""
    return replace(
        elections(faults), jitter=0.4, spike_length=3.0, cuts=0.5, kills=0.5, power_cuts=0.0, pauses=0.0, hangs=0.0
    )


def diverging(faults: Faults) -> Faults:
    """Leaders are cut off with entries that nobody else has, and others lead meanwhile."""
    return replace(
        elections(faults), at_master=0.9, cuts=1.5, cut_length=1.5, one_way=0.1, one_link=0.0, spike_length=2.5,
        wishes=6.0, power_cuts=0.4,
    )  # fmt: skip


def crossed(faults: Faults) -> Faults:
    """Two nodes do not hear each other, the third hears both; and lockds start anew."""
    return replace(
        _plain(faults),
        at_master=0.7,
        cuts=0.6,
        cut_length=6.0,
        one_link=0.0,
        one_way=0.3,
        one_pair=1.0,
        kills=3.0,
        gap=0.0,
    )


def forgetful(faults: Faults) -> Faults:
    """As `crossed`; of the daemons lockd alone starts anew, and no device ends what a lease is to end."""
    return replace(crossed(faults), killed=LOCKD, kills=1.0, cuts=1.0, cut_length=4.0, fence_refuses=1.0)


def unfenced(faults: Faults) -> Faults:
    """Where no fence is near, leases decide: cut nodes off for long, let clocks drift."""
    return replace(_plain(faults), cuts=max(faults.cuts, 0.3), cut_length=6.0, one_link=0.1, drift=1.0)


def repeated(faults: Faults) -> Faults:
    """Orders come twice, the second one late; starts fail."""
    return replace(_plain(faults), raw=True, double=0.5, spike=0.5, spike_length=1.5, driver_fails=0.3)


def failing(faults: Faults) -> Faults:
    return replace(_plain(faults), driver_fails=0.1, driver_hangs=0.03, fence_refuses=0.5)


def watched(faults: Faults) -> Faults:
    """Watchdogs decide: nodes are cut off while their guard is held, stuck or gone, for longer than any timeout."""
    return replace(
        _plain(faults), guarded=True, fence_refuses=0.9, cuts=0.08, cut_length=15.0, one_link=0.0, one_way=0.0,
        one_pair=0.0, drift=1.0, pauses=0.1, pause_length=20.0, hangs=0.05, kills=0.2, late_feeds=0.4, no_watchdog=0.3,
        power_cuts=0.1,
        off_length=2.0, driver_hangs=0.15, service_stops=0.2, raw=False, loss=0.0, spike=0.0, gap=0.0, slow_disks=0.0,
        virtual=0.25,
    )  # fmt: skip


def stuck(faults: Faults) -> Faults:
    """Nodes are cut off for long, and what they should stop then does not stop."""
    return replace(
        CALM, guarded=True, fence_refuses=1.0, late_feeds=0.0, cuts=0.15, cut_length=20.0, one_link=0.0, one_way=0.0,
        driver_hangs=0.25, driver_time=faults.driver_time, virtual=0.1,
    )  # fmt: skip


def overlapping(faults: Faults) -> Faults:
    """Starts take their time, and are to stop meanwhile: by an operator's wish, or as the lease ends."""
    return replace(
        CALM, latency=faults.latency, jitter=faults.jitter, driver_time=0.5, driver_hangs=0.1, wishes=4.0, cuts=0.4,
        cut_length=3.0, one_link=0.0,
    )  # fmt: skip


def restarts(faults: Faults) -> Faults:
    """Daemons die while their tools are at work, and the tools take their time."""
    return replace(
        _plain(faults), kills=2.0, driver_time=0.2, driver_hangs=0.1, cuts=max(faults.cuts, 0.3), cut_length=2.0,
        one_link=0.1,
    )  # fmt: skip


def retimed(faults: Faults) -> Faults:
    """Leases change their length while nodes are cut off and daemons start anew."""
    return replace(unfenced(faults), reconfigurations=0.5, kills=1.0)


def growing(faults: Faults) -> Faults:
    """Nodes come and go all day, while masters do."""
    return replace(faults, memberships=1.5, at_master=0.6, kills=0.5, cuts=0.3, cut_length=1.5, power_cuts=0.1)


def building(faults: Faults) -> Faults:
    """Operators stop and build all day, while masters and owners are lost."""
    return replace(faults, builds=0.8, wishes=3.0, at_master=0.6, kills=0.5, cuts=0.3, cut_length=1.5, power_cuts=0.15)


def duels(faults: Faults) -> Faults:
    """What two nodes do to each other: cut off for long, fenced, booted at once, and the device's word comes late."""
    return replace(
        _plain(faults), cuts=0.6, cut_length=1.0, one_link=0.0, one_way=0.3, power_cuts=0.15, off_length=0.6, kills=0.3,
        fence_late=0.6, fence_refuses=0.1, fence_slow=0.0, service_stops=0.2, vouches=0.3,
    )  # fmt: skip


def softly(faults: Faults) -> Faults:
    """As `watched`, and most nodes are virtual machines."""
    return replace(watched(faults), virtual=0.8, pauses=0.2)


def clinging(faults: Faults) -> Faults:
    """Nodes that nothing is wrong with, and what is to be stopped on them for a move does not stop."""
    return replace(stuck(faults), cuts=0.0, wishes=2.0)


def toothless(faults: Faults) -> Faults:
    """As `clinging`, and no watchdog does anything."""
    return replace(clinging(faults), toothless=1.0)


def unwatched(faults: Faults) -> Faults:
    """As `stuck`, on nodes most of which have no watchdog."""
    return replace(stuck(faults), no_watchdog=0.8)


def lagging(faults: Faults) -> Faults:
    """Virtual machines are paused, and do not know of it; masters come and go meanwhile."""
    return replace(
        unfenced(faults), suspends=0.5, lagging=1.0, pause_length=8.0, virtual=1.0, kills=2.0, at_master=0.5,
        service_stops=0.0, reconfigurations=0.0, pauses=0.0, wishes=0.5, vouches=0.0,
    )  # fmt: skip


def standing(faults: Faults) -> Faults:
    """The same, and their clocks count it."""
    return replace(lagging(faults), lagging=0.0)


def vouched(faults: Faults) -> Faults:
    """No device answers, nodes stay off for long, and operators vouch for them."""
    return replace(
        _plain(faults), power_cuts=0.4, off_length=6.0, fence_refuses=1.0, vouches=1.0, cuts=0.1, pauses=0.05, gap=0.0
    )


def unsynced(faults: Faults) -> Faults:
    """Daemons die as they write, and their nodes lose power soon after."""
    return replace(
        _plain(faults), gap=0.15, gap_power=0.0, half_written=0.9, off_length=0.3, cuts=0.5, cut_length=1.0,
        at_master=0.5, wishes=2.0,
    )  # fmt: skip


def crowded(faults: Faults) -> Faults:
    """Strangers have the floating addresses."""
    return replace(_plain(faults), conflicts=0.5, driver_time=0.002)


def full(faults: Faults) -> Faults:
    return replace(_plain(faults), full_disks=0.8, power_cuts=0.5, off_length=0.5, kills=1.0)


def flickering(faults: Faults) -> Faults:
    """The quorum goes and comes back about as quickly as a lease ends, and answers come late."""
    return replace(
        faults, cuts=0.8, cut_length=1.0, one_link=0.0, spike=0.3, spike_length=1.5, power_cuts=0.02, kills=0.05,
        driver_time=min(faults.driver_time, 0.02), driver_hangs=0.0,
    )  # fmt: skip


def parted(faults: Faults) -> Faults:
    """Nodes lose each other, or the link alone that carries the data; owners stand still, and come back."""
    return replace(
        _plain(faults), cuts=0.6, cut_length=3.0, one_link=0.5, one_way=0.2, one_pair=0.3, pauses=0.3, pause_length=4.0,
        kills=0.3, power_cuts=0.1, off_length=3.0, fence_refuses=0.9, wishes=0.5, service_stops=0.0, driver_hangs=0.0,
        probe_fails=0.0, driver_fails=min(faults.driver_fails, 0.01),
    )  # fmt: skip


def overtaken(faults: Faults) -> Faults:
    """Primaries stand still until they are taken over, while the link that carries the data comes and goes."""
    return replace(
        parted(faults), at_primary=1.0, pauses=0.8, pause_length=8.0, cuts=1.5, cut_length=1.2, one_link=1.0,
        one_way=0.0, one_pair=0.8, kills=0.0, power_cuts=0.0, fence_refuses=1.0, no_watchdog=1.0,
    )  # fmt: skip


def deaf(faults: Faults) -> Faults:
    """The link that carries the data fails while daemons hang."""
    return replace(parted(faults), cuts=1.5, cut_length=1.5, one_link=1.0, hangs=0.6, pause_length=2.5, pauses=0.0)


AIMS = (
    gaps,
    elections,
    diverging,
    crossed,
    unfenced,
    repeated,
    failing,
    restarts,
    watched,
    softly,
    retimed,
    lagging,
    standing,
    vouched,
    unsynced,
    full,
    crowded,
    flickering,
)
