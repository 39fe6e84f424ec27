"""Nodes that come and go: what is written into the log, when they are held down, and for how long."""

import pytest
from msgspec.structs import replace

from tests.core.test_clusterd import BOOTS, CONFIGURATION, FENCED, N1, N2, N3, RECORDED, Master
from truecl.core.contract import Joined, Told
from truecl.core.flapping import FIRST_HOLD, FREE_LOSSES, LONGEST_HOLD, QUIET, SWITCHED_OFF, hold
from truecl.core.situation import STARTUP_GRACE
from truecl.model.ids import REQD, STATD, AppName, BootId, Index, Term
from truecl.model.ledger import Losses, Presence, RaiseLevel
from truecl.wire.messages import FenceResult, HeldNode, Notes, PoweredOn, Request


def master_of_three() -> Master:
    return Master(*RECORDED, RaiseLevel(2))


def loses(master: Master, times: int = 1) -> None:
    """n2 falls silent and comes back, so often."""
    for _ in range(times):
        master.hear(N2)
        master.expired = (N2,)
        master.report()
        master.commit()
        assert master.ledger.losses[N2].presence is Presence.AWAY
        master.wait(1.0)
        master.hear()
        master.expired = ()
        master.report()
        master.commit()


def held(master: Master) -> dict[str, float]:
    return master.core._flapping.held()


def test_the_first_losses_are_free_then_the_hold_doubles_up_to_its_bound() -> None:
    assert [hold(count) for count in range(FREE_LOSSES + 1)] == [0.0] * (FREE_LOSSES + 1)
    holds = [hold(FREE_LOSSES + 1 + more) for more in range(30)]
    assert holds[:4] == [FIRST_HOLD, 2 * FIRST_HOLD, 4 * FIRST_HOLD, 8 * FIRST_HOLD]
    assert holds[-1] == LONGEST_HOLD and holds == sorted(holds)


def test_a_node_that_comes_and_goes_is_held_down_when_it_is_back_and_not_for_ever() -> None:
    master = master_of_three()
    loses(master, FREE_LOSSES)
    assert master.ledger.losses[N2] == Losses(FREE_LOSSES, Presence.BACK) and not held(master)
    loses(master)
    assert master.ledger.losses[N2] == Losses(FREE_LOSSES + 1, Presence.HELD)
    assert held(master) == {N2: master.now + FIRST_HOLD}
    master.wait(FIRST_HOLD + 0.2)
    master.commit()
    assert master.ledger.losses[N2].presence is Presence.BACK and not held(master)
    loses(master)
    assert held(master) == {N2: master.now + 2 * FIRST_HOLD}


def test_a_hold_that_is_over_wakes_nobody_while_the_log_does_not_say_so_yet() -> None:
    master = master_of_three()
    loses(master, FREE_LOSSES + 1)
    master.wait(FIRST_HOLD + 3.0)
    woken = master.outputs[-1].wake_at
    assert master.ledger.losses[N2].presence is Presence.HELD and woken is not None and woken > master.now


def test_the_operator_is_told_who_is_held_down_and_until_when() -> None:
    master = master_of_three()
    loses(master, FREE_LOSSES + 1)
    until = master.now + FIRST_HOLD
    master.wait(0.2)
    (told,) = [tell.message for tell in master.feed(Joined(STATD)).tell if tell.who == STATD][:1]
    assert told == Notes((), (HeldNode(N2, until),))


def test_another_master_goes_on_from_the_log_and_counts_the_time_anew() -> None:
    master = master_of_three()
    loses(master, FREE_LOSSES + 1)
    master.wait(FIRST_HOLD / 2)
    master.restart()
    assert held(master) == {N2: master.now + FIRST_HOLD}
    assert master.ledger.losses[N2].count == FREE_LOSSES + 1


def test_a_master_that_finds_a_node_gone_does_not_count_the_same_loss_twice() -> None:
    master = master_of_three()
    master.hear(N2)
    master.report()
    master.commit()
    assert master.ledger.losses[N2].count == 1
    master.lead(ready=False, leader=N3)
    master.term = Term(2)
    master.lead()
    master.commit()
    assert master.ledger.losses[N2] == Losses(1, Presence.AWAY)


def test_an_hour_of_quiet_forgets() -> None:
    master = master_of_three()
    loses(master)
    master.wait(QUIET + 1.0, step=100.0)
    master.commit()
    assert master.ledger.losses == {}


def test_a_node_that_left_in_good_order_was_not_lost() -> None:
    master = master_of_three()
    view = master.core.situation.view
    gone = tuple(replace(node, alive=False, left=node.node == N2) for node in view.nodes if node.node == N2)
    master.core.situation.hear(replace(view, nodes=gone))
    master.report()
    master.commit()
    assert master.ledger.losses == {}


def test_a_node_that_is_slow_to_join_was_not_lost() -> None:
    """Its hbd is heard, its lockd or reqd is not there yet; and one that is switched on late was never heard."""
    master = Master(*RECORDED, RaiseLevel(2), ready=False)
    master.expired = (N2,)
    master.boots[N3] = BootId("b3")
    master.hear(N3, boots={N3: None})
    master.lead()
    master.report(N1, N2)
    master.wait(STARTUP_GRACE + 1.0)
    assert master.core.situation.lost() == {N2, N3}, "so what was granted to them is to be fenced"
    master.commit()
    assert master.ledger.losses == {}


def test_a_node_whose_lease_ends_while_it_is_heard_was_lost() -> None:
    master = master_of_three()
    master.expired = (N2,)
    master.report()
    master.commit()
    assert master.ledger.losses == {N2: Losses(1, Presence.AWAY)}


@pytest.mark.parametrize("verb", ["off", "reboot"])
def test_a_node_that_an_operator_switches_off_was_not_lost_but_is_if_it_goes_again(verb: str) -> None:
    master = master_of_three()
    master.core.situation.configuration = FENCED
    master.command(Request("op1", verb, AppName(""), N2, "ann", Index(1000)))
    master.commit()
    master.hear(N2)
    master.expired = (N2,)
    index = master.ledger.fences[N2].index
    master.feed(Told(REQD, FenceResult(N2, index, True, "is off")))
    master.report()
    master.commit()
    assert master.ledger.fences[N2].confirmed
    master.feed(Told(REQD, PoweredOn(N2, True, "is on")))
    master.wait(10 * SWITCHED_OFF)  # it takes long to boot
    master.commit()
    assert master.ledger.losses == {}
    master.expired = ()
    master.hear()
    master.report()
    master.wait(SWITCHED_OFF + 1.0)
    master.commit()
    assert N2 not in master.ledger.fences
    loses(master)
    assert master.ledger.losses[N2].count == 1


def test_nothing_of_it_is_written_before_all_nodes_know_these_commands() -> None:
    master = Master(*RECORDED)
    master.hear(N2)
    master.report()
    master.commit()
    assert master.ledger.level == 1 and master.ledger.losses == {}


def test_a_reboot_faster_than_the_detection_is_no_loss() -> None:
    """hbd tells of the new boot, and the node was never lost: what ran there failed, and counts as that."""
    master = master_of_three()
    master.boots[N2] = BootId("b2")
    master.hear(boots={N2: BootId("b2")})
    master.report()
    master.commit()
    assert master.ledger.losses == {} and BOOTS[N2] != "b2"


def test_a_node_that_is_no_part_of_the_cluster_any_more_is_forgotten() -> None:
    master = master_of_three()
    loses(master)
    nodes = tuple(node for node in CONFIGURATION.cluster.nodes if node.name != N2)
    master.core.situation.configuration = replace(FENCED, cluster=replace(CONFIGURATION.cluster, nodes=nodes))
    master.report(N1, N3)
    master.commit()
    assert master.ledger.losses == {}


def test_a_hold_that_is_over_wakes_nobody_again() -> None:
    """Its end is written when the log has room for it; until then the master woke itself again and again."""
    master = master_of_three()
    loses(master, FREE_LOSSES + 1)
    flapping = master.core._flapping
    (end,) = flapping.held().values()
    assert end in flapping.wakes()
    master.core.situation.now = end
    assert end not in flapping.wakes()
