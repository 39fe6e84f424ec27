"""hbd's whole core: who is alive, seen over every link, and the view of it that the other daemons follow.

A heartbeat goes to every peer over every link, once an interval. It says whether its sender hears the other on that
link, so that a one-way cut is seen from both ends:

* a link is *up* while the peer's "I hear you" came in over it within the detection time;
* a peer is *alive* while one link is up. It is dead when none is: nothing heard for `timing.detection` seconds, or,
  after a one-way cut, that long after the peer itself noticed (so twice the detection time at most);
* a new boot id of a peer means that it died and came back, once nothing more is heard of the boot before it. While both
  are heard there are two machines of that name (one was copied from the other): the first goes on, the second is not
  listened to, and the view says so.

Own slowness is distrusted first (after memberlist's awareness: Dadgar et al. 2017, "Lifeguard"). When this core is
called later than it asked to be, by more than half an interval, it was this node that was away, not everybody else:
every deadline moves by that lateness, and once in a detection time a grace of one interval comes on top, in which what
waits in the sockets' queues can be read. Lateness moves deadlines, it never suspends them: a peer that is really dead
is found dead after a bounded number of late calls.

All nodes fall into step: who hears a heartbeat in the second half of its own interval sends at once (fireflies: Mirollo
and Strogatz 1990, with a coupling so strong that two beats suffice; Babaoglu et al. 2007 for heartbeats of a network).
What all send and receive then comes in one burst, in which every node's hbd is awake anyway: what an idle node costs is
how often it wakes. The half in which it does not listen bounds the pace: never more than two beats in an interval.

Sequence numbers rise through every start of hbd within a boot, because they start at the clock (microseconds of
CLOCK_BOOTTIME, far more than datagrams are sent). So a datagram that was seen, or overtaken on its link, is told apart
without a journal. A boot id once replaced is not believed again while its successor is alive.

The first view is told when every peer is alive, or a detection time after the start: a restarted hbd, which has heard
nobody yet, must not look like the death of all other nodes.

Goodbye: `Noted(Stopping())` makes a peer's view say *left* at once instead of *dead* after the detection time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from random import Random

import msgspec

from truecl.core.contract import NOTHING, Event, Joined, Left, Noted, Output, Received, Send, Tell, Told, Woke
from truecl.model.config import ClusterConfig
from truecl.model.ids import SYNCD, BootId, LinkName, NodeName
from truecl.wire.messages import Goodbye, Heartbeat, LinkView, NewConfiguration, NodeView, Refused, Subscribe, View

MAX_SUBSCRIBERS = 64
MAX_RETIRED_BOOTS = 32
"""Old boot ids remembered of each peer."""
SENDS_PER_TICK = 16
"""A node with more datagrams than this to send in one interval spreads them over several ticks."""
MAX_TICKS = 8
"""Ticks in one interval, at most."""
TWIN_MEMORY = 10
"""Detection times after which a second machine of a name that is not heard any more is forgotten."""
GOODBYES = 2
"""Times it is said on each link."""


class Stopping(msgspec.Struct, frozen=True, tag=True):
    """`Noted`: hbd is being ended in good order. It says goodbye, and nothing after it."""


class PeerState(StrEnum):
    UNHEARD = "unheard"
    """Since this hbd's start, or since the peer's new boot."""
    ALIVE = "alive"
    DEAD = "dead"
    LEFT = "left"


class Sign(StrEnum):
    CONFIRMED = "confirmed"
    """It was heard, and says that it hears us."""
    SILENT = "silent"
    """No link was confirmed within the detection time."""
    GOODBYE = "goodbye"
    REBORN = "reborn"
    """It has a boot id that it did not have before."""


TRANSITIONS: dict[tuple[PeerState, Sign], PeerState] = {
    (PeerState.UNHEARD, Sign.CONFIRMED): PeerState.ALIVE,
    (PeerState.UNHEARD, Sign.GOODBYE): PeerState.LEFT,
    (PeerState.ALIVE, Sign.SILENT): PeerState.DEAD,
    (PeerState.ALIVE, Sign.GOODBYE): PeerState.LEFT,
    (PeerState.ALIVE, Sign.REBORN): PeerState.UNHEARD,
    (PeerState.DEAD, Sign.CONFIRMED): PeerState.ALIVE,
    (PeerState.DEAD, Sign.GOODBYE): PeerState.LEFT,
    (PeerState.DEAD, Sign.REBORN): PeerState.UNHEARD,
    (PeerState.LEFT, Sign.CONFIRMED): PeerState.ALIVE,
    (PeerState.LEFT, Sign.REBORN): PeerState.UNHEARD,
}
"""A pair that is not here changes nothing."""


def step(state: PeerState, sign: Sign) -> PeerState:
    return TRANSITIONS.get((state, sign), state)


@dataclass(slots=True)
class _Link:
    """One path to one peer. Times are None where it never happened."""

    name: LinkName
    heard: float | None = None
    confirmed: float | None = None
    """When it last said that it hears us."""
    sequence: int = -1
    """The highest seen here, in the peer's present boot."""
    said: bool = False
    """What our last heartbeat on it said of hearing the peer."""
    prompted: float = float("-inf")
    """When a heartbeat was last sent out of turn."""
    up: bool = False


@dataclass(slots=True)
class _Peer:
    node: NodeName
    links: dict[LinkName, _Link]
    tick: int
    """In which tick of the interval it is written to."""
    state: PeerState = PeerState.UNHEARD
    boot: BootId | None = None
    floor: int = -1
    """No datagram below this sequence counts any more: it said goodbye there."""
    heard: float = 0.0
    """When the last of it came in, on whichever link; not moved by this node's own slowness."""
    silent_since: float = 0.0
    """`heard` as it was when it was found dead."""
    rival: BootId | None = None
    """Another boot that speaks while the present one is alive."""
    rival_since: float = 0.0
    rival_heard: float = float("-inf")
    twin: bool = False
    """Both have been heard for longer than the detection time."""
    retired: dict[BootId, int] = field(default_factory=dict)
    """Boots that were replaced, and the highest sequence seen of each."""


class Detector:
    """`faults` counts what was received and could not be meant: unknown peers, links, old boots, replays."""

    def __init__(self, cluster: ClusterConfig, node: NodeName, boot: BootId, random: Random) -> None:
        self._interval = cluster.timing.heartbeat
        self._detection = cluster.timing.detection
        self._node = node
        self._boot = boot
        self._random = random
        self._peers: dict[NodeName, _Peer] = {}
        self._ticks, self._tick = 1, 0
        self._meet(_peers_of(cluster, node))
        self._next_tick = 0.0
        self._deadline = float("inf")
        """No link's time is over before: as of the last look at them."""
        self._wake_at: float | None = None
        self._sequence = 0
        self._grace_until = float("-inf")
        self._graced = float("-inf")
        self._subscribers: list[str] = []
        self._view = View(())
        self._changed = False
        self._listening_until: float | None = None
        """Nobody is told anything before; None: over."""
        self._stopped = False
        self._sends: list[Send] = []
        self._tells: list[Tell] = []
        self.faults = 0

    def _meet(self, peers: dict[NodeName, _Peer]) -> None:
        """Exchange heartbeats with these from now on; of those that are known, over the same links, all stays known."""
        for name, peer in self._peers.items():
            if name in peers and list(peers[name].links) == list(peer.links):
                peers[name] = peer
        self._peers = peers
        sends = sum(len(peer.links) for peer in peers.values())
        self._ticks = max(1, min(MAX_TICKS, ceil(sends / SENDS_PER_TICK)))
        self._tick %= self._ticks
        for place, peer in enumerate(peers.values()):
            peer.tick = place % self._ticks

    # ---- the contract --------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        """Every peer is greeted on every link at once; from then on by the interval."""
        self._sequence = int(now * 1_000_000)
        for peer in self._peers.values():
            for link in peer.links.values():
                self._heartbeat(peer, link, now)
        self._view = self._look()
        self._listening_until = now + self._detection
        self._next_tick = now + self._interval * self._random.uniform(0.25, 1.0)
        return self._output(self._next_tick)

    def handle(self, event: Event, now: float) -> Output:
        if self._stopped:
            return NOTHING
        self._forgive_lateness(now)
        match event:
            case Received(node, Heartbeat() as message):
                self._heard(node, message, now)
            case Received(node, Goodbye() as message):
                self._left(node, message, now)
            case Told(who, Subscribe()):
                self._subscribe(who)
            case Left(who):
                self._subscribers = [each for each in self._subscribers if each != who]
            case Noted(Stopping()):
                return self._stop()
            case Woke():
                return self._woke(now)
            case Joined(who):
                if who == SYNCD:
                    self._tells.append(Tell(SYNCD, Subscribe()))
            case Told(who, NewConfiguration(configuration)) if who == SYNCD:
                self._reconfigure(configuration.cluster, now)
            case _:
                self.faults += 1
        self._publish_changes(now)
        return self._output(self._next_wake())

    def _reconfigure(self, cluster: ClusterConfig, now: float) -> None:
        """Nodes come and go; the rhythm stays as it is until this daemon starts again."""
        if all(node.name != self._node for node in cluster.nodes):
            return
        known = self._peers
        self._meet(_peers_of(cluster, self._node))
        for name, peer in self._peers.items():
            if known.get(name) is not peer:
                self._changed = True
                for link in peer.links.values():
                    self._heartbeat(peer, link, now)
        self._changed = self._changed or list(known) != list(self._peers)

    # ---- sending -------------------------------------------------------------------------------------------------

    def _woke(self, now: float) -> Output:
        """The clock decides: send what is due, look at every deadline, wake again at the next of either."""
        if now >= self._next_tick:
            self._beat(now)
        self._judge(now)
        self._publish_changes(now)
        return self._output(self._next_wake())

    def _next_wake(self) -> float:
        return min(self._next_tick, self._deadline, self._listening_until or self._next_tick)

    def _beat(self, now: float) -> None:
        for peer in self._peers.values():
            if peer.tick == self._tick:
                for link in peer.links.values():
                    self._heartbeat(peer, link, now)
        self._tick = (self._tick + 1) % self._ticks
        pace = self._interval / self._ticks
        self._next_tick += pace
        if self._next_tick <= now:
            # Too late for the old rhythm. No burst to make up for it.
            self._next_tick = now + pace

    def _fall_in_step(self, now: float) -> None:
        """With the peer that was just heard. (Not where the sends are spread over the interval on purpose.)"""
        if self._ticks == 1 and now >= self._next_tick - self._interval / 2:
            self._next_tick = now
            self._beat(now)

    def _heartbeat(self, peer: _Peer, link: _Link, now: float) -> None:
        self._sequence += 1
        link.said = link.heard is not None and now - link.heard < self._detection
        self._sends.append(Send(peer.node, Heartbeat(link.name, self._boot, self._sequence, link.said)))

    def _prompt(self, peer: _Peer, link: _Link, now: float) -> None:
        """A heartbeat out of turn, so that a node (or an hbd) that came up is known after a round trip.

        Half an interval apart at the least, so that two nodes can never set each other off.
        """
        if now - link.prompted >= self._interval / 2:
            link.prompted = now
            self._heartbeat(peer, link, now)

    def _stop(self) -> Output:
        self._stopped = True
        for _ in range(GOODBYES):
            for peer in self._peers.values():
                for name in peer.links:
                    self._sequence += 1
                    self._sends.append(Send(peer.node, Goodbye(name, self._boot, self._sequence)))
        return self._output(None)

    # ---- hearing -------------------------------------------------------------------------------------------------

    def _admit(self, node: NodeName, message: Heartbeat | Goodbye, now: float) -> tuple[_Peer, _Link] | None:
        """The peer and link of a datagram that is new; None for one that must not count. Takes over a new boot."""
        peer = self._peers.get(node)
        link = peer.links.get(message.link) if peer is not None else None
        if peer is None or link is None or self._outdated(peer, message):
            self.faults += 1
            return None
        if message.boot != peer.boot:
            if peer.state is PeerState.ALIVE:
                self._compete(peer, message.boot, now)
                return None
            self._take_boot(peer, message.boot)
        if message.sequence <= link.sequence or message.sequence < peer.floor:
            self.faults += 1
            return None
        link.sequence = message.sequence
        return peer, link

    def _compete(self, peer: _Peer, boot: BootId, now: float) -> None:
        """A reboot is quicker than the detection time, or two machines have one name: that, if both go on."""
        self.faults += 1
        if peer.rival != boot or now - peer.rival_heard > self._detection:
            peer.rival, peer.rival_since = boot, now
        peer.rival_heard = now
        if not peer.twin and peer.heard - peer.rival_since > self._detection:
            peer.twin = self._changed = True

    def _outdated(self, peer: _Peer, message: Heartbeat | Goodbye) -> bool:
        """Of a boot that was replaced.

        A late datagram of an older boot may have replaced the living one here (a new hbd knows no history): so that one
        is believed again if it goes on sending while its successor does not.
        """
        seen = peer.retired.get(message.boot)
        return seen is not None and (peer.state is PeerState.ALIVE or message.sequence <= seen)

    def _take_boot(self, peer: _Peer, boot: BootId) -> None:
        peer.retired.pop(boot, None)
        if peer.boot is not None:
            peer.retired[peer.boot] = max(link.sequence for link in peer.links.values())
            if len(peer.retired) > MAX_RETIRED_BOOTS:
                del peer.retired[next(iter(peer.retired))]
            self._turn(peer, Sign.REBORN)
        peer.boot, peer.rival = boot, None
        self._changed = True
        peer.floor = -1
        for link in peer.links.values():
            link.heard = link.confirmed = None
            link.sequence = -1
            link.up = False

    def _heard(self, node: NodeName, message: Heartbeat, now: float) -> None:
        admitted = self._admit(node, message, now)
        if admitted is None:
            return
        peer, link = admitted
        link.heard = peer.heard = now
        if message.hears_you:
            link.confirmed = now
            self._deadline = min(self._deadline, now + self._detection)
            if not link.up:
                link.up = self._changed = True
            self._turn(peer, Sign.CONFIRMED)
        if not link.said or not message.hears_you:
            self._prompt(peer, link, now)
        self._fall_in_step(now)

    def _left(self, node: NodeName, message: Goodbye, now: float) -> None:
        admitted = self._admit(node, message, now)
        if admitted is None:
            return
        peer, _ = admitted
        peer.floor = message.sequence
        self._turn(peer, Sign.GOODBYE)
        for link in peer.links.values():
            link.heard = link.confirmed = None
            link.up = False
        self._changed = True

    def _turn(self, peer: _Peer, sign: Sign) -> None:
        state = step(peer.state, sign)
        if state is not peer.state:
            peer.state = state
            self._changed = True

    # ---- judging -------------------------------------------------------------------------------------------------

    def _forgive_lateness(self, now: float) -> None:
        """If we were called much later than we asked, all deadlines move by as much."""
        late = 0.0 if self._wake_at is None else now - self._wake_at
        if late <= self._interval / 2:
            return
        if now - self._graced > self._detection:
            self._graced = now
            self._grace_until = now + self._interval
        for peer in self._peers.values():
            for link in peer.links.values():
                if link.heard is not None:
                    link.heard = min(now, link.heard + late)
                if link.confirmed is not None:
                    link.confirmed = min(now, link.confirmed + late)
        # Counted once, whichever event it was that came late.
        self._deadline += late
        self._next_tick = max(self._next_tick, now)

    def _judge(self, now: float) -> None:
        """Take down links and peers whose time is over. Only when woken: what waited in the sockets is read by then."""
        self._deadline = float("inf")
        for peer in self._peers.values():
            for link in peer.links.values():
                if not link.up or link.confirmed is None:
                    continue
                deadline = max(link.confirmed + self._detection, self._grace_until)
                if deadline <= now:
                    link.up = False
                    self._changed = True
                else:
                    self._deadline = min(self._deadline, deadline)
            if peer.state is PeerState.ALIVE and not any(link.up for link in peer.links.values()):
                if peer.rival is not None and now - peer.rival_heard <= self._detection:
                    self._take_boot(peer, peer.rival)  # it rebooted, quicker than its silence was noticed
                else:
                    peer.silent_since = peer.heard
                    self._turn(peer, Sign.SILENT)
            if peer.twin and now - peer.rival_heard > TWIN_MEMORY * self._detection:
                peer.twin, self._changed = False, True

    # ---- telling -------------------------------------------------------------------------------------------------

    def _subscribe(self, who: str) -> None:
        if who not in self._subscribers:
            if len(self._subscribers) >= MAX_SUBSCRIBERS:
                self._tells.append(Tell(who, Refused(f"hbd has {MAX_SUBSCRIBERS} subscribers already")))
                return
            self._subscribers.append(who)
        if self._listening_until is None:
            self._tells.append(Tell(who, self._view))

    def _publish_changes(self, now: float) -> None:
        if self._listening_until is not None:
            everybody = all(peer.state is PeerState.ALIVE for peer in self._peers.values())
            if not everybody and now < self._listening_until:
                return
            self._listening_until = None
            self._changed = False
            self._view = self._look()
            self._tells.extend(Tell(who, self._view) for who in self._subscribers)
        if not self._changed:
            return
        self._changed = False
        view = self._look()
        if view != self._view:
            self._view = view
            self._tells.extend(Tell(who, view) for who in self._subscribers)

    def _look(self) -> View:
        return View(tuple(_seen(peer) for peer in self._peers.values()))

    def _output(self, wake_at: float | None) -> Output:
        output = Output(send=tuple(self._sends), tell=tuple(self._tells), wake_at=wake_at)
        self._sends, self._tells = [], []
        self._wake_at = wake_at
        return output


def _seen(peer: _Peer) -> NodeView:
    return NodeView(
        node=peer.node,
        # A boot with `alive` False is a verdict. Who has just begun to speak was not alive yet, so that none is due.
        boot=peer.boot if peer.state is not PeerState.UNHEARD or peer.retired else None,
        alive=peer.state is PeerState.ALIVE,
        links=tuple(LinkView(link.name, link.up) for link in peer.links.values()),
        left=peer.state is PeerState.LEFT,
        heard=peer.silent_since if peer.state is PeerState.DEAD else 0.0,
        twin=peer.twin,
    )


def peers_of(cluster: ClusterConfig, node: NodeName) -> tuple[NodeName, ...]:
    """Who exchanges heartbeats with `node`: a voter with all, an observer with the voters. In the file's order."""
    voters = cluster.voters
    return tuple(each.name for each in cluster.nodes if each.name != node and (node in voters or each.name in voters))


def _peers_of(cluster: ClusterConfig, node: NodeName) -> dict[NodeName, _Peer]:
    own = cluster.node(node).addresses
    peers = {}
    for name in peers_of(cluster, node):
        shared = _shared((link.name for link in cluster.links), own, cluster.node(name).addresses)
        peers[name] = _Peer(name, {link: _Link(link) for link in shared}, tick=0)
    return peers


def _shared(names: Iterable[LinkName], own: dict[LinkName, str], other: dict[LinkName, str]) -> list[LinkName]:
    return [name for name in names if name in own and name in other]
