"""A journal is believed whole or not at all."""

from random import Random

import msgspec
import pytest
from raft_cluster import CLUSTER, Cluster, apply_saves, copy_records

from truecl.core.contract import Put
from truecl.core.raft import ForeignJournal, JournalDamaged, Raft
from truecl.core.raft.journal import Ballot, StoredSnapshot
from truecl.model.config import Timing
from truecl.model.ids import NodeName, Term
from truecl.model.membership import Membership
from truecl.wire.raft import Entry, EntryKind

ONE = Membership((NodeName("a"),))
encode = msgspec.msgpack.encode


@pytest.fixture
def records():
    """Of a node that has applied 3, 4, 5 and made a snapshot at 4."""
    cluster = Cluster(1, Timing())
    cluster.add("a", ONE)
    raft = cluster.raft("a")
    raft.propose((b"x", b"y"), cluster.clock("a"))
    cluster.carry_out(cluster.nodes["a"])
    cluster.compact("a", 1)
    raft.propose((b"z",), cluster.clock("a"))
    cluster.carry_out(cluster.nodes["a"])
    return copy_records(cluster.nodes["a"].records)


def load(records, cluster: str = CLUSTER, name: str = "a") -> Raft:
    return Raft(NodeName(name), cluster, ONE, records, Random(1), Timing())


def test_a_whole_journal_is_loaded(records) -> None:
    raft = load(records)
    assert (raft.log.first, raft.log.snapshot.index, raft.log.last_index) == (4, 4, 5)
    assert (raft.term, raft.voted_for) == (2, "a")
    raft.start(5.0)
    step = raft.take()
    assert step.snapshot is not None and step.snapshot.index == 4
    assert [each.index for each in step.committed] == [5]


def test_the_first_start_records_who_and_the_membership_before_anything_else() -> None:
    raft = Raft(NodeName("a"), CLUSTER, Membership((NodeName("a"), NodeName("b"))), {}, Random(1), Timing())
    raft.start(1.0)
    step = raft.take()
    assert [(save.bucket, save.key) for save in step.saves if isinstance(save, Put)] == [
        ("raft.meta", "identity"), ("raft.meta", "ballot"), ("raft.snapshot", 1),
    ]  # fmt: skip
    assert step.sends == ()
    records = {}
    apply_saves(records, step.saves)
    other = Raft(NodeName("a"), CLUSTER, Membership(), records, Random(1), Timing())
    assert other.membership == Membership((NodeName("a"), NodeName("b")))


@pytest.mark.parametrize(("cluster", "name"), [("other", "a"), (CLUSTER, "b")])
def test_the_journal_of_another_is_refused(records, cluster: str, name: str) -> None:
    with pytest.raises(ForeignJournal, match="node 'a' of cluster 'demo'"):
        load(records, cluster, name)


def entry(term: int, kind: EntryKind = EntryKind.COMMAND, payload: bytes = b"") -> bytes:
    return encode(Entry(Term(term), kind, payload))


DAMAGE = {
    "no identity": lambda records: records["raft.meta"].pop("identity"),
    "no ballot": lambda records: records["raft.meta"].pop("ballot"),
    "no meta": lambda records: records.pop("raft.meta"),
    "no snapshot": lambda records: records.pop("raft.snapshot"),
    "two snapshots": lambda records: records["raft.snapshot"].update({9: records["raft.snapshot"][4]}),
    "snapshot under a wrong key": lambda records: records.update({"raft.snapshot": {3: records["raft.snapshot"][4]}}),
    "snapshot of another term": lambda records: records["raft.snapshot"].update(
        {4: encode(StoredSnapshot(4, 1, ONE, b""))}
    ),
    "gap": lambda records: records["raft.log"].update({7: entry(2)}),
    "gap after the snapshot": lambda records: records.update({"raft.log": {6: entry(2)}}),
    "log ends before the snapshot": lambda records: records.update({"raft.log": {3: entry(2)}}),
    "term goes back": lambda records: records["raft.log"].update({6: entry(1)}),
    "term goes back at the snapshot": lambda records: records.update({"raft.log": {5: entry(1)}}),
    "term above the ballot": lambda records: records["raft.log"].update({6: entry(3)}),
    "ballot behind the log": lambda records: records["raft.meta"].update({"ballot": encode(Ballot(Term(1), None))}),
    "torn entry": lambda records: records["raft.log"].update({5: records["raft.log"][5][:-1]}),
    "torn snapshot": lambda records: records["raft.snapshot"].update({4: records["raft.snapshot"][4][:-1]}),
    "not an entry": lambda records: records["raft.log"].update({5: b"\xc1"}),
    "key of another kind": lambda records: records["raft.log"].update({"5": entry(2)}),
    "bad membership": lambda records: records["raft.log"].update({6: entry(2, EntryKind.MEMBERSHIP, b"x")}),
    "eight voters": lambda records: records["raft.log"].update(
        {6: entry(2, EntryKind.MEMBERSHIP, encode([list("abcdefgh"), []]))}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_is_refused(records, damage: str) -> None:
    DAMAGE[damage](records)
    with pytest.raises(JournalDamaged):
        load(records)
