"""lha_node standby, resume and failed --clear at the master: what is written, what the operator is told."""

from truecl.core import ledger as ledgers
from truecl.core.contract import Left, Output, Told
from truecl.core.operations import FORGOTTEN, LEVEL_PATIENCE
from truecl.model.ids import LOCKD, REQD, AppName, Generation, NodeName
from truecl.model.ledger import (
    AnyCommand,
    ClearFailures,
    EndGrant,
    GiveGrant,
    Losses,
    Presence,
    Proof,
    RaiseLevel,
    RecordLosses,
    SetStandby,
    SetWanted,
    Standby,
    Wanted,
)
from truecl.model.report import Phase, Progress
from truecl.wire.messages import Applied, InstanceProgress, Order, Reply, Request

from .test_clusterd import DB, N1, N2, N3, RECORDED, WEB, Master, line

NONE = AppName("")


class Operated(Master):
    """A master whose operator's terminal shows `said`; `stops`: the applications that n1's reqd was told to stop."""

    def __init__(self, *log: AnyCommand, level: int = 2) -> None:
        self.said: list[str] = []
        self.code: int | None = None
        self.stops: list[AppName] = []
        self.asked = 0
        super().__init__(*RECORDED, *([RaiseLevel(level)] if level > 1 else []), *log)

    def take(self, output: Output) -> Output:
        for tell in output.tell:
            if tell.who == REQD and isinstance(tell.message, Order) and tell.message.verb == "stop":
                self.stops.append(tell.message.app)
            if isinstance(tell.message, Reply):
                self.code = tell.message.code if tell.message.code is not None else self.code
                self.said += [tell.message.progress.text] if tell.message.progress is not None else []
        return super().take(output)

    def wish(self, verb: str, node: NodeName | None = N1, app: AppName = NONE, keep: bool = False) -> list[AnyCommand]:
        """What is written for it."""
        self.said, self.code, self.asked = [], None, self.asked + 1
        self.command(Request(f"op {self.asked}", verb, app, node, "ann", keep=keep))
        return self.commit()

    def runs(self, app: AppName, node: NodeName = N1) -> Generation:
        self.write(SetWanted(app, Wanted.RUNNING))
        last = ledgers.app_state(self.ledger, app).ended
        self.write(GiveGrant(app, node, last.generation if last is not None else Generation(0)))
        self.feed(Told(LOCKD, Applied(self.ledger)))
        return self.now_runs(app, node)

    def now_runs(self, app: AppName, node: NodeName) -> Generation:
        """What the log has granted there runs."""
        granted = ledgers.app_state(self.ledger, app).grant
        assert granted is not None and granted.node == node
        others = tuple(each for each in self.lines[node] if each.app != app)
        self.lines[node] = (*others, line(app, granted.generation, Phase.RUNNING))
        self.report()
        return granted.generation

    def closes(self, app: AppName, node: NodeName = N1) -> None:
        self.lines[node] = tuple(
            line(each.app, each.generation, Phase.CLOSED) if each.app == app else each for each in self.lines[node]
        )
        self.report()
        self.commit()


def test_an_empty_node_is_set_aside_at_once() -> None:
    master = Operated()
    assert master.wish("standby") == [SetStandby(N1, Standby("ann"))]
    assert (master.code, master.said[-1]) == (0, "Node 'n1' Set to Standby successfully [RC=0].")


def test_a_node_is_set_aside_when_all_that_ran_there_runs_elsewhere() -> None:
    master = Operated()
    master.runs(DB)
    master.runs(WEB)
    master.wish("standby")
    assert master.code is None and master.said == ["n1 is on standby, the log has it; moving away: db, web"]
    assert master.stops == [DB], "one after another"
    master.feed(Told(REQD, InstanceProgress(N1, DB, Generation(5), Progress("stopping program db"))))
    assert master.said[-1] == "stopping program db"
    master.closes(DB)
    assert master.stops == [DB], "db does not run yet"
    master.now_runs(DB, N2)
    assert master.stops == [DB, WEB]
    master.closes(WEB)
    assert (master.code, master.said[-1]) == (0, "Node 'n1' Set to Standby successfully [RC=0].")


def test_what_can_go_nowhere_stays_and_the_command_says_so_instead_of_waiting() -> None:
    master = Operated()
    master.runs(WEB)
    master.hear(N2, N3)
    master.expired = (N2, N3)
    master.report()
    master.wish("standby")
    assert master.code == 4 and master.stops == []
    assert "no other node will do for web, which stays" in master.said[-1]
    assert N1 in master.ledger.standby, "it moves when another node is up"


def test_with_keep_nothing_moves() -> None:
    master = Operated()
    master.runs(WEB)
    assert master.wish("standby", keep=True) == [SetStandby(N1, Standby("ann", keep=True))]
    assert master.code == 0 and master.stops == []
    assert master.wish("standby") == [SetStandby(N1, Standby("ann"))], "now it is to be emptied"


def test_what_is_so_already_is_no_error() -> None:
    master = Operated(SetStandby(N1, Standby("bob")))
    assert master.wish("standby") == [] and master.code == 0
    assert master.wish("resume") == [SetStandby(N1, None)]
    assert (master.code, master.said[-1]) == (0, "Node 'n1' Resumed successfully [RC=0].")
    assert master.wish("resume") == [] and (master.code, master.said[-1]) == (0, "Node 'n1' is in use already.")


def test_a_node_that_is_down_is_set_aside_for_its_return() -> None:
    master = Operated()
    master.hear(N2)
    assert SetStandby(N2, Standby("ann")) in master.wish("standby", N2)
    assert master.code == 0


def test_a_resumed_node_ends_who_waits_for_it_to_be_empty() -> None:
    master = Operated()
    master.runs(WEB)
    master.wish("standby")
    master.write(SetStandby(N1, None))
    master.feed(Told(LOCKD, Applied(master.ledger)))
    assert (master.code, master.said[-1]) == (1, "somebody let node 'n1' be used again")


def test_resume_forgets_that_the_node_came_and_went() -> None:
    held = Losses(4, Presence.HELD)
    master = Operated(RecordLosses(N2, None, held))
    assert master.wish("resume", N2) == [RecordLosses(N2, held, None)]
    assert master.code == 0 and not master.core._flapping.held()


def test_failures_of_an_application_or_on_a_node_are_cleared_and_the_rest_is_kept() -> None:
    def failed() -> Operated:
        first = (SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N1))
        master = Operated(*first)
        for node in (N1, N2):
            given = ledgers.granted_to(master.ledger, node)[0][1]
            master.write(EndGrant(WEB, given, Proof.RELEASED, "no", failed=True), GiveGrant(WEB, N2, given))
        master.write(SetWanted(WEB, Wanted.STOPPED))
        master.feed(Told(LOCKD, Applied(master.ledger)))
        return master

    def left(master: Master) -> list[NodeName]:
        return [each.node for each in ledgers.app_state(master.ledger, WEB).failures]

    master = failed()
    assert left(master) == [N1, N2]
    assert ClearFailures(WEB, None) in master.wish("clear", None, WEB)
    assert left(master) == [] and (master.code, master.said[-1]) == (
        0,
        "Failures of 'web' Cleared successfully [RC=0].",
    )
    master = failed()
    assert ClearFailures(None, N1) in master.wish("clear", None, AppName("n1"))
    assert left(master) == [N2]
    assert [each for each in master.wish("clear", None, DB) if isinstance(each, ClearFailures)] == []
    assert (master.code, master.said[-1]) == (0, "nothing failed: 'db'")


def test_unknown_names_and_older_nodes_are_refused() -> None:
    master = Operated()
    assert master.wish("standby", NodeName("n9")) == [] and master.code == 1
    assert master.said == ["unknown node 'n9'; configured: n1, n2, n3"]
    master.wish("clear", None, AppName("n9"))
    assert master.said == ["there is no application and no node 'n9'; configured: db, web, n1, n2, n3"]
    older = Operated(level=1)
    older.wait(LEVEL_PATIENCE + 0.1)
    assert older.wish("standby") == [] and older.code == 1
    assert "lha_node list shows which" in older.said[0]


def test_an_application_is_not_started_on_a_node_on_standby_nor_moved_there() -> None:
    master = Operated(SetStandby(N3, Standby("ann")))
    master.wish("start", N3, WEB)
    assert master.said == ["node 'n3' is on standby; to use it again: lha_node resume n3"]
    master.runs(WEB, N2)
    master.wish("move", None, WEB)
    granted = ledgers.app_state(master.ledger, WEB)
    assert granted.preferred == N1, "n3 is passed over"


def test_a_wish_that_nobody_asks_after_is_forgotten() -> None:
    master = Operated()
    master.runs(WEB)
    master.wish("standby")
    master.feed(Left("command-1"))
    master.wait(FORGOTTEN + 0.5)
    assert master.core._operations._node_operations == {} and N1 in master.ledger.standby
