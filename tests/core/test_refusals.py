"""A daemon that refuses a message must not be answered with another refusal: two would go on for ever."""

from random import Random

import pytest

from tests.core.same_daemon import configuration
from truecl.core.assemble import LOCAL_EDGES, build
from truecl.core.contract import Joined, Told
from truecl.model.ids import DAEMONS, BootId, DaemonName, NodeName
from truecl.wire.messages import Refused

NEIGHBOURS = sorted({*LOCAL_EDGES, *((server, client) for client, server in LOCAL_EDGES)})


@pytest.mark.parametrize(("daemon", "other"), NEIGHBOURS)
def test_nobody_answers_a_refusal(daemon: DaemonName, other: DaemonName) -> None:
    core = build(daemon, NodeName("n1"), configuration(), BootId("b"), {}, Random(1), 0.0)
    core.start(0.0)
    core.handle(Joined(other, True), 0.1)
    output = core.handle(Told(other, Refused("n1 does not take Nonsense")), 0.2)
    assert not [told for told in output.tell if isinstance(told.message, Refused)]


def test_every_daemon_has_neighbours() -> None:
    assert {daemon for daemon, _ in NEIGHBOURS} == {*DAEMONS}
