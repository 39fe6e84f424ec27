"""Leaves rules of floating addresses out."""

from msgspec.structs import replace

from truecl.core.netd import Netd
from truecl.model.ids import NETD
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.mutants.build import Mutant, instead
from truecl.wire.messages import LeaseExtended


class KeepsAddresses(Netd):
    def _extend(self, extension: LeaseExtended, now: float) -> None:
        super()._extend(replace(extension, until=extension.until + 5.0), now)


def with_netd(netd: type[Netd]) -> Assemble:
    return instead(NETD, lambda me, configuration, *_: netd(configuration.cluster.timing))


MUTANTS = (
    Mutant("keep addresses past the lease", "SAFETY.md 7", assemble=with_netd(KeepsAddresses), adjust=faults.unfenced),
)
