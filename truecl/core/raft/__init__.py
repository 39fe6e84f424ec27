"""The replicated log: Raft, without I/O (Ongaro and Ousterhout 2014; Ongaro's thesis for pre-vote and transfer).

`Raft` is the whole of it for its user, `Step` what it hands out. The modules: `raft` (what the user calls; leading and
following), `roles` (terms, turns, elections), `journal` (records), `log` (entries), `tenure` (what exists only while
leading), `progress` (one follower as the leader sees it), `election` (counting votes, order of succession).
"""

from truecl.core.raft.journal import ForeignJournal, JournalDamaged
from truecl.core.raft.log import CommittedConflict
from truecl.core.raft.raft import Raft
from truecl.core.raft.step import Change, Committed, Role, Snapshot, Step

__all__ = [
    "Change",
    "Committed",
    "CommittedConflict",
    "ForeignJournal",
    "JournalDamaged",
    "Raft",
    "Role",
    "Snapshot",
    "Step",
]
