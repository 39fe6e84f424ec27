"""hbd's core: alone, in conversations kept as golden files, and under drawn events."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.heartbeat_net import HeartbeatNet, cluster, compare
from truecl.core.contract import Event, Left, Noted, Received, Told, Woke
from truecl.core.detector import (
    MAX_SUBSCRIBERS,
    TRANSITIONS,
    Detector,
    PeerState,
    Sign,
    Stopping,
    peers_of,
    step,
)
from truecl.model.config import Configuration, Timing
from truecl.model.ids import SYNCD, BootId, LinkName, NodeName
from truecl.wire.messages import Goodbye, Heartbeat, NewConfiguration, Refused, Subscribe, View

A, B = LinkName("A"), LinkName("B")
OTHER = NodeName("b")
BOOT = BootId("b1")


def beat(sequence: int, hears: bool = True, link: LinkName = A, boot: BootId = BOOT) -> Received:
    return Received(OTHER, Heartbeat(link, boot, sequence, hears))


class Alone:
    """One detector, fed by hand; its timer is always kept unless a test does not want it to be."""

    def __init__(self, names: str = "ab", links: str = "AB", node: str = "a") -> None:
        self.now = 50.0
        self.core = Detector(cluster(names, links), NodeName(node), BootId("a1"), Random(1))
        self.last = self.core.start(self.now)
        self.view = View(())
        self.deaths = 0
        self.feed(Told("lockd", Subscribe()))

    def feed(self, *events: Event) -> None:
        for event in events:
            self.last = self.core.handle(event, self.now)
            for tell in self.last.tell:
                self.view = tell.message
                self.deaths += not self.alive

    def until(self, at: float) -> None:
        """Wake exactly when asked for, up to a time."""
        while self.last.wake_at is not None and self.last.wake_at <= at:
            self.now = self.last.wake_at
            self.feed(Woke())
        self.now = at

    @property
    def alive(self) -> bool:
        return any(node.alive for node in self.view.nodes)

    @property
    def up(self) -> str:
        return "".join(link.name for node in self.view.nodes for link in node.links if link.up)


# ---- tables ---------------------------------------------------------------------------------------------------------


@given(st.sampled_from(PeerState), st.sampled_from(Sign))
def test_every_pair_is_in_the_table_or_changes_nothing(state: PeerState, sign: Sign) -> None:
    after = step(state, sign)
    assert after is TRANSITIONS.get((state, sign), state)
    # Whatever it was before: only hearing makes alive, and what ends it really does.
    assert (after is PeerState.ALIVE) <= (sign is Sign.CONFIRMED or state is PeerState.ALIVE)
    if sign is not Sign.CONFIRMED:
        assert after is not PeerState.ALIVE


def test_every_state_is_reached() -> None:
    assert {PeerState.UNHEARD, *TRANSITIONS.values()} == set(PeerState)


# ---- one detector ---------------------------------------------------------------------------------------------------


def test_start_greets_every_peer_on_every_link_at_once() -> None:
    output = Detector(cluster("abc"), NodeName("a"), BootId("a1"), Random(1)).start(50.0)
    assert [(send.node, send.message.link, send.message.hears_you) for send in output.send] == [
        (peer, link, False) for peer in "bc" for link in "AB"
    ]
    assert len({send.message.sequence for send in output.send}) == 4


def test_heard_both_ways_is_up_and_alive() -> None:
    alone = Alone()
    alone.feed(beat(1, hears=False))
    assert (alone.alive, alone.up) == (False, "")
    alone.feed(beat(2))
    assert (alone.alive, alone.up) == (True, "A")


def test_who_only_just_began_to_speak_is_not_called_dead() -> None:
    """A boot that is named and not alive is a verdict, and has the master fence: none is due before it was alive."""
    alone = Alone()
    alone.until(50.5)
    alone.feed(beat(1, hears=False))
    assert [(node.boot, node.alive) for node in alone.view.nodes] == [(None, False)]
    alone.feed(beat(2))
    assert [(node.boot, node.alive) for node in alone.view.nodes] == [(BOOT, True)]
    alone.until(51.5)
    assert [(node.boot, node.alive) for node in alone.view.nodes] == [(BOOT, False)]


def test_the_first_view_waits_until_all_are_heard_or_the_detection_time() -> None:
    alone = Alone("abc")
    alone.feed(beat(1))
    assert alone.view == View(())
    alone.until(50.2)
    alone.feed(beat(2))
    alone.until(50.299)
    assert alone.view == View(())
    alone.until(50.3)
    assert [node.alive for node in alone.view.nodes] == [True, False]


def test_alone_in_the_cluster_is_known_at_once() -> None:
    core = Detector(cluster("a"), NodeName("a"), BootId("a1"), Random(1))
    core.start(50.0)
    assert core.handle(Told("lockd", Subscribe()), 50.0).tell[0].message == View(())


def test_dead_exactly_after_the_detection_time() -> None:
    alone = Alone()
    alone.feed(beat(1))
    heard = alone.now
    alone.until(heard + 0.2999)
    assert alone.alive
    alone.until(heard + 0.3)
    assert not alone.alive


def test_alive_while_one_link_is_up() -> None:
    alone = Alone()
    alone.feed(beat(1, link=A), beat(1, link=B))
    for turn in range(2, 12):
        alone.until(alone.now + 0.1)
        alone.feed(beat(turn, link=B))
    assert (alone.alive, alone.up) == (True, "B")


def test_heard_but_not_hearing_us_is_not_alive() -> None:
    alone = Alone()
    alone.feed(beat(1))
    for turn in range(2, 8):
        alone.until(alone.now + 0.1)
        alone.feed(beat(turn, hears=False))
    assert not alone.alive


def test_we_say_whom_we_hear() -> None:
    alone = Alone(links="A")
    alone.feed(beat(1))
    alone.until(alone.now + 0.15)
    alone.feed(beat(2))
    alone.until(alone.now + 0.1)
    assert alone.last.send[-1].message.hears_you
    alone.until(alone.now + 0.5)
    assert not alone.last.send[-1].message.hears_you


@pytest.mark.parametrize("sequence", [7, 6, 0])
def test_replays_and_old_datagrams_change_nothing(sequence: int) -> None:
    alone = Alone()
    alone.feed(beat(7))
    heard = alone.now
    alone.until(heard + 0.25)
    alone.feed(beat(sequence))
    alone.until(heard + 0.31)
    assert not alone.alive
    assert alone.core.faults == 1


def test_a_slow_link_is_not_judged_by_the_sequence_of_a_fast_one() -> None:
    alone = Alone()
    alone.feed(beat(8, link=A), beat(7, link=B))
    assert alone.up == "AB"


def speaks(alone: Alone, seconds: float, *boots: str, first: int = 10) -> int:
    """These boots of the other node are heard ten times a second. Returns the next sequence number."""
    end = alone.now + seconds
    while alone.now < end - 1e-9:
        alone.until(min(end, alone.now + 0.1))
        for boot in boots:
            alone.feed(beat(first, boot=BootId(boot)))
        first += 1
    return first


def test_a_new_boot_is_shown_when_the_old_one_is_silent_and_the_old_one_never_again() -> None:
    """Without a verdict: it rebooted, quicker than its silence was noticed."""
    alone = Alone()
    alone.feed(beat(9))
    alone.until(alone.now + 0.1)
    deaths = alone.deaths
    speaks(alone, 0.4, "b2")
    assert (alone.view.nodes[0].boot, alone.alive, alone.view.nodes[0].twin) == ("b2", True, False)
    assert alone.deaths == deaths + 1, "of the old boot"
    alone.feed(beat(900))
    assert alone.view.nodes[0].boot == "b2"


def test_a_late_datagram_of_an_old_boot_does_not_silence_the_living_one() -> None:
    alone = Alone()
    alone.feed(beat(5, boot=BootId("b2")), beat(900, boot=BootId("b1")))
    assert (alone.view.nodes[0].boot, alone.alive) == ("b2", True)


def test_an_hbd_without_history_comes_from_an_old_boot_to_the_living_one() -> None:
    """To it the older boot is the first, until only the other goes on."""
    alone = Alone()
    alone.feed(beat(900, boot=BootId("b1")))
    speaks(alone, 0.5, "b2")
    assert (alone.view.nodes[0].boot, alone.alive, alone.view.nodes[0].twin) == ("b2", True, False)


def test_of_two_machines_of_one_name_the_first_goes_on_and_the_second_is_named_and_not_heard() -> None:
    alone = Alone()
    alone.feed(beat(9))
    following = speaks(alone, 1.0, BOOT, "copy")
    assert (alone.view.nodes[0].boot, alone.alive, alone.view.nodes[0].twin) == (BOOT, True, True)
    following = speaks(alone, 4.0, BOOT, first=following)
    assert not alone.view.nodes[0].twin, "it was taken off the network"
    speaks(alone, 1.0, BOOT, "copy", first=following)
    assert alone.view.nodes[0].twin


def test_a_restarted_hbd_is_heard_within_its_boot() -> None:
    """Its sequence starts at the clock, so above all that it sent before."""
    before = Alone()
    before.until(55.0)
    highest = max(send.message.sequence for send in before.last.send)
    after = Detector(cluster("ab"), NodeName("a"), BootId("a1"), Random(2)).start(55.01)
    assert min(send.message.sequence for send in after.send) > highest


def test_goodbye_counts_at_once_and_is_not_undone_by_a_straggler() -> None:
    alone = Alone()
    alone.feed(beat(5), Received(OTHER, Goodbye(A, BOOT, 7)))
    assert (alone.alive, alone.view.nodes[0].left) == (False, True)
    alone.feed(beat(6, link=B))
    assert alone.view.nodes[0].left
    alone.feed(beat(8))
    assert (alone.alive, alone.view.nodes[0].left) == (True, False)


def test_stopping_says_goodbye_on_every_link_and_then_nothing() -> None:
    alone = Alone("abc")
    alone.feed(Noted(Stopping()))
    assert {(send.node, send.message.link) for send in alone.last.send} == {(n, x) for n in "bc" for x in "AB"}
    assert all(isinstance(send.message, Goodbye) for send in alone.last.send)
    alone.feed(Woke(), beat(1))
    assert alone.last.send == ()


@pytest.mark.parametrize("timer_first", [True, False])
def test_own_pause_kills_nobody(timer_first: bool) -> None:
    alone = Alone()
    alone.feed(beat(1))
    alone.now += 10.0
    waiting: list[Event] = [beat(2), beat(3)]
    alone.deaths = 0
    alone.feed(*([Woke(), *waiting] if timer_first else [*waiting, Woke()]))
    assert alone.alive
    assert alone.deaths == 0, "not even for a moment"
    alone.until(alone.now + 0.299)
    assert alone.alive
    alone.until(alone.now + 0.11)
    assert not alone.alive


def test_after_a_pause_the_silent_are_found_dead_in_bounded_time() -> None:
    alone = Alone()
    alone.feed(beat(1))
    alone.now += 10.0
    alone.feed(Woke())
    alone.until(alone.now + 0.41)
    assert not alone.alive


def test_a_node_that_is_always_late_still_finds_the_dead() -> None:
    alone = Alone()
    alone.feed(beat(1))
    heard = alone.now
    while alone.alive:
        assert alone.last.wake_at is not None
        alone.now = alone.last.wake_at + 0.06
        alone.feed(Woke())
    assert alone.now - heard < 1.0


def test_lateness_up_to_half_an_interval_is_nothing() -> None:
    alone = Alone()
    alone.feed(beat(1))
    heard = alone.now
    while alone.alive:
        assert alone.last.wake_at is not None
        alone.now = alone.last.wake_at + 0.02
        alone.feed(Woke())
    assert alone.now - heard < 0.34


def test_unknown_senders_and_links_are_faults() -> None:
    alone = Alone()
    alone.feed(Received(NodeName("z"), Heartbeat(A, BOOT, 1, True)), beat(1, link=LinkName("Z")))
    assert (alone.core.faults, alone.alive) == (2, False)


def test_subscribers_are_bounded_and_forgotten_when_they_leave() -> None:
    alone = Alone()
    for number in range(MAX_SUBSCRIBERS - 1):
        alone.feed(Told(f"command-{number}", Subscribe()))
    alone.feed(beat(1))
    refused = alone.core.handle(Told("one-more", Subscribe()), alone.now)
    assert isinstance(refused.tell[0].message, Refused)
    alone.feed(Left("command-0"), Told("one-more", Subscribe()))
    assert alone.last.tell[0].message == alone.view
    assert "command-0" not in {tell.who for tell in alone.core.handle(beat(1, link=B), alone.now).tell}


def test_observers_only_speak_with_voters() -> None:
    large = cluster("abcdefghijkl")
    assert peers_of(large, NodeName("l")) == tuple("abcdefg")
    assert peers_of(large, NodeName("a")) == tuple("bcdefghijkl")


def test_many_sends_are_spread_over_the_interval() -> None:
    alone = Alone("abcdefghijklmnopqrstuvwxyz", node="a")
    sizes = []
    for _ in range(4):
        assert alone.last.wake_at is not None
        alone.until(alone.last.wake_at)
        sizes.append(len(alone.last.send))
    assert sum(sizes) == 2 * 25
    assert max(sizes) <= 16


# ---- conversations --------------------------------------------------------------------------------------------------


def form(names: str, links: str = "AB") -> HeartbeatNet:
    net = HeartbeatNet(names, links)
    for name in names:
        net.boot(name, f"{name}1")
    net.run(1.0)
    return net


def scenario_power_cut(net: HeartbeatNet) -> None:
    net.kill("b")


def scenario_reboot_faster_than_detection(net: HeartbeatNet) -> None:
    net.kill("b")
    net.run(0.1)
    net.boot("b", "b2")


def scenario_hbd_restarts(net: HeartbeatNet) -> None:
    net.kill("b")
    net.run(0.1)
    net.boot("b", "b1")


def scenario_one_link_of_two(net: HeartbeatNet) -> None:
    net.cut("a", "b", "A")
    net.cut("b", "a", "A")
    net.run(1.0)
    net.heal()


def scenario_one_way_cut(net: HeartbeatNet) -> None:
    net.cut("a", "b")
    net.run(1.0)
    net.heal()


def scenario_goodbye(net: HeartbeatNet) -> None:
    net.stop("b")
    net.run(1.0)
    net.boot("b", "b1")


def scenario_pause(net: HeartbeatNet) -> None:
    net.pause("b")
    net.run(2.0)
    net.resume("b")


SCENARIOS = {name[9:]: function for name, function in sorted(globals().items()) if name.startswith("scenario_")}


@pytest.mark.parametrize("name", SCENARIOS)
def test_conversation(name: str, request: pytest.FixtureRequest) -> None:
    net = form("abc")
    net.told.append(f"--- {name}")
    SCENARIOS[name](net)
    net.run(1.5)
    compare(f"detector_{name}", net.told, bool(request.config.getoption("--rewrite")))


def test_all_see_all_within_one_interval_of_the_last_start() -> None:
    net = HeartbeatNet("abcdefgh")
    for name in "abcdefgh":
        net.boot(name, f"{name}1")
    net.run(0.1)
    assert all(net.alive(name) == "abcdefgh".replace(name, "") for name in "abcdefgh")


def test_a_restart_of_hbd_within_100_ms_is_not_seen_by_others() -> None:
    for pause in (0.01, 0.05, 0.09):
        net = form("abc")
        told = len([line for line in net.told if " a: " in line])
        scenario = net.kill
        scenario("b")
        net.run(pause)
        net.boot("b", "b1")
        net.run(1.0)
        assert len([line for line in net.told if " a: " in line]) == told, net.told


@pytest.mark.parametrize("seed", range(20))
def test_heavy_loss_on_both_links_raises_no_false_alarm(seed: int) -> None:
    """10 % on each: that three heartbeats in a row are lost on both links is one in a million."""
    random = Random(seed)
    net = form("abcd")
    told = len(net.told)
    net.drop = lambda sender, receiver, message: random.random() < 0.10
    net.run(10.0)
    assert all(len(net.alive(name)) == 3 for name in "abcd")
    assert not [line for line in net.told[told:] if "-----" in line]


def test_sends_stay_at_the_pace_of_the_interval() -> None:
    net = form("abcd")
    before = net.sent
    net.run(10.0)
    assert net.sent - before <= 100 * 4 * 3 * 2 * 1.02


@pytest.mark.parametrize("seed", range(5))
def test_all_fall_into_step(seed: int) -> None:
    """However far apart they started: what one interval's heartbeats take is a few flights long."""
    random = Random(seed)
    net = HeartbeatNet("abcde", seed=seed)
    for name in "abcde":
        net.boot(name, f"{name}1")
        net.run(random.uniform(0.0, 0.1))
    net.run(1.0)
    sent: list[float] = []
    net.drop = lambda sender, receiver, message: sent.append(net.now) is not None
    net.run(1.0)
    bursts = sum(1 for earlier, later in pairwise(sent) if later - earlier > 0.01) + 1
    assert bursts <= 11


def test_a_beat_of_another_is_followed_in_the_second_half_of_the_interval_only() -> None:
    alone = Alone(links="A")
    alone.feed(beat(1))
    tick = alone.last.wake_at
    assert tick is not None
    alone.until(tick)
    alone.feed(beat(2))
    assert not alone.last.send
    alone.now += 0.049
    alone.feed(beat(3))
    assert not alone.last.send
    alone.now += 0.002
    alone.feed(beat(4))
    assert len(alone.last.send) == 1
    assert alone.last.wake_at == pytest.approx(alone.now + 0.1)
    alone.feed(beat(5))
    assert not alone.last.send


def test_who_always_follows_still_finds_the_dead() -> None:
    """Its own beat is never due, as another's always comes before."""
    alone = Alone("abc")
    c = NodeName("c")
    alone.feed(beat(1), Received(c, Heartbeat(A, BootId("c1"), 1, True)))
    assert {node.node for node in alone.view.nodes if node.alive} == {OTHER, c}
    for number in range(2, 12):
        alone.until(alone.now + 0.06)
        alone.feed(beat(number))
    assert {node.node for node in alone.view.nodes if node.alive} == {OTHER}


def test_a_one_way_cut_does_not_set_off_a_storm() -> None:
    net = form("ab")
    net.cut("a", "b")
    before = net.sent
    net.run(10.0)
    assert net.sent - before <= 100 * 2 * 2 * 2


@pytest.mark.parametrize("seed", range(10))
def test_after_healing_all_see_all_again(seed: int) -> None:
    random = Random(seed)
    net = form("abcd")
    for _ in range(20):
        net.cut(random.choice("abcd"), random.choice("abcd"), random.choice(["A", "B", "AB"]))
        net.run(random.uniform(0.0, 0.5))
        if random.random() < 0.3:
            net.heal()
    net.heal()
    net.run(0.5)
    assert all(len(net.alive(name)) == 3 for name in "abcd")


# ---- drawn events ---------------------------------------------------------------------------------------------------

EVENTS = st.one_of(
    st.builds(
        Received,
        st.sampled_from([NodeName("a"), OTHER, NodeName("c"), NodeName("z")]),
        st.one_of(
            st.builds(
                Heartbeat,
                st.sampled_from([A, B, LinkName("Z")]),
                st.sampled_from([BootId("1"), BootId("2"), BootId("3")]),
                st.integers(0, 50),
                st.booleans(),
            ),
            st.builds(
                Goodbye, st.sampled_from([A, B]), st.sampled_from([BootId("1"), BootId("2")]), st.integers(0, 50)
            ),
        ),
    ),
    st.just(Woke()),
    st.builds(Told, st.sampled_from(["lockd", "netd"]), st.just(Subscribe())),
    st.builds(Left, st.sampled_from(["lockd", "netd"])),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0.0, 0.4)), max_size=60))
def test_whatever_comes_the_view_holds(events: list[tuple[Event, float]]) -> None:
    """Alive means a link is up; a link that is up was confirmed not longer ago than our own slowness excuses."""
    core = Detector(cluster("abc", timing=Timing()), NodeName("a"), BootId("a1"), Random(1))
    now = 50.0
    core.start(now)
    seen = View(())
    for event, pause in events:
        now += pause
        output = core.handle(event, now)
        for tell in output.tell:
            seen = tell.message
        assert output.wake_at is not None
        assert not output.save
        assert not output.do
        for node in seen.nodes:
            assert node.alive == any(link.up for link in node.links)
            assert not (node.alive and node.left)
    # Nobody speaks any more: within a bounded number of timely wakes nobody is alive.
    core.handle(Told("end", Subscribe()), now)
    for _ in range(60):
        output = core.handle(Woke(), now)
        assert output.wake_at is not None
        now = max(now, output.wake_at)
    final = core.handle(Told("end", Subscribe()), now).tell[0].message
    assert not any(node.alive for node in final.nodes)


def test_a_verdict_says_when_the_node_was_last_heard_and_no_other_time() -> None:
    alone = Alone("abc")
    alone.feed(beat(1))
    alone.until(50.1)
    alone.feed(beat(2, link=B))
    alone.until(50.35)
    assert [node.heard for node in alone.view.nodes] == [0.0, 0.0]
    alone.until(51.0)
    assert [(node.alive, node.heard) for node in alone.view.nodes] == [(False, 50.1), (False, 0.0)]
    alone.feed(beat(3, hears=False))  # a one-way cut: it is heard again, and the verdict stays what it was
    alone.feed(Received(NodeName("c"), Heartbeat(A, BootId("c1"), 1, True)))
    assert [(node.alive, node.heard) for node in alone.view.nodes] == [(False, 50.1), (True, 0.0)]


# ---- another configuration ------------------------------------------------------------------------------------------


def reconfigured(names: str) -> Told:
    return Told(SYNCD, NewConfiguration(Configuration(cluster=cluster(names, "AB"))))


def test_a_node_that_comes_is_greeted_and_what_is_known_of_the_others_stays() -> None:
    alone = Alone()
    alone.feed(beat(1), beat(2, link=B))
    alone.until(50.4)
    alone.feed(beat(3), beat(4, link=B))
    assert alone.alive
    alone.feed(reconfigured("abc"))
    assert [send.node for send in alone.last.send] == ["c", "c"]
    assert [(node.node, node.alive) for node in alone.view.nodes] == [("b", True), ("c", False)]


def test_a_node_that_goes_is_heard_no_more() -> None:
    alone = Alone("abc")
    alone.feed(reconfigured("ac"))
    faults = alone.core.faults
    alone.feed(beat(1))
    assert alone.core.faults == faults + 1
    alone.until(50.4)
    assert [node.node for node in alone.view.nodes] == ["c"]


def test_a_configuration_without_this_node_changes_nothing() -> None:
    alone = Alone("abc")
    alone.feed(reconfigured("bc"))
    alone.until(50.4)
    assert [node.node for node in alone.view.nodes] == ["b", "c"]
