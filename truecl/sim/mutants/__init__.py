"""Guards that can be left out, one at a time, to prove that the checks would see it.

A mutant is another host (`Variant`), or another function that builds the cores: the production one with one method
overridden in a subclass, in the module here that is named after the core. The cores know nothing of either.
"""

from truecl.sim.mutants import (
    clusterd,
    host,
    instance,
    lease,
    ledger,
    levels,
    lockd,
    membership,
    netd,
    pair,
    raft,
    replicas,
    reqd,
    watchdog,
)

MUTANTS = (
    *host.MUTANTS,
    *raft.MUTANTS,
    *pair.MUTANTS,
    *membership.MUTANTS,
    *lockd.MUTANTS,
    *ledger.MUTANTS,
    *levels.MUTANTS,
    *lease.MUTANTS,
    *reqd.MUTANTS,
    *instance.MUTANTS,
    *watchdog.MUTANTS,
    *clusterd.MUTANTS,
    *netd.MUTANTS,
    *replicas.MUTANTS,
)
