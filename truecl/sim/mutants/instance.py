"""Leaves rules of one instance's way up and down out."""

from typing import Any

from truecl.core.instance import InstanceMachine
from truecl.core.instances import InstanceRecord, Instances
from truecl.model.actions import Action, StepResult
from truecl.model.config import AppConfig
from truecl.model.ids import AppName, Generation
from truecl.model.report import Phase
from truecl.model.step import Probe, Step
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, with_part


class Trusting(InstanceMachine):
    def _down_done(self, step: Step | None, result: StepResult, now: float) -> None:
        super()._down_done(step, StepResult(Probe.INACTIVE), now)


class Impatient(InstanceMachine):
    def _all_stages_done(self, now: float) -> None:
        self._up.clear()
        self._look_again = False
        super()._all_stages_done(now)


class Hasty(InstanceMachine):
    """Takes the tools of an earlier life for ended."""

    def _await_tools(self, now: float) -> None:
        self._tools_done(StepResult(Probe.INACTIVE), now)

    def _tools_first(self) -> list[list[Action]]:
        return []


class Lazy(InstanceMachine):
    def clear(self, now: float, reason: str) -> None:
        """Whatever an earlier life left is taken for gone."""
        self.phase, self.reason = Phase.CLOSED, reason


class RemembersLate(Instances):
    """That there is something to stop is durable when the first step has ended, not before it begins."""

    def remember(self, app: AppName, record: InstanceRecord) -> None:
        if record.open:
            self.records[app] = record
        else:
            super().remember(app, record)

    def step_done(self, id: int, result: StepResult, now: float) -> None:
        super().step_done(id, result, now)
        for app, record in self.records.items():
            if record.open:
                super().remember(app, record)


def with_machine(machine: type[InstanceMachine]) -> Assemble:
    class Other(Instances):
        def begin(self, config: AppConfig, generation: Generation, *more: Any) -> InstanceMachine:
            made = super().begin(config, generation, *more)
            made.__class__ = machine
            return made

    return with_part("instances", Other)


MUTANTS = (
    Mutant("assume a failed stop worked", "SAFETY.md 4", assemble=with_machine(Trusting), adjust=faults.failing),
    Mutant(
        "close before a start has ended",
        "SAFETY.md 4",
        assemble=with_machine(Impatient),
        adjust=faults.overlapping,
        nodes=3,
        budget=40,
    ),
    Mutant(
        "begin beside the tools of an earlier life",
        "SAFETY.md 4",
        assemble=with_machine(Hasty),
        adjust=faults.restarts,
        seen_by="tests/core/test_reqd_restart.py",
    ),
    Mutant(
        "count what starts as something to stop after its first step",
        "SAFETY.md 3",
        assemble=with_part("instances", RemembersLate),
        adjust=faults.restarts,
    ),
    Mutant("take leftovers for gone", "SAFETY.md 4", assemble=with_machine(Lazy)),
)
