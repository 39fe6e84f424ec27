"""Leaves rules of floating addresses out."""

from msgspec.structs import replace

from truecl.core.netd import Netd
from truecl.model.config import Timing
from truecl.model.ids import NETD
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead
from truecl.wire.messages import HoldAddress, LeaseExtended, ProbeAddress


class KeepsAddresses(Netd):
    def _extend(self, extension: LeaseExtended, now: float) -> None:
        super()._extend(replace(extension, until=extension.until + 5.0), now)


class OutlivesTheLease(Netd):
    """The kernel keeps an address long after the lease, if netd does not come to delete it."""

    def __init__(self, timing: Timing) -> None:
        super().__init__(timing)
        self._margin = 30


class AsksNobody(Netd):
    """Whoever has the address already, it is taken."""

    def _is_clean(self, order: HoldAddress | ProbeAddress, address: str, now: float) -> bool:
        return True


def with_netd(netd: type[Netd]) -> Assemble:
    return instead(NETD, lambda me, configuration, *_: netd(configuration.cluster.timing))


MUTANTS = (
    Mutant("keep addresses past the lease", "SAFETY.md 7", assemble=with_netd(KeepsAddresses), adjust=faults.unfenced),
    Mutant("give the kernel too long a lifetime", "SAFETY.md 7", assemble=with_netd(OutlivesTheLease)),
    Mutant("take an address that a stranger has", "SAFETY.md 7", assemble=with_netd(AsksNobody),
           adjust=faults.crowded),
)  # fmt: skip
