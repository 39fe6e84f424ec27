"""A refusal is never answered: two daemons that did not know each other's messages would refuse each other for ever."""

from random import Random

import pytest

from tests.core.test_lockd import CONFIGURATION
from truecl.core.assemble import build
from truecl.core.contract import Joined, Told
from truecl.model.ids import DAEMONS, BootId, DaemonName, NodeName
from truecl.wire.messages import Refused


@pytest.mark.parametrize("daemon", DAEMONS)
def test_nobody_answers_a_refusal(daemon: DaemonName) -> None:
    core = build(daemon, NodeName("n1"), CONFIGURATION, BootId("b1"), {}, Random(1), 10.0)
    core.start(10.0)
    for who in (*DAEMONS, "parent", "command-1"):
        core.handle(Joined(who, True), 10.1)
        output = core.handle(Told(who, Refused("no")), 10.2)
        assert not [tell for tell in output.tell if tell.who == who], who
