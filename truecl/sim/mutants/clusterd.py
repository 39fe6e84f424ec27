"""Leaves rules of the master out."""

from typing import Any

from msgspec.structs import replace

from truecl.core.clusterd import Clusterd
from truecl.core.fence_operation import FenceOperation
from truecl.model.ids import CLUSTERD, Index, NodeName
from truecl.model.ledger import AnyCommand, Ledger
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead
from truecl.wire.messages import FenceResult, Request


class BelievesAnyFence(Clusterd):
    def _fenced(self, message: FenceResult) -> None:
        super()._fenced(replace(message, off=True))


class VouchesForMore(Clusterd):
    """The operator's word counts for what he did not see, and before the node's lease is over."""

    def _received(self, node: NodeName, message: Any) -> None:
        super()._received(node, _seen_all(message))

    def _told(self, who: str, message: Any) -> None:
        super()._told(who, _seen_all(message))


def _seen_all(message: Any) -> Any:
    return replace(message, seen=Index(1 << 40)) if isinstance(message, Request) else message


class _HastyVouch(FenceOperation):
    def _vouch(self, ledger: Ledger, heard: tuple[NodeName, ...], expired: bool) -> AnyCommand | None:
        return super()._vouch(ledger, heard, True)


class VouchesAtOnce(Clusterd):
    def _decide(self, now: float) -> None:
        for operation in self._operations._fence_operations.values():
            operation.__class__ = _HastyVouch
        super()._decide(now)


def with_clusterd(clusterd: type[Clusterd]) -> Assemble:
    return instead(CLUSTERD, lambda me, configuration, *_: clusterd(me, configuration))


MUTANTS = (
    Mutant("believe any fence", "SAFETY.md 3", assemble=with_clusterd(BelievesAnyFence), adjust=faults.failing),
    Mutant("vouch for what was not seen", "SAFETY.md 3", assemble=with_clusterd(VouchesForMore), adjust=faults.vouched),
    Mutant("vouch before the lease is over", "SAFETY.md 3", assemble=with_clusterd(VouchesAtOnce),
           adjust=faults.vouched),
)  # fmt: skip
