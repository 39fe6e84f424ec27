"""Golden conversations: testdata/*.txt, each a script and what the nodes did, rewritten by `pytest --rewrite`.

A block is comment lines (#), one command, '----', what it led to, an empty line. Commands:

    nodes a b c [observers d] [detached e]   voters, observers; detached: a node with an empty membership
    join N [knows VOTERS...]                 a node that starts now, with an empty membership, or a founder's
    reshape N VOTERS... [observers O...]     N's user wants this membership
    campaign N | transfer N M | died N M     N stands; N hands over to M; N's hbd says that M is dead
    propose N TEXT... | round N              N's user proposes, starts a round
    deliver [FROM>TO]... | drop [FROM>TO]... all of that is on the way now (not what comes of it); N>* and *>N too
    settle                                   delivers until silence
    cut N... | heal                          nothing reaches or leaves N...; what is sent is lost
    pass SECONDS [silent]                    time passes, in steps of 10 ms, all is delivered; prints no heartbeats
    wake N                                   time jumps to N's timer; N alone is woken
    skip SECONDS                             time passes, nobody is woken
    crash N | restart N | compact N RETAIN   N's snapshot, keeping RETAIN entries
    state [N...]                             roles, terms, logs
"""

from pathlib import Path

import pytest
from raft_cluster import Cluster, Flight, Node

from truecl.core.raft import Step
from truecl.model.config import Timing
from truecl.model.ids import NodeName
from truecl.model.membership import Membership
from truecl.wire.raft import Append, AppendAnswer, EntryKind, SnapshotAnswer, SnapshotPart, Vote, VoteAnswer

SCRIPTS = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


def words_of(message) -> str:
    """What matters of a message, on one line."""
    name = type(message).__name__
    match message:
        case Append():
            entries = " ".join(entry_words(entry) for entry in message.entries)
            return (
                f"{name} term {message.term} after {message.previous_index}/{message.previous_term} [{entries}]"
                f" commit {message.commit} round {message.round}"
            )
        case AppendAnswer(accepted=True):
            return f"{name} term {message.term} has {message.index} round {message.round}"
        case AppendAnswer():
            hint = f"hint {message.hint_index}/{message.hint_term}"
            return f"{name} term {message.term} lacks {message.index} {hint} round {message.round}"
        case SnapshotPart():
            last = f"{message.index}/{message.index_term}"
            return f"{name} term {message.term} at {last} voters {','.join(message.membership.voters)}"
        case SnapshotAnswer():
            return f"{name} term {message.term} at {message.index} offset {message.offset}"
        case Vote():
            by = " transfer" if message.transfer else ""
            return f"{name} term {message.term} log {message.last_index}/{message.last_term}{by}"
        case VoteAnswer():
            return f"{name} term {message.term} {yes(message.granted)} age {message.age:.3f}"
    if name == "PreVote":
        return f"{name} for {message.asked} log {message.last_index}/{message.last_term}"
    if name == "PreVoteAnswer":
        return f"{name} for {message.asked} {yes(message.granted)} term {message.term}"
    return f"{name} term {message.term}"


def yes(granted: bool) -> str:
    return "granted" if granted else "refused"


def entry_words(entry) -> str:
    return f"{entry.term}:{entry.payload.decode() if entry.kind is EntryKind.COMMAND else entry.kind.name.lower()}"


class Script:
    def __init__(self) -> None:
        self.cluster = Cluster(1, Timing())
        self.cluster.observers.append(self.note)
        self.cluster.post = self.post
        self.lines: list[str] = []
        self.lost: set[str] = set()
        self.messages = True

    # ---- what is seen -----------------------------------------------------------------------------------------------

    def post(self, source: NodeName, send) -> None:
        lost = source in self.lost or send.node in self.lost
        if self.messages:
            self.lines.append(f"  {source}>{send.node} {words_of(send.message)}{' (lost)' if lost else ''}")
        if not lost:
            self.cluster.flights.append(Flight(source, send.node, send.message))

    def note(self, node: Node, step: Step) -> None:
        if step.snapshot is not None:
            self.lines.append(f"{node.name} installs {step.snapshot.index}/{step.snapshot.term}")
        for each in step.committed:
            self.lines.append(f"{node.name} applies {each.index}/{each.term} {each.payload.decode()}")
        if step.completed_round and self.messages:
            self.lines.append(f"{node.name} completed round {step.completed_round}")
        if step.change is not None:
            change = step.change
            self.lines.append(f"{node.name} {change.role}, term {change.term}, leader {change.leader or '-'}")
            if node.raft.lease_bound is not None:
                age = self.cluster.clock(node.name) - node.raft.lease_bound
                self.lines.append(f"{node.name} counts old leases from {age:.3f} s ago")

    # ---- commands ---------------------------------------------------------------------------------------------------

    def run(self, command: str) -> list[str]:
        self.lines = []
        verb, *rest = command.split()
        getattr(self, f"do_{verb}")(*rest)
        return self.lines

    def on(self, name: str):
        raft = self.cluster.raft(name)
        return raft, self.cluster.clock(NodeName(name)), lambda: self.cluster.carry_out(self.cluster.nodes[name])

    def do_nodes(self, *words: str) -> None:
        groups: dict[str, list[NodeName]] = {"voters": [], "observers": [], "detached": []}
        group = "voters"
        for word in words:
            if word in groups:
                group = word
            else:
                groups[group].append(NodeName(word))
        membership = Membership(tuple(groups["voters"]), tuple(groups["observers"]))
        for name in groups["voters"] + groups["observers"]:
            self.cluster.nodes[name] = Node(name, Membership() if name in groups["detached"] else membership)
        for name in self.cluster.nodes:
            self.cluster.restart(name)

    def do_join(self, name: str, *words: str) -> None:
        self.cluster.add(name, Membership(tuple(NodeName(word) for word in words[1:])))

    def do_reshape(self, name: str, *words: str) -> None:
        place = words.index("observers") if "observers" in words else len(words)
        voters, observers = (tuple(NodeName(word) for word in part) for part in (words[:place], words[place + 1 :]))
        raft, now, carry_out = self.on(name)
        self.lines.append(raft.reshape(Membership(voters, observers), now) or f"{name} does so")
        carry_out()

    def do_campaign(self, name: str) -> None:
        raft, now, carry_out = self.on(name)
        raft.campaign(now)
        carry_out()

    def do_transfer(self, name: str, to: str) -> None:
        raft, now, carry_out = self.on(name)
        if not raft.transfer(NodeName(to), now):
            self.lines.append("no")
        carry_out()

    def do_died(self, name: str, who: str) -> None:
        raft, now, carry_out = self.on(name)
        raft.peer_died(NodeName(who), now)
        carry_out()

    def do_propose(self, name: str, *payloads: str) -> None:
        raft, now, carry_out = self.on(name)
        index = raft.propose(tuple(payload.encode() for payload in payloads), now)
        self.lines.append(f"{name} proposed at {index}" if index else f"{name} does not take it")
        carry_out()

    def do_round(self, name: str) -> None:
        raft, now, carry_out = self.on(name)
        self.lines.append(f"{name} starts round {raft.start_round(now)}")
        carry_out()

    def chosen(self, patterns: tuple[str, ...]) -> list[Flight]:
        def fits(flight: Flight) -> bool:
            for pattern in patterns or ("*>*",):
                source, to = pattern.split(">")
                if source in ("*", flight.source) and to in ("*", flight.to):
                    return True
            return False

        chosen = [flight for flight in self.cluster.flights if fits(flight)]
        self.cluster.flights[:] = [flight for flight in self.cluster.flights if not fits(flight)]
        return chosen

    def do_deliver(self, *patterns: str) -> None:
        for flight in self.chosen(patterns):
            self.cluster.deliver(flight)

    def do_drop(self, *patterns: str) -> None:
        self.lines.append(f"{len(self.chosen(patterns))} lost")

    def do_settle(self) -> None:
        self.cluster.settle()

    def do_cut(self, *names: str) -> None:
        self.lost |= set(names)

    def do_heal(self) -> None:
        self.lost = set()

    def do_pass(self, seconds: str, silent: str = "") -> None:
        self.messages = not silent
        self.cluster.run(float(seconds))
        self.messages = True

    def do_skip(self, seconds: str) -> None:
        self.cluster.now += float(seconds)

    def do_wake(self, name: str) -> None:
        node = self.cluster.nodes[NodeName(name)]
        self.cluster.now += max(0.0, node.wake_at - self.cluster.clock(node.name))
        raft, now, carry_out = self.on(name)
        raft.wake(now + 1e-6)
        carry_out()

    def do_crash(self, name: str) -> None:
        self.cluster.crash(name)

    def do_restart(self, name: str) -> None:
        self.cluster.restart(name)

    def do_compact(self, name: str, retain: str) -> None:
        self.cluster.compact(name, int(retain))

    def do_state(self, *names: str) -> None:
        for name in names or sorted(self.cluster.nodes):
            raft = self.cluster.nodes[NodeName(name)].raft
            if raft is None:
                self.lines.append(f"{name} down")
                continue
            log = raft.log
            entries = " ".join(entry_words(log.entry(index)) for index in range(log.first, log.last_index + 1))
            ready = " ready" if raft.ready else ""
            self.lines.append(
                f"{name} {raft.role}{ready} term {raft.term} voted {raft.voted_for or '-'} snapshot"
                f" {log.snapshot.index}/{log.snapshot.term} log {log.first}.. [{entries}] commit {log.commit}"
            )
            for peer in raft.followers:
                self.lines.append(f"  {peer.node}: {peer.flow} has {peer.match} next {peer.next} round {peer.round}")


def play(text: str) -> str:
    script = Script()
    blocks = []
    for block in text.strip("\n").split("\n\n"):
        lines = block.split("\n")
        head = lines[: lines.index("----")] if "----" in lines else lines
        commands = [line for line in head if not line.startswith("#")]
        if not commands:
            blocks.append("\n".join(head))
            continue
        (command,) = commands
        blocks.append("\n".join([*head, "----", *script.run(command)]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_conversation(path: Path, request: pytest.FixtureRequest) -> None:
    expected = path.read_text()
    found = play(expected)
    if request.config.getoption("--rewrite"):
        path.write_text(found)
        return
    assert found == expected


def test_there_are_conversations() -> None:
    assert len(SCRIPTS) >= 12
