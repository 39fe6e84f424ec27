"""The replicated log: Raft, without I/O (Ongaro and Ousterhout 2014; Ongaro's thesis for pre-vote and transfer).

`Raft` is the whole of it for its user, `Step` what it hands out. Parts of `Raft`, a module each: `raft` (what the user
calls, and leading), `changes` (of the membership), `following` (entries and snapshots come in), `roles` (terms, turns,
elections). What these use: `journal` (records), `log` (entries), `tenure` (what exists only while leading), `progress`
(one follower as the leader sees it), `election` (counting votes, order of succession), `reshape` (one step between two
memberships).
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
