"""lha_buildapp at the master: what it asks of nodes, what it writes; its own generation is one like any other."""

from typing import Any

from msgspec.structs import replace

from truecl.core import errands, validation
from truecl.core import ledger as ledgers
from truecl.core.builds import FORGOTTEN
from truecl.core.contract import Left, Output, Received, Told
from truecl.core.operations import LEVEL_PATIENCE
from truecl.model.build import Look, Seen
from truecl.model.config import FileStorage, FileSystem, Volume
from truecl.model.ids import LOCKD, REQD, NodeName
from truecl.model.ledger import (
    AnyCommand,
    Build,
    EndGrant,
    Format,
    FreeLock,
    GiveGrant,
    Proof,
    RaiseLevel,
    RecordBuild,
    SetWanted,
    TakeLock,
    Wanted,
)
from truecl.model.report import InstanceReport, Phase
from truecl.wire.messages import Applied, AskWork, BuildWish, NewConfiguration, Order, Reply, Request, WorkAnswer

from .test_clusterd import CONFIGURATION, DB, N1, N2, N3, RECORDED, WEB, Master

STORED = replace(
    CONFIGURATION.apps[1],
    volumes=(Volume(name="data", storage=FileStorage(image="/x.img")),),
    filesystems=(FileSystem(type="ext4", mount="/srv/db"),),
)
LIGHT = CONFIGURATION.apps[0]
WITH_STORAGE = replace(CONFIGURATION, apps=(LIGHT, STORED))
LEVEL_3 = (*RECORDED, RaiseLevel(3))
GOOD = Seen(facts={"volume data": "1024", "script /s": "aa"})


class Building(Master):
    """A master, and nodes that answer what it asks of them. `said`: what the operator reads."""

    def __init__(self, *log: AnyCommand) -> None:
        self.said: list[str] = []
        self.reply: Reply | None = None
        self.asked: list[tuple[NodeName, AskWork]] = []
        self.orders: list[Order] = []
        super().__init__(*LEVEL_3, *log)
        self.feed(Told("syncd", NewConfiguration(WITH_STORAGE)))

    def restart(self, ready: bool = True) -> None:
        super().restart(ready)
        self.feed(Told("syncd", NewConfiguration(WITH_STORAGE)))

    def take(self, output: Output) -> Output:
        sent = [(N1, tell.message) for tell in output.tell if tell.who == REQD]
        sent += [(send.node, send.message) for send in output.send]
        self.asked += [(node, message) for node, message in sent if isinstance(message, AskWork)]
        self.orders += [message for _, message in sent if isinstance(message, Order)]
        for tell in output.tell:
            if isinstance(tell.message, Reply):
                self.reply = tell.message if tell.message.code is not None else self.reply
                self.said += [tell.message.progress.text] if tell.message.progress is not None else []
        return super().take(output)

    def build(self, app: Any = DB, **wish: Any) -> list[AnyCommand]:
        self.command(Request("b1", "build", app, None, "ann", build=BuildWish(**wish)))
        return self.commit()

    def start(self, app: Any = DB, verb: str = "start") -> list[AnyCommand]:
        self.command(Request("s1", verb, app, None, "ann", validated=True))
        return self.commit()

    def answer(self, seen: Seen = GOOD, but: dict[NodeName, Seen] | None = None) -> list[AnyCommand]:
        """Every node to what it was asked last."""
        asked, self.asked = dict(self.asked), []
        for node, message in asked.items():
            answer = WorkAnswer(message.id, node, (but or {}).get(node, seen))
            self.feed(Told(REQD, answer) if node == N1 else Received(node, answer))
        return self.commit()

    def reports(self, phase: Phase, found: str = "1-2", node: NodeName = N1, reason: str = "") -> list[AnyCommand]:
        state = ledgers.app_state(self.ledger, DB)
        generation = state.grant.generation if state.grant is not None else 0
        facts = (("file system data", found),) if found else ()
        self.lines[node] = (InstanceReport(DB, generation, phase, bool(reason), reason, facts),)  # type: ignore[arg-type]
        self.orders.clear()
        self.report()
        return self.commit()

    def builds(self) -> list[AnyCommand]:
        """A whole build."""
        written = self.build() + self.answer()
        return written + self.reports(Phase.RUNNING) + self.reports(Phase.CLOSED) + self.answer()


def kinds(written: list[AnyCommand]) -> list[type]:
    return [type(each) for each in written]


def test_a_build_looks_at_all_nodes_has_its_generation_and_records_what_was_found() -> None:
    master = Building()
    assert master.build() == [TakeLock("application db", "b1")]
    assert [(node, ask.work) for node, ask in master.asked] == [(node, Look()) for node in (N1, N2, N3)]
    (given,) = master.answer()
    assert isinstance(given, GiveGrant) and [each.volume for each in given.build] == ["data"]
    assert master.orders[-1].verb == "start" and master.orders[-1].build == given.build
    assert master.reports(Phase.RUNNING) == []
    assert master.orders[-1].verb == "stop", "all of it is done once it is up"
    assert kinds(master.reports(Phase.CLOSED)) == [EndGrant]
    recorded, freed = master.answer()
    assert isinstance(recorded, RecordBuild) and isinstance(freed, FreeLock)
    build = master.ledger.builds[DB]
    assert build.nodes == (N1, N2, N3) and build.digest == validation.digest(STORED)
    assert build.facts["file system data"] == "1-2" and build.facts["script /s"] == "aa"
    assert master.reply is not None and master.reply.code == 0
    assert ledgers.app_state(master.ledger, DB).wanted is Wanted.STOPPED


def test_without_storage_nothing_is_started() -> None:
    master = Building()
    master.build(WEB)
    assert kinds(master.answer()) == [RecordBuild, FreeLock]


def test_a_problem_is_told_and_nothing_is_recorded() -> None:
    master = Building()
    master.build()
    assert kinds(master.answer(but={N2: Seen(problems=("there is no user web",))})) == [FreeLock]
    assert "n2 : there is no user web" in master.said
    assert master.reply is not None and master.reply.code == 1


def test_what_is_not_ready_any_more_is_not_validated_any_more() -> None:
    master = Building()
    master.builds()
    assert DB in master.ledger.builds
    master.command(Request("b2", "build", DB, None, "ann", build=BuildWish()))
    master.commit()
    assert kinds(master.answer(but={N2: Seen(problems=("there is no user web",))})) == [RecordBuild, FreeLock]
    assert DB not in master.ledger.builds


def test_a_node_that_is_down_is_not_valid_and_is_told_of() -> None:
    master = Building()
    master.hear(N3)
    master.build(WEB)
    assert [node for node, _ in master.asked] == [N1, N2]
    master.answer()
    assert master.ledger.builds[WEB].nodes == (N1, N2)
    assert "n3 : is not up, so it is not checked, and no valid node" in master.said


def test_a_question_that_is_not_answered_is_asked_again_and_in_the_end_given_up() -> None:
    master = Building()
    master.build()
    asked = len(master.asked)
    master.wait(errands.AGAIN + 0.1)
    assert len(master.asked) == 2 * asked and len({ask.id for _, ask in master.asked}) == 1
    master.hear(N2)
    master.asked = [(node, ask) for node, ask in master.asked if node != N2]
    master.wait(2.0)
    master.hear()
    assert master.reply is None, "a node may fall silent for a moment"
    master.hear(N2)
    for _ in range(10):
        master.command(Request("b1", "build", DB, None, "ann", build=BuildWish()))
        master.wait(1.0)
    master.asked = [(node, ask) for node, ask in master.asked if node != N2]
    master.answer()
    assert "n2 : is not up any more" in master.said


def test_the_generations_failure_is_the_operators_answer() -> None:
    master = Building()
    master.build()
    master.answer()
    written = master.reports(Phase.CLOSED, found="", reason="volume data: the image is missing")
    assert kinds(written) == [EndGrant, FreeLock]
    assert master.reply is not None and master.reply.code == 1
    assert "the file systems could not be looked at on n1: volume data: the image is missing" in master.said


def test_nobody_starts_the_application_meanwhile() -> None:
    master = Building()
    master.build()
    master.command(Request("s1", "start", DB, None, "ann"))
    assert master.commit() == []
    assert any("locked by another operation (lha_buildapp by ann)" in text for text in master.said)


def test_a_generation_that_outlives_its_master_is_stopped_all_the_same_and_the_build_goes_on() -> None:
    master = Building()
    master.build()
    master.answer()
    master.restart()
    master.reports(Phase.RUNNING)
    assert master.orders[-1].verb == "stop"
    assert kinds(master.reports(Phase.CLOSED)) == [EndGrant]
    master.build()
    assert kinds(master.answer()) == [GiveGrant], "it looks anew at what is there"


def test_a_build_whose_node_was_lost_is_not_failed_over() -> None:
    master = Building()
    master.build()
    master.answer()
    master.reports(Phase.STARTING, found="")
    generation = ledgers.app_state(master.ledger, DB).grant.generation  # type: ignore[union-attr]
    master.write(EndGrant(DB, generation, Proof.RELEASED))
    master.feed(Told(LOCKD, Applied(master.ledger)))
    assert not any(isinstance(each, GiveGrant) for each in master.commit())
    assert master.reply is not None and master.reply.code == 1


def test_nothing_is_built_while_the_log_does_not_know_how() -> None:
    master = Building()
    master.ledger = replace(master.ledger, level=2)
    master.feed(Told(LOCKD, Applied(master.ledger)))
    assert master.build() == [] and master.said == [], "the nodes may not have said yet what they know"
    master.wait(LEVEL_PATIENCE + 0.1)
    assert master.commit() == [] and "lha_node list shows which" in master.said[-1]
    assert SetWanted in kinds(master.start()), "and nothing is refused for that"


def test_what_is_asked_right_after_lha_form_waits_for_the_nodes_to_say_what_they_know() -> None:
    master = Building()
    master.ledger = replace(master.ledger, level=1)
    master.feed(Told(LOCKD, Applied(master.ledger)))
    assert master.build() == []
    master.ledger = replace(master.ledger, level=3)
    master.feed(Told(LOCKD, Applied(master.ledger)))
    assert TakeLock in kinds(master.commit()) and master.reply is None


def test_a_build_that_nobody_asks_after_ends() -> None:
    master = Building()
    master.build()
    master.feed(Left("command-1"))
    master.wait(FORGOTTEN + 0.1)
    assert kinds(master.commit()) == [FreeLock]


def test_a_start_of_what_was_never_validated_is_refused() -> None:
    master = Building()
    assert master.start() == [] and master.reply is not None and master.reply.code == 1
    assert "is not validated: lha_buildapp -A db" in master.said[-1]


def test_a_start_after_a_build_looks_at_the_scripts_and_begins() -> None:
    master = Building()
    master.builds()
    assert master.start() == []
    assert {ask.work for _, ask in master.asked} == {Look(quick=True)}
    assert kinds(master.answer())[:3] == [TakeLock, SetWanted, GiveGrant]


def test_a_start_after_a_script_changed_is_refused_and_names_it() -> None:
    master = Building()
    master.builds()
    master.start(verb="move")
    assert master.answer(but={N2: Seen(facts={"script /s": "bb"})}) == []
    assert "changed since it was validated: script /s on n2" in master.said[-1]


def test_nodes_that_do_not_answer_a_quick_look_do_not_keep_a_start_from_beginning() -> None:
    master = Building()
    master.builds()
    master.start()
    master.asked = [(node, ask) for node, ask in master.asked if node != N3]
    master.answer()
    master.wait(errands.QUICK + errands.LATE + 0.1)
    assert TakeLock in kinds(master.commit())


def test_failover_asks_no_build() -> None:
    """What is wanted is granted, whatever became of its record."""
    master = Building(SetWanted(DB, Wanted.RUNNING))
    assert GiveGrant in kinds(master.commit()) or ledgers.app_state(master.ledger, DB).grant is not None


def test_a_build_is_granted_only_of_what_is_not_wanted() -> None:
    master = Building(SetWanted(WEB, Wanted.RUNNING), RecordBuild(WEB, Build("d", (N1,))))

    build = (Format("data", "ext4", "u"),)
    before = ledgers.app_state(master.ledger, WEB)
    master.write(GiveGrant(WEB, N1, build=build))
    assert ledgers.app_state(master.ledger, WEB) == before
    master.write(GiveGrant(DB, N1, build=build))
    grant = ledgers.app_state(master.ledger, DB).grant
    assert grant is not None and grant.build == build
