"""What a clusterd asks of the log and is told: kept in order, up to a bound, and judged by `truecl.lab.traces`."""

from itertools import count
from pathlib import Path

import pytest

from truecl.core.contract import Told
from truecl.lab import traces
from truecl.lab.description import LabNode
from truecl.model.ids import HBD, LOCKD, AppName, Generation, Index, NodeName, Term
from truecl.model.ledger import AppState, GiveGrant, Grant, Ledger
from truecl.runtime.trace import Incomplete, Trace, read
from truecl.service.joint import TracedBus
from truecl.wire.messages import Applied, Propose, Proposed, StepDown

APP, TERM = AppName("web"), Term(1)


class Nowhere:
    def __init__(self) -> None:
        self.told: list[object] = []

    def tell(self, who: str, message: object) -> None:
        self.told.append(message)


def opened(directory: Path, began: float = 0.0, **more: int) -> tuple[Trace, list[str]]:
    said: list[str] = []
    times = count(began)
    return Trace(directory, "clusterd", lambda: next(times), said.append, **more), said


def give(number: int, node: str) -> Propose:
    return Propose(number, TERM, (GiveGrant(APP, NodeName(node)),))


def granted(node: str, index: int) -> Applied:
    state = AppState(grant=Grant(NodeName(node), Generation(index)))
    return Applied(Ledger(index=Index(index), term=TERM, apps={APP: state}))


def test_what_was_asked_and_told_is_kept_with_its_time(tmp_path: Path) -> None:
    trace, said = opened(tmp_path)
    bus = Nowhere()
    traced = TracedBus(bus, trace)
    asked, taken, seen = give(1, "n1"), Proposed(1, Index(5)), granted("n1", 5)
    traced.tell(LOCKD, asked)
    traced.tell(LOCKD, StepDown())
    trace.heard(Told(LOCKD, taken))
    trace.heard(Told(HBD, taken))
    trace.heard(Told(LOCKD, seen))
    (path,) = tmp_path.iterdir()
    kept = list(read(path))
    assert [message for _, message in kept] == [asked, taken, seen] and not said
    assert sorted(at for at, _ in kept) == [at for at, _ in kept]
    assert bus.told == [asked, StepDown()]
    path.write_bytes(path.read_bytes()[:-3])  # it was killed while it wrote
    assert [message for _, message in read(path)] == [asked, taken]


def test_nothing_is_concluded_from_a_full_one(tmp_path: Path) -> None:
    trace, said = opened(tmp_path, limit=100)
    for number in range(20):
        trace.heard(Told(LOCKD, Proposed(number, None)))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < 200 and len(said) == 1 and "the trace ends: it is full" in said[0]
    with pytest.raises(Incomplete, match="before its daemon did"):
        list(read(path))


def test_where_none_can_be_kept_the_daemon_goes_on(tmp_path: Path) -> None:
    trace, said = opened(tmp_path / "missing")
    trace.tells(give(1, "n1"))
    assert len(said) == 1 and "no trace in" in said[0]


@pytest.mark.parametrize(("second", "explained"), [("refused", True), ("granted", False)])
def test_a_grant_while_one_lives_is_seen_in_the_traces_of_two_nodes(
    tmp_path: Path, second: str, explained: bool
) -> None:
    nodes = [LabNode(name, 1, False, 1, str(tmp_path / name)) for name in ("n1", "n2")]
    traces.begin(nodes)
    for began, node, index in ((10.0, nodes[0], 5), (20.0, nodes[1], 7)):
        trace, _ = opened(traces.directory(node), began)
        trace.tells(give(1, node.name))
        trace.heard(Told(LOCKD, Proposed(1, Index(index))))
        owner = ("n1", 5) if second == "refused" or index == 5 else ("n2", 7)
        ledger = granted(*owner).ledger
        trace.heard(Told(LOCKD, Applied(Ledger(index=Index(index), term=TERM, apps=ledger.apps))))
    assert (traces.gather(nodes).unexplained() is None) is explained
