"""lha_simulate: what would happen if something failed now, and what was decided then, and why."""

from collections.abc import Iterator

import msgspec

from truecl.commands.node import FAILED, NO_DAEMON, UNFINISHED, Ended, Node, meant
from truecl.commands.typed import ask
from truecl.core.account import Unreadable, joined
from truecl.core.fitness import PlanInput
from truecl.core.forecast import Fault, Forecast, NotDone, Step, Unknown, changes, decided, forecast
from truecl.model.ids import STATD, NodeName
from truecl.runtime.client import NoAnswer, NoDaemon
from truecl.wire.messages import AskInputs, Inputs

TIMEOUT = 5.0
MOST = 1000


class Decision(msgspec.Struct, frozen=True):
    """One input of a master, planned again."""

    at: float
    """Wall clock, seconds since the epoch, at that master."""
    master: NodeName
    term: int
    repeats: int
    changes: tuple[str, ...]
    decided: tuple[Step, ...]
    not_done: tuple[NotDone, ...]


def simulate(given: PlanInput, fault: Fault) -> Forecast:
    """Raises Ended for an unknown name."""
    try:
        return forecast(given, fault)
    except Unknown as error:
        raise Ended(FAILED, f"{error}: {meant(error.name, error.known)}") from error


def present(node: Node, timeout: float = TIMEOUT) -> PlanInput:
    """What the master plans with now. Raises Ended and NotAllowed."""
    answer = ask_inputs(node, AskInputs(1), timeout)
    if answer.master is None:
        raise Ended(FAILED, "no master at the moment: nothing is decided; lha_stat says why")
    given = list(_readable(answer))
    if not given or given[-1].me != answer.master:
        missing = f" ({', '.join(answer.missing)} did not answer)" if answer.missing else ""
        raise Ended(FAILED, f"the master {answer.master} has not told what it decides upon{missing}; try again")
    return given[-1]


def replay(node: Node, last: int, until: float, timeout: float = TIMEOUT) -> tuple[list[Decision], Inputs]:
    """The `last` decisions at or before `until` (wall clock, 0: now), oldest first, and the answer they are made of.
    Raises Ended and NotAllowed."""
    answer = ask_inputs(node, AskInputs(min(last + 1, MOST), until), timeout)
    decisions: list[Decision] = []
    before: PlanInput | None = None
    for kept, given in zip(answer.inputs, _readable(answer), strict=True):
        steps, not_done = decided(given)
        new = changes(before, given)
        decisions.append(Decision(kept.at, given.me, int(kept.term), kept.repeats, new, steps, not_done))
        before = given
    return decisions[-last:], answer


def _readable(answer: Inputs) -> Iterator[PlanInput]:
    for kept in answer.inputs:
        try:
            yield joined(kept.input, answer.configurations.get(kept.digest, b""))
        except Unreadable as error:
            raise Ended(FAILED, f"what was decided upon cannot be read: {error}") from error


def ask_inputs(node: Node, request: AskInputs, timeout: float) -> Inputs:
    """Raises Ended and NotAllowed."""
    try:
        answer = ask(node, STATD, request, Inputs, timeout)
    except NoAnswer as error:
        raise Ended(UNFINISHED, str(error)) from error
    except NoDaemon as error:
        raise Ended(NO_DAEMON, str(error)) from error
    if answer.reason and not answer.inputs:
        raise Ended(FAILED, answer.reason)
    return answer
