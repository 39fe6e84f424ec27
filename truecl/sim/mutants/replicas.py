"""Leaves rules of replicated storage out: of the log, of the master, of the drivers."""

from collections.abc import Callable
from dataclasses import replace as with_fields
from typing import Any, cast

from msgspec.structs import replace

from truecl.core import ledger as ledgers
from truecl.core import replication
from truecl.core.clusterd import Clusterd
from truecl.core.fitness import PlanInput
from truecl.core.instance import InstanceMachine
from truecl.core.ledger import app_state
from truecl.core.lockd import Lockd
from truecl.core.peer_questions import OUTDATED, PeerQuestions, _Question
from truecl.model.ids import CLUSTERD, Index, NodeName, Term
from truecl.model.ledger import AnyCommand, Batch, GiveGrant, Ledger, MarkCopy
from truecl.model.mirror import CopyState
from truecl.model.step import Instance
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.faults import Faults
from truecl.sim.mutants.build import Mutant, instead, production
from truecl.sim.mutants.instance import with_machine
from truecl.sim.mutants.ledger import with_ledger
from truecl.sim.mutants.lockd import with_lockd
from truecl.sim.process import Variant

_LATEST = Index(1 << 60)


def _all_current(ledger: Ledger) -> Ledger:
    mirrors = {
        app: replace(
            mirror,
            copies={node: replace(copy, state=CopyState.CURRENT) for node, copy in mirror.copies.items()},
        )
        for app, mirror in ledger.mirrors.items()
    }
    return replace(ledger, mirrors=mirrors)


class BelievesTheKernel(Clusterd):
    """Grants whatever copy is up, and that its kernel would promote."""

    def _decide(self, now: float) -> None:
        planner = cast(Any, replication)
        kept, planner.behind = planner.behind, lambda *_: ""
        try:
            super()._decide(now)
        finally:
            planner.behind = kept


def grants_any(ledger: Ledger, command: AnyCommand) -> tuple[Ledger, AnyCommand]:
    return (_all_current(ledger) if isinstance(command, GiveGrant) else ledger), command


class LeavesTheOthersCurrent(Lockd):
    """A grant that goes on alone says nothing of the other copies."""

    @staticmethod
    def _apply(ledger: Ledger, index: Index, term: Term, batch: Batch) -> Ledger:
        after = ledgers.apply(ledger, index, term, batch)
        granted = any(isinstance(command, GiveGrant) for command in batch.commands)
        return replace(after, mirrors=ledger.mirrors) if granted else after


class ClearsByAnOlderWord(Clusterd):
    def _input(self) -> PlanInput:
        given = super()._input()
        reports = {
            node: tuple(replace(each, mark=_LATEST) for each in reports) for node, reports in given.replicas.items()
        }
        return with_fields(given, replicas=reports)


class _AnswersAtOnce(PeerQuestions):
    def _code(self, ledger: Ledger, origin: NodeName, question: _Question) -> int | None:
        grant = app_state(ledger, question.message.app).grant
        mine = grant is not None and grant.node == origin and grant.generation == question.message.generation
        return OUTDATED if mine else super()._code(ledger, origin, question)


class AnswersAtOnce(Clusterd):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._peers.__class__ = _AnswersAtOnce


class ConnectsTooEarly(Clusterd):
    """Takes every other node's replica for settled."""

    def _decide(self, now: float) -> None:
        verbs = cast(Any, replication._Verbs)
        kept, verbs._settled = verbs._settled, lambda *_: True
        try:
            super()._decide(now)
        finally:
            verbs._settled = kept


class Together(InstanceMachine):
    """Forgets that its grant says that it is alone."""

    @property
    def instance(self) -> Instance:
        return Instance(self.config.name, self.generation)


def marks_anyhow(ledger: Ledger, command: AnyCommand) -> tuple[Ledger, AnyCommand]:
    if isinstance(command, MarkCopy):
        mirror = ledger.mirrors.get(command.app)
        if mirror is not None and command.node in mirror.copies:
            command = replace(command, before=mirror.copies[command.node].index)
    return ledger, command


def _master(clusterd: Callable[..., Clusterd], others: Assemble = production) -> Assemble:
    return instead(CLUSTERD, lambda me, configuration, *_: clusterd(me, configuration), others)


def _mutant(name: str, adjust: Callable[[Faults], Faults] = faults.parted, **more: Any) -> Mutant:
    return Mutant(name, "SAFETY.md 5", adjust=adjust, replicated=True, **more)


MUTANTS = (
    _mutant(
        "grant what its kernel calls up to date",
        assemble=_master(BelievesTheKernel, with_ledger(grants_any)),
    ),
    _mutant(
        "take over and leave the other copies current",
        assemble=with_lockd(LeavesTheOthersCurrent),
        seen_by="tests/core/test_copies.py",
    ),
    _mutant(
        "clear a mark by an older word", assemble=_master(ClearsByAnOlderWord), seen_by="tests/core/test_replication.py"
    ),
    _mutant("mark without comparing", assemble=with_ledger(marks_anyhow), seen_by="tests/core/test_copies.py"),
    _mutant("answer the handler before the log", faults.deaf, assemble=_master(AnswersAtOnce), nodes=3),
    _mutant("connect before the old owner is secondary", faults.overtaken, assemble=_master(ConnectsTooEarly), nodes=3),
    _mutant("go on as if connected", faults.overtaken, assemble=with_machine(Together), nodes=3),
    _mutant(
        "promote without disconnect", faults.overtaken, variant=Variant(replicas="promote without disconnect"), nodes=3
    ),
    _mutant(
        "resume without detaching", faults.overtaken, variant=Variant(replicas="resume without detaching"), nodes=3
    ),
    _mutant("sever nothing", faults.overtaken, variant=Variant(replicas="sever nothing"), nodes=3),
    _mutant(
        "answer for what was given up",
        variant=Variant(replicas="answer for what was given up"),
        seen_by="tests/cli/test_fence_peer.py",
    ),
)
