"""What a reqd that comes back makes of its records: the journal, and a run directory that may be newer than it."""

import msgspec
import pytest

from truecl.core.contract import Output, Records
from truecl.core.instances import InstanceRecord
from truecl.core.reqd import Reqd
from truecl.model.actions import EndTools, KillGroup, StepDown, StepUp
from truecl.model.config import AppConfig, ClusterConfig, Configuration, LinkConfig, NodeConfig, Program
from truecl.model.ids import AppName, BootId, Generation, LinkName, NodeName

N1, BOOT = NodeName("n1"), BootId("n1-1")
APP = AppConfig(name=AppName("job"), nodes=(N1,), programs=(Program(name="job", run=("/bin/job",)),))
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="c",
        links=(LinkConfig(name=LinkName("l")),),
        nodes=(NodeConfig(name=N1, addresses={LinkName("l"): "10.0.0.1"}),),
    ),
    apps=(APP,),
)


def _restarted(phase: str, boot: BootId = BOOT, generation: int = 7) -> Output:
    """At 100 s, with a lease until 100.5 s."""
    record = msgspec.msgpack.encode(InstanceRecord(Generation(7), BOOT, True, APP))
    records: Records = {
        "instances": {"job": record},
        "run.instances": {"job": f"{generation} {phase}".encode()},
        "run.lease": {"end": b"100.5"},
    }
    return Reqd(N1, CONFIGURATION, boot, records, 100.0).start(100.0)


@pytest.mark.parametrize("phase", ["starting", "running"])
def test_what_ran_goes_on_under_its_lease(phase: str) -> None:
    asked = {type(order.action) for order in _restarted(phase).do}
    assert asked == {EndTools}


@pytest.mark.parametrize("phase", ["stopping", "needs fence", "closed"])
def test_what_had_begun_to_stop_is_never_started_again(phase: str) -> None:
    """'closed' in the run directory and open in the journal: the daemon died between the two."""
    asked = {type(order.action) for order in _restarted(phase).do}
    assert StepUp not in asked
    assert asked & {KillGroup, StepDown}


def test_after_a_reboot_everything_is_taken_down() -> None:
    assert StepUp not in {type(order.action) for order in _restarted("running", BootId("n1-2")).do}


def test_a_word_on_an_older_generation_says_nothing_of_this_one() -> None:
    assert StepUp not in {type(order.action) for order in _restarted("running", generation=3).do}
