"""Leaves out what keeps the two views of a lease together when its length changes."""

from msgspec.structs import replace

from truecl.core.lease import Lease
from truecl.core.leases import Leases
from truecl.model.ledger import LeaseTiming
from truecl.sim import faults
from truecl.sim.mutants.build import Mutant, with_part
from truecl.sim.mutants.lockd import with_leases, with_lockd
from truecl.wire.messages import Renewed


class CountsByItself(Lease):
    """As long as this node's configuration said when its reqd started."""

    def answer(self, message: Renewed, now: float) -> bool:
        return super().answer(replace(message, lease=self.length), now)


class ForgetsOlderTimings(Leases):
    def retime(self, timings: tuple[LeaseTiming, ...], now: float) -> None:
        super().retime(timings[:1], now)


MUTANTS = (
    Mutant("count a lease by the node's configuration", "SAFETY.md 2", assemble=with_part("_lease", CountsByItself),
           adjust=faults.retimed),
    Mutant("forget the longer leases of before", "SAFETY.md 2", assemble=with_lockd(with_leases(ForgetsOlderTimings)),
           adjust=faults.retimed),
)  # fmt: skip
