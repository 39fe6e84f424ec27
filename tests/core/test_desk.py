"""Requests where they are made: who asked is told whether a master has what was asked for."""

from truecl.commands import node as commands
from truecl.core.desk import NO_MASTER, Desk
from truecl.core.outbox import Outbox
from truecl.core.situation import Situation
from truecl.model.ids import AppName, NodeName, Term
from truecl.wire.messages import Leadership, Reply, Request

from .same_daemon import configuration

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
REQUEST = Request("op1", "start", AppName("web"), None, "ann")


def test_who_was_told_that_there_is_no_master_hears_once_that_one_has_the_request() -> None:
    out, situation = Outbox(), Situation(N1, configuration())
    desk = Desk(situation, out, lambda request, origin: None)
    desk.joined("command-1", root=True)
    desk.request("command-1", REQUEST)
    output = out.take()
    assert texts(output.tell) == [NO_MASTER] == [commands.NO_MASTER] and not output.send
    for leader, heard in ((N2, ["n2 is the master, and has the request"]), (N3, [])):
        situation.leadership = Leadership(Term(2), leader, False)
        desk.pass_all()
        output = out.take()
        assert texts(output.tell) == heard
        assert [(each.node, each.message) for each in output.send] == [(leader, REQUEST)]


def test_with_a_master_nothing_is_said_of_it() -> None:
    out, situation = Outbox(), Situation(N1, configuration())
    desk = Desk(situation, out, lambda request, origin: None)
    situation.leadership = Leadership(Term(2), N2, False)
    desk.joined("command-1", root=True)
    desk.request("command-1", REQUEST)
    output = out.take()
    assert not output.tell and [each.node for each in output.send] == [N2]


def test_only_the_master_that_has_the_request_last_ends_it() -> None:
    """The operator goes on after the answer, and the new master may do what the old one did once more."""
    out, situation = Outbox(), Situation(N1, configuration())
    desk = Desk(situation, out, lambda request, origin: None)
    situation.leadership = Leadership(Term(2), N2, False)
    desk.joined("command-1", root=True)
    desk.request("command-1", REQUEST)
    situation.leadership = Leadership(Term(4), N3, False)
    desk.pass_all()
    out.take()
    desk.reply(Reply("op1", code=0), N2)
    assert not out.take().tell
    desk.reply(Reply("op1", code=0), N3)
    assert [each.message for each in out.take().tell] == [Reply("op1", code=0)]


def texts(tells: tuple[object, ...]) -> list[str]:
    replies = [each.message for each in tells if isinstance(each.message, Reply)]  # type: ignore[attr-defined]
    return [reply.progress.text for reply in replies if reply.progress is not None]
