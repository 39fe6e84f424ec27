"""Random faults: loss, doubling, reordering, cuts, crashes between save and send, drifting clocks, compaction."""

from random import Random

import pytest
from raft_cluster import Cluster, Node

from truecl.core.raft import Role, Step
from truecl.model.config import Timing
from truecl.model.ids import NodeName
from truecl.model.membership import Membership

DRIFT = 0.05
STALE = 2.0
"""Seconds after which no lease (750 ms) of a round can still run; until then two clocks run DRIFT apart at most."""


class Checker:
    """The paper's figure 3, and the bound of old leases (SAFETY.md section 2), after every step."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.leaders: dict[int, NodeName] = {}
        self.committed: dict[int, tuple[int, int, bytes]] = {}
        self.votes: dict[tuple[NodeName, int], NodeName] = {}
        self.rounds: dict[tuple[NodeName, int, int], float] = {}
        """(leader, term, round) -> true time of its start"""
        self.completed: list[tuple[int, float]] = []
        """(term, true time of the start) of rounds that a quorum acknowledged"""
        self.bounds: list[tuple[int, float, float]] = []
        """(term, true time, when it was elected) of every leader's lease bound"""
        self.elections = self.snapshots = self.reshapes = 0
        cluster.observers.append(self)

    def begin_round(self, name: NodeName) -> None:
        raft = self.cluster.raft(name)
        number = raft.start_round(self.cluster.clock(name))
        if number:
            self.rounds[name, raft.term, number] = self.cluster.now

    def reshape(self, random: Random, name: NodeName, names: list[NodeName]) -> None:
        """Some change at random, one node at a time or not."""
        raft = self.cluster.raft(name)
        before = raft.membership
        voters, observers = list(before.voters), list(raft.membership.observers)
        for _ in range(random.choice([1, 1, 1, 2])):
            node = random.choice(names)
            if node in voters:
                voters.remove(node)
                observers.append(node)
            elif node in observers:
                observers.remove(node)
                if random.random() < 0.7 and len(voters) < 7:
                    voters.append(node)
            else:
                observers.append(node)
        if len(before.voters) == 2 and len(voters) != 2 and not before.together:
            voters, observers, together = list(before.voters), list(before.observers), True
        else:
            together = len(voters) == 2
        problem = raft.reshape(Membership(tuple(voters), tuple(observers), None, together), self.cluster.clock(name))
        if not problem:
            self.reshapes += 1
            assert len({*before.voters} ^ {*raft.membership.voters}) <= 1

    def __call__(self, node: Node, step: Step) -> None:
        raft = node.raft
        assert raft.faults == 0
        self.snapshots += step.snapshot is not None
        vote = self.votes.setdefault((node.name, raft.term), raft.voted_for)
        if vote is None:
            self.votes[node.name, raft.term] = raft.voted_for
        else:
            assert vote == raft.voted_for
        if raft.role is Role.LEADER:
            if raft.term not in self.leaders:
                self.elections += 1
                self.check_complete(raft.log)
                rate = 1 + self.cluster.skew.get(node.name, 0.0)
                age = (self.cluster.clock(node.name) - raft.lease_bound) / rate
                self.bounds.append((raft.term, self.cluster.now - age, self.cluster.now))
                for term, started in self.completed:
                    self.check_bound(term, started, *self.bounds[-1])
            assert self.leaders.setdefault(raft.term, node.name) == node.name
        self.check_commits(raft.log)
        if step.completed_round:
            started = max(
                (at for (name, term, number), at in self.rounds.items()
                 if name == node.name and term == raft.term and number <= step.completed_round),
                default=None,
            )  # fmt: skip
            if started is not None:
                self.completed.append((raft.term, started))
                for bound in self.bounds:
                    self.check_bound(raft.term, started, *bound)

    def check_bound(self, term: int, started: float, later: int, bound: float, elected: float) -> None:
        """No lease that a round of `term` renewed may count from later than the next leaders believe."""
        assert term >= later or started <= bound + 1e-9 or elected - started > STALE

    def check_commits(self, log) -> None:
        for index in range(max(log.first, log.commit - 20), log.commit + 1):
            entry = log.entry(index)
            known = self.committed.setdefault(index, (entry.term, entry.kind, entry.payload))
            assert known == (entry.term, entry.kind, entry.payload), f"entry {index} changed"

    def check_complete(self, log) -> None:
        """Leader completeness: whatever anybody committed is in a new leader's log."""
        for index, (term, _, _) in self.committed.items():
            if index >= log.first:
                assert log.term_at(index) == term, f"the leader lacks entry {index}"
            else:
                assert index <= log.snapshot.index

    def check_matching(self) -> None:
        """Log matching: equal index and term, equal everything before."""
        logs = [node.raft.log for node in self.cluster.nodes.values() if node.raft is not None]
        for place, one in enumerate(logs):
            for other in logs[place + 1 :]:
                same = False
                for index in range(min(one.last_index, other.last_index), max(one.first, other.first) - 1, -1):
                    mine, its = one.entry(index), other.entry(index)
                    if same or mine.term == its.term:
                        same = True
                        assert mine == its


def play(seed: int, events: int) -> Checker:
    random = Random(seed)
    voters = random.choice([1, 2, 3, 3, 4, 5, 5, 7])
    observers = random.choice([0, 0, 1, 2])
    later = random.choice([0, 0, 1, 2, 3])
    names = [NodeName(f"n{number}") for number in range(voters + observers + later)]
    founders = names[: voters + observers]
    membership = Membership(tuple(names[:voters]), tuple(founders[voters:]))
    unborn = random.sample(names[:voters], random.randint(0, (voters - 1) // 2))
    """Founders that start for the first time when others were added, and think that all of them are voters."""
    cluster = Cluster(seed, Timing(drift=DRIFT), encode=random.random() < 0.3)
    cluster.skew = {name: random.choice([-1, 0, 1]) * DRIFT / (2 * STALE) for name in names}
    checker = Checker(cluster)
    for name in names:
        if name in unborn:
            cluster.nodes[name] = Node(name, Membership(tuple(names[:7])))
        else:
            founds = name in membership.voters or (name in founders and random.random() < 0.9)
            cluster.add(name, membership if founds else Membership())
    loss, double, reorder = random.choice([0, 0.05, 0.3]), random.choice([0, 0.1]), random.choice([0, 0.3, 0.9])
    cuts: dict[tuple[NodeName, NodeName], float] = {}
    for number in range(events):
        name = random.choice(names)
        node = cluster.nodes[name]
        dice = random.random()
        if node.raft is None:
            if dice < 0.1 and (node.lives or checker.committed):
                cluster.restart(name)
        elif dice < 0.003:
            cluster.crash(name)
        elif dice < 0.05:
            node.raft.propose((b"%d" % number,) * random.randint(1, 3), cluster.clock(name))
            cluster.carry_out(node, random.choice(["save", "send"]) if random.random() < 0.02 else "")
        elif dice < 0.09:
            checker.begin_round(name)
            cluster.carry_out(node)
        elif dice < 0.095:
            node.raft.peer_died(random.choice(names), cluster.clock(name))
            cluster.carry_out(node)
        elif dice < 0.0965:
            leading = [each for each in cluster.nodes.values() if each.raft and each.raft.role is Role.LEADER]
            node = random.choice(leading or [node])
            checker.reshape(random, node.name, names)
            cluster.carry_out(node, random.choice(["save", "send"]) if random.random() < 0.05 else "")
        elif dice < 0.098:
            node.raft.transfer(random.choice(names), cluster.clock(name))
            cluster.carry_out(node)
        elif dice < 0.1:
            node.raft.campaign(cluster.clock(name))
            cluster.carry_out(node)
        elif dice < 0.11 and node.raft.applied > node.raft.log.snapshot.index:
            cluster.compact(name, random.choice([0, 0, 5]))
        elif dice < 0.113:
            for source in names:
                if random.random() < 0.5:
                    cuts[source, name] = cluster.now + random.uniform(0.1, 3)
        cluster.now += random.expovariate(1 / 0.004)
        cluster.wake_due()
        pass_on(cluster, random, cuts, loss, double, reorder)
        if number % 50 == 0:
            checker.check_matching()
    return checker


def pass_on(cluster: Cluster, random: Random, cuts, loss: float, double: float, reorder: float) -> None:
    for _ in range(random.randint(0, 8)):
        if not cluster.flights:
            return
        place = random.randrange(len(cluster.flights)) if random.random() < reorder else 0
        flight = cluster.flights[place]
        if random.random() >= double:
            del cluster.flights[place]
        if random.random() < loss or cuts.get((flight.source, flight.to), 0) > cluster.now:
            continue
        crash = random.choice(["save", "send"]) if random.random() < 0.0015 else ""
        cluster.deliver(flight, crash)
    if len(cluster.flights) > 300:
        del cluster.flights[:200]


@pytest.mark.parametrize("seed", range(40))
def test_safety_under_faults_and_progress_after(seed: int) -> None:
    checker = play(seed, 4000)
    cluster = checker.cluster
    cluster.flights.clear()
    for name, node in cluster.nodes.items():
        if node.raft is None:
            cluster.restart(name)
    cluster.run(8.0, 0.02)
    leader = cluster.leader()
    raft = cluster.raft(leader)
    assert raft.ready
    index = raft.propose((b"after",), cluster.clock(NodeName(leader)))
    cluster.carry_out(cluster.nodes[NodeName(leader)])
    cluster.run(1.0, 0.02)
    for name in raft.membership.nodes:
        node = cluster.nodes[name]
        assert (index, b"after") in node.state, f"{node.name} lags"
        assert node.state == cluster.nodes[NodeName(leader)].state
    checker.check_matching()


def test_the_faults_reach_what_they_aim_at() -> None:
    """Or the test above would prove little."""
    played = [play(seed, 3000) for seed in range(20)]
    assert sum(checker.elections for checker in played) > 30
    assert sum(len(checker.completed) for checker in played) > 100
    assert sum(len(checker.committed) for checker in played) > 500
    assert sum(checker.snapshots for checker in played) > 5
    assert sum(checker.reshapes for checker in played) > 20


def test_same_seed_same_history() -> None:
    one, other = play(7, 800), play(7, 800)
    assert one.committed == other.committed
    assert one.bounds == other.bounds
