"""The log's level: it rises when all members know more, never before, never back; and who knows less stops."""

from random import Random

import msgspec
import pytest

from truecl.core import ledger as ledgers
from truecl.core import levels
from truecl.core.contract import EXIT_OUTDATED, Outdated
from truecl.core.lockd import Lockd
from truecl.core.supervisor import ending
from truecl.model.ids import Index, NodeName, Term
from truecl.model.ledger import (
    LEVEL,
    LEVELS,
    Batch,
    Command,
    Ledger,
    RaiseLevel,
    SetStandby,
    SetWanted,
    Standby,
    Wanted,
)
from truecl.wire.messages import Proposed

from .test_lockd import BOOT, CONFIGURATION, N1, N2, N3, WEB, Lockds

ASIDE = SetStandby(N2, Standby("ann"))


class Mixed(Lockds):
    """n1 leads; n3's lockd knows `level` at most."""

    def __init__(self, level: int = LEVEL) -> None:
        self.level = level
        super().__init__()

    def build(self, node: NodeName) -> Lockd:
        level = self.level if node == N3 else LEVEL
        return Lockd(node, CONFIGURATION, {}, Random(int(node[1:])), BOOT, level=level)

    def all_say(self, *nodes: str) -> None:
        for node in nodes or ("n1", "n2", "n3"):
            self.renew(node)
        self.wait(0.5)

    def level_of(self, node: str) -> int:
        return self.lockd(node).ledger.level


def refused(proposed: Proposed) -> str:
    assert proposed.index is None
    return proposed.reason


def test_every_command_has_a_level_and_none_is_beyond_this_release() -> None:
    kinds = set(Command.__subclasses__())
    assert set(LEVELS) == kinds and max(LEVELS.values()) == LEVEL and min(LEVELS.values()) == 1


def test_a_new_command_waits_until_the_log_is_at_its_level() -> None:
    trio = Mixed()
    assert refused(trio.propose(ASIDE)) == "SetStandby needs level 2 of the log, which is at 1"
    trio.all_say()
    assert trio.nodes().level == LEVEL
    assert refused(trio.propose(RaiseLevel(2), ASIDE)), "not in the same entry: the level counts once it is committed"
    assert trio.propose(RaiseLevel(2)).index is not None
    trio.wait(0.5)
    assert trio.propose(ASIDE).index is not None
    trio.wait(0.5)
    assert [N2 in trio.lockd(node).ledger.standby for node in ("n1", "n2", "n3")] == [True] * 3


@pytest.mark.parametrize("said", [("n1", "n2"), ("n1",), ()])
def test_who_has_said_nothing_counts_as_old(said: tuple[str, ...]) -> None:
    trio = Mixed()
    if said:
        trio.all_say(*said)
    assert trio.nodes().level == 1
    assert refused(trio.propose(RaiseLevel(2))) == "not all members know level 2 of the log"


def test_one_older_member_keeps_the_log_at_its_level() -> None:
    trio = Mixed(level=1)
    trio.all_say()
    assert trio.nodes().level == 1
    assert refused(trio.propose(RaiseLevel(2))) == "not all members know level 2 of the log"
    assert trio.propose(SetWanted(WEB, Wanted.RUNNING)).index is not None, "what it knows goes on"


def test_no_level_is_raised_beyond_this_release() -> None:
    trio = Mixed()
    trio.all_say()
    assert refused(trio.propose(RaiseLevel(LEVEL + 1)))


def test_a_new_leader_asks_everybody_anew() -> None:
    trio = Mixed()
    trio.all_say()
    trio.lockd("n1")._forget_tenure()
    assert refused(trio.propose(RaiseLevel(2))) == "not all members know level 2 of the log"


def test_the_level_never_falls() -> None:
    up = ledgers.apply(Ledger(), Index(1), Term(1), Batch((RaiseLevel(2),)))
    assert ledgers.apply(up, Index(2), Term(1), Batch((RaiseLevel(1),))).level == 2


def test_a_release_that_knows_less_stops_at_the_first_entry_or_snapshot_that_it_does_not_know() -> None:
    for batch in (Batch((RaiseLevel(2),)), Batch((ASIDE,)), Batch((SetWanted(WEB, Wanted.RUNNING), ASIDE))):
        levels.check(batch, 2)
        with pytest.raises(Outdated, match="at level 2, and this release knows level 1"):
            levels.check(batch, 1)
    levels.check_snapshot(Ledger(level=1), 1)
    with pytest.raises(Outdated):
        levels.check_snapshot(Ledger(level=2), 1)


def test_an_unknown_command_is_outdated_and_no_defect() -> None:
    payload = msgspec.msgpack.encode([[["PaintNode", "n1", "green"]]])
    with pytest.raises(Outdated, match="a command that this release does not know"):
        Mixed().lockd("n1")._batch(payload)


def test_the_operator_reads_what_helps() -> None:
    assert "install here what the other nodes run" in ending(EXIT_OUTDATED)


def test_an_older_snapshot_is_at_the_first_level_with_nobody_set_aside() -> None:
    """As 2.0.0a1 wrote it."""
    old = msgspec.msgpack.decode(ledgers.encode(Ledger(index=Index(7))))
    for later in ("level", "standby", "losses"):
        del old[later]
    ledger = ledgers.decode(msgspec.msgpack.encode(old))
    assert (ledger.level, ledger.standby, ledger.losses, ledger.index) == (1, {}, {}, 7)


def test_a_leader_that_knows_less_than_its_members_raises_to_its_own_level() -> None:
    assert levels.common({N1: 1, N2: 2, N3: 3}, (N1, N2, N3), 1) == 1
    assert levels.common({N1: 2, N2: 3, N3: 3}, (N1, N2, N3), 2) == 2
    assert levels.common({N1: 2, N2: 3}, (N1, N2, N3), 2) == 1
