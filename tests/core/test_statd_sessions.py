"""statd's core when no session to another node was made yet: sending makes it, so none is waited for."""

from typing import Any

from truecl.core.contract import Output, Received, Told
from truecl.core.statd import MASTER_TIME, Statd
from truecl.model.config import ClusterConfig, Configuration, LinkConfig, NodeConfig
from truecl.model.ids import HBD, LOCKD, REQD, BootId, LinkName, NodeName, Term
from truecl.model.ledger import Ledger
from truecl.wire.messages import AskLog, AskStatus, Leadership, NodeStatus, NodeView, Status, View

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
LAN = LinkName("lan")
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="test",
        links=(LinkConfig(name=LAN),),
        nodes=tuple(NodeConfig(name=node, addresses={LAN: f"10.0.0.{at}"}) for at, node in enumerate((N1, N2, N3), 1)),
    )
)
COMMAND = "command-1"


def view(*alive: NodeName) -> View:
    return View(tuple(NodeView(node, BootId("b"), node in alive, ()) for node in (N1, N3)))


def follower(*alive: NodeName) -> Statd:
    """n2's, while n1 leads."""
    statd = Statd(N2, CONFIGURATION)
    statd.start(0.0)
    statd.handle(Told(HBD, view(*alive)), 0.0)
    statd.handle(Told(LOCKD, Leadership(Term(1), N1, True)), 0.0)
    return statd


def sent(output: Output) -> list[tuple[NodeName, type[Any]]]:
    return [(each.node, type(each.message)) for each in output.send]


def test_a_report_goes_to_the_master() -> None:
    statd = follower(N1, N3)
    assert sent(statd.handle(Told(REQD, NodeStatus(N2, BootId("b"), {}, ())), 0.1)) == [(N1, NodeStatus)]


def test_the_master_is_asked() -> None:
    statd = follower(N1, N3)
    output = statd.handle(Told(COMMAND, AskStatus()), 1.0)
    assert sent(output) == [(N1, AskStatus)] and not output.tell
    number = output.send[0].message.number
    word = Status("test", N1, Term(1), N1, {}, Ledger(), {}, {}, number=number)
    (told,) = statd.handle(Received(N1, word), 1.1).tell
    assert told.who == COMMAND and told.message.answered_by == N1


def test_a_silent_master_is_waited_for_no_longer_than_its_time() -> None:
    statd = follower(N1, N3)
    output = statd.handle(Told(COMMAND, AskStatus()), 1.0)
    assert output.wake_at == 1.0 + MASTER_TIME
    (told,) = statd.handle(Told(HBD, view(N1, N3)), 1.0 + MASTER_TIME).tell
    assert told.who == COMMAND and told.message.answered_by == N2


def test_a_master_that_hbd_calls_dead_is_not_asked() -> None:
    output = follower(N3).handle(Told(COMMAND, AskStatus()), 1.0)
    assert not output.send and [each.message.answered_by for each in output.tell] == [N2]


def test_the_history_is_asked_of_all_that_are_heard() -> None:
    assert sent(follower(N3).handle(Told(COMMAND, AskLog()), 1.0)) == [(N3, AskLog)]
