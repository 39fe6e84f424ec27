"""The way down of an instance: which actions follow one another, and which go on side by side."""

from truecl.model.actions import Action, KillGroup, ReplicaSever, StepDown
from truecl.model.step import Instance, ReplicaSpec, Step, StepKind

FORCED_TIMEOUT = 5.0
"""Seconds for one action of the guard's way down."""
FORCED_ADDRESS_TIMEOUT = 0.25
"""Seconds that the guard's way down waits for netd, which answers in milliseconds or is dead; asked again later."""


def stages(
    instance: Instance, steps: tuple[Step, ...], tools: list[list[Action]], polite: float | None
) -> list[list[Action]]:
    """`steps`: as they were brought up. `tools`: the stages that end those of an earlier life. `polite`: seconds for
    each action of a polite way down; None: the guard's."""
    by_kind = {kind: [each for each in reversed(steps) if each.kind is kind] for kind in StepKind}

    def down(step: Step) -> Action:
        if polite is not None:
            return StepDown(instance, step, polite, False)
        timeout = FORCED_ADDRESS_TIMEOUT if step.kind is StepKind.ADDRESS else FORCED_TIMEOUT
        return StepDown(instance, step, timeout, True)

    addresses = [[down(each) for each in by_kind[StepKind.ADDRESS]]]
    kill: list[list[Action]] = [[KillGroup(instance, FORCED_TIMEOUT)]] if by_kind[StepKind.PROGRAM] else []
    replicated = any(isinstance(step.spec, ReplicaSpec) for step in steps)
    sever: list[Action] = [ReplicaSever(instance, FORCED_TIMEOUT)] if replicated else []
    kill_and_sever = [[*sever, *(action for stage in kill for action in stage)]]
    programs = [[down(each)] for each in by_kind[StepKind.PROGRAM]]
    filesystems = [[down(each)] for each in by_kind[StepKind.FILESYSTEM]]
    formats = [[down(each) for each in by_kind[StepKind.FORMAT]]]
    storage = [[down(each) for each in by_kind[StepKind.STORAGE]]]
    # The last look at a program's group follows the end of the tools: a start may have been on its way into it.
    # After a kill, a program's own down still runs: it forgets the process and checks its group once more.
    forced = [*addresses, *kill_and_sever, *tools, *programs]
    first = forced if polite is None else [*programs, *addresses, *tools, *kill]
    return [stage for stage in [*first, *filesystems, *formats, *storage] if stage]
