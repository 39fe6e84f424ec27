"""Whether one order explains what all clusterds of a lab asked of the log and saw of it: locks and grants.

The nodes of a lab share one machine's CLOCK_BOOTTIME, so that times in their traces can be compared.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any

from truecl.lab.description import LabNode
from truecl.lab.provision import USER
from truecl.runtime.trace import read
from truecl.sim.proposals import Proposals
from truecl.wire.messages import Applied, Propose, Proposed


def directory(node: LabNode) -> Path:
    return Path(node.directory) / "log" / "truecl" / "trace"


def begin(nodes: Iterable[LabNode]) -> None:
    """Before the cluster is formed: a history is judged from its beginning."""
    for node in nodes:
        directory(node).mkdir(parents=True, exist_ok=True)
        with suppress(LookupError):  # no such user: the daemons stay root
            shutil.chown(directory(node), USER)


def gather(nodes: Iterable[LabNode]) -> Proposals:
    """What all traces tell until now. Raises OSError, Incomplete."""
    lives = [_life(node.name, path) for node in nodes for path in sorted(directory(node).iterdir())]
    proposals = Proposals()
    for at, who, message in merge(*lives, key=itemgetter(0)):
        match message:
            case Propose():
                proposals.propose(who, message, at)
            case Proposed():
                proposals.proposed(who, message)
            case Applied(ledger):
                proposals.applied(who, ledger, at)
    return proposals


def _life(node: str, path: Path) -> Iterator[tuple[float, str, Any]]:
    who = f"{node}/{path.name}"
    for at, message in read(path):
        yield at, who, message
