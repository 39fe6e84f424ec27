"""An operator's wish on the master, step by step against the ledger that its commands lead to."""

from truecl.core.ledger import apply
from truecl.core.operation import Operation, Stage
from truecl.model.config import AppConfig
from truecl.model.ids import NO_GENERATION, AppName, Generation, Index, NodeName, Term
from truecl.model.ledger import AnyCommand, Batch, EndGrant, GiveGrant, Ledger, Proof, SetWanted, TakeLock, Wanted
from truecl.wire.messages import Request

N1, N2 = NodeName("n1"), NodeName("n2")
WEB = AppName("web")
CONFIG = AppConfig(name=WEB, nodes=(N1, N2))
TERM = Term(1)


class Master:
    """The log of one master, without the rest of it."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def commit(self, *commands: AnyCommand) -> Generation:
        index = Index(self.ledger.index + 1)
        self.ledger = apply(self.ledger, index, TERM, Batch(commands))
        return Generation(index)

    def fails_on(self, node: NodeName, after: Generation, reason: str) -> Generation:
        generation = self.commit(GiveGrant(WEB, node, after))
        self.commit(EndGrant(WEB, generation, Proof.RELEASED, reason, failed=True))
        return generation

    def failed_everywhere(self) -> "Master":
        self.commit(SetWanted(WEB, Wanted.RUNNING))
        self.fails_on(N2, self.fails_on(N1, NO_GENERATION, "no disk"), "no disk either")
        return self

    def step(self, operation: Operation, failed: bool = False) -> AnyCommand | None:
        """One step, its command committed at once."""
        command = operation.step(self.ledger, CONFIG, failed, None)
        if command is not None:
            self.commit(command)
        return command


def start(node: NodeName | None = None) -> Operation:
    return Operation(Request("a", "start", WEB, node, "root"), N1)


def test_a_start_of_what_failed_everywhere_is_a_new_beginning() -> None:
    master, operation = Master().failed_everywhere(), start()
    assert isinstance(master.step(operation, failed=True), TakeLock)
    assert isinstance(master.step(operation, failed=True), SetWanted)
    assert master.ledger.apps[WEB].failures == ()
    assert master.step(operation) is None
    assert (operation.stage, operation.code) == (Stage.WAIT, None)


def test_a_failure_is_told_with_every_nodes_reason() -> None:
    """Not before the last node's is in the log, although the planner knows already that none is left."""
    master, operation = Master(), start()
    master.step(operation), master.step(operation)
    first = master.fails_on(N1, NO_GENERATION, "no disk")
    second = master.commit(GiveGrant(WEB, N2, first))
    master.step(operation, failed=True)
    assert operation.code is None
    master.commit(EndGrant(WEB, second, Proof.RELEASED, "no disk either", failed=True))
    master.step(operation, failed=True)
    assert operation.code == 1 and "n1: no disk; n2: no disk either" in operation.text


def test_a_second_start_does_not_forget_failures_while_the_next_node_tries() -> None:
    master, operation = Master(), start()
    master.commit(SetWanted(WEB, Wanted.RUNNING))
    first = master.fails_on(N1, NO_GENERATION, "no disk")
    master.commit(GiveGrant(WEB, N2, first))
    assert isinstance(master.step(operation), TakeLock)
    assert master.step(operation) is None
    assert [each.node for each in master.ledger.apps[WEB].failures] == [N1]
