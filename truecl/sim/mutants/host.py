"""Leaves rules out of how a host carries a core's outputs out."""

from truecl.sim import faults
from truecl.sim.journal import BelievingJournal, UnsyncedJournal
from truecl.sim.mutants.build import Mutant
from truecl.sim.process import Variant

MUTANTS = (
    Mutant("send before save", "DESIGN.md 5", Variant(order=("send", "save", "do", "tell")), adjust=faults.gaps,
           seen_by="tests/sim/test_host.py"),
    Mutant("do before save", "DESIGN.md 5", Variant(order=("do", "save", "send", "tell")), adjust=faults.gaps),
    Mutant("skip fsync", "DESIGN.md 5", Variant(journal=UnsyncedJournal, flush=5.0)),
    Mutant("believe a journal that is not synced", "DESIGN.md 5", Variant(journal=BelievingJournal),
           adjust=faults.unsynced, nodes=3),
    Mutant("go on after a save that failed", "DESIGN.md 5", Variant(careless=True), adjust=faults.full),
    Mutant("read a clock that stands still", "SAFETY.md 2", Variant(monotonic=True), adjust=faults.standing),
)  # fmt: skip
