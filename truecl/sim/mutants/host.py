"""Leaves rules out of how a host carries a core's outputs out."""

from truecl.sim import faults
from truecl.sim.journal import UnsyncedJournal
from truecl.sim.mutants.build import Mutant
from truecl.sim.process import Variant

MUTANTS = (
    Mutant("send before save", "DESIGN.md 5", Variant(order=("send", "save", "do", "tell")), adjust=faults.gaps),
    Mutant("do before save", "DESIGN.md 5", Variant(order=("do", "save", "send", "tell")), adjust=faults.gaps),
    Mutant("skip fsync", "DESIGN.md 5", Variant(journal=UnsyncedJournal, flush=5.0)),
)
