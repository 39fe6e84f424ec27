"""lha_fence on the master: recorded before it is sent, believed when the log has it, a word that ends nothing newer."""

from typing import Any

from msgspec.structs import replace

from truecl.core.contract import Output, Told
from truecl.model.config import FileStorage, Volume
from truecl.model.ids import LOCKD, REQD, AppName, Index, NodeName
from truecl.model.ledger import AnyCommand, ConfirmFence, EndGrant, GiveGrant, OrderFence, Proof, SetWanted, Wanted
from truecl.wire.messages import FenceResult, OrderFenceOff, OrderPowerOn, PoweredOn, Propose, Reply, Request, StepDown

from .test_clusterd import FENCED, N1, N2, RECORDED, WEB, Master, grant, running

LATER = Index(1000)


class Fencing(Master):
    """n1 leads, WEB runs on n2; `said` keeps every message."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []
        super().__init__(*RECORDED, SetWanted(WEB, Wanted.RUNNING, N2), GiveGrant(WEB, N2))
        self.core.situation.configuration = FENCED
        running(self)
        self.commit()
        self.said.clear()

    def take(self, output: Output) -> Output:
        self.said += [(tell.who, tell.message) for tell in output.tell]
        return super().take(output)

    def to(self, who: str, kind: type) -> list[Any]:
        return [message for each, message in self.said if each == who and isinstance(message, kind)]

    def ask(self, verb: str, node: NodeName = N2, seen: Index = LATER, id: str = "op1") -> None:
        self.command(Request(id, verb, AppName(""), node, "ann", seen))

    def answers(self) -> list[tuple[int | None, str]]:
        replies = self.to("command-1", Reply)
        return [(each.code, each.progress.text if each.progress else "") for each in replies]

    def end(self) -> tuple[int | None, str]:
        """The exit code and the last words."""
        answers = self.answers()
        return answers[-1][0], answers[-2][1]

    def fence(self) -> Index:
        return self.ledger.fences[N2].index


def test_off_is_in_the_log_with_what_it_ends_before_a_device_is_asked() -> None:
    master = Fencing()
    master.ask("off")
    (proposal,) = master.to(LOCKD, Propose)
    assert proposal.commands == (OrderFence(N2, (grant(master),)),)
    assert master.to(REQD, OrderFenceOff) == []
    master.commit()
    assert master.to(REQD, OrderFenceOff) == [OrderFenceOff(N2, master.fence())]


def test_a_node_that_is_still_heard_is_not_off_whatever_its_device_says() -> None:
    master = Fencing()
    master.ask("off")
    master.commit()
    master.feed(Told(REQD, FenceResult(N2, master.fence(), True, "is off")))
    assert master.commit() == []
    master.hear(N2)
    written = master.commit()
    assert written[0] == ConfirmFence(N2, master.fence())
    assert any(isinstance(each, EndGrant) and each.proof is Proof.FENCED for each in written)
    assert master.end() == (0, "Node 'n2' Fenced successfully [RC=0].")


def test_what_a_device_said_of_a_node_that_is_heard_counts_only_for_a_moment() -> None:
    """Its silence may have another cause later: it is asked again."""
    master = Fencing()
    master.ask("off")
    master.commit()
    master.feed(Told(REQD, FenceResult(N2, master.fence(), True, "is off")))
    master.wait(2.5)
    master.hear(N2)
    assert not any(isinstance(each, ConfirmFence) for each in master.commit())
    assert len(master.to(REQD, OrderFenceOff)) == 2


def test_a_device_that_fails_ends_the_command_and_the_node_is_well_again() -> None:
    master = Fencing()
    master.ask("off")
    master.commit()
    master.feed(Told(REQD, FenceResult(N2, master.fence(), False, "level 1: refused; trying level 2", over=False)))
    assert not any(code is not None for code, _ in master.answers())
    master.feed(Told(REQD, FenceResult(N2, master.fence(), False, "all refused")))
    code, text = master.end()
    assert code == 1 and "all refused" in text and "lha_fence n2 --confirm" in text
    master.commit()
    assert N2 not in master.ledger.fences, "cancelled: it is heard and renews"


def test_a_result_of_an_older_order_ends_nothing() -> None:
    master = Fencing()
    master.ask("off")
    master.commit()
    master.feed(Told(REQD, FenceResult(N2, Index(1), False, "of the past")))
    assert not any(code is not None for code, _ in master.answers())


def test_a_reboot_switches_on_with_the_level_that_switched_off_once_the_log_has_it() -> None:
    master = Fencing()
    master.ask("reboot")
    master.commit()
    master.feed(Told(REQD, FenceResult(N2, master.fence(), True, "is off", 0)))
    assert master.to(REQD, OrderPowerOn) == []
    master.hear(N2)
    master.commit()
    assert master.to(REQD, OrderPowerOn) == [OrderPowerOn(N2, 0)]
    master.feed(Told(REQD, PoweredOn(N2, True, "is on")))
    assert master.end() == (0, "Node 'n2' Switched On successfully [RC=0].")


def test_a_master_is_fenced_by_another() -> None:
    master = Fencing()
    master.ask("off", N1)
    master.commit()
    assert master.to(LOCKD, StepDown) and N1 not in master.ledger.fences


def test_two_at_once_on_one_node() -> None:
    master = Fencing()
    master.ask("off")
    master.ask("reboot", id="op2")
    assert master.end() == (1, "lha_fence --off of n2 is under way (ann)")


def test_a_word_for_a_node_that_is_heard_is_refused() -> None:
    master = Fencing()
    master.ask("confirm")
    assert master.end() == (1, "node 'n2' is heard, so it is not off: nothing to confirm")


def vouched(master: Fencing, seen: Index = LATER) -> list[AnyCommand]:
    volume = Volume(name="d", storage=FileStorage(image="/i"))
    apps = tuple(replace(app, volumes=(volume,)) for app in FENCED.apps)
    master.core.situation.configuration = replace(FENCED, apps=apps)
    master.hear(N2)
    master.commit()
    master.ask("confirm", seen=seen)
    return master.commit()


def test_the_operators_word_counts_when_the_lease_is_over_and_is_logged_with_the_name() -> None:
    master = Fencing()
    assert not any(isinstance(each, ConfirmFence) for each in vouched(master)), "it may have come back meanwhile"
    master.expired = (N2,)
    master.report()
    written = master.commit()
    assert ConfirmFence(N2, master.fence(), "ann") in written
    (end,) = (each for each in written if isinstance(each, EndGrant))
    assert end.proof is Proof.VOUCHED
    assert any(isinstance(each, GiveGrant) and each.node != N2 for each in written)
    assert master.end() == (0, "Node 'n2' Confirmed off by ann [RC=0].")


def test_what_was_granted_since_the_operator_looked_is_not_vouched_for() -> None:
    master = Fencing()
    master.expired = (N2,)
    assert not any(isinstance(each, ConfirmFence) for each in vouched(master, Index(grant(master) - 1)))
    code, text = master.end()
    assert code == 1 and "given more to run since you looked" in text


def test_an_operation_that_nothing_comes_of_is_given_up() -> None:
    master = Fencing()
    master.ask("off")
    master.commit()
    master.wait(60.0, 1.0)
    code, text = master.end()
    assert code == 1 and "nothing came of it in time" in text
