"""Another key on all nodes: no node ever seals with one that another cannot open, whatever fails on the way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.same_daemon import Nodes, configuration
from truecl.core.contract import Joined, Received
from truecl.core.rotation import SETTLE, STEP_TIME, DrawnRings, DrawRings, KeepRing, KeptRing
from truecl.core.syncd import ROTATION, Syncd
from truecl.core.versions import ActivatedFiles, FinishActivation
from truecl.model.ids import HBD, NodeName
from truecl.wire.messages import KeysTaken, NewConfiguration, Refused, Reply, RotateKeys, Subscribe, TakeKeys

N1, N2, N3 = ALL = tuple(NodeName(f"n{number}") for number in (1, 2, 3))
WHO = "command-1"
DEEDS = ("rotate", "cut", "heal", "break", "mend")


class Bench(Nodes):
    """A ring is numbers in a line, the first seals. hbd reads it as soon as it is told."""

    def __init__(self) -> None:
        self.disks = dict.fromkeys(ALL, "1")
        self.read = dict(self.disks)
        """What each hbd seals and opens with."""
        self.broken: dict[NodeName, str] = {}
        self.drawn = 1
        super().__init__(ALL, lambda me: Syncd(me, configuration(digest="v1")), self.perform)
        self.connect()
        for node in ALL:
            self.tell(node, HBD, Subscribe())
            self.feed(node, Joined(WHO, True))

    def perform(self, node: NodeName, action: Any) -> Any:
        match action:
            case FinishActivation():
                return ActivatedFiles(None)
            case DrawRings():
                old, self.drawn = self.disks[node], self.drawn + 1
                return DrawnRings((f"{old} {self.drawn}", f"{self.drawn} {old}", f"{self.drawn}"))
            case KeepRing(text=text):
                if node in self.broken:
                    return KeptRing(self.broken[node])
                self.disks[node] = text
                return KeptRing()
        raise AssertionError(action)

    def settle(self) -> None:
        super().settle()
        for node in ALL if hasattr(self, "broken") else ():
            if self.heard(node, HBD, NewConfiguration):
                self.read[node] = self.disks[node]
        sealed = {node: self.read[node].split()[0] for node in self.read}
        for node, number in sealed.items():
            for other, ring in self.read.items():
                assert number in ring.split(), f"{node} seals with {number}, {other} opens {ring}"

    def rotate(self, node: str = "n1") -> tuple[int | None, str]:
        """The exit code and the last words."""
        self.tell(node, WHO, RotateKeys())
        self.wait(3 * STEP_TIME)
        replies = self.heard(node, WHO, Reply)
        said = [reply.progress.text for reply in replies if reply.progress is not None]
        return replies[-1].code, said[-1]


def test_in_three_steps_every_node_has_one_new_key() -> None:
    bench = Bench()
    bench.tell("n1", WHO, RotateKeys())
    assert bench.read == dict.fromkeys(ALL, "1 2"), "all open it before any seals with it"
    bench.wait(SETTLE / 2)
    assert bench.read == dict.fromkeys(ALL, "1 2"), "time for every hbd to read it"
    bench.wait(SETTLE / 2)
    assert bench.read == dict.fromkeys(ALL, "2 1")
    bench.wait(SETTLE)
    assert bench.read == bench.disks == dict.fromkeys(ALL, "2")
    assert bench.heard("n1", WHO, Reply)[-1].code == 0


def test_a_node_that_does_not_answer_ends_it_where_it_is_and_the_next_one_goes_through() -> None:
    bench = Bench()
    bench.cut.add(N3)
    code, said = bench.rotate()
    assert code == 1 and "the syncd of n3 does not answer: start it, or take it out (lha_node remove)" in said
    assert bench.read == {N1: "1 2", N2: "1 2", N3: "1"}
    bench.cut.clear()
    bench.wait(ROTATION)
    assert bench.rotate("n3")[0] == 0
    assert bench.read == dict.fromkeys(ALL, "3")


def test_a_ring_that_cannot_be_kept_is_said() -> None:
    bench = Bench()
    bench.broken[N2] = "keyring: the disk is full"
    assert bench.rotate() == (
        1, "n2: keyring: the disk is full; heartbeats are sealed as before: repeat the command",
    )  # fmt: skip


def test_one_rotation_at_a_time() -> None:
    bench = Bench()
    bench.tell("n1", WHO, RotateKeys())
    for node, why in (
        ("n1", "the keys are being rotated already"),
        ("n2", "n1 rotates the keys, or has just done so: try again in 10 s"),
    ):
        bench.tell(node, WHO, RotateKeys())
        assert bench.heard(node, WHO, Refused) == [Refused(why)]
    bench.feed("n2", Received(N3, TakeKeys(9, "9")))
    assert (N2, N3, KeysTaken(9, "another node rotates the keys at the moment")) in bench.sent
    bench.wait(2 * SETTLE)
    assert bench.read == dict.fromkeys(ALL, "2")


def test_only_root_may() -> None:
    bench = Bench()
    bench.feed("n1", Joined("command-2", False))
    bench.tell("n1", "command-2", RotateKeys())
    assert bench.heard("n1", "command-2", Refused) == [Refused("only root changes the keys")]


@pytest.mark.parametrize("value", [TakeKeys(3, "secret"), KeepRing("secret"), DrawnRings(("secret",))])
def test_no_key_is_ever_shown(value: Any) -> None:
    assert "secret" not in repr(value) and "secret" not in f"{Received(N1, value)}"


@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from(ALL), st.floats(0, 9)), max_size=12))
def test_whatever_happens_on_the_way_all_understand_each_other_and_one_more_rotation_tidies_up(
    story: list[tuple[str, NodeName, float]],
) -> None:
    """`Bench.settle` looks at every moment whether each node opens what each other seals."""
    bench = Bench()
    for what, node, seconds in story:
        if what == "rotate":
            bench.tell(node, WHO, RotateKeys())
        elif what in ("cut", "heal"):
            (bench.cut.add if what == "cut" else bench.cut.discard)(node)
        elif what == "break":
            bench.broken[node] = "full"
        else:
            bench.broken.pop(node, None)
        bench.wait(seconds)
    bench.cut.clear()
    bench.broken.clear()
    bench.wait(2 * ROTATION)
    assert bench.rotate()[0] == 0
    assert bench.read == dict.fromkeys(ALL, f"{bench.drawn}")
