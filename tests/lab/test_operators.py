"""Operators on all nodes at once, and a master that dies: one order explains what they were told, and what the masters
asked of locks and grants."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from clusterlib import NODES, Cluster, kill, light, running, until

from truecl.lab import provision, traces
from truecl.lab.description import LabNode
from truecl.sim.linear import WISH, Call, retried, said, unexplained

pytestmark = pytest.mark.lab
APP = "web"
UNFINISHED = 3, 4


def _configure(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    provision.configure(nodes, links)
    traces.begin(nodes)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running("operators", {APP: light(1)}, configure=_configure) as made:
        yield made


ANYWAY = {"stop": (), "start": ("--unvalidated",), "move": ("--unvalidated",)}


def commands(cluster: Cluster, node: str, verbs: Sequence[str]) -> list[Call]:
    """What an operator at `node` typed, one after the other, and was told."""
    told = []
    for verb in verbs:
        began = time.monotonic()
        result = cluster.lab.exec(node, [f"lha_{verb}app", "-A", APP, "--json", "-t", "20", *ANYWAY[verb]], 30.0)
        ended = time.monotonic()
        word = json.loads(result.out.splitlines()[-1])["result"] if result.code not in UNFINISHED else ""
        told.append(Call(f"{node} {word!r}", APP, verb, "", began, ended, said(word) if word else None))
    return told


def test_one_order_explains_what_all_operators_were_told(cluster: Cluster) -> None:
    random = Random(4)
    verbs = [[random.choice(("start", "stop", "start", "stop", "move")) for _ in range(6)] for _ in NODES]
    with ThreadPoolExecutor(len(NODES)) as pool:
        typed = [pool.submit(commands, cluster, node, each) for node, each in zip(NODES, verbs, strict=True)]
        until(lambda: cluster.app(APP)["status"] == "UP", "it runs for the first time")
        master = cluster.stat()["master"]
        killed = time.monotonic()
        for daemon in ("clusterd", "lockd"):
            kill(cluster.pid(master, daemon), signal.SIGKILL)
        told = [call for each in typed for call in each.result()]
    # Who waited for a master that died had his command begun again by the next one.
    again = [retried(call) for call in told if call.ended > killed]
    wrong = unexplained([*told, *again], WISH)
    assert wrong is None, "\n".join(str(call) for call in wrong)
    assert sum(call.answer is not None for call in told) > len(told) // 2

    proposals = traces.gather(cluster.lab.description.nodes)
    wrong = proposals.unexplained()
    assert wrong is None, "\n".join(str(call) for call in wrong)
    answered = Counter((call.object, call.verb) for call in proposals.calls if call.answer is not None)
    assert answered["grant of web", "take"] and answered["grant of web", "free"] and answered.total() > 15, answered
    assert any(name.startswith("lock ") for name, _ in answered), answered
    assert len({call.who for call in proposals.calls}) > 1, "one master proposed everything"
